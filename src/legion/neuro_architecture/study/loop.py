"""One pass of the loop: propose, train everybody a little, train the finalists on, measure everybody."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, final

from legion.foundation.clock import Clock, SystemClock
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
from legion.neuro_architecture.trainer import ProxyTrainer, TrainerConfig

__all__ = ["Loop", "LoopConfig", "LoopOutcome", "rank_by_validation"]

_FORWARD_SHARE: Final = 0.4  # a forward pass beside forward, backward and update; used to plan time, never reported
_MEASURED_BESIDE_TEST: Final = 250  # examples an evaluation runs through for robustness, safety and latency


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopConfig:
    """How far one pass goes.

    Attributes:
        task: Task name.
        data: Data folder.
        num_proposals: Candidates to propose.
        strategies: Families to propose from, or None for LoRA, Adapter and MoE.
        proxy_steps: Steps every candidate gets.
        num_finalists: Candidates with the lowest validation loss, which are trained on.
        final_steps: Steps a finalist gets in all; None plans them from what is left of the budget.
        budget_s: Seconds the whole pass should take; only used to plan `final_steps`.
        min_final_steps: Least that is planned, however slow the machine.
        max_final_steps: Most that is planned.
        weights: Preference over objectives, or None for the specification's.
        seed: Seed of everything.
    """

    task: str
    data: str
    num_proposals: int = 8
    strategies: tuple[str, ...] | None = None
    proxy_steps: int = 30
    num_finalists: int = 1
    final_steps: int | None = None
    budget_s: float = 240.0
    min_final_steps: int = 200
    max_final_steps: int = 320
    weights: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("num_proposals", "proxy_steps", "num_finalists"):
            if getattr(self, name) < 1:
                raise InvalidValueError(f"{name} cannot be {getattr(self, name)}", cause="it counts from 1")
        if self.budget_s <= 0:
            raise InvalidValueError(f"budget_s cannot be {self.budget_s:g}", cause="it is a time in seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopOutcome:
    """What one pass found.

    Attributes:
        proposals: The candidates.
        finalists: Ids of those trained on.
        final_steps: Steps the finalists got.
        summary: The evaluation of all that trained, written to `artifacts/evals/` too.
    """

    proposals: tuple[ArchitectureProposal, ...]
    finalists: tuple[str, ...]
    final_steps: int
    summary: EvaluationSummary


@final
class Loop:
    """Runs the stages one after another. Every stage keeps its work, so a stopped loop goes on where it was.

    Args:
        settings: Workspace, home, threads.
        progress: Listener of the long parts.
        say: Called with a line when a part begins or has a result.
        clock: Source of the durations that `final_steps` is planned with.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        progress: Progress | None = None,
        say: Callable[[str], None] = lambda _line: None,
        clock: Clock | None = None,
    ) -> None:
        self._settings = settings
        self._progress = progress or SilentProgress()
        self._say = say
        self._clock = clock or SystemClock()

    def run(self, config: LoopConfig) -> LoopOutcome:
        """One pass.

        Raises:
            TrainingError: no candidate could be trained.
        """
        began_s = self._clock.monotonic_s()
        data = read_data(self._settings.workspace / config.data)
        proposals = ArchitectureGenerator(config.seed, settings=self._settings).generate(
            config.task, config.num_proposals, config.strategies, data=data.folder
        )
        self._say(f"{len(proposals)} proposals; training each for {config.proxy_steps} steps")
        trained = {proposal.id: self._train(proposal.id, data, config, config.proxy_steps) for proposal in proposals}
        order = rank_by_validation(trained)
        if not order:
            reasons = "\n".join(f"{name}: {metrics.reason}" for name, metrics in trained.items())
            raise TrainingError("no proposal could be trained", cause=reasons)
        finalists = order[: config.num_finalists]
        spent_s = self._clock.monotonic_s() - began_s
        num_test = min(len(data.test), self._settings.eval_examples or len(data.test))
        passes = len(data.train) + (len(trained) + 1) * (num_test + _MEASURED_BESIDE_TEST)
        final_steps = plan_final_steps(config, [trained[name] for name in finalists], passes, spent_s)
        self._say(f"lowest validation loss: {', '.join(finalists)}; training on to {final_steps} steps")
        for name in finalists:
            self._train(name, data, config, final_steps)
        summary = self._evaluate(config, proposals)
        return LoopOutcome(
            proposals=tuple(proposals), finalists=tuple(finalists), final_steps=final_steps, summary=summary
        )

    def _train(self, proposal_id: str, data: DataSet, config: LoopConfig, steps: int) -> TrainingMetrics:
        stored = self._enough(proposal_id, data, config, steps)
        if stored is not None:
            return stored
        trainer = ProxyTrainer(
            proposal_id,
            settings=self._settings,
            seed=config.seed,
            progress=self._progress,
            config=TrainerConfig(num_validations=1, validation_examples=160),
        )
        return trainer.train(data.folder, steps)

    def _enough(self, proposal_id: str, data: DataSet, config: LoopConfig, steps: int) -> TrainingMetrics | None:
        """The stored metrics, when an earlier pass took this trial as far or further on the same data and seed."""
        run = RunFolder.of(self._settings, proposal_id)
        if not run.metrics_path.is_file():
            return None
        metrics, record = run.read_metrics()
        is_same = record.get("data_digest") == data.digest and record.get("seed") == config.seed
        is_done = metrics.state is TrialState.COMPLETED and (metrics.steps_completed.value or 0) >= steps
        return metrics if is_same and is_done else None

    def _evaluate(self, config: LoopConfig, proposals: list[ArchitectureProposal]) -> EvaluationSummary:
        evaluator = MultiObjectiveEvaluator(
            config.weights, settings=self._settings, seed=config.seed, progress=self._progress
        )
        evaluator.evaluate([RunFolder.of(self._settings, proposal.id).metrics_path for proposal in proposals])
        return evaluator.summary


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


def plan_final_steps(config: LoopConfig, finalists: list[TrainingMetrics], num_passes: int, spent_s: float) -> int:
    """Steps for each finalist that fit what is left of the budget after the evaluation, within the config's bounds.

    Args:
        config: The budget and the bounds.
        finalists: What they measured so far.
        num_passes: Examples the evaluation will run through: the training split once (the bare base's probe), the test
            sample once for each candidate.
        spent_s: Seconds spent so far.
    """
    if config.final_steps is not None:
        return max(config.final_steps, config.proxy_steps)
    rates = [metrics.throughput_samples_sec.value for metrics in finalists]
    seconds_per_example = max((1.0 / rate for rate in rates if rate), default=None)
    if seconds_per_example is None:
        return config.min_final_steps
    left_s = config.budget_s - spent_s - _FORWARD_SHARE * seconds_per_example * num_passes
    batch_size = max(
        (metrics.examples_seen.value or 1.0) / (metrics.steps_completed.value or 1.0) for metrics in finalists
    )
    affordable = int(left_s / len(finalists) / (seconds_per_example * batch_size))
    return min(config.max_final_steps, max(config.min_final_steps, config.proxy_steps + affordable))
