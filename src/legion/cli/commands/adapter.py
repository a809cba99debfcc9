"""`legion adapter`: arithmetic over LoRA folders, Legion's own or anybody's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from legion.cli.output import emit, format_option
from legion.foundation.errors import UsageError
from legion.foundation.settings import Settings

if TYPE_CHECKING:
    from legion.neuro_architecture.data.base_models import BaseModel
    from legion.neuro_architecture.portability.canonical_lora import CanonicalLoRA

__all__ = ["command"]

_FOLDER = click.Path(path_type=Path)


def _shared_options(function: Callable[..., Any]) -> Callable[..., Any]:
    base = click.option("--base", default=None, help="The base the adapters stand on; needed for all but plain LoRAs.")
    out = click.option("-o", "--output", required=True, type=_FOLDER, help="Folder to write; must not exist yet.")
    return base(out(format_option(function)))


@click.group("adapter")
def command() -> None:
    """Add, subtract, average, re-rank, merge and canonicalise LoRA folders.

    A folder is one that PEFT's save_pretrained or `legion train` wrote. What is written has one rank, alpha equal to it
    and the scale inside B, so that PEFT, vLLM and llama.cpp compute the same from it.
    """


@command.command("canonical")
@click.argument("folder", type=_FOLDER)
@click.option("--rank", type=click.IntRange(min=1), default=None, help="Rank of the result; states what is left out.")
@click.option("--max-rank", type=click.IntRange(min=1), default=None, help="Largest rank that the server takes.")
@_shared_options
def canonical(
    folder: Path, rank: int | None, max_rank: int | None, base: str | None, output: Path, output_format: str
) -> None:
    """Write FOLDER as every server reads it; with --base also DoRA, OFT and whatever else PEFT can merge."""
    from legion.neuro_architecture.portability.foreign import canonicalize_folder

    adapter = canonicalize_folder(folder, base=_base(base), rank=rank, max_rank=max_rank)
    _publish(adapter, output, output_format)


@command.command("add")
@click.argument("first", type=_FOLDER)
@click.argument("second", type=_FOLDER)
@_shared_options
def add(first: Path, second: Path, base: str | None, output: Path, output_format: str) -> None:
    """Write the change of FIRST and SECOND together; exact, the ranks add up."""
    from legion.neuro_architecture.portability import algebra

    _publish(algebra.add(*_read([first, second], base)), output, output_format)


@command.command("subtract")
@click.argument("first", type=_FOLDER)
@click.argument("second", type=_FOLDER)
@_shared_options
def subtract(first: Path, second: Path, base: str | None, output: Path, output_format: str) -> None:
    """Write the change of FIRST without that of SECOND; exact, the ranks add up."""
    from legion.neuro_architecture.portability import algebra

    _publish(algebra.subtract(*_read([first, second], base)), output, output_format)


@command.command("average")
@click.argument("folders", type=_FOLDER, nargs=-1, required=True)
@_shared_options
def average(folders: tuple[Path, ...], base: str | None, output: Path, output_format: str) -> None:
    """Write the mean of the changes of FOLDERS; exact, the ranks add up."""
    from legion.neuro_architecture.portability import algebra

    _publish(algebra.average(_read(folders, base)), output, output_format)


@command.command("rerank")
@click.argument("folder", type=_FOLDER)
@click.option("--rank", type=click.IntRange(min=1), required=True, help="Rank of the result.")
@_shared_options
def rerank(folder: Path, rank: int, base: str | None, output: Path, output_format: str) -> None:
    """Write the nearest adapter of another rank, and state what it leaves out (Eckart-Young)."""
    from legion.neuro_architecture.portability import algebra

    _publish(algebra.rerank(_read([folder], base)[0], rank)[0], output, output_format)


@command.command("merge")
@click.argument("folder", type=_FOLDER)
@click.option("--base", required=True, help="The base the adapter stands on.")
@click.option("-o", "--output", required=True, type=_FOLDER, help="Folder to write; must not exist yet.")
@format_option
def merge(folder: Path, base: str, output: Path, output_format: str) -> None:
    """Write the base with the adapter merged into its weights, as a stock checkpoint."""
    from legion.foundation.files import publish_folder
    from legion.neuro_architecture.portability.checkpoint import write_checkpoint
    from legion.neuro_architecture.portability.foreign import merge_folder

    _refuse_existing(output)
    model = _base(base)
    checkpoint = merge_folder(folder, model)
    publish_folder(output, lambda fresh: write_checkpoint(checkpoint, fresh, tokenizer_from=model.folder))
    data = {"folder": str(output), "architecture": checkpoint.architecture, "base": model.reference.name}
    emit(output_format, data, lambda: f"wrote {output}: {checkpoint.architecture}, {folder} merged in", [str(output)])


def _base(name: str | None) -> Any:
    from legion.neuro_architecture.data.base_models import resolve_base

    return None if name is None else resolve_base(name, Settings.load())


def _read(folders: Sequence[Path], base_name: str | None) -> list[CanonicalLoRA]:
    from legion.neuro_architecture.portability.foreign import canonicalize_folder

    base: BaseModel | None = _base(base_name)
    return [canonicalize_folder(folder, base=base) for folder in folders]


def _refuse_existing(output: Path) -> None:
    if output.exists():
        raise UsageError(f"{output} exists already", hint="name a folder that is not there yet")


def _publish(adapter: CanonicalLoRA, output: Path, output_format: str) -> None:
    from legion.neuro_architecture.portability.lora_folder import write_canonical_lora

    _refuse_existing(output)
    digest = write_canonical_lora(adapter, output)
    residual = adapter.residual
    data = {
        "folder": str(output),
        "rank": adapter.rank,
        "num_layers": len(adapter.layers),
        "base": adapter.base_name,
        "relative_error": residual.relative,
        "absolute_error": residual.absolute,
        "layer_errors": {path: one.to_dict() for path, one in adapter.residuals.items()},
        "weights_digest": digest,
    }
    emit(output_format, data, lambda: _describe(adapter, output), [str(output)])


def _describe(adapter: CanonicalLoRA, output: Path) -> str:
    lines = [f"wrote {output}: rank {adapter.rank} on {len(adapter.layers)} layers of {adapter.base_name or 'a base'}"]
    if adapter.residuals:
        worst, residual = max(adapter.residuals.items(), key=lambda item: item[1].relative)
        lines.append(f"  left out {adapter.residual.relative:.2e} of the change (Frobenius norm, all layers)")
        lines.append(f"  at most  {residual.relative:.2e} of a layer's: {worst}")
    else:
        lines.append("  exact")
    return "\n".join(lines)
