"""The part of byte-level BPE tokenizers that llama.cpp computes as Hugging Face's `tokenizers` does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gguf import TokenType

from legion.foundation.files import read_json

__all__ = ["GgufTokenizer", "NoTokenizer", "read_tokenizer"]

_LLAMA3: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2: Final = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
_SPECIAL_TOKENS: Final = ("bos", "eos", "unk", "pad")
# Values of a BPE model under which llama.cpp's merging is the same; absent means the same as the first.
_PLAIN_BPE: Final[dict[str, tuple[Any, ...]]] = {
    "dropout": (None, 0.0),
    "continuing_subword_prefix": (None, ""),
    "end_of_word_suffix": (None, ""),
    "byte_fallback": (False,),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufTokenizer:
    """A tokenizer as GGUF keeps it.

    Attributes:
        pre: llama.cpp's name for how text is split before merging (`tokenizer.ggml.pre`).
        tokens: By id, one for each row of the embedding; rows without a token have a made-up one.
        token_types: GGUF's kind of each token.
        merges: `left right` by falling priority.
        special_ids: Of `bos`, `eos`, `unk` and `pad`, as far as there are any.
        adds_bos: Whether an input starts with `bos`.
        adds_eos: Whether an input ends with `eos`.
        chat_template: Jinja source, or None.
    """

    pre: str
    tokens: tuple[str, ...]
    token_types: tuple[int, ...]
    merges: tuple[str, ...]
    special_ids: dict[str, int]
    adds_bos: bool
    adds_eos: bool
    chat_template: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NoTokenizer:
    """No tokenizer that llama.cpp computes: the file is for questions in token ids.

    llama-server aborts on its first token where a file has no vocabulary at all, so token 5 is called `<5>` there, and
    text other than such names is lost.

    Attributes:
        reason: Why there is none.
        eos: The token that ends an answer, or None; llama.cpp then takes token 11.
    """

    reason: str
    eos: int | None


def read_tokenizer(folder: Path, num_rows: int, config: Any) -> GgufTokenizer | NoTokenizer:
    """The tokenizer of a checkpoint folder whose embedding has `num_rows` rows.

    Raises:
        UsageError: a tokenizer file is no JSON.
    """
    if not (folder / "tokenizer.json").is_file():
        return _none("there is no tokenizer.json", config)
    stored = read_json(folder / "tokenizer.json")
    settings_path = folder / "tokenizer_config.json"
    settings = read_json(settings_path) if settings_path.is_file() else {}
    ids = stored["model"].get("vocab", {})
    ids = dict(ids) if isinstance(ids, dict) else {}
    ids |= {token["content"]: token["id"] for token in stored.get("added_tokens") or ()}
    special_ids = _special_ids(settings, config, ids)
    pre = _pre(stored.get("pre_tokenizer"))
    ends = _ends(stored.get("post_processor"), special_ids)
    obstacle = _obstacle(stored, pre, ids, num_rows, special_ids)
    if pre is None or ends is None or obstacle is not None:
        return _none(obstacle or "its post-processor is not understood", config)
    tokens, token_types = _rows(stored, ids, num_rows)
    return GgufTokenizer(
        pre=pre,
        tokens=tokens,
        token_types=token_types,
        merges=tuple(merge if isinstance(merge, str) else " ".join(merge) for merge in stored["model"]["merges"]),
        special_ids=special_ids,
        adds_bos=ends[0],
        adds_eos=ends[1],
        chat_template=_chat_template(folder, settings),
    )


def _none(reason: str, config: Any) -> NoTokenizer:
    eos = config.eos_token_id
    return NoTokenizer(reason=reason, eos=eos[0] if isinstance(eos, list) else eos)


def _pre(splitter: dict[str, Any] | None) -> str | None:
    """llama.cpp's name for a pre-tokenizer, from its structure; None where it has none."""
    if splitter is None:
        return None
    match splitter["pretokenizers"] if splitter["type"] == "Sequence" else [splitter]:
        case [{"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}]:
            return "gpt-2"
        case [
            {"type": "Digits", "individual_digits": True},
            {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
        ]:
            return "smollm"
        case [
            {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
        ]:
            return {_LLAMA3: "llama-bpe", _QWEN2: "qwen2"}.get(regex)
    return None


def _obstacle(
    stored: dict[str, Any], pre: str | None, ids: dict[str, int], num_rows: int, special_ids: dict[str, int]
) -> str | None:
    """The first thing that llama.cpp would do otherwise, or None."""
    model, normalizer = stored["model"], stored.get("normalizer")
    # llama.cpp normalises nothing; Qwen2's NFC leaves text alone that is composed already, as nearly all is.
    is_composing = pre == "qwen2" and (normalizer or {}).get("type") == "NFC"
    checks = {
        f"its model is {model['type']}, not BPE": model["type"] != "BPE",
        "llama.cpp has no name for how it splits text": pre is None,
        "its BPE has options of its own": any(
            model.get(key, allowed[0]) not in allowed for key, allowed in _PLAIN_BPE.items()
        ),
        "llama.cpp looks whole words up before merging just for llama-bpe": bool(model.get("ignore_merges", False))
        != (pre == "llama-bpe"),
        "it normalises text": normalizer is not None and not is_composing,
        "it has no merges": not model.get("merges"),
        "some added tokens strip blanks or match whole words": any(
            token["lstrip"] or token["rstrip"] or token["single_word"] for token in stored.get("added_tokens") or ()
        ),
        "two tokens share an id": len(set(ids.values())) != len(ids),
        f"it has ids beyond the embedding's {num_rows} rows": max(ids.values(), default=0) >= num_rows,
        # Without one llama.cpp takes token 11.
        "it names no end-of-text token": "eos" not in special_ids,
    }
    return next((text for text, is_found in checks.items() if is_found), None)


def _rows(stored: dict[str, Any], ids: dict[str, int], num_rows: int) -> tuple[tuple[str, ...], tuple[int, ...]]:
    tokens = [f"[PAD{index}]" for index in range(num_rows)]
    types = [int(TokenType.UNUSED)] * num_rows
    for token, index in ids.items():
        tokens[index], types[index] = token, int(TokenType.NORMAL)
    for added in stored.get("added_tokens") or ():
        types[added["id"]] = int(TokenType.CONTROL if added["special"] else TokenType.USER_DEFINED)
    return tuple(tokens), tuple(types)


def _special_ids(settings: dict[str, Any], config: Any, ids: dict[str, int]) -> dict[str, int]:
    """By the tokenizer's own settings, else by the model's config."""
    found: dict[str, int] = {}
    for name in _SPECIAL_TOKENS:
        stated = settings.get(f"{name}_token")
        token = stated.get("content") if isinstance(stated, dict) else stated
        index = ids.get(token) if isinstance(token, str) else getattr(config, f"{name}_token_id", None)
        if isinstance(index, int):
            found[name] = index
    return found


def _ends(post_processor: dict[str, Any] | None, special_ids: dict[str, int]) -> tuple[bool, bool] | None:
    """Whether a single input gets `bos` in front and `eos` at the end; None where it gets something else."""
    if post_processor is None or post_processor["type"] == "ByteLevel":
        return False, False
    if post_processor["type"] == "Sequence":
        steps = [step for step in post_processor["processors"] if step["type"] != "ByteLevel"]
        return _ends(steps[0], special_ids) if len(steps) == 1 else (None if steps else (False, False))
    if post_processor["type"] != "TemplateProcessing":
        return None
    names = [piece["SpecialToken"]["id"] if "SpecialToken" in piece else None for piece in post_processor["single"]]
    stated = {name: token["ids"] for name, token in post_processor["special_tokens"].items()}
    pieces = [None if name is None else stated[name] for name in names]
    bos, eos = [special_ids.get("bos")], [special_ids.get("eos")]
    known = {
        (False, False): [None],
        (True, False): [bos, None],
        (False, True): [None, eos],
        (True, True): [bos, None, eos],
    }
    return next((ends for ends, expected in known.items() if pieces == expected), None)


def _chat_template(folder: Path, settings: dict[str, Any]) -> str | None:
    path = folder / "chat_template.jinja"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    stated = settings.get("chat_template")
    if isinstance(stated, list):
        stated = next((entry["template"] for entry in stated if entry["name"] == "default"), None)
    return stated if isinstance(stated, str) else None
