"""How results and errors reach a person or a program."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import click

from legion.foundation.errors import LegionError

__all__ = ["emit", "format_option", "note", "number", "print_error", "table"]

FORMATS = ("auto", "human", "json", "quiet")


def format_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `--format`; `auto` is `human`, `quiet` prints only names, one a line."""
    return click.option(
        "--format",
        "output_format",
        type=click.Choice(FORMATS),
        default="auto",
        show_default=True,
        help="auto and human: tables; json: one JSON value; quiet: names only.",
    )(function)


def emit(output_format: str, data: Any, human: Callable[[], str], names: Iterable[str] = ()) -> None:
    """Prints a result to stdout: `data` as JSON, `human()` as text, or `names` alone."""
    if output_format == "json":
        click.echo(json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False))
    elif output_format == "quiet":
        for name in names:
            click.echo(name)
    else:
        click.echo(human())


def note(text: str) -> None:
    """A line for the person, on stderr."""
    click.echo(text, err=True)


def print_error(error: LegionError, args: Sequence[str]) -> None:
    """The error on stderr, as JSON when the command line asked for JSON."""
    if "--format=json" in args or any(pair == ("--format", "json") for pair in itertools.pairwise(args)):
        click.echo(json.dumps(error.to_dict(), ensure_ascii=False), err=True)
    else:
        click.echo(error.render(), err=True)


def number(value: float | None, digits: int = 3) -> str:
    """A number for a table; an en dash where there is none."""
    if value is None:
        return "–"
    if isinstance(value, int) or float(value).is_integer():
        return f"{int(value):,}"
    return f"{value:,.{digits}f}"


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Aligned columns: the first to the left, numbers to the right."""
    lines = [list(headers), *[[str(cell) for cell in row] for row in rows]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headers))]
    is_text = [
        any(not _is_number(line[column]) for line in lines[1:]) or len(lines) == 1 for column in range(len(headers))
    ]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if text else cell.rjust(width)
            for cell, width, text in zip(line, widths, is_text, strict=True)
        ).rstrip()
        for line in lines
    )


def _is_number(cell: str) -> bool:
    return bool(cell) and cell[0] in "0123456789–-+."
