"""A snapshot read where it stands is the snapshot that the whole entry holds, to the type of each number."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.registry.bundles import AT, snapshot_of

from legion.foundation.canonical import canonical_json, parse_canonical
from legion.foundation.errors import IntegrityError, WorldError
from legion.neuro_architecture.registry import ArchitectureRegistry, ledger
from legion.neuro_architecture.registry.failpoints import activated
from legion.neuro_architecture.registry.indexing.database import DamagedIndexError
from legion.neuro_architecture.registry.indexing.sql_index import SqlIndex
from legion.neuro_architecture.registry.ledger import snapshot_in
from legion.neuro_architecture.spec.entries import SnapshotEntry
from legion.neuro_architecture.spec.snapshot import ArchitectureSnapshot

numbers = st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('a"\\:{é☃', max_size=4), inner, max_size=3),
    max_leaves=8,
)


def types_of(value):
    if isinstance(value, dict):
        return {key: types_of(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [types_of(item) for item in value]
    return type(value), repr(value)


@given(st.dictionaries(st.sampled_from(["accuracy", "units", "x"]), values, max_size=3), values)
@example({"accuracy": 1e300}, [1e16, -1e17, 0.1234567890123456, 9007199254740991])
@example({"x": '"kind":"snapshot","snapshot":'}, {"kind": "snapshot", "snapshot": {}})
@example({"x": 2.0**53}, -(2.0**60))
def test_it_is_what_the_whole_entry_says(metrics, fact):
    snapshot = snapshot_of(metrics=metrics, provenance={"fact": fact})
    entry = SnapshotEntry(at=AT, by='"kind":"snapshot","snapshot":{}', key=None, snapshot=snapshot)
    content = canonical_json(entry.to_dict())
    whole = ArchitectureSnapshot.model_validate(parse_canonical(content)["snapshot"])
    found = snapshot_in(content, 0)
    assert found == whole
    assert types_of(found.to_dict()) == types_of(whole.to_dict())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b'{"kind":"tags"}',
        b'{"kind":"snapshot","snapshot":{}}',
        b'{"kind":"snapshot","snapshot":[1]}',
        b'{"kind":"snapshot","snapshot":' + b"[" * 100_000,
        b'{"kind":"snapshot","snapshot":{"version":NaN}}',
    ],
)
def test_what_holds_none_is_refused(content):
    with pytest.raises(IntegrityError, match="holds no snapshot"):
        snapshot_in(content, 7)


def test_a_rebuild_that_fails_midway_changes_nothing_for_readers_and_writers(tmp_path):
    one, other = (ArchitectureRegistry(tmp_path / "registry", keys=tmp_path / "keys") for _ in range(2))
    first = one.register("1", {"strategy": "LoRA"}, {"accuracy": 0.5})
    assert other.get(first.digest) == first
    with activated("index.after-clear=eio"), pytest.raises(WorldError, match="cannot be built anew"):
        one.rebuild()
    assert [list(each.query("accuracy > 0.1")) for each in (one, other)] == [[first], [first]]
    second = other.register("2", {"strategy": "LoRA"}, {"accuracy": 0.6})
    assert (second.revision, second.parent) == (2, first.digest)
    with activated("index.after-clear=enospc"), pytest.raises(WorldError, match="cannot be built anew"):
        one.rebuild()
    third = one.register("3", {"strategy": "LoRA"}, {"accuracy": 0.7})
    assert (third.revision, third.parent) == (3, second.digest)
    assert one.get(first.digest) == first
    assert one.verify().is_clean


def test_a_rebuild_that_fails_once_damaged_tables_are_gone_is_made_up_by_the_next_reader(tmp_path, monkeypatch):
    registry = ArchitectureRegistry(tmp_path / "registry", keys=tmp_path / "keys")
    first = registry.register("1", {"strategy": "LoRA"}, {"accuracy": 0.5})
    refill, damages = SqlIndex._refill, [DamagedIndexError("a page is torn")]

    def refill_or_find_damage(index, batches):
        if damages:
            raise damages.pop()
        refill(index, batches)

    monkeypatch.setattr(SqlIndex, "_refill", refill_or_find_damage)
    with activated("index.after-clear=eio"), pytest.raises(WorldError, match="cannot be built anew"):
        registry.rebuild()
    assert damages == []
    assert list(registry.query("accuracy > 0.1")) == [first]


class _Noon:
    """Always the same moment, so that two registries name the same snapshot alike."""

    def now(self):
        return datetime(2026, 1, 1, 12, tzinfo=UTC)

    def monotonic_s(self):
        return 0.0


def test_where_digests_stand_is_remembered_of_some_and_never_that_they_are_unknown(tmp_path, monkeypatch):
    monkeypatch.setattr(ledger, "_REMEMBERED", 2)
    there, here = (ArchitectureRegistry(tmp_path / name, keys=tmp_path / "keys", clock=_Noon()) for name in "ab")
    digests = [there.register(version, {"strategy": "LoRA"}, {"accuracy": 0.5}).digest for version in "123"]
    for version, digest in zip("123", digests, strict=True):
        assert here.get(digest) is None
        assert here.register(version, {"strategy": "LoRA"}, {"accuracy": 0.5}).digest == digest
    for _ in range(2):
        assert [here.get(digest).version for digest in digests] == ["1", "2", "3"]
    assert list(here._ledger._places) == digests[1:]
