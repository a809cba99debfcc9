"""Reads the weights of a checkpoint folder one at a time, whether they lie in one file or in shards."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, Self, final

import torch
from safetensors import SafetensorError, safe_open

from legion.foundation.errors import ModelError
from legion.foundation.files import confine, read_json

__all__ = ["CheckpointReader"]

_SINGLE: Final = "model.safetensors"
_INDEX: Final = "model.safetensors.index.json"


@final
class CheckpointReader:
    """The tensors of a checkpoint by name; a context manager that holds its files open.

    Args:
        folder: A transformers checkpoint with `model.safetensors`, or with shards and their index.

    Raises:
        ModelError: on entry, where the folder has no such files, or one is truncated or damaged.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open = ExitStack()
        self._files: dict[str, Any] = {}

    def __enter__(self) -> Self:
        try:
            for path, expected in self._shards().items():
                file = self._open.enter_context(self._opened(path))
                found = set(file.keys())
                if expected is not None and found != expected:
                    raise ModelError(f"{path.name} does not hold the tensors that {_INDEX} names")
                self._files |= dict.fromkeys(found, file)
        except BaseException:
            self._open.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._files.clear()
        self._open.close()

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self._files)

    def blank(self, name: str) -> torch.Tensor:
        """A tensor with this one's shape and no storage.

        Raises:
            ModelError: the checkpoint has no such tensor.
        """
        return torch.empty(self._file(name).get_slice(name).get_shape(), device="meta")

    def read(self, name: str) -> torch.Tensor:
        """The tensor in fp32.

        Raises:
            ModelError: there is none of this name, or it holds NaN or an infinity.
        """
        tensor: torch.Tensor = self._file(name).get_tensor(name).to(torch.float32)
        if not torch.isfinite(tensor).all():
            raise ModelError(f"weights are not finite: {name}", cause=f"in {self._folder}")
        return tensor

    def _file(self, name: str) -> Any:
        if name not in self._files:
            raise ModelError(f"the checkpoint {self._folder.name} lacks the tensor {name}")
        return self._files[name]

    def _shards(self) -> dict[Path, set[str] | None]:
        """The files with the tensors that an index promises in each; None without an index."""
        if (self._folder / _SINGLE).is_file():
            return {self._folder / _SINGLE: None}
        if not (self._folder / _INDEX).is_file():
            raise ModelError(f"{self._folder} holds neither {_SINGLE} nor {_INDEX}")
        shards: dict[Path, set[str] | None] = {}
        for name, shard in read_json(self._folder / _INDEX)["weight_map"].items():
            names = shards.setdefault(confine(self._folder, shard), set())
            if names is not None:
                names.add(name)
        return shards

    @staticmethod
    def _opened(path: Path) -> Any:
        try:
            return safe_open(path, framework="pt", device="cpu")
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{path} cannot be read", cause=str(error)) from error
