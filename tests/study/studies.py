"""Small studies on a tiny model."""

from __future__ import annotations

from legion.foundation.settings import Settings
from legion.neuro_architecture.study import Search, StudyRecipe, parse_budget

RECIPE = {
    "name": "small",
    "task": "tiny",
    "data": "data/tiny",
    "seed": 3,
    "space": {"strategies": ["LoRA", "Adapter"]},
    "generator": {"batch": 4},
    "scheduler": {"steps": 8, "rungs": [2, 4], "factor": 2.0, "exploratory": 0.25},
    "training": {"validation_examples": 8},
    "final": {"top": 0},
}


def recipe(**changes):
    return StudyRecipe.parse(RECIPE | changes, what="recipe")


def run(budget="8trials", *, settings=None, **changes):
    """The state of a study that ran until its budget was spent."""
    search = Search(settings or Settings.load(), recipe(**changes))
    return search.run(parse_budget(budget))


def told(state):
    """What a study decided, without its times."""
    return {
        "trials": {
            name: (
                trial.point,
                trial.phase,
                trial.is_exploratory,
                [(look.steps, look.decision, round(look.loss, 6), look.values["accuracy"]) for look in trial.looks],
            )
            for name, trial in state.trials.items()
        },
        "front": [moment.front for moment in state.history],
        "generations": [(each.trials, each.factor, each.decided, each.told) for each in state.generations],
    }
