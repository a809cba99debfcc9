"""How a study's trials are trained, as a value that can be sent to a worker."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import final

from legion.foundation.clock import Clock
from legion.foundation.progress import Progress
from legion.foundation.settings import Settings
from legion.neuro_architecture.spec.ports import TrialRunner
from legion.neuro_architecture.spec.task import TaskKind
from legion.neuro_architecture.trainer import PopulationTrainer, TrainerConfig

__all__ = ["SessionOf"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOf:
    """Opens a population's session; called without arguments, as a worker does.

    Attributes:
        settings: The study's own workspace.
        data: Data folder, absolute.
        kind: Kind of the task.
        steps: Of the whole schedule.
        seed: Of heads, adapters and dropout.
        places: Most trials held at once, or None.
        validation_examples: Watched examples.
    """

    settings: Settings
    data: Path
    kind: TaskKind
    steps: int
    seed: int
    places: int | None
    validation_examples: int

    def __call__(self) -> AbstractContextManager[TrialRunner]:
        """A session that tells nobody of its steps."""
        return self.open(None, None)

    def open(self, progress: Progress | None, clock: Clock | None) -> AbstractContextManager[TrialRunner]:
        """A session; trials are looked at on rungs and at the end only, and timed in the final training."""
        config = TrainerConfig.for_task(self.kind).model_copy(
            update={"num_validations": 1, "latency_examples": 0, "validation_examples": self.validation_examples}
        )
        trainer = PopulationTrainer(
            settings=self.settings,
            seed=self.seed,
            progress=progress,
            config=config,
            clock=clock,
            places=self.places,
        )
        return trainer.open(self.data, self.steps, kind=self.kind)
