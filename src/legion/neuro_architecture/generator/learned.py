"""Proposals that learn from what was trained in this workspace before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from legion.foundation.rng import RandomStream
from legion.foundation.settings import Settings
from legion.neuro_architecture.generator.problem import Problem
from legion.neuro_architecture.generator.tpe import TreeParzen
from legion.neuro_architecture.objectives import Observation
from legion.neuro_architecture.records import ProposalStore, RunFolder
from legion.neuro_architecture.space import Candidate, PointSpace, check_strategies
from legion.neuro_architecture.space.recipes import default_recipe, draw_recipe
from legion.neuro_architecture.space.traits import Trait
from legion.neuro_architecture.spec.architecture import AnyArchitecture
from legion.neuro_architecture.spec.proposal import ArchitectureProposal
from legion.neuro_architecture.spec.training import TrainingMetrics, TrialState

__all__ = ["learned_candidates"]

# One point an architecture: recipes are drawn apart, as for proposals that have nothing to learn from.
_ONE_RECIPE: Final[dict[str, list[Trait]]] = {"warmup_share": [0.06], "schedule": ["linear"]}
_WITH_NUMBERS: Final = frozenset({TrialState.COMPLETED, TrialState.STOPPED, TrialState.PAUSED})


def learned_candidates(
    problem: Problem,
    strategies: Sequence[str],
    count: int,
    settings: Settings,
    stream: RandomStream,
    *,
    allow: Callable[[AnyArchitecture], bool],
) -> list[Candidate] | None:
    """Candidates where the trials of this workspace were accurate and quick; None where none was trained for this task
    and base.

    Trials are compared with those that went as far; one that went further did better before. What was trained is not
    proposed again.

    Args:
        problem: Task and base.
        strategies: Families to propose.
        count: How many.
        settings: The workspace.
        stream: Source of the draws.
        allow: What an architecture has to meet.
    """
    trained = _trained(problem, settings)
    if not trained:
        return None
    kind = problem.kind
    narrow: dict[str, dict[str, list[Trait]]] = {
        name: _ONE_RECIPE | {"learning_rate": [default_recipe(kind, name).learning_rate]}
        for name in check_strategies(strategies)
    }
    space = PointSpace(problem.anatomy, strategies, narrow=narrow, allow=allow)
    depths = sorted({metrics.steps_completed.value or 0.0 for _, metrics in trained})
    observations = [
        Observation(
            point=point,
            losses=(-(metrics.eval_accuracy.value or 0.0), proposal.expected_latency_ms),
            level=depths.index(metrics.steps_completed.value or 0.0),
        )
        for proposal, metrics in trained
        if (point := space.point_of(proposal.architecture, proposal.training)) is not None
    ]
    generator = TreeParzen(space, stream.child("learned"), num_startup=1)
    generator.tell(observations)
    draw = stream.child("learned recipes").random()
    architectures = [space.candidate(point)[0] for point in generator.propose(count)]
    return [(each, draw_recipe(kind, each.strategy, draw)) for each in architectures]


def _trained(problem: Problem, settings: Settings) -> list[tuple[ArchitectureProposal, TrainingMetrics]]:
    """What has numbers of its own, by id."""
    store = ProposalStore(settings)
    found = []
    for name in store.ids():
        run = RunFolder.of(settings, name)
        if not run.metrics_path.is_file():
            continue
        proposal, (metrics, _) = store.load(name), run.read_metrics()
        is_same = proposal.base.digest == problem.base.digest and proposal.task == problem.task
        if is_same and metrics.state in _WITH_NUMBERS and metrics.eval_accuracy.value is not None:
            found.append((proposal, metrics))
    return found
