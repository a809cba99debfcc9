from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from legion.foundation.canonical import canonical_json, digest_json, parse_canonical
from legion.foundation.errors import InvalidValueError
from legion.neuro_architecture.registry.indexing import content_name, snapshot_json
from legion.neuro_architecture.registry.indexing.naming import snapshot_names
from legion.neuro_architecture.registry.indexing.rows import batch_of, flat_metrics, packed
from legion.testing.index_entries import made_digest, made_snapshot, numbered, registered

_WHOLE = st.integers(-(2**53) + 1, 2**53 - 1)
texts = st.text(st.characters(codec="utf-8"), max_size=8)
json_values = st.recursive(
    st.none() | st.booleans() | _WHOLE | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=10,
)
json_objects = st.dictionaries(texts, json_values, max_size=4)


@given(json_objects, json_objects, json_objects, st.lists(texts, max_size=3))
def test_names_made_fast_are_the_names_of_the_canonical_text(config, metrics, provenance, tags):
    snapshot = made_snapshot(1, metrics=metrics, provenance=provenance, tags=tags).model_copy(update={"config": config})
    digest, content = snapshot_names(snapshot)
    told = snapshot.model_dump(mode="json", exclude={"revision", "parent", "created_at"})
    assert "sha256:" + digest.hex() == snapshot.digest
    assert "sha256:" + content.hex() == content_name(snapshot) == digest_json(told)
    assert snapshot_json(snapshot) == canonical_json(snapshot.to_dict())


@pytest.mark.parametrize(
    "metrics",
    [
        {"a": 16.0},
        {"a": [1.0]},
        {"a": -0.0},
        {"a": 1e-5, "e-1": "x"},
        {"a": 1e21, "b": 1e16, "c": 5e-324, "d": 123456789012345680.0},
        {"a": "1.0,", "b": "minilm-l6", "c": "5e-3"},
        {"\U00010000": 1, "\uffff": 2, "é": 3},
        {"a": '\x7f\x1f\u2028</script>\\"/'},
        {"a": (1, 2), "b": {"c": None}},
    ],
)
def test_odd_numbers_and_texts_get_their_canonical_names(metrics):
    snapshot = made_snapshot(1, metrics=metrics)
    stored = parse_canonical(canonical_json(snapshot.to_dict()))
    assert "sha256:" + snapshot_names(snapshot)[0].hex() == snapshot.digest
    assert "sha256:" + snapshot_names(type(snapshot).parse(stored, what="snapshot"))[0].hex() == snapshot.digest


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        ({"a": 1, "b": 2.5, "c": True, "d": None, "e": "x", "f": [1, 2]}, {"a": 1.0, "b": 2.5, "c": 1.0}),
        ({"terms": {"cost": 1.5, "deep": {"er": 2}}}, {"terms.cost": 1.5, "terms.deep.er": 2.0}),
        (
            {"accuracy": {"value": 0.9, "unit": "share", "n": 10, "error": 0.1, "reason": None}},
            {"accuracy": 0.9, "accuracy.error": 0.1, "accuracy.n": 10.0},
        ),
        ({"accuracy": {"value": None, "unit": "share", "n": None, "error": None, "reason": "no data"}}, {}),
        ({"accuracy": 0.9, "errors": {"accuracy": 0.1}}, {"accuracy": 0.9, "errors.accuracy": 0.1}),
        ({"a": {"b": 1}, "a.b": 2}, {"a.b": 2.0}),
        ({"a.b": 2, "a": {"b": 1}}, {"a.b": 2.0}),
        ({"a.b": {"c": 1}, "a": {"b.c": 2}}, {"a.b.c": 2.0}),
        ({"a": 10**400, "b": 1}, {"b": 1.0}),
        ({"x" * 300: 1, "nul\0": 2, "\ud800": 3, "ok": 4.0}, {"ok": 4.0}),
        ({"a": -0.0}, {"a": 0.0}),
        ({}, {}),
    ],
)
def test_metrics_are_flattened_to_dotted_names(metrics, expected):
    assert flat_metrics(metrics) == expected
    assert all(str(value) != "-0.0" for value in flat_metrics(metrics).values())


def test_what_the_integrator_registers_is_found_under_its_own_words():
    base = {"name": "minilm-l6", "digest": made_digest("base"), "model_type": "bert"}
    told = {
        "branch": None,
        "commit": "ab" * 20,
        "base": base,
        "task": "movies",
        "task_kind": "classification",
        "data_digest": made_digest("data"),
        "proposal": "lora-0123456789ab",
    }
    (row,) = batch_of(7, numbered([registered(made_snapshot(1, provenance=told))], 7)).snapshots
    assert row.number == 7
    assert (row.task, row.task_kind, row.proposal, row.data) == (
        "movies",
        "classification",
        "lora-0123456789ab",
        made_digest("data"),
    )
    assert (row.base, row.base_digest, row.family) == ("minilm-l6", made_digest("base"), "bert")
    assert (row.commit_name, row.branch, row.strategy, row.version) == ("ab" * 20, None, "LoRA", "1")
    assert row.created_us == 1_767_225_601_000_000


def test_code_and_base_may_also_be_told_in_other_places():
    told = {"base": "gpt2", "base_digest": made_digest("base"), "code": {"commit": "cd" * 20, "branch": "main"}}
    (row,) = batch_of(0, numbered([registered(made_snapshot(1, provenance=told))])).snapshots
    assert (row.base, row.base_digest, row.commit_name, row.branch) == ("gpt2", made_digest("base"), "cd" * 20, "main")


@pytest.mark.parametrize(
    "text", ["", "sha256:", "sha256:" + "g" * 64, "sha256:" + "A" * 64, "md5:" + "0" * 64, "0" * 64]
)
def test_what_is_no_digest_is_refused(text):
    with pytest.raises(InvalidValueError, match="is no digest"):
        packed(text)
