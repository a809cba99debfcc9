"""A model that serves one slot's entry: loaded once, verified, asked one text at a time."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, Final, final

import torch
from torch import Tensor

from legion.foundation.errors import IntegrityError, ModelError, WorldError
from legion.foundation.files import exclusive_lock, read_json
from legion.foundation.settings import Settings
from legion.neuro_architecture.adapters import AdapterRecord, load_adapter
from legion.neuro_architecture.data.base_models import BaseModel, resolve_base
from legion.neuro_architecture.data.encoding import TaskEncoder
from legion.neuro_architecture.spec.architecture import parse_architecture
from legion.neuro_architecture.spec.ports import RegistryPort
from legion.neuro_architecture.spec.semantics import semantic_hash
from legion.neuro_architecture.spec.slot import Slot
from legion.neuro_architecture.spec.snapshot import ArchitectureSnapshot
from legion.neuro_architecture.spec.task import TaskSpec

__all__ = ["ServedModel", "serve"]

MAX_NEW_TOKENS: Final = 48
_ADAPTER_RECORD: Final = "legion_adapter.json"


@final
class ServedModel:
    """Answers texts for one slot's entry. Threads may share it; they take turns.

    Args:
        model: The base with or without its adapter, in eval mode.
        base: The base model.
        spec: The task as training knew it.
        max_tokens: Most tokens read of one text.
    """

    def __init__(self, model: Any, base: BaseModel, spec: TaskSpec, *, max_tokens: int) -> None:
        self._model = model
        self._tokenizer = base.tokenizer()
        self._encoder = TaskEncoder(self._tokenizer, spec, max_tokens=min(base.max_tokens, max_tokens))
        self._max_positions = base.max_tokens
        self._spec = spec
        self._turn = threading.Lock()

    def classify(self, text: str) -> dict[str, float]:
        """Probability of each label: the softmax of the logits [1, C].

        Raises:
            InvalidValueError: the text is blank.
        """
        with self._turn, torch.inference_mode():
            logits_BC = self._model(**self._inputs(text)).logits
            shares = torch.softmax(logits_BC.double(), dim=-1)[0].tolist()
        return dict(zip(self._spec.labels, shares, strict=True))

    def write(self, text: str) -> str:
        """What a causal model writes after the prompt, greedily, until its end token or 48 tokens.

        Raises:
            InvalidValueError: the text is blank.
        """
        from transformers import GenerationConfig

        with self._turn, torch.inference_mode():
            inputs = self._inputs(text)
            num_prompt_tokens = inputs["input_ids"].shape[1]
            config = GenerationConfig(
                max_new_tokens=min(MAX_NEW_TOKENS, self._max_positions - num_prompt_tokens),
                do_sample=False,
                pad_token_id=self._tokenizer.pad_token_id,
                eos_token_id=self._tokenizer.eos_token_id,
            )
            written_BT = self._model.generate(**inputs, generation_config=config)
        answer: str = self._tokenizer.decode(written_BT[0, num_prompt_tokens:], skip_special_tokens=True)
        return answer.strip()

    def _inputs(self, text: str) -> dict[str, Tensor]:
        batch = self._encoder.collate_prompts([self._encoder.encode_text(text)])
        return {name: tensor.to(self._model.device) for name, tensor in batch.items()}


def serve(slot: Slot, settings: Settings, registry: RegistryPort) -> ServedModel:
    """Loads what the slot's entry names, and nothing else.

    Raises:
        ModelError: the base is not the one that the slot names, or a classifier has no trained head.
        IntegrityError: the snapshot is not registered, its files were altered, or they are of another architecture.
        AdapterError: the adapter does not fit the base.
        UnknownNameError, AssetError, WorldError: the base is not here.
    """
    if slot.task_kind == "classification" and slot.snapshot is None:
        raise ModelError(
            f"slot {slot.name!r} has no trained head, so its labels would be noise",
            cause="it names a bare base model and no snapshot",
            hint="fill it: legion integrate --top 3",
        )
    snapshot = _snapshot(slot, registry)
    base = resolve_base(slot.base.name, settings)
    if base.reference.digest != slot.base.digest:
        raise ModelError(
            f"base model {slot.base.name!r} is not the one that slot {slot.name!r} names",
            cause=f"its weights are {base.reference.digest}, the slot says {slot.base.digest}",
            hint="bring the base back, or evaluate and integrate on the one that is there",
        )
    spec = TaskSpec(
        name=slot.name,
        kind=slot.task_kind,
        labels=slot.labels,
        target_column=slot.target_column,
        metric="accuracy" if slot.task_kind == "classification" else "rouge_l",
    )
    if settings.threads:
        torch.set_num_threads(settings.threads)
    model = base.load(spec)
    if snapshot is not None:
        folder = _adapter_folder(snapshot, settings, registry)
        model = load_adapter(model, folder, base=base.reference)
    return ServedModel(model.to(_device(settings)).eval(), base, spec, max_tokens=slot.max_tokens)


def _snapshot(slot: Slot, registry: RegistryPort) -> ArchitectureSnapshot | None:
    if slot.snapshot is None:
        return None
    snapshot = registry.get(slot.snapshot)
    if snapshot is None:
        raise IntegrityError(
            f"slot {slot.name!r} names a snapshot that is not registered",
            cause=slot.snapshot,
            hint="legion registry ls",
        )
    return snapshot


def _adapter_folder(snapshot: ArchitectureSnapshot, settings: Settings, registry: RegistryPort) -> Path:
    """The snapshot's files, checked against their digests, in the cache of this machine."""
    folder = settings.home / "adapters" / snapshot.digest.removeprefix("sha256:")
    with exclusive_lock(folder.parent / ".lock"):
        registry.materialise(snapshot, folder)
    if _ADAPTER_RECORD not in snapshot.blobs:
        raise IntegrityError(f"snapshot {snapshot.digest} carries no adapter", hint="legion integrate --top 3")
    record = AdapterRecord.parse(read_json(folder / _ADAPTER_RECORD), what=str(folder / _ADAPTER_RECORD))
    # The name is made afresh on both sides: a snapshot keeps the one that it was registered by.
    found, registered = semantic_hash(record.architecture), semantic_hash(parse_architecture(snapshot.config))
    if found != registered:
        raise IntegrityError(
            f"snapshot {snapshot.digest} carries the adapter of another architecture",
            cause=f"{found} instead of {registered}",
        )
    return folder


def _device(settings: Settings) -> torch.device:
    has_cuda = torch.cuda.is_available()
    if settings.device == "cuda" and not has_cuda:
        raise WorldError("no CUDA device", cause=f"torch {torch.__version__} finds none", hint="set LEGION_DEVICE=auto")
    return torch.device("cuda" if has_cuda and settings.device != "cpu" else "cpu")
