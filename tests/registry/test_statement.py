"""What the statement says is in the snapshot, and what is not in it is listed; the signature covers every byte."""

from __future__ import annotations

import base64
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from tests.registry.bundles import METRICS, PROVENANCE, Tree, snapshot_of

from legion.foundation.canonical import canonical_json, digest_bytes, digest_json
from legion.foundation.errors import IntegrityError, InvalidValueError
from legion.neuro_architecture.registry.statement import (
    PAYLOAD_TYPE,
    check_statement,
    make_statement,
    pre_authentication_encoding,
    sign_statement,
    verify_statement,
)
from legion.neuro_architecture.registry.translog import VerifierKey


@pytest.fixture(scope="module")
def tree() -> Tree:
    return Tree()


def test_its_form_is_that_of_in_toto_and_slsa():
    statement = make_statement(snapshot_of())
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    assert set(statement) == {"_type", "subject", "predicateType", "predicate"}
    predicate = statement["predicate"]
    assert {"buildType", "externalParameters", "resolvedDependencies"} <= set(predicate["buildDefinition"])
    assert predicate["runDetails"]["builder"]["id"]
    own = {name for name in (*predicate, *predicate["runDetails"]) if "_" in name}
    assert all(name.startswith("legion_") for name in own)
    for resource in (*statement["subject"], *predicate["buildDefinition"]["resolvedDependencies"]):
        assert {"digest", "uri", "content"} & set(resource)
        assert all(set(value) <= set("0123456789abcdef") for value in resource["digest"].values())


def test_its_subjects_are_the_snapshot_and_each_file():
    snapshot = snapshot_of()
    subjects = {item["name"]: item["digest"]["sha256"] for item in make_statement(snapshot)["subject"]}
    assert subjects.pop(f"snapshot/{snapshot.semantic_hash}/1") == digest_json(snapshot.to_dict())[7:]
    assert subjects == {f"files/{name}": digest[7:] for name, digest in snapshot.blobs.items()}


def test_it_says_base_data_code_recipe_seed_environment_rungs_and_parent():
    parent = digest_bytes(b"parent")
    predicate = make_statement(snapshot_of(parent=parent, revision=2))["predicate"]
    definition, details = predicate["buildDefinition"], predicate["runDetails"]
    found = {item["name"]: item["digest"] for item in definition["resolvedDependencies"]}
    assert found["base model"] == {"sha256": PROVENANCE["base"]["digest"][7:]}
    assert found["data"] == {"sha256": PROVENANCE["data_digest"][7:]}
    assert found["code of the workspace"] == {"gitCommit": "1" * 40}
    assert found["parent snapshot"] == {"sha256": parent[7:]}
    assert definition["externalParameters"]["seed"] == 3
    assert definition["externalParameters"]["recipe"] == PROVENANCE["training"]
    assert definition["externalParameters"]["split_sizes"] == {"train": 48, "validation": 16, "test": 24}
    assert definition["internalParameters"]["trainer_config"] == {"max_tokens": 64}
    assert details["builder"]["version"] == {"legion": "0.1", "torch": "2.13"}
    assert details["legion_environment"]["training_machine"] == {"cpu": "some", "cores": 2}
    assert details["legion_rungHistory"]["rung_history"] == PROVENANCE["rung_history"]
    assert details["legion_metrics"] == METRICS


def test_places_on_a_disk_are_no_part_of_it():
    assert b"/somewhere" not in canonical_json(make_statement(snapshot_of()))


def test_what_the_snapshot_does_not_hold_is_absent_and_listed_with_its_reason():
    reason = "git is not installed"
    snapshot = snapshot_of(provenance={"commit": None, "code_unknown_because": reason}, blobs={})
    predicate = make_statement(snapshot)["predicate"]
    assert predicate["buildDefinition"]["resolvedDependencies"] == []
    assert "internalParameters" not in predicate["buildDefinition"]
    assert set(predicate["buildDefinition"]["externalParameters"]) == {"architecture"}
    assert predicate["legion_unknown"]["commit"] == reason
    assert predicate["legion_unknown"]["base"] == "the snapshot does not record it"
    assert predicate["runDetails"]["metadata"] == {}
    assert {"seed", "steps", "recipe", "data_digest", "rung_history"} <= set(predicate["legion_unknown"])


def test_every_fact_is_known_or_unknown_and_never_both():
    for provenance in (PROVENANCE, {}, {"base": None}, {"training_record": "words"}):
        predicate = make_statement(snapshot_of(provenance=provenance))["predicate"]
        told = canonical_json(predicate["buildDefinition"]).decode()
        for name in ("seed", "steps", "recipe"):
            assert (f'"{name}":' in told) != (name in predicate["legion_unknown"])


def test_the_encoding_is_that_of_the_specification():
    """The vector of protocol.md."""
    found = pre_authentication_encoding("http://example.com/HelloWorld", b"hello world")
    assert found == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    assert pre_authentication_encoding("tybé", b"") == "DSSEv1 5 tybé 0 ".encode()


def _decoded(encoded: bytes) -> tuple[str, bytes]:
    version, _, rest = encoded.partition(b" ")
    assert version == b"DSSEv1"
    length, _, rest = rest.partition(b" ")
    kind, rest = rest[: int(length)], rest[int(length) + 1 :]
    length, _, body = rest.partition(b" ")
    assert len(body) == int(length)
    return kind.decode(), body


@given(st.text(), st.binary())
def test_no_two_pairs_have_one_encoding(kind, body):
    assert _decoded(pre_authentication_encoding(kind, body)) == (kind, body)


def test_what_was_signed_is_verified(tree):
    verified = verify_statement(tree.statement(), [tree.vkey])
    assert verified.statement == make_statement(tree.snapshot)
    assert verified.vkey == tree.vkey
    check_statement(verified.statement, tree.snapshot)


def test_the_signature_is_plain_dsse_that_others_verify(tree):
    envelope = json.loads(tree.statement())
    assert envelope["payloadType"] == PAYLOAD_TYPE == "application/vnd.in-toto+json"
    signed = pre_authentication_encoding(PAYLOAD_TYPE, base64.b64decode(envelope["payload"]))
    tree.private.public_key().verify(base64.b64decode(envelope["signatures"][0]["sig"]), signed)


def test_a_flipped_bit_anywhere_in_the_envelope_is_refused(tree):
    envelope = tree.statement()
    for position in range(0, len(envelope), 7):
        changed = bytearray(envelope)
        changed[position] ^= 1 << position % 8
        with pytest.raises(IntegrityError):
            verify_statement(bytes(changed), [tree.vkey])


def test_another_key_is_refused(tree):
    other = VerifierKey.of("legion.registry/other", Ed25519PrivateKey.generate().public_key().public_bytes_raw())
    with pytest.raises(IntegrityError, match="was signed by"):
        verify_statement(tree.statement(), [str(other)])
    with pytest.raises(IntegrityError, match="was signed by"):
        verify_statement(tree.statement(), [])
    same_name = Tree(private=Ed25519PrivateKey.generate())
    assert verify_statement(tree.statement(), [same_name.vkey, tree.vkey]).vkey == tree.vkey


def test_a_signature_under_another_payload_type_is_refused(tree):
    envelope = json.loads(tree.statement())
    for kind in ("application/json", ""):
        with pytest.raises(IntegrityError, match="damaged"):
            verify_statement(canonical_json(envelope | {"payloadType": kind}), [tree.vkey])


def test_signing_with_another_key_than_the_named_one_is_refused(tree):
    other = Ed25519PrivateKey.generate()
    with pytest.raises(InvalidValueError, match="is not one of key"):
        sign_statement(make_statement(tree.snapshot), other.sign, tree.vkey)


ENVELOPES = {
    "no JSON": b"{",
    "no object": b"[]",
    "deep": b"[" * 100_000,
    "two signatures": lambda found: found | {"signatures": found["signatures"] * 2},
    "no signature": lambda found: found | {"signatures": []},
    "another field": lambda found: found | {"x": 1},
    "a payload that is no text": lambda found: found | {"payload": 7},
    "a short signature": lambda found: found | {"signatures": [found["signatures"][0] | {"sig": "AAAA"}]},
}


@pytest.mark.parametrize("case", sorted(ENVELOPES))
def test_what_is_no_such_envelope_is_refused(tree, case):
    made = ENVELOPES[case]
    content = made if isinstance(made, bytes) else canonical_json(made(json.loads(tree.statement())))
    with pytest.raises(IntegrityError):
        verify_statement(content, [tree.vkey])


@pytest.mark.parametrize("field", ["_type", "predicateType"])
def test_a_signed_statement_of_another_type_is_refused(tree, field):
    statement = make_statement(tree.snapshot) | {field: "https://example.com/v1"}
    with pytest.raises(IntegrityError, match=field):
        verify_statement(sign_statement(statement, tree.private.sign, tree.vkey), [tree.vkey])


def test_a_statement_of_another_snapshot_is_not_of_this_one(tree):
    other = snapshot_of(metrics={"accuracy": 0.9})
    with pytest.raises(IntegrityError, match="not about snapshot"):
        check_statement(make_statement(other), tree.snapshot)
