"""What earlier studies of this workspace say of where to look first, and how far they are to be believed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch

from legion.foundation.settings import Settings
from legion.neuro_architecture.data.base_models import BaseModel
from legion.neuro_architecture.data.datasets import DataSet
from legion.neuro_architecture.data.encoding import TaskEncoder
from legion.neuro_architecture.scheduler import kendall_tau
from legion.neuro_architecture.space import Point, PointSpace, learnt_prior, prior_gain
from legion.neuro_architecture.spec.dominance import constrained_ranks
from legion.neuro_architecture.study.criteria import Criteria
from legion.neuro_architecture.study.front import completed, end_values, front_of, normalised_hypervolume
from legion.neuro_architecture.study.state import StudyState, StudyStore, TrialRecord

__all__ = ["WARM", "data_embedding", "find_earlier", "is_misleading", "warmed"]

# The key of a study's problem under which the earlier one stands.
WARM: Final = "warm_start"

_SAMPLED: Final = 256
_GOOD_SHARE: Final = 1 / 3
_OTHER_BASE: Final = 0.5
_LEAST_LIKENESS: Final = 0.1
_MOST_LIKENESS: Final = 0.9
_LEAST_TRIALS: Final = 12


def data_embedding(base: BaseModel, data: DataSet, *, max_tokens: int) -> list[float]:
    """Where a data set lies among others: over its first training examples, the mean input embedding of their tokens,
    less the mean of the whole vocabulary, of length 1.

    Without the vocabulary's mean all texts would look alike. It takes no forward pass, and serves encoders and causal
    models alike.
    """
    encoder = TaskEncoder(base.tokenizer(), data.spec, max_tokens=min(base.max_tokens, max_tokens))
    items = encoder.encode_all(data.train[:_SAMPLED])
    table_VD = base.load(data.spec).get_input_embeddings().weight.detach().double()
    counts_V = torch.zeros(len(table_VD), dtype=torch.float64)
    for item in items:
        counts_V.index_add_(
            0, torch.tensor(item.input_ids), torch.full((len(item.input_ids),), 1.0 / len(item.input_ids)).double()
        )
    mean_D = (counts_V[:, None] * table_VD).sum(0) / counts_V.sum() - table_VD.mean(0)
    unit_D = mean_D / mean_D.norm().clamp_min(1e-12)
    return [round(float(value), 5) for value in unit_D]


def find_earlier(settings: Settings, name: str, problem: dict[str, Any], space: PointSpace) -> dict[str, Any] | None:
    """The earlier study that is most like this one, with its likeness and what was good in it; None where none is like
    it at all.

    Likeness is the cosine of the data's embeddings where both have the same width and 0 where not, times a half where
    the base is another of the same family and 0 of another family, times the fourth root of the smaller data set's
    share of the larger one.
    """
    found: list[tuple[float, str, StudyState]] = []
    for other in StudyStore.names(settings):
        state = None if other == name else StudyStore(settings, other).read()
        if state is not None and state.history:
            found.append((_likeness(problem, state.problem), other, state))
    if not found:
        return None
    likeness, other, state = max(found, key=lambda row: (row[0], row[1]))
    good = _good_points(state, space)
    if likeness < _LEAST_LIKENESS or not any(good):
        return None
    front, rest = good
    return {
        "study": other,
        "likeness": round(min(likeness, _MOST_LIKENESS), 4),
        "front": [list(point) for point in front],
        "good": [list(point) for point in front + rest],
    }


def warmed(space: PointSpace, earlier: dict[str, Any] | None, count: int) -> tuple[PointSpace, frozenset[Point]]:
    """The space under the prior that the earlier study taught, and those of its front that are looked at first and to
    the end, whatever the rungs say: as many as fill half of a first generation of `count`, the most worth together.
    """
    if earlier is None:
        return space, frozenset()
    carried = [tuple(point) for point in earlier.get("front", ())][: max(1, count // 2)]
    good = [tuple(point) for point in earlier["good"]]
    return learnt_prior(space, good, earlier["likeness"], starts=carried), frozenset(carried)


def is_misleading(state: StudyState, biased: PointSpace, own: PointSpace) -> bool:
    """Whether what the learnt prior favours has learnt worse than the rest: Kendall's tau of its gain with the
    expected accuracy at the first rung, over twelve trials at least, says so.
    """
    rung = state.recipe.scheduler.rungs[0] if state.recipe.scheduler.rungs else state.recipe.scheduler.steps
    rows = [
        (-math.log(prior_gain(biased, own, trial.point)), -look.expected_accuracy)
        for trial in state.trials.values()
        if (look := trial.look_at(rung)) is not None
    ]
    if len(rows) < _LEAST_TRIALS:
        return False
    tau = kendall_tau([row[0] for row in rows], [row[1] for row in rows])
    return tau is not None and tau < 0.0


def _good_points(state: StudyState, space: PointSpace) -> tuple[list[Point], list[Point]]:
    """The front, each after those with which it dominates most, and what else is of the best third of what went to the
    end, best first; as far as this space holds them.
    """
    criteria = Criteria.of(state.recipe.objectives, state.recipe.constraints, state.recipe.weights)
    trials = completed(state, criteria)
    if not trials:
        return [], []
    values = [end_values(trial) for trial in trials]
    ranks = constrained_ranks(
        [criteria.losses(each) for each in values],
        [-1] * len(criteria.objectives),
        [criteria.violation(each, is_final=True) for each in values],
    )
    ordered = sorted(zip(ranks, (-score for score in criteria.preference(values)), range(len(trials)), strict=True))
    best = [trials[place] for _, _, place in ordered[: max(3, math.ceil(_GOOD_SHARE * len(trials)))]]
    front = _by_volume(front_of(state, criteria), criteria, state.reference_point)
    known = {trial.id for trial in front}
    return _held(front, space), _held([trial for trial in best if trial.id not in known], space)


def _by_volume(
    front: Sequence[TrialRecord], criteria: Criteria, reference: Sequence[float] | None
) -> list[TrialRecord]:
    """The front in the order that lets the dominated volume grow fastest."""
    if reference is None:
        return list(front)
    left, chosen = list(front), list[TrialRecord]()
    points: list[tuple[float, ...]] = []
    while left:
        losses = [criteria.losses(end_values(trial)) for trial in left]
        volumes = [normalised_hypervolume([*points, each], reference) for each in losses]
        place = max(range(len(left)), key=lambda index: volumes[index])
        points.append(losses[place])
        chosen.append(left.pop(place))
    return chosen


def _held(trials: Sequence[TrialRecord], space: PointSpace) -> list[Point]:
    points = (space.point_with(trial.traits) for trial in trials)
    return list(dict.fromkeys(point for point in points if point is not None))


def _likeness(here: dict[str, Any], there: dict[str, Any]) -> float:
    one, other = here.get("embedding"), there.get("embedding")
    if not one or not other or len(one) != len(other):
        return 0.0
    if here["base"]["model_type"] != there["base"]["model_type"] or here["kind"] != there["kind"]:
        return 0.0
    same = 1.0 if here["base"]["digest"] == there["base"]["digest"] else _OTHER_BASE
    sizes: Sequence[int] = sorted((here["num_train"], there["num_train"]))
    return float(max(0.0, float(np.dot(one, other))) * same * (sizes[0] / sizes[1]) ** 0.25)
