"""The stage: from run folders to measured, scored and ranked candidates."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, final

from legion.foundation.clock import Clock, SystemClock, rfc3339
from legion.foundation.errors import AdapterError, IntegrityError, UsageError
from legion.foundation.files import write_json
from legion.foundation.progress import Progress, SilentProgress
from legion.foundation.settings import Settings
from legion.neuro_architecture.evaluator.candidates import Candidate, find_common_ground, read_candidates
from legion.neuro_architecture.evaluator.config import EvaluatorConfig
from legion.neuro_architecture.evaluator.summary import rank_results, scored_result, summarise, unscored_result
from legion.neuro_architecture.evaluator.weights import check_weights, parse_weights
from legion.neuro_architecture.spec.evaluation import DEFAULT_WEIGHTS, EvaluationResult, EvaluationSummary
from legion.neuro_architecture.spec.training import TrialState

if TYPE_CHECKING:
    from legion.neuro_architecture.evaluator.latency import Timings
    from legion.neuro_architecture.evaluator.workbench import Measured, Workbench

__all__ = ["SUMMARY", "MultiObjectiveEvaluator"]

SUMMARY: Final = Path("artifacts") / "evals" / "evaluation_summary.json"
_log = logging.getLogger(__name__)


@final
class MultiObjectiveEvaluator:
    """Measures trained candidates and the bare base on every objective in one run, and scores them.

    score = sum over objectives of sign * weight * term, where each term is a ratio to the bare base (its meaning is in
    `terms.NORMALISATION`), so the bare base itself scores the signed sum of the weights. Weights are used as given.

    Args:
        weights: Weight of each objective, as a mapping or as `accuracy:0.5,latency:0.2`; the
            specification's by default.
        settings: Workspace, home, device, threads; loaded from the environment by default.
        seed: Draws the samples; the same seed asks the same texts.
        progress: Told how the evaluation goes.
        config: Sizes of the samples; the task's defaults where None.
        clock: Dates the summary.

    Raises:
        InvalidValueError: the weights cannot be used; lists every mistake.
    """

    def __init__(
        self,
        weights: Mapping[str, float] | str | None = None,
        *,
        settings: Settings | None = None,
        seed: int = 0,
        progress: Progress = SilentProgress(),
        config: EvaluatorConfig | None = None,
        clock: Clock = SystemClock(),
    ) -> None:
        given = DEFAULT_WEIGHTS if weights is None else weights
        self.weights = parse_weights(given) if isinstance(given, str) else check_weights(given)
        self._settings = settings or Settings.load()
        self._seed = seed
        self._progress = progress
        self._config = config
        self._clock = clock
        self._summary: EvaluationSummary | None = None

    @property
    def summary(self) -> EvaluationSummary:
        """The summary of the last evaluation.

        Raises:
            UsageError: nothing has been evaluated yet.
        """
        if self._summary is None:
            raise UsageError("nothing has been evaluated yet", hint="call evaluate(metrics_files) first")
        return self._summary

    def evaluate(self, metrics_files: Sequence[str | Path]) -> list[EvaluationResult]:
        """Measures the runs and writes `artifacts/evals/evaluation_summary.json`.

        Runs that failed, were interrupted or hold a damaged adapter are listed last, with the reason and no score. A
        trial stopped at a rung is measured with the adapter it had there, and named in the summary's notes.

        Args:
            metrics_files: `metrics.json` files, run folders or glob patterns of either.

        Returns:
            All candidates, best score first.

        Raises:
            UsageError: nothing is there to measure, the runs differ in base or data, or those have changed since.
        """
        from legion.neuro_architecture.evaluator.workbench import Workbench, threads

        candidates = read_candidates(metrics_files, self._settings)
        ground = find_common_ground(candidates, self._settings)
        start_s = self._clock.monotonic_s()
        with threads(self._settings.threads):
            workbench = Workbench(ground, self._settings, self._config, self._seed, self._progress)
            base, reused = workbench.measure_base()
            workbench.answer_together(candidates)
            results, timings = self._measure_all(candidates, workbench, base)
        self._summary = summarise(
            rank_results(results, self.weights),
            weights=self.weights,
            workbench=workbench,
            base=base,
            timings=timings,
            stopped=[item.proposal_id for item in candidates if item.state is TrialState.STOPPED],
            reused=reused,
            seed=self._seed,
            created_at=rfc3339(self._clock.now()),
            duration_s=self._clock.monotonic_s() - start_s,
        )
        write_json(self._settings.workspace / SUMMARY, self._summary.to_dict())
        return list(self._summary.results)

    def _measure_all(
        self, candidates: Sequence[Candidate], workbench: Workbench, base: Measured
    ) -> tuple[list[EvaluationResult], list[Timings]]:
        results: list[EvaluationResult] = []
        timings: list[Timings] = []
        self._progress.start("evaluating", len(candidates))
        for number, candidate in enumerate(candidates, start=1):
            if candidate.reason is not None:
                results.append(unscored_result(candidate, candidate.reason))
            else:
                result, timing = self._measure(candidate, workbench, base)
                results.append(result)
                timings += timing
            self._progress.advance(number, candidate=candidate.proposal_id, score=results[-1].composite_score)
        self._progress.finish(f"{len(timings)} of {len(candidates)} measured")
        return results, timings

    def _measure(
        self, candidate: Candidate, workbench: Workbench, base: Measured
    ) -> tuple[EvaluationResult, list[Timings]]:
        try:
            measured, timings = workbench.measure(candidate, base)
        except (AdapterError, IntegrityError) as error:
            _log.warning("candidate cannot be measured", extra={"run": candidate.run, "error": error.message})
            reason = error.message + (f" ({error.cause})" if error.cause else "")
            return unscored_result(candidate, f"the adapter cannot be loaded: {reason}"), []
        return scored_result(candidate, measured, self.weights), [timings]
