"""What `strategies.py` and `adamix.py` measured, as the Markdown that stands in `docs/strategies/`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from legion.neuro_architecture.spec.architecture import strategy_names

__all__ = ["NOT_MEASURED", "insert", "points", "render", "render_averaging"]

NOT_MEASURED: Final = "Not measured yet: `make strategies`."
_COSTS: Final = ("trainable", "training s", "latency, batch 1, ms")


def render(results: Mapping[str, Any]) -> str:
    """The results as Markdown, strategies in the specification's order."""
    rows = [results["rows"][name] for name in strategy_names() if name in results["rows"]]
    if not rows:
        return NOT_MEASURED
    classified = [row for row in rows if "accuracy" in row]
    causal = [row for row in rows if "accuracy" not in row]
    return "\n\n".join([*_classified(classified), *_causal(causal), _provenance(rows)])


def render_averaging(report: Mapping[str, Any]) -> str:
    """What `adamix.py` found, as a sentence."""
    verdict = "within" if report["is_within_bounds"] else "**not** within"
    return (
        f"On {report['averaged_accuracy']['n']} test rows, after {report['steps']} steps: averaged "
        f"{points(report['averaged_accuracy'])} per cent, drawn {points(report['drawn_accuracy'])} (mean of "
        f"{len(report['drawn_accuracies'])} draws). Averaging loses {report['lost_points']:.2f} ± "
        f"{report['lost_points_error']:.2f} points (standard error of the paired rows), {verdict} the bound. "
        f"Measured {report['date']} on {report['machine']['cpu']}, one thread."
    )


def insert(text: str, block: str, name: str) -> str:
    """`text` with `block` between the markers of that name."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    head, _, rest = text.partition(begin)
    _, _, tail = rest.partition(end)
    return f"{head}{begin}\n{block}\n{end}{tail}"


def points(measured: Mapping[str, Any]) -> str:
    """A share in per cent with its standard error."""
    return f"{100 * measured['value']:.1f} ± {100 * measured['error']:.1f}"


def _classified(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    if not rows:
        return []
    probe = rows[0]["frozen_probe_accuracy"]
    told = (
        f"Movie sentences, {rows[0]['base']}, accuracy on {probe['n']} test rows in per cent with its standard error; "
        f"the frozen base with logistic regression has {points(probe)} on the same rows."
    )
    return [told, _table(["accuracy", *_COSTS], [[points(row["accuracy"]), *_costs(row)] for row in rows], rows)]


def _causal(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    if not rows:
        return []
    bare = rows[0]
    told = (
        f"Headlines, {bare['base']}, validation loss in nats a target token with its standard error; the bare base "
        f"has {_nats(bare['bare_validation_loss'])} and takes {bare['bare_latency_ms']['value']:.0f} ms."
    )
    cells = [[_nats(row["untrained_validation_loss"]), _nats(row["validation_loss"]), *_costs(row)] for row in rows]
    return [told, _table(["untrained", "trained", *_COSTS], cells, rows)]


def _nats(measured: Mapping[str, Any]) -> str:
    if measured["value"] is None:
        return f"not measured: {measured['reason']}"
    return f"{measured['value']:.3f} ± {measured['error']:.3f}"


def _costs(row: Mapping[str, Any]) -> list[str]:
    latency = row["latency_ms"]["value"]
    return [
        f"{row['trainable_parameters']:,.0f}",
        f"{row['training_time_sec']:.0f}",
        "–" if latency is None else f"{latency:.1f}",
    ]


def _table(headers: Sequence[str], cells: Sequence[Sequence[str]], rows: Sequence[Mapping[str, Any]]) -> str:
    lines = [f"| strategy | steps | {' | '.join(headers)} |", "|---|" + "---:|" * (len(headers) + 1)]
    lines += [
        f"| {' | '.join([row['strategy'], str(row['steps']), *own])} |" for row, own in zip(rows, cells, strict=True)
    ]
    return "\n".join(lines)


def _provenance(rows: Sequence[Mapping[str, Any]]) -> str:
    dates = sorted({row["date"] for row in rows})
    machine = rows[-1]["machine"]
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    return (
        f"Measured {when} on {machine['cpu']}, one thread of {machine['cores']} cores, {machine['memory_gib']} GiB, "
        f"Python {machine['python']}: `make strategies`."
    )
