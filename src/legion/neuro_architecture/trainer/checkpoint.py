"""What a killed trial resumes from: one safetensors file, whose header holds the rest as JSON. Never pickle.

One file, renamed into place, so that there is no instant without a whole checkpoint. Tensors by name:
`weights/NAME` (trainable, as they stand), `best/NAME` (at the best validation), `moments/KEY/NAME` (AdamW's state)
and `losses` (fp64, one a step).
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from legion.foundation.errors import IntegrityError
from legion.foundation.files import write_bytes
from legion.neuro_architecture.trainer.state import TrialHistory, TrialProgress
from legion.neuro_architecture.trainer.validation import Validation

__all__ = ["Checkpoint", "read_checkpoint", "remove_leftovers", "write_checkpoint"]

FILE: Final = "trial.safetensors"
_KEY: Final = "trial"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A trial between two steps.

    Attributes:
        identity: What decides the trial's numbers besides the number of steps; another trial's is not resumed from.
        steps: Steps of the schedule it was saved under.
        curve_bytes: Length of the learning curve's file.
        history: How it came here.
        progress: How far it is.
        weights: Trainable tensors.
        moments: AdamW's state of each of them: `step`, `exp_avg`, `exp_avg_sq`.
    """

    identity: dict[str, Any]
    steps: int
    curve_bytes: int
    history: TrialHistory
    progress: TrialProgress
    weights: dict[str, Tensor]
    moments: dict[str, dict[str, Tensor]]


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Replaces the checkpoint in `folder` at once."""
    progress = checkpoint.progress
    tensors = {f"weights/{name}": tensor for name, tensor in checkpoint.weights.items()}
    tensors |= {f"best/{name}": tensor for name, tensor in progress.best_weights.items()}
    for name, moments in checkpoint.moments.items():
        tensors |= {f"moments/{key}/{name}": tensor for key, tensor in moments.items()}
    tensors["losses"] = torch.tensor(progress.losses, dtype=torch.float64)
    head = {
        "identity": checkpoint.identity,
        "steps": checkpoint.steps,
        "curve_bytes": checkpoint.curve_bytes,
        "history": checkpoint.history.to_dict(),
        "step": progress.step,
        "seconds": progress.seconds,
        "tokens_seen": progress.tokens_seen,
        "examples_seen": progress.examples_seen,
        "validations": [item.to_dict() for item in progress.validations],
        "best": progress.best.to_dict() if progress.best else None,
    }
    metadata = {_KEY: json.dumps(head, allow_nan=False)}
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_bytes(folder / FILE, save(plain, metadata=metadata))


def read_checkpoint(folder: Path) -> Checkpoint | None:
    """The checkpoint in `folder`, or None where there is none.

    Raises:
        IntegrityError: the file is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            head = json.loads((file.metadata() or {})[_KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        return _assemble(head, tensors)
    except (SafetensorError, KeyError, ValueError, TypeError, OSError) as error:
        raise IntegrityError(
            f"checkpoint {path} is damaged", cause=str(error), hint=f"remove {folder} to train anew"
        ) from error


def _assemble(head: dict[str, Any], tensors: dict[str, Tensor]) -> Checkpoint:
    progress = TrialProgress(
        step=head["step"],
        losses=tensors["losses"].tolist(),
        seconds=head["seconds"],
        tokens_seen=head["tokens_seen"],
        examples_seen=head["examples_seen"],
        validations=[Validation(**item) for item in head["validations"]],
        best=Validation(**head["best"]) if head["best"] else None,
        best_weights=_below(tensors, "best/"),
    )
    moments: dict[str, dict[str, Tensor]] = {}
    for place, tensor in _below(tensors, "moments/").items():
        key, _, name = place.partition("/")
        moments.setdefault(name, {})[key] = tensor
    return Checkpoint(
        identity=head["identity"],
        steps=head["steps"],
        curve_bytes=head["curve_bytes"],
        history=TrialHistory(**head["history"]),
        progress=progress,
        weights=_below(tensors, "weights/"),
        moments=moments,
    )


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def remove_leftovers(folder: Path) -> None:
    """Removes half-written files and folders that a kill left in the run folder. Call under the run's lock."""
    for path in folder.glob(f"*/.{FILE}.*.tmp"):
        path.unlink()
    for path in folder.glob(".adapter.*"):
        shutil.rmtree(path)
