"""Which traits the objectives hang on: main effects by analysis of variance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from legion.neuro_architecture.analysis.study.cleaning import shorten
from legion.neuro_architecture.analysis.study.record import Study, Trait, read_study
from legion.neuro_architecture.analysis.study.theme import ACCENT, INK, MUTED, empty_picture, picture
from legion.neuro_architecture.analysis.study.wording import count, why_none_trained

__all__ = ["importance_picture", "importances", "omega_squared"]

_TITLE: Final = "Which traits matter"
_FEW: Final = 10
_MOST_LEVELS: Final = 5
_NUM_GROUPS: Final = 4
_MOST_TRAITS: Final = 12


def importances(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Share of each objective's variance that each trait explains alone, over the fully trained trials.

    Main effects only. A numeric trait of more than five values is cut into quarters of the trials. Trials that do not
    have the trait are left out of its share, so shares of traits that belong to one strategy hold within it. A trait
    or objective that does not vary, or a trait with a level for every trial, has no share and is not listed.

    Returns:
        `objective`, `trait`, `share` from 0 to 1 and `n`, the trials it rests on; the greatest share of an objective
        first.
    """
    study = read_study(record)
    traits = list(dict.fromkeys(name for trial in study.trained for name in trial.traits))
    found: list[dict[str, Any]] = []
    for objective in study.objectives:
        shares = [row for name in traits if (row := _share(study, objective.name, name)) is not None]
        found += sorted(shares, key=lambda row: (-row["share"], row["trait"]))
    return found


def _share(study: Study, objective: str, trait: str) -> dict[str, Any] | None:
    pairs = [
        (trial.traits[trait], trial.place.values[objective])
        for trial in study.trained
        if trial.place is not None and trait in trial.traits and objective in trial.place.values
    ]
    share = omega_squared(
        _levels([level for level, _ in pairs]), np.asarray([value for _, value in pairs], dtype=float)
    )
    return None if share is None else {"objective": objective, "trait": trait, "share": share, "n": len(pairs)}


def _levels(values: Sequence[Trait]) -> NDArray[np.int64]:
    """Group of each value, numbered from 0."""
    is_numeric = all(isinstance(value, float) for value in values)
    if not is_numeric or len(set(values)) <= _MOST_LEVELS:
        names = {name: place for place, name in enumerate(sorted({str(value) for value in values}))}
        return np.asarray([names[str(value)] for value in values], dtype=np.int64)
    edges = np.quantile(np.asarray(values, dtype=float), np.arange(1, _NUM_GROUPS) / _NUM_GROUPS)
    return np.searchsorted(edges, np.asarray(values, dtype=float), side="left").astype(np.int64)


def omega_squared(levels_n: NDArray[np.int64], values_n: NDArray[np.float64]) -> float | None:
    """Share of variance between k groups, less what chance alone puts there, floored at 0.

    (SS_between - (k - 1) MS_within) / (SS_total + MS_within). Source: Hays, Statistics (1963), chapter 12.

    Returns:
        None with fewer than two groups, with no group of two, or where the values do not vary.
    """
    _, groups_n = np.unique(levels_n, return_inverse=True)
    num_groups = int(groups_n.max(initial=-1)) + 1
    if num_groups < 2 or len(values_n) <= num_groups:
        return None
    sizes_k = np.bincount(groups_n)
    means_k = np.bincount(groups_n, weights=values_n) / sizes_k
    total = float(((values_n - values_n.mean()) ** 2).sum())
    if total <= 0.0:
        return None
    within = float(((values_n - means_k[groups_n]) ** 2).sum())
    noise = within / (len(values_n) - num_groups)
    return max(0.0, (total - within - (num_groups - 1) * noise) / (total + noise))


def importance_picture(record: Mapping[str, Any]) -> dict[str, Any]:
    """Bars of the share of each objective's variance that each trait explains alone, one panel an objective."""
    study = read_study(record)
    rows = importances(record)
    if not rows:
        return empty_picture(_TITLE, [study.about], _why_empty(study))
    greatest: dict[str, float] = {}
    for row in rows:
        greatest[row["trait"]] = max(greatest.get(row["trait"], 0.0), row["share"])
    ordered = sorted(greatest, key=lambda name: (-greatest[name], name))
    order = ordered[:_MOST_TRAITS]
    shown = [axis.name for axis in study.objectives if any(row["objective"] == axis.name for row in rows)]
    panels = [
        _panel(_bars(rows, order, name, len(study.trained)), order, name, is_first=not place)
        for place, name in enumerate(shown)
    ]
    body = {"hconcat": panels, "spacing": 44, "resolve": {"scale": {"y": "shared"}}}
    return picture(_TITLE, _subtitle(study, len(ordered) - len(order)), body)


def _why_empty(study: Study) -> str:
    if not study.trained:
        return why_none_trained(study)
    trained = count(len(study.trained), "fully trained trial")
    return f"no share can be told from {trained}: the traits or the objectives do not vary enough"


def _subtitle(study: Study, num_hidden: int) -> list[str]:
    trained = len(study.trained)
    lines = [f"{study.about}; share of variance that a trait explains alone (omega squared), {count(trained, 'trial')}"]
    if num_hidden > 0:
        lines.append(f"{count(num_hidden, 'trait')} of less effect not shown")
    if trained < _FEW:
        lines.append(
            f"Only {count(trained, 'fully trained trial')}, fewer than {_FEW}: these shares may be chance alone."
        )
    return lines


def _bars(rows: Sequence[Mapping[str, Any]], order: Sequence[str], name: str, num_all: int) -> list[dict[str, Any]]:
    """A row for each trait; without a share where too few trials share a value of the trait."""
    shares = {row["trait"]: row for row in rows if row["objective"] == name}
    found = []
    for trait in order:
        row = shares.get(trait)
        share, size = (None, None) if row is None else (row["share"], row["n"])
        words = "not known" if share is None else f"{share:.0%}" + (f" (n = {size})" if size != num_all else "")
        bar = {"objective": name, "trait": trait, "share": share, "n": size, "end": share or 0.0, "text": words}
        found.append(bar | {"name": shorten(trait, 30)})
    return found


def _panel(rows: list[dict[str, Any]], order: Sequence[str], name: str, *, is_first: bool) -> dict[str, Any]:
    names = list(dict.fromkeys(shorten(trait, 30) for trait in order))
    axis = {"ticks": False, "domain": False, "labelColor": INK, "labelPadding": 8} if is_first else None
    y = {"field": "name", "type": "nominal", "title": None, "scale": {"domain": names}, "axis": axis}
    x = {
        "field": "share",
        "type": "quantitative",
        "title": "Share of variance",
        "scale": {"domain": [0, 1.12], "nice": False},
        "axis": {"format": "%", "values": [0, 0.25, 0.5, 0.75, 1.0]},
    }
    tip = [{"field": field} for field in ("objective", "trait", "share", "n")]
    return {
        "width": 230,
        "height": {"step": 26},
        "title": {"text": shorten(name, 32), "fontSize": 13, "fontWeight": "normal", "frame": "group", "offset": 8},
        "data": {"values": rows},
        "encoding": {"y": y},
        "layer": [
            {"mark": {"type": "bar", "color": ACCENT, "height": 14}, "encoding": {"x": x, "tooltip": tip}},
            {
                "mark": {"type": "text", "align": "left", "dx": 5, "fontSize": 11, "color": MUTED},
                "encoding": {"x": x | {"field": "end"}, "text": {"field": "text", "type": "nominal"}},
            },
        ],
    }
