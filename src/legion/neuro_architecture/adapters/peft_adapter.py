"""PEFT's other methods that end in a changed weight, applied by one class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

from peft import PeftModel

from legion.foundation.errors import AdapterError
from legion.neuro_architecture.adapters.attachment import attach, peft_fields, refuse_adapted
from legion.neuro_architecture.adapters.peft_methods import METHODS, PeftMethod, without_compiling
from legion.neuro_architecture.adapters.targets import choose_linears, path_pattern
from legion.neuro_architecture.anatomy import LinearSite, ModelAnatomy, inspect_model
from legion.neuro_architecture.spec.architecture import PEFT_SIZES, PeftArchitecture, PeftStrategy

__all__ = ["PeftAdapter"]


@final
class PeftAdapter:
    """One of PEFT's methods, under PEFT's own tensor names: `peft_methods.METHODS` says how each is configured.

    Each is initialised so that a fresh adapter changes nothing, up to rounding where PEFT computes the identity
    (BOFT, HRA, OFT). What a method draws at random and freezes is the same for every seed and is saved where PEFT can.

    Args:
        strategy: The method.
        rank: Inner width (LoHa, LoKr, VeRA, RandLoRA, MiSS, DeLoRA, GraLoRA) or number of reflections (HRA).
        block_size: Width of a block (OFT, BOFT, C3A).
        num_frequencies: Coefficients of each layer's spectrum (FourierFT, WaveFT).
        target_modules: As in `LoRAAdapter`.
        layers: Indices of the adapted blocks, or None for all.

    Raises:
        InvalidValueError: lists every argument outside its range.
    """

    def __init__(
        self,
        strategy: PeftStrategy,
        rank: int | None = None,
        block_size: int | None = None,
        num_frequencies: int | None = None,
        target_modules: Sequence[str] = ("all-linear",),
        layers: Sequence[int] | None = None,
    ) -> None:
        names = (target_modules,) if isinstance(target_modules, str) else tuple(target_modules)
        self._architecture = PeftArchitecture.parse(
            {
                "strategy": strategy,
                "rank": rank,
                "block_size": block_size,
                "num_frequencies": num_frequencies,
                "target_modules": names,
                "layers": layers,
            },
            what="PeftAdapter",
        )

    @property
    def architecture(self) -> PeftArchitecture:
        return self._architecture

    def apply(self, model: Any, *, seed: int = 0) -> PeftModel:
        """Adapts `model` in place, freezes its base and returns it as a `PeftModel`.

        Args:
            model: A transformers model.
            seed: Of what the method draws and trains; the global generators stay as they are.

        Raises:
            ModelError: the model's structure is not understood.
            AdapterError: the model carries an adapter already, a target is missing, or the method does not take a
                target's kind or widths.
        """
        refuse_adapted(model)
        anatomy = inspect_model(model)
        architecture, method = self._architecture, METHODS[self._architecture.strategy]
        linears = choose_linears(anatomy, architecture)
        _refuse_misfits(architecture, method, linears)
        paths = [linear.path for linear in linears]
        fields = dict(method.fixed) | dict.fromkeys(method.size, architecture.size) | peft_fields(anatomy)
        if method.says_transposed:
            fields["fan_in_fan_out"] = linears[0].is_transposed
        if architecture.strategy == "IA3":
            fields["feedforward_modules"] = _down_projections(anatomy, paths)
        config = method.config(target_modules=path_pattern(paths), **fields)
        with without_compiling():
            return attach(model, config, architecture, model_type=anatomy.model_type, paths=paths, seed=seed)


def _down_projections(anatomy: ModelAnatomy, paths: Sequence[str]) -> str | list[str]:
    """IA3 scales the input of these, and the output of every other layer."""
    found = [layer.ffn_linears[-1].path for layer in anatomy.layers if layer.ffn_linears[-1].path in paths]
    return path_pattern(found) if found else []


def _refuse_misfits(architecture: PeftArchitecture, method: PeftMethod, linears: Sequence[LinearSite]) -> None:
    strategy, size = architecture.strategy, architecture.size
    transposed = [site.path for site in linears if site.is_transposed]
    if transposed and not method.takes_transposed:
        raise AdapterError(
            f"{strategy} cannot adapt {transposed[0]}", cause="PEFT has no form of it for layers stored transposed"
        )
    if size is None:
        return
    wrong = [f"{site.path}: {reason}" for site in linears if (reason := method.misfit(size, site))]
    if wrong:
        raise AdapterError(
            f"{PEFT_SIZES[strategy]} {size} of {strategy} does not fit {wrong[0].partition(':')[0]}",
            cause="\n".join(wrong),
        )
