"""Writes the artefact that a plan promises, whichever form that is."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from legion.foundation.errors import NotPortableError
from legion.neuro_architecture.adapters.saving import CONFIG_NAME, WEIGHTS_NAME
from legion.neuro_architecture.portability.artefact import GGUF_NAME
from legion.neuro_architecture.portability.canonical_lora import canonical_lora
from legion.neuro_architecture.portability.checkpoint import StockCheckpoint, refuse_code, write_checkpoint
from legion.neuro_architecture.portability.folds import (
    fold_extra_layers,
    fold_merged,
    fold_mixtral,
    fold_qwen2_moe,
    fold_wider_ffn,
)
from legion.neuro_architecture.portability.gguf import write_gguf
from legion.neuro_architecture.portability.lora_folder import write_canonical_lora
from legion.neuro_architecture.portability.plan import LARGEST_VLLM_RANK
from legion.neuro_architecture.portability.trained import TrainedForm
from legion.neuro_architecture.portability.values import Form, PortabilityPlan
from legion.neuro_architecture.spec.architecture import AnyArchitecture, LoRAArchitecture

__all__ = ["fold"]

_CHECKPOINTS: Final[dict[Form, Callable[[TrainedForm], StockCheckpoint]]] = {
    "merged": fold_merged,
    "wider-ffn": fold_wider_ffn,
    "extra-layers": fold_extra_layers,
    "qwen2-moe": fold_qwen2_moe,
    "mixtral": fold_mixtral,
}
_USUAL_RANK: Final = 16
_GGUF_TARGETS: Final = frozenset({"llama.cpp", "ollama"})


def fold(
    trained: TrainedForm,
    planned: PortabilityPlan,
    folder: Path,
    *,
    adapter_folder: Path,
    max_lora_rank: int = LARGEST_VLLM_RANK,
) -> dict[str, float]:
    """Fills `folder` with the artefact and returns the relative error of each weight that a bounded form approximates.

    Args:
        trained: What was trained.
        planned: The plan for its target.
        folder: An empty folder.
        adapter_folder: The trained adapter's own files.
        max_lora_rank: The largest rank that a LoRA folder may have.

    Raises:
        NotPortableError: the plan says impossible, or a weight stands in the way that the plan could not see.
        AdapterError: a weight is not finite.
    """
    if planned.form is None:
        raise NotPortableError(
            f"{planned.target} cannot serve this {trained.architecture.strategy}",
            cause=planned.reason,
            hint=planned.remedy,
        )
    errors: dict[str, float] = {}
    match planned.form:
        case "peft-adapter":
            for name in (CONFIG_NAME, WEIGHTS_NAME):
                shutil.copyfile(adapter_folder / name, folder / name)
        case "canonical-lora":
            rank = _rank_of_bounded(planned, trained.architecture, max_lora_rank)
            canonical = canonical_lora(trained.model, max_rank=max_lora_rank, rank=rank, base=trained.base)
            write_canonical_lora(canonical, folder)
            errors = {path: residual.relative for path, residual in canonical.residuals.items()}
        case form:
            _write_checkpoint(_CHECKPOINTS[form](trained), trained, planned, folder)
    refuse_code(folder)
    return errors


def _rank_of_bounded(planned: PortabilityPlan, architecture: AnyArchitecture, max_lora_rank: int) -> int | None:
    """The rank that a change is cut to which is of none: a LoRA's own, else a usual one; None keeps what there is."""
    if planned.verdict == "exact":
        return None
    own = architecture.rank if isinstance(architecture, LoRAArchitecture) else _USUAL_RANK
    return min(own, max_lora_rank)


def _write_checkpoint(
    checkpoint: StockCheckpoint, trained: TrainedForm, planned: PortabilityPlan, folder: Path
) -> None:
    if planned.target not in _GGUF_TARGETS:
        write_checkpoint(checkpoint, folder, tokenizer_from=trained.base_folder)
        return
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".gguf-") as scratch:
        write_checkpoint(checkpoint, Path(scratch), tokenizer_from=trained.base_folder)
        write_gguf(Path(scratch), folder / GGUF_NAME)
