"""A canonical LoRA as a folder that stock PEFT, vLLM and llama.cpp read.

Beside PEFT's two files stands `legion_lora.json`: the base's digest and what was left out. Servers ignore it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, Literal

import torch
from peft import LoraConfig
from safetensors.torch import save_file
from torch import Tensor

from legion.foundation.canonical import digest_file
from legion.foundation.errors import AdapterError
from legion.foundation.files import publish_folder, write_json
from legion.neuro_architecture.adapters.saving import CONFIG_NAME, WEIGHTS_NAME
from legion.neuro_architecture.portability.canonical_lora import CanonicalLoRA
from legion.neuro_architecture.spec._value import Value

__all__ = ["LORA_RECORD_NAME", "TENSOR_PREFIX", "LoRARecord", "write_canonical_lora"]

LORA_RECORD_NAME: Final = "legion_lora.json"
TENSOR_PREFIX: Final = "base_model.model."


class LoRARecord(Value):
    """What a canonical LoRA's folder says beyond PEFT's files.

    Attributes:
        format: Version of this record.
        base_name: What the base is called, where it is known.
        base_digest: Digest of the base's weights, where it is known.
        rank: Of every layer.
        relative_error: Share of the change that the decomposition left out (Frobenius norm), all layers together.
        layer_errors: The same for each decomposed layer, with its absolute norm.
        weights_digest: Of the weights' file.
    """

    format: Literal[1] = 1
    base_name: str | None
    base_digest: str | None
    rank: int
    relative_error: float
    layer_errors: dict[str, dict[str, float]]
    weights_digest: str


def write_canonical_lora(adapter: CanonicalLoRA, folder: Path, base_name: str | None = None) -> str:
    """Writes the folder, whole or not at all, and returns the digest of its weights' file.

    Args:
        adapter: What to write.
        folder: Replaced where it exists.
        base_name: What servers shall load as the base; by default what the adapter knows.

    Raises:
        AdapterError: a tensor is not finite.
        WorldError: the disk refused.
    """
    tensors = _tensors(adapter)
    digests: list[str] = []

    def fill(fresh: Path) -> None:
        save_file(tensors, fresh / WEIGHTS_NAME, metadata={"format": "pt"})
        (fresh / WEIGHTS_NAME).chmod(0o644)  # safetensors writes for its owner alone; servers run as others
        digests.append(digest_file(fresh / WEIGHTS_NAME))
        write_json(fresh / CONFIG_NAME, _config(adapter, base_name or adapter.base_name))
        write_json(fresh / LORA_RECORD_NAME, _record(adapter, digests[0]).to_dict())

    publish_folder(Path(folder), fill)
    return digests[0]


def _tensors(adapter: CanonicalLoRA) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for path, change in adapter.layers.items():
        tensors[f"{TENSOR_PREFIX}{path}.lora_A.weight"] = change.A
        tensors[f"{TENSOR_PREFIX}{path}.lora_B.weight"] = change.B
    tensors |= {f"{TENSOR_PREFIX}{name}": weight for name, weight in adapter.head.items()}
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise AdapterError(f"{name} holds NaN or infinity", cause="nothing was written")
    return {name: tensor.detach().cpu().float().contiguous() for name, tensor in tensors.items()}


def _config(adapter: CanonicalLoRA, base_name: str | None) -> dict[str, Any]:
    config = LoraConfig(
        r=adapter.rank,
        lora_alpha=adapter.rank,
        target_modules=list(adapter.target_modules),
        fan_in_fan_out=adapter.fan_in_fan_out,
        modules_to_save=list(adapter.head_modules) or None,
        task_type=adapter.task_type,
        base_model_name_or_path=base_name,
        inference_mode=True,
    )
    # PEFT turns the names into a set, whose order differs from run to run.
    plain = {key: sorted(value) if isinstance(value, set) else value for key, value in config.to_dict().items()}
    return dict(sorted(plain.items()))


def _record(adapter: CanonicalLoRA, weights_digest: str) -> LoRARecord:
    return LoRARecord(
        base_name=adapter.base_name,
        base_digest=adapter.base_digest,
        rank=adapter.rank,
        relative_error=adapter.residual.relative,
        layer_errors={path: residual.to_dict() for path, residual in adapter.residuals.items()},
        weights_digest=weights_digest,
    )
