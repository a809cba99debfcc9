"""A small log with every kind of entry, what each query finds in it, and words that try to be commands."""

from __future__ import annotations

from typing import Final

from legion.neuro_architecture.spec.entries import (
    AliasEntry,
    AnyEntry,
    ApprovalEntry,
    DeletionEntry,
    RolloutEntry,
    TagsEntry,
    VerdictEntry,
)
from legion.neuro_architecture.spec.snapshot import ArchitectureSnapshot
from legion.testing.index_entries import made_digest, made_snapshot, moment, registered

__all__ = ["ANSWERS", "HOSTILE_WORDS", "NUMBERS", "example_log"]

HOSTILE_WORDS: Final = (
    "'; DROP TABLE snapshots; --",
    '" OR "1"="1',
    "x' OR 1=1 --",
    "%",
    "_",
    "?",
    "%s",
    "%(name)s",
    "$1",
    "\\",
    "{table}",
    "tag); DELETE FROM tags; --",
    "/* */",
    "\u2028",
    "Ω≈ç√∫˜µ≤≥÷",
)


def example_log() -> tuple[dict[str, ArchitectureSnapshot], list[AnyEntry]]:
    """Five snapshots by name, and a log of them with every kind of entry."""
    base = {"name": "minilm-l6", "digest": made_digest("base"), "model_type": "bert"}
    told = {"task": "movies", "task_kind": "classification", "base": base, "commit": "abc123" + "0" * 34}
    first = made_snapshot(1, metrics={"accuracy": 0.80, "latency_ms": 10}, provenance=told, tags=["lora", "old"])
    second = made_snapshot(
        2, metrics={"accuracy": 0.90, "latency_ms": 14.5}, provenance=told, tags=["lora"], parent=first, version="2"
    )
    third = made_snapshot(3, metrics={"accuracy": 0.85}, tags=["lora"], parent=second, version="4.1.0")
    measured = {"accuracy": {"value": 0.9, "unit": "share", "n": 500, "error": 0.01}, "safe": True, "note": "text"}
    other = made_snapshot(
        4,
        rank=4,
        metrics=measured,
        provenance={"base": "smollm2-135m", "branch": "main"},
        blobs={"w": made_digest("w")},
    )
    mixture = made_snapshot(
        5,
        strategy="MoE",
        metrics={"terms": {"cost": 1.5}},
        tags=["moe"],
        blobs={"w": made_digest("w"), "v": made_digest("v")},
    )
    named = {"first": first, "second": second, "third": third, "other": other, "mixture": mixture}
    first_digest, second_digest, other_digest = first.digest, second.digest, other.digest
    entries: list[AnyEntry] = [
        registered(first, key="register first"),
        registered(second),
        TagsEntry(at=moment(3), snapshot=first_digest, added=("production",), removed=("old",), key="tag"),
        registered(third),
        registered(other),
        AliasEntry(at=moment(6), alias="champion", snapshot=first_digest, previous=None),
        AliasEntry(at=moment(7), alias="champion", snapshot=second_digest, previous=first_digest),
        AliasEntry(at=moment(8), alias="baseline", snapshot=first_digest, previous=None),
        registered(mixture),
        ApprovalEntry(at=moment(9), snapshot=second_digest, is_approved=False),
        ApprovalEntry(at=moment(10), snapshot=second_digest, is_approved=True, by="ada"),
        ApprovalEntry(at=moment(11), snapshot=other_digest, is_approved=False),
        VerdictEntry(at=moment(12), snapshot=second_digest, gate="canary", verdict="fail"),
        VerdictEntry(at=moment(13), snapshot=second_digest, gate="canary", verdict="pass"),
        VerdictEntry(at=moment(14), snapshot=second_digest, gate="offline", verdict="pass"),
        VerdictEntry(at=moment(15), snapshot=other_digest, gate="offline", verdict="pass"),
        VerdictEntry(at=moment(16), snapshot=other_digest, gate="canary", verdict="insufficient"),
        VerdictEntry(at=moment(17), snapshot=first_digest, gate="canary", verdict="insufficient"),
        VerdictEntry(at=moment(18), snapshot=first_digest, gate="offline", verdict="fail"),
        RolloutEntry(at=moment(19), snapshot=second_digest, slot="movies", event="start", weight=0.05),
        AliasEntry(at=moment(20), alias="baseline", snapshot=None, previous=first_digest),
        DeletionEntry(at=moment(21), blob=made_digest("gone"), size_bytes=3, reason="unreferenced"),
        TagsEntry(at=moment(22), snapshot=second_digest, added=("production",)),
    ]
    return named, entries


# Where each snapshot stands in the log.
NUMBERS: Final = {"first": 0, "second": 1, "third": 3, "other": 4, "mixture": 8}

# What each query finds in the example, oldest first.
ANSWERS: Final = {
    "all": "first second third other mixture",
    "accuracy > 0.82": "second third other",
    "accuracy >= 0.9": "second other",
    "accuracy = 0.85": "third",
    "accuracy != 0.85": "first second other",
    "accuracy < 0.85": "first",
    "accuracy <= 0.85": "first third",
    "not accuracy > 0.82": "first mixture",
    "latency_ms < 12": "first",
    "accuracy.error <= 0.01 and accuracy.n = 500": "other",
    "safe = true": "other",
    "terms.cost > 1": "mixture",
    "note = 1": "",
    "accuracy > 0.82 and latency_ms < 15 and tag:production": "second",
    "tag:production": "first second",
    "tag:old": "",
    "tag:lora and tag:production": "first second",
    "tag:lora and not tag:production": "third",
    "tag:moe or tag:production": "first second mixture",
    "alias:champion": "second",
    "alias:baseline": "",
    "not alias:champion": "first third other mixture",
    "task:movies": "first second",
    "task:classification": "first second",
    "not task:movies": "third other mixture",
    "base:minilm-l6": "first second",
    "base:smollm2-135m": "other",
    f"base:{made_digest('base')}": "first second",
    "family:bert": "first second",
    "strategy:lora": "first second third other",
    "strategy:MoE": "mixture",
    "version:4.1.0": "third",
    "commit:abc123": "first second",
    "commit:abc124": "",
    "branch:main": "other",
    "revision >= 2": "second third",
    "revision = 1 and tag:lora": "first",
    "since:2026-01-01T00:00:03": "third other mixture",
    "before:2026-01-01T00:00:03Z": "first second",
    "since:2026-01-01T01:00:02+01:00 and before:2026-01-02 and tag:lora": "second third",
    "approved:yes": "second",
    "approved:no": "other",
    "not approved:yes": "first third other mixture",
    "verdict:pass": "second",
    "verdict:fail": "first",
    "verdict:insufficient": "other",
    "latest": "third other mixture",
    "latest and accuracy >= 0.9": "other",
    "(tag:lora or tag:moe) and (latest or revision = 1)": "first third mixture",
    "not (tag:lora or accuracy > 0)": "mixture",
}
