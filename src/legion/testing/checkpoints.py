"""Tiny causal checkpoints of every architecture that becomes a GGUF file, with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

__all__ = ["TINY_VOCAB_SIZE", "tiny_checkpoint", "write_byte_tokenizer"]

TINY_VOCAB_SIZE: Final = 320
_BLOCKS: Final[dict[str, Any]] = {
    "vocab_size": TINY_VOCAB_SIZE,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 128,
    "bos_token_id": None,
    "eos_token_id": 0,
    "tie_word_embeddings": False,
}
_GPT2: Final[dict[str, Any]] = {
    "vocab_size": TINY_VOCAB_SIZE,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 128,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
_MORE: Final[dict[str, dict[str, Any]]] = {
    "Qwen2Moe": {
        "moe_intermediate_size": 32,
        "shared_expert_intermediate_size": 48,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "norm_topk_prob": False,
    },
    "Mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "Mistral": {"sliding_window": None},
}
_TEXT: Final = (
    "The film was good and the book was very good; the story isn't old, it's new.",
    "In 1969 they had 128 songs, 7 stories and 42 films!\n\nAnd then?  None.",
    "1969 1969 1969 42 42 42 42 128 128",
)


def tiny_checkpoint(
    folder: Path, family: str, *, seed: int = 0, shard_bytes: int | str = "1GB", **settings: Any
) -> Path:
    """Writes a causal model of a family of transformers (`Llama`, `Qwen2Moe`, `GPT2`, ...) and returns its folder.

    Weights are drawn wide (std 0.08), biases and norms too, so that nothing that a format loses goes unseen.

    Args:
        folder: Where to.
        family: As the class names have it.
        seed: Of the weights.
        shard_bytes: The largest file.
        settings: Of its config, instead of the usual ones.
    """
    import torch
    import transformers

    usual = _GPT2 if family == "GPT2" else _BLOCKS | _MORE.get(family, {})
    config = getattr(transformers, f"{family}Config")(**usual | settings)
    name = "GPT2LMHeadModel" if family == "GPT2" else f"{family}ForCausalLM"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = getattr(transformers, name)(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.08)
    model.save_pretrained(folder, max_shard_size=shard_bytes)
    return folder


def write_byte_tokenizer(folder: Path, pre_tokenizer: Any = None) -> Any:
    """Writes a byte-level BPE tokenizer with a few merges into a checkpoint's folder, and returns it.

    Args:
        folder: Where to.
        pre_tokenizer: Of `tokenizers`, instead of the usual splitting.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=TINY_VOCAB_SIZE - 2,  # fewer than the embedding's rows, as many models have it
        special_tokens=["<|endoftext|>", "<|user|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    core.train_from_iterator(_TEXT, trainer)
    if pre_tokenizer is not None:  # set afterwards, so that there are merges which it must keep apart
        core.pre_tokenizer = pre_tokenizer
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|endoftext|>")
    tokenizer.save_pretrained(folder)
    return tokenizer
