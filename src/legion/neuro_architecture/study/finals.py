"""The front trained anew with several seeds, and measured on the test split that the search has not seen."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, final

from legion.foundation.progress import Progress
from legion.foundation.settings import Settings
from legion.neuro_architecture.records import ProposalStore
from legion.neuro_architecture.spec.evaluation import EvaluationSummary
from legion.neuro_architecture.spec.proposal import ArchitectureProposal
from legion.neuro_architecture.spec.training import TrialState
from legion.neuro_architecture.study.measuring import baseline_of, measure, measured_values
from legion.neuro_architecture.study.recipe import StudyRecipe
from legion.neuro_architecture.study.state import FinalState, StudyState
from legion.neuro_architecture.trainer import PopulationTrainer, TrainerConfig

__all__ = ["FINAL", "Finals"]

FINAL: Final = Path("final")


@final
class Finals:
    """Trains candidates at the full budget, all of one seed together, each seed in a workspace of its own.

    Args:
        settings: The study's own workspace.
        recipe: The study's.
        data: Data folder, absolute.
        progress: Is told of every step.
        say: Called with a line when a part begins.
    """

    def __init__(
        self, settings: Settings, recipe: StudyRecipe, data: Path, *, progress: Progress, say: Callable[[str], None]
    ) -> None:
        self._settings = settings
        self._recipe = recipe
        self._data = data
        self._progress = progress
        self._say = say

    @property
    def steps(self) -> int:
        """Of each training."""
        return self._recipe.final.steps or self._recipe.scheduler.steps

    def run(self, state: StudyState, chosen: Sequence[ArchitectureProposal]) -> StudyState:
        """The state with the measurements of the chosen; what was trained before a kill is not trained again."""
        seeds = [self._recipe.seed + place for place in range(self._recipe.final.seeds)]
        kind = chosen[0].task_kind
        summaries: dict[int, EvaluationSummary] = {}
        for seed in seeds:
            self._say(f"final training of {len(chosen)}, seed {seed}, {self.steps} steps each")
            settings = replace(self._settings, workspace=self._settings.workspace / FINAL / f"seed-{seed}")
            store = ProposalStore(settings)
            for proposal in chosen:
                store.save(proposal)
            trainer = PopulationTrainer(
                settings=settings, seed=seed, progress=self._progress, config=TrainerConfig.for_task(kind)
            )
            report = trainer.train([proposal.id for proposal in chosen], self._data, self.steps)
            done = [name for name, found in report.metrics.items() if found.state is TrialState.COMPLETED]
            if done:
                summaries[seed] = measure(
                    done,
                    settings,
                    kind=kind,
                    seed=self._recipe.seed,
                    progress=self._progress,
                    split="test",
                    examples=self._recipe.final.test_examples,
                )
        found = [self._final(proposal, summaries) for proposal in chosen]
        baseline = baseline_of(next(iter(summaries.values()))) if summaries else None
        return state.model_copy(
            update={"final": tuple(each for each in found if each is not None), "baseline": baseline}
        )

    def _final(self, proposal: ArchitectureProposal, summaries: dict[int, EvaluationSummary]) -> FinalState | None:
        rows = {
            seed: measured_values(result.measurements)
            for seed, summary in summaries.items()
            for result in summary.results
            if result.proposal_id == proposal.id and result.measurements
        }
        if not rows:
            return None
        names = set.intersection(*(set(values) for values, _ in rows.values()))
        columns = {name: [values[name] for values, _ in rows.values()] for name in sorted(names)}
        errors = {name: [found.get(name, 0.0) for _, found in rows.values()] for name in columns}
        return FinalState(
            id=proposal.id,
            seeds=tuple(rows),
            values={name: statistics.fmean(column) for name, column in columns.items()},
            errors={name: _error(column, errors[name]) for name, column in columns.items()},
            runs=tuple(str(FINAL / f"seed-{seed}" / "artifacts" / "proxy_runs" / proposal.id) for seed in rows),
        )


def _error(values: Sequence[float], sampling: Sequence[float]) -> float:
    """Standard error of the mean over seeds, on a sample of examples that all seeds share: the seeds' own part shrinks
    with their number, the sample's does not.
    """
    seeds = statistics.variance(values) / len(values) if len(values) > 1 else 0.0
    return math.sqrt(seeds + statistics.fmean(error**2 for error in sampling))
