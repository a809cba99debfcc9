"""Recipes and budgets: what is understood, and what is refused with the reason."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from legion.cli.commands.search import command
from legion.foundation.errors import ConfigError, InvalidValueError, UnknownNameError, UsageError
from legion.neuro_architecture.study import StudyRecipe, parse_budget, read_recipe
from legion.neuro_architecture.study.criteria import Criteria


def written(tmp_path, text, name="Movies.toml"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_an_empty_file_is_a_recipe_named_after_it(tmp_path):
    assert read_recipe(written(tmp_path, "")) == StudyRecipe(name="movies")


def test_the_printed_recipe_is_the_default_one(tmp_path):
    text = CliRunner().invoke(command, ["recipe"]).output
    assert read_recipe(written(tmp_path, text, "x.toml")) == StudyRecipe(name="x")


def test_tables_below_space_narrow_it(tmp_path):
    found = read_recipe(
        written(tmp_path, '[space]\nstrategies = ["LoRA"]\n[space.LoRA]\nrank = [4, 8]\nlayers = "all"\n')
    )
    assert found.space.narrow == {"LoRA": {"rank": (4, 8), "layers": ("all",)}}


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("objective = ['accuracy']", InvalidValueError, "objective"),
        ("[scheduler]\nrungs = [60, 15]", InvalidValueError, "rungs rise"),
        ("[scheduler]\nrungs = [150]\nsteps = 150", InvalidValueError, "rungs rise"),
        ("[scheduler]\nfactor = 1.0", InvalidValueError, "factor"),
        ("weights = { latency_ms = -1.0 }", InvalidValueError, "weights"),
        ("weights = { robustness = 1.0 }", InvalidValueError, "robustness is none"),
        ("name = '../out'", InvalidValueError, "name"),
        ("[final]\nseeds = 0", InvalidValueError, "seeds"),
        ("[space]\nnarrow = {}", InvalidValueError, "narrow"),
        ("seed = ", ConfigError, "cannot read"),
    ],
)
def test_bad_recipes_say_what_is_wrong(tmp_path, text, error, said):
    with pytest.raises(error) as caught:
        read_recipe(written(tmp_path, text))
    assert said in f"{caught.value.message} {caught.value.cause}"


def test_all_mistakes_are_said_at_once(tmp_path):
    with pytest.raises(InvalidValueError) as caught:
        read_recipe(written(tmp_path, "seed = 'x'\nobjectives = 3\n"))
    assert "seed" in caught.value.cause
    assert "objectives" in caught.value.cause


def test_a_missing_recipe_says_how_to_write_one(tmp_path):
    with pytest.raises(UsageError) as caught:
        read_recipe(tmp_path / "none.toml")
    assert "legion search recipe" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [
        ("20m", 1200.0, "seconds"),
        ("1.5h", 5400.0, "seconds"),
        ("90s", 90.0, "seconds"),
        ("40trials", 40.0, "trials"),
        ("1 trial", 1.0, "trials"),
        ("2e15flops", 2e15, "flops"),
    ],
)
def test_budgets_are_read(text, amount, unit):
    found = parse_budget(text)
    assert (found.amount, found.unit) == (amount, unit)


@pytest.mark.parametrize("text", ["", "20", "m", "-3m", "0trials", "2.5trials", "20 apples", "1e999flops", "1..5h"])
def test_other_budgets_are_refused_with_examples(text):
    with pytest.raises(InvalidValueError):
        parse_budget(text)


def test_a_part_of_time_is_kept_for_the_end_and_none_of_the_trials():
    assert parse_budget("100s").left(seconds=50.0, trials=3, flops=0.0, reserve=0.4) == pytest.approx(10.0)
    assert parse_budget("10trials").left(seconds=50.0, trials=3, flops=0.0, reserve=0.4) == 7.0


@pytest.mark.parametrize(("objectives", "constraints"), [(["forgetting"], []), ([], ["forgetting<=0.1"])])
def test_forgetting_is_measured_where_a_language_model_is_adapted_and_refused_elsewhere(objectives, constraints):
    criteria = Criteria.of(["accuracy", *objectives], constraints, {})
    criteria.refuse_unmeasured("summarization")
    assert criteria.is_evaluated
    with pytest.raises(InvalidValueError, match="forgetting cannot be measured on a classification task") as caught:
        criteria.refuse_unmeasured("classification")
    assert "trained anew" in caught.value.cause
    assert "summarization" in caught.value.hint


def test_criteria_know_what_they_can_measure():
    with pytest.raises(UnknownNameError):
        Criteria.of(["acuracy"], [], {})
    with pytest.raises(UnknownNameError):
        Criteria.of(["accuracy"], ["target=vlm"], {})
    with pytest.raises(InvalidValueError, match="a study has one"):
        Criteria.of(["accuracy"], ["target=vllm", "target=ollama"], {})
    with pytest.raises(InvalidValueError, match="all zero"):
        Criteria.of(["accuracy"], [], {"accuracy": 0.0})


def test_weights_order_and_never_replace_the_front():
    rows = [{"accuracy": 0.9, "latency_ms": 20.0}, {"accuracy": 0.8, "latency_ms": 10.0}]
    exact = Criteria.of(["accuracy", "latency_ms"], [], {"accuracy": 1.0}).preference(rows)
    quick = Criteria.of(["accuracy", "latency_ms"], [], {"latency_ms": 1.0}).preference(rows)
    assert exact[0] > exact[1]
    assert quick[1] > quick[0]


def test_a_target_is_a_constraint_like_the_others():
    found = Criteria.of(["accuracy"], ["target=hf", "latency_ms<=12"], {})
    assert found.target == "transformers"
    assert [str(each) for each in found.constraints] == ["latency_ms<=12"]
