"""A snapshot's model card: Markdown with the front matter that model hubs read, made from facts that were computed.

What is not known is listed with its reason and left open; no field is filled with a guess. What needs a person (use,
limits, who answers for it) is not claimed, and the card says so. The same snapshot and catalogue give the same card.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from legion.neuro_architecture.registry.bill_of_materials import KnownAsset
from legion.neuro_architecture.registry.facts import SnapshotFacts, facts_of
from legion.neuro_architecture.registry.intervals import DEFAULT_LEVEL, interval_of, measurements_of
from legion.neuro_architecture.spec.measurement import Measurement
from legion.neuro_architecture.spec.snapshot import ArchitectureSnapshot

__all__ = ["make_model_card"]

_PIPELINES: Final = {"classification": "text-classification", "summarization": "summarization"}
_ORIGIN: Final = ("base", "task", "data_digest", "split_sizes", "labels", "commit", "branch", "is_dirty")
_TRAINING: Final = (
    "recipe",
    "steps",
    "best_step",
    "seed",
    "trainer_config",
    "versions",
    "training_machine",
    "trained_at",
    "evaluation_machine",
    "evaluated_at",
)
# What only a person can say.
_OPEN: Final = ("Intended use", "Out-of-scope use", "Risks and limits", "Who answers for it")


def make_model_card(
    snapshot: ArchitectureSnapshot,
    *,
    assets: Mapping[str, KnownAsset] | None = None,
    level: float = DEFAULT_LEVEL,
) -> str:
    """The card.

    Args:
        snapshot: What it is about.
        assets: Base models whose licence is known, by name (`data.catalog.CATALOG` names the embedded ones).
        level: Confidence of the metrics' intervals.

    Raises:
        InvalidValueError: the level is not between 0 and 1.
    """
    facts = facts_of(snapshot)
    measured = measurements_of(snapshot.metrics)
    base = _base_name(facts)
    asset = (assets or {}).get(base or "")
    strategy = str(snapshot.config.get("strategy", "adapter"))
    on = f" on `{_code(base)}`" if base else ""
    unknown = dict(facts.unknown)
    if asset is None:
        unknown["base_licence"] = "the base is in no catalogue that was given"
    unknown["data_licence"] = "the snapshot does not record it"
    parts = [
        _front_matter(facts, asset, base),
        f"# {_plain(strategy)} {snapshot.semantic_hash}, revision {snapshot.revision}\n",
        f"A {_plain(strategy)} adapter{on}, version {_plain(snapshot.version)}, registered {snapshot.created_at}.\n",
        "## What it is\n",
        _table(("", ""), _identity(snapshot, asset)),
        "## Where it comes from\n",
        _table(("", ""), ((name, _shown(facts.known[name])) for name in _ORIGIN if name in facts.known)),
        "## How it was trained and measured\n",
        _table(("", ""), ((name, _shown(facts.known[name])) for name in _TRAINING if name in facts.known)),
        "## Measured\n",
        _metrics(measured, level),
        "## Not known\n",
        _table(("", "because"), sorted(unknown.items())),
        "## For a person to say\n",
        "\n".join(f"- {item}: not stated." for item in _OPEN) + "\n",
    ]
    return "\n".join(parts)


def _front_matter(facts: SnapshotFacts, asset: KnownAsset | None, base: str | None) -> str:
    """YAML whose strings are JSON strings, so that nothing in them is taken for YAML."""
    pipeline = _PIPELINES.get(str(facts.get("task_kind")))
    lines = [f"base_model: {json.dumps(base)}"] if base else []
    lines += [f"license: {json.dumps(asset.licence.lower())}"] if asset else []
    lines += [f"pipeline_tag: {pipeline}"] if pipeline else []
    return "\n".join(["---", *lines, "library_name: peft", "tags:", "- legion-neuro-rewriter", "---\n"])


def _base_name(facts: SnapshotFacts) -> str | None:
    base = facts.get("base")
    name = base.get("name") if isinstance(base, Mapping) else None
    return name if isinstance(name, str) else None


def _identity(snapshot: ArchitectureSnapshot, asset: KnownAsset | None) -> Iterator[tuple[str, str]]:
    yield "snapshot", f"`{snapshot.digest}`"
    yield "semantic hash", f"`{snapshot.semantic_hash}`"
    yield "architecture", _shown(snapshot.config)
    if snapshot.parent is not None:
        yield "parent", f"`{_code(snapshot.parent)}`"
    if snapshot.tags:
        yield "tags when registered", ", ".join(f"`{_code(tag)}`" for tag in snapshot.tags)
    for name, digest in sorted(snapshot.blobs.items()):
        yield f"file {_plain(name)}", f"`{_code(digest)}`"
    if asset is not None:
        yield "licence of the base", f"{_plain(asset.licence)} ({_plain(asset.source)})"


def _metrics(measured: Mapping[str, Measurement], level: float) -> str:
    if not measured:
        return "No measurement is recorded.\n"
    rows = [_metric(name, each, level) for name, each in measured.items()]
    return _table(("metric", "value", f"{level:.0%} interval", "n"), rows)


def _metric(name: str, measured: Measurement, level: float) -> tuple[str, str, str, str]:
    if measured.value is None:
        return _plain(name), f"absent: {_plain(measured.reason or '')}", "", ""
    found = interval_of(measured, level)
    between = "not recorded" if found is None else f"{found[0]:.6g} to {found[1]:.6g}"
    return (
        _plain(name),
        f"{measured.value:.6g} {_plain(measured.unit)}".strip(),
        between,
        "" if measured.n is None else str(measured.n),
    )


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [f"| {' | '.join(cells)} |" for cells in rows]
    if not lines:
        return "Nothing is recorded.\n"
    return "\n".join([f"| {' | '.join(head)} |", "|" + "---|" * len(head), *lines]) + "\n"


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)
    return f"`{_code(text)}`"


def _code(text: str | None) -> str:
    """Text that ends no code span, no cell and no row."""
    return (text or "").replace("`", "'").replace("|", "\\|").replace("\r", " ").replace("\n", " ")


def _plain(text: str) -> str:
    """Text that is taken for text: no markup, no cell's end, no line's end."""
    escaped = "".join(f"\\{sign}" if sign in "\\`*_[]<>#|" else sign for sign in text)
    return escaped.replace("\r", " ").replace("\n", " ")
