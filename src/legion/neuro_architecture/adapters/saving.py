"""An adapter as a folder: PEFT's two files and our record of what it is and what it belongs to."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Final, Literal

import torch
from peft import get_peft_model_state_dict
from safetensors.torch import save_file

from legion.foundation.canonical import digest_file
from legion.foundation.errors import AdapterError
from legion.foundation.files import publish_folder, write_json
from legion.neuro_architecture.adapters.attachment import attachment_of
from legion.neuro_architecture.adapters.virtual_tokens import VirtualTokensModel
from legion.neuro_architecture.spec._value import Value
from legion.neuro_architecture.spec.architecture import Architecture
from legion.neuro_architecture.spec.proposal import BaseReference

__all__ = ["CONFIG_NAME", "RECORD_NAME", "WEIGHTS_NAME", "AdapterRecord", "adapter_tensors", "save_adapter"]

CONFIG_NAME: Final = "adapter_config.json"
WEIGHTS_NAME: Final = "adapter_model.safetensors"
RECORD_NAME: Final = "legion_adapter.json"


class AdapterRecord(Value):
    """What an adapter folder says of itself.

    Attributes:
        format: Version of this record.
        architecture: The adapter.
        model_type: Family of the base it was trained on.
        base: The base it was trained on, or None when that was not told.
        weights_digest: Of the weights' file.
    """

    format: Literal[1] = 1
    architecture: Architecture
    model_type: str
    base: BaseReference | None
    weights_digest: str


def adapter_tensors(model: Any) -> dict[str, torch.Tensor]:
    """The adapter's and the head's tensors under the names that PEFT stores them by; they share the model's memory."""
    if isinstance(model, VirtualTokensModel):
        return {"prompt_embeddings": model.prompt_encoder[model.active_adapter].embedding.weight.detach()}
    tensors: dict[str, torch.Tensor] = get_peft_model_state_dict(model, save_embedding_layers=False)
    return {name: tensor for name, tensor in tensors.items() if not _is_shared(name)}


def _is_shared(name: str) -> bool:
    """RandLoRA's projections are one pair for the whole model, which PEFT names once more for every layer."""
    path, _, last = name.rpartition(".")
    return last in ("randlora_A", "randlora_B") and path != "base_model"


def save_adapter(model: Any, folder: Path, *, base: BaseReference | None = None) -> str:
    """Writes the adapter of `model` as a folder, whole or not at all, and returns the digest of its weights' file.

    The folder of a LoRA is one that stock PEFT loads.

    Raises:
        AdapterError: the model carries no adapter of ours, or a weight is not finite.
        WorldError: the disk refused.
    """
    attachment = attachment_of(model)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in adapter_tensors(model).items()}
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise AdapterError(f"weights are not finite: {name}", cause="nothing was written")
    config = copy.copy(model.peft_config[model.active_adapter])
    config.inference_mode = True
    config.base_model_name_or_path = base.name if base else None
    digests: list[str] = []

    def fill(fresh: Path) -> None:
        save_file(tensors, fresh / WEIGHTS_NAME, metadata={"format": "pt"})
        (fresh / WEIGHTS_NAME).chmod(0o644)  # safetensors writes for its owner alone; servers run as others
        config.save_pretrained(str(fresh))
        digests.append(digest_file(fresh / WEIGHTS_NAME))
        record = AdapterRecord(
            architecture=attachment.architecture,
            model_type=attachment.model_type,
            base=base,
            weights_digest=digests[0],
        )
        write_json(fresh / RECORD_NAME, record.to_dict())

    publish_folder(Path(folder), fill)
    return digests[0]
