import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.trainer.populations import (
    OFTEN,
    RUNGS,
    SAME,
    STEPS,
    Listener,
    largest_difference,
    stopped_at,
    train,
)

from legion.foundation.errors import InvalidValueError
from legion.neuro_architecture.adapters import load_adapter
from legion.neuro_architecture.data.base_models import resolve_base
from legion.neuro_architecture.data.datasets import read_data
from legion.neuro_architecture.spec.architecture import LoRAArchitecture
from legion.neuro_architecture.spec.training import TrialState
from legion.neuro_architecture.trainer import ProxyTrainer, Rungs
from legion.neuro_architecture.trainer.population import Population

losses = st.dictionaries(st.text(min_size=1, max_size=4), st.floats(0, 10), min_size=1, max_size=20)


@given(losses, st.floats(1.01, 10.0), st.integers(1, 5))
def test_survivors_are_the_best_part_in_order(found, factor, least):
    rungs = Rungs(steps=(1,), factor=factor, least=least)
    kept = rungs.survivors(found)
    assert len(kept) == len(set(kept)) == min(len(found), max(least, math.ceil(len(found) / factor)))
    assert kept == sorted(kept, key=lambda name: (found[name], name))
    rest = [found[name] for name in found.keys() - set(kept)]
    assert all(found[kept[-1]] <= loss for loss in rest)


@given(losses)
def test_survivors_depend_on_no_order_of_asking(found):
    rungs = Rungs(steps=(1,))
    assert rungs.survivors(found) == rungs.survivors(dict(reversed(found.items())))


@given(st.integers(1, 50), st.integers(2, 500), st.floats(1.1, 5.0))
def test_geometric_rungs_rise_below_the_steps(first, steps, factor):
    if first >= steps:
        with pytest.raises(InvalidValueError, match="the first rung is at"):
            Rungs.geometric(first, steps, factor=factor)
        return
    rungs = Rungs.geometric(first, steps, factor=factor)
    assert rungs.steps[0] == first
    assert list(rungs.steps) == sorted(set(rungs.steps))
    assert rungs.steps[-1] < steps <= rungs.steps[-1] * factor + 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": (3, 3)},
        {"steps": (5, 2)},
        {"steps": (0, 2)},
        {"steps": (2,), "factor": 1.0},
        {"steps": (2,), "least": 0},
    ],
)
def test_rungs_that_do_not_rise_or_stop_nobody_are_refused(wrong):
    with pytest.raises(InvalidValueError):
        Rungs.parse(wrong, what="rungs")


@pytest.fixture
def losses_of(run_of):
    """Validation losses of a trial by step, as its record has them."""

    def read(proposal):
        _, record = run_of(proposal).read_metrics()
        return {item["step"]: item["loss"] for item in record["validations"]}

    return read


def test_the_worse_half_stops_at_each_rung(crowd, classification_data, losses_of, run_of):
    listener = Listener()
    report = train(crowd, classification_data, rungs=RUNGS, progress=listener)
    by_rung = {rung: {proposal.id: losses_of(proposal).get(rung) for proposal in crowd} for rung in RUNGS.steps}
    first = sorted(by_rung[3], key=by_rung[3].get)
    second = sorted(first[:3], key=by_rung[6].get)
    assert stopped_at(report.metrics) == dict.fromkeys(first[3:], 3) | {second[2]: 6}
    for name in second[:2]:
        assert report.metrics[name].state is TrialState.COMPLETED
        assert report.metrics[name].steps_completed.value == STEPS
    assert report.metrics[first[5]].reason == f"stopped at step 3 of {STEPS}: not among the best 3 of 6"
    assert report.metrics[second[2]].reason == f"stopped at step 6 of {STEPS}: not among the best 2 of 3"
    assert report.record["spared_steps"] == 3 * (STEPS - 3) + (STEPS - 6)
    assert report.record["trained_steps"] == 6 * STEPS - report.record["spared_steps"]
    assert [(item["steps"], item["trials"]) for item in report.record["rungs"]] == [(3, 6), (6, 3)]
    assert report.record["rungs"][1]["continued"] == sorted(second[:2])
    assert listener.totals == [("train 6 proposals", report.record["trained_steps"])]
    assert listener.heard[-1] == report.record["trained_steps"]


def test_a_stopped_trial_keeps_its_adapter_and_says_what_it_measured(
    crowd, classification_data, run_of, settings, losses_of
):
    report = train(crowd, classification_data, rungs=RUNGS)
    stopped = [proposal for proposal in crowd if report.metrics[proposal.id].state is TrialState.STOPPED]
    data = read_data(classification_data)
    for proposal in stopped:
        base = resolve_base(proposal.base.name, settings)
        load_adapter(base.load(data.spec), run_of(proposal).adapter_folder, base=base.reference)
        _, record = run_of(proposal).read_metrics()
        assert record["adapter_digest"].startswith("sha256:")
        assert report.metrics[proposal.id].adapter_size_bytes.value > 0
        assert set(losses_of(proposal)) >= {3}


def test_survivors_end_as_without_rungs(crowd, classification_data, weights_of, reference):
    expected, _, _ = reference("together")
    report = train(crowd, classification_data, rungs=RUNGS)
    survivors = [proposal for proposal in crowd if report.metrics[proposal.id].state is TrialState.COMPLETED]
    assert len(survivors) == 2
    for proposal in survivors:
        assert largest_difference(weights_of(proposal), expected[proposal.id]) <= SAME


@pytest.mark.parametrize("places", [1, 4])
def test_with_fewer_places_the_same_trials_stop_with_the_same_weights(
    places, crowd, classification_data, weights_of, reference, run_of
):
    expected, metrics, record = reference("rungs")
    report = train(crowd, classification_data, rungs=RUNGS, places=places)
    assert stopped_at(report.metrics) == stopped_at(metrics)
    assert report.record["rungs"] == record["rungs"]
    assert report.record["trained_steps"] == record["trained_steps"]
    for proposal in crowd:
        assert largest_difference(weights_of(proposal), expected[proposal.id]) <= SAME
        assert run_of(proposal).adapter_folder.is_dir()


def test_no_more_trials_are_held_than_there_are_places(crowd, classification_data, reference, monkeypatch):
    """Also where a call goes on with some that are behind a rung and some that are not."""
    held = []
    real = Population._step
    monkeypatch.setattr(
        Population, "_step", lambda self, waiting: (held.append(len(self.pool.members)), real(self, waiting))[1]
    )
    for at in (5, 4):
        with pytest.raises(KeyboardInterrupt):
            train(crowd, classification_data, rungs=RUNGS, places=2, progress=Listener(at))
    report = train(crowd, classification_data, rungs=RUNGS, places=2)
    assert stopped_at(report.metrics) == stopped_at(reference("rungs")[1])
    assert max(held) == 2


def test_asked_again_it_decides_the_same_and_trains_nothing(crowd, classification_data, run_of):
    first = train(crowd, classification_data, rungs=RUNGS)
    written = {proposal.id: run_of(proposal).metrics_path.read_bytes() for proposal in crowd}
    listener = Listener()
    again = train(crowd, classification_data, rungs=RUNGS, progress=listener)
    assert again.metrics == first.metrics
    assert again.record["trained_steps"] == 0
    assert again.record["rungs"] == first.record["rungs"]
    assert listener.heard == []
    assert {proposal.id: run_of(proposal).metrics_path.read_bytes() for proposal in crowd} == written


def test_a_stopped_trial_can_be_trained_to_the_end(crowd, classification_data, reference, weights_of, run_of):
    weights, _, _ = reference("alone")
    report = train(crowd, classification_data, rungs=RUNGS)
    stopped = [proposal for proposal in crowd if report.metrics[proposal.id].state is TrialState.STOPPED]
    for proposal in stopped:
        listener = Listener()
        metrics = ProxyTrainer(proposal.id, config=OFTEN, progress=listener).train(classification_data, STEPS)
        assert metrics.state is TrialState.COMPLETED
        assert listener.heard[0] == report.metrics[proposal.id].steps_completed.value + 1
        assert largest_difference(weights_of(proposal), weights[proposal.id]) <= 1e-5
        assert len(run_of(proposal).read_metrics()[1]["attempts"]) == 2


def test_new_proposals_are_judged_against_those_that_finished(crowd, propose, classification_data, losses_of):
    first = train(crowd[:4], classification_data, rungs=RUNGS)
    late = [crowd[4], crowd[5], propose(architecture=LoRAArchitecture(rank=1), learning_rate=1e-7)]
    report = train([*crowd[:4], *late], classification_data, rungs=RUNGS)
    assert report.record["rungs"][0]["trials"] == 7
    seen = {proposal.id: losses_of(proposal)[3] for proposal in (*crowd, late[2])}
    kept = set(RUNGS.survivors(seen))
    assert report.record["rungs"][0]["continued"] == sorted(kept)
    for name, metrics in first.metrics.items():
        if metrics.state is TrialState.COMPLETED:
            assert report.metrics[name] == metrics
    for proposal in late:
        assert (report.metrics[proposal.id].steps_completed.value > 3) == (proposal.id in kept)


def test_a_trial_that_is_past_a_rung_that_it_never_saw_goes_on(crowd, classification_data):
    """It was trained without rungs and interrupted behind the first."""
    ahead = crowd[0]
    with pytest.raises(KeyboardInterrupt):
        ProxyTrainer(ahead.id, config=OFTEN, progress=Listener(5)).train(classification_data, STEPS)
    report = train(crowd[:4], classification_data, rungs=RUNGS)
    assert ahead.id not in stopped_at(report.metrics) or stopped_at(report.metrics)[ahead.id] == 6
    assert report.record["rungs"][0]["trials"] == 3


def test_one_that_went_on_is_stopped_where_better_ones_come_after_an_interruption(
    crowd, classification_data, losses_of, clear, run_of
):
    train(crowd, classification_data, 3)
    order = sorted(crowd, key=lambda proposal: losses_of(proposal)[3])
    clear()
    worse = order[-2:]
    with pytest.raises(KeyboardInterrupt):  # behind the first rung
        train(worse, classification_data, rungs=RUNGS, progress=Listener(4))
    went_on = run_of(worse[0]).read_metrics()[0]
    assert went_on.state is TrialState.INTERRUPTED
    assert 3 < went_on.steps_completed.value < 6
    report = train(crowd, classification_data, rungs=RUNGS)
    metrics = report.metrics[worse[0].id]
    assert metrics.state is TrialState.STOPPED
    assert metrics.reason == f"stopped at step {went_on.steps_completed.value:g} of {STEPS}: not among the best 3 of 6"
    assert run_of(worse[0]).adapter_folder.is_dir()
    assert {proposal.id for proposal in order[:3]}.isdisjoint(
        name for name, step in stopped_at(report.metrics).items() if step == 3
    )


def test_a_trial_that_fails_counts_at_the_rungs_that_it_passed(crowd, classification_data, reference, monkeypatch):
    """So that a call that goes on decides as the first one did."""
    decided = reference("rungs")[2]["rungs"]
    best = decided[0]["continued"]
    poison(monkeypatch, best[0], at=5)
    first = train(crowd, classification_data, rungs=RUNGS)
    assert first.metrics[best[0]].state is TrialState.FAILED
    again = train(crowd, classification_data, rungs=RUNGS)
    assert again.metrics == first.metrics
    assert again.record["rungs"] == first.record["rungs"]
    assert first.record["rungs"][0] == decided[0]
    assert first.record["rungs"][1]["trials"] == decided[1]["trials"] - 1


def poison(monkeypatch, name, *, at):
    """Breaks the weights of one trial before a step."""
    real = Population._step

    def step(self, waiting):
        for trial in waiting:
            if trial.proposal.id == name and trial.progress.step == at:
                member = self.member(trial)
                member.set_weights({key: torch.full_like(item, math.nan) for key, item in member.weights().items()})
        return real(self, waiting)

    monkeypatch.setattr(Population, "_step", step)


@pytest.mark.parametrize(
    ("kills", "places"),
    [
        ([("step", 4), ("step", 7)], None),
        ([("stopped", 3), ("write", 2)], None),
        ([("paused", 2), ("stopped", 2), ("step", 3)], 2),
    ],
    ids=["steps", "decision", "few places"],
)
def test_killed_between_decisions_it_resumes_to_the_same(
    kills, places, crowd, classification_data, weights_of, reference, kill_population, run_of
):
    weights, metrics, _ = reference("rungs")
    for moment, at in kills:
        kill_population(crowd, moment, at, rungs=RUNGS, places=places)
    report = train(crowd, classification_data, rungs=RUNGS, places=places)
    assert stopped_at(report.metrics) == stopped_at(metrics)
    for proposal in crowd:
        found, before = report.metrics[proposal.id], metrics[proposal.id]
        assert (found.state, found.reason) == (before.state, before.reason)
        assert found.eval_accuracy == before.eval_accuracy
        assert largest_difference(weights_of(proposal), weights[proposal.id]) <= SAME
        assert run_of(proposal).adapter_folder.is_dir()


def test_ctrl_c_between_rungs_resumes_to_the_same(crowd, classification_data, weights_of, reference, run_of):
    weights, metrics, _ = reference("rungs")
    for at in (7, 5, 3):
        with pytest.raises(KeyboardInterrupt):
            train(crowd, classification_data, rungs=RUNGS, progress=Listener(at))
        assert TrialState.RUNNING not in {run_of(proposal).read_metrics()[0].state for proposal in crowd}
    report = train(crowd, classification_data, rungs=RUNGS)
    assert stopped_at(report.metrics) == stopped_at(metrics)
    for proposal in crowd:
        assert largest_difference(weights_of(proposal), weights[proposal.id]) <= SAME
        assert run_of(proposal).adapter_folder.is_dir()
