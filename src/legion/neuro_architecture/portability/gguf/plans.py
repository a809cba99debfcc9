"""One tensor of a GGUF file as a recipe over tensors of the checkpoint, and the recipes that there are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from legion.neuro_architecture.portability.gguf.reading import CheckpointReader

__all__ = ["Metadata", "TensorPlan", "fixed", "flat", "permuted", "plain", "stacked", "transposed"]

Metadata = dict[str, int | float | str]


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorPlan:
    """A tensor to be written.

    Attributes:
        name: In the GGUF file.
        sources: Tensors of the checkpoint that it is made of.
        build: Makes it of them; also of tensors without storage, which tells its shape beforehand.
    """

    name: str
    sources: tuple[str, ...]
    build: Callable[[Sequence[torch.Tensor]], torch.Tensor]

    def shape(self, reader: CheckpointReader) -> tuple[int, ...]:
        return tuple(self.build([reader.blank(source) for source in self.sources]).shape)

    def read(self, reader: CheckpointReader) -> torch.Tensor:
        return self.build([reader.read(source) for source in self.sources]).contiguous()


def plain(name: str, source: str) -> TensorPlan:
    """The source as it is."""
    return TensorPlan(name=name, sources=(source,), build=lambda tensors: tensors[0])


def flat(name: str, source: str) -> TensorPlan:
    """The source as one row."""
    return TensorPlan(name=name, sources=(source,), build=lambda tensors: tensors[0].flatten())


def transposed(name: str, source: str) -> TensorPlan:
    """GPT-2's `Conv1D` keeps its weight as [in, out], GGUF as [out, in]."""
    return TensorPlan(name=name, sources=(source,), build=lambda tensors: tensors[0].T)


def stacked(name: str, sources: Sequence[str]) -> TensorPlan:
    """The experts' weights as one tensor [num_experts, out, in]."""
    return TensorPlan(name=name, sources=tuple(sources), build=lambda tensors: torch.stack(list(tensors)))


def fixed(name: str, tensor: torch.Tensor) -> TensorPlan:
    """A tensor that no source holds."""
    return TensorPlan(name=name, sources=(), build=lambda _: tensor)


def permuted(name: str, source: str, num_heads: int) -> TensorPlan:
    """Rows of each head from halves to pairs.

    transformers rotates component i with i + head_dim / 2, llama.cpp's `llama` architecture 2i with 2i + 1.
    """

    def build(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
        rows, *rest = tensors[0].shape
        return tensors[0].reshape(num_heads, 2, rows // num_heads // 2, *rest).transpose(1, 2).reshape(rows, *rest)

    return TensorPlan(name=name, sources=(source,), build=build)
