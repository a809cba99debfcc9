"""`legion engines`: vLLM, llama.cpp and the adapters library, each in an environment of its own."""

from __future__ import annotations

from typing import Any

import click

from legion.cli.output import emit, format_option, table
from legion.cli.progress import TerminalProgress
from legion.foundation.settings import Settings

__all__ = ["command"]


@click.group("engines")
def command() -> None:
    """Install and list the serving engines that certificates are made with (cached in LEGION_HOME by version).

    An engine of your own is used instead where LEGION_LLAMA_SERVER or LEGION_VLLM_PYTHON names it.
    """


@command.command("list")
@format_option
def show(output_format: str) -> None:
    """List the engines: version, whether they are installed, where, and what they are for."""
    _show(_status(Settings.load()), output_format)


@command.command("install")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@format_option
def install(names: tuple[str, ...], output_format: str) -> None:
    """Install the named engines where they are not yet: vllm takes 5 minutes, llama.cpp 15, adapters 2.

    pip's own configuration says which index is asked. Where that serves torch with CUDA, name an index of CPU wheels
    in PIP_EXTRA_INDEX_URL to save gigabytes.
    """
    from legion.neuro_architecture.portability.engines.environments import install_engine

    settings = Settings.load()
    for name in _known(names):
        install_engine(name, settings, TerminalProgress())
    _show([row for row in _status(settings) if row["name"] in names], output_format)


@command.command("remove")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@format_option
def remove(names: tuple[str, ...], output_format: str) -> None:
    """Remove the named engines from the cache, with what was compiled for them."""
    from legion.neuro_architecture.portability.engines.environments import remove_engine

    settings = Settings.load()
    removed = [name for name in _known(names) if remove_engine(name, settings)]
    emit(
        output_format,
        {"removed": removed},
        lambda: "removed " + ", ".join(removed) if removed else "none of them was installed",
        removed,
    )


def _known(names: tuple[str, ...]) -> tuple[str, ...]:
    """The names, all of them checked before any work begins."""
    from legion.foundation.errors import UnknownNameError
    from legion.neuro_architecture.portability.engines.recipes import ENGINES

    for name in names:
        if name not in ENGINES:
            raise UnknownNameError.of("engine", name, ENGINES)
    return names


def _status(settings: Settings) -> list[dict[str, Any]]:
    from legion.neuro_architecture.portability.engines.environments import find_engine
    from legion.neuro_architecture.portability.engines.recipes import ENGINES

    rows = []
    for name, recipe in ENGINES.items():
        found = find_engine(name, settings)
        rows.append(
            {
                "name": name,
                "state": "missing" if found is None else "installed" if found.folder else "yours",
                "package": found.package if found else recipe.package,
                "version": found.version if found else recipe.version,
                "path": str(found.binary or found.python) if found else None,
                "about": recipe.about,
                "minutes": recipe.minutes,
                "size_gib": recipe.size_gib,
            }
        )
    return rows


def _show(rows: list[dict[str, Any]], output_format: str) -> None:
    headers = ["name", "state", "package", "version", "about"]
    emit(
        output_format,
        rows,
        lambda: table(headers, [[str(row[header]) for header in headers] for row in rows]),
        [row["name"] for row in rows],
    )
