"""Which architecture others mean: PEFT's `adapter_config.json`, and the parameters that a run logged."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any, Final

from legion.foundation.errors import InvalidValueError
from legion.neuro_architecture.spec.architecture import parse_architecture, strategy_names

__all__ = ["config_of_params", "config_of_peft"]

_PEFT_WORDS: Final = {
    "r": "rank",
    "lora_alpha": "alpha",
    "lora_dropout": "dropout",
    "target_modules": "target_modules",
    "layers_to_transform": "layers",
    "use_rslora": "use_rslora",
    "use_dora": "use_dora",
    "rank_pattern": "rank_pattern",
    "alpha_pattern": "alpha_pattern",
}
_NEEDED: Final = ("r", "lora_alpha", "target_modules")

# Of these, none changes what the trained adapter computes.
_OTHER_WORDS: Final = frozenset(
    {
        "auto_mapping",
        "base_model_name_or_path",
        "inference_mode",
        "layers_pattern",
        "megatron_core",
        "peft_type",
        "peft_version",
        "revision",
        "runtime_config",
        "task_type",
    }
)
_HARMLESS: Final[tuple[Any, ...]] = (None, False, {}, [], "", "none")
_FIRST_WEIGHTS: Final = (True, False, "gaussian", "orthogonal", "eva")
_RANKS: Final = ("r", "rank", "lora_r", "lora_rank")


def config_of_peft(said: Mapping[str, Any]) -> dict[str, Any]:
    """The architecture in PEFT's config.

    Raises:
        InvalidValueError: a kind or an option that no architecture here says the same as.
    """
    if said.get("peft_type") != "LORA":
        raise InvalidValueError(f"its adapter_config.json is of kind {said.get('peft_type')!r}", cause="LORA is read")
    missing = [word for word in _NEEDED if said.get(word) is None]
    if missing:
        raise InvalidValueError(f"its adapter_config.json says no {', '.join(missing)}")
    unread = {
        word: value
        for word, value in said.items()
        if word not in _PEFT_WORDS.keys() | _OTHER_WORDS | {"init_lora_weights"} and value not in _HARMLESS
    }
    if said.get("init_lora_weights", True) not in _FIRST_WEIGHTS:
        unread["init_lora_weights"] = said["init_lora_weights"]
    if unread:
        shown = ", ".join(f"{word}={str(value)[:40]}" for word, value in sorted(unread.items()))
        raise InvalidValueError("its adapter_config.json asks for what no architecture here says", cause=shown)
    config = {ours: said[theirs] for theirs, ours in _PEFT_WORDS.items() if said.get(theirs) is not None}
    config["target_modules"] = _modules(said["target_modules"])
    layers = config.get("layers")
    if isinstance(layers, int):
        config["layers"] = [layers]
    return {"strategy": "LoRA", **config}


def config_of_params(params: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The architecture in a run's parameters, and what had to be assumed.

    They name one where they name a `strategy` of ours, or a rank, an alpha and the target modules of a LoRA.

    Raises:
        InvalidValueError: they name none, or not all of it.
    """
    strategies = {name.lower(): name for name in strategy_names()}
    strategy = strategies.get(params.get("strategy", "").lower())
    if strategy is not None:
        fields = set(type(parse_architecture({"strategy": strategy})).model_fields) - {"strategy"}
        return {"strategy": strategy, **{word: _value(params[word]) for word in sorted(fields & set(params))}}, {}
    rank = next((params[word] for word in _RANKS if word in params), None)
    if rank is None or not any(word.startswith("lora_") or word == "target_modules" for word in params):
        raise InvalidValueError("nothing of it names an adapter", cause="no adapter_config.json, no rank in its run")
    missing = [word for word in ("lora_alpha", "target_modules") if word not in params]
    if missing:
        raise InvalidValueError(f"its run logged a rank but no {', '.join(missing)}")
    said = {"r": rank, **{word: params[word] for word in _PEFT_WORDS if word in params and word != "r"}}
    config = {_PEFT_WORDS[word]: _value(text) for word, text in said.items()}
    config = {word: value for word, value in config.items() if value is not None}
    config["target_modules"] = _modules(config.get("target_modules"))
    assumed = {} if "lora_dropout" in params else {"dropout": 0.0}
    return {"strategy": "LoRA", **config}, assumed


def _modules(said: Any) -> list[str]:
    names = [said] if isinstance(said, str) else list(said) if isinstance(said, (list, tuple, set)) else []
    plain = [name for name in names if isinstance(name, str) and name.replace("-", "_").isidentifier()]
    if not plain or len(plain) != len(names):
        raise InvalidValueError(f"target_modules {str(said)[:80]!r} are no last names of layers")
    return sorted(plain)


def _value(text: str) -> Any:
    """A parameter as it was before it became text: Python's literals and JSON's; else a word, or words with commas."""
    word = {"true": "True", "false": "False", "null": "None", "none": "None"}.get(text.strip().lower(), text.strip())
    try:
        value = ast.literal_eval(word) if len(word) <= 10_000 else text
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return [part.strip() for part in text.split(",")] if "," in text else text
    return sorted(value) if isinstance(value, set) and all(isinstance(item, str) for item in value) else value
