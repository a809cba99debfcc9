"""Models of a few thousand weights and data sets of a few dozen rows, made in a second without a network."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any, Final

__all__ = ["TINY_FAMILIES", "tiny_classification", "tiny_model", "tiny_summarization"]

TINY_FAMILIES: Final = ("bert", "llama", "gpt2")
_GOOD: Final = ("good", "great", "lovely", "bright", "warm", "clever")
_BAD: Final = ("bad", "awful", "dull", "cold", "broken", "clumsy")
_NEUTRAL: Final = ("film", "book", "story", "song", "the", "a", "with", "and", "very", "quite", "man", "woman", "old")
_SPECIAL: Final = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "<eos>")


def tiny_model(folder: Path, family: str, *, hidden_size: int = 32, num_layers: int = 3, seed: int = 0) -> Path:
    """Writes a base model of `family` with random weights and a word tokenizer, as safetensors, and returns its folder.

    Weights are drawn wide (std 0.08), so that logits differ visibly between inputs.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _build(family, hidden_size, num_layers)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.normal_(0.0, 0.08)
    model.save_pretrained(folder)
    _tokenizer(family).save_pretrained(folder)
    return folder


def _build(family: str, hidden_size: int, num_layers: int) -> Any:
    import transformers

    vocab_size = len(_vocabulary())
    match family:
        case "bert":
            return transformers.BertModel(
                transformers.BertConfig(
                    vocab_size=vocab_size,
                    hidden_size=hidden_size,
                    num_hidden_layers=num_layers,
                    num_attention_heads=4,
                    intermediate_size=2 * hidden_size,
                    max_position_embeddings=128,
                )
            )
        case "llama":
            return transformers.LlamaForCausalLM(
                transformers.LlamaConfig(
                    vocab_size=vocab_size,
                    hidden_size=hidden_size,
                    num_hidden_layers=num_layers,
                    num_attention_heads=4,
                    num_key_value_heads=2,
                    intermediate_size=2 * hidden_size,
                    max_position_embeddings=128,
                    pad_token_id=0,
                    bos_token_id=4,
                    eos_token_id=4,
                    tie_word_embeddings=False,
                )
            )
        case "gpt2":
            return transformers.GPT2LMHeadModel(
                transformers.GPT2Config(
                    vocab_size=vocab_size,
                    n_embd=hidden_size,
                    n_layer=num_layers,
                    n_head=4,
                    n_positions=128,
                    pad_token_id=0,
                    bos_token_id=4,
                    eos_token_id=4,
                )
            )
    raise ValueError(f"no tiny family {family!r}; there are {', '.join(TINY_FAMILIES)}")


def _vocabulary() -> dict[str, int]:
    words = (*_SPECIAL, *_GOOD, *_BAD, *_NEUTRAL, ":", ".", "\n", *(chr(97 + index) for index in range(26)))
    return {word: index for index, word in enumerate(dict.fromkeys(words))}


def _tokenizer(family: str) -> Any:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = _vocabulary()
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    if family == "bert":
        core.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]" if family == "bert" else None,
        sep_token="[SEP]" if family == "bert" else None,
        eos_token=None if family == "bert" else "<eos>",
        model_max_length=128,
    )


def _write_rows(folder: Path, splits: dict[str, list[dict[str, Any]]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for split, rows in splits.items():
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{split}.jsonl").write_text(lines, encoding="utf-8")


def tiny_classification(folder: Path, *, num_train: int = 48, seed: int = 0) -> Path:
    """Writes a two-class data set that a tiny model can learn: the label follows the one opinion word."""
    draw = random.Random(seed)
    seen: set[str] = set()

    def row(label: str) -> dict[str, str]:
        while True:
            words = [*draw.sample(_NEUTRAL, 4), draw.choice(_GOOD if label == "positive" else _BAD)]
            draw.shuffle(words)
            text = " ".join(words)
            if text not in seen:
                seen.add(text)
                return {"text": text, "label": label}

    def rows(count: int) -> list[dict[str, str]]:
        return [row(("negative", "positive")[index % 2]) for index in range(count)]

    _write_rows(folder, {"train": rows(num_train), "validation": rows(16), "test": rows(24)})
    (folder / "task.toml").write_text(
        'name = "tiny"\nkind = "classification"\ntext_column = "text"\ntarget_column = "label"\n'
        'labels = ["negative", "positive"]\nmetric = "accuracy"\nlicence = "CC0-1.0"\nsource = "generated"\n',
        encoding="utf-8",
    )
    return folder


def tiny_summarization(folder: Path, *, num_train: int = 24, seed: int = 0) -> Path:
    """Writes a data set whose target is the opinion and the first noun of a short text."""
    draw = random.Random(seed)
    seen: set[str] = set()

    def row() -> dict[str, str]:
        while True:
            noun = draw.choice(("film", "book", "story", "song"))
            opinion = draw.choice(_GOOD + _BAD)
            text = " ".join(["the", noun, *draw.sample(_NEUTRAL, 4), opinion, "."])
            if text not in seen:
                seen.add(text)
                return {"text": text, "summary": f"{opinion} {noun}"}

    splits = {"train": num_train, "validation": 8, "test": 8}
    _write_rows(folder, {split: [row() for _ in range(count)] for split, count in splits.items()})
    (folder / "task.toml").write_text(
        'name = "tiny-summaries"\nkind = "summarization"\ntext_column = "text"\ntarget_column = "summary"\n'
        'metric = "rouge_l"\nlicence = "CC0-1.0"\nsource = "generated"\n',
        encoding="utf-8",
    )
    return folder
