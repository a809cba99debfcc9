"""`legion search` and `legion space` as they are typed."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from legion.cli.app import cli
from legion.foundation.errors import InvalidValueError, RefusedError, UnknownNameError

RECIPE = """
task = "tiny"
data = "data/tiny"
[space]
strategies = ["LoRA", "Adapter"]
[generator]
batch = 3
[scheduler]
steps = 6
rungs = [2]
[training]
validation_examples = 8
[final]
top = 1
seeds = 1
"""


@pytest.fixture
def typed(settings, tiny_folders, classification_data, monkeypatch):
    """Runs a command line in a workspace with a recipe and data; errors are raised."""
    monkeypatch.setenv("LEGION_BASE", str(tiny_folders["bert"]))
    monkeypatch.chdir(settings.workspace)
    (settings.workspace / "small.toml").write_text(RECIPE, encoding="utf-8")

    def run(*words):
        result = CliRunner().invoke(cli, words, catch_exceptions=False, standalone_mode=False)
        return result.output

    return run


def test_a_study_is_run_shown_drawn_compared_and_listed(typed, settings):
    shown = typed("search", "run", "small.toml", "--budget", "6trials")
    assert "study small: finished, 6 trials" in shown
    assert "Trained anew with 1 seed, on the test split" in shown
    again = typed("search", "show", "small", "--page", "page.html", "--pictures", "pictures")
    assert "How far the cheap looks told the end" in again
    assert (settings.workspace / "page.html").read_text().lower().startswith("<!doctype html>")
    drawn = {path.name for path in (settings.workspace / "pictures").iterdir()}
    assert {"front.png", "front.vl.json", "rungs.png"} <= drawn
    record = json.loads(typed("search", "show", "small", "--format", "json"))
    assert record["state"] == "finished"
    assert typed("search", "show", "small", "--format", "quiet").split() == record["front"]
    assert "finished: 6 trials in 2 generations" in typed("search", "watch", "small", "--every", "0.1")
    assert "small" in typed("search", "compare", "small")
    assert typed("search", "ls", "--format", "quiet").split() == ["small"]


def test_a_study_goes_on_by_its_name_with_a_larger_budget(typed):
    typed("search", "run", "small.toml", "--budget", "3trials")
    assert "6 trials" in typed("search", "resume", "small", "--budget", "6trials")


def test_a_stop_is_left_for_the_study_to_find(typed, settings):
    typed("search", "run", "small.toml", "--budget", "3trials")
    typed("search", "stop", "small")
    assert (settings.workspace / "studies" / "small" / "stop").is_file()


def test_an_empty_front_is_an_answer_of_no(typed, settings):
    (settings.workspace / "strict.toml").write_text('constraints = ["accuracy>=2"]\n' + RECIPE, encoding="utf-8")
    with pytest.raises(RefusedError, match="the front is empty"):
        typed("search", "run", "strict.toml", "--budget", "3trials")


def test_names_and_budgets_that_are_wrong_say_what_is_right(typed):
    with pytest.raises(UnknownNameError) as caught:
        typed("search", "show", "smal")
    assert "legion search run" in caught.value.hint
    with pytest.raises(InvalidValueError, match="budget 'soon'"):
        typed("search", "run", "small.toml", "--budget", "soon")


def test_the_space_of_a_recipe_is_shown_with_its_exact_size(typed):
    facts = json.loads(typed("space", "show", "small.toml", "--format", "json"))
    assert facts["size"] == sum(each["size"] for each in facts["strategies"].values())
    assert set(facts["strategies"]) == {"LoRA", "Adapter"}
    shown = typed("space", "show", "small.toml")
    assert f"{facts['size']:,} candidates" in shown
    assert "learning_rate" in shown


def test_a_study_of_combinations_is_narrowed_shown_and_run(typed, settings):
    narrow = "[space.Combined]\nboundary = [1]\nrank = [4, 8]\n"
    recipe = RECIPE.replace('"LoRA", "Adapter"]\n', f'"Combined"]\n{narrow}')
    (settings.workspace / "mixed.toml").write_text('constraints = ["target=hf"]\n' + recipe, encoding="utf-8")
    facts = json.loads(typed("space", "show", "mixed.toml", "--format", "json"))
    axes = {name: axis["values"] for name, axis in facts["strategies"]["Combined"]["axes"].items()}
    assert axes["boundary"] == [1]
    assert axes["rank"] == [4, 8]
    assert axes["placement"] == ["par"]  # the others are no stock model: `target=hf` leaves them out
    shown = typed("search", "run", "mixed.toml", "--budget", "3trials")
    assert "study mixed: finished, 3 trials" in shown
    assert "combined-" in shown


def test_generators_are_listed(typed):
    assert "tpe" in typed("search", "generators", "--format", "quiet").split()
