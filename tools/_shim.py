"""Runs the `legion` command from a checkout, with the project's own interpreter where this one has no legion."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path


def run(arguments: Sequence[str], prog_name: str) -> None:
    """Hands the command line over; never returns."""
    try:
        from legion.cli import main
    except ModuleNotFoundError as error:
        python = Path(__file__).resolve().parent.parent / ".venv" / "bin" / "python"
        if error.name != "legion" or not python.exists() or Path(sys.prefix) == python.parent.parent:
            sys.exit(f"error: {error}\n  hint:  set the project up first: make setup")
        os.execv(python, [str(python), *sys.argv])  # noqa: S606 - the project's own interpreter
    main(arguments, prog_name=prog_name)
