"""`legion registry`: what is registered, and whether it is still what was written."""

from __future__ import annotations

import json

import click

from legion.cli.output import emit, format_option, table
from legion.foundation.canonical import short
from legion.foundation.errors import IntegrityError, UnknownNameError
from legion.foundation.settings import Settings

__all__ = ["command"]


@click.group("registry")
def command() -> None:
    """List, show and verify registered architectures (artifacts/architecture_registry/)."""


@command.command("ls")
@click.option("--tag", default=None, help="Only snapshots with this tag.")
@format_option
def ls(tag: str | None, output_format: str) -> None:
    """List snapshots, oldest first."""
    from legion.neuro_architecture.registry import ArchitectureRegistry

    registry = ArchitectureRegistry.of(Settings.load())
    snapshots = registry.get_by_tag(tag) if tag else registry.list_all()
    rows = [
        [short(item.digest), item.semantic_hash, str(item.revision), item.version, ",".join(item.tags), item.created_at]
        for item in snapshots
    ]
    emit(
        output_format,
        [item.to_dict() | {"digest": item.digest} for item in snapshots],
        lambda: table(["digest", "semantic hash", "rev", "version", "tags", "registered"], rows) if rows else "empty",
        [item.digest for item in snapshots],
    )


@command.command("show")
@click.argument("key")
@format_option
def show(key: str, output_format: str) -> None:
    """Show one snapshot by semantic hash (16 hex) or digest."""
    from legion.neuro_architecture.registry import ArchitectureRegistry

    registry = ArchitectureRegistry.of(Settings.load())
    snapshot = registry.get(key)
    if snapshot is None:
        known = [item.semantic_hash for item in registry.list_all()]
        raise UnknownNameError.of("snapshot", key, known, hint="list them: legion registry ls")
    plain = snapshot.to_dict() | {"digest": snapshot.digest}
    emit(output_format, plain, lambda: json.dumps(plain, indent=2, ensure_ascii=False), [snapshot.digest])


@command.command("verify")
@format_option
def verify(output_format: str) -> None:
    """Read every record and blob again and say whether each is what was written."""
    from legion.neuro_architecture.registry import ArchitectureRegistry

    report = ArchitectureRegistry.of(Settings.load()).verify()
    emit(
        output_format,
        report.to_dict(),
        lambda: "\n".join(
            [f"{report.num_records} records and {report.num_blobs} blobs read, {len(report.problems)} problems"]
            + [f"  {problem}" for problem in report.problems]
        ),
        report.problems,
    )
    if report.problems:
        raise IntegrityError(f"{len(report.problems)} problems in the registry", cause="\n".join(report.problems))
