"""Floor 7: the `legion` command. Data on stdout, everything else on stderr, never a traceback."""

from legion.cli.app import main

__all__ = ["main"]
