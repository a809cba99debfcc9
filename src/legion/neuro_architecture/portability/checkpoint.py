"""A stock checkpoint as values, and its folder: weights, config and tokenizer, never code."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import torch

from legion.foundation.errors import AdapterError, NotPortableError
from legion.foundation.files import read_json, write_json

__all__ = ["StockCheckpoint", "refuse_code", "write_checkpoint"]

_TOKENIZER_FILES: Final = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "chat_template.jinja",
    "generation_config.json",
)
_CODE: Final = (".py", ".pyc", ".so", ".bin", ".pt", ".pth", ".pkl")
_SHARD: Final = "5GB"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class StockCheckpoint:
    """An unmodified architecture with weights.

    Attributes:
        config: A transformers config object.
        architecture: The class that loads it (`Qwen2MoeForCausalLM`).
        tensors: Weights under the names that the family's checkpoints use on disk.
    """

    config: Any
    architecture: str
    tensors: dict[str, torch.Tensor]


def write_checkpoint(checkpoint: StockCheckpoint, folder: Path, *, tokenizer_from: Path) -> None:
    """Fills `folder` with fp32 safetensors, `config.json` and the base's tokenizer files.

    Raises:
        AdapterError: a weight is not finite; names it.
    """
    from huggingface_hub import save_torch_state_dict

    tensors = {name: weight.to(torch.float32).contiguous() for name, weight in checkpoint.tensors.items()}
    for name, weight in tensors.items():
        if not torch.isfinite(weight).all():
            raise AdapterError(f"weights are not finite: {name}", cause="nothing was published")
    folder.mkdir(parents=True, exist_ok=True)
    save_torch_state_dict(tensors, folder, max_shard_size=_SHARD, metadata={"format": "pt"})
    for path in folder.glob("*.safetensors"):
        path.chmod(0o644)  # safetensors writes for its owner alone; servers run as others
    write_json(folder / "config.json", _plain_config(checkpoint))
    _copy_tokenizer(tokenizer_from, folder)
    refuse_code(folder)


def refuse_code(folder: Path) -> None:
    """Raises NotPortableError where a folder holds code, a pickle, or a config that asks for code."""
    found = sorted(path.name for path in folder.rglob("*") if path.suffix in _CODE)
    for path in sorted(folder.rglob("*.json")):
        if '"auto_map"' in path.read_text(encoding="utf-8"):
            found.append(f"auto_map in {path.name}")
    if found:
        raise NotPortableError(f"{folder.name} is no stock artefact", cause="it holds " + ", ".join(found))


def _plain_config(checkpoint: StockCheckpoint) -> dict[str, Any]:
    config: dict[str, Any] = json.loads(checkpoint.config.to_json_string(use_diff=False))
    for key in ("auto_map", "_name_or_path", "torch_dtype"):
        config.pop(key, None)
    return config | {"architectures": [checkpoint.architecture], "dtype": "float32"}


def _copy_tokenizer(source: Path, folder: Path) -> None:
    for name in _TOKENIZER_FILES:
        if not (source / name).is_file():
            continue
        if name == "tokenizer_config.json":
            settings = read_json(source / name)
            settings.pop("auto_map", None)
            write_json(folder / name, settings)
        else:
            shutil.copyfile(source / name, folder / name)
