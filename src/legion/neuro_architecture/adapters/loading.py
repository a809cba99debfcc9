"""Reads an adapter folder and believes nothing in it: what is damaged or untrained is refused by its tensor's name."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Final

import torch
from peft import PeftModel
from safetensors import SafetensorError
from safetensors.torch import load_file

from legion.foundation.canonical import digest_file
from legion.foundation.errors import AdapterError, UsageError
from legion.foundation.files import read_json
from legion.neuro_architecture.adapters.attachment import refuse_adapted, remove_adapter
from legion.neuro_architecture.adapters.building import build_adapter
from legion.neuro_architecture.adapters.peft_methods import is_untrained
from legion.neuro_architecture.adapters.saving import (
    CONFIG_NAME,
    RECORD_NAME,
    WEIGHTS_NAME,
    AdapterRecord,
    adapter_tensors,
)
from legion.neuro_architecture.anatomy import inspect_model
from legion.neuro_architecture.spec.proposal import BaseReference

__all__ = ["load_adapter"]

_PICKLES: Final = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")
# What starts at zero and moves at the first step: left at zero, the tensor never got a gradient.
_ZERO_AT_START: Final = (
    ".lora_B.weight",
    ".bottleneck_adapter.down",
    ".mixture_adapter.down",
    *(f".split_adapter.{name}" for name in ("router", "gate_lora_b", "up_lora_b", "down_lora_b")),
)
# Which unit of a split network belongs to which expert.
_ASSIGNMENT: Final = ".split_adapter.assignment"
# What PEFT writes of its own accord, or what says nothing of the function that is computed.
_FREE_CONFIG_KEYS: Final = frozenset(
    {"auto_mapping", "base_model_name_or_path", "inference_mode", "peft_version", "revision"}
)


def load_adapter(model: Any, folder: Path, *, base: BaseReference | None = None) -> PeftModel:
    """The model with the stored adapter on it; a refused folder leaves the model as it was.

    Args:
        model: The base, without an adapter; changed in place.
        folder: As `save_adapter` wrote it.
        base: What `model` is; where given, the folder must have been made for the same digest.

    Raises:
        AdapterError: the folder is incomplete, holds pickle files or links out of itself, was made for another base,
            or its tensors are missing, unexpected, of the wrong shape, not finite, or without effect.
    """
    folder = Path(folder)
    refuse_adapted(model)
    _check_files(folder)
    record = _read_record(folder)
    _check_base(record, base, inspect_model(model).model_type)
    tensors = _read_tensors(folder / WEIGHTS_NAME)
    adapted = build_adapter(record.architecture).apply(model)
    with contextlib.ExitStack() as undo:
        undo.callback(remove_adapter, adapted)
        _check_config(folder / CONFIG_NAME, adapted)
        expected = adapter_tensors(adapted)
        mistakes = _find_mistakes(tensors, expected)
        if mistakes:
            raise AdapterError(f"{folder} is refused: {mistakes[0]}", cause="\n".join(mistakes))
        if digest_file(folder / WEIGHTS_NAME) != record.weights_digest:
            raise AdapterError(
                f"{WEIGHTS_NAME} in {folder} is not what {RECORD_NAME} names", cause=f"recorded {record.weights_digest}"
            )
        with torch.no_grad():
            for name, weight in expected.items():
                weight.copy_(tensors[name])
        undo.pop_all()
    return adapted


def _check_files(folder: Path) -> None:
    if not folder.is_dir():
        raise AdapterError(f"no adapter folder {folder}")
    pickles = sorted(path.name for path in folder.rglob("*") if path.suffix in _PICKLES)
    if pickles:
        raise AdapterError(
            f"{folder} holds {pickles[0]}", cause="pickle files can run code when loaded", hint="use safetensors"
        )
    root = folder.resolve()
    strays = sorted(path.name for path in folder.rglob("*") if not path.resolve().is_relative_to(root))
    if strays:
        raise AdapterError(f"{strays[0]} in {folder} links out of the folder")
    missing = [name for name in (CONFIG_NAME, WEIGHTS_NAME, RECORD_NAME) if not (folder / name).is_file()]
    if missing:
        raise AdapterError(f"{folder} lacks {', '.join(missing)}", hint="write it with save_adapter(model, folder)")


def _read_record(folder: Path) -> AdapterRecord:
    try:
        return AdapterRecord.parse(read_json(folder / RECORD_NAME), what=RECORD_NAME)
    except UsageError as error:
        raise AdapterError(f"cannot read {folder / RECORD_NAME}", cause=error.cause or error.message) from error


def _check_base(record: AdapterRecord, base: BaseReference | None, model_type: str) -> None:
    if record.model_type != model_type:
        raise AdapterError(f"the adapter was made for a {record.model_type} model, this is a {model_type}")
    if base is None:
        return
    made_for = record.base.digest if record.base else "an untold base"
    if made_for != base.digest:
        raise AdapterError(
            f"the adapter was not made for {base.name}", cause=f"made for {made_for}, this is {base.digest}"
        )


def _check_config(path: Path, adapted: PeftModel) -> None:
    """The stored PEFT config must be the one that the architecture gives on this model."""
    try:
        stored = read_json(path)
    except UsageError as error:
        raise AdapterError(f"cannot read {path}", cause=error.cause or error.message) from error
    if not isinstance(stored, dict):
        raise AdapterError(f"{path} is not a JSON object")
    built = adapted.peft_config[adapted.active_adapter].to_dict()
    differing = [
        f"{key}: {stored[key]!r} instead of {built[key]!r}"
        for key in sorted((stored.keys() & built.keys()) - _FREE_CONFIG_KEYS)
        if stored[key] != built[key]
    ]
    if differing:
        raise AdapterError(f"{path} does not fit the adapter's record", cause="\n".join(differing))


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise AdapterError(f"{path} is damaged", cause=str(error)) from error


def _find_mistakes(tensors: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> list[str]:
    """Everything that is wrong with the tensors, each with its name."""
    mistakes = [f"missing tensor {name}" for name in expected if name not in tensors]
    mistakes += [f"unexpected tensor {name}" for name in tensors if name not in expected]
    for name in sorted(tensors.keys() & expected.keys()):
        mistake = _mistake_of(name, tensors[name], expected[name])
        mistakes += [mistake] if mistake else []
    return mistakes


def _mistake_of(name: str, tensor: torch.Tensor, expected: torch.Tensor) -> str | None:
    if tensor.shape != expected.shape:
        return f"{name} has shape {list(tensor.shape)} instead of {list(expected.shape)}"
    if not tensor.is_floating_point():
        return f"{name} holds {tensor.dtype}, not floating-point numbers"
    if not torch.isfinite(tensor).all():
        return f"{name} holds NaN or infinity"
    return _mistake_in_meaning(name, tensor, expected)


def _mistake_in_meaning(name: str, tensor: torch.Tensor, expected: torch.Tensor) -> str | None:
    if name.endswith(_ASSIGNMENT) and not torch.equal(tensor.float().sort()[0], expected.float().sort()[0]):
        return f"{name} does not give every expert the same number of units"
    if name.endswith(_ZERO_AT_START) and not tensor.any():
        return f"{name} is all zero, so it has no effect: it was never trained"
    if is_untrained(name, tensor):
        return f"{name} is as it began, so it has no effect: it was never trained"
    return None
