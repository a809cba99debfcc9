"""An earlier study says where to look, as far as it is alike, and no longer than it helps."""

from __future__ import annotations

import pytest
from tests.study.studies import recipe, run, told

from legion.foundation.errors import InvalidValueError
from legion.neuro_architecture.space import learnt_prior, prior_gain
from legion.neuro_architecture.study import Search, warm
from legion.neuro_architecture.study.criteria import Criteria
from legion.neuro_architecture.study.front import end_values, front_of, normalised_hypervolume
from legion.neuro_architecture.study.warm import WARM, data_embedding, find_earlier


@pytest.fixture
def space(ground):
    return Search(ground, recipe()).space.points


def test_a_learnt_prior_favours_what_was_good_and_excludes_nothing(space):
    good = [point for point in space.points() if space.traits(point).get("rank") == 4][:9]
    biased = learnt_prior(space, good, 0.8, starts=good[:3])
    points = list(space.points())
    gains = {point: prior_gain(biased, space, point) for point in points}
    assert min(gains.values()) > 0.0
    assert min(gains[point] for point in good) > 1.0
    assert biased.starts[:3] == tuple(good[:3])
    for branch in biased.branches:
        assert all(sum(axis.weights) == pytest.approx(1.0) for axis in branch.axes)
    assert sum(biased.shares) == pytest.approx(1.0)


def test_no_likeness_changes_nothing(space):
    good = list(space.points())[:3]
    assert learnt_prior(space, good, 0.0) is space
    with pytest.raises(InvalidValueError):
        learnt_prior(space, good, 1.5)


def test_an_embedding_is_the_same_for_the_same_texts_and_of_length_one(ground, classification_data):
    from legion.neuro_architecture.data.base_models import resolve_base
    from legion.neuro_architecture.data.datasets import read_data

    base, data = resolve_base(ground.base, ground), read_data(classification_data)
    found = data_embedding(base, data, max_tokens=32)
    assert found == data_embedding(base, data, max_tokens=32)
    assert sum(value**2 for value in found) == pytest.approx(1.0, abs=1e-3)


def test_a_study_begins_where_the_one_most_like_it_was_good(ground):
    earlier = run(settings=ground, name="earlier")
    later = run("4trials", settings=ground, name="later", warm_start=True, seed=5)
    found = later.problem[WARM]
    assert found["study"] == "earlier"
    assert found["likeness"] == 0.9  # the same data and base, bounded
    best = [tuple(point) for point in found["front"]][: later.recipe.generator.batch // 2]
    first = list(later.trials.values())[: len(best)]
    assert [trial.point for trial in first] == best
    assert {trial.phase for trial in first} == {"completed"}
    assert found["good"][: len(found["front"])] == found["front"]
    assert earlier.problem["embedding"] == later.problem["embedding"]


def test_the_earlier_front_comes_in_the_order_that_dominates_most_soonest(ground):
    earlier = run("18trials", settings=ground, name="earlier")
    search = Search(ground, recipe(name="next"))
    found = find_earlier(ground, "next", earlier.problem, search.space.points)
    by_point = {trial.point: trial for trial in earlier.trials.values()}
    criteria = Criteria.of(earlier.recipe.objectives, earlier.recipe.constraints, earlier.recipe.weights)
    front = [criteria.losses(end_values(by_point[tuple(point)])) for point in found["front"]]
    assert {trial.point for trial in front_of(earlier, criteria)} == {tuple(point) for point in found["front"]}
    alone = [normalised_hypervolume([each], earlier.reference_point) for each in front]
    assert alone[0] == max(alone)
    pairs = [normalised_hypervolume([front[0], each], earlier.reference_point) for each in front[1:]]
    assert not pairs or pairs[0] == max(pairs)


def test_where_nothing_is_alike_the_study_begins_cold(ground):
    cold = run("4trials", settings=ground, name="cold", seed=5)
    alone = run("4trials", settings=ground, name="alone", warm_start=False, seed=5)
    assert told(cold) == told(alone)
    search = Search(ground, recipe(name="next"))
    problem = search._problem() | {"embedding": [-value for value in cold.problem["embedding"]]}
    assert find_earlier(ground, "next", problem, search.space.points) is None


def test_a_warm_start_that_misleads_is_dropped_and_a_resumed_study_knows(ground, monkeypatch):
    run(settings=ground, name="z-earlier")  # of alike studies the last by name is taken
    monkeypatch.setattr(warm, "kendall_tau", lambda *_columns: -1.0)
    changes = {"warm_start": True, "seed": 5, "generator": {"batch": 6}}
    whole = run("18trials", settings=ground, name="whole", **changes)
    assert [each.is_warm_start_dropped for each in whole.generations] == [False, True, False]
    assert any("warm start misled" in line for line in whole.notes)
    run("12trials", settings=ground, name="parts", **changes)
    assert told(run("18trials", settings=ground, name="parts", **changes)) == told(whole)
