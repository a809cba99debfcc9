"""A change of one weight in factors, and what is lost when its rank is cut.

The best approximation of rank r in the Frobenius norm keeps the r largest singular values; its error is the root of the
sum of the squares of the others (Eckart and Young, doi:10.1007/BF02288367). Everything is computed in fp64 and given
in fp32.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import torch
from torch import Tensor
from torch.nn.functional import pad

from legion.foundation.errors import AdapterError, InvalidValueError

__all__ = ["LowRank", "Residual", "concatenate_factors", "factorize", "truncate"]

_FP32_ROUNDING: Final = torch.finfo(torch.float32).eps


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Residual:
    """What a smaller rank leaves out of a change, as norms in the sense of Frobenius.

    Attributes:
        absolute: Of what is left out.
        whole: Of the change itself.
    """

    absolute: float
    whole: float

    @property
    def relative(self) -> float:
        """The share that is left out, from 0 to 1."""
        return self.absolute / self.whole if self.whole else 0.0

    @classmethod
    def total(cls, residuals: Iterable[Residual]) -> Residual:
        """Of all layers taken together."""
        found = list(residuals)
        return cls(
            absolute=math.hypot(*(one.absolute for one in found)), whole=math.hypot(*(one.whole for one in found))
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"absolute": self.absolute, "relative": self.relative}


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LowRank:
    """The change B A of a weight [out, in], in fp32.

    Attributes:
        A: [rank, in].
        B: [out, rank].

    Raises:
        AdapterError: the two do not fit together.
    """

    A: Tensor
    B: Tensor

    def __post_init__(self) -> None:
        if self.A.dim() != 2 or self.B.dim() != 2 or self.A.shape[0] != self.B.shape[1]:
            raise AdapterError(
                "the factors of a low-rank change do not fit together",
                cause=f"A has shape {list(self.A.shape)}, B has shape {list(self.B.shape)}",
            )

    @property
    def rank(self) -> int:
        """Inner width; the change's true rank is at most this."""
        return self.A.shape[0]

    @property
    def shape(self) -> tuple[int, int]:
        """[out, in]."""
        return self.B.shape[0], self.A.shape[1]

    def dense(self) -> Tensor:
        """The change itself, [out, in]."""
        return self.B @ self.A

    def scaled(self, factor: float) -> LowRank:
        """`factor` times the change."""
        return LowRank(A=self.A, B=self.B * factor)

    def padded(self, rank: int) -> LowRank:
        """The same change with components of zero up to `rank`."""
        extra = rank - self.rank
        if extra < 0:
            raise InvalidValueError(f"rank {self.rank} cannot be padded to {rank}", hint="cut it: rerank")
        return LowRank(A=pad(self.A, (0, 0, 0, extra)), B=pad(self.B, (0, extra)))

    def without_silent(self) -> LowRank:
        """The same change without components that are zero; one is left where all are."""
        speaks = self.A.any(dim=1) & self.B.any(dim=0)
        if not speaks.any():
            speaks[0] = True
        return LowRank(A=self.A[speaks], B=self.B[:, speaks])


def concatenate_factors(changes: Sequence[LowRank]) -> LowRank:
    """The sum of changes of one weight, exactly: its components are all of theirs."""
    joined = LowRank(A=torch.cat([one.A for one in changes]), B=torch.cat([one.B for one in changes], dim=1))
    return joined.without_silent()


def truncate(change: LowRank, rank: int) -> tuple[LowRank, Residual]:
    """The best approximation of at most `rank`, padded to it, and what it leaves out.

    B = Q_B R_B and A^T = Q_A R_A, so the singular values of B A are those of the small R_B R_A^T: the product [out, in]
    is never formed.
    """
    Q_B, R_B = torch.linalg.qr(change.B.double())
    Q_A, R_A = torch.linalg.qr(change.A.double().T)
    U, S, V = torch.linalg.svd(R_B @ R_A.T, full_matrices=False)
    return _keep(Q_B @ U, S, V @ Q_A.T, rank)


def factorize(change: Tensor, limit: int | None) -> tuple[LowRank, Residual]:
    """A dense change [out, in] in factors of the rank that it has within fp32 rounding, but at most `limit`."""
    U, S, V = torch.linalg.svd(change.double(), full_matrices=False)
    threshold = S[0] * max(change.shape) * _FP32_ROUNDING
    true_rank = max(1, int((threshold < S).sum()))
    return _keep(U, S, V, true_rank if limit is None else min(true_rank, limit))


def _keep(U: Tensor, S: Tensor, V: Tensor, rank: int) -> tuple[LowRank, Residual]:
    """The first `rank` components, with the root of the singular value on either side."""
    if rank < 1:
        raise InvalidValueError(f"rank {rank} is below 1")
    root = S[:rank].sqrt()
    kept = LowRank(A=(root[:, None] * V[:rank]).float(), B=(U[:, :rank] * root).float())
    residual = Residual(absolute=float(S[rank:].norm()), whole=float(S.norm()))
    return kept.padded(rank), residual
