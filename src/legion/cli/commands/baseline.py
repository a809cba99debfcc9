"""`legion baseline`: what stands now, as one JSON file to compare with later."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from legion import __version__
from legion.cli.output import emit, format_option
from legion.foundation.settings import Settings

if TYPE_CHECKING:
    from legion.neuro_architecture.spec.snapshot import ArchitectureSnapshot

__all__ = ["command"]


@click.command("baseline")
@click.option("--out", default="artifacts/baseline.json", show_default=True, help="Where to write it.")
@format_option
def command(out: str, output_format: str) -> None:
    """Write what stands now: slots, snapshots, metrics, digests, commit."""
    from legion.foundation.files import write_json

    settings = Settings.load()
    content = _content(settings)
    path = settings.workspace / Path(out)
    write_json(path, content)

    def human() -> str:
        commit = content["code"]["commit"] or content["code"]["reason"]
        counts = f"{len(content['slots'])} slots, {len(content['snapshots'])} snapshots"
        return f"wrote {path}: {counts}, {len(content['data'])} data sets, commit {commit[:40]}"

    emit(output_format, content, human, [str(path)])


def _content(settings: Settings) -> dict[str, Any]:
    from legion.foundation.clock import SystemClock, rfc3339
    from legion.foundation.machine import describe_machine
    from legion.foundation.revision import describe_revision
    from legion.neuro_architecture.records import ProposalStore, SlotStore
    from legion.neuro_architecture.registry import ArchitectureRegistry

    manifest = SlotStore(settings).read()
    return {
        "created_at": rfc3339(SystemClock().now()),
        "legion_version": __version__,
        "code": describe_revision(settings.workspace),
        "machine": describe_machine(),
        "slots": {name: slot.to_dict() for name, slot in manifest.slots.items()},
        "slots_digest": manifest.digest,
        "snapshots": [_snapshot(item) for item in ArchitectureRegistry.of(settings).list_all()],
        "evaluation": _evaluation(settings),
        "proposals": ProposalStore(settings).ids(),
        "data": _data_digests(settings),
    }


def _snapshot(item: ArchitectureSnapshot) -> dict[str, Any]:
    return {
        "digest": item.digest,
        "semantic_hash": item.semantic_hash,
        "revision": item.revision,
        "version": item.version,
        "tags": list(item.tags),
        "metrics": item.metrics,
    }


def _evaluation(settings: Settings) -> dict[str, Any] | None:
    """Scores of the last evaluation with the digest of its file, or None where nothing was evaluated."""
    from legion.foundation.canonical import digest_file
    from legion.foundation.files import read_json

    path = settings.workspace / "artifacts" / "evals" / "evaluation_summary.json"
    if not path.is_file():
        return None
    summary = read_json(path)
    kept = ("top_3", "front", "weights_used", "total_evaluated", "baseline", "data_digest", "created_at")
    return {"digest": digest_file(path)} | {key: summary.get(key) for key in kept}


def _data_digests(settings: Settings) -> dict[str, str]:
    """Digest of each file that a data set consists of."""
    from legion.foundation.canonical import digest_file

    files = sorted(path for path in (settings.workspace / "data").glob("*/*") if path.is_file())
    return {str(path.relative_to(settings.workspace)): digest_file(path) for path in files}
