"""The full check of a log: every byte of every file against what was signed and what this machine remembers.

Nothing that a process knows already is used, and nothing is written. Each damage says where it is; what is derived
(tiles, offsets, `checkpoint`) is found too, and `TransparencyLog.repair` makes it anew.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import final

from legion.foundation.errors import IntegrityError, WorldError
from legion.foundation.progress import Progress
from legion.neuro_architecture.registry.translog.damage import Damage, Problem
from legion.neuro_architecture.registry.translog.identity import read_key, read_origin
from legion.neuro_architecture.registry.translog.memory import LogMemory, PlaceMemory
from legion.neuro_architecture.registry.translog.merkle import HASH_BYTES
from legion.neuro_architecture.registry.translog.notes import Checkpoint, VerifierKey
from legion.neuro_architecture.registry.translog.scanning import Scanner
from legion.neuro_architecture.registry.translog.segments import parse_segment_name, segment_name
from legion.neuro_architecture.registry.translog.tiles import TILE_BYTES, TileStore, parse_tile_path

__all__ = ["check_log"]


def check_log(
    folder: Path, keys: Path, progress: Progress, hear: Callable[[Sequence[bytes]], None] | None = None
) -> Iterator[Damage]:
    """Every damage of the log in `folder`, as this machine's `keys` remember it.

    Args:
        folder: The registry's.
        keys: This machine's folder of keys.
        progress: Told of the bytes read.
        hear: Given the entries of each commit, in order, once it is found to be as it was signed; until the first
            damage only.

    Raises:
        WorldError: the disk refused.
    """
    return _Check(folder, keys, progress, hear).run()


@final
class _Check:
    def __init__(
        self, folder: Path, keys: Path, progress: Progress, hear: Callable[[Sequence[bytes]], None] | None
    ) -> None:
        self._hear = hear
        self._folder = folder
        self._keys = keys
        self._progress = progress
        self._tiles = TileStore(folder)
        self._memory: LogMemory | None = None
        self._key: VerifierKey | None = None

    def run(self) -> Iterator[Damage]:
        names = self._names()
        firsts = sorted(first for name in names if (first := parse_segment_name(name)) is not None)
        yield from self._check_identity(has_segments=bool(firsts))
        if self._memory is None:
            return
        seen = yield from self._read_seen(self._memory)
        published = yield from self._read_published()
        sizes = {item.size for item in (seen, published) if item is not None}
        scanner = Scanner(self._memory.origin, self._key, self._tiles, sizes, self._hear)
        yield from self._scan(scanner, firsts)
        yield from scanner.finish(self._read)
        yield from self._check_known(scanner, seen, published)
        yield from self._check_tiles(scanner)
        yield from self._check_names(names, firsts)
        self._progress.finish()

    def _names(self) -> list[str]:
        try:
            return sorted(os.listdir(self._folder / "segments"))  # noqa: PTH208 - names are all that is needed
        except FileNotFoundError:
            return []

    def _check_identity(self, *, has_segments: bool) -> Iterator[Damage]:
        """Finds out which log this should be, and by which key it should be signed."""
        remembered = PlaceMemory(self._keys, self._folder).origin()
        origin, key = None, None
        try:
            origin = read_origin(self._folder)
            if origin is None and (has_segments or remembered):
                yield Damage(path="origin", problem="missing", detail=f"remembered is {remembered}")
        except IntegrityError as error:
            yield _whole(self._folder, "origin", "altered", error.cause or error.message)
        try:
            key = read_key(self._folder)
            if key is None and (has_segments or remembered):
                yield Damage(path="key.pub", problem="missing", detail="nothing says who signed the log")
        except IntegrityError as error:
            yield _whole(self._folder, "key.pub", "altered", error.cause or error.message)
        expected = remembered or (key.name if key else origin)
        if expected is None:
            return
        if origin not in {None, expected}:
            yield _whole(self._folder, "origin", "altered", f"it says {origin}, the log is {expected}")
        self._memory = LogMemory(self._keys, expected)
        yield from self._check_key(self._memory, key)

    def _check_key(self, memory: LogMemory, key: VerifierKey | None) -> Iterator[Damage]:
        pinned = None
        try:
            signer = memory.signer()
            pinned = memory.pinned() or (signer.verifier if signer else None)
        except IntegrityError as error:
            yield Damage(path=str(memory.pin_path), problem="altered", detail=error.message)
        except WorldError:
            pinned = memory.pinned()
        if pinned is not None and key not in {None, pinned}:
            yield _whole(self._folder, "key.pub", "wrong key", f"pinned is {pinned}, it is {key}")
        self._key = pinned or (key if key is not None and key.name == memory.origin else None)

    @staticmethod
    def _read_seen(memory: LogMemory) -> Generator[Damage, None, Checkpoint | None]:
        try:
            return memory.seen()
        except IntegrityError as error:
            yield Damage(path=str(memory.seen_path), problem="altered", detail=error.message)
            return None

    def _read_published(self) -> Generator[Damage, None, Checkpoint | None]:
        try:
            checkpoint = Checkpoint.parse((self._folder / "checkpoint").read_bytes())
            if self._key is not None:
                checkpoint.verify(self._key)
        except FileNotFoundError:
            return None
        except IntegrityError as error:
            problem: Problem = "wrong key" if "another key" in error.message else "altered"
            yield _whole(self._folder, "checkpoint", problem, f"{error.message}: {error.cause}")
            return None
        except OSError as error:
            yield Damage(path="checkpoint", problem="unreadable", detail=str(error))
            return None
        return checkpoint

    def _scan(self, scanner: Scanner, firsts: list[int]) -> Iterator[Damage]:
        paths = [self._folder / "segments" / segment_name(first) for first in firsts]
        self._progress.start("check log", sum(path.stat().st_size for path in paths))
        done = 0
        for first, path in zip(firsts, paths, strict=True):
            name = f"segments/{path.name}"
            try:
                buffer = path.read_bytes()
            except OSError as error:
                yield Damage(path=name, problem="unreadable", detail=str(error), entry=first)
                continue
            yield from scanner.scan(path, name, first, buffer, is_last=first == firsts[-1])
            done += len(buffer)
            self._progress.advance(done, entries=scanner.number)

    def _read(self, name: str, start: int, stop: int) -> bytes:
        with (self._folder / name).open("rb") as file:
            file.seek(start)
            return file.read(stop - start)

    def _check_known(self, scanner: Scanner, seen: Checkpoint | None, published: Checkpoint | None) -> Iterator[Damage]:
        known = max(filter(None, (seen, published)), key=lambda item: item.size, default=None)
        name, start, stop = scanner.end
        if known is not None and known.size > scanner.number and not scanner.is_end_altered:
            yield Damage(
                path=name,
                problem="rolled back",
                detail=f"remembered are {known}; there stand {scanner.number}",
                start=start,
                stop=stop,
                entry=scanner.number,
                stop_entry=known.size,
            )
        if seen is not None and (root := scanner.root_at(seen.size)) not in {None, seen.root}:
            yield Damage(
                path=name,
                problem="forked",
                detail=f"remembered are {seen}; the first {seen.size} entries have root {(root or b'').hex()[:12]}",
                entry=0,
                stop_entry=seen.size,
            )
        note = scanner.notes.get(published.size) if published else None
        if published is not None and note is not None and note != published.note and scanner.is_signed(note):
            detail = f"it is not the checkpoint that the segments hold of {published.size} entries"
            yield _whole(self._folder, "checkpoint", "altered", detail)

    def _check_tiles(self, scanner: Scanner) -> Iterator[Damage]:
        for path in self._tiles.paths():
            place = parse_tile_path(path)
            if place is None:
                if not Path(path).name.endswith(".tmp"):  # a killed writer's
                    yield Damage(path=path, problem="unexpected", detail="no tile has such a path")
                continue
            yield from self._check_tile(scanner, path, *place)

    def _check_tile(self, scanner: Scanner, path: str, level: int, index: int) -> Iterator[Damage]:
        row = scanner.rows[level] if level < len(scanner.rows) else b""
        expected = bytes(row[index * TILE_BYTES : (index + 1) * TILE_BYTES])
        if len(expected) < TILE_BYTES and not scanner.is_tree_known:
            return
        try:
            content = (self._folder / path).read_bytes()
        except OSError as error:
            yield Damage(path=path, problem="unreadable", detail=str(error))
            return
        if content == expected and expected:
            return
        first = index * TILE_BYTES // HASH_BYTES << (8 * level)
        if len(expected) < TILE_BYTES or len(content) != TILE_BYTES:
            detail = f"it has {len(content)} bytes, the log has {len(expected)} for it"
            yield Damage(path=path, problem="altered", detail=detail, start=0, stop=len(content), entry=first)
            return
        for at in range(0, TILE_BYTES, HASH_BYTES):
            if content[at : at + HASH_BYTES] != expected[at : at + HASH_BYTES]:
                entry = first + (at // HASH_BYTES << (8 * level))
                yield Damage(
                    path=path,
                    problem="altered",
                    detail=f"the hash is {expected[at : at + HASH_BYTES].hex()[:12]}",
                    start=at,
                    stop=at + HASH_BYTES,
                    entry=entry,
                    stop_entry=entry + (1 << (8 * level)),
                )

    @staticmethod
    def _check_names(names: list[str], firsts: list[int]) -> Iterator[Damage]:
        expected = {segment_name(first) for first in firsts}
        expected |= {name.removesuffix(".seg") + ".idx" for name in expected}
        for name in names:
            if name not in expected:
                yield Damage(path=f"segments/{name}", problem="unexpected", detail="no segment has such a name")


def _whole(folder: Path, name: str, problem: Problem, detail: str) -> Damage:
    """A damage of a small file as a whole."""
    return Damage(path=name, problem=problem, detail=detail, start=0, stop=(folder / name).stat().st_size)
