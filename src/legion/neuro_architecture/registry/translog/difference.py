"""Which entries and checkpoints of a damaged stretch of a segment are damaged, by what the derived files remember."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import final

from legion.neuro_architecture.registry.translog.damage import Damage, Problem
from legion.neuro_architecture.registry.translog.frames import ENTRY, HEADER, HEADER_BYTES, MAX_ENTRY_BYTES, Frame
from legion.neuro_architecture.registry.translog.hints import Hints
from legion.neuro_architecture.registry.translog.merkle import hash_leaf

__all__ = ["Stretch", "compare_frames", "compare_places"]


@final
@dataclass(slots=True, kw_only=True)
class Stretch:
    """A stretch of a segment in which something is damaged, and what was found there.

    Attributes:
        name: Of the segment, relative to the registry's folder.
        buffer: The segment.
        start: Where the stretch begins.
        stop: Where it ends.
        signed: Where the frame of the signed checkpoint begins that ends it, or None where none does.
        number: The first entry that should stand in it.
        size: The entry after the last.
        hints: What the derived files say.
        damages: Found so far.
        good: Leaf hashes of entries that are as the hints say.
    """

    name: str
    buffer: bytes
    start: int
    stop: int
    signed: int | None
    number: int
    size: int
    hints: Hints
    damages: list[Damage] = field(default_factory=list)
    good: dict[int, bytes] = field(default_factory=dict)

    def report(self, problem: Problem, detail: str, start: int, stop: int, entry: int, stop_entry: int) -> None:
        """Adds a damage; one that continues the last is made part of it."""
        if self.damages and problem == "altered":
            last = self.damages[-1]
            if last.problem == problem and last.stop == start and last.stop_entry == entry and entry < stop_entry:
                start, entry = last.start or 0, last.entry or 0
                detail = f"entries {entry} to {stop_entry - 1} have other leaf hashes"
                self.damages.pop()
        self.damages.append(
            Damage(
                path=self.name,
                problem=problem,
                detail=detail,
                start=start,
                stop=stop,
                entry=entry,
                stop_entry=stop_entry,
            )
        )

    def report_note(self, start: int, stop: int, entry: int, stop_entry: int) -> None:
        """Adds that the checkpoint of the commit of these entries is damaged."""
        detail = f"the checkpoint of {stop_entry} entries is not as it was signed"
        self.damages.append(
            Damage(
                path=self.name,
                problem="altered",
                detail=detail,
                start=start,
                stop=stop,
                entry=entry,
                stop_entry=stop_entry,
            )
        )


def compare_frames(stretch: Stretch, frames: list[Frame]) -> None:
    """Compares frames that fill the stretch with the entries that should be there."""
    entries = [frame for frame in frames if frame.is_entry]
    leaves = [hash_leaf(frame.payload(stretch.buffer)) for frame in entries]
    hints = [stretch.hints.leaf(number) for number in range(stretch.number, stretch.size)]
    head = 0
    while head < min(len(leaves), len(hints)) and _agree(leaves[head], hints[head]):
        head += 1
    tail = 0
    while tail < min(len(leaves), len(hints)) - head and _agree(leaves[-1 - tail], hints[-1 - tail]):
        tail += 1
    if _take_places(stretch, entries[head : len(entries) - tail], len(hints) - head - tail):
        return
    for place in range(head):
        stretch.good[stretch.number + place] = leaves[place]
    for place in range(1, tail + 1):
        stretch.good[stretch.size - place] = leaves[-place]
    _explain(stretch, entries[head : len(entries) - tail], leaves, hints, head, tail)
    first = number = stretch.number
    for frame in frames:
        number += frame.is_entry
        if not frame.is_entry:
            if frame.start != stretch.signed:
                stretch.report_note(frame.start, frame.stop, first, number)
            first = number


def _take_places(stretch: Stretch, frames: list[Frame], num_wanted: int) -> bool:
    """Whether places tell more than frames: one with a damaged length may swallow others without a trace."""
    if not frames or not num_wanted or len(frames) == num_wanted:
        return False
    trial = replace(stretch, damages=[], good={})
    compare_places(trial)
    span = sum((damage.stop or 0) - (damage.start or 0) for damage in trial.damages)
    if any(damage.problem != "altered" for damage in trial.damages) or span >= frames[-1].stop - frames[0].start:
        return False
    stretch.damages += trial.damages
    stretch.good |= trial.good
    return True


def _agree(leaf: bytes, hint: bytes | None) -> bool:
    return hint is not None and leaf.startswith(hint)


def _explain(
    stretch: Stretch, frames: list[Frame], leaves: list[bytes], hints: list[bytes | None], head: int, tail: int
) -> None:
    """Reports on what stands between the entries that agree at the head and at the tail."""
    found = leaves[head : len(leaves) - tail]
    wanted = hints[head : len(hints) - tail]
    first, last = stretch.number + head, stretch.size - tail
    if not frames:
        if wanted:
            place = stretch.signed if stretch.signed is not None else stretch.stop
            place = _start_of(stretch, leaves, head, place)
            stretch.report("missing", f"{len(wanted)} entries are not there", place, place, first, last)
        return
    start, stop = frames[0].start, frames[-1].stop
    if not wanted:
        is_copy = all(any(_agree(leaf, hint) for hint in hints) for leaf in found)
        problem: Problem = "duplicate" if is_copy else "unexpected"
        stretch.report(problem, f"{len(found)} entries stand between entries", start, stop, first, first + len(found))
    elif len(found) == len(wanted):
        if Counter(wanted) == Counter(_cut_to(leaf, hint) for leaf, hint in zip(found, wanted, strict=True)):
            stretch.report("reordered", "the entries stand in another order", start, stop, first, last)
            return
        for place, (frame, leaf, hint) in enumerate(zip(frames, found, wanted, strict=True)):
            if _agree(leaf, hint):
                stretch.good[first + place] = leaf
            else:
                detail = f"its leaf hash is {leaf.hex()[:12]}, not {hint.hex()[:12] if hint else 'known'}"
                stretch.report("altered", detail, frame.start, frame.stop, first + place, first + place + 1)
    else:
        detail = f"{len(found)} entries stand where {len(wanted)} were"
        stretch.report("missing" if len(found) < len(wanted) else "unexpected", detail, start, stop, first, last)


def _start_of(stretch: Stretch, leaves: list[bytes], head: int, default: int) -> int:
    """Where the entry after `head` agreeing ones begins."""
    frame_start = stretch.start
    for _ in range(head):
        frame_start += HEADER_BYTES + HEADER.unpack_from(stretch.buffer, frame_start)[1]
    return frame_start if head <= len(leaves) else default


def _cut_to(leaf: bytes, hint: bytes | None) -> bytes | None:
    return None if hint is None else leaf[: len(hint)]


def compare_places(stretch: Stretch) -> None:
    """Compares the stretch, whose frames are broken, with the places where the entries were written."""
    at, first = stretch.start, stretch.number
    for number in range(stretch.number, stretch.size):
        offset = stretch.hints.offset(number)
        if offset is None or not at <= offset < stretch.stop:
            break
        if offset > at:
            stretch.report_note(at, offset, first, number)
            first = number
        leaf, stop = _entry_at(stretch, offset)
        if leaf is not None and _agree(leaf, stretch.hints.leaf(number)):
            stretch.good[number] = leaf
        else:
            stop = _end_of(stretch, number)
            stretch.report("altered", "no entry with its leaf hash is there", offset, stop, number, number + 1)
        at = stop
    else:
        end = stretch.signed if stretch.signed is not None else stretch.stop
        if at < end:
            stretch.report_note(at, end, first, stretch.size)
        return
    is_gone = at >= stretch.stop
    detail = "the file ends before them" if is_gone else "no frames of entries are there"
    stretch.report("missing" if is_gone else "altered", detail, at, stretch.stop, number, stretch.size)


def _entry_at(stretch: Stretch, offset: int) -> tuple[bytes | None, int]:
    if offset + HEADER_BYTES > stretch.stop:
        return None, stretch.stop
    kind, length = HEADER.unpack_from(stretch.buffer, offset)
    stop = offset + HEADER_BYTES + length
    if kind != ENTRY or length > MAX_ENTRY_BYTES or stop > stretch.stop:
        return None, stretch.stop
    return hash_leaf(stretch.buffer[offset + HEADER_BYTES : stop]), stop


def _end_of(stretch: Stretch, number: int) -> int:
    """Where the frame of a damaged entry ends at the latest."""
    if number + 1 == stretch.size:
        return stretch.signed if stretch.signed is not None else stretch.stop
    offset = stretch.hints.offset(number + 1)
    return offset if offset is not None and offset <= stretch.stop else stretch.stop
