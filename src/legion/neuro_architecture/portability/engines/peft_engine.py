"""PEFT in this process: a base checkpoint and an adapter folder as any user of PEFT loads them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, final

from legion.foundation.errors import AdapterError, EngineError, UsageError
from legion.foundation.files import read_json
from legion.neuro_architecture.portability.engines.contract import Question, Reply, Served
from legion.neuro_architecture.portability.engines.transformers_engine import answer, load_checkpoint
from legion.neuro_architecture.portability.values import Target

__all__ = ["PeftEngine"]

_CONFIG: Final = "adapter_config.json"
_WEIGHTS: Final = "adapter_model.safetensors"
_REFUSALS: Final = (ImportError, OSError, ValueError, KeyError, RuntimeError, AttributeError, TypeError)


@final
class PeftEngine:
    """Implements `Engine` with the installed PEFT: fp32, eager attention, every tensor of the folder used.

    PEFT itself only warns of tensors that are missing or left over, and then serves an adapter that was never trained.
    """

    @property
    def target(self) -> Target:
        return "peft"

    def version(self) -> str:
        import peft
        import transformers

        return f"peft {peft.__version__} on transformers {transformers.__version__}"

    def ask(self, jobs: Sequence[tuple[Served, Sequence[Question]]]) -> list[list[Reply]]:
        """As `Engine.ask`, with logits.

        Raises:
            ModelError: a base folder asks to run code of its own, or links out of itself.
            AdapterError: an adapter folder is damaged.
            EngineError: PEFT refuses an adapter, or its tensors are not exactly those of its config.
        """
        return [_serve(served, questions) for served, questions in jobs]


def _serve(served: Served, questions: Sequence[Question]) -> list[Reply]:
    if served.adapter is None:
        raise EngineError("PEFT serves an adapter folder on a base; none is given", hint="ask transformers")
    model, is_classifier = _load(served.model, served.adapter)
    return [answer(model, question, is_classifier=is_classifier) for question in questions]


def _load(base_folder: Path, folder: Path) -> tuple[Any, bool]:
    from peft import PeftModel, get_peft_model_state_dict

    from legion.neuro_architecture.adapters.peft_methods import without_compiling

    stored = _shapes(folder / _WEIGHTS)
    num_labels, fresh = _head(folder, stored)
    base, is_classifier = load_checkpoint(base_folder, num_labels=num_labels, fresh=fresh)
    try:
        with without_compiling(), warnings.catch_warnings():
            # Missing and unexpected tensors are compared below, each with its name.
            warnings.filterwarnings("ignore", message="Found missing adapter keys", category=UserWarning)
            warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)
            model = PeftModel.from_pretrained(base, str(folder), local_files_only=True)
    except _REFUSALS as error:
        raise EngineError(f"PEFT refuses {folder}", cause=str(error).strip() or type(error).__name__) from error
    expected = get_peft_model_state_dict(model, save_embedding_layers=False)
    # RandLoRA's random bases are one tensor under many names; the folder holds it once.
    present = {expected[name].data_ptr() for name in expected.keys() & stored.keys()}
    lacking = [name for name in sorted(expected.keys() - stored.keys()) if expected[name].data_ptr() not in present]
    mistakes = [f"missing tensor {name}" for name in lacking]
    mistakes += [f"unexpected tensor {name}" for name in sorted(stored.keys() - expected.keys())]
    if mistakes:
        raise EngineError(f"{folder} does not hold the adapter of its config", cause="\n".join(mistakes[:10]))
    return model.eval(), is_classifier


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as tensors:
            return {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise AdapterError(f"{path} is missing or damaged", cause=str(error)) from error


def _head(folder: Path, stored: dict[str, tuple[int, ...]]) -> tuple[int | None, tuple[str, ...]]:
    """How many labels the adapter's own classifier has, if it brings one, and which modules the base may lack for it.

    Only modules that the adapter brings itself: anything else would be drawn afresh and answer noise.
    """
    try:
        config = read_json(folder / _CONFIG)
    except UsageError as error:
        raise AdapterError(f"{folder} is no adapter folder", cause=error.cause or error.message) from error
    saved = tuple(config.get("modules_to_save") or ()) if isinstance(config, dict) else ()
    if not saved:
        return None, ()
    # The last linear of a head writes the labels: `classifier.weight`, or `classifier.out_proj.weight`.
    heads = [shape for name, shape in stored.items() if name.endswith(".weight") and _is_labels(name, saved)]
    return (heads[0][0] if heads else None), saved


def _is_labels(name: str, saved: tuple[str, ...]) -> bool:
    parts = name.split(".")[:-1]
    head = next((part for part in ("classifier", "score") if part in parts and part in saved), None)
    return head is not None and parts[-1] in (head, "out_proj")
