"""PEFT's other mergeable methods in one table: sizes, weights, operations, and which layers each can take.

Every formula is of one linear layer of `d_in` to `d_out`, with PEFT's own defaults beside the one size that is asked
for (LoHa and LoKr at alpha = rank, GraLoRA in two by two blocks); read in the source of PEFT 0.21 and held against it
by the tests.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

from legion.neuro_architecture.anatomy.values import LinearSite
from legion.neuro_architecture.spec.architecture import PEFT_SIZES, PeftArchitecture, PeftStrategy

__all__ = ["METHODS", "PeftMethod", "canonical_size", "method_mistakes"]

_GRALORA_BLOCKS: Final = 2

# A layer and its size, and whether it is the one that writes the feed-forward network's output.
_CountParameters = Callable[[LinearSite, int, bool], int]
# A layer, its size, and tokens.
_CountFlops = Callable[[LinearSite, int, int], float]
_Complain = Callable[[LinearSite, int], str | None]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class PeftMethod:
    """What the search needs to know of one method.

    Attributes:
        sizes: Grid of its size with prior weights; empty where it has none.
        parameters: Trained weights of a layer.
        flops: Operations that it adds to a layer's pass, unmerged.
        kernels: Calls that torch dispatches for a layer in inference mode, and how many more for each unit of size.
        rebuilds_weight: Whether each pass makes a matrix as large as the layer's own.
        takes_transposed: Whether PEFT applies it to GPT-2's transposed layers.
        complaint: Why a layer cannot take a size, or None.
        rate_factor: Times LoRA's learning rate that its authors or PEFT's own benchmark train it with.
    """

    sizes: dict[int, int]
    parameters: _CountParameters
    flops: _CountFlops
    kernels: tuple[int, int]
    rebuilds_weight: bool = False
    takes_transposed: bool = False
    complaint: _Complain = lambda _, __: None
    rate_factor: float = 1.0


def _through_rank(linear: LinearSite, rank: int, tokens: int) -> float:
    return 2.0 * tokens * rank * (linear.in_features + linear.out_features)


def _through_weight(linear: LinearSite, tokens: int) -> float:
    return 2.0 * tokens * linear.in_features * linear.out_features


def _area(linear: LinearSite) -> int:
    return linear.in_features * linear.out_features


def _narrower(linear: LinearSite) -> int:
    return min(linear.in_features, linear.out_features)


def _factors(width: int) -> tuple[int, int]:
    """The two factors of a width that lie closest together, the smaller first: how LoKr cuts it."""
    smaller = next(number for number in range(math.isqrt(width), 0, -1) if width % number == 0)
    return smaller, width // smaller


def _lokr_second(linear: LinearSite) -> tuple[int, int]:
    return _factors(linear.out_features)[1], _factors(linear.in_features)[1]


def _is_lokr_full(linear: LinearSite, rank: int) -> bool:
    """Whether the second factor is trained whole, its rank being no saving."""
    return rank >= max(_lokr_second(linear)) / 2


def _lokr_parameters(linear: LinearSite, rank: int, _: bool) -> int:
    rows, columns = _lokr_second(linear)
    first = _factors(linear.out_features)[0] * _factors(linear.in_features)[0]
    return first + (rows * columns if _is_lokr_full(linear, rank) else rank * (rows + columns))


def _lokr_flops(linear: LinearSite, rank: int, tokens: int) -> float:
    rows, columns = _lokr_second(linear)
    second = 0.0 if _is_lokr_full(linear, rank) else 2.0 * rank * rows * columns
    return _through_weight(linear, tokens) + second


def _boft_flops(linear: LinearSite, _: int, tokens: int) -> float:
    return 6.0 * linear.in_features**3 + 2.0 * tokens * linear.in_features**2


def _hra_flops(linear: LinearSite, rank: int, _: int) -> float:
    """The product of the reflections, then the weight times it, whatever the number of tokens."""
    width = linear.in_features
    return 4.0 * rank * width**2 + 2.0 * width**3 + 2.0 * width**2 * linear.out_features


def _c3a_flops(linear: LinearSite, size: int, tokens: int) -> float:
    """Products of spectra; with one block to read from there is nothing to sum, and torch multiplies numbers."""
    return 0.0 if size == linear.in_features else _through_weight(linear, tokens) / size


def _num_bases(linear: LinearSite, rank: int) -> int:
    return -(-_narrower(linear) // rank)


def _below_width(linear: LinearSite, rank: int) -> str | None:
    width = _narrower(linear)
    return None if rank < width else f"rank {rank} is not below {width}, the width of {linear.path}"


def _divides_input(linear: LinearSite, size: int) -> str | None:
    if linear.in_features % size == 0:
        return None
    return f"block_size {size} does not divide {linear.in_features}, the input of {linear.path}"


def _rotates_blocks(linear: LinearSite, size: int) -> str | None:
    return "block_size 1 leaves nothing to rotate" if size == 1 else _divides_input(linear, size)


def _butterflies(linear: LinearSite, size: int) -> str | None:
    return f"block_size {size} is odd, and a butterfly has two wings" if size % 2 else _divides_input(linear, size)


def _divides_both(linear: LinearSite, size: int) -> str | None:
    common = math.gcd(linear.in_features, linear.out_features)
    if common % size == 0:
        return None
    return f"block_size {size} does not divide {common}, the common divisor of the widths of {linear.path}"


def _comes_in_pairs(linear: LinearSite, rank: int) -> str | None:
    """Two equal reflections undo each other, so a fresh adapter of an even number changes nothing."""
    return f"rank {rank} is odd: reflections come in pairs" if rank % 2 else _below_width(linear, rank)


def _cuts_in_blocks(linear: LinearSite, rank: int) -> str | None:
    if rank % _GRALORA_BLOCKS:
        return f"rank {rank} is not divisible by {_GRALORA_BLOCKS}, the blocks of a side"
    if math.gcd(linear.in_features, linear.out_features) % _GRALORA_BLOCKS:
        return f"{linear.path} maps {linear.in_features} to {linear.out_features}, not both divisible by 2"
    return _below_width(linear, rank)


def _fits_spectrum(linear: LinearSite, count: int) -> str | None:
    area = _area(linear)
    return None if count <= area else f"num_frequencies {count} exceeds the {area} of {linear.path}"


_RANKS: Final = {4: 1, 8: 3, 16: 3, 32: 1}
_BLOCKS: Final = {2: 1, 4: 3, 8: 2, 16: 1, 32: 1}
_FREQUENCIES: Final = {64: 1, 128: 3, 256: 2, 512: 1, 1024: 1}

METHODS: Final[dict[PeftStrategy, PeftMethod]] = {
    "IA3": PeftMethod(
        sizes={},
        parameters=lambda linear, _, writes_ffn: linear.in_features if writes_ffn else linear.out_features,
        flops=lambda *_: 0.0,
        kernels=(4, 0),
        takes_transposed=True,
        rate_factor=10.0,
    ),
    "LoHa": PeftMethod(
        sizes=_RANKS,
        parameters=lambda linear, rank, _: 2 * rank * (linear.in_features + linear.out_features),
        flops=lambda linear, rank, tokens: _through_weight(linear, tokens) + 4.0 * rank * _area(linear),
        kernels=(10, 0),
        rebuilds_weight=True,
        complaint=_below_width,
    ),
    "LoKr": PeftMethod(
        sizes=_RANKS,
        parameters=_lokr_parameters,
        flops=_lokr_flops,
        kernels=(7, 0),
        rebuilds_weight=True,
        complaint=_below_width,
    ),
    "OFT": PeftMethod(
        sizes=_BLOCKS,
        parameters=lambda linear, size, _: linear.in_features * (size - 1) // 2,
        flops=lambda linear, size, tokens: linear.in_features * (2.0 * tokens * size + 6.0 * size**2),
        kernels=(20, 0),
        complaint=_rotates_blocks,
    ),
    "BOFT": PeftMethod(
        sizes=_BLOCKS,
        parameters=lambda linear, size, _: linear.in_features * size + linear.out_features,
        flops=_boft_flops,
        kernels=(33, 0),
        rebuilds_weight=True,
        complaint=_butterflies,
    ),
    "VeRA": PeftMethod(
        sizes={8: 1, 16: 1, 64: 2, 128: 2, 256: 2},
        parameters=lambda linear, rank, _: linear.out_features + rank,
        flops=_through_rank,
        kernels=(11, 0),
        takes_transposed=True,
        rate_factor=10.0,
    ),
    "HRA": PeftMethod(
        sizes=_RANKS,
        parameters=lambda linear, rank, _: linear.in_features * rank,
        flops=_hra_flops,
        kernels=(9, 7),
        rebuilds_weight=True,
        complaint=_comes_in_pairs,
    ),
    "FourierFT": PeftMethod(
        sizes=_FREQUENCIES,
        parameters=lambda _, count, __: count,
        flops=lambda linear, _, tokens: _through_weight(linear, tokens),
        kernels=(14, 0),
        rebuilds_weight=True,
        takes_transposed=True,
        complaint=_fits_spectrum,
        rate_factor=10.0,
    ),
    "WaveFT": PeftMethod(
        sizes=_FREQUENCIES,
        parameters=lambda _, count, __: count,
        flops=lambda linear, _, tokens: _through_weight(linear, tokens) + 8.0 * _area(linear),
        kernels=(75, 0),
        rebuilds_weight=True,
        takes_transposed=True,
        complaint=_fits_spectrum,
        rate_factor=10.0,
    ),
    "C3A": PeftMethod(
        sizes=_BLOCKS,
        parameters=lambda linear, size, _: _area(linear) // size,
        flops=_c3a_flops,
        kernels=(14, 0),
        complaint=_divides_both,
    ),
    "RandLoRA": PeftMethod(
        sizes=_RANKS,
        parameters=lambda linear, rank, _: _num_bases(linear, rank) * (rank + _narrower(linear)),
        flops=lambda linear, rank, tokens: _through_rank(linear, rank * _num_bases(linear, rank), tokens),
        kernels=(18, 0),
        rebuilds_weight=True,
        takes_transposed=True,
        complaint=_below_width,
    ),
    "MiSS": PeftMethod(
        sizes=_RANKS,
        parameters=lambda linear, rank, _: rank * linear.out_features,
        flops=lambda linear, rank, tokens: 2.0 * tokens * rank * linear.out_features,
        kernels=(5, 0),
        complaint=_below_width,
    ),
    "DeLoRA": PeftMethod(
        sizes=_RANKS,
        parameters=lambda linear, rank, _: rank * (linear.in_features + linear.out_features) + 1,
        flops=_through_rank,
        kernels=(16, 0),
        complaint=_below_width,
    ),
    "GraLoRA": PeftMethod(
        sizes=_RANKS,
        parameters=lambda linear, rank, _: rank * (linear.in_features + linear.out_features),
        flops=_through_rank,
        kernels=(12, 0),
        takes_transposed=True,
        complaint=_cuts_in_blocks,
    ),
}


def method_mistakes(architecture: PeftArchitecture, linears: Sequence[LinearSite]) -> list[str]:
    """What of its layers the method cannot take: transposed ones, or widths that do not go with its size.

    Each complaint is made once, of the first layer of its kind.
    """
    method, size = METHODS[architecture.strategy], architecture.size
    transposed = next((linear for linear in linears if linear.is_transposed), None)
    if transposed is not None and not method.takes_transposed:
        return [f"PEFT's {architecture.strategy} does not take transposed layers such as {transposed.path}"]
    shapes = {(linear.in_features, linear.out_features): linear for linear in reversed(linears)}
    complaints = [method.complaint(linear, size) for linear in reversed(shapes.values()) if size is not None]
    return list(dict.fromkeys(complaint for complaint in complaints if complaint is not None))


def canonical_size(architecture: PeftArchitecture, linears: Sequence[LinearSite]) -> dict[str, Any]:
    """The size as the one spelling has it: LoKr trains its factors whole from some rank on, whatever is written."""
    if architecture.strategy != "LoKr" or architecture.rank is None or not linears:
        return {}
    limit = max(-(-max(_lokr_second(linear)) // 2) for linear in linears)
    return {str(PEFT_SIZES["LoKr"]): min(architecture.rank, limit)}
