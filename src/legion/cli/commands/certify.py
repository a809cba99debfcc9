"""`legion certify`: proves an exported artefact anew, on this machine or on one where an engine was missing before."""

from __future__ import annotations

from pathlib import Path

import click

from legion.cli.output import emit, format_option
from legion.foundation.settings import Settings

__all__ = ["command"]


@click.command("certify")
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--base", default=None, help="The base model, where it is kept under another name than the record's.")
@format_option
def command(folder: Path, base: str | None, output_format: str) -> None:
    """Serve the export in FOLDER with its engine and compare the answers with those of the trained form.

    The trained form's answers travel with the export, so neither the adapter nor the registry is needed. Exit code 1
    where the answers differ or a file changed.
    """
    from legion.neuro_architecture.portability.artefact import CERTIFICATE_NAME
    from legion.neuro_architecture.portability.recertify import recertify

    certificate = recertify(folder, Settings.load(), base=base)
    emit(
        output_format,
        certificate.to_dict(),
        lambda: (
            f"{certificate.engine}: {certificate.verdict}, {certificate.quantity} within "
            f"{certificate.largest_difference:.1e} on {certificate.num_questions} questions "
            f"(tolerance {certificate.tolerance:.1e}); written to {folder / CERTIFICATE_NAME}"
        ),
        [certificate.verdict],
    )
