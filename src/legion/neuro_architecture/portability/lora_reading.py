"""Any plain LoRA folder, Legion's own or anybody's, as a canonical LoRA, read without its base."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from peft.utils.other import get_pattern_key
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from legion.foundation.canonical import digest_file
from legion.foundation.errors import AdapterError, NotPortableError, UsageError
from legion.foundation.files import read_json
from legion.neuro_architecture.adapters.saving import CONFIG_NAME, RECORD_NAME, WEIGHTS_NAME, AdapterRecord
from legion.neuro_architecture.portability.canonical_lora import CanonicalLoRA, pad_to_one_rank
from legion.neuro_architecture.portability.lora_folder import LORA_RECORD_NAME, TENSOR_PREFIX, LoRARecord
from legion.neuro_architecture.portability.lora_rules import (
    check_head_tensor,
    features_beyond_plain,
    refuse_shared_layer,
)
from legion.neuro_architecture.portability.low_rank import LowRank

__all__ = ["read_config", "read_lora_folder", "read_record", "read_tensors"]

_A: Final = ".lora_A.weight"
_B: Final = ".lora_B.weight"


def read_lora_folder(folder: Path) -> CanonicalLoRA:
    """The canonical form of a plain LoRA folder, ours or anybody's, read without its base.

    Raises:
        AdapterError: a file is missing or damaged; lists every mistake in the tensors.
        NotPortableError: the factors do not tell the change (DoRA, biases, an altering initialisation), or the adapter
            changes an embedding or `lm_head`.
    """
    folder = Path(folder)
    config = read_config(folder)
    beyond = features_beyond_plain(config)
    if beyond:
        raise NotPortableError(
            f"{folder} is no plain LoRA: {', '.join(beyond)}",
            cause="its files alone do not tell how the weights change",
            hint="give its base: --base BASE",
        )
    tensors = {name.removeprefix(TENSOR_PREFIX): tensor for name, tensor in read_tensors(folder / WEIGHTS_NAME).items()}
    layers, head = _layers(tensors, config, folder), _head(tensors)
    base_name, base_digest = read_record(folder, config)
    return CanonicalLoRA(
        layers=pad_to_one_rank(layers),
        target_modules=_stored_targets(config, layers),
        fan_in_fan_out=bool(config.get("fan_in_fan_out")),
        task_type=config.get("task_type"),
        base_name=base_name,
        base_digest=base_digest,
        head=head,
    )


def read_config(folder: Path) -> dict[str, Any]:
    """The folder's `adapter_config.json`.

    Raises:
        AdapterError: there is none, or it is no JSON object.
    """
    if not folder.is_dir():
        raise AdapterError(f"no adapter folder {folder}")
    missing = [name for name in (CONFIG_NAME, WEIGHTS_NAME) if not (folder / name).is_file()]
    if missing:
        raise AdapterError(
            f"{folder} lacks {', '.join(missing)}", hint="name a folder that PEFT's save_pretrained wrote"
        )
    try:
        config = read_json(folder / CONFIG_NAME)
    except UsageError as error:
        raise AdapterError(f"cannot read {folder / CONFIG_NAME}", cause=error.cause or error.message) from error
    if not isinstance(config, dict):
        raise AdapterError(f"{folder / CONFIG_NAME} is not a JSON object")
    return config


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        AdapterError: it is damaged, or a tensor is not finite or holds no floating-point numbers.
    """
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise AdapterError(f"{path} is damaged", cause=str(error)) from error
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise AdapterError(f"{name} in {path} holds NaN or infinity")
    return tensors


def _layers(tensors: Mapping[str, Tensor], config: Mapping[str, Any], folder: Path) -> dict[str, LowRank]:
    paths = list(dict.fromkeys(name.removesuffix(_A).removesuffix(_B) for name in tensors if name.endswith((_A, _B))))
    layers: dict[str, LowRank] = {}
    mistakes: list[str] = []
    for path in paths:
        refuse_shared_layer(path)
        A, B = tensors.get(f"{path}{_A}"), tensors.get(f"{path}{_B}")
        rank, scale = _rank_and_scale(config, path)
        if A is None or B is None:
            mistakes.append(f"missing tensor {path}{_A if A is None else _B}")
        elif A.dim() != 2 or B.dim() != 2 or A.shape[0] != rank or B.shape[1] != rank:
            mistakes.append(f"{path} has A {list(A.shape)} and B {list(B.shape)}, but {CONFIG_NAME} says rank {rank}")
        else:
            layers[path] = LowRank(A=A.float(), B=B.float() * scale)
    if mistakes or not layers:
        raise AdapterError(f"{folder} holds no LoRA that fits together", cause="\n".join(mistakes) or "no lora_A in it")
    return layers


def _rank_and_scale(config: Mapping[str, Any], path: str) -> tuple[int, float]:
    """PEFT's rule, patterns and all."""
    ranks, alphas = config.get("rank_pattern") or {}, config.get("alpha_pattern") or {}
    rank = ranks.get(get_pattern_key(ranks, path), config.get("r"))
    alpha = alphas.get(get_pattern_key(alphas, path), config.get("lora_alpha"))
    if not isinstance(rank, int) or rank < 1 or not isinstance(alpha, int | float):
        raise AdapterError(f"{CONFIG_NAME} gives {path} rank {rank!r} and alpha {alpha!r}")
    return rank, alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank


def _head(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    head = {name: tensor.float() for name, tensor in tensors.items() if not name.endswith((_A, _B))}
    for name, tensor in head.items():
        if "lora_embedding_" in name:
            refuse_shared_layer(name.partition(".lora_embedding_")[0], is_shared=True)
        check_head_tensor(name, tensor)
    return head


def _stored_targets(config: Mapping[str, Any], layers: Mapping[str, LowRank]) -> tuple[str, ...]:
    """The config's own names where they are a plain list over all layers, else the paths, which are always right."""
    names = config.get("target_modules")
    has_more = config.get("layers_to_transform") is not None or config.get("exclude_modules")
    if isinstance(names, list) and names and not has_more:
        return tuple(sorted(map(str, names)))
    return tuple(layers)


def read_record(folder: Path, config: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Name and digest of the base, from whichever record lies in the folder; the record's own digest is checked."""
    name = config.get("base_model_name_or_path")
    try:
        if (folder / LORA_RECORD_NAME).is_file():
            ours = LoRARecord.parse(read_json(folder / LORA_RECORD_NAME), what=LORA_RECORD_NAME)
            told, digest = (ours.base_name, ours.base_digest), ours.weights_digest
        elif (folder / RECORD_NAME).is_file():
            record = AdapterRecord.parse(read_json(folder / RECORD_NAME), what=RECORD_NAME)
            base = record.base
            told, digest = (base.name, base.digest) if base else (name, None), record.weights_digest
        else:
            return name, None
    except UsageError as error:
        raise AdapterError(f"cannot read the record in {folder}", cause=error.cause or error.message) from error
    if digest_file(folder / WEIGHTS_NAME) != digest:
        raise AdapterError(f"{WEIGHTS_NAME} in {folder} is not what its record names", cause=f"recorded {digest}")
    return told
