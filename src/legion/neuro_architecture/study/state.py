"""What a study has done: every proposal, every look at a rung, every decision. One file, written by rename."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final, Literal, final

from pydantic import Field

from legion.foundation.errors import InvalidValueError, UnknownNameError, UsageError
from legion.foundation.files import confine, read_json, write_json
from legion.foundation.settings import Settings
from legion.neuro_architecture.spec._value import Value
from legion.neuro_architecture.study.recipe import StudyRecipe

__all__ = ["FinalState", "Generation", "Look", "StudyState", "StudyStore", "TrialRecord"]

STUDIES: Final = Path("studies")
TrialPhase = Literal["proposed", "paused", "stopped", "completed", "failed"]
Trait = str | int | float


class Look(Value):
    """One trial at one rung.

    Attributes:
        steps: Of the rung.
        values: Objectives, as far as they are known there.
        loss: Validation loss, in nats.
        expected_accuracy: Mean probability of the right answer, see `Standing`.
        decision: `continue`, `pause`, `stop`, or `end` at the end of the schedule; None before one was made.
        reason: Of the decision.
    """

    steps: int
    values: dict[str, float]
    loss: float
    expected_accuracy: float
    decision: Literal["continue", "pause", "stop", "end"] | None = None
    reason: str | None = None


class TrialRecord(Value):
    """One trial.

    Attributes:
        id: Of its proposal.
        point: Where it lies in the study's space.
        traits: The point in words.
        generation: Which one proposed it, from 0.
        origin: Who did: the generator's name, `start` for a well-known good one.
        is_exploratory: Whether it goes to the end whatever it shows.
        predicted: Objectives known before training.
        looks: At each rung it came to.
        phase: How far it is.
        reason: Why it failed, or None.
        flops: Spent on training it, as far as it went: three forward passes a training example.
    """

    id: str
    point: tuple[int, ...]
    traits: dict[str, Trait]
    generation: int
    origin: str
    is_exploratory: bool
    predicted: dict[str, float]
    looks: tuple[Look, ...] = ()
    phase: TrialPhase = "proposed"
    reason: str | None = None
    flops: float = 0.0

    def look_at(self, steps: int) -> Look | None:
        """The look at a rung."""
        return next((look for look in self.looks if look.steps == steps), None)


class Generation(Value):
    """Trials that were proposed together.

    Attributes:
        trials: Their ids, in the order of the generator.
        factor: One in so many went on at its rungs; smaller once rungs turned out to say little.
        decided: Rungs at which decisions were made, the end of the schedule among them.
        told: What the generator was told after it: by trial, how many of its looks were known by then, -1 of one that
            failed. None before.
        is_warm_start_dropped: Whether after it the earlier study's prior was given up, since it misled.
    """

    trials: tuple[str, ...]
    factor: float
    decided: tuple[int, ...] = ()
    told: dict[str, int] | None = None
    is_warm_start_dropped: bool = False


class Moment(Value):
    """How good the front was at a time."""

    trials: int
    spent_s: float
    spent_flops: float
    hypervolume: float | None
    front: tuple[str, ...]


class FinalState(Value):
    """One of the front, trained anew.

    Attributes:
        id: Of the proposal.
        seeds: With which seeds.
        values: Mean over the seeds, measured on the test split.
        errors: Standard error over the seeds, or of one seed's measurement.
        runs: Run folders, relative to the workspace.
    """

    id: str
    seeds: tuple[int, ...]
    values: dict[str, float]
    errors: dict[str, float]
    runs: tuple[str, ...]


class StudyState(Value):
    """All of a study.

    Attributes:
        recipe: What was asked for, defaults filled in.
        problem: What it was made for: task, base, data digest, tokens, sizes.
        phase: `searching`, `final` while the front is trained anew, `finished`, or `stopped` by hand.
        trials: By id, in the order proposed.
        generations: In order.
        history: After each generation.
        reference_point: For hypervolumes, as losses; fixed after the first generation.
        final: Of the front.
        baseline: The bare base on the test split, by objective, with `errors`.
        fidelity: How far rungs told what the end did.
        spent_s: Seconds of all attempts.
        search_s: Of them, seconds of the search itself: what to propose, whom to stop, how good the front is.
        notes: What a reader has to know.
    """

    recipe: StudyRecipe
    problem: dict[str, Any]
    phase: Literal["searching", "final", "finished", "stopped"] = "searching"
    trials: dict[str, TrialRecord] = Field(default_factory=dict)
    generations: tuple[Generation, ...] = ()
    history: tuple[Moment, ...] = ()
    reference_point: tuple[float, ...] | None = None
    final: tuple[FinalState, ...] = ()
    baseline: dict[str, Any] | None = None
    fidelity: tuple[dict[str, Any], ...] = ()
    spent_s: Annotated[float, Field(ge=0.0)] = 0.0
    search_s: Annotated[float, Field(ge=0.0)] = 0.0
    notes: tuple[str, ...] = ()

    @property
    def spent_flops(self) -> float:
        """Spent on training all trials."""
        return sum(trial.flops for trial in self.trials.values())

    def with_trial(self, trial: TrialRecord) -> StudyState:
        """The state with this trial in the place of its older self."""
        return self.model_copy(update={"trials": self.trials | {trial.id: trial}})

    def with_generation(self, number: int, generation: Generation) -> StudyState:
        """The state with this generation in the place of its older self, or behind the others."""
        generations = list(self.generations)
        generations[number : number + 1] = [generation]
        return self.model_copy(update={"generations": tuple(generations)})


@final
class StudyStore:
    """The folder of one study: `studies/<name>/`.

    Beside `study.json` it is a workspace of its own, with proposals and run folders, so that studies never meet.

    Args:
        settings: The workspace around it.
        name: Of the study.
    """

    def __init__(self, settings: Settings, name: str) -> None:
        self.name = name
        self.folder = confine(settings.workspace / STUDIES, name)

    @staticmethod
    def names(settings: Settings) -> list[str]:
        """Of all studies in a workspace, sorted."""
        return sorted(path.parent.name for path in (settings.workspace / STUDIES).glob("*/study.json"))

    @classmethod
    def of(cls, settings: Settings, name: str) -> StudyStore:
        """The store of a study that is there.

        Raises:
            UnknownNameError: there is none of this name.
        """
        known = cls.names(settings)
        if name not in known:
            raise UnknownNameError.of("study", name, known, hint="begin one: legion search run RECIPE --budget 20m")
        return cls(settings, name)

    @property
    def path(self) -> Path:
        return self.folder / "study.json"

    @property
    def lock(self) -> Path:
        return self.folder / ".lock"

    @property
    def stop_file(self) -> Path:
        """While it is there, the study ends at its next decision."""
        return self.folder / "stop"

    def read(self) -> StudyState | None:
        """The state, or None before the first.

        Raises:
            UsageError: the file is damaged.
        """
        if not self.path.is_file():
            return None
        try:
            return StudyState.parse(read_json(self.path), what=str(self.path))
        except InvalidValueError as error:
            raise UsageError(f"{self.path} is no study of this version", cause=error.cause) from error

    def write(self, state: StudyState) -> None:
        """Replaces the state at once."""
        write_json(self.path, state.to_dict())
