"""`legion data`: prepare the embedded data sets, check one's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from legion.cli.output import emit, format_option, note, table
from legion.foundation.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from legion.neuro_architecture.data.datasets import DataSet

__all__ = ["command"]


@click.group("data")
def command() -> None:
    """Prepare and check data sets (data/TASK/)."""


@command.command("prepare")
@click.argument("names", nargs=-1)
@format_option
def prepare(names: tuple[str, ...], output_format: str) -> None:
    """Write the embedded data sets: classification, task_small, ci_test."""
    from legion.neuro_architecture.data.prepare import prepare_data

    _show(prepare_data(Settings.load(), list(names) or None), output_format)


@command.command("check")
@click.argument("folder")
@format_option
def check(folder: str, output_format: str) -> None:
    """Read a data folder whole and list every mistake in it."""
    from legion.neuro_architecture.data.datasets import read_data

    _show([read_data(folder)], output_format)


def _show(sets: Sequence[DataSet], output_format: str) -> None:
    emit(
        output_format,
        [_plain(item) for item in sets],
        lambda: table(
            ["folder", "kind", "train", "validation", "test", "metric", "licence"],
            [
                [
                    str(item.folder),
                    item.spec.kind,
                    str(len(item.train)),
                    str(len(item.validation)),
                    str(len(item.test)),
                    item.spec.metric,
                    item.spec.licence,
                ]
                for item in sets
            ],
        ),
        [str(item.folder) for item in sets],
    )
    for item in sets:
        for warning in item.warnings:
            note(f"warning: {warning}")


def _plain(item: DataSet) -> dict[str, Any]:
    return {
        "folder": str(item.folder),
        "task": item.spec.to_dict(),
        "digest": item.digest,
        "num_train": len(item.train),
        "num_validation": len(item.validation),
        "num_test": len(item.test),
        "warnings": list(item.warnings),
    }
