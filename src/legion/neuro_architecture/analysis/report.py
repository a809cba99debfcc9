"""The evaluation as one HTML page that needs no network and runs no script."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib import resources
from pathlib import Path

from legion.foundation.canonical import short
from legion.foundation.files import write_text
from legion.neuro_architecture.analysis.chart import front_chart
from legion.neuro_architecture.analysis.svg import draw_svg
from legion.neuro_architecture.analysis.tables import candidate_table, group_table, weight_table
from legion.neuro_architecture.analysis.words import with_error
from legion.neuro_architecture.spec.evaluation import EvaluationResult, EvaluationSummary, Violation
from legion.neuro_architecture.spec.measurement import Measurement

__all__ = ["render_report"]

_LEADERS = 3
_WIDE, _NARROW = 1080, 560
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def render_report(summary: EvaluationSummary, path: Path) -> Path:
    """Writes the page to `path` and returns it.

    Raises:
        WorldError: the disk refused.
    """
    write_text(path, _page(summary))
    return path


def _page(summary: EvaluationSummary) -> str:
    style = resources.files(__package__).joinpath("report.css").read_text(encoding="utf-8")
    body = "".join(
        [
            _header(summary),
            _section("Trade-offs", _charts(summary)),
            _section("Candidates", f'<div class="card scroll">{candidate_table(summary)}</div>'),
            _section("How the score is formed", _formula(summary)),
            _groups(summary),
            _section("Safety violations", _violations(summary)),
            _section("Where and how it was measured", _provenance(summary)),
        ]
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(summary.task)}: evaluation</title><style>{style}</style></head>"
        f"<body><main>{body}</main></body></html>\n"
    )


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content}</section>"


def _header(summary: EvaluationSummary) -> str:
    base = f" on {escape(summary.base.name)}" if summary.base is not None else ""
    measured = f"{summary.total_evaluated} of {len(summary.results)} candidates measured"
    return (
        f"<header><h1>Which adapter is best for {escape(summary.task)}{base}</h1>"
        f"<p>{measured} beside the bare base, {escape(summary.created_at[:16].replace('T', ' '))} UTC</p></header>"
        + _verdict(summary)
    )


def _verdict(summary: EvaluationSummary) -> str:
    scored = [result for result in summary.results if result.composite_score is not None]
    if not scored:
        return '<p class="verdict">No candidate has a score; the table says why.</p>'
    best = scored[0]
    metric = "ROUGE-L" if summary.metric == "rouge_l" else "accuracy"
    facts = [
        (with_error(best.measurements.get("accuracy")), f"test {metric}"),
        (with_error(summary.baseline.get("accuracy")), f"test {metric} of the bare base"),
        (with_error(best.measurements.get("accuracy_gain")), "gained on the same examples"),
        (with_error(best.measurements.get("latency_ratio"), decimals=2), "times the base's latency"),
        (with_error(best.measurements.get("adapter_size_bytes"), is_scaled=True) + "B", "adapter on disk"),
    ]
    cards = "".join(f'<div class="fact"><b>{value}</b><span>{escape(name)}</span></div>' for value, name in facts)
    return (
        f'<p class="verdict"><code>{escape(best.proposal_id)}</code> ({escape(best.strategy)}) has the best score of '
        f"{len(scored)}: {_against_base(best, summary)}. {len(summary.front)} of them are on the front.</p>"
        f'<div class="facts">{cards}</div>'
    )


def _against_base(best: EvaluationResult, summary: EvaluationSummary) -> str:
    score = f"{best.composite_score:.3f}"
    if summary.baseline_score is None or best.composite_score is None:
        return score
    place = "above" if best.composite_score > summary.baseline_score else "not above"
    return f"{score}, {place} the bare base's {summary.baseline_score:.3f} under these weights"


def _charts(summary: EvaluationSummary) -> str:
    planes = (("latency_ratio", "accuracy", "wide"), ("cost", "accuracy", ""), ("robustness", "accuracy", ""))
    cards = [
        f'<div class="card {style}">{draw_svg(front_chart(summary, x, y), width=_WIDE if style else _NARROW)}</div>'
        for x, y, style in planes
    ]
    return f'<div class="charts">{"".join(cards)}</div>'


def _formula(summary: EvaluationSummary) -> str:
    return (
        "<p>score = the sum of weight × term over the objectives, added where more is better and subtracted where less "
        "is. Every term is a ratio to the bare base measured in the same run, so each of the base's own terms is 1. "
        f'Weights are used as given.</p><div class="card scroll">{weight_table(summary)}</div>'
    )


def _groups(summary: EvaluationSummary) -> str:
    leaders = [result for result in summary.results if result.per_group][:_LEADERS]
    if not leaders:
        return ""
    return _section("Parts of the data", f'<div class="card scroll">{group_table(summary, leaders)}</div>')


def _violations(summary: EvaluationSummary) -> str:
    parts = [_violation_list("bare base", summary.baseline_violations, summary.baseline.get("safety_violations"))]
    parts += [_violations_of(result) for result in summary.results if result.measurements]
    return f'<div class="card">{"".join(parts)}</div>'


def _violations_of(result: EvaluationResult) -> str:
    return _violation_list(result.proposal_id, result.violations, result.measurements.get("safety_violations"))


def _violation_list(name: str, violations: Sequence[Violation], count: Measurement | None) -> str:
    checked = f" of {count.n} checked" if count is not None and count.n is not None else ""
    title = f"<code>{escape(name)}</code>: {len(violations)}{checked}"
    items = "".join(f"<li>{escape(item.text)}<p>{escape(item.detail)}</p></li>" for item in violations)
    return f"<details><summary>{title}</summary><ul>{items or '<li>none</li>'}</ul></details>"


def _provenance(summary: EvaluationSummary) -> str:
    facts = {"data": f"{summary.task}, digest {short(summary.data_digest)}", "baseline": summary.baseline_name}
    if summary.base is not None:
        facts["base"] = f"{summary.base.name}, {summary.base.model_type}, digest {short(summary.base.digest)}"
    facts["measured"] = summary.created_at
    if summary.duration_s is not None:
        facts["took"] = f"{summary.duration_s:.1f} s"
    facts["seed"] = str(summary.seed)
    facts |= {name.replace("_", " "): str(value) for name, value in summary.machine.items() if value not in (None, "")}
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts.items())
    notes = "".join(f"<li>{escape(note)}</li>" for note in summary.notes)
    return f'<div class="card"><dl>{rows}</dl></div><ul class="notes">{notes}</ul>'
