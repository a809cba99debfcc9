"""Floor 4: introduces the stages to each other: one pass of the loop, and the search."""

from legion.neuro_architecture.study.budget import Budget, parse_budget
from legion.neuro_architecture.study.loop import Loop, LoopConfig, LoopOutcome
from legion.neuro_architecture.study.recipe import StudyRecipe, read_recipe
from legion.neuro_architecture.study.replay import ReplayReport, replay
from legion.neuro_architecture.study.report import study_record
from legion.neuro_architecture.study.search import Search
from legion.neuro_architecture.study.state import StudyState, StudyStore

__all__ = [
    "Budget",
    "Loop",
    "LoopConfig",
    "LoopOutcome",
    "ReplayReport",
    "Search",
    "StudyRecipe",
    "StudyState",
    "StudyStore",
    "parse_budget",
    "read_recipe",
    "replay",
    "study_record",
]
