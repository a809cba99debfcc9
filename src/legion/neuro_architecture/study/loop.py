"""One pass of the loop: propose, train everybody together, stop the worse at rungs, measure those that went on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

from legion.foundation.errors import InvalidValueError, TrainingError
from legion.foundation.progress import Progress, SilentProgress
from legion.foundation.settings import Settings
from legion.neuro_architecture.data.datasets import DataSet, read_data
from legion.neuro_architecture.evaluator import MultiObjectiveEvaluator
from legion.neuro_architecture.generator import ArchitectureGenerator
from legion.neuro_architecture.records import RunFolder
from legion.neuro_architecture.spec.evaluation import EvaluationSummary
from legion.neuro_architecture.spec.proposal import ArchitectureProposal
from legion.neuro_architecture.spec.training import TrainingMetrics, TrialState
from legion.neuro_architecture.trainer import PopulationReport, PopulationTrainer, Rungs, TrainerConfig

__all__ = ["Loop", "LoopConfig", "LoopOutcome", "rank_by_validation"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopConfig:
    """How far one pass goes.

    Attributes:
        task: Task name.
        data: Data folder.
        num_proposals: Candidates to propose.
        strategies: Families to propose from, or None for LoRA, Adapter and MoE.
        proxy_steps: Steps that every candidate gets; the first rung.
        final_steps: Steps of the whole schedule, which the last candidates get.
        factor: Of n candidates at a rung, ceil(n / factor) go on to the next, `factor` times as far.
        num_finalists: No fewer than this many go on to the end.
        weights: Preference over objectives, or None for the specification's.
        seed: Seed of everything.
    """

    task: str
    data: str
    num_proposals: int = 12
    strategies: tuple[str, ...] | None = None
    proxy_steps: int = 15
    final_steps: int = 150
    factor: float = 4.0
    num_finalists: int = 1
    weights: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("num_proposals", "proxy_steps", "final_steps", "num_finalists"):
            if getattr(self, name) < 1:
                raise InvalidValueError(f"{name} cannot be {getattr(self, name)}", cause="it counts from 1")
        if self.factor <= 1.0:
            raise InvalidValueError(f"factor cannot be {self.factor:g}", cause="some are stopped at every rung")

    @property
    def rungs(self) -> Rungs | None:
        """Where candidates are compared; None where the first rung is the end already."""
        if self.proxy_steps >= self.final_steps:
            return None
        return Rungs.geometric(self.proxy_steps, self.final_steps, factor=self.factor, least=self.num_finalists)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopOutcome:
    """What one pass found.

    Attributes:
        proposals: The candidates.
        finalists: Ids of those trained to the end, lowest validation loss first.
        final_steps: Steps the finalists got.
        population: How the training was computed: what cache and rungs saved, memory, seconds.
        summary: The evaluation of those that passed the first rung, written to `artifacts/evals/` too.
    """

    proposals: tuple[ArchitectureProposal, ...]
    finalists: tuple[str, ...]
    final_steps: int
    population: dict[str, Any]
    summary: EvaluationSummary


@final
class Loop:
    """Runs the stages one after another. Every stage keeps its work, so a stopped loop goes on where it was.

    Args:
        settings: Workspace, home, threads.
        progress: Listener of the long parts.
        say: Called with a line when a part begins or has a result.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        progress: Progress | None = None,
        say: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self._settings = settings
        self._progress = progress or SilentProgress()
        self._say = say

    def run(self, config: LoopConfig) -> LoopOutcome:
        """One pass.

        Raises:
            TrainingError: no candidate could be trained.
        """
        data = read_data(self._settings.workspace / config.data)
        proposals = ArchitectureGenerator(config.seed, settings=self._settings).generate(
            config.task, config.num_proposals, config.strategies, data=data.folder
        )
        rungs = config.rungs
        stops = [*(rungs.steps if rungs else ()), max(config.proxy_steps, config.final_steps)]
        self._say(f"{len(proposals)} proposals, trained together; compared after {', '.join(map(str, stops))} steps")
        report = self._train(proposals, data, config)
        finalists = rank_by_validation(report.metrics)
        if not finalists:
            reasons = "\n".join(f"{name}: {metrics.reason}" for name, metrics in report.metrics.items())
            raise TrainingError("no proposal could be trained", cause=reasons)
        self._say(f"to the end, lowest validation loss first: {', '.join(finalists)}")
        return LoopOutcome(
            proposals=tuple(proposals),
            finalists=tuple(finalists),
            final_steps=stops[-1],
            population=report.record,
            summary=self._evaluate(
                config, [name for name, found in report.metrics.items() if _is_worth(found, config)]
            ),
        )

    def _train(self, proposals: list[ArchitectureProposal], data: DataSet, config: LoopConfig) -> PopulationReport:
        trainer = PopulationTrainer(
            settings=self._settings,
            seed=config.seed,
            progress=self._progress,
            config=TrainerConfig(num_validations=1, validation_examples=128),
        )
        steps = max(config.proxy_steps, config.final_steps)
        return trainer.train([proposal.id for proposal in proposals], data.folder, steps, rungs=config.rungs)

    def _evaluate(self, config: LoopConfig, names: list[str]) -> EvaluationSummary:
        evaluator = MultiObjectiveEvaluator(
            config.weights, settings=self._settings, seed=config.seed, progress=self._progress
        )
        evaluator.evaluate([RunFolder.of(self._settings, name).metrics_path for name in names])
        return evaluator.summary


def _is_worth(found: TrainingMetrics, config: LoopConfig) -> bool:
    """Whether a trial passed the first rung; what stopped there has hardly learned, and its accuracy says little."""
    if found.state is TrialState.COMPLETED:
        return True
    return found.state is TrialState.STOPPED and (found.steps_completed.value or 0) > config.proxy_steps


def rank_by_validation(trained: dict[str, TrainingMetrics]) -> list[str]:
    """Ids of the completed trials, lowest validation loss first, ties by id; others are left out.

    Loss rather than the metric: over few examples it is the steadier of the two.
    """
    losses = {
        name: metrics.validation_loss.value
        for name, metrics in trained.items()
        if metrics.state is TrialState.COMPLETED and metrics.validation_loss.value is not None
    }
    return sorted(losses, key=lambda name: (losses[name], name))
