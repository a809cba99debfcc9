"""Which engine answers for a target on this machine."""

from __future__ import annotations

from pathlib import Path

from legion.foundation.settings import Settings
from legion.neuro_architecture.portability.engines.contract import Engine
from legion.neuro_architecture.portability.engines.environments import find_engine, install_command
from legion.neuro_architecture.portability.values import Target

__all__ = ["engine_for", "serving_program"]


def engine_for(target: Target, settings: Settings) -> Engine | str:
    """The engine that serves `target` here, or the reason why there is none, with the command that installs it.

    For `ollama` it is llama.cpp, which reads the same file.

    Raises:
        EngineError: the settings point to something that is not that engine.
    """
    match target:
        case "transformers":
            from legion.neuro_architecture.portability.engines.transformers_engine import TransformersEngine

            return TransformersEngine()
        case "peft":
            from legion.neuro_architecture.portability.engines.peft_engine import PeftEngine

            return PeftEngine()
        case "vllm":
            return _vllm(settings)
        case "llama.cpp" | "ollama":  # Ollama gives no log-probabilities; llama.cpp is the engine inside it
            return _llama_cpp(settings)


def serving_program(target: Target, settings: Settings) -> tuple[str, Path] | None:
    """The program that the serving commands of `target` begin with and where it is here, or None where it is unknown.

    Raises:
        EngineError: the settings point to something that is not that engine.
    """
    match target:
        case "vllm":
            found = find_engine("vllm", settings)
            return None if found is None or found.python is None else ("python", found.python)
        case "llama.cpp":
            found = find_engine("llama.cpp", settings)
            return None if found is None or found.binary is None else ("llama-server", found.binary)
        case _:
            return None


def _vllm(settings: Settings) -> Engine | str:
    from legion.neuro_architecture.portability.engines.vllm import VllmEngine

    found = find_engine("vllm", settings)
    if found is None or found.python is None:
        return _missing("vllm")
    return VllmEngine(found.python, version=found.title)


def _llama_cpp(settings: Settings) -> Engine | str:
    from legion.neuro_architecture.portability.engines.llama_cpp import LlamaCppEngine

    found = find_engine("llama.cpp", settings)
    if found is None or found.binary is None:
        return _missing("llama.cpp")
    return LlamaCppEngine(found.binary, version=found.title)


def _missing(name: str) -> str:
    return f"{name} is not installed here; install it: {install_command(name)}"
