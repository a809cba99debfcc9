"""`legion export`: a trained adapter as a stock artefact, with its certificate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from legion.cli.output import emit, format_option, note
from legion.foundation.settings import Settings

if TYPE_CHECKING:
    from legion.neuro_architecture.portability.export import Exported
    from legion.neuro_architecture.portability.values import Form

__all__ = ["command"]

_TARGETS = ("vllm", "llama.cpp", "ollama", "hf", "peft")
_FORMS: Final[dict[str, Form]] = {
    "canonical-lora": "canonical-lora",
    "merged": "merged",
    "peft-adapter": "peft-adapter",
}


@click.command("export")
@click.argument("snapshot")
@click.option("--to", "target", required=True, type=click.Choice(_TARGETS), help="Who is to serve it.")
@click.option("-o", "--output", "out", type=click.Path(path_type=Path), default=None, help="The new folder.")
@click.option("--base", default=None, help="The base model, where it is kept under another name than the record's.")
@click.option("--name", "alias", default=None, help="What the server calls it.")
@click.option(
    "--form", type=click.Choice(list(_FORMS)), default=None, help="Insist on a form of a weight-changing adapter."
)
@click.option(
    "--max-lora-rank", type=int, default=512, show_default=True, help="The largest rank that the server takes."
)
@click.option("--dry-run", is_flag=True, help="Say what would become of it and stop.")
@format_option
def command(
    snapshot: str,
    target: str,
    out: Path | None,
    base: str | None,
    alias: str | None,
    form: str | None,
    max_lora_rank: int,
    dry_run: bool,
    output_format: str,
) -> None:
    """Fold SNAPSHOT into a stock artefact that TARGET serves, prove that it computes the same, and say how to serve it.

    SNAPSHOT is a digest or semantic hash in the registry (`legion registry ls`), or the folder of a run.
    """
    from legion.cli.export_source import find_source
    from legion.cli.progress import TerminalProgress
    from legion.foundation.errors import NotPortableError, UsageError
    from legion.neuro_architecture.portability import check_target
    from legion.neuro_architecture.portability.engines import serving_program
    from legion.neuro_architecture.portability.export import export_adapter, plan_folder

    settings = Settings.load()
    source = find_source(snapshot, settings, base=base, alias=alias)
    wanted, insisted = check_target(target), None if form is None else _FORMS[form]
    if dry_run:
        planned = plan_folder(
            source.folder, source.base, wanted, kind=source.kind, form=insisted, max_lora_rank=max_lora_rank
        )
        emit(output_format, planned.to_dict(), lambda: f"{planned.verdict}: {planned.form or planned.reason}")
        if not planned.is_possible:
            raise NotPortableError(f"{wanted} cannot serve this adapter", cause=planned.reason, hint=planned.remedy)
        return
    if out is None:
        raise UsageError("no folder to export to", hint=f"name one: legion export {snapshot} --to {target} -o DIR")
    exported = export_adapter(
        source.folder,
        source.base,
        wanted,
        settings.workspace / out,
        settings=settings,
        kind=source.kind,
        origin=source.origin,
        labels=source.labels,
        form=insisted,
        max_lora_rank=max_lora_rank,
        progress=TerminalProgress(),
    )
    program = serving_program(wanted, settings)
    emit(output_format, _plain(exported), lambda: _text(exported, program), [str(exported.folder)])
    if exported.certificate is None:
        note(f"NOT CERTIFIED: {exported.reason}")
    elif exported.reason:
        note(f"note: {exported.reason}")


def _plain(exported: Exported) -> dict[str, object]:
    return {
        "folder": str(exported.folder),
        "plan": exported.plan.to_dict(),
        "record": exported.record.to_dict(),
        "certificate": exported.certificate.to_dict() if exported.certificate else None,
        "reason": exported.reason,
        "serve": list(exported.serving),
    }


def _text(exported: Exported, program: tuple[str, Path] | None) -> str:
    planned, certificate = exported.plan, exported.certificate
    lines = [f"{exported.folder}: {planned.form} for {planned.target}, {planned.verdict}: {planned.reason}"]
    if exported.record.weight_errors:
        worst = max(exported.record.weight_errors.items(), key=lambda item: item[1])
        lines.append(f"  largest relative error of a weight: {worst[1]:.3g} ({worst[0]})")
    if certificate is not None:
        effect = "" if certificate.effect is None else f"; the adapter itself moves them by {certificate.effect:.2g}"
        lines.append(
            f"  {certificate.engine}: {certificate.verdict}, {certificate.quantity} within "
            f"{certificate.largest_difference:.1e} on {certificate.num_questions} questions "
            f"(tolerance {certificate.tolerance:.1e}){effect}"
        )
    if certificate is not None and not certificate.is_telling:
        lines.append("  the adapter moves them so little that this proof says little: train it longer")
    lines += ["  serve it:", *(f"    {line}" for line in exported.serving)]
    if program is not None:
        lines.append(f"  here {program[0]} is {program[1]}")
    if planned.target == "vllm":
        lines.append("  on a processor, say first how many GiB its cache may take: export VLLM_CPU_KVCACHE_SPACE=1")
    return "\n".join(lines)
