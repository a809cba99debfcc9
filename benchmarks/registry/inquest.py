"""After a victim's death: opens its registry anew and says what does not hold.

- Everything acknowledged is there and unaltered: the root that was told stands in today's tree (a consistency proof),
  each digest gives its snapshot, tags and the alias are as told.
- Nothing torn is visible: of the deeds that were begun and not acknowledged each has all its entries or none.
- The index says what the log says: built anew it gives the same answers. An export is whole or not there.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, final

from benchmarks.registry.victim import Place

from legion.foundation.errors import LegionError
from legion.neuro_architecture.registry import ArchitectureRegistry
from legion.neuro_architecture.registry.bundle import open_bundle

__all__ = ["Base", "Findings", "inspect", "sums"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """What stood before the victim came.

    Attributes:
        size: Entries of the log.
        root: Hex root of its tree.
    """

    size: int = 0
    root: str = ""


@final
@dataclass(slots=True, kw_only=True)
class Findings:
    """What an inquest found.

    Attributes:
        violations: What must hold and does not.
        open_s: Wall seconds from nothing to the first answer: log opened, index brought up.
        write_s: And from there to the next durable registration, which cuts off what is torn.
        size: Entries then.
        root: Hex root then.
    """

    violations: list[str] = field(default_factory=list)
    open_s: float = 0.0
    write_s: float = 0.0
    size: int = 0
    root: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def inspect(place: Place, base: Base, told: list[dict[str, Any]], *, name: str, is_thorough: bool) -> Findings:
    """Opens what the victim left, compares it with what it told, and writes one more snapshot called `name`."""
    findings = Findings()
    try:
        start = time.perf_counter()
        registry = place.open()
        num_found = len(registry.list_all())
        findings.open_s = time.perf_counter() - start
        size = registry.checkpoint().size if registry.key is not None and num_found else 0
        findings.violations += _compare(registry, base, told, size)
        findings.violations += _check_export(place)
        start = time.perf_counter()
        fresh = registry.register(name, {"strategy": "LoRA"}, {"accuracy": 0.5}, tags=["after"])
        findings.write_s = time.perf_counter() - start
        if registry.get(fresh.digest) != fresh:
            findings.violations.append("what is registered after the recovery is not found")
        if is_thorough:
            findings.violations += _check_thoroughly(registry)
        checkpoint = registry.checkpoint()
        findings.size, findings.root = checkpoint.size, checkpoint.root.hex()
    except LegionError as error:
        findings.violations.append(f"{type(error).__name__}: {error.message}: {error.cause}")
    return findings


def sums(numbers: Iterable[int]) -> set[int]:
    """What all or none of each can add up to."""
    reached = {0}
    for number in numbers:
        reached |= {before + number for before in reached}
    return reached


def _compare(registry: ArchitectureRegistry, base: Base, told: list[dict[str, Any]], size: int) -> Iterator[str]:
    if base.size:
        yield from _compare_root(registry, base.size, base.root, size)
    last: int = base.size
    pending: list[int] = []
    for word in told:
        if "begin" in word:
            pending.append(word["entries"])
        elif "end" in word:
            if word["end"] - last - pending[-1] not in sums(pending[:-1]):
                yield f"{word['end']} entries were told after {last} and deeds of {pending}"
            last, pending = word["end"], []
            yield from _compare_root(registry, word["end"], word["root"], size)
            yield from _compare_answers(registry, word)
    if size - last not in sums(pending):
        yield f"{size} entries stand after {last} acknowledged and deeds of {pending} that were not"
    yield from _compare_alias(registry, told)


def _compare_alias(registry: ArchitectureRegistry, told: list[dict[str, Any]]) -> Iterator[str]:
    """The alias names what was told last, or what one of the moves begun since would have it name."""
    possible: set[str] = set()
    is_told = False
    for word in told:
        if word.get("begin") == "alias":
            possible.add(word["subject"])
        elif "champion" in word:
            possible, is_told = {word["champion"]}, True
    champion = registry.aliases().get("champion")
    if is_told and champion not in possible:
        yield f"the alias names {champion}, it may be one of {sorted(possible)}"


def _compare_root(registry: ArchitectureRegistry, size: int, root: str, now: int) -> Iterator[str]:
    if size > now:
        yield f"{size} entries were acknowledged, {now} stand"
        return
    proof = registry.prove_consistency(size)
    if proof.old_root.hex() != root or not proof.verify():
        yield f"the first {size} entries are not those that were acknowledged"


def _compare_answers(registry: ArchitectureRegistry, word: dict[str, Any]) -> Iterator[str]:
    for digest, version in word.get("versions", {}).items():
        found = registry.get(digest)
        if found is None or found.version != version or found.digest != digest:
            yield f"snapshot {digest} of version {version} is {found and found.version}"
    if "tag" in word and word["tag"] not in registry.tags(word["tagged"]):
        yield f"tag {word['tag']} is lost"


def _check_export(place: Place) -> Iterator[str]:
    if place.export.exists():
        with open_bundle(place.export) as bundle:
            yield from (f"the export is flawed: {flaw}" for flaw in bundle.verify(()).flaws)


def _check_thoroughly(registry: ArchitectureRegistry) -> Iterator[str]:
    yield from registry.verify().problems
    before = _answers(registry)
    registry.rebuild()
    if _answers(registry) != before:
        yield "the index gives other answers when it is built anew"


def _answers(registry: ArchitectureRegistry) -> dict[str, Any]:
    digests = [snapshot.digest for snapshot in registry.list_all()]
    return {
        "digests": digests,
        "tags": [registry.tags(digest) for digest in digests[-40:]],
        "events": [[number for number, _ in registry.events(digest)] for digest in digests[-40:]],
        "aliases": registry.aliases(),
        "tagged": [snapshot.digest for snapshot in registry.get_by_tags(["tortured", "kind/1"])],
        "query": [snapshot.digest for snapshot in registry.query("accuracy > 0.05 and tag:kind/2")],
    }
