"""Kills writers of a registry ten thousand times, and lets its disk fail at every place: `make torture`.

    python -m benchmarks.registry.torture [--kills 10000] [--repeats 20] [--minutes M] [--out FILE]

Three parts, each round a forked writer (`victim`) and a forked inquest (`inquest`) after its end:

- `kills`: SIGKILL after a random number of acknowledgements and random microseconds. A store lives for
  `--rounds-per-store` rounds; every 25th inquest checks every byte and builds the index anew.
- `places`: each named failpoint, killed `--repeats` times in a store of its own, and given EIO and ENOSPC once.
- `calls`: the N-th system call of a writer fails with EIO, with ENOSPC, or writes half, for every N; see `victim`.

Recovery is the wall time from a dead writer to the first answer, and to the next durable registration. Run it on an
idle machine. JSON on stdout, or in `--out`. Exit code 1 where something acknowledged was lost, something torn was seen,
a place was not reached, recovery took a second, or `--minutes` ended it early.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import select
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, final

from benchmarks.registry.inquest import Base, Findings, inspect
from benchmarks.registry.victim import Orders, Place, write

from legion.foundation.canonical import canonical_json
from legion.foundation.clock import SystemClock, rfc3339
from legion.foundation.files import write_json
from legion.foundation.machine import describe_machine
from legion.foundation.revision import describe_revision
from legion.neuro_architecture.registry.failpoints import PLACES

__all__ = ["Round", "Store", "serve", "torture_call", "torture_place"]

MUST: Final = {"recovery_s": 1.0, "num_places": 30}
ACTIONS: Final = ("eio", "enospc", "short")
_THOROUGH_EVERY: Final = 25
_MOST_CALLS: Final = 2_000
# What has to happen to an earlier writer for a place to be passed at all.
_BEFORE: Final = {
    "log.before-cut": "log.during-write",
    "log.after-cut": "log.during-write",
    "index.before-catch-up": "commit.after-append",
}
_WITH: Final = {"log.before-undo": "log.during-write=eio:3,"}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One writer's end.

    Attributes:
        findings: What the inquest found.
        is_killed: Whether the writer died of SIGKILL.
        has_fired: Whether the system call that should fail was reached.
        num_acknowledged: Deeds it was told of.
    """

    findings: Findings
    is_killed: bool
    has_fired: bool
    num_acknowledged: int


@final
@dataclass(slots=True)
class Store:
    """A registry under torture; this process itself never opens it, so every fork is clean.

    Args:
        place: Where it is.
    """

    place: Place
    base: Base = field(default_factory=Base)
    told: list[dict[str, Any]] = field(default_factory=list)

    def go(
        self, orders: Orders, *, kill: Callable[[int, int], bytes] | None = None, is_thorough: bool = False
    ) -> Round:
        """Forks a writer, has `kill` (given its process and its pipe) end it, and holds the inquest."""
        code = self.write(orders, kill=kill)
        told, self.told = self.told, []
        findings = self._inspect(told, f"{orders.name}.after", is_thorough=is_thorough)
        if code not in {0, -signal.SIGKILL}:
            findings.violations.append(f"the writer ended with {code}")
        findings.violations = [f"{orders}: {violation}" for violation in findings.violations]
        self.base = Base(size=findings.size, root=findings.root)
        return Round(
            findings=findings,
            is_killed=code == -signal.SIGKILL,
            has_fired=any(word.get("has_fired") for word in told),
            num_acknowledged=sum("end" in word for word in told),
        )

    def write(self, orders: Orders, *, kill: Callable[[int, int], bytes] | None = None) -> int:
        """Forks a writer and waits for its end; gives its exit code. What it told is kept for the inquest."""
        reader, writer = os.pipe()
        victim = _fork(lambda: write(self.place, orders, writer))
        os.close(writer)
        content = kill(victim, reader) if kill else b""
        content += _read_all(reader)
        code = os.waitstatus_to_exitcode(os.waitpid(victim, 0)[1])
        self.told += [json.loads(line) for line in content.split(b"\n")[:-1]]
        return code

    def _inspect(self, told: list[dict[str, Any]], name: str, *, is_thorough: bool) -> Findings:
        reader, writer = os.pipe()

        def work() -> None:
            findings = inspect(self.place, self.base, told, name=name, is_thorough=is_thorough)
            os.write(writer, json.dumps(findings.to_dict()).encode())

        child = _fork(work)
        os.close(writer)
        content = _read_all(reader)
        os.waitpid(child, 0)
        if not content:
            return Findings(violations=["the inquest itself died; its traceback is on stderr"])
        return Findings(**json.loads(content))


def _fork(work: Callable[[], None]) -> int:
    """A child that does the work and ends without cleaning up."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        work()
        code = 0
    finally:
        if code:
            sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
            sys.stderr.flush()
        os._exit(code)


def _read_all(reader: int) -> bytes:
    with os.fdopen(reader, "rb") as pipe:
        return pipe.read()


def kill_after(num_acknowledged: int, wait_us: int = 0) -> Callable[[int, int], bytes]:
    """Kills a writer once it has told of so many deeds, and some microseconds later."""

    def kill(victim: int, reader: int) -> bytes:
        content = b""
        while content.count(b'"end"') < num_acknowledged and select.select([reader], [], []):
            part = os.read(reader, 1 << 16)
            if not part:
                break
            content += part
        if wait_us:
            time.sleep(wait_us / 1e6)
        os.kill(victim, signal.SIGKILL)
        return content

    return kill


def torture_place(folder: Path, name: str, action: str, seed: int, *, is_thorough: bool = False) -> Round:
    """A fresh store whose writer meets this end at a failpoint."""
    folder.mkdir()
    store = Store(Place(folder=folder))
    if name in _BEFORE:
        _prepare(store, _BEFORE[name], seed)
    rules = f"{_WITH.get(name, '')}{name}={action}"
    orders = Orders(name=f"{action}.{seed}", seed=seed, num_deeds=11, has_tile="tile" in name, rules=rules)
    return store.go(orders, is_thorough=is_thorough)


def _prepare(store: Store, place: str, seed: int) -> None:
    """Has an earlier writer killed at a place: at its third commit, or where it comes to fewer another at its first."""
    for turn in (3, 1):
        code = store.write(Orders(name=f"before.{turn}", seed=seed, num_deeds=11, rules=f"{place}=kill:{turn}"))
        if code == -signal.SIGKILL:
            return


def torture_call(folder: Path, call: int, action: str, seed: int, *, is_thorough: bool = False) -> Round:
    """A fresh store whose writer's N-th system call fails."""
    folder.mkdir()
    orders = Orders(name=f"{action}.{call}", seed=seed, num_deeds=10, call=call, action=action)
    return Store(Place(folder=folder)).go(orders, is_thorough=is_thorough)


@final
@dataclass(slots=True)
class Tally:
    """What was found so far."""

    violations: list[str] = field(default_factory=list)
    opened_s: list[float] = field(default_factory=list)
    written_s: list[float] = field(default_factory=list)
    num_killed: int = 0
    num_acknowledged: int = 0

    def add(self, result: Round) -> Round:
        """Counts a round."""
        self.violations += result.findings.violations
        self.opened_s.append(result.findings.open_s)
        self.written_s.append(result.findings.open_s + result.findings.write_s)
        self.num_killed += result.is_killed
        self.num_acknowledged += result.num_acknowledged
        return result

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "rounds": len(self.opened_s),
            "killed": self.num_killed,
            "deeds_acknowledged": self.num_acknowledged,
            "violations": self.violations[:100],
            "first_answer_s": _spread(self.opened_s),
            "recovery_s": _spread(self.written_s),
        }


def _spread(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds) or [0.0]
    middle, late = len(ordered) // 2, int(0.99 * (len(ordered) - 1))
    return {"median": ordered[middle], "p99": ordered[late], "max": ordered[-1]}


@final
class Torture:
    """The long form.

    Args:
        folder: Where stores are made and deleted.
        options: Of the command line.
    """

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self._folder = folder
        self._options = options
        self._draw = random.Random(options.seed)
        self._num_stores = 0
        self._stop_s = time.monotonic() + 60 * options.minutes
        self.is_cut_short = False

    def run(self) -> dict[str, Any]:
        """Every part."""
        places, kills_by_place = self.places()
        return {
            "places": places.to_dict() | {"kills_by_place": kills_by_place},
            "calls": self.calls(),
            "kills": self.kills().to_dict(),
            "is_cut_short": self.is_cut_short,
        }

    def _is_late(self) -> bool:
        self.is_cut_short = self.is_cut_short or time.monotonic() > self._stop_s
        return self.is_cut_short

    def _fresh(self) -> Path:
        """A store's folder; the one before is deleted."""
        shutil.rmtree(self._folder / str(self._num_stores), ignore_errors=True)
        self._num_stores += 1
        return self._folder / str(self._num_stores)

    def kills(self) -> Tally:
        """SIGKILL at random instants."""
        tally, store = Tally(), Store(Place(folder=self._folder))
        for number in range(self._options.kills):
            if self._is_late():
                break
            if number % self._options.rounds_per_store == 0:
                store = Store(Place(folder=self._fresh()))
                store.place.folder.mkdir()
            orders = Orders(name=f"r{number}", seed=self._draw.randrange(1 << 30))
            kill = kill_after(self._draw.choice((0, 0, 1, 2, 5)), self._draw.randrange(12_000))
            tally.add(store.go(orders, kill=kill, is_thorough=number % _THOROUGH_EVERY == _THOROUGH_EVERY - 1))
            self._say(f"kills: {number + 1} of {self._options.kills}, {len(tally.violations)} violations", number)
        return tally

    def places(self) -> tuple[Tally, dict[str, int]]:
        """Each failpoint, killed and refused."""
        tally, kills = Tally(), dict.fromkeys(PLACES, 0)
        for name in PLACES:
            for repeat in range(self._options.repeats):
                if self._is_late():
                    return tally, kills
                seed = self._draw.randrange(1 << 30)
                turn = 1 if repeat % 2 == 0 else self._draw.randrange(2, 5)
                result = tally.add(torture_place(self._fresh(), name, f"kill:{turn}", seed, is_thorough=repeat == 0))
                if not result.is_killed:  # not every place is passed so often
                    result = tally.add(torture_place(self._fresh(), name, "kill", seed))
                kills[name] += result.is_killed
                if not result.is_killed:
                    tally.violations.append(f"no writer passes {name}")
            for action in ("eio", "enospc"):
                tally.add(torture_place(self._fresh(), name, action, self._options.seed, is_thorough=True))
            self._say(f"places: {name}, {len(tally.violations)} violations", 0)
        return tally, kills

    def calls(self) -> dict[str, Any]:
        """Each system call of a writer, refused or cut short."""
        told = {}
        for action in ACTIONS:
            tally, call = Tally(), 1
            while call < _MOST_CALLS and not self._is_late():
                result = tally.add(torture_call(self._fresh(), call, action, seed=5, is_thorough=call % 5 == 0))
                if not result.has_fired:
                    break
                call += 1
                self._say(f"calls: {action} at {call}, {len(tally.violations)} violations", call)
            told[action] = {"calls_failed": call - 1} | tally.to_dict()
        return told

    def _say(self, text: str, number: int) -> None:
        if number % 50 == 0:
            print(text, file=sys.stderr, flush=True)


def serve() -> None:
    """Answers jobs on stdin, a line of JSON each, for the tests: they fork from a small process that way."""
    for line in sys.stdin:
        job = json.loads(line)
        folder = Path(job["folder"])
        if job["do"] == "place":
            result = torture_place(folder, job["name"], job["action"], job["seed"], is_thorough=True)
        elif job["do"] == "call":
            result = torture_call(folder, job["call"], job["action"], job["seed"], is_thorough=True)
        else:
            folder.mkdir(exist_ok=True)
            store = Store(Place(folder=folder), Base(**job["base"]))
            orders = Orders(name=job["name"], seed=job["seed"])
            result = store.go(orders, kill=kill_after(job["after"]), is_thorough=True)
        answer = {
            "violations": result.findings.violations,
            "is_killed": result.is_killed,
            "has_fired": result.has_fired,
            "num_acknowledged": result.num_acknowledged,
            "base": {"size": result.findings.size, "root": result.findings.root},
        }
        print(json.dumps(answer), flush=True)


def _misses(figures: dict[str, Any], repeats: int) -> list[str]:
    parts = [figures["places"], figures["kills"], *figures["calls"].values()]
    num_violations = sum(len(part["violations"]) for part in parts)
    slowest = max(part["recovery_s"]["max"] for part in parts)
    by_place = figures["places"]["kills_by_place"]
    found = [f"{num_violations} violations"] if num_violations else []
    found += [f"recovery took {slowest:.3f} s, must be below 1"] if slowest >= MUST["recovery_s"] else []
    found += [f"{name} was killed {count} times" for name, count in by_place.items() if count < repeats]
    found += ["it was ended early"] if figures["is_cut_short"] else []
    return found if len(by_place) >= MUST["num_places"] else [*found, f"there are {len(by_place)} places"]


def main() -> int:
    """Tortures, writes the figures, says whether all holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=20, help="kills at each place")
    parser.add_argument("--rounds-per-store", type=int, default=250)
    parser.add_argument("--minutes", type=float, default=600.0, help="end after so many, and say so")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--folder", type=Path, help="where stores are made and deleted; a temporary folder by default")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve()
        return 0
    start = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="torture-", dir=options.folder))
    try:
        figures = Torture(folder, options).run()
    finally:
        shutil.rmtree(folder)
    misses = _misses(figures, options.repeats)
    result = {
        "at": rfc3339(SystemClock().now()),
        "machine": describe_machine(),
        "revision": describe_revision(Path(__file__).parent),
        "options": {name: getattr(options, name) for name in ("kills", "repeats", "rounds_per_store", "seed")},
        "wall_s": time.monotonic() - start,
        "figures": figures,
        "must": MUST,
        "misses": misses,
    }
    if options.out:
        write_json(options.out, result)
    else:
        print(canonical_json(result).decode())
    for miss in misses:
        print(miss, file=sys.stderr)
    return 1 if misses else 0


if __name__ == "__main__":
    sys.exit(main())
