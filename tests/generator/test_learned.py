"""`generate` learns from what was trained in the workspace, when it is asked to."""

from __future__ import annotations

import pytest

from legion.neuro_architecture.records import RunFolder
from legion.neuro_architecture.spec.measurement import Measurement
from legion.neuro_architecture.spec.training import METRIC_UNITS, TrainingMetrics, TrialState


@pytest.fixture
def trained(ready):
    """Writes a trial of a proposal that reached an accuracy after so many steps."""

    def write(proposal, accuracy, steps=20, state=TrialState.COMPLETED):
        absent = {name: Measurement.absent(unit, "not needed here") for name, unit in METRIC_UNITS.items()}
        measured = {"eval_accuracy": accuracy, "steps_completed": steps}
        found = {name: Measurement.measured(value, METRIC_UNITS[name]) for name, value in measured.items()}
        metrics = TrainingMetrics(proposal_id=proposal.id, state=state, **(absent | found))
        RunFolder.of(ready, proposal.id).write_metrics(metrics, {})

    return write


def test_without_trials_learning_changes_nothing(generator):
    plain = generator(seed=3).generate("classification", 6)
    assert generator(seed=3).generate("classification", 6, learn=True) == plain


def test_what_was_trained_is_not_proposed_again_and_the_same_seed_learns_the_same(generator, trained):
    first = generator().generate("classification", 12)
    for place, proposal in enumerate(first):
        trained(proposal, 0.5 + 0.02 * place)
    learned = generator().generate("classification", 8, learn=True)
    assert len({proposal.semantic_hash for proposal in learned}) == 8
    assert not {proposal.semantic_hash for proposal in learned} & {proposal.semantic_hash for proposal in first}
    assert generator().generate("classification", 8, learn=True) == learned


def test_proposals_come_from_where_trials_were_accurate_and_quick(generator, trained):
    def share_above(proposals):
        return sum(proposal.architecture.layers is not None for proposal in proposals) / len(proposals)

    for proposal in generator().generate("classification", 45):
        trained(proposal, 0.9 if proposal.architecture.layers is not None else 0.5)
    learned = generator().generate("classification", 12, learn=True)
    assert share_above(learned) > 0.9 > share_above(generator(seed=1).generate("classification", 45))


def test_a_trial_that_failed_teaches_nothing(generator, trained):
    (proposal,) = generator().generate("classification", 1)
    trained(proposal, 0.9, state=TrialState.FAILED)
    assert generator().generate("classification", 2, learn=True) == generator().generate("classification", 2)
