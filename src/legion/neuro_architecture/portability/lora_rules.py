"""What a LoRA folder may hold so that PEFT, vLLM and llama.cpp compute the same from it; everything else is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor

from legion.foundation.errors import AdapterError, NotPortableError

__all__ = [
    "HEADS",
    "VLLM_RANKS",
    "alters_base",
    "bias_error",
    "check_head_tensor",
    "features_beyond_plain",
    "head_module",
    "rank_error",
    "refuse_lost_start",
    "refuse_shared_layer",
    "server_rank",
]

# What `--max-lora-rank` takes in vLLM; an adapter of any rank up to it is served.
VLLM_RANKS: Final = (1, 8, 16, 32, 64, 128, 256, 320, 512)
# Heads that are trained from scratch with an adapter and travel whole.
HEADS: Final = frozenset({"classifier", "pre_classifier", "score"})
_MERGE: Final = "merge it into the base: legion adapter merge DIR --base BASE -o OUT"
# Initialisations that subtract their own product from the base, or train on a quantised one.
_ALTERING: Final = ("pissa", "olora", "corda", "loftq", "lora_ga")
_SHARED: Final = frozenset(
    {"lm_head", "embed_out", "embed_tokens", "wte", "wpe", "word_embeddings", "position_embeddings"}
)
# Keys of an adapter_config.json that make of a LoRA something else than alpha / rank times B A.
_BEYOND_PLAIN: Final = (
    "use_dora",
    "lora_bias",
    "use_qalora",
    "use_bdlora",
    "alora_invocation_tokens",
    "layer_replication",
    "target_parameters",
    "trainable_token_indices",
    "arrow_config",
    "velora_config",
    "monteclora_config",
    "kasa_config",
)


def server_rank(rank: int) -> int:
    """The smallest `--max-lora-rank` of vLLM that takes an adapter of `rank`.

    Raises:
        NotPortableError: it is above the largest.
    """
    for known in VLLM_RANKS:
        if rank <= known:
            return known
    raise rank_error(rank, VLLM_RANKS[-1])


def alters_base(initialisation: Any) -> bool:
    """Whether PEFT changes the base's weights for this `init_lora_weights`."""
    return isinstance(initialisation, str) and initialisation.lower().startswith(_ALTERING)


def refuse_lost_start(config: Mapping[str, Any]) -> None:
    """Raises NotPortableError where neither the folder nor the base tells what the base became at the start.

    LoRA-GA subtracts a product that it draws from gradients; loaded again, PEFT has none and leaves the base as it is.
    """
    if config.get("init_lora_weights") == "lora_ga":
        raise NotPortableError(
            "init_lora_weights=lora_ga changed the base's weights by what the folder does not keep",
            cause="its start was drawn from gradients",
            hint="save it as a plain LoRA: save_pretrained(DIR, path_initial_model_for_weight_conversion=...)",
        )


def features_beyond_plain(config: Mapping[str, Any]) -> list[str]:
    """What a PEFT config asks for that the factors in the folder do not tell, as `key=value`."""
    found = [] if config.get("peft_type") == "LORA" else [f"peft_type={config.get('peft_type')}"]
    found += [f"{key}={config[key]}" for key in _BEYOND_PLAIN if config.get(key)]
    if config.get("bias", "none") != "none":
        found.append(f"bias={config['bias']}")
    if alters_base(config.get("init_lora_weights")):
        found.append(f"init_lora_weights={config['init_lora_weights']}")
    return found


def refuse_shared_layer(path: str, *, is_shared: bool = False) -> None:
    """Raises NotPortableError where a layer must not travel.

    Args:
        path: The layer's.
        is_shared: Whether it is known to be an embedding or the output head, whatever its name.
    """
    if is_shared or path.rpartition(".")[2] in _SHARED:
        raise NotPortableError(
            f"the adapter changes {path}.weight",
            cause="embeddings and lm_head never travel: a server shares them with the base, whose answers change too",
            hint=_MERGE,
        )


def head_module(name: str) -> str | None:
    """`classifier` of the tensor `classifier.out_proj.weight`; None where it is of no classification head."""
    return next((part for part in name.split(".") if part in HEADS), None)


def check_head_tensor(name: str, weight: Tensor) -> None:
    """Refuses what is trained whole but is no classification head, and what is not finite."""
    if head_module(name) is None:
        raise NotPortableError(
            f"the adapter carries {name}",
            cause=f"of modules trained whole only {', '.join(sorted(HEADS))} travel with a LoRA",
            hint=_MERGE,
        )
    if not torch.isfinite(weight).all():
        raise AdapterError(f"{name} holds NaN or infinity", cause="nothing was written")


def bias_error(what: str) -> NotPortableError:
    """The refusal of an adapter that changes a bias."""
    return NotPortableError(
        f"the adapter changes biases: {what}", cause="a LoRA folder that every server reads has none", hint=_MERGE
    )


def rank_error(rank: int, max_rank: int) -> NotPortableError:
    """The refusal of a rank above a server's maximum."""
    return NotPortableError(
        f"rank {rank} is above the server's maximum of {max_rank}",
        hint=f"cut it: legion adapter rerank DIR --rank {max_rank} -o OUT; or {_MERGE}",
    )
