"""Tiny bases in memory, examples, and the same trainings twice: packed, and one by one as PEFT is used."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import transformers
from tests.adapters.conftest import ZOO, fits
from torch.nn.functional import cross_entropy

from legion.foundation.errors import AdapterError
from legion.foundation.rng import RandomStream
from legion.neuro_architecture.adapters import auxiliary_loss, build_adapter, trainable_parameters
from legion.neuro_architecture.data.loading import draw_head
from legion.neuro_architecture.packed import Dispatch, Pool
from legion.neuro_architecture.packed.group import Turn
from legion.neuro_architecture.packed.objective import accepts_positions, target_logits
from legion.neuro_architecture.packed.prefix import CacheBudget, KeptSplit
from legion.neuro_architecture.spec.proposal import TrainingRecipe

CPU = torch.device("cpu")
KNOWN = ("bert", "roberta", "llama", "mistral", "qwen2", "gpt2")
ENCODERS = ("bert", "roberta", "distilbert")
# Every pair of family and task; encoders write no text.
CASES = tuple(
    (family, task)
    for family in KNOWN
    for task in ("labels", "tokens")
    if (family, task[0]) not in {("bert", "t"), ("roberta", "t")}
)
NUM_BLOCKS = 3
WIDTH = 32
BATCH_SIZE = 6
_VOCABULARY = 60
_LLAMA = {
    "vocab_size": _VOCABULARY,
    "hidden_size": WIDTH,
    "num_hidden_layers": NUM_BLOCKS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 2 * WIDTH,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 4,
    "eos_token_id": 4,
    "tie_word_embeddings": False,
}
_BERT = {
    "vocab_size": _VOCABULARY,
    "hidden_size": WIDTH,
    "num_hidden_layers": NUM_BLOCKS,
    "num_attention_heads": 4,
    "intermediate_size": 2 * WIDTH,
    "max_position_embeddings": 128,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
_GPT2 = {
    "vocab_size": _VOCABULARY,
    "n_embd": WIDTH,
    "n_layer": NUM_BLOCKS,
    "n_head": 4,
    "n_positions": 128,
    "pad_token_id": 0,
    "bos_token_id": 4,
    "eos_token_id": 4,
    "attn_pdrop": 0.0,
    "embd_pdrop": 0.0,
    "resid_pdrop": 0.0,
}
_DISTILBERT = {
    "vocab_size": _VOCABULARY,
    "dim": WIDTH,
    "n_layers": NUM_BLOCKS,
    "n_heads": 4,
    "hidden_dim": 2 * WIDTH,
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "seq_classif_dropout": 0.0,
}
_CONFIGS = {
    "bert": lambda: transformers.BertConfig(**_BERT),
    "roberta": lambda: transformers.RobertaConfig(**_BERT, pad_token_id=1),
    "distilbert": lambda: transformers.DistilBertConfig(**_DISTILBERT),
    "llama": lambda: transformers.LlamaConfig(**_LLAMA),
    "mistral": lambda: transformers.MistralConfig(**_LLAMA, sliding_window=None),
    "qwen2": lambda: transformers.Qwen2Config(**_LLAMA),
    "gpt2": lambda: transformers.GPT2Config(**_GPT2),
}


@functools.cache
def _original(family: str, task: str):
    auto = transformers.AutoModelForSequenceClassification if task == "labels" else transformers.AutoModelForCausalLM
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(7)
        model = auto.from_config(_CONFIGS[family](), attn_implementation="eager")
        for parameter in model.parameters():
            # wide, norms and biases too, so that nothing that a pass leaves out goes unseen
            noise = torch.randn(parameter.shape) * 0.08
            parameter.copy_(noise if parameter.dim() > 1 else parameter + noise)
    return model.eval()


def tiny_base(family: str, task: str):
    """A fresh model in eval mode, always with the same weights."""
    return copy.deepcopy(_original(family, task))


class Examples:
    """Texts of 4 to 14 tokens; a label for each, or the last 1 to 3 tokens as the target."""

    def __init__(self, family: str, task: str, *, count: int = 30, seed: int = 5) -> None:
        self.pad = 1 if family == "roberta" else 0
        self.task = task
        draw = torch.Generator().manual_seed(seed)

        def number(low: int, high: int) -> int:
            return int(torch.randint(low, high, (1,), generator=draw))

        self.ids = [torch.randint(5, _VOCABULARY, (number(4, 15),), generator=draw) for _ in range(count)]
        self.labels = [number(1, 4) if task == "tokens" else int(ids[1] % 2) for ids in self.ids]

    def collate(self, examples: Sequence[int]) -> dict[str, torch.Tensor]:
        """Padded right."""
        chosen = [self.ids[example] for example in examples]
        length = max(len(ids) for ids in chosen)
        rows = [torch.cat((ids, torch.full((length - len(ids),), self.pad))) for ids in chosen]
        mask = torch.stack([(torch.arange(length) < len(ids)).long() for ids in chosen])
        if self.task == "labels":
            labels = torch.tensor([self.labels[example] for example in examples])
        else:
            labels = torch.full((len(chosen), length), -100)
            for row, (example, ids) in enumerate(zip(examples, chosen, strict=True)):
                first = len(ids) - self.labels[example]
                labels[row, first : len(ids)] = ids[first:]
        return {"input_ids": torch.stack(rows), "attention_mask": mask, "labels": labels}

    def batch(self, step: int, size: int = BATCH_SIZE) -> tuple[list[int], dict[str, torch.Tensor]]:
        examples = [(step * size + place) % len(self.ids) for place in range(size)]
        return examples, self.collate(examples)

    def kept(self, read, digest: str = "sha256:tiny") -> KeptSplit:
        """As `pool.read` reads it."""
        return KeptSplit(digest, [len(ids) for ids in self.ids], lambda chosen: read(self.collate(chosen)))


RECIPE = TrainingRecipe(learning_rate=3e-3)


@dataclass(frozen=True)
class Trial:
    """What one member is."""

    architecture: object
    recipe: TrainingRecipe = RECIPE
    seed: int = 0

    @property
    def stream(self) -> RandomStream:
        return RandomStream(self.seed).child("trainer")

    def rate(self, step: int) -> float:
        """Falls slowly, so that a wrong step shows."""
        return self.recipe.learning_rate * (1.0 - 0.005 * step)


def without_dropout(architecture):
    return architecture.model_copy(update={"dropout": 0.0}) if hasattr(architecture, "dropout") else architecture


def kinds_for(family: str, task: str) -> list[str]:
    """The adapters of the zoo that fit; every strategy of the product is among them."""
    like = {"roberta": "bert", "mistral": "llama", "qwen2": "llama"}.get(family, family)
    return [name for name in ZOO if fits(name, like, task)]


def zoo_trials(family: str, task: str, names: Sequence[str] | None = None) -> dict[str, Trial]:
    chosen = kinds_for(family, task) if names is None else names
    return {name: Trial(without_dropout(ZOO[name]), seed=number) for number, name in enumerate(chosen)}


def make_pool(model, examples: Examples | None = None, *, budget: CacheBudget | None = None, **dispatch) -> Pool:
    choices = {"group_blocks": 9} | dispatch
    pool = Pool(
        model,
        key={"base": "tiny"},
        dispatch=Dispatch(**choices),
        device=CPU,
        budget=budget or CacheBudget(memory_bytes=1 << 28),
    )
    if examples is not None and pool.prefix is not None:
        pool.prefix.keep("train", examples.kept(pool.read))
    return pool


def enter(pool: Pool, trials: Mapping[str, Trial]) -> None:
    for name, trial in trials.items():
        pool.add(name, trial.architecture, trial.recipe, trial.stream)


def opened(family: str, task: str, trials: Mapping[str, Trial], **dispatch) -> tuple[Pool, Examples]:
    """A pool with these trials in groups as large as they come, and the examples it keeps."""
    examples = Examples(family, task)
    pool = make_pool(tiny_base(family, task), examples, group_blocks=1000, **dispatch)
    enter(pool, trials)
    return pool, examples


def advance(pool: Pool, examples: Examples, trials: Mapping[str, Trial], steps: int, *, first: int = 0):
    """Steps first .. steps - 1 of all; the last step's outcomes."""
    outcomes = {}
    for step in range(first, steps):
        chosen, batch = examples.batch(step)
        turns = {name: Turn(step=step, rate=trial.rate(step)) for name, trial in trials.items()}
        outcomes = pool.step("train", chosen, pool.read(batch), turns)
    return outcomes


def weights_of(pool: Pool) -> dict[str, dict[str, torch.Tensor]]:
    return {member.name: member.weights() for member in pool.members}


def train_packed(family: str, task: str, trials: Mapping[str, Trial], steps: int, **choices):
    """Final weights and last outcomes of all in one pool."""
    examples = Examples(family, task)
    model = tiny_base(family, task)
    if choices.get("precision") == "float64":
        model.set_attn_implementation("sdpa")  # as alone: what runs as a whole runs transformers' attention
    pool = make_pool(model, examples, **choices)
    enter(pool, trials)
    outcomes = advance(pool, examples, trials, steps)
    pool.close()
    return weights_of(pool), outcomes


def train_alone(
    family: str,
    task: str,
    trial: Trial,
    steps: int,
    *,
    dtype: torch.dtype = torch.float32,
    turned: int | None = None,
):
    """The same trial by PEFT, torch's AdamW and transformers' own forward pass: weights, last loss and norm.

    Args:
        family: Of the base.
        task: `labels` or `tokens`.
        trial: What is trained.
        steps: How long.
        dtype: Of everything.
        turned: With a number, the rows of every batch stand in reverse, so many of them moved to the end: nothing
            changes but the order of sums.
    """
    examples = Examples(family, task)
    model, stream = tiny_base(family, task).to(dtype), trial.stream  # before the draws, which are its dtype's
    if task == "labels":
        draw_head(model, stream.child("head").seed)
    if dtype is torch.float64:
        model.set_attn_implementation("sdpa")  # transformers' eager attention of causal models rounds to fp32
    adapted = build_adapter(trial.architecture).apply(model, seed=stream.child("adapter").seed).to(dtype)
    parameters = trainable_parameters(adapted)
    recipe = trial.recipe
    optimizer = torch.optim.AdamW(
        list(parameters.values()), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
    )
    has_positions = accepts_positions(adapted)
    adapted.train()
    last = {}
    for step in range(steps):
        chosen, batch = examples.batch(step)
        if turned is not None:
            batch = examples.collate(chosen[::-1][turned:] + chosen[::-1][:turned])
        for group in optimizer.param_groups:
            group["lr"] = trial.rate(step)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream.child("dropout").child(str(step)).seed)
            logits, targets = target_logits(adapted, batch, CPU, has_positions=has_positions)
        loss = cross_entropy(logits, targets)
        extra = auxiliary_loss(adapted)
        optimizer.zero_grad(set_to_none=True)
        (loss if extra is None else loss + extra).backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters.values(), recipe.max_gradient_norm)
        optimizer.step()
        last = {
            "loss": loss.item(),
            "gradient_norm": norm.item(),
            "auxiliary_loss": None if extra is None else extra.item(),
        }
    return {name: item.detach().clone() for name, item in parameters.items()}, last


def largest_difference(left: Mapping[str, torch.Tensor], right: Mapping[str, torch.Tensor]) -> float:
    """Over all elements of all weights; NaN is infinitely far from everything."""
    assert left.keys() == right.keys()
    worst = [float((left[name].double() - right[name].double()).abs().max()) for name in left]
    return max(math.inf if math.isnan(gap) else gap for gap in worst)


def does_fit(family: str, task: str, architecture) -> bool:
    try:
        build_adapter(architecture).apply(tiny_base(family, task))
    except AdapterError:
        return False
    return True
