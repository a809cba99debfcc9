"""The command tree, and the one edge where errors become text and exit codes."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from typing import Any, Final, NoReturn

import click

from legion import __version__
from legion.cli.output import print_error
from legion.foundation.errors import LegionError, UsageError

__all__ = ["cli", "main"]

_COMMANDS: Final = {
    "quickstart": "the whole loop on the embedded task: propose, train, measure, register, integrate, answer, undo",
    "generate": "propose adapter architectures for a task",
    "train": "train one proposal as a proxy",
    "space": "print what a study may propose, and how much of it there is",
    "search": "run, watch, resume, stop, show and compare studies",
    "evaluate": "measure trained proposals on every objective and rank them",
    "integrate": "register the winners and put the best one into its slot, behind the risk gate",
    "replay": "train a registered snapshot anew and say whether its metrics agree",
    "ask": "answer a text through a slot",
    "slots": "list the slots of LEGION Core",
    "patch": "list, show, apply and revert patches",
    "proposals": "list and show proposals",
    "registry": "list, show and verify registered architectures",
    "data": "prepare and check data sets",
    "assets": "fetch and list the embedded base models and data",
    "engines": "install and list the serving engines that certificates are made with",
    "baseline": "write what stands now: slots, snapshots, metrics, digests, commit",
    "portability": "print what each serving engine can take of each strategy, before training",
    "export": "fold a trained adapter into a stock artefact, prove it, and say how to serve it",
    "certify": "prove an exported artefact anew with its engine",
    "adapter": "add, subtract, average, re-rank, merge and canonicalise LoRA folders",
    "doctor": "say what this machine can do",
}
_INTERRUPTED: Final = 130


class _LazyTree(click.Group):
    """Imports a command's module when that command is asked for, so that `--help` stays fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        command = importlib.import_module(f"legion.cli.commands.{cmd_name}").command
        if not isinstance(command, click.Command):
            raise TypeError(f"legion.cli.commands.{cmd_name} defines no command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = click.utils.make_str(args[0])
        if name not in _COMMANDS and not name.startswith("-"):
            from legion.foundation.errors import UnknownNameError

            raise UnknownNameError.of("command", name, _COMMANDS, hint="see all: legion --help")
        return super().resolve_command(ctx, args)


@click.group(cls=_LazyTree, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="legion")
def cli() -> None:
    """Propose adapter architectures, really train them, measure every objective, ship the winner.

    Results go to stdout, progress and notes to stderr. Exit codes: 0 done, 1 the answer is no, 2 asked wrongly,
    3 the world said no, 4 our bug, 130 interrupted.
    """


def main(arguments: Sequence[str] | None = None, *, prog_name: str = "legion") -> NoReturn:
    """Runs the command line and exits with its code."""
    args = list(sys.argv[1:] if arguments is None else arguments)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(_run(args, prog_name))


def _terminate(_signal: int, _frame: Any) -> None:
    raise KeyboardInterrupt


def _run(args: list[str], prog_name: str) -> int:
    try:
        result = cli.main(args=args, prog_name=prog_name, standalone_mode=False)
    except LegionError as error:
        print_error(error, args)
        return error.exit_code
    except click.ClickException as error:
        print_error(_from_click(error, prog_name), args)
        return UsageError.exit_code
    except (KeyboardInterrupt, click.Abort):
        shown = " ".join(_quote(word) for word in [prog_name, *args])
        click.echo(f"\ninterrupted; nothing acknowledged is lost. Continue: {shown}", err=True)
        return _INTERRUPTED
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123 - lives until the process ends
        return 0
    except Exception as error:  # noqa: BLE001 - the process edge: a bug of ours becomes one readable error, never a traceback
        if os.environ.get("LEGION_DEBUG"):
            traceback.print_exc()
        print_error(
            LegionError(
                f"unexpected {type(error).__name__}: {error}",
                cause="this is a bug in legion",
                hint="run again with LEGION_DEBUG=1 and report what it prints",
            ),
            args,
        )
        return LegionError.exit_code
    return result if isinstance(result, int) else 0


def _from_click(error: click.ClickException, prog_name: str) -> UsageError:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else prog_name
    return UsageError(error.format_message(), hint=f"see {path} --help")


def _quote(word: str) -> str:
    import shlex

    return shlex.quote(word)
