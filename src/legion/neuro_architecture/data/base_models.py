"""Base models by embedded name, local folder or hub id, and how each is loaded for a task."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

from legion.foundation.canonical import digest_file, digest_json, short
from legion.foundation.errors import IntegrityError, ModelError, UnknownNameError
from legion.foundation.files import exclusive_lock, publish_folder, read_json
from legion.foundation.settings import Settings
from legion.neuro_architecture.data import loading
from legion.neuro_architecture.data.assets import AssetStore
from legion.neuro_architecture.data.catalog import CATALOG
from legion.neuro_architecture.data.hub import download_base, is_hub_id
from legion.neuro_architecture.data.weights import check_folder, find_gguf, weight_files, weights_digest
from legion.neuro_architecture.spec.proposal import BaseReference
from legion.neuro_architecture.spec.task import TaskKind, TaskSpec

__all__ = ["BaseModel", "embedded_bases", "resolve_base"]

_POSITIONS: Final = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")
_OFFSET_POSITIONS: Final = frozenset({"roberta", "xlm-roberta", "camembert", "xlm-roberta-xl"})


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class BaseModel:
    """A pretrained transformer on this machine.

    Attributes:
        reference: Its name, the digest of its weights and its family, as records keep them.
        folder: Where its safetensors, config and tokenizer are.
    """

    reference: BaseReference
    folder: Path

    @property
    def max_tokens(self) -> int:
        """Longest input: the model's positions, or the tokenizer's limit where that is lower.

        Raises:
            ModelError: the config does not say.
        """
        config = read_json(self.folder / "config.json")
        positions = next((config[name] for name in _POSITIONS if isinstance(config.get(name), int)), None)
        if positions is None:
            raise ModelError(f"{self.reference.name} does not say how long its input may be", cause="no position count")
        if config.get("model_type") in _OFFSET_POSITIONS:
            positions -= int(config.get("pad_token_id", 1)) + 1  # its positions begin behind the padding's
        tokenizer = self.folder / "tokenizer_config.json"
        limit = read_json(tokenizer).get("model_max_length") if tokenizer.is_file() else None
        return min(positions, int(limit)) if limit else int(positions)

    def tokenizer(self) -> Any:
        """The tokenizer; where it knows no padding, its end token pads.

        Raises:
            ModelError: it cannot be read, or knows neither padding nor end.
        """
        return loading.load_tokenizer(self.folder)

    def load(self, spec: TaskSpec, *, seed: int = 0) -> Any:
        """The fp32 model for a task, on the CPU and in eval mode.

        A classifier gets one output for each label and a fresh head drawn from `seed`, whatever was drawn before and
        without touching the global generator. Attention is eager and the base's own dropouts are 0: adapters have
        dropouts of their own, steps become deterministic, and on a CPU they take about a quarter less time.

        Raises:
            ModelError: tensors are missing or misshapen, or the family cannot do the task.
        """
        labels = spec.labels if spec.kind == "classification" else ()
        return loading.load_task_model(self.folder, spec.kind, labels, seed=seed)

    def load_encoder(self) -> Any:
        """The bare base without a task head, for features; fp32, on the CPU, in eval mode.

        Raises:
            ModelError: tensors are missing or misshapen.
        """
        return loading.load_encoder(self.folder)

    def load_meta(self, kind: TaskKind, num_labels: int = 2) -> Any:
        """The model for a kind of task without weights, on the meta device: names and shapes only.

        Raises:
            ModelError: the family cannot do the task.
        """
        return loading.load_meta(self.folder, kind, num_labels)


def embedded_bases() -> tuple[str, ...]:
    """The names of the base models that come with the embedded assets."""
    return tuple(asset.name for asset in CATALOG if asset.kind == "model")


def resolve_base(name: str, settings: Settings) -> BaseModel:
    """The base model called `name`: an embedded one, else a folder (seen from the workspace), else a hub id.

    Only safetensors are read, and a folder's single GGUF file after writing it out once as safetensors. Code that
    comes with a model never runs.

    Raises:
        UnknownNameError: nothing has this name.
        AssetError: an embedded model has not been fetched.
        ModelError: the folder is unsafe, has no safetensors, or no config.
        IntegrityError: an embedded model's weights are no longer those that were fetched.
        WorldError: the hub cannot be reached.
    """
    folder = _find(name, settings)
    check_folder(folder)
    if source := find_gguf(folder):
        folder = _converted(source, settings)
    digest = weights_digest(weight_files(folder), settings.home)
    if name in embedded_bases():
        _compare(name, folder, digest, AssetStore(settings).recorded_digests(name))
    reference = BaseReference(name=name, digest=digest, model_type=loading.model_type(folder))
    return BaseModel(reference=reference, folder=folder)


def _compare(name: str, folder: Path, digest: str, recorded: dict[str, str]) -> None:
    if digest != digest_json({path.name: recorded[path.name] for path in weight_files(folder)}):
        raise IntegrityError(
            f"the weights of {name!r} changed since they were fetched",
            cause=f"they digest to {digest} now",
            hint=f"rm -r {folder} && legion assets fetch",
        )


def _find(name: str, settings: Settings) -> Path:
    if name in embedded_bases():
        return AssetStore(settings).folder(name).resolve()
    folder = (settings.workspace / Path(name).expanduser()).resolve() if name else settings.workspace / "-"
    if folder.is_dir():
        return folder
    if is_hub_id(name):
        return download_base(name).absolute()
    raise UnknownNameError.of(
        "base model", name, embedded_bases(), hint="or name a folder with model.safetensors, or a hub id (owner/model)"
    )


def _converted(source: Path, settings: Settings) -> Path:
    """The safetensors form of a GGUF file, made once for its content."""
    from legion.neuro_architecture.data.gguf_conversion import convert_gguf

    def fill(fresh: Path) -> None:
        convert_gguf(source, fresh)

    target = settings.home / "converted" / short(digest_file(source))
    if not target.is_dir():
        with exclusive_lock(target.parent / ".lock"):
            if not target.is_dir():
                publish_folder(target, fill)
    return target
