"""Optuna's samplers as generators, to compare with and for those who trust them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Final, final

from legion.foundation.errors import UnknownNameError, WorldError
from legion.foundation.rng import RandomStream
from legion.neuro_architecture.generator.repair import repaired
from legion.neuro_architecture.generator.unseen import UnseenPoints
from legion.neuro_architecture.objectives import Observation
from legion.neuro_architecture.space import Axis, Point, PointSpace

__all__ = ["OptunaGenerator"]

_NAMES: Final = {"TPESampler": "optuna-tpe", "NSGAIISampler": "optuna-nsga2", "RandomSampler": "optuna-random"}
_BRANCH: Final = "branch"
_TRIES: Final = 8


@final
class OptunaGenerator:
    """Asks a sampler of Optuna for the branch and then, conditionally, for a code on each of its axes.

    Ordered axes are integers to it, the others categories. A combination that the space does not hold moves to the
    nearest that it holds, and its result is told for the combination that was asked. One that is known already is
    closed as failed, and the sampler is asked again, a few times. Violations are constraints. Levels are left out:
    Optuna has no word for them. The prior is left out, too. Until the first trial is told, the number of objectives is
    unknown: what is proposed by then comes from a study of one objective and is handed over.

    Args:
        space: What may be proposed.
        stream: Source of its draws.
        sampler: A class of `optuna.samplers` that takes a seed.

    Raises:
        UnknownNameError: Optuna has no such sampler.
        WorldError: Optuna is not installed, or older than 5.0.
    """

    def __init__(self, space: PointSpace, stream: RandomStream, *, sampler: str = "TPESampler") -> None:
        self._optuna = _load_optuna()
        if sampler not in self._optuna.samplers.__all__:
            raise UnknownNameError.of("Optuna sampler", sampler, self._optuna.samplers.__all__)
        self.name: Final = _NAMES.get(sampler, f"optuna-{sampler}")
        self._sampler = sampler
        self._space = space
        self._stream = stream.child("optuna")
        self._draw = self._stream.random()
        self._unseen = UnseenPoints(space, stream)
        self._study: Any = self._open(1)
        self._is_provisional = True
        self._open_trials: dict[Point, Any] = {}

    def propose(self, count: int) -> list[Point]:
        return self._unseen.take(count, self._ask)

    def tell(self, observations: Sequence[Observation]) -> None:
        for observation in observations:
            self._unseen.mark(observation.point)
            if self._is_provisional:
                self._study = self._open(len(observation.losses))
                self._is_provisional = False
            self._tell(observation)

    def _open(self, num_objectives: int) -> Any:
        """A study; its sampler draws from its own stream."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that parts of a sampler are experimental
            sampler = getattr(self._optuna.samplers, self._sampler)(
                seed=self._stream.child(f"{num_objectives} objectives").seed32
            )
        return self._optuna.create_study(directions=["minimize"] * num_objectives, sampler=sampler)

    def _ask(self) -> Point | None:
        for _ in range(_TRIES):
            trial = self._study.ask()
            point = repaired(self._space, self._suggested(trial), self._draw)
            if point is not None and self._unseen.holds(point):
                self._open_trials[point] = (self._study, trial)
                return point
            self._study.tell(trial, state=self._optuna.trial.TrialState.FAIL)
        return None

    def _tell(self, observation: Observation) -> None:
        """Ends the trial that asked for the point; one that another study knows is added."""
        study, trial = self._open_trials.pop(observation.point, (None, None))
        if study is self._study:
            trial.set_constraint("violation", observation.violation)
            self._study.tell(trial, list(observation.losses))
            return
        params, distributions = self._described(observation.point)
        attributes: dict[str, Any] = {}
        if trial is not None:
            asked = study.get_trials(deepcopy=False)[trial.number]
            params, distributions, attributes = asked.params, asked.distributions, asked.system_attrs
        added = self._optuna.trial.create_trial(
            values=list(observation.losses),
            params=params,
            distributions=distributions,
            constraints={"violation": observation.violation},
            system_attrs=dict(attributes),  # a population's generation is in there
        )
        self._study.add_trial(added)

    def _suggested(self, trial: Any) -> Point:
        branches = self._space.branches
        number = trial.suggest_categorical(_BRANCH, list(range(len(branches))))
        prefix = branches[number].strategy
        return (number, *(self._suggest_code(trial, f"{prefix}.{axis.name}", axis) for axis in branches[number].axes))

    def _suggest_code(self, trial: Any, name: str, axis: Axis) -> int:
        last = len(axis.values) - 1
        if axis.is_ordered:
            return int(trial.suggest_int(name, 0, last))
        return int(trial.suggest_categorical(name, list(range(last + 1))))

    def _described(self, point: Point) -> tuple[dict[str, int], dict[str, Any]]:
        """The point as a trial of Optuna has it."""
        kinds = self._optuna.distributions
        branch = self._space.branches[point[0]]
        params = {_BRANCH: point[0]}
        distributions = {_BRANCH: kinds.CategoricalDistribution(list(range(len(self._space.branches))))}
        for axis, code in zip(branch.axes, point[1:], strict=True):
            name, last = f"{branch.strategy}.{axis.name}", len(axis.values) - 1
            params[name] = code
            distributions[name] = (
                kinds.IntDistribution(0, last)
                if axis.is_ordered
                else kinds.CategoricalDistribution(list(range(last + 1)))
            )
        return params, distributions


def _load_optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise WorldError(
            "Optuna is not installed",
            cause="the generators optuna-tpe, optuna-nsga2 and optuna-random are its samplers",
            hint="pip install 'legion-neuro-rewriter[bench]'",
        ) from error
    if int(optuna.__version__.split(".")[0]) < 5:
        raise WorldError(
            f"Optuna {optuna.__version__} is too old",
            cause="trials carry constraints from 5.0 on",
            hint="pip install 'optuna>=5.0'",
        )
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
