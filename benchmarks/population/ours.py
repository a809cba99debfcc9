"""This project's system: one population, one process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.population.places import Outcome, Place, store_proposals
from benchmarks.population.workloads import Workload

from legion.neuro_architecture.trainer import PopulationTrainer, TrainerConfig

__all__ = ["prepare", "trainer_config"]


def prepare(workload: Workload, place: Place) -> Callable[[], Outcome]:
    """Stores the proposals; the work reads the data, loads the base, trains all, validates once and saves adapters."""
    ids = store_proposals(workload, place.settings)

    def work() -> Outcome:
        trainer = PopulationTrainer(settings=place.settings, seed=0, config=trainer_config(workload))
        report = trainer.train(ids, place.data, workload.steps)
        metrics = [report.metrics[name] for name in ids]
        return Outcome(
            losses=[_value(item.validation_loss) for item in metrics],
            accuracies=[_value(item.eval_accuracy) for item in metrics],
            record=dict(report.record) | {"steps": [_value(item.steps_completed) for item in metrics]},
        )

    return work


def trainer_config(workload: Workload) -> TrainerConfig:
    """One validation, at the end, and no timing of latency, which the baselines do not take either."""
    return TrainerConfig(
        max_tokens=workload.max_tokens,
        validation_examples=workload.num_validation,
        validation_batch_size=workload.validation_batch_size,
        num_validations=1,
        latency_examples=0,
        latency_warmup=0,
    )


def _value(measurement: Any) -> float:
    """The number; a trial that has none has failed, and with it the unit.

    Raises:
        RuntimeError: with the reason.
    """
    if measurement.value is None:
        raise RuntimeError(f"a trial was not measured: {measurement.reason}")
    return float(measurement.value)
