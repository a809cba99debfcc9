"""SplitLayer and SparseRouting: a dense feed-forward network cut into experts of its own units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, final

from peft import PeftModel

from legion.foundation.errors import AdapterError
from legion.neuro_architecture.adapters.attachment import attach, peft_fields, refuse_adapted
from legion.neuro_architecture.adapters.split import SPLIT_LINEARS, SplitConfig
from legion.neuro_architecture.adapters.targets import choose_layers, path_pattern
from legion.neuro_architecture.anatomy import LayerAnatomy, ModelAnatomy, inspect_model
from legion.neuro_architecture.anatomy.inspection import activation_name
from legion.neuro_architecture.spec.architecture import SplitArchitecture

__all__ = ["SplitAdapter"]


@final
class SplitAdapter:
    """A gated feed-forward network cut into experts of its own units, with a router and a low-rank correction.

    y = W_down' (w * f(W_gate' x) * (W_up' x)): w scales the units of expert e by top_k p_e / (sum of the top_k largest
    p), p = softmax(W_r x), or by 0 where e is not among them. A fresh `SplitLayer` changes nothing; a fresh
    `SparseRouting` leaves experts out, and does. Trained tensors and their shapes: `split.SplitExperts`.

    Args:
        strategy: `SplitLayer` keeps all experts, `SparseRouting` keeps top_k of them.
        num_experts: Experts of equal size; divides the network's width.
        top_k: Experts a token is sent to; None means all for `SplitLayer` and half for `SparseRouting`.
        rank: Rank of the correction of each of the three linears.
        alpha: Its scale is alpha / rank.
        load_balancing: Whether `auxiliary_loss` gives a loss to train with, where experts are left out.
        load_balancing_coefficient: Its weight.
        split: `contiguous` cuts units in order; `clusters` groups units whose gate rows point the same way.
        layers: Indices of the cut blocks, or None for all.

    Raises:
        InvalidValueError: lists every argument outside its range.
    """

    def __init__(
        self,
        strategy: Literal["SplitLayer", "SparseRouting"] = "SplitLayer",
        num_experts: int = 4,
        top_k: int | None = None,
        rank: int = 8,
        alpha: float = 16.0,
        load_balancing: bool = True,
        load_balancing_coefficient: float = 0.01,
        split: Literal["contiguous", "clusters"] = "clusters",
        layers: Sequence[int] | None = None,
    ) -> None:
        self._architecture = SplitArchitecture.parse(
            {
                "strategy": strategy,
                "num_experts": num_experts,
                "top_k": top_k,
                "rank": rank,
                "alpha": alpha,
                "load_balancing": load_balancing,
                "load_balancing_coefficient": load_balancing_coefficient,
                "split": split,
                "layers": layers,
            },
            what="SplitAdapter",
        )

    @property
    def architecture(self) -> SplitArchitecture:
        return self._architecture

    def apply(self, model: Any, *, seed: int = 0) -> PeftModel:
        """Adapts `model` in place, freezes its base and returns it as a `PeftModel`.

        Args:
            model: A transformers model whose feed-forward networks are gated and have no biases.
            seed: Of the correction, the clusters' first centre and a sparse router; the global generators stay as
                they are.

        Raises:
            ModelError: the model's structure is not understood.
            AdapterError: the model carries an adapter already, its feed-forward networks are of another kind or not
                divisible, the rank exceeds a width, or a layer is out of range.
        """
        refuse_adapted(model)
        anatomy = inspect_model(model)
        architecture = self._architecture
        layers = choose_layers(anatomy, architecture.layers)
        for layer in layers:
            _refuse_other_networks(model, anatomy, layer)
        self._refuse_sizes(anatomy)
        paths = [layer.par.path for layer in layers]
        config = SplitConfig(
            hidden_size=anatomy.hidden_size,
            intermediate_size=anatomy.intermediate_size,
            num_experts=architecture.num_experts,
            top_k=architecture.experts_per_token,
            rank=architecture.rank,
            alpha=architecture.alpha,
            load_balancing=architecture.load_balancing,
            load_balancing_coefficient=architecture.load_balancing_coefficient,
            split=architecture.split,
            activation=activation_name(model),
            target_modules=path_pattern(paths),
            **peft_fields(anatomy),
        )
        return attach(model, config, architecture, model_type=anatomy.model_type, paths=paths, seed=seed)

    def _refuse_sizes(self, anatomy: ModelAnatomy) -> None:
        architecture, width = self._architecture, anatomy.intermediate_size
        if width % architecture.num_experts:
            divisors = [str(count) for count in range(2, 17) if width % count == 0]
            raise AdapterError(
                f"{width} units cannot be dealt out to {architecture.num_experts} experts of equal size",
                hint=f"num_experts may be {', '.join(divisors) or 'nothing from 2 to 16'} here",
            )
        narrowest = min(width, anatomy.hidden_size)
        if architecture.rank > narrowest:
            raise AdapterError(
                f"rank {architecture.rank} exceeds the width of the feed-forward network",
                cause=f"it maps {anatomy.hidden_size} to {width} and back",
                hint=f"rank is at most {narrowest} here",
            )


def _refuse_other_networks(model: Any, anatomy: ModelAnatomy, layer: LayerAnatomy) -> None:
    names = {f"{layer.par.path}.{name}" for name in SPLIT_LINEARS}
    found = [linear.path for linear in layer.linears if linear.path.startswith(f"{layer.par.path}.")]
    biased = [path for path in found if model.get_submodule(path).bias is not None]
    if layer.par.style != "output" or set(found) != names or biased:
        raise AdapterError(
            f"the feed-forward networks of {anatomy.model_type} cannot be split into experts",
            cause=f"{layer.par.path} is not W_down (f(W_gate x) * (W_up x)) without biases",
            hint="Llama-like models can be split: Llama, Mistral, Qwen2",
        )
