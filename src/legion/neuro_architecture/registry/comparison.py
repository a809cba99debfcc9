"""Two snapshots side by side: what was changed, what came of it, and whether the numbers really differ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, final

from legion.foundation.canonical import canonical_json, short
from legion.foundation.errors import LegionError
from legion.neuro_architecture.registry.facts import FACTS, facts_of
from legion.neuro_architecture.registry.intervals import (
    DEFAULT_LEVEL,
    Interval,
    difference_interval,
    interval_of,
    measurements_of,
    no_interval_because,
    other_evidence,
)
from legion.neuro_architecture.spec.architecture import parse_architecture
from legion.neuro_architecture.spec.measurement import Measurement
from legion.neuro_architecture.spec.snapshot import ArchitectureSnapshot

__all__ = [
    "FieldChange",
    "Kinship",
    "MetricChange",
    "MetricVerdict",
    "SnapshotDiff",
    "compare_metric",
    "diff_snapshots",
    "field_changes",
]

# equal: the same number; within: 0 is in the interval of the difference; apart: it is not; unknown: nobody can say.
MetricVerdict = Literal["equal", "within", "apart", "unknown"]
Kinship = Literal["the same", "next revision", "previous revision", "same architecture", "other architecture"]

# Facts of each section of a comparison, by the names of `registry.facts`.
_SECTIONS: Final[dict[str, tuple[str, ...]]] = {
    "data": ("task", "task_kind", "data_digest", "split_sizes", "labels"),
    "base": ("base",),
    "code": ("branch", "commit", "is_dirty"),
    "training": ("recipe", "steps", "seed", "trainer_config", "extended_from", "best_step"),
    "evaluation": ("evaluation",),
    "environment": ("training_machine", "versions", "settings", "evaluation_machine"),
}

Path = tuple[str, ...]
# Where in provenance the facts of the sections stand.
_SHOWN: Final[frozenset[Path]] = frozenset(
    path for names in _SECTIONS.values() for name in names for path in FACTS[name]
)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class FieldChange:
    """One field that differs.

    Attributes:
        path: Where it is, dotted.
        before: Its value in the one snapshot, where `is_before` says that it has it.
        after: Its value in the other, likewise.
        is_before: Whether the one has the field.
        is_after: Whether the other has it.
    """

    path: str
    before: Any = None
    after: Any = None
    is_before: bool = True
    is_after: bool = True

    def __str__(self) -> str:
        before = _plain(self.before) if self.is_before else "(absent)"
        after = _plain(self.after) if self.is_after else "(absent)"
        return f"{self.path}: {before} -> {after}"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; a side that lacks the field has no key."""
        return (
            {"path": self.path}
            | ({"before": self.before} if self.is_before else {})
            | ({"after": self.after} if self.is_after else {})
        )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class MetricChange:
    """One metric in both snapshots.

    Attributes:
        name: Of the metric.
        before: In the one; None where it does not name it at all.
        after: In the other.
        before_interval: Where the truth of the one lies; None where that is not known.
        after_interval: Likewise.
        difference: After less before, where both were measured in one unit.
        interval: Where the difference lies, for independent samples.
        do_overlap: Whether the two single intervals share a point; None where either is not known.
        verdict: What that says.
        reason: Why nobody can say, where nobody can.
    """

    name: str
    before: Measurement | None
    after: Measurement | None
    before_interval: Interval | None = None
    after_interval: Interval | None = None
    difference: float | None = None
    interval: Interval | None = None
    do_overlap: bool | None = None
    verdict: MetricVerdict
    reason: str | None = None

    def __str__(self) -> str:
        shown = f"{self.name}: {_measured(self.before, self.before_interval)} -> "
        shown += _measured(self.after, self.after_interval)
        if self.difference is not None:
            shown += f"; difference {self.difference:+.6g}"
        if self.interval is not None:
            shown += f" [{self.interval[0]:+.4g}, {self.interval[1]:+.4g}]"
        return f"{shown}: {self.verdict}" + (f" ({self.reason})" if self.reason else "")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "name": self.name,
            "before": None if self.before is None else self.before.to_dict(),
            "after": None if self.after is None else self.after.to_dict(),
            "before_interval": _listed(self.before_interval),
            "after_interval": _listed(self.after_interval),
            "difference": self.difference,
            "interval": _listed(self.interval),
            "do_overlap": self.do_overlap,
            "verdict": self.verdict,
            "reason": self.reason,
        }


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotDiff:
    """Everything in which two snapshots differ.

    Attributes:
        one: Digest of the first.
        other: Digest of the second.
        kinship: How the second is related to the first.
        architecture: Fields of the architecture, defaults spelled out on both sides.
        metrics: Every metric that either names, equal ones too.
        sections: Of data, base, code, training, evaluation, environment, the rest of provenance and the rest of the
            evidence the fields that differ.
        blobs: Files that differ: name and digests.
        tags_added: Tags of the second alone, as registered.
        tags_removed: Tags of the first alone.
        version: The callers' versions, where they differ.
        level: Confidence of the intervals.
        is_same_examples: Whether both were measured on the same examples: same data, sample sizes and seed. None where
            a snapshot does not say.
    """

    one: str
    other: str
    kinship: Kinship
    architecture: tuple[FieldChange, ...]
    metrics: tuple[MetricChange, ...]
    sections: dict[str, tuple[FieldChange, ...]]
    blobs: tuple[FieldChange, ...]
    tags_added: tuple[str, ...]
    tags_removed: tuple[str, ...]
    version: FieldChange | None
    level: float
    is_same_examples: bool | None

    @property
    def is_empty(self) -> bool:
        """Whether nothing differs but revision, parent, time of registration and places on a disk."""
        changes = (self.architecture, self.blobs, self.tags_added, self.tags_removed, *self.sections.values())
        return not any(changes) and self.version is None and all(item.verdict == "equal" for item in self.metrics)

    def lines(self) -> list[str]:
        """The comparison as text, a line each."""
        told = [f"{short(self.one)} -> {short(self.other)}: {self.kinship}"]
        if self.version is not None:
            told.append(str(self.version))
        told += _section("architecture", self.architecture)
        told += _section(f"metrics ({self.level:.0%} intervals, {self._examples()})", self.metrics)
        for name, changes in self.sections.items():
            told += _section(name, changes)
        told += _section("files", self.blobs)
        told += _section("tags", [f"+{tag}" for tag in self.tags_added] + [f"-{tag}" for tag in self.tags_removed])
        return told

    def _examples(self) -> str:
        if self.is_same_examples is None:
            return "nobody recorded whether on the same examples"
        if not self.is_same_examples:
            return "on other examples"
        return "on the same examples, taken as independent since no single answers are stored"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "one": self.one,
            "other": self.other,
            "kinship": self.kinship,
            "is_empty": self.is_empty,
            "level": self.level,
            "is_same_examples": self.is_same_examples,
            "version": None if self.version is None else self.version.to_dict(),
            "architecture": [change.to_dict() for change in self.architecture],
            "metrics": [change.to_dict() for change in self.metrics],
            "sections": {name: [change.to_dict() for change in found] for name, found in self.sections.items()},
            "files": [change.to_dict() for change in self.blobs],
            "tags": {"added": list(self.tags_added), "removed": list(self.tags_removed)},
        }


def diff_snapshots(
    one: ArchitectureSnapshot, other: ArchitectureSnapshot, *, level: float = DEFAULT_LEVEL
) -> SnapshotDiff:
    """In what the second snapshot differs from the first.

    Raises:
        InvalidValueError: the level is not between 0 and 1.
    """
    before, after = facts_of(one), facts_of(other)
    return SnapshotDiff(
        one=one.digest,
        other=other.digest,
        kinship=_kinship(one, other),
        architecture=field_changes(_spelled_out(one.config), _spelled_out(other.config)),
        metrics=_metric_changes(one, other, level),
        sections={name: field_changes(before.some(*facts), after.some(*facts)) for name, facts in _SECTIONS.items()}
        | {
            "other provenance": field_changes(one.provenance, other.provenance, leave_out=_SHOWN),
            "other evidence": field_changes(other_evidence(one.metrics), other_evidence(other.metrics)),
        },
        blobs=field_changes(one.blobs, other.blobs),
        tags_added=tuple(sorted(set(other.tags) - set(one.tags))),
        tags_removed=tuple(sorted(set(one.tags) - set(other.tags))),
        version=next(iter(field_changes({"version": one.version}, {"version": other.version})), None),
        level=level,
        is_same_examples=_same_examples(before.some("data_digest", "evaluation"), after.known),
    )


def _kinship(one: ArchitectureSnapshot, other: ArchitectureSnapshot) -> Kinship:
    if one.digest == other.digest:
        return "the same"
    if other.parent == one.digest:
        return "next revision"
    if one.parent == other.digest:
        return "previous revision"
    return "same architecture" if one.semantic_hash == other.semantic_hash else "other architecture"


def _spelled_out(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The architecture with every default of this version; as it is written, where this version cannot read it."""
    try:
        return parse_architecture(dict(config)).to_dict()
    except LegionError:
        return config


def _same_examples(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool | None:
    if any(name not in side for side in (before, after) for name in ("data_digest", "evaluation")):
        return None
    return all(before[name] == after[name] for name in ("data_digest", "evaluation"))


def _metric_changes(one: ArchitectureSnapshot, other: ArchitectureSnapshot, level: float) -> tuple[MetricChange, ...]:
    before, after = measurements_of(one.metrics), measurements_of(other.metrics)
    return tuple(compare_metric(name, before.get(name), after.get(name), level) for name in sorted({*before, *after}))


def compare_metric(
    name: str, before: Measurement | None, after: Measurement | None, level: float = DEFAULT_LEVEL
) -> MetricChange:
    """One metric on both sides, and what can be said of the difference."""
    first = None if before is None else interval_of(before, level)
    second = None if after is None else interval_of(after, level)
    reason = _incomparable(before, after)
    if reason is not None or before is None or after is None or before.value is None or after.value is None:
        is_same = before == after
        return MetricChange(
            name=name,
            before=before,
            after=after,
            before_interval=first,
            after_interval=second,
            verdict="equal" if is_same else "unknown",
            reason=None if is_same else reason,
        )
    difference = after.value - before.value
    interval = difference_interval(before, after, level)
    verdict: MetricVerdict = "unknown"
    if difference == 0.0:
        verdict = "equal"
    elif interval is not None:
        verdict = "within" if interval[0] <= 0.0 <= interval[1] else "apart"
    return MetricChange(
        name=name,
        before=before,
        after=after,
        before_interval=first,
        after_interval=second,
        difference=difference,
        interval=interval,
        do_overlap=_overlap(first, second),
        verdict=verdict,
        reason=(no_interval_because(before) or no_interval_because(after)) if verdict == "unknown" else None,
    )


def _incomparable(before: Measurement | None, after: Measurement | None) -> str | None:
    if before is None or after is None:
        return f"the {'first' if before is None else 'second'} snapshot does not name it"
    for side, found in (("first", before), ("second", after)):
        if found.value is None:
            return f"not measured in the {side}: {found.reason}"
    return None if before.unit == after.unit else f"in {before.unit or 'no unit'} and {after.unit or 'no unit'}"


def _overlap(one: Interval | None, other: Interval | None) -> bool | None:
    if one is None or other is None:
        return None
    return one[0] <= other[1] and other[0] <= one[1]


def field_changes(
    one: Mapping[str, Any], other: Mapping[str, Any], *, leave_out: frozenset[Path] = frozenset()
) -> tuple[FieldChange, ...]:
    """Leaves of nested objects that differ, in the order of their paths; lists are compared whole."""
    before, after = dict(_leaves(one)), dict(_leaves(other))
    return tuple(
        FieldChange(
            path=".".join(path),
            before=before.get(path),
            after=after.get(path),
            is_before=path in before,
            is_after=path in after,
        )
        for path in sorted({*before, *after})
        if not any(path[: len(shown)] == shown for shown in leave_out)
        and not (path in before and path in after and _is_same(before[path], after[path]))
    )


def _is_same(one: Any, other: Any) -> bool:
    """JSON's equality: unlike Python's, true is not 1."""
    return canonical_json(one) == canonical_json(other)


def _leaves(value: Mapping[str, Any], above: Path = ()) -> Iterable[tuple[Path, Any]]:
    for name, item in value.items():
        path = (*above, name)
        if isinstance(item, Mapping) and item:
            yield from _leaves(item, path)
        else:
            yield path, item


def _section(title: str, changes: Iterable[object]) -> list[str]:
    told = [f"  {change}" for change in changes]
    return [title, *told] if told else []


def _measured(found: Measurement | None, interval: Interval | None) -> str:
    if found is None:
        return "(absent)"
    if found.value is None:
        return f"(not measured: {found.reason})"
    shown = f"{found.value:.6g} {found.unit}".strip()
    return shown if interval is None else f"{shown} [{interval[0]:.4g}, {interval[1]:.4g}]"


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)


def _listed(interval: Interval | None) -> list[float] | None:
    return None if interval is None else list(interval)
