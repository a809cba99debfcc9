"""`legion space`: what a study may propose."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from legion.cli.output import emit, format_option, table
from legion.foundation.settings import Settings

if TYPE_CHECKING:
    from legion.neuro_architecture.space import PointSpace

__all__ = ["command"]


@click.group("space")
def command() -> None:
    """What a study may propose."""


@command.command("show")
@click.argument("recipe", type=click.Path(path_type=Path), required=False)
@click.option("--task", default="classification", show_default=True, help="Where no recipe is named: the task.")
@click.option("--strategies", default=None, help="Where no recipe is named: families, separated by commas.")
@format_option
def show(recipe: Path | None, task: str, strategies: str | None, output_format: str) -> None:
    """Print every axis with its values and prior, and the exact number of candidates."""
    from legion.neuro_architecture.study.criteria import Criteria
    from legion.neuro_architecture.study.recipe import StudyRecipe, read_recipe
    from legion.neuro_architecture.study.space import StudySpace

    settings = Settings.load()
    if recipe is not None:
        wanted = read_recipe(recipe)
    else:
        space = {} if strategies is None else {"strategies": strategies.split(",")}
        wanted = StudyRecipe.parse({"name": "shown", "task": task, "space": space}, what="--strategies")
    criteria = Criteria.of(wanted.objectives, wanted.constraints, wanted.weights)
    points = StudySpace(wanted, criteria, settings).points
    emit(output_format, _facts(points), lambda: _describe(points), [branch.strategy for branch in points.branches])


def _facts(points: PointSpace) -> dict[str, Any]:
    return {
        "size": points.size,
        "strategies": {
            branch.strategy: {
                "size": branch.size,
                "architectures": branch.num_architectures,
                "axes": {
                    axis.name: {
                        "values": list(axis.values),
                        "prior": [round(weight, 4) for weight in axis.weights],
                        "is_ordered": axis.is_ordered,
                    }
                    for axis in branch.axes
                },
            }
            for branch in points.branches
        },
    }


def _describe(points: PointSpace) -> str:
    lines = [f"{points.size:,} candidates; not all values of an architecture's axes go together"]
    for branch in points.branches:
        rows = [
            [
                axis.name,
                "  ".join(f"{value} ({weight:.0%})" for value, weight in zip(axis.values, axis.weights, strict=True)),
            ]
            for axis in branch.axes
        ]
        head = f"{branch.strategy}: {branch.size:,} candidates, {branch.num_architectures:,} architectures"
        lines += ["", head, table(["axis", "values (prior)"], rows)]
    return "\n".join(lines)
