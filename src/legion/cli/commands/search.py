"""`legion search`: studies that propose, train at rungs, stop with evidence and keep a front."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from legion.cli.output import emit, format_option, note, number, table
from legion.cli.progress import TerminalProgress, duration
from legion.cli.study_text import describe_study, volume_of
from legion.foundation.errors import RefusedError
from legion.foundation.settings import Settings

if TYPE_CHECKING:
    from legion.neuro_architecture.study import StudyState, StudyStore

__all__ = ["command"]

_RECIPE: Final = """# A study. Every key may be left out; these are the defaults.
task = "classification"
# data = "data/classification"    # folder, relative to the workspace
# base = "minilm-l6"
seed = 0
objectives = ["accuracy", "latency_ms", "size_bytes"]
constraints = []                  # "latency_ms<=12", "target=vllm"
# weights = { accuracy = 0.6, latency_ms = 0.2, size_bytes = 0.2 }
warm_start = false

[space]
strategies = ["LoRA", "Adapter", "MoE"]
# [space.LoRA]                    # values that stay: legion space show
# rank = [4, 8, 16]
# [space."*"]
# layers = ["all", "3-5"]

[generator]
name = "tpe"
batch = 12

[scheduler]
kind = "asha"                     # or "halving"
steps = 150
rungs = [15, 60]
factor = 3.0
exploratory = 0.1
delta = 0.1

[training]
validation_examples = 256

[final]
top = 3
seeds = 3
# steps = 800                     # the schedule's own by default
share = 0.4                       # of a budget in time or operations
"""


@click.group("search")
def command() -> None:
    """Studies: a recipe, a budget, a front."""


@command.command("recipe")
def recipe() -> None:
    """Print a recipe with every key and its default."""
    click.echo(_RECIPE, nl=False)


@command.command("generators")
@format_option
def generators(output_format: str) -> None:
    """List who can propose."""
    from legion.neuro_architecture.generator import GENERATORS

    rows = [[name, meaning] for name, meaning in GENERATORS.items()]
    emit(output_format, dict(GENERATORS), lambda: table(["generator", ""], rows), GENERATORS)


@command.command("run")
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--budget", required=True, help="20m, 1.5h, 40trials or 2e15flops.")
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Processes that train.")
@format_option
def run(recipe: Path, budget: str, workers: int, output_format: str) -> None:
    """Search until the budget is spent, then train the front anew and measure it on the test split.

    The same line goes on with a study that was killed, interrupted or stopped.
    """
    from legion.neuro_architecture.study import Search, parse_budget, read_recipe

    settings = Settings.load()
    asked = parse_budget(budget)
    search = Search(settings, read_recipe(recipe), progress=TerminalProgress(), say=note, workers=workers)
    _finish(search.run(asked), settings, output_format)


@command.command("resume")
@click.argument("name")
@click.option("--budget", required=True, help="Of the whole study, what was spent before included.")
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Processes that train.")
@format_option
def resume(name: str, budget: str, workers: int, output_format: str) -> None:
    """Go on with a study by its name, with a larger budget if you like."""
    from legion.neuro_architecture.study import Search, StudyStore, parse_budget

    settings = Settings.load()
    asked = parse_budget(budget)
    state = _read(StudyStore.of(settings, name))
    search = Search(settings, state.recipe, progress=TerminalProgress(), say=note, workers=workers)
    _finish(search.run(asked), settings, output_format)


@command.command("stop")
@click.argument("name")
def stop(name: str) -> None:
    """Ask a running study to end at its next decision; nothing is lost."""
    from legion.foundation.files import write_text
    from legion.neuro_architecture.study import StudyStore

    store = StudyStore.of(Settings.load(), name)
    write_text(store.stop_file, "")
    note(f"{name} ends at its next decision; go on: legion search resume {name} --budget 40trials")


@command.command("ls")
@format_option
def ls(output_format: str) -> None:
    """List studies."""
    from legion.neuro_architecture.study import StudyStore

    settings = Settings.load()
    rows = []
    for name in StudyStore.names(settings):
        state = _read(StudyStore.of(settings, name))
        rows.append([name, state.phase, str(len(state.trials)), duration(state.spent_s), volume_of(state)])
    data = [dict(zip(("name", "phase", "trials", "spent", "hypervolume"), row, strict=True)) for row in rows]
    emit(
        output_format, data, lambda: table(["study", "", "trials", "spent", "hypervolume"], rows), [r[0] for r in rows]
    )


@command.command("show")
@click.argument("name")
@click.option("--page", type=click.Path(path_type=Path), default=None, help="Write all pictures as one HTML page.")
@click.option("--pictures", type=click.Path(path_type=Path), default=None, help="Write Vega-Lite and PNG files here.")
@format_option
def show(name: str, page: Path | None, pictures: Path | None, output_format: str) -> None:
    """Print a study's front, rungs and how far its proxies are to be trusted."""
    from legion.neuro_architecture.study import StudyStore, study_record

    settings = Settings.load()
    store = StudyStore.of(settings, name)
    state = _read(store)
    record = study_record(state, replace(settings, workspace=store.folder))
    if page is not None:
        from legion.foundation.files import write_text
        from legion.neuro_architecture.analysis.study import study_page

        write_text(page, study_page(record))
        note(f"wrote {page}")
    if pictures is not None:
        _write_pictures(record, pictures)
    emit(output_format, record, lambda: describe_study(state), record["front"])


@command.command("watch")
@click.argument("name")
@click.option("--every", type=click.FloatRange(min=0.1), default=5.0, show_default=True, help="Seconds between looks.")
def watch(name: str, every: float) -> None:
    """Follow a study until it ends."""
    from legion.neuro_architecture.study import StudyStore

    store = StudyStore.of(Settings.load(), name)
    shown = ""
    while True:
        state = _read(store)
        line = (
            f"{state.phase}: {len(state.trials)} trials in {len(state.generations)} generations, "
            f"{duration(state.spent_s)}, hypervolume {volume_of(state)}"
        )
        if line != shown:
            click.echo(line)
            shown = line
        if state.phase in {"finished", "stopped"}:
            return
        time.sleep(every)


@command.command("compare")
@click.argument("names", nargs=-1, required=True)
@format_option
def compare(names: tuple[str, ...], output_format: str) -> None:
    """Print studies side by side: their fronts under one reference point, and what they cost."""
    from legion.neuro_architecture.study import StudyStore
    from legion.neuro_architecture.study.comparison import compare_studies

    settings = Settings.load()
    states = {name: _read(StudyStore.of(settings, name)) for name in names}
    found = compare_studies(states)
    rows = [
        [
            row["name"],
            str(row["trials"]),
            duration(row["spent_s"]),
            number(row["hypervolume"], 4),
            str(row["front"]),
            *(number(row["best"].get(name), 4) for name in found["objectives"]),
        ]
        for row in found["studies"]
    ]
    head = ["study", "trials", "spent", "hypervolume", "front", *(f"best {name}" for name in found["objectives"])]
    emit(output_format, found, lambda: table(head, rows), names)


def _finish(state: StudyState, settings: Settings, output_format: str) -> None:
    from legion.neuro_architecture.study import StudyStore, study_record

    store = StudyStore.of(settings, state.recipe.name)
    record = study_record(state, replace(settings, workspace=store.folder))
    emit(output_format, record, lambda: describe_study(state), record["front"])
    if output_format in {"auto", "human"}:
        note(f"next: legion search show {state.recipe.name} --page study.html")
        if state.final:
            run_folder = store.folder / state.final[0].runs[0]
            shown = run_folder.relative_to(settings.workspace)
            note(f"ship it: legion evaluate --runs {shown}; legion integrate --top 1")
    if not record["front"] and state.phase == "finished":
        raise RefusedError("the front is empty", cause="\n".join(state.notes) or None)


def _read(store: StudyStore) -> StudyState:
    state = store.read()
    if state is None:
        raise RefusedError(f"study {store.name} has not begun", hint="legion search run RECIPE --budget 20m")
    return state


def _write_pictures(record: dict[str, Any], folder: Path) -> None:
    from legion.foundation.files import write_bytes, write_json
    from legion.neuro_architecture.analysis.study import draw_png, study_pictures

    for name, spec in study_pictures(record).items():
        write_json(folder / f"{name}.vl.json", spec)
        write_bytes(folder / f"{name}.png", draw_png(spec))
    note(f"wrote {folder}")
