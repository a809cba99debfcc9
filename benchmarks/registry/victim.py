"""The process that torture kills: it writes to a registry, and says before each deed what it begins and after it what
stands.

A line of JSON each: `{"begin": kind, "entries": n}`, then `{"end": size, "root": hex, ...}` once the registry returned,
or `{"refused": message}` where it raised one of its own errors. Anything else that is raised ends the process with 1.

`SystemCalls` makes the N-th system call of the registry fail. It counts by wrapping Python's own functions for them in
the forked child (`os.write`, `pwrite`, `fsync`, `fdatasync`, `rename`, `replace`, `link`, `ftruncate`), which is where
the registry writes its log, keys, offsets and names. Files that Python writes through its buffers (tiles, scratch files
of blobs) and SQLite's own calls are not among them; the named failpoints stand for those.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import random
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

from legion.foundation.errors import LegionError
from legion.neuro_architecture.registry import ArchitectureRegistry
from legion.neuro_architecture.registry.drafts import SnapshotDraft
from legion.neuro_architecture.registry.failpoints import activated

__all__ = ["CALLS", "Orders", "Place", "SystemCalls", "write"]

CALLS: Final = ("write", "pwrite", "fsync", "fdatasync", "rename", "replace", "link", "ftruncate")
_WRITES: Final = ("write", "pwrite")
_NUMBERS: Final = {"eio": errno.EIO, "enospc": errno.ENOSPC}
_TILE: Final = 300


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a tortured registry stands.

    Attributes:
        folder: Of all that belongs to it.
    """

    folder: Path

    @property
    def root(self) -> Path:
        return self.folder / "registry"

    @property
    def export(self) -> Path:
        return self.folder / "export.bundle"

    def open(self) -> ArchitectureRegistry:
        return ArchitectureRegistry(self.root, keys=self.folder / "keys")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What a victim does, and what is done to it.

    Attributes:
        name: Unique in the store, so that whatever it registers is new.
        seed: Of the order of its deeds.
        num_deeds: How many.
        has_tile: Whether one deed fills a hash tile.
        rules: Failpoints, as in `LEGION_FAILPOINTS`.
        call: The system call that fails, counted from 1; 0 is none.
        action: How it fails: eio, enospc, short or kill.
    """

    name: str
    seed: int
    num_deeds: int = 10_000
    has_tile: bool = False
    rules: str = ""
    call: int = 0
    action: str = "eio"


@final
class SystemCalls:
    """Wraps the functions of `CALLS`, in a process of its own only, and lets the N-th call fail."""

    def __init__(self, turn: int, action: str) -> None:
        self.num_passed = 0
        self.has_fired = False
        self._turn = turn
        self._action = action

    def install(self) -> None:
        """From now on calls are counted."""
        for name in CALLS:
            setattr(os, name, self._wrapped(name, getattr(os, name)))

    def _wrapped(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            if self._action == "short" and name not in _WRITES:
                return call(*arguments, **options)
            self.num_passed += 1
            if self.num_passed != self._turn:
                return call(*arguments, **options)
            self.has_fired = True
            if self._action == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if self._action == "short":
                descriptor, content, *rest = arguments
                return call(descriptor, memoryview(content)[: max(1, len(content) // 2)], *rest)
            number = _NUMBERS[self._action]
            raise OSError(number, os.strerror(number), f"system call {self._turn}: {name}")

        return counted


def write(place: Place, orders: Orders, pipe: int) -> None:
    """The victim's life; ends by itself after its last deed."""
    logging.disable(logging.CRITICAL)
    tell_bytes = os.write

    def tell(word: dict[str, Any]) -> None:
        tell_bytes(pipe, json.dumps(word).encode() + b"\n")

    calls = SystemCalls(orders.call, orders.action)
    if orders.call:
        calls.install()
    with activated(orders.rules):
        registry = place.open()
        for step, kind in enumerate(_kinds(orders)):
            _do(registry, place, f"{orders.name}.{step}", kind, tell)
    tell({"calls": calls.num_passed, "has_fired": calls.has_fired})


def _kinds(orders: Orders) -> list[str]:
    draw = random.Random(orders.seed)
    common = ["one", "one", "batch", "tag", "alias", "file", "verdict"]
    rare = ["export", "rebuild"]
    kinds = ["one", *draw.sample(common + rare, len(common + rare))]
    if orders.has_tile:
        kinds.insert(draw.randrange(1, 4), "tile")
    while len(kinds) < orders.num_deeds:
        kinds.append(draw.choice(common * 6 + rare))
    return kinds[: orders.num_deeds]


def _do(
    registry: ArchitectureRegistry, place: Place, name: str, kind: str, tell: Callable[[dict[str, Any]], None]
) -> None:
    """One deed, between its two lines."""
    try:
        newest = registry.list_all()
        subject = newest[-1].digest if newest else None
        if subject is None and kind not in {"one", "batch", "tile", "file"}:
            return
        entries = 1
        if kind in {"export", "rebuild"}:
            entries = 0
        elif kind in {"batch", "tile"}:
            entries = _TILE if kind == "tile" else 2 + len(newest) % 9
        elif kind == "alias":
            entries = int(registry.aliases().get("champion") != subject)
        tell({"begin": kind, "entries": entries, "subject": subject})
        standing = _act(registry, place, name, kind, entries, str(subject))
        checkpoint = registry.checkpoint()
    except LegionError as error:
        tell({"refused": error.message})
        return
    tell({"end": checkpoint.size, "root": checkpoint.root.hex()} | standing)


def _act(
    registry: ArchitectureRegistry, place: Place, name: str, kind: str, entries: int, subject: str
) -> dict[str, Any]:
    """What must hold from now on, beside size and root."""
    if kind in {"one", "batch", "tile", "file"}:
        files = {}
        if kind == "file":
            note = place.folder / "note.txt"
            note.write_text(f"{name} " * 500)
            files = {note.name: note}
        drafts = [_draft(f"{name}.{number}", files) for number in range(entries)]
        return {"versions": {snapshot.digest: snapshot.version for snapshot in registry.register_all(drafts)}}
    if kind == "tag":
        registry.tag(subject, add=[name])
        return {"tag": name, "tagged": subject}
    if kind == "alias":
        registry.set_alias("champion", subject)
        return {"champion": subject}
    if kind == "verdict":
        registry.note_verdict(subject, "torture", "pass", {"name": name})
    elif kind == "export":
        registry.export_snapshot(subject, place.export)
    else:
        registry.rebuild()
    return {}


def _draft(version: str, files: dict[str, Path]) -> SnapshotDraft:
    number = sum(version.encode())
    return SnapshotDraft(
        version=version,
        config={"strategy": "LoRA", "rank": 1 + number % 7},
        metrics={"accuracy": number / 1e4},
        tags=["tortured", f"kind/{number % 3}"],
        files=files,
    )
