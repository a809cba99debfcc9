"""PEFT's methods that end in a changed weight: how each is configured, where it fits, and how it looks untrained."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, final

import torch
from peft import (
    BOFTConfig,
    C3AConfig,
    DeloraConfig,
    FourierFTConfig,
    GraloraConfig,
    HRAConfig,
    IA3Config,
    LoHaConfig,
    LoKrConfig,
    MissConfig,
    OFTConfig,
    PeftConfig,
    RandLoraConfig,
    VeraConfig,
    WaveFTConfig,
)
from peft.tuners.boft import layer as boft_layer

from legion.neuro_architecture.anatomy import LinearSite
from legion.neuro_architecture.spec.architecture import PeftStrategy

__all__ = ["METHODS", "PeftMethod", "is_untrained", "without_compiling"]

# GraLoRA cuts a weight into this number of blocks each way, the least that differs from LoRA.
GRALORA_BLOCKS: Final = 2


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class PeftMethod:
    """One method of PEFT's.

    Attributes:
        config: Its config class.
        size: Fields of the config that the architecture's one size goes into.
        fixed: Fields with the same value always: inits that change nothing, and frozen random tensors saved along.
        takes_transposed: Whether it adapts GPT-2's `Conv1D`.
        says_transposed: Whether its config has `fan_in_fan_out`.
        untrained: How one of its tensors looks that never got a gradient: name, and what it is then.
        misfit: Why a size does not fit a layer, or None.
    """

    config: type[PeftConfig]
    size: tuple[str, ...] = ()
    fixed: Mapping[str, Any]
    takes_transposed: bool = False
    says_transposed: bool = False
    untrained: tuple[str, Literal["zeros", "ones", "pairs"]]
    misfit: Callable[[int, LinearSite], str | None] = lambda _, __: None


def _divides_input(size: int, site: LinearSite) -> str | None:
    return f"{size} does not divide {site.in_features}" if site.in_features % size else None


def _divides_both(size: int, site: LinearSite) -> str | None:
    wrong = [str(width) for width in (site.in_features, site.out_features) if width % size]
    return f"{size} does not divide {' and '.join(wrong)}" if wrong else None


def _even_and_divides_input(size: int, site: LinearSite) -> str | None:
    return f"{size} is odd" if size % 2 else _divides_input(size, site)


def _even(size: int, _: LinearSite) -> str | None:
    return f"{size} is odd, and reflections cancel in pairs" if size % 2 else None


def _halves(size: int, site: LinearSite) -> str | None:
    if size % GRALORA_BLOCKS:
        return f"{size} is not a multiple of {GRALORA_BLOCKS}"
    return _divides_both(GRALORA_BLOCKS, site)


def _within_weight(size: int, site: LinearSite) -> str | None:
    entries = site.in_features * site.out_features
    return f"{size} exceeds the {entries} entries of the weight" if size > entries else None


METHODS: Final[Mapping[PeftStrategy, PeftMethod]] = {
    "IA3": PeftMethod(
        config=IA3Config, fixed={}, takes_transposed=True, says_transposed=True, untrained=("ia3_l", "ones")
    ),
    "LoHa": PeftMethod(config=LoHaConfig, size=("r", "alpha"), fixed={}, untrained=("hada_w2_b", "zeros")),
    "LoKr": PeftMethod(config=LoKrConfig, size=("r", "alpha"), fixed={}, untrained=("lokr_w1", "zeros")),
    "OFT": PeftMethod(
        config=OFTConfig,
        size=("oft_block_size",),
        fixed={"r": 0},
        untrained=("oft_R.weight", "zeros"),
        misfit=_divides_input,
    ),
    "BOFT": PeftMethod(
        config=BOFTConfig,
        size=("boft_block_size",),
        fixed={},
        untrained=("boft_R", "zeros"),
        misfit=_even_and_divides_input,
    ),
    "VeRA": PeftMethod(
        config=VeraConfig,
        size=("r",),
        fixed={"save_projection": True},
        takes_transposed=True,
        says_transposed=True,
        untrained=("vera_lambda_b", "zeros"),
    ),
    "HRA": PeftMethod(config=HRAConfig, size=("r",), fixed={}, untrained=("hra_u", "pairs"), misfit=_even),
    "FourierFT": PeftMethod(
        config=FourierFTConfig,
        size=("n_frequency",),
        fixed={"init_weights": True},
        takes_transposed=True,
        says_transposed=True,
        untrained=("fourierft_spectrum", "zeros"),
        misfit=_within_weight,
    ),
    "WaveFT": PeftMethod(
        config=WaveFTConfig,
        size=("n_frequency",),
        fixed={},
        takes_transposed=True,
        says_transposed=True,
        untrained=("waveft_spectrum", "zeros"),
        misfit=_within_weight,
    ),
    "C3A": PeftMethod(
        config=C3AConfig,
        size=("block_size",),
        fixed={"init_weights": True},
        untrained=("c3a_kernel", "zeros"),
        misfit=_divides_both,
    ),
    "RandLoRA": PeftMethod(
        config=RandLoraConfig,
        size=("r",),
        fixed={"save_projection": True},
        takes_transposed=True,
        says_transposed=True,
        untrained=("randlora_lambda", "zeros"),
    ),
    "MiSS": PeftMethod(config=MissConfig, size=("r",), fixed={}, untrained=("miss_block", "zeros")),
    "DeLoRA": PeftMethod(config=DeloraConfig, size=("r",), fixed={}, untrained=("delora_B", "zeros")),
    "GraLoRA": PeftMethod(
        config=GraloraConfig,
        size=("r",),
        fixed={"gralora_k": GRALORA_BLOCKS},
        takes_transposed=True,
        says_transposed=True,
        untrained=("gralora_B", "zeros"),
        misfit=_halves,
    ),
}


@contextlib.contextmanager
def without_compiling() -> Iterator[None]:
    """Keeps BOFT from building a CUDA kernel with the machine's compiler, anew for every layer where that fails.

    The kernel computes what BOFT computes without it; with one butterfly factor, which is ours, there is nothing to
    speed up.
    """
    original = boft_layer.get_fbd_cuda
    boft_layer.get_fbd_cuda = lambda: None
    try:
        yield
    finally:
        boft_layer.get_fbd_cuda = original


def is_untrained(name: str, tensor: torch.Tensor) -> bool:
    """Whether a stored tensor of one of these methods looks as it did before the first step."""
    for method in METHODS.values():
        ending, look = method.untrained
        if name.endswith((f".{ending}", f".{ending}_a")):
            match look:
                case "zeros":
                    return not tensor.any()
                case "ones":
                    return bool((tensor == 1).all())
                case "pairs":
                    return torch.equal(tensor[:, 0::2], tensor[:, 1::2])
    return False
