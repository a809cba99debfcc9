"""The calls into transformers: strict about tensors, quiet about the rest, never running a model's own code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from legion.foundation.errors import ModelError
from legion.foundation.rng import RandomStream
from legion.neuro_architecture.data.quiet import quiet_transformers
from legion.neuro_architecture.spec.task import TaskKind

__all__ = ["draw_head", "load_encoder", "load_meta", "load_task_model", "load_tokenizer", "model_type"]

_DROPOUTS: Final = (
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "classifier_dropout",
    "attention_dropout",
    "hidden_dropout",
    "activation_dropout",
    "seq_classif_dropout",
    "dropout",
    "attn_pdrop",
    "embd_pdrop",
    "resid_pdrop",
    "summary_first_dropout",
    "classifier_dropout_prob",
    "embedding_dropout",
)
# Parts that a base without a task head cannot have; everything else must come from the file.
_FRESH: Final = ("classifier", "score", "pre_classifier", "pooler")
_VOCABULARIES: Final = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
)
_REFUSALS: Final = (ImportError, OSError, ValueError, KeyError, RuntimeError, AttributeError)


def model_type(folder: Path) -> str:
    """The family's name in the folder's config.

    Raises:
        ModelError: there is no config, or transformers does not know the family.
    """
    return str(_config(folder).model_type)


def load_tokenizer(folder: Path) -> Any:
    """As `BaseModel.tokenizer`."""
    import transformers

    if not any((folder / name).is_file() for name in _VOCABULARIES):  # transformers would make up an empty one
        raise ModelError(f"{folder} has no tokenizer", cause="none of " + ", ".join(_VOCABULARIES))
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except _REFUSALS as error:
        raise ModelError(f"{folder} has no tokenizer that can be read", cause=_first_line(error)) from error
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise ModelError(f"the tokenizer in {folder} knows neither a padding nor an end token")
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_task_model(folder: Path, kind: TaskKind, labels: Sequence[str], *, seed: int) -> Any:
    """As `BaseModel.load`."""
    import torch

    tokenizer = load_tokenizer(folder)
    config = _config(folder)
    _refuse_encoder(folder, config, kind)
    config.pad_token_id = tokenizer.pad_token_id
    if kind == "classification":
        _set_labels(config, labels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # what is fresh and stays frozen is the same for every seed
        model = _load(folder, _auto_class(kind), config, fresh=_FRESH if kind == "classification" else ())
    if kind == "classification":
        draw_head(model, seed)
    return model


def draw_head(model: Any, seed: int) -> None:
    """Draws the weights of the task head anew, as the family initialises them; the global generator stays as it is.

    Args:
        model: A classifier of transformers, on the CPU.
        seed: Of the head.
    """
    import torch

    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(RandomStream(seed).child("head").seed)
        for name, module in model.named_children():
            if name != model.base_model_prefix:
                module.apply(model._init_weights)


def load_encoder(folder: Path) -> Any:
    """As `BaseModel.load_encoder`."""
    import torch
    import transformers

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return _load(folder, transformers.AutoModel, _config(folder), fresh=("pooler",))


def load_meta(folder: Path, kind: TaskKind, num_labels: int) -> Any:
    """As `BaseModel.load_meta`."""
    import torch

    config = _config(folder)
    _refuse_encoder(folder, config, kind)
    if kind == "classification":
        _set_labels(config, [f"label {index}" for index in range(num_labels)])
    try:
        with torch.device("meta"):
            return _auto_class(kind).from_config(config, attn_implementation="eager", dtype=torch.float32).eval()
    except _REFUSALS as error:
        raise ModelError(f"{folder} cannot be used for {kind}", cause=_first_line(error)) from error


def _load(folder: Path, auto_class: Any, config: Any, *, fresh: tuple[str, ...]) -> Any:
    import safetensors
    import torch

    try:
        with quiet_transformers():
            model, report = auto_class.from_pretrained(
                str(folder),
                config=config,
                use_safetensors=True,
                local_files_only=True,
                attn_implementation="eager",
                dtype=torch.float32,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
    except (*_REFUSALS, safetensors.SafetensorError) as error:
        raise ModelError(f"{folder} cannot be loaded", cause=_first_line(error)) from error
    mistakes = [f"missing tensor {key}" for key in sorted(report["missing_keys"]) if not _is_fresh(key, fresh)]
    mistakes += [f"tensor {entry[0]} has another shape" for entry in sorted(report["mismatched_keys"])]
    if mistakes:
        raise ModelError(f"{folder} does not hold the model of its config", cause="\n".join(mistakes[:10]))
    return model.eval()


def _is_fresh(key: str, fresh: tuple[str, ...]) -> bool:
    return any(part in fresh for part in key.split("."))


def _config(folder: Path) -> Any:
    import transformers

    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder} has no config.json", hint="name the folder that save_pretrained wrote")
    try:
        config = transformers.AutoConfig.from_pretrained(str(folder), local_files_only=True)
    except _REFUSALS as error:
        raise ModelError(f"{folder} has a config that transformers does not know", cause=_first_line(error)) from error
    known = config.to_dict()
    for name in _DROPOUTS:
        if isinstance(known.get(name), float | int):
            setattr(config, name, 0.0)
    return config


def _refuse_encoder(folder: Path, config: Any, kind: TaskKind) -> None:
    """Refuses to write text with a family that was trained to fill gaps, which would load with a warning alone."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    if kind == "summarization" and config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES:
        raise ModelError(
            f"{folder.name} cannot be used for summarization",
            cause=f"{config.model_type} is an encoder; writing text needs a causal model",
            hint="use smollm2-135m, or another causal model",
        )


def _set_labels(config: Any, labels: Sequence[str]) -> None:
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: index for index, label in enumerate(labels)}


def _auto_class(kind: TaskKind) -> Any:
    import transformers

    if kind == "classification":
        return transformers.AutoModelForSequenceClassification
    return transformers.AutoModelForCausalLM


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
