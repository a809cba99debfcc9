"""The three families of adapters that the search begins with, each a value of the spec that can be applied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

from peft import LoraConfig, PeftModel

from legion.neuro_architecture.adapters.attachment import attach, peft_fields, refuse_adapted
from legion.neuro_architecture.adapters.bottleneck import BottleneckConfig
from legion.neuro_architecture.adapters.fields import bottleneck_fields, exact_activation, lora_fields
from legion.neuro_architecture.adapters.mixture import MixtureConfig
from legion.neuro_architecture.adapters.targets import choose_ffn_sites, choose_linears, path_pattern
from legion.neuro_architecture.anatomy import inspect_model
from legion.neuro_architecture.spec.architecture import (
    AdapterArchitecture,
    LoRAArchitecture,
    MoEArchitecture,
    NonLinearity,
    Placement,
    Routing,
)

__all__ = ["BottleneckAdapter", "LoRAAdapter", "MoEAdapter"]


@final
class LoRAAdapter:
    """Low-rank correction of chosen linear layers: y = W x + (alpha / rank) B A x.

    B starts at zero, so a fresh adapter changes nothing. Source: arXiv:2106.09685, section 4.1.

    Args:
        rank: Inner width of A and B, from 1 to min(d_in, d_out) of each target.
        alpha: Numerator of the scale.
        dropout: Share of inputs of A dropped while training.
        target_modules: Names of linear layers inside a block (`query`, `output.dense`); `all-linear` means all.
        layers: Indices of the adapted blocks, or None for all.
        use_rslora: Scale by alpha / sqrt(rank) instead (arXiv:2312.03732).
        use_dora: Train the magnitudes of the weights' rows apart from their directions (arXiv:2402.09353); a
            magnitude starts at what it is in the base.
        rank_pattern: Ranks of single layers by the end of their path, as in PEFT. Of two patterns that fit one layer
            the alphabetically first holds: PEFT stores patterns in this order and takes the first that fits.
        alpha_pattern: Alphas of single layers, likewise.

    Raises:
        InvalidValueError: lists every argument outside its range.
    """

    def __init__(
        self,
        rank: int = 8,
        alpha: float = 16.0,
        dropout: float = 0.0,
        target_modules: Sequence[str] = ("all-linear",),
        layers: Sequence[int] | None = None,
        use_rslora: bool = False,
        use_dora: bool = False,
        rank_pattern: Mapping[str, int] | None = None,
        alpha_pattern: Mapping[str, float] | None = None,
    ) -> None:
        names = (target_modules,) if isinstance(target_modules, str) else tuple(target_modules)
        self._architecture = LoRAArchitecture.parse(
            {
                "rank": rank,
                "alpha": alpha,
                "dropout": dropout,
                "target_modules": names,
                "layers": layers,
                "use_rslora": use_rslora,
                "use_dora": use_dora,
                "rank_pattern": dict(rank_pattern or {}),
                "alpha_pattern": dict(alpha_pattern or {}),
            },
            what="LoRAAdapter",
        )

    @property
    def architecture(self) -> LoRAArchitecture:
        return self._architecture

    def apply(self, model: Any, *, seed: int = 0) -> PeftModel:
        """Adapts `model` in place, freezes its base and returns it as a `PeftModel`.

        Args:
            model: A transformers model.
            seed: Of A; the global generators stay as they are.

        Raises:
            ModelError: the model's structure is not understood.
            AdapterError: the model carries an adapter already, a target is missing, a pattern fits none of the targets,
                or a rank exceeds a width.
        """
        refuse_adapted(model)
        anatomy = inspect_model(model)
        architecture = self._architecture
        linears = choose_linears(anatomy, architecture)
        paths = [linear.path for linear in linears]
        config = LoraConfig(**lora_fields(architecture, linears), **peft_fields(anatomy))
        return attach(model, config, architecture, model_type=anatomy.model_type, paths=paths, seed=seed)


@final
class BottleneckAdapter:
    """A small network at the feed-forward network of each block: W_down f(W_up x).

    W_down starts at zero, so a fresh adapter changes nothing. Where `non_linearity` is of the same kind as the base's
    own activation, the base's own variety is taken (GPT-2's `gelu_new` for `gelu`), so that a parallel adapter is
    exactly a wider feed-forward network. Source: arXiv:1902.00751 (`seq`), arXiv:2110.04366 (`par`).

    Args:
        bottleneck_size: Inner width.
        non_linearity: `relu`, `gelu` or `silu`.
        placement: `par` corrects the FFN's output by its input, `seq` by its output; `seq_layer` corrects the whole
            block's output by its norm of its own kind: h + W_down f(W_up norm(h)).
        is_gated: f(W_gate x) * (W_up x) instead of f(W_up x), without biases.
        dropout: Share of inner activations dropped while training.
        layers: Indices of the adapted blocks, or None for all.

    Raises:
        InvalidValueError: lists every argument outside its range.
    """

    def __init__(
        self,
        bottleneck_size: int = 64,
        non_linearity: NonLinearity = "gelu",
        placement: Placement = "par",
        is_gated: bool = False,
        dropout: float = 0.0,
        layers: Sequence[int] | None = None,
    ) -> None:
        self._architecture = AdapterArchitecture.parse(
            {
                "bottleneck_size": bottleneck_size,
                "non_linearity": non_linearity,
                "placement": placement,
                "is_gated": is_gated,
                "dropout": dropout,
                "layers": layers,
            },
            what="BottleneckAdapter",
        )

    @property
    def architecture(self) -> AdapterArchitecture:
        return self._architecture

    def apply(self, model: Any, *, seed: int = 0) -> PeftModel:
        """Adapts `model` in place, freezes its base and returns it as a `PeftModel`.

        Args:
            model: A transformers model.
            seed: Of the up-projections; the global generators stay as they are.

        Raises:
            ModelError: the model's structure is not understood.
            AdapterError: the model carries an adapter already, a layer is out of range, or `seq_layer` is asked for
                where blocks end in a norm (BERT).
        """
        refuse_adapted(model)
        anatomy = inspect_model(model)
        architecture = self._architecture
        sites = choose_ffn_sites(anatomy, architecture.layers, architecture.placement)
        paths = [site.path for site in sites]
        config = BottleneckConfig(**bottleneck_fields(architecture, model, anatomy, sites), **peft_fields(anatomy))
        return attach(model, config, architecture, model_type=anatomy.model_type, paths=paths, seed=seed)


@final
class MoEAdapter:
    """A mixture of bottleneck experts beside each block's frozen feed-forward network.

    p = softmax(W_r x); y = FFN(x) + sum over the top_k largest p_e of p_e * expert_e(x), without renormalising. The
    experts' down-projections start at zero, so a fresh adapter changes nothing. `non_linearity` is chosen as in
    `BottleneckAdapter`.

    Args:
        num_experts: Experts in each adapted block.
        top_k: Experts a token is sent to.
        load_balancing: Whether `auxiliary_loss` gives a loss to train with.
        load_balancing_coefficient: Its weight.
        bottleneck_size: Inner width of one expert.
        non_linearity: `relu`, `gelu` or `silu`.
        is_gated: Gated experts without biases.
        layers: Indices of the adapted blocks, or None for all.
        routing: `learned`, or `random`: no router, each training step draws one expert (top_k is 1), and their average
            serves (AdaMix); tensors are those of `random_experts.RandomMixture`.

    Raises:
        InvalidValueError: lists every argument outside its range.
    """

    def __init__(
        self,
        num_experts: int = 8,
        top_k: int = 2,
        load_balancing: bool = True,
        load_balancing_coefficient: float = 0.01,
        bottleneck_size: int = 16,
        non_linearity: NonLinearity = "gelu",
        is_gated: bool = False,
        layers: Sequence[int] | None = None,
        routing: Routing = "learned",
    ) -> None:
        self._architecture = MoEArchitecture.parse(
            {
                "num_experts": num_experts,
                "top_k": top_k,
                "load_balancing": load_balancing,
                "load_balancing_coefficient": load_balancing_coefficient,
                "bottleneck_size": bottleneck_size,
                "non_linearity": non_linearity,
                "is_gated": is_gated,
                "layers": layers,
                "routing": routing,
            },
            what="MoEAdapter",
        )

    @property
    def architecture(self) -> MoEArchitecture:
        return self._architecture

    def apply(self, model: Any, *, seed: int = 0) -> PeftModel:
        """Adapts `model` in place, freezes its base and returns it as a `PeftModel`.

        Args:
            model: A transformers model.
            seed: Of the router and the up-projections; the global generators stay as they are.

        Raises:
            ModelError: the model's structure is not understood.
            AdapterError: the model carries an adapter already, or a layer is out of range.
        """
        refuse_adapted(model)
        anatomy = inspect_model(model)
        architecture = self._architecture
        sites = choose_ffn_sites(anatomy, architecture.layers, "par")
        paths = [site.path for site in sites]
        config = MixtureConfig(
            hidden_size=anatomy.hidden_size,
            num_experts=architecture.num_experts,
            top_k=architecture.top_k,
            load_balancing=architecture.load_balancing,
            load_balancing_coefficient=architecture.load_balancing_coefficient,
            bottleneck_size=architecture.bottleneck_size,
            activation=exact_activation(model, anatomy, architecture.non_linearity),
            style=sites[0].style,
            is_gated=architecture.is_gated,
            routing=architecture.routing,
            target_modules=path_pattern(paths),
            **peft_fields(anatomy),
        )
        return attach(model, config, architecture, model_type=anatomy.model_type, paths=paths, seed=seed)
