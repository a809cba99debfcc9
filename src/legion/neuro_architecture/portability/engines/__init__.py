"""The engines that serve artefacts: how each is installed, found and asked."""

from legion.neuro_architecture.portability.engines.choosing import engine_for, serving_program
from legion.neuro_architecture.portability.engines.contract import Engine, Question, Reply, Served

__all__ = ["Engine", "Question", "Reply", "Served", "engine_for", "serving_program"]
