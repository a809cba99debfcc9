"""Which tokenizers travel in a GGUF file, and how; that llama.cpp then agrees is for the parity tests."""

from __future__ import annotations

import json

import pytest
from gguf import GGUFReader, TokenType
from tokenizers import Regex, pre_tokenizers, processors

from legion.neuro_architecture.portability.gguf import write_gguf
from legion.testing import TINY_VOCAB_SIZE, tiny_checkpoint, write_byte_tokenizer

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace("{1,3}", "")


def split(regex: str):
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(regex), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


DIGITS = pre_tokenizers.Sequence(
    [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
)


@pytest.fixture
def folder(tmp_path):
    return tiny_checkpoint(tmp_path / "model", "Llama")


def edit(folder, name="tokenizer.json", **changes) -> None:
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_model(folder, **changes) -> None:
    edit(folder, model=json.loads((folder / "tokenizer.json").read_text())["model"] | changes)


def fields(folder) -> dict:
    reader = GGUFReader(folder.parent / "model.gguf")
    return {name: field.contents() for name, field in reader.fields.items() if name.startswith("tokenizer.")}


def written(folder) -> dict:
    summary = write_gguf(folder, folder.parent / "model.gguf")
    assert summary.tokenizer != "none", summary.tokenizer_reason
    return fields(folder)


@pytest.mark.parametrize(
    ("pre_tokenizer", "ignores_merges", "name"),
    [
        (pre_tokenizers.ByteLevel(add_prefix_space=False), False, "gpt-2"),
        (DIGITS, False, "smollm"),
        (split(LLAMA3), True, "llama-bpe"),
        (split(QWEN2), False, "qwen2"),
    ],
)
def test_the_way_of_splitting_is_named_by_its_structure(folder, pre_tokenizer, ignores_merges, name):
    write_byte_tokenizer(folder, pre_tokenizer)
    edit_model(folder, ignore_merges=ignores_merges)

    assert write_gguf(folder, folder.parent / "model.gguf").tokenizer == name
    assert fields(folder)["tokenizer.ggml.pre"] == name


def test_rows_without_a_token_get_one_that_is_never_used(folder):
    tokenizer = write_byte_tokenizer(folder)

    found = written(folder)

    tokens, types = found["tokenizer.ggml.tokens"], found["tokenizer.ggml.token_type"]
    assert len(tokens) == len(types) == TINY_VOCAB_SIZE
    assert tokens[: len(tokenizer)] == tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    assert tokens[-1] == f"[PAD{TINY_VOCAB_SIZE - 1}]"
    assert types[:2] == [TokenType.CONTROL, TokenType.CONTROL]
    assert types[2] == TokenType.NORMAL
    assert types[-1] == TokenType.UNUSED
    assert found["tokenizer.ggml.eos_token_id"] == 0
    assert "tokenizer.ggml.bos_token_id" not in found
    assert found["tokenizer.ggml.merges"][0] == " ".join(
        json.loads((folder / "tokenizer.json").read_text())["model"]["merges"][0]
    )


@pytest.mark.parametrize(
    ("template", "ends"),
    [
        (None, (False, False)),
        ("$A", (False, False)),
        ("<|user|> $A", (True, False)),
        ("$A <|endoftext|>", (False, True)),
    ],
)
def test_ends_of_an_input_follow_the_post_processor(folder, template, ends):
    tokenizer = write_byte_tokenizer(folder)
    tokenizer.bos_token = "<|user|>"
    if template:
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single=template, special_tokens=[("<|endoftext|>", 0), ("<|user|>", 1)]
        )
    tokenizer.save_pretrained(folder)

    found = written(folder)

    assert (found["tokenizer.ggml.add_bos_token"], found["tokenizer.ggml.add_eos_token"]) == ends
    assert found["tokenizer.ggml.bos_token_id"] == 1


def test_a_chat_template_travels(folder):
    tokenizer = write_byte_tokenizer(folder)
    tokenizer.chat_template = "{{ messages[0].content }}"
    tokenizer.save_pretrained(folder)

    assert written(folder)["tokenizer.chat_template"] == "{{ messages[0].content }}"


def test_the_default_of_several_chat_templates_travels(folder):
    write_byte_tokenizer(folder)
    templates = [{"name": "tools", "template": "no"}, {"name": "default", "template": "yes"}]
    edit(folder, "tokenizer_config.json", chat_template=templates)

    assert written(folder)["tokenizer.chat_template"] == "yes"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"normalizer": {"type": "Lowercase"}}, "it normalises text"),
        ({"pre_tokenizer": {"type": "Whitespace"}}, "llama.cpp has no name for how it splits text"),
        (
            {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}},
            "llama.cpp has no name for how it splits text",
        ),
        ({"post_processor": {"type": "BertProcessing"}}, "its post-processor is not understood"),
    ],
)
def test_a_tokenizer_that_llama_cpp_does_not_compute_stays_away(folder, changes, reason):
    write_byte_tokenizer(folder)
    edit(folder, **changes)

    summary = write_gguf(folder, folder.parent / "model.gguf")

    assert (summary.tokenizer, summary.tokenizer_reason) == ("none", reason)
    assert fields(folder)["tokenizer.ggml.tokens"][5] == "<5>"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ignore_merges": True}, "looks whole words up before merging"),
        ({"byte_fallback": True}, "options of its own"),
        ({"merges": []}, "no merges"),
    ],
)
def test_a_merging_that_llama_cpp_does_not_compute_stays_away(folder, changes, reason):
    write_byte_tokenizer(folder)
    edit_model(folder, **changes)

    summary = write_gguf(folder, folder.parent / "model.gguf")

    assert summary.tokenizer == "none"
    assert reason in (summary.tokenizer_reason or "")


def test_an_added_token_that_strips_blanks_stays_away(folder):
    write_byte_tokenizer(folder)
    added = json.loads((folder / "tokenizer.json").read_text())["added_tokens"]
    edit(folder, added_tokens=[added[0], added[1] | {"lstrip": True}])

    assert "strip blanks" in (write_gguf(folder, folder.parent / "model.gguf").tokenizer_reason or "")


def test_a_tokenizer_without_an_end_of_text_stays_away(folder):
    write_byte_tokenizer(folder)
    edit(folder, "tokenizer_config.json", eos_token=None)
    edit(folder, "config.json", eos_token_id=None)

    assert write_gguf(folder, folder.parent / "model.gguf").tokenizer_reason == "it names no end-of-text token"


def test_a_tokenizer_with_more_tokens_than_rows_stays_away(tmp_path):
    folder = tiny_checkpoint(tmp_path / "model", "Llama", vocab_size=300)
    write_byte_tokenizer(folder)

    assert "beyond the embedding's 300 rows" in (write_gguf(folder, tmp_path / "model.gguf").tokenizer_reason or "")


def test_a_word_tokenizer_stays_away(tmp_path, tiny_folders):
    summary = write_gguf(tiny_folders["llama"], tmp_path / "model.gguf")

    assert (summary.tokenizer, summary.tokenizer_reason) == ("none", "its model is WordLevel, not BPE")


def test_a_checkpoint_without_a_tokenizer_is_written_for_token_ids(folder):
    summary = write_gguf(folder, folder.parent / "model.gguf")

    assert (summary.tokenizer, summary.tokenizer_reason) == ("none", "there is no tokenizer.json")
    assert fields(folder)["tokenizer.ggml.eos_token_id"] == 0
