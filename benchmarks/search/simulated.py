"""Searches on the table: every training is looked up, every decision is real."""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final, final

import numpy as np
from benchmarks.search.ground import BATCH, FACTOR, FULL, OBJECTIVES, RUNGS, table_space, unpack

from legion.foundation.errors import UsageError
from legion.foundation.settings import Settings
from legion.neuro_architecture.records import ProposalStore
from legion.neuro_architecture.space import Point
from legion.neuro_architecture.spec.measurement import Measurement
from legion.neuro_architecture.spec.standing import Standing
from legion.neuro_architecture.spec.training import METRIC_UNITS, TrainingMetrics, TrialState
from legion.neuro_architecture.study.climb import Climb
from legion.neuro_architecture.study.ladder import next_factor
from legion.neuro_architecture.study.proposer import Proposer
from legion.neuro_architecture.study.recipe import StudyRecipe
from legion.neuro_architecture.study.space import StudySpace
from legion.neuro_architecture.study.state import StudyState

__all__ = ["ARMS", "Event", "Table"]

_PASSES: Final = 3.0


@dataclass(frozen=True, slots=True)
class Event:
    """A trial came to its full budget: what had been spent by then, and its objectives as losses."""

    cost: float
    losses: tuple[float, ...]


@final
class Table:
    """The trained table, and what it says of a candidate.

    A cost is in full trainings of the mean candidate: operations of the steps that were taken, over the table's mean.
    With `counts_looks` a look costs too: a forward pass over all watched examples, as much as eleven steps.
    """

    def __init__(self, path: Path, settings: Settings, *, counts_looks: bool) -> None:
        self._counts_looks = counts_looks
        held = json.loads(path.read_text(encoding="utf-8"))
        self.settings = settings
        self.study, self.space, _ = table_space(settings)
        self.rows: dict[Point, dict[str, Any]] = {tuple(row["point"]): row for row in held["rows"] if "looks" in row}
        self.by_id = {row["id"]: row for row in self.rows.values()}
        self._num_watched = len(unpack(next(iter(self.rows.values()))["looks"][-1]["losses"]))
        missing = sum(point not in self.rows for point in self.space.points())
        if missing:
            raise UsageError(f"{missing} candidates of the table are missing", hint="python -m benchmarks.search.table")

    @cached_property
    def unit(self) -> float:
        """Operations of the mean full training."""
        return float(np.mean([self._flops(row, FULL, 0) for row in self.rows.values()]))

    def cost(self, point: Point, steps: int, looks: int) -> float:
        """Of training a candidate for so many steps and looking at it so often."""
        return self._flops(self.rows[point], steps, looks) / self.unit

    def losses(self, point: Point, steps: int = FULL) -> tuple[float, ...]:
        """The candidate's objectives at a look, turned so that less is better."""
        row = self.rows[point]
        look = next(each for each in row["looks"] if each["steps"] == steps)
        values = {**row["predicted"], "accuracy": look["accuracy"]}
        return self.study.criteria.losses(values)

    def expected_accuracy(self, point: Point, steps: int) -> float:
        """Mean probability of the right answer at a look."""
        look = next(each for each in self.rows[point]["looks"] if each["steps"] == steps)
        return float(np.exp(-np.asarray(unpack(look["losses"]))).mean())

    @cached_property
    def reference(self) -> tuple[float, ...]:
        """Guessing, and a tenth behind the worst prediction in the table."""
        worst = np.max([self.losses(point)[1:] for point in self.rows], axis=0)
        return (-0.5, *(1.1 * value for value in worst.tolist()))

    def volume(self, losses: Sequence[tuple[float, ...]]) -> float:
        """Dominated hypervolume by independent code, each objective in units of its reference."""
        import moocore

        if not losses:
            return 0.0
        scale = np.abs(self.reference)
        return float(moocore.hypervolume(np.asarray(losses) / scale, ref=np.asarray(self.reference) / scale))

    @cached_property
    def best_volume(self) -> float:
        """Of the whole table's front."""
        return self.volume([self.losses(point) for point in self.rows])

    def _flops(self, row: dict[str, Any], steps: int, looks: int) -> float:
        examples = _PASSES * row["batch_size"] * steps
        if self._counts_looks:
            examples += looks * self._num_watched
        return float(row["predicted"]["cost"] * examples)


@final
class TableRunner:
    """Trains nothing: a study's trials stand where the table says."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._ended: set[str] = set()

    def add(self, proposal_ids: Sequence[str]) -> None:
        pass

    def step_of(self, name: str) -> int:  # noqa: ARG002 - the port's own signature
        return 0

    def announce(self, label: str, total_steps: int) -> None:
        pass

    def advance(self, names: Sequence[str], until: int) -> None:
        pass

    def finish(self, names: Sequence[str]) -> None:
        self._ended.update(names)

    def pause(self, names: Sequence[str]) -> None:
        pass

    def stop(self, name: str, reason: str) -> None:
        pass

    def standing(self, name: str, step: int) -> Standing | None:
        look = next(each for each in self._table.by_id[name]["looks"] if each["steps"] == step)
        return Standing(
            step=step,
            loss=look["loss"],
            accuracy=look["accuracy"],
            losses=unpack(look["losses"]),
            hits="",
            seconds=look["seconds"],
        )

    def metrics(self) -> dict[str, TrainingMetrics]:
        absent = {name: Measurement.absent(unit, "a table's row") for name, unit in METRIC_UNITS.items()}
        return {
            name: TrainingMetrics(proposal_id=name, state=TrialState.RUNNING, **absent) for name in self._table.by_id
        }

    def record(self) -> dict[str, Any]:
        return {}


def ours(table: Table, seed: int, budget: float, generator: str = "tpe") -> Iterator[Event]:
    """A study as `legion search` leads it."""
    recipe = StudyRecipe.parse(
        {
            "name": "simulated",
            "objectives": OBJECTIVES,
            "seed": seed,
            "generator": {"name": generator, "batch": BATCH},
            "scheduler": {"steps": FULL, "rungs": RUNGS, "factor": FACTOR},
        },
        what="recipe",
    )
    space = StudySpace(recipe, table.study.criteria, table.settings)
    space.__dict__ |= {"points": table.space, "problem": table.study.problem}
    with tempfile.TemporaryDirectory() as folder:
        settings = replace(table.settings, workspace=Path(folder))
        proposer = Proposer(space, ProposalStore(settings))
        state = StudyState(recipe=recipe, problem={}, reference_point=table.reference)
        climb = Climb(
            space, TableRunner(table), save=lambda now: now, evaluate=lambda _names: {}, must_stop=lambda _now: False
        )
        seen: set[str] = set()
        while _spent(table, state) < budget:
            number = len(state.generations)
            state = proposer.propose(state, recipe.generator.batch, next_factor(state))
            if not state.generations[-1].trials:
                return
            state, _ = climb.climb(state, number)
            state = proposer.tell(state, number)
            for trial in state.trials.values():
                if trial.phase == "completed" and trial.id not in seen:
                    seen.add(trial.id)
                    yield Event(_spent(table, state), table.losses(trial.point))


def _spent(table: Table, state: StudyState) -> float:
    looked = (trial for trial in state.trials.values() if trial.looks)
    return sum(table.cost(trial.point, trial.looks[-1].steps, len(trial.looks)) for trial in looked)


def full_random(table: Table, seed: int, budget: float) -> Iterator[Event]:
    """Random search, every trial to the end."""
    points = list(table.rows)
    random.Random(seed).shuffle(points)
    yield from _to_the_end(table, iter(points), budget)


def _to_the_end(table: Table, points: Iterator[Point], budget: float) -> Iterator[Event]:
    cost = 0.0
    for point in points:
        if cost >= budget:
            return
        cost += table.cost(point, FULL, 1)
        yield Event(cost, table.losses(point))


def optuna_lora(table: Table, seed: int, budget: float) -> Iterator[Event]:
    """Optuna's TPE over the LoRA part of the table, every trial to the end; one trial after another."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    branch = next(number for number, each in enumerate(table.space.branches) if each.strategy == "LoRA")
    axes = table.space.branches[branch].axes
    mine = {point for point in table.rows if point[0] == branch}
    study = optuna.create_study(
        directions=["minimize"] * len(OBJECTIVES), sampler=optuna.samplers.TPESampler(seed=seed)
    )
    cost = 0.0
    while cost < budget:
        trial = study.ask()
        codes = tuple(trial.suggest_categorical(axis.name, range(len(axis.values))) for axis in axes)
        wanted = (branch, *codes)
        point = wanted if wanted in mine else min(mine, key=lambda other: (_distance(other, wanted), other))
        losses = table.losses(point)
        study.tell(trial, losses)
        cost += table.cost(point, FULL, 1)
        yield Event(cost, losses)


def _distance(one: Point, other: Point) -> int:
    """In how many choices two points differ."""
    return sum(left != right for left, right in zip(one, other, strict=True))


def moasha(table: Table, seed: int, budget: float, *, is_told_expected: bool = False) -> Iterator[Event]:
    """Syne Tune's MO-ASHA with its defaults but for the rungs, over random candidates of the whole table.

    It is told the accuracy at each rung, or what ours goes by there.
    """
    from syne_tune.backend.trial_status import Trial
    from syne_tune.config_space import randint
    from syne_tune.optimizer.schedulers.multiobjective.moasha import MOASHA

    points = list(table.rows)
    np.random.seed(seed)
    scheduler = MOASHA(
        {"place": randint(0, len(points) - 1)},
        metrics=list(OBJECTIVES),
        time_attr="steps",
        max_t=FULL,
        grace_period=RUNGS[0],
        reduction_factor=3,
        random_seed=seed,
    )
    cost, number = 0.0, 0
    known: set[Point] = set()
    while cost < budget and len(known) < len(points):
        suggestion = scheduler.suggest()
        point = points[suggestion.config["place"]]
        if point in known:
            continue  # a second training of the same candidate would only cost it
        known.add(point)
        trial = Trial(trial_id=number, config=suggestion.config, creation_time=None)
        scheduler.on_trial_add(trial)
        number += 1
        before = 0
        for steps in (*RUNGS, FULL):
            cost += table.cost(point, steps - before, 1)
            before = steps
            losses = table.losses(point, steps)
            if is_told_expected and steps < FULL:
                losses = (-table.expected_accuracy(point, steps), *losses[1:])
            result = {"steps": steps, **dict(zip(OBJECTIVES, losses, strict=True))}
            if steps == FULL:
                scheduler.on_trial_complete(trial, result)
                yield Event(cost, losses)
            elif scheduler.on_trial_result(trial, result) == "STOP":
                break


ARMS: Final[dict[str, Callable[[Table, int, float], Iterator[Event]]]] = {
    "ours": ours,
    "ours, random proposals": lambda table, seed, budget: ours(table, seed, budget, "random"),
    "random search": full_random,
    "Optuna TPE within LoRA": optuna_lora,
    "Syne Tune MO-ASHA": moasha,
    "Syne Tune MO-ASHA, told expected accuracy": lambda table, seed, budget: moasha(
        table, seed, budget, is_told_expected=True
    ),
}
