"""A patch as a person reads it: `README.md` in its folder."""

from __future__ import annotations

from typing import Any, Final

from legion.foundation.canonical import short
from legion.neuro_architecture.spec.slot import PatchPlan, Slot

__all__ = ["describe_risk", "readme"]

_OF_BASE: Final = "base_"


def readme(plan: PatchPlan) -> str:
    """What the patch changes, on what evidence, how risky it is, and how to apply and undo it."""
    return "\n".join(
        [
            f"# Patch {plan.id}",
            "",
            f"Puts snapshot `{plan.after.snapshot}` into slot `{plan.slot}`. Planned at {plan.created_at}.",
            "",
            "| | before | after |",
            "|---|---|---|",
            *(_row(name, plan.before, plan.after) for name in ("task_kind", "base", "snapshot", "labels")),
            "",
            "## Evidence",
            "",
            f"Proposal `{plan.evidence.get('proposal')}` of {plan.evidence.get('total_evaluated')} evaluated.",
            f"Score {_number(plan.evidence.get('score'))}; weights: {_weights(plan.evidence.get('weights', {}))}.",
            "",
            "| measured | value | standard error | n | bare base |",
            "|---|---|---|---|---|",
            *_measurements(plan.evidence),
            "",
            f"Data `{plan.evidence.get('data_digest')}`, evaluated at {plan.evidence.get('evaluated_at')}.",
            "",
            f"## Risk {plan.risk_score:.2f}",
            "",
            *(f"- {line}" for line in describe_risk(plan)),
            "",
            "## Files",
            "",
            "- `plan.json`: all of this for programs",
            "- `apply.json`: the slot's entry once the patch is applied",
            "- `revert.json`: the manifest `core/slots.json` as it stood, byte for byte",
            "- `state.json`: planned, applied or reverted; when, and who approved",
            "",
            "```",
            f"legion patch apply {plan.id}",
            f"legion patch revert {plan.id}",
            "```",
            "",
        ]
    )


def describe_risk(plan: PatchPlan) -> list[str]:
    """The risk's factors, the heaviest first, a line each."""
    factors = sorted(plan.risk_factors, key=lambda item: -float(item["share"]) * float(item["weight"]))
    return [
        f"{float(item['share']) * float(item['weight']):.2f} {item['name']}: {item['explanation']}" for item in factors
    ] or ["no factor was named"]


def _row(name: str, before: Slot | None, after: Slot) -> str:
    return f"| {name} | {_cell(name, before)} | {_cell(name, after)} |"


def _cell(name: str, slot: Slot | None) -> str:
    if slot is None:
        return "no slot"
    match name:
        case "base":
            return f"{_text(slot.base.name)} `{short(slot.base.digest)}`"
        case "snapshot":
            return f"`{short(slot.snapshot)}`" if slot.snapshot else "the bare base"
        case "labels":
            return _text(", ".join(slot.labels)) or "none"
    return slot.task_kind


def _measurements(evidence: dict[str, Any]) -> list[str]:
    """A row for each measurement, beside the base's own: the one of the same run where there is one."""
    measured, baseline = evidence.get("measurements", {}), evidence.get("baseline", {})
    rows = []
    for name, item in measured.items():
        if name.startswith(_OF_BASE):
            continue
        value = f"{_number(item['value'])} {item['unit']}" if item["value"] is not None else f"absent: {item['reason']}"
        base = measured.get(_OF_BASE + name) or baseline.get(name) or {}
        cells = (name, _text(value), _number(item["error"]), item["n"] or "", _number(base.get("value")))
        rows.append(f"| {' | '.join(map(str, cells))} |")
    return rows


def _weights(weights: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in weights.items())


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _text(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
