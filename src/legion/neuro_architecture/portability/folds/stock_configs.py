"""What a Llama-like base's config says to the config of a stock mixture."""

from __future__ import annotations

from typing import Any, Final

from legion.neuro_architecture.portability.trained import TrainedForm

__all__ = ["carried_over", "task_class"]

_CARRIED: Final = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "hidden_act",
    "max_position_embeddings",
    "initializer_range",
    "rms_norm_eps",
    "tie_word_embeddings",
    "rope_parameters",
    "pad_token_id",
    "bos_token_id",
    "eos_token_id",
)


def carried_over(trained: TrainedForm) -> dict[str, Any]:
    """The fields that mean the same in Llama, Mistral, Qwen2-MoE and Mixtral."""
    config = trained.config.get_text_config().to_dict()
    carried = {key: config[key] for key in _CARRIED if key in config}
    if trained.facts.kind == "classification":
        carried |= {"id2label": trained.config.id2label, "label2id": trained.config.label2id}
    return carried


def task_class(family: str, trained: TrainedForm) -> str:
    """The transformers class of `family` for this task (`MixtralForCausalLM`)."""
    head = "ForSequenceClassification" if trained.facts.kind == "classification" else "ForCausalLM"
    return f"{family}{head}"
