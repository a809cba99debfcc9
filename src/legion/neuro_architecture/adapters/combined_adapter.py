"""The combination as a value of the spec that can be applied."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

from peft import PeftModel

from legion.foundation.errors import AdapterError, InvalidValueError
from legion.neuro_architecture.adapters.attachment import attach, peft_fields, refuse_adapted
from legion.neuro_architecture.adapters.combined import CombinedConfig
from legion.neuro_architecture.adapters.fields import bottleneck_fields, lora_fields
from legion.neuro_architecture.adapters.targets import choose_ffn_sites, choose_linears
from legion.neuro_architecture.anatomy import inspect_model
from legion.neuro_architecture.spec.architecture import CombinedArchitecture, NonLinearity, Placement

__all__ = ["CombinedAdapter"]


@final
class CombinedAdapter:
    """A LoRA in the lower blocks, a bottleneck at the feed-forward network of the upper ones.

    y = W x + (alpha / rank) B A x below `boundary`, W_down f(W_up x) from it on: each part is exactly what
    `LoRAAdapter` and `BottleneckAdapter` put there alone, under the same tensor names. B and W_down start at zero, so a
    fresh combination changes nothing.

    Args:
        first_layer: Index of the lowest adapted block.
        boundary: Index of the lowest block with a bottleneck.
        rank: Inner width of A and B.
        alpha: The scale is alpha / rank.
        target_modules: As in `LoRAAdapter`.
        bottleneck_size: Inner width of the bottleneck.
        non_linearity: As in `BottleneckAdapter`.
        placement: Likewise.
        is_gated: Likewise.
        dropout: Share dropped while training: of A's inputs below, of the bottleneck's inner activations above.

    Raises:
        InvalidValueError: lists every argument outside its range, or that leaves no block below the boundary.
    """

    def __init__(
        self,
        first_layer: int = 0,
        boundary: int = 1,
        rank: int = 8,
        alpha: float = 16.0,
        target_modules: Sequence[str] = ("all-linear",),
        bottleneck_size: int = 64,
        non_linearity: NonLinearity = "gelu",
        placement: Placement = "par",
        is_gated: bool = False,
        dropout: float = 0.0,
    ) -> None:
        names = (target_modules,) if isinstance(target_modules, str) else tuple(target_modules)
        self._architecture = CombinedArchitecture.parse(
            {
                "first_layer": first_layer,
                "boundary": boundary,
                "rank": rank,
                "alpha": alpha,
                "target_modules": names,
                "bottleneck_size": bottleneck_size,
                "non_linearity": non_linearity,
                "placement": placement,
                "is_gated": is_gated,
                "dropout": dropout,
            },
            what="CombinedAdapter",
        )

    @property
    def architecture(self) -> CombinedArchitecture:
        return self._architecture

    def apply(self, model: Any, *, seed: int = 0) -> PeftModel:
        """Adapts `model` in place, freezes its base and returns it as a `PeftModel`.

        Args:
            model: A transformers model.
            seed: Of A and the up-projections; the global generators stay as they are.

        Raises:
            ModelError: the model's structure is not understood.
            AdapterError: the model carries an adapter already, no block is left above the boundary, a target is
                missing, a rank exceeds a width, or `seq_layer` is asked for where blocks end in a norm (BERT).
        """
        refuse_adapted(model)
        anatomy = inspect_model(model)
        try:
            below, above = self._architecture.parts(anatomy.num_layers)
        except InvalidValueError as error:
            raise AdapterError(error.message, cause=error.cause) from error
        linears = choose_linears(anatomy, below)
        sites = choose_ffn_sites(anatomy, above.layers, above.placement)
        bottleneck = bottleneck_fields(above, model, anatomy, sites)
        config = CombinedConfig(
            lora=lora_fields(below, linears),
            bottleneck=bottleneck,
            target_modules=bottleneck["target_modules"],
            **peft_fields(anatomy),
        )
        paths = [*(linear.path for linear in linears), *(site.path for site in sites)]
        return attach(model, config, self._architecture, model_type=anatomy.model_type, paths=paths, seed=seed)
