"""`legion replay`: trains a registered snapshot anew and says whether its metrics agree."""

from __future__ import annotations

import click

from legion.cli.output import emit, format_option
from legion.cli.progress import TerminalProgress
from legion.foundation.errors import RefusedError, UnknownNameError
from legion.foundation.settings import Settings

__all__ = ["command"]


@click.command("replay")
@click.argument("snapshot")
@click.option("--data", default=None, help="The data folder, where it is not where the snapshot says.")
@click.option("--base", default=None, help="The base model, where it has another name here.")
@click.option("--level", type=float, default=0.95, show_default=True, help="Confidence of the intervals.")
@format_option
def command(snapshot: str, data: str | None, base: str | None, level: float, output_format: str) -> None:
    """Train SNAPSHOT (a digest or semantic hash in the registry) anew from what it says of itself, and compare.

    Base and data must have the recorded digests. Each metric is judged by the interval of its difference; latency and
    memory are shown and decide nothing. Writes artifacts/replays/HASH/replay.json. Exit code 1 where a metric differs,
    or where nothing decides the task's own.
    """
    from legion.neuro_architecture.registry import ArchitectureRegistry
    from legion.neuro_architecture.study.replay import replay

    settings = Settings.load()
    registry = ArchitectureRegistry.of(settings)
    found = registry.get(snapshot)
    if found is None:
        known = [item.semantic_hash for item in registry.list_all()]
        raise UnknownNameError.of("snapshot", snapshot, known, hint="list them: legion registry ls")
    report = replay(found, settings, data=data, base=base, level=level, progress=TerminalProgress())
    emit(output_format, report.to_dict(), lambda: "\n".join(report.lines()), [report.verdict])
    if not report.is_agreeing:
        raise RefusedError(f"the replay {report.verdict}", cause="\n".join(_reasons(report.lines())))


def _reasons(lines: list[str]) -> list[str]:
    """The lines of a report that say what differs."""
    return [line.strip() for line in lines[1:] if ": apart" in line or "DIFFERS" in line]
