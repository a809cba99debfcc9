"""What every `RegistryIndex` has to do, as checks that any implementation can be put through.

```python
@pytest.mark.parametrize("check", INDEX_CHECKS, ids=lambda check: check.__name__)
def test_conformance(check, index):     # an empty index
    check(index)
```
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from legion.foundation.errors import IntegrityError, InvalidValueError, LegionError
from legion.neuro_architecture.registry.indexing import RegistryIndex, content_name
from legion.neuro_architecture.registry.query import Field, FieldIs, MetricIs, Operator, Query, parse_query
from legion.neuro_architecture.spec.entries import AliasEntry, AnyEntry, DeletionEntry, TagsEntry
from legion.neuro_architecture.spec.snapshot import ArchitectureSnapshot
from legion.testing.index_entries import made_digest, made_snapshot, moment, numbered, registered
from legion.testing.index_example import ANSWERS, HOSTILE_WORDS, NUMBERS, example_log

__all__ = ["INDEX_CHECKS"]

_UNSTORABLE: Final = ("\0", "a\0b", "\ud800", "x" * 300)


def _equal(found: Any, expected: Any, what: str = "") -> None:
    if found != expected:
        raise AssertionError(f"{what}: found {found!r}, expected {expected!r}")


def _refused(error: type[LegionError], action: Callable[[], object]) -> LegionError:
    try:
        action()
    except error as refusal:
        return refusal
    raise AssertionError(f"nothing raised {error.__name__}")


def _filled(index: RegistryIndex) -> tuple[dict[str, ArchitectureSnapshot], list[AnyEntry]]:
    named, entries = example_log()
    index.apply(0, numbered(entries))
    return named, entries


def _found(index: RegistryIndex, text: str, **how: Any) -> str:
    names = {number: name for name, number in NUMBERS.items()}
    return " ".join(names[number] for number in index.select(parse_query(text), **how))


def an_empty_index_knows_nothing(index: RegistryIndex) -> None:
    _equal(index.position(), (0, ""))
    _equal(index.by_digest(made_digest("x")), None)
    _equal((index.latest("0" * 16), index.revisions("0" * 16)), (None, []))
    _equal((index.by_content(made_digest("x")), index.by_key("x"), index.alias("x")), (None, None, None))
    _equal((list(index.tagged(["x"])), list(index.tagged([])), index.tags(made_digest("x"))), ([], [], ()))
    _equal((index.aliases(), index.events(made_digest("x")), index.children(made_digest("x"))), ({}, [], []))
    _equal((list(index.snapshots()), list(index.select(Query())), index.metric_names()), ([], [], ()))
    _equal((list(index.referenced_blobs()), index.deleted_blobs()), ([], set()))


def the_position_is_the_number_and_leaf_of_what_was_applied(index: RegistryIndex) -> None:
    _, entries = example_log()
    rows = numbered(entries)
    for stop in (1, 4, len(rows)):
        start = index.position()[0]
        index.apply(start, rows[start:stop])
        _equal(index.position(), (stop, rows[stop - 1][1]))
    index.apply(len(rows), [])
    _equal(index.position(), (len(rows), rows[-1][1]))


def a_snapshot_is_found_by_each_of_its_names(index: RegistryIndex) -> None:
    named, _ = _filled(index)
    for name, snapshot in named.items():
        _equal(index.by_digest(snapshot.digest), NUMBERS[name], name)
        _equal(index.by_content(content_name(snapshot)), NUMBERS[name], name)
    _equal((index.by_key("register first"), index.by_key("tag"), index.by_key("")), (0, 2, None))
    for odd in ("", "sha256:", named["first"].digest.upper(), named["first"].digest[7:], *HOSTILE_WORDS, *_UNSTORABLE):
        _equal((index.by_digest(odd), index.by_content(odd), index.by_key(odd), index.latest(odd)), (None,) * 4, odd)


def revisions_are_in_order_and_the_latest_is_the_last(index: RegistryIndex) -> None:
    named, _ = _filled(index)
    _equal(index.revisions(named["first"].semantic_hash), [0, 1, 3])
    _equal(index.latest(named["first"].semantic_hash), 3)
    _equal(index.revisions(named["mixture"].semantic_hash), [8])
    _equal(index.children(named["first"].digest), [1])
    _equal(index.children(named["third"].digest), [])


def the_first_of_equal_contents_and_keys_stands(index: RegistryIndex) -> None:
    early, late = made_snapshot(1, tags=["a"]), made_snapshot(2, tags=["a"])
    index.apply(0, numbered([registered(early, key="k"), registered(late, key="k")]))
    _equal((index.by_content(content_name(late)), index.by_key("k"), index.by_digest(late.digest)), (0, 0, 1))


def tags_follow_the_log(index: RegistryIndex) -> None:
    named, _ = _filled(index)
    _equal(index.tags(named["first"].digest), ("lora", "production"))
    _equal(list(index.tagged(["lora"])), [0, 1, 3])
    _equal(list(index.tagged(["lora", "production"])), [0, 1])
    _equal(list(index.tagged(["production", "lora", "lora"])), [0, 1])
    _equal(list(index.tagged(["lora", "old"])), [])
    _equal(list(index.tagged([])), [0, 1, 3, 4, 8])
    unknown = TagsEntry(at=moment(30), snapshot=made_digest("nothing"), added=("lora",))
    again = TagsEntry(at=moment(31), snapshot=named["first"].digest, added=("lora",), removed=("never",))
    index.apply(23, numbered([unknown, again], 23))
    _equal((list(index.tagged(["lora"])), index.tags(made_digest("nothing"))), ([0, 1, 3], ()))


def aliases_move_and_vanish(index: RegistryIndex) -> None:
    named, _ = _filled(index)
    _equal(index.aliases(), {"champion": named["second"].digest})
    _equal((index.alias("champion"), index.alias("baseline")), (named["second"].digest, None))
    moves = [AliasEntry(at=moment(30), alias=name, snapshot=made_digest(name), previous=None) for name in ("b", "a")]
    index.apply(23, numbered(moves, 23))
    _equal(list(index.aliases()), ["a", "b", "champion"])


def events_are_whatever_speaks_of_a_snapshot(index: RegistryIndex) -> None:
    named, _ = _filled(index)
    _equal(index.events(named["first"].digest), [0, 2, 5, 6, 7, 17, 18, 20])
    _equal(index.events(named["second"].digest), [1, 6, 9, 10, 12, 13, 14, 19, 22])
    _equal(index.events(named["mixture"].digest), [8])


def blobs_are_referenced_deleted_and_registered_again(index: RegistryIndex) -> None:
    _filled(index)
    _equal(list(index.referenced_blobs()), sorted([made_digest("v"), made_digest("w")]))
    _equal(index.deleted_blobs(), {made_digest("gone")})
    deletion = DeletionEntry(at=moment(30), blob=made_digest("w"), size_bytes=1, reason="asked")
    back = registered(made_snapshot(31, rank=2, blobs={"a": made_digest("gone")}))
    index.apply(23, numbered([deletion, back], 23))
    _equal(index.deleted_blobs(), {made_digest("w")})
    _equal(list(index.referenced_blobs()), sorted(made_digest(name) for name in ("gone", "v", "w")))


def what_was_applied_is_passed_over(index: RegistryIndex) -> None:
    named, entries = _filled(index)
    rows = numbered(entries)
    before = index.position()
    for start, stop in ((0, len(rows)), (0, 3), (5, 9), (22, 23)):
        index.apply(start, rows[start:stop])
        _equal(index.position(), before)
    late = numbered([registered(made_snapshot(40, rank=3, tags=["lora"]))], len(rows))
    index.apply(20, rows[20:] + late)
    _equal(index.position(), (24, late[0][1]))
    _equal((list(index.tagged(["lora"])), index.events(named["mixture"].digest)), ([0, 1, 3, 23], [8]))


def a_gap_or_another_log_is_refused_and_changes_nothing(index: RegistryIndex) -> None:
    _, entries = _filled(index)
    before = index.position()
    _refused(InvalidValueError, lambda: index.apply(25, numbered(entries[:2], 25)))
    _refused(IntegrityError, lambda: index.apply(0, numbered(entries * 2, log="another")))
    _equal(index.position(), before)
    _equal(len(list(index.snapshots())), 5)


def a_batch_with_a_bad_entry_is_refused_whole(index: RegistryIndex) -> None:
    good = registered(made_snapshot(1, tags=["a"]))
    for bad in (
        TagsEntry(at=moment(2), snapshot="no digest", added=("a",)),
        registered(made_snapshot(2, blobs={"w": "sha256:short"})),
        AliasEntry(at=moment(2), alias="a\0b", snapshot=None, previous=None),
        registered(made_snapshot(2).model_copy(update={"tags": ("x" * 1000,)})),
    ):
        _refused(InvalidValueError, lambda entry=bad: index.apply(0, numbered([good, entry])))  # type: ignore[misc]
        _equal((index.position(), list(index.snapshots()), list(index.tagged(["a"]))), ((0, ""), [], []))


def refilling_with_nothing_goes_back_to_before_the_first_entry(index: RegistryIndex) -> None:
    _filled(index)
    index.refill(lambda: ())
    an_empty_index_knows_nothing(index)
    named, _ = _filled(index)
    _equal((list(index.tagged(["production"])), index.alias("champion")), ([0, 1], named["second"].digest))


def readers_see_what_stood_until_it_is_refilled(index: RegistryIndex) -> None:
    _, entries = example_log()
    rows = numbered(entries)
    index.apply(0, rows[:2])
    seen: list[object] = []

    def look() -> None:
        seen.append((index.position(), list(index.snapshots())))

    def batches() -> Iterator[Sequence[tuple[AnyEntry, str]]]:
        for row in rows:
            yield [row]
            reader = threading.Thread(target=look)
            reader.start()
            reader.join()

    look()
    index.refill(batches)
    _equal(seen, seen[:1] * (len(rows) + 1))
    every_query_finds_what_it_says(index, is_filled=True)
    _equal(index.position(), (len(rows), rows[-1][1]))


def a_refill_that_fails_changes_nothing(index: RegistryIndex) -> None:
    _, entries = example_log()
    rows = numbered(entries)
    index.apply(0, rows)

    def batches() -> Iterator[Sequence[tuple[AnyEntry, str]]]:
        yield rows[:1]
        raise InvalidValueError("cut off")

    _refused(InvalidValueError, lambda: index.refill(batches))
    every_query_finds_what_it_says(index, is_filled=True)
    _equal(index.position(), (len(rows), rows[-1][1]))


def one_by_one_gives_the_same_as_all_at_once(index: RegistryIndex) -> None:
    _, entries = example_log()
    for number, row in enumerate(numbered(entries)):
        index.apply(number, [row])
    every_query_finds_what_it_says(index, is_filled=True)
    _equal(list(index.tagged(["lora", "production"])), [0, 1])


def snapshots_stream_from_anywhere(index: RegistryIndex) -> None:
    _filled(index)
    _equal(list(index.snapshots()), [0, 1, 3, 4, 8])
    _equal(list(index.snapshots(after=1)), [3, 4, 8])
    _equal((list(index.snapshots(after=0, limit=2)), list(index.snapshots(limit=0))), ([1, 3], []))
    stream = index.snapshots()
    _equal(next(stream), 0)
    index.apply(23, numbered([registered(made_snapshot(50, rank=5))], 23))
    _equal([number for number in stream if number < 23], [1, 3, 4, 8])
    _refused(InvalidValueError, lambda: index.snapshots(limit=-1))


def every_query_finds_what_it_says(index: RegistryIndex, *, is_filled: bool = False) -> None:
    if not is_filled:
        _filled(index)
    for text, expected in ANSWERS.items():
        _equal(_found(index, text), expected, text)
        ordered = _found(index, text, order="accuracy").split()
        _equal(sorted(ordered), sorted(expected.split()), text)
        _equal(_found(index, text, limit=2).split(), expected.split()[:2], text)
        _equal(_found(index, text, order="accuracy", limit=2).split(), ordered[:2], text)


def lineage_is_followed_to_its_end(index: RegistryIndex) -> None:
    named, _ = _filled(index)
    digest = named["first"].digest
    for name in (digest, digest[7:], digest[:19]):
        _equal(_found(index, f"ancestor:{name}"), "second third", name)
        _equal(_found(index, f"parent:{name}"), "second", name)
        _equal(_found(index, f"digest:{name}"), "first", name)
        _equal(_found(index, f"not ancestor:{name} and tag:lora"), "first", name)
    short = named["first"].semantic_hash[:7]
    _equal(_found(index, f"hash:{short}"), "first second third")
    _equal(_found(index, f"hash:{named['mixture'].semantic_hash} or ancestor:{digest}"), "second third mixture")


def an_order_puts_what_has_no_such_metric_last(index: RegistryIndex) -> None:
    _filled(index)
    _equal(_found(index, "all", order="accuracy"), "first third second other mixture")
    _equal(_found(index, "all", order="accuracy", is_descending=True), "second other third first mixture")
    _equal(_found(index, "all", order="accuracy", is_descending=True, limit=1), "second")
    _equal(_found(index, "all", order="latency_ms", limit=4), "first second third other")
    _equal(_found(index, "tag:lora", order="latency_ms", is_descending=True), "second first third")
    _equal(_found(index, "all", order="nothing", limit=2), "first second")
    _equal(_found(index, "all", limit=0), "")
    _refused(InvalidValueError, lambda: index.select(Query(), limit=-1))


def metrics_have_dotted_names(index: RegistryIndex) -> None:
    _filled(index)
    expected = ("accuracy", "accuracy.error", "accuracy.n", "latency_ms", "safe", "terms.cost")
    _equal(index.metric_names(), expected)


def words_are_values_never_commands(index: RegistryIndex) -> None:
    entries = [
        registered(made_snapshot(place, metrics={word: place}, provenance={"task": word}, tags=[word]), key=word)
        for place, word in enumerate(HOSTILE_WORDS)
    ]
    aliases = [
        AliasEntry(at=moment(99), alias=word, snapshot=entry.snapshot.digest, previous=None)
        for word, entry in zip(HOSTILE_WORDS, entries, strict=True)
    ]
    index.apply(0, numbered([*entries, *aliases]))
    for place, word in enumerate(HOSTILE_WORDS):
        for field in (Field.TAG, Field.ALIAS, Field.TASK):
            _equal(list(index.select(Query(FieldIs(field, word)))), [place], word)
        for field in set(Field) - {Field.TAG, Field.ALIAS, Field.TASK}:
            _equal(list(index.select(Query(FieldIs(field, word)))), [], word)
        _equal(list(index.select(Query(MetricIs(word, Operator.AT_LEAST, 0)))), [place], word)
        _equal(next(index.select(Query(), order=word)), place, word)
        _equal((list(index.tagged([word])), index.by_key(word)), ([place], place), word)
        _equal(index.alias(word), entries[place].snapshot.digest, word)
    _equal(len(index.metric_names()), len(HOSTILE_WORDS))


def what_no_database_can_store_is_not_found(index: RegistryIndex) -> None:
    odd = made_snapshot(1, metrics={"a\0b": 1, "ok": 2}, provenance={"task": "x\0", "commit": ["no", "text"]})
    index.apply(0, numbered([registered(odd)]))
    _equal((index.metric_names(), index.by_digest(odd.digest)), (("ok",), 0))
    for word in _UNSTORABLE:
        for field in Field:
            _equal(list(index.select(Query(FieldIs(field, word)))), [], word)
        _equal(list(index.select(Query(MetricIs(word, Operator.LESS, 9)))), [], word)
        _equal(list(index.select(Query(), order=word)), [0], word)
        _equal((list(index.tagged([word])), index.alias(word), index.revisions(word)), ([], None, []), word)


def readers_see_whole_batches_while_another_thread_applies(index: RegistryIndex) -> None:
    batches = 12
    snapshots = [made_snapshot(place, rank=place + 1, tags=["all"]) for place in range(2 * batches)]
    rows = numbered([registered(snapshot) for snapshot in snapshots])
    problems: list[object] = []
    is_done = threading.Event()

    def read() -> None:
        try:
            while not is_done.is_set():
                applied = index.position()[0]
                tagged = len(list(index.tagged(["all"])))
                if applied % 2 or tagged % 2 or tagged < applied:
                    problems.append((applied, tagged))
        except LegionError as error:
            problems.append(error)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    try:
        for start in range(0, len(rows), 2):
            index.apply(start, rows[start : start + 2])
    finally:
        is_done.set()
        for reader in readers:
            reader.join()
    _equal((problems, index.position()[0]), ([], 2 * batches))


def closing_twice_does_nothing(index: RegistryIndex) -> None:
    _filled(index)
    index.close()
    index.close()


INDEX_CHECKS: Final[Sequence[Callable[[RegistryIndex], None]]] = (
    an_empty_index_knows_nothing,
    the_position_is_the_number_and_leaf_of_what_was_applied,
    a_snapshot_is_found_by_each_of_its_names,
    revisions_are_in_order_and_the_latest_is_the_last,
    the_first_of_equal_contents_and_keys_stands,
    tags_follow_the_log,
    aliases_move_and_vanish,
    events_are_whatever_speaks_of_a_snapshot,
    blobs_are_referenced_deleted_and_registered_again,
    what_was_applied_is_passed_over,
    a_gap_or_another_log_is_refused_and_changes_nothing,
    a_batch_with_a_bad_entry_is_refused_whole,
    refilling_with_nothing_goes_back_to_before_the_first_entry,
    readers_see_what_stood_until_it_is_refilled,
    a_refill_that_fails_changes_nothing,
    one_by_one_gives_the_same_as_all_at_once,
    snapshots_stream_from_anywhere,
    every_query_finds_what_it_says,
    lineage_is_followed_to_its_end,
    an_order_puts_what_has_no_such_metric_last,
    metrics_have_dotted_names,
    words_are_values_never_commands,
    what_no_database_can_store_is_not_found,
    readers_see_whole_batches_while_another_thread_applies,
    closing_twice_does_nothing,
)
