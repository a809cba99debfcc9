"""What vLLM cannot serve of a LoRA folder, said before an engine is started for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from legion.foundation.errors import AdapterError, NotPortableError, UsageError
from legion.foundation.files import read_json

__all__ = ["VLLM_LORA_RANKS", "refuse_unservable", "serving_rank"]

# The values that vLLM's `max_lora_rank` takes.
VLLM_LORA_RANKS: Final = (1, 8, 16, 32, 64, 128, 256, 320, 512)
_CONFIG: Final = "adapter_config.json"
_WEIGHTS: Final = "adapter_model.safetensors"
# While an adapter of the head is loaded, vLLM's answers of the base model change too.
_SHARED_WITH_BASE: Final = ("lm_head", "embed_tokens", "embed_out", "wte", "lora_embedding")
_UNKNOWN_TO_VLLM: Final = {
    "use_dora": "DoRA",
    "lora_bias": "LoRA biases",
    "modules_to_save": "modules_to_save",
    "alora_invocation_tokens": "activated LoRA",
    "layer_replication": "layer_replication",
    "use_qalora": "QALoRA",
    "use_bdlora": "block-diagonal LoRA",
}
# Inits that draw A and B and leave the base as it is; the others change the base when PEFT loads the adapter.
_PLAIN_INITS: Final = frozenset({"gaussian", "eva", "orthogonal", "mica"})
_HINT: Final = "fold it first: legion export SNAPSHOT --to vllm -o DIR"


def serving_rank(folder: Path, max_rank: int) -> int:
    """The smallest `max_lora_rank` that serves the adapter.

    Raises:
        AdapterError: the folder's config cannot be read.
        NotPortableError: its rank exceeds `max_rank`.
    """
    config = _config(folder)
    ranks = [config.get("r"), *(config.get("rank_pattern") or {}).values()]
    if not all(isinstance(rank, int) and rank > 0 for rank in ranks):
        raise AdapterError(f"{folder / _CONFIG} names no rank", cause=f"r and rank_pattern: {ranks}")
    rank = max(ranks)
    if rank > max_rank:
        raise NotPortableError(
            f"rank {rank} is above the server's maximum of {max_rank}",
            cause=f"{folder} needs --max-lora-rank {rank}; vLLM takes {', '.join(map(str, VLLM_LORA_RANKS))}",
            hint="lower the rank, or merge the adapter into the base",
        )
    return next(allowed for allowed in VLLM_LORA_RANKS if allowed >= rank)


def refuse_unservable(folder: Path, max_rank: int) -> None:
    """Refuses an adapter folder that vLLM would refuse, serve wrongly, or let spoil its base model.

    Raises:
        AdapterError: the folder is incomplete, damaged, or holds weights that are not finite.
        NotPortableError: lists every reason.
    """
    config = _config(folder)
    if config.get("peft_type") != "LORA":
        raise NotPortableError(
            f"vLLM serves LoRA adapters, not {config.get('peft_type')}", cause=str(folder / _CONFIG), hint=_HINT
        )
    serving_rank(folder, max_rank)
    reasons = [f"{words} ({key})" for key, words in _UNKNOWN_TO_VLLM.items() if config.get(key)]
    if config.get("bias", "none") != "none":
        reasons.append(f"trained biases (bias={config['bias']})")
    init = config.get("init_lora_weights", True)
    if isinstance(init, str) and init.lower() not in _PLAIN_INITS:
        reasons.append(f"an init that changes the base (init_lora_weights={init})")
    reasons += [
        f"{name} belongs to the head or the embeddings: the base's own answers would change while it is loaded"
        for name in _tensor_names(folder)
        if any(part in _SHARED_WITH_BASE for part in name.split("."))
    ]
    if reasons:
        raise NotPortableError(f"vLLM cannot serve {folder}", cause="\n".join(reasons), hint=_HINT)


def _config(folder: Path) -> dict[str, Any]:
    try:
        config = read_json(folder / _CONFIG)
    except UsageError as error:
        raise AdapterError(f"{folder} is no adapter folder", cause=error.cause or error.message) from error
    if not isinstance(config, dict):
        raise AdapterError(f"{folder / _CONFIG} is not a JSON object")
    return config


def _tensor_names(folder: Path) -> list[str]:
    """The adapter's tensors, each of them checked for NaN and infinity."""
    import torch
    from safetensors import SafetensorError, safe_open

    path = folder / _WEIGHTS
    try:
        with safe_open(path, framework="pt") as tensors:
            names = list(tensors.keys())
            wrong = [name for name in names if not torch.isfinite(tensors.get_tensor(name)).all()]
    except (SafetensorError, OSError) as error:
        raise AdapterError(f"{path} is missing or damaged", cause=str(error)) from error
    if wrong:
        raise AdapterError(f"{wrong[0]} in {path} holds NaN or infinity")
    return names
