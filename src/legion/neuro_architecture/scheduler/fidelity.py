"""How far a cheap look tells what a dear one would: rank correlation, and who of the best it keeps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

import numpy as np

__all__ = ["Fidelity", "kendall_tau", "measure_fidelity"]

_LEAST_PAIRS: Final = 5
_TOP_SHARE: Final = 0.1
_TRUSTED_TAU: Final = 0.5
_Z95: Final = 1.959964


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Fidelity:
    """How one cheap look ranks trials beside a dear one.

    Attributes:
        cheap: Name of the cheap look.
        dear: Name of the dear one.
        n: Trials that had both.
        tau: Kendall's tau-b, or None with fewer than five trials or where one look tells no two apart.
        low: Lower end of its 95 % interval.
        high: Upper end.
        recall_top_tenth: Share of the dear look's best tenth (one trial at least) within the cheap look's best tenth.
        pairs: The values behind it, less is better on both.
        reason: Why there is no tau.
    """

    cheap: str
    dear: str
    n: int
    tau: float | None
    low: float | None
    high: float | None
    recall_top_tenth: float | None
    pairs: tuple[tuple[float, float], ...]
    reason: str | None = None

    @property
    def is_trusted(self) -> bool | None:
        """Whether the cheap look may decide: tau of 0.5 at least; None where it is not known."""
        return None if self.tau is None else self.tau >= _TRUSTED_TAU


def measure_fidelity(cheap: str, dear: str, pairs: Sequence[tuple[float, float]]) -> Fidelity:
    """The fidelity in pairs of (cheap, dear) losses, one a trial; less is better on both."""
    count = len(pairs)
    if count < _LEAST_PAIRS:
        reason = f"{count} trials had both looks; {_LEAST_PAIRS} are needed"
        return _absent(cheap, dear, pairs, reason)
    left, right = np.asarray([pair[0] for pair in pairs]), np.asarray([pair[1] for pair in pairs])
    tau = kendall_tau(left, right)
    if tau is None:
        return _absent(cheap, dear, pairs, "one of the looks gives all trials the same value")
    low, high = _interval(tau, count)
    top = max(1, round(_TOP_SHARE * count))
    truly = set(np.argsort(right, kind="stable")[:top].tolist())
    taken = set(np.argsort(left, kind="stable")[:top].tolist())
    return Fidelity(
        cheap=cheap,
        dear=dear,
        n=count,
        tau=tau,
        low=low,
        high=high,
        recall_top_tenth=len(truly & taken) / top,
        pairs=tuple(pairs),
    )


def _absent(cheap: str, dear: str, pairs: Sequence[tuple[float, float]], reason: str) -> Fidelity:
    return Fidelity(
        cheap=cheap,
        dear=dear,
        n=len(pairs),
        tau=None,
        low=None,
        high=None,
        recall_top_tenth=None,
        pairs=tuple(pairs),
        reason=reason,
    )


def kendall_tau(left: Sequence[float] | np.ndarray, right: Sequence[float] | np.ndarray) -> float | None:
    """Kendall's tau-b, which counts ties against neither; None where one side has nothing but ties.

    Source: Kendall 1945, doi:10.1093/biomet/33.3.239.
    """
    one, other = np.asarray(left, dtype=float), np.asarray(right, dtype=float)
    upper = np.triu_indices(len(one), k=1)
    signs = [np.sign(side[:, None] - side[None, :])[upper] for side in (one, other)]
    untied = [float(np.abs(sign).sum()) for sign in signs]
    if min(untied) == 0.0:
        return None
    return float((signs[0] * signs[1]).sum() / math.sqrt(untied[0] * untied[1]))


def _interval(tau: float, count: int) -> tuple[float, float]:
    """A 95 % interval by Fisher's z with the variance 0.437 / (n - 4) (Fieller, Hartley and Pearson 1957)."""
    if count <= 4 or abs(tau) >= 1.0:
        return tau, tau
    half = _Z95 * math.sqrt(0.437 / (count - 4))
    middle = math.atanh(tau)
    return math.tanh(middle - half), math.tanh(middle + half)
