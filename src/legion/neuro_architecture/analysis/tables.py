"""The tables of the report."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

from legion.neuro_architecture.analysis.marks import RADIUS, draw_marker
from legion.neuro_architecture.analysis.words import with_error
from legion.neuro_architecture.spec.evaluation import OBJECTIVES, EvaluationResult, EvaluationSummary
from legion.neuro_architecture.spec.measurement import Measurement

__all__ = ["candidate_table", "group_table", "weight_table"]

# title, unit, measurement, decimals, scaled by k, M, G
_COLUMNS: Final = (
    ("gain", "paired, share", "accuracy_gain", 3, False),
    ("latency", "ratio to base", "latency_ratio", 2, False),
    ("median", "ms", "latency_p50_ms", 2, False),
    ("95th pct.", "ms", "latency_p95_ms", 2, False),
    ("operations", "FLOP/example", "flops_per_example", 3, True),
    ("memory", "MB", "peak_memory_mb", 1, False),
    ("adapter", "bytes", "adapter_size_bytes", 3, True),
    ("violations", "count", "safety_violations", 0, False),
    ("robustness", "ratio to clean", "robustness", 3, False),
)
_OF_CAUSAL_MODELS: Final = (("forgetting", "nats a token", "forgetting", 3, False),)


def candidate_table(summary: EvaluationSummary) -> str:
    """All candidates, best first, the bare base above them, those without a score below."""
    metric = "ROUGE-L" if summary.metric == "rouge_l" else "accuracy"
    titles = [("#", "", ""), ("candidate", "", ""), ("score", "", "number"), (metric, "test, share", "number")]
    titles += [(title, unit, "number") for title, unit, *_ in _columns(summary)]
    head = "".join(f'<th class="{style}">{title}<small>{unit}</small></th>' for title, unit, style in titles)
    rows = [_baseline_row(summary)]
    measured = [result for result in summary.results if result.measurements]
    rows += [_row(place, result, summary) for place, result in enumerate(measured, start=1)]
    rows += [_failed_row(result, summary) for result in summary.results if not result.measurements]
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _columns(summary: EvaluationSummary) -> tuple[tuple[str, str, str, int, bool], ...]:
    return _COLUMNS + (_OF_CAUSAL_MODELS if summary.task_kind == "summarization" else ())


def _row(place: int, result: EvaluationResult, summary: EvaluationSummary) -> str:
    front = ' <span class="badge">front</span>' if result.is_on_front else ""
    rank = f' title="non-domination rank {result.rank}"' if result.rank is not None else ""
    name = f"{_sign(result)}<code>{escape(result.proposal_id)}</code>{front}"
    cells = [f"<td{rank}>{place}</td>", f'<td class="name">{name}</td>', _number(_score(result, summary))]
    return f"<tr>{''.join(cells)}{_cells(result.measurements, summary)}</tr>"


def _baseline_row(summary: EvaluationSummary) -> str:
    score = "" if summary.baseline_score is None else f"{summary.baseline_score:.3f}"
    name = f'<td class="name" title="{escape(summary.baseline_name)}">bare base</td>'
    return f'<tr class="baseline"><td></td>{name}{_number(score)}{_cells(summary.baseline, summary, is_base=True)}</tr>'


def _failed_row(result: EvaluationResult, summary: EvaluationSummary) -> str:
    reason = escape(result.reason or "no measurement")
    name = f'<td class="name">{_sign(result)}<code>{escape(result.proposal_id)}</code></td>'
    span = len(_columns(summary)) + 2
    return f'<tr class="failed"><td></td>{name}<td colspan="{span}">not measured: {reason}</td></tr>'


def _sign(result: EvaluationResult) -> str:
    place = RADIUS + 3
    marker = draw_marker(result.strategy, place, place, is_full=result.is_on_front)
    title = f"<title>{escape(result.strategy)}</title>"
    return f'<svg class="lc" viewBox="0 0 {2 * place:g} {2 * place:g}" role="img">{title}{marker}</svg>'


def _score(result: EvaluationResult, summary: EvaluationSummary) -> str:
    if result.composite_score is None:
        return with_error(Measurement.absent("score", result.reason or "no score"))
    if summary.baseline_score is None:
        return f"{result.composite_score:.3f}"
    gain = result.composite_score - summary.baseline_score
    return f'{result.composite_score:.3f} <small class="{"better" if gain > 0 else "worse"}">{gain:+.3f}</small>'


def _cells(measurements: dict[str, Measurement], summary: EvaluationSummary, *, is_base: bool = False) -> str:
    cells = [_number(with_error(measurements.get("accuracy")))]
    for _, _, name, decimals, is_scaled in _columns(summary):
        if is_base and name not in measurements:
            cells.append(_number(""))
        else:
            cells.append(_number(with_error(measurements.get(name), decimals=decimals, is_scaled=is_scaled)))
    return "".join(cells)


def _number(content: str) -> str:
    return f'<td class="number">{content}</td>'


def weight_table(summary: EvaluationSummary) -> str:
    """Each objective with its sign, its weight and how its term is formed."""
    rows = []
    for objective in OBJECTIVES:
        weight = summary.weights_used.get(objective.name, 0.0)
        meaning = escape(summary.normalisation.get(objective.name, ""))
        better = "more is better, added" if objective.sign > 0 else "less is better, subtracted"
        rows.append(
            f'<tr><td>{objective.name}</td><td class="number">{weight:g}</td><td>{better}</td><td>{meaning}</td></tr>'
        )
    head = '<th>objective</th><th class="number">weight</th><th>direction</th><th>term</th>'
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def group_table(summary: EvaluationSummary, results: Sequence[EvaluationResult]) -> str:
    """The metric on parts of the data: bare base and the leading candidates."""
    names = list(dict.fromkeys(name for result in results for name in result.per_group))
    head = "<th>part of the data</th>" + '<th class="number">bare base</th>'
    head += "".join(f'<th class="number"><code>{escape(result.proposal_id)}</code></th>' for result in results)
    rows = []
    for name in names:
        parts = [summary.baseline_per_group.get(name), *(result.per_group.get(name) for result in results)]
        cells = "".join(_number(with_error(part)) for part in parts)
        rows.append(f"<tr><td>{escape(name.replace(':', ': '))}</td>{cells}</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
