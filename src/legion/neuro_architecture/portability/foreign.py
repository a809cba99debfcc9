"""An adapter folder on its base, which tells what files alone do not: DoRA, biases, altering initialisations.

Legion's own folders are read by `load_adapter`; those of others by stock PEFT, whose warnings about missing or
unexpected tensors are errors here.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from peft import PeftConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor

from legion.foundation.errors import AdapterError, NotPortableError
from legion.neuro_architecture.adapters import load_adapter
from legion.neuro_architecture.adapters.saving import RECORD_NAME, WEIGHTS_NAME
from legion.neuro_architecture.data.base_models import BaseModel
from legion.neuro_architecture.portability.algebra import rerank
from legion.neuro_architecture.portability.canonical_lora import CanonicalLoRA, canonical_lora
from legion.neuro_architecture.portability.checkpoint import StockCheckpoint
from legion.neuro_architecture.portability.deltas import layer_deltas
from legion.neuro_architecture.portability.lora_reading import read_config, read_lora_folder, read_record, read_tensors
from legion.neuro_architecture.portability.lora_rules import alters_base, head_module, rank_error, refuse_lost_start
from legion.neuro_architecture.spec.task import TaskSpec

__all__ = ["canonicalize_folder", "load_on_base", "merge_folder"]

_REFUSALS: Final = (AttributeError, ImportError, KeyError, RuntimeError, TypeError, ValueError)


def canonicalize_folder(
    folder: Path, *, base: BaseModel | None = None, rank: int | None = None, max_rank: int | None = None
) -> CanonicalLoRA:
    """The canonical LoRA of any adapter folder.

    Args:
        folder: Of a plain LoRA; with `base`, of any method that PEFT can merge.
        base: What the adapter was trained on.
        rank: As `canonical_lora`.
        max_rank: As `canonical_lora`.

    Raises:
        AdapterError: the folder is damaged, or was made for another base.
        NotPortableError: the change cannot be told, or a LoRA cannot carry it.
    """
    if base is not None:
        model = load_on_base(folder, base)
        config = model.peft_config[model.active_adapter]
        is_altered = alters_base(getattr(config, "init_lora_weights", None))
        original = base.load(_task(folder)) if is_altered else None
        return canonical_lora(model, rank=rank, max_rank=max_rank, base=base.reference, original=original)
    adapter = read_lora_folder(folder)
    if rank is not None and max_rank is not None and rank > max_rank:
        raise rank_error(rank, max_rank)
    if rank is not None:
        return rerank(adapter, rank)[0]
    if max_rank is not None and adapter.rank > max_rank:
        raise rank_error(adapter.rank, max_rank)
    return adapter


def merge_folder(folder: Path, base: BaseModel) -> StockCheckpoint:
    """The base with an adapter merged into it: weights, biases and the trained head.

    Raises:
        AdapterError: the folder is damaged, or was made for another base.
        NotPortableError: it cannot be merged, or changes one of two tied weights.
    """
    model = load_on_base(folder, base)
    inner: Any = model.get_base_model()
    for delta in layer_deltas(model):
        is_output = inner.get_submodule(delta.path) is inner.get_output_embeddings()
        if (delta.is_embedding or is_output) and inner.config.tie_word_embeddings:
            raise NotPortableError(
                f"the adapter changes {delta.path}.weight", cause="the base ties it to another, which would change too"
            )
    merged = model.merge_and_unload(safe_merge=True)
    tensors = {name: weight.detach() for name, weight in merged.named_parameters()}
    return StockCheckpoint(config=merged.config, architecture=type(merged).__name__, tensors=tensors)


def load_on_base(folder: Path, base: BaseModel) -> PeftModel:
    """The base with the adapter of a folder on it, every tensor in its place.

    Raises:
        AdapterError: the folder is damaged, was made for another base, or its tensors are missing, unexpected, of the
            wrong shape or not finite.
        NotPortableError: its initialisation changed the base by what the folder does not keep.
        ModelError: the base cannot be loaded for the adapter's task.
    """
    folder = Path(folder)
    refuse_lost_start(read_config(folder))
    _refuse_other_base(folder, base)
    model = base.load(_task(folder))
    if (folder / RECORD_NAME).is_file():
        return load_adapter(model, folder, base=base.reference).eval()
    tensors = read_tensors(folder / WEIGHTS_NAME)
    try:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            config = PeftConfig.from_pretrained(str(folder))
            config.inference_mode = True
            adapted = get_peft_model(model, config, autocast_adapter_dtype=False)
            set_peft_model_state_dict(adapted, dict(tensors))
            expected = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    except _REFUSALS as error:
        cause = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise AdapterError(f"{folder} does not fit {base.reference.name}", cause=cause) from error
    _compare(folder, tensors, expected)
    return adapted.eval()


def _refuse_other_base(folder: Path, base: BaseModel) -> None:
    _, digest = read_record(folder, {})
    if digest is not None and digest != base.reference.digest:
        raise AdapterError(
            f"the adapter was not made for {base.reference.name}",
            cause=f"made for {digest}, this is {base.reference.digest}",
        )


def _task(folder: Path) -> TaskSpec:
    """What the base is loaded for: a classifier with as many labels as the stored head has, else a causal model."""
    config, tensors = read_config(folder), read_tensors(folder / WEIGHTS_NAME)
    heads = [tensor for name, tensor in tensors.items() if _is_head_weight(name, tensor)]
    if config.get("task_type") == "CAUSAL_LM" or not heads:
        return TaskSpec(name="adapter", kind="summarization")
    labels = tuple(f"label {index}" for index in range(min(head.shape[0] for head in heads)))
    return TaskSpec(name="adapter", kind="classification", labels=labels)


def _is_head_weight(name: str, tensor: Tensor) -> bool:
    return head_module(name) is not None and ".lora_" not in name and tensor.dim() == 2


def _compare(folder: Path, tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    mistakes = [f"missing tensor {name}" for name in sorted(expected.keys() - tensors.keys())]
    mistakes += [f"unexpected tensor {name}" for name in sorted(tensors.keys() - expected.keys())]
    if mistakes:
        raise AdapterError(f"{folder} is refused: {mistakes[0]}", cause="\n".join(mistakes[:10]))
