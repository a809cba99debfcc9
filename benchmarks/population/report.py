"""From the lines of the units to medians, ratios and an honest list of what was lost. Draws and prints nothing."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Final

from benchmarks.population.rows import Comparison, Row

__all__ = ["build_report", "losing_cases", "spread"]

Line = Mapping[str, Any]
_MEASURES: Final = ("wall_s", "cpu_s", "peak_rss_mb", "peak_anon_mb", "rss_after_imports_mb")
_DIGITS: Final = 4


def spread(values: Sequence[float]) -> dict[str, float | int]:
    """Median, least, most, and the median absolute deviation from the median."""
    middle = statistics.median(values)
    deviation = statistics.median(abs(value - middle) for value in values)
    found = {"median": middle, "min": min(values), "max": max(values), "mad": deviation}
    return {name: _round(value) for name, value in found.items()} | {"n": len(values)}


def build_report(lines: Sequence[Line], rows: Sequence[Row]) -> dict[str, Any]:
    """The figures of each row, and every losing case in words.

    Args:
        lines: Units as the harness wrote them; of several of one arm and repeat the last counts.
        rows: Which rows to report, measured or not.

    Returns:
        Plain values: `rows` (by key: `title`, `plans`, `arms`, `comparisons`, `other_dtype`, `absent`), `losing`,
        `commits` and `machines`.
    """
    found = {row.key: _row(row, [line for line in lines if line["row"] == row.key]) for row in rows}
    measured = [line for line in lines if "error" not in line]
    return {
        "rows": found,
        "losing": [case for row in found.values() for case in losing_cases(row)],
        "commits": sorted({f"{line['commit']}{'+' if line['is_dirty'] else ''}" for line in measured}),
        "machines": _distinct(line["machine"] for line in measured),
    }


def losing_cases(row: Mapping[str, Any]) -> list[str]:
    """Where ours is not better, where a bound was not reached, and what makes a ratio of the row doubtful."""
    cases = [f"{row['title']}: {reason}" for reason in row["absent"]]
    for item in row["comparisons"]:
        name = f"{row['title']}: {item['label']}, {item['measure']}"
        ratio = item["ratio"]["median"]
        if item["is_at_least"] and ratio <= 1.0:
            cases.append(f"{name}: {ratio}x, ours is not cheaper")
        if item["is_met"] is False:
            bound = "at least" if item["is_at_least"] else "at most"
            cases.append(f"{name}: {ratio}x, must be {bound} {item['must']}x")
    other = row["other_dtype"]
    if other and other["times"] < 1.0:
        cases.append(
            f"{row['title']}: B1 in {other['dtype']} took {other['times']} times what B1 in {other['than']} took on "
            "the same trials, so B1's ratios here are of the weaker B1"
        )
    return cases


def _row(row: Row, lines: Sequence[Line]) -> dict[str, Any]:
    last = {(line["arm"], line["repeat"]): line for line in lines}  # a unit run again replaces what it was
    by_arm = {arm.name: _of(arm.name, last.values()) for arm in row.arms}
    absent = [_why_absent(name, last.values()) for name, done in by_arm.items() if not done]
    comparisons = [
        compared
        for comparison in row.comparisons
        for measure in comparison.measures
        if (compared := _compare(comparison, measure, by_arm))
    ]
    return {
        "title": row.title,
        "arms": {arm.name: {"note": arm.note} | _arm(by_arm[arm.name]) for arm in row.arms if by_arm[arm.name]},
        "comparisons": comparisons,
        "other_dtype": _other_dtype(row, by_arm),
        "absent": absent,
    }


def _of(name: str, lines: Any) -> list[Line]:
    found = [line for line in lines if line["arm"] == name and "error" not in line]
    return sorted(found, key=lambda line: line["repeat"])


def _why_absent(name: str, lines: Any) -> str:
    errors = [line["error"] for line in lines if line["arm"] == name and "error" in line]
    reason = errors[-1].strip().splitlines()[-1] if errors else "no unit was run"
    return f"{name} was not measured: {reason}"


def _arm(lines: Sequence[Line]) -> dict[str, Any]:
    figures = {
        measure: spread(values)
        for measure in _MEASURES
        if (values := [line[measure] for line in lines if line.get(measure) is not None])
    }
    plans = _distinct(line["plan"] for line in lines)
    means = {
        name: spread(values)
        for name in ("mean_accuracy", "mean_loss")
        if (values := [line[name] for line in lines if line.get(name) is not None])
    }
    return {"plans": plans, **figures, **means, "record": lines[-1].get("record", {})}


def _compare(comparison: Comparison, measure: str, by_arm: Mapping[str, Sequence[Line]]) -> dict[str, Any] | None:
    """Ratios of the repeats that have both arms; the bounds hold for the comparison's first measure."""
    over, under = (
        {line["repeat"]: line[measure] for line in by_arm[name] if line.get(measure)}
        for name in (comparison.over, comparison.under)
    )
    repeats = sorted(over.keys() & under.keys())
    if not repeats:
        return None
    ratio = spread([over[repeat] / under[repeat] for repeat in repeats])
    is_judged = measure == comparison.measures[0]
    must, aim = (comparison.must, comparison.aim) if is_judged else (None, None)
    return {
        "label": comparison.label,
        "measure": measure,
        "ratio": ratio,
        "must": must,
        "aim": aim,
        "is_at_least": comparison.is_at_least,
        "is_met": _reaches(ratio["median"], must, is_at_least=comparison.is_at_least),
        "is_aim_met": _reaches(ratio["median"], aim, is_at_least=comparison.is_at_least),
    }


def _reaches(value: float, bound: float | None, *, is_at_least: bool) -> bool | None:
    if bound is None:
        return None
    return value >= bound if is_at_least else value <= bound


def _other_dtype(row: Row, by_arm: Mapping[str, Sequence[Line]]) -> dict[str, Any] | None:
    """How much longer B1 takes in the other type, on the trials that both ran."""
    ran, other = by_arm.get("B1"), by_arm.get("B1-other")
    if not ran or not other:
        return None
    stride = row.arm("B1-other").stride
    usual = statistics.median(sum(line["trial_s"][::stride]) for line in ran)
    times = statistics.median(sum(line["trial_s"]) for line in other) / usual
    return {
        "dtype": row.arm("B1-other").note,
        "than": row.arm("B1").note,
        "times": _round(times),
        "num_trials": len(other[0]["trial_s"]),
        "n": len(other),
    }


def _distinct(items: Any) -> list[Any]:
    found: list[Any] = []
    for item in items:
        if item not in found:
            found.append(item)
    return found


def _round(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
