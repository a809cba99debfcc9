"""A snapshot's origin as an in-toto Statement v1 with a SLSA Provenance v1 predicate, signed in a DSSE envelope.

Sources: in-toto Attestation Framework v1 (statement, resource descriptor, digest set), SLSA v1.0 provenance, DSSE 1.0.2
(protocol and envelope). What the snapshot does not hold stays out of the standard fields and stands with its reason in
`predicate.legion_unknown`; that, like every `legion_...` field, is an extension field as SLSA defines them.

The envelope is canonical JSON (RFC 8785), its base64 is the standard alphabet with padding, and there is one signature:
of one statement and one key there is one sequence of bytes, so a changed byte never verifies.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, final

from legion.foundation.canonical import canonical_json, is_digest, parse_canonical
from legion.foundation.errors import IntegrityError, InvalidValueError
from legion.neuro_architecture.registry.facts import SnapshotFacts, facts_of
from legion.neuro_architecture.registry.translog import VerifierKey
from legion.neuro_architecture.spec.snapshot import ArchitectureSnapshot

__all__ = [
    "BUILDER",
    "BUILD_TYPE",
    "PAYLOAD_TYPE",
    "VerifiedStatement",
    "check_statement",
    "make_statement",
    "pre_authentication_encoding",
    "sign_statement",
    "verify_statement",
]

STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Final = "https://slsa.dev/provenance/v1"
PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
# Adapter training on a frozen base, as `legion train`, `legion search` and `legion quickstart` do it.
BUILD_TYPE: Final = "urn:legion-neuro-rewriter:adapter-training:v1"
# Whoever holds the registry's key trained it on a machine of their own: no build level is claimed.
BUILDER: Final = "urn:legion-neuro-rewriter:local:v1"
MAX_ENVELOPE_BYTES: Final = 16 << 20
_SIGNATURE_BYTES: Final = 64
_DIGEST: Final = "sha256:"
_ENVELOPE_FIELDS: Final = {"payload", "payloadType", "signatures"}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedStatement:
    """A statement whose signature was checked.

    Attributes:
        statement: What was signed.
        payload: The very bytes that were signed.
        vkey: Under which key.
    """

    statement: dict[str, Any]
    payload: bytes
    vkey: str


def make_statement(snapshot: ArchitectureSnapshot, *, builder: str = BUILDER) -> dict[str, Any]:
    """The statement about a snapshot: nothing in it but what the snapshot holds.

    Its subjects are the snapshot, by the sha256 of its canonical JSON, and each of its files by name and sha256.

    Args:
        snapshot: What it is about.
        builder: URI of who trained it and is to be believed that it was so.
    """
    facts = facts_of(snapshot)
    return {
        "_type": STATEMENT_TYPE,
        "subject": _subjects(snapshot),
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": _build_definition(snapshot, facts),
            "runDetails": _run_details(snapshot, facts, builder),
            "legion_unknown": facts.unknown,
        },
    }


def _subjects(snapshot: ArchitectureSnapshot) -> list[dict[str, Any]]:
    named = {f"snapshot/{snapshot.semantic_hash}/{snapshot.revision}": snapshot.digest}
    named |= {f"files/{name}": digest for name, digest in snapshot.blobs.items()}
    return [{"name": name, "digest": _digest_set(digest)} for name, digest in sorted(named.items())]


def _build_definition(snapshot: ArchitectureSnapshot, facts: SnapshotFacts) -> dict[str, Any]:
    internal = facts.some("trainer_config", "settings", "evaluation", "extended_from", "population")
    return {
        "buildType": BUILD_TYPE,
        "externalParameters": {
            "architecture": snapshot.config,
            **facts.some("task", "task_kind", "labels", "split_sizes", "proposal", "recipe", "steps", "seed"),
        },
        **({"internalParameters": internal} if internal else {}),
        "resolvedDependencies": _dependencies(snapshot, facts),
    }


def _dependencies(snapshot: ArchitectureSnapshot, facts: SnapshotFacts) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    base = facts.get("base")
    if isinstance(base, Mapping) and _is_digest(base.get("digest")):
        over = "canonical JSON of the weight files' names, each with its sha256"
        found.append(_dependency("base model", base["digest"], over, base, ("name", "model_type")))
    if _is_digest(facts.get("data_digest")):
        over = "the rows of all splits, a line of JSON each"
        found.append(_dependency("data", facts.get("data_digest"), over, facts.known, ("task", "data_path")))
    if isinstance(facts.get("commit"), str):
        annotations = facts.some("branch", "is_dirty")
        found.append(
            {"name": "code of the workspace", "digest": {"gitCommit": facts.get("commit")}}
            | ({"annotations": annotations} if annotations else {})
        )
    if snapshot.parent is not None:
        found.append({"name": "parent snapshot", "digest": _digest_set(snapshot.parent)})
    return found


def _dependency(
    name: str, digest: Any, over: str, source: Mapping[str, Any], fields: tuple[str, ...]
) -> dict[str, Any]:
    annotations = {field: source[field] for field in fields if field in source}
    return {"name": name, "digest": _digest_set(digest), "annotations": {"digest_over": over, **annotations}}


def _run_details(snapshot: ArchitectureSnapshot, facts: SnapshotFacts, builder: str) -> dict[str, Any]:
    versions = facts.get("versions")
    metadata = {"startedOn": facts.get("started_at"), "finishedOn": facts.get("evaluated_at")}
    return {
        "builder": {"id": builder}
        | (
            {"version": {name: str(value) for name, value in versions.items()}} if isinstance(versions, Mapping) else {}
        ),
        "metadata": {name: value for name, value in metadata.items() if value is not None},
        "legion_registeredOn": snapshot.created_at,
        "legion_environment": facts.some("training_machine", "evaluation_machine", "attempts"),
        "legion_rungHistory": facts.some("rung_history", "best_step"),
        "legion_metrics": snapshot.metrics,
    }


def _digest_set(digest: str) -> dict[str, str]:
    if not is_digest(digest):
        raise InvalidValueError(f"{digest!r} is no sha256 digest")
    return {"sha256": digest.removeprefix(_DIGEST)}


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and is_digest(value)


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """What a DSSE signature covers: `DSSEv1 SP LEN(type) SP type SP LEN(body) SP body`, lengths in bytes."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign_statement(statement: Mapping[str, Any], sign: Callable[[bytes], bytes], vkey: str) -> bytes:
    """The envelope around a statement.

    Args:
        statement: As `make_statement` gives it.
        sign: The Ed25519 signature of bytes, by the private half of `vkey`.
        vkey: Of the signer; its name and key hash become the envelope's hint of the key.

    Raises:
        InvalidValueError: the statement is no JSON, or `sign` signs with another key.
    """
    key = VerifierKey.parse(vkey)
    payload = canonical_json(dict(statement))
    signature = sign(pre_authentication_encoding(PAYLOAD_TYPE, payload))
    if not _has_signed(key, payload, signature):
        raise InvalidValueError(f"the signature is not one of key {_hint(key)}")
    envelope = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [{"keyid": _hint(key), "sig": base64.b64encode(signature).decode()}],
    }
    return canonical_json(envelope)


def verify_statement(envelope: bytes, vkeys: Iterable[str]) -> VerifiedStatement:
    """The statement in an envelope that one of these keys signed.

    Raises:
        IntegrityError: the envelope is not exactly what `sign_statement` writes, or none of the keys signed it.
        InvalidValueError: one of `vkeys` is no key.
    """
    keys = [VerifierKey.parse(vkey) for vkey in vkeys]
    payload, keyid, signature = _open(envelope)
    key = next((each for each in keys if _hint(each) == keyid), None)
    if key is None:
        raise IntegrityError(
            f"the statement was signed by {keyid[:120]!r}",
            cause="known: " + (", ".join(map(_hint, keys)) or "no key"),
        )
    if not _has_signed(key, payload, signature):
        raise IntegrityError(f"the statement's signature is not one of key {_hint(key)}")
    try:
        statement = parse_canonical(payload)
        is_canonical = canonical_json(statement) == payload
    except (ValueError, InvalidValueError, RecursionError) as error:
        raise IntegrityError("the signed statement is no JSON", cause=str(error)) from error
    if not is_canonical or not isinstance(statement, dict):
        raise IntegrityError("the signed statement is no canonical JSON object")
    for field, expected in (("_type", STATEMENT_TYPE), ("predicateType", PREDICATE_TYPE)):
        if statement.get(field) != expected:
            raise IntegrityError(f"the signed statement's {field} is {statement.get(field)!r}", cause=f"not {expected}")
    return VerifiedStatement(statement=statement, payload=payload, vkey=str(key))


def _hint(key: VerifierKey) -> str:
    """The name of a key in an envelope: its name and ID, without the key itself."""
    return f"{key.name}+{key.key_id.hex()}"


def _has_signed(key: VerifierKey, payload: bytes, signature: bytes) -> bool:
    return len(signature) == _SIGNATURE_BYTES and key.has_signed(
        pre_authentication_encoding(PAYLOAD_TYPE, payload), signature
    )


def _open(envelope: bytes) -> tuple[bytes, str, bytes]:
    """Payload, key hint and signature; every byte of the envelope is then accounted for."""
    if len(envelope) > MAX_ENVELOPE_BYTES:
        raise IntegrityError(f"the statement has {len(envelope)} bytes", cause=f"at most {MAX_ENVELOPE_BYTES}")
    try:
        found = parse_canonical(envelope)
        payload, keyid, signature = _fields(found)
        again = canonical_json(found)
    except (ValueError, KeyError, TypeError, InvalidValueError, RecursionError, binascii.Error) as error:
        raise IntegrityError("the statement's envelope is damaged", cause=str(error)) from error
    if again != envelope:
        raise IntegrityError("the statement's envelope is not in its one form", cause="it is no canonical JSON")
    return payload, keyid, signature


def _fields(found: Any) -> tuple[bytes, str, bytes]:
    if not isinstance(found, dict) or set(found) != _ENVELOPE_FIELDS:
        raise ValueError(f"it has not exactly the fields {', '.join(sorted(_ENVELOPE_FIELDS))}")
    if found["payloadType"] != PAYLOAD_TYPE:
        raise ValueError(f"its payloadType is {str(found['payloadType'])[:80]!r}")
    (signed,) = found["signatures"]
    if not isinstance(signed, dict) or set(signed) != {"keyid", "sig"} or not isinstance(signed["keyid"], str):
        raise ValueError("its signature has not exactly the fields keyid, sig")
    return _exact_base64(found["payload"]), signed["keyid"], _exact_base64(signed["sig"])


def _exact_base64(text: Any) -> bytes:
    content = base64.b64decode(text, validate=True)
    if base64.b64encode(content).decode() != text:
        raise ValueError("its base64 has bits that mean nothing")
    return content


def check_statement(statement: Mapping[str, Any], snapshot: ArchitectureSnapshot) -> None:
    """Raises IntegrityError unless the statement's subjects are this snapshot and all of its files."""
    expected = _subjects(snapshot)
    if statement.get("subject") != expected:
        raise IntegrityError(
            f"the statement is not about snapshot {snapshot.digest}",
            cause="its subjects are not the snapshot and each of its files",
        )
