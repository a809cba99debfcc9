"""The report as Markdown: ratios with their bounds first, then what each system took, then the losing cases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

__all__ = ["render"]

_WORDS: Final = {"wall_s": "wall", "cpu_s": "CPU", "peak_rss_mb": "peak RSS", "peak_anon_mb": "peak anonymous"}
_COLUMNS: Final = ("wall_s", "cpu_s", "peak_rss_mb")


def render(report: Mapping[str, Any]) -> str:
    """The whole page."""
    return "\n".join(_page(report)) + "\n"


def _page(report: Mapping[str, Any]) -> Iterator[str]:
    yield "# One population against one trial after another"
    yield ""
    yield from _preface(report)
    yield ""
    yield from _table(
        ("work", "ratio", "of", "median", "least to most", "MAD", "n", "must", "aim", "verdict"), _ratios(report)
    )
    yield ""
    yield "## What each system took"
    yield ""
    yield from _table(
        ("work", "system", "trials x steps", "wall s", "CPU s", "peak RSS MB", "accuracy or loss, mean"), _arms(report)
    )
    yield ""
    yield from _other_dtypes(report)
    yield "## Losing cases"
    yield ""
    yield from [f"- {case}" for case in report["losing"]] or ["None: every bound is reached."]


def _preface(report: Mapping[str, Any]) -> Iterator[str]:
    machines = [
        f"{item['cpu']}, {item['cores']} cores, {item['memory_gib']} GiB, {item['cpu_features'] or 'plain'}"
        for item in report["machines"]
    ]
    yield f"`{report['command']}`, {report['date']}. Machine: {'; '.join(machines) or 'none'}."
    yield f"Code: {', '.join(report['commits']) or 'none'} (+ means changed files). {report['versions']}."
    yield ""
    yield (
        "B0 is Optuna + PEFT + the Hugging Face Trainer with their defaults, one trial after another. B1 is B0 with "
        "the base kept in memory, batches of like length and eager attention, in fp32 or bf16, as this processor is "
        "quicker. All systems take the same adapters, rows, steps, batch sizes and one validation at the end. Each "
        "unit is a fresh process; imports are not counted; reading, tokenising, loading, validating and saving are. "
        "Systems are interleaved; a ratio is formed in each repeat, and the median is given with its spread. "
        "A mean loss is over tokens in ours and over batches in the Trainer's."
    )


def _ratios(report: Mapping[str, Any]) -> Iterator[Sequence[str]]:
    for row in report["rows"].values():
        for item in row["comparisons"]:
            ratio, sign = item["ratio"], "≥" if item["is_at_least"] else "≤"
            yield (
                row["title"],
                item["label"],
                _WORDS[item["measure"]],
                f"**{_number(ratio['median'])}x**",
                f"{_number(ratio['min'])} to {_number(ratio['max'])}",
                _number(ratio["mad"]),
                str(ratio["n"]),
                f"{sign} {item['must']:g}x" if item["must"] else "",
                f"{sign} {item['aim']:g}x" if item["aim"] else "",
                _verdict(item),
            )


def _verdict(item: Mapping[str, Any]) -> str:
    if item["is_met"] is None:
        return ""
    if not item["is_met"]:
        return "not met"
    return "aim met" if item["is_aim_met"] else "met"


def _arms(report: Mapping[str, Any]) -> Iterator[Sequence[str]]:
    for row in report["rows"].values():
        for name, arm in row["arms"].items():
            plans = [f"{plan['num_trials']} x {plan['steps']}" for plan in arm["plans"]]
            label = f"{name} ({arm['note']})" if arm["note"] else name
            figures = [_figure(arm.get(measure)) for measure in _COLUMNS]
            yield (row["title"], label, ", ".join(plans), *figures, _learned(arm))


def _learned(arm: Mapping[str, Any]) -> str:
    for name, unit in (("mean_accuracy", ""), ("mean_loss", " nats")):
        if name in arm:
            return _number(arm[name]["median"]) + unit
    return ""


def _other_dtypes(report: Mapping[str, Any]) -> Iterator[str]:
    for row in report["rows"].values():
        other = row["other_dtype"]
        if other:
            yield (
                f"B1 in {other['dtype']}, {row['title']}: {_number(other['times'])} times the wall time of "
                f"{other['than']} on the same {other['num_trials']} trials (n = {other['n']})."
            )
            yield ""


def _figure(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "not measured"
    if found["n"] == 1:
        return f"{_number(found['median'])} (n = 1)"
    return f"{_number(found['median'])} ({_number(found['min'])} to {_number(found['max'])})"


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _table(heads: Sequence[str], rows: Iterator[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(heads) + " |"
    yield "|" + "---|" * len(heads)
    for row in rows:
        yield "| " + " | ".join(row) + " |"
