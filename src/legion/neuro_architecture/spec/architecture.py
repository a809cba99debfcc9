"""What an adapter is: three families of architecture, content-addressed by what they compute."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, get_args

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError, model_validator

from legion.foundation.canonical import digest_json
from legion.foundation.errors import InvalidValueError, UnknownNameError
from legion.neuro_architecture.spec._value import Value, explain

__all__ = [
    "SEMANTIC_HASH_HEX_DIGITS",
    "WIDEST_DENSE_MIXTURE",
    "AdapterArchitecture",
    "Architecture",
    "LoRAArchitecture",
    "MoEArchitecture",
    "NonLinearity",
    "Placement",
    "Strategy",
    "parse_architecture",
    "semantic_hash",
    "strategy_names",
]

SEMANTIC_HASH_HEX_DIGITS: Final = 16

# Total inner width of a mixture (num_experts * bottleneck_size) up to which a CPU computes all experts as one product.
# Measured on one thread at widths 384 and 576 and 400 to 4,000 tokens, eight experts, two of them used: one product
# wins up to a total of 128 and loses by up to 2 at 512.
WIDEST_DENSE_MIXTURE: Final = 256

Strategy = Literal["LoRA", "Adapter", "MoE"]
NonLinearity = Literal["relu", "gelu", "silu"]
Placement = Literal["par", "seq"]


def _sorted_layers(layers: tuple[int, ...] | None) -> tuple[int, ...] | None:
    if layers is None:
        return None
    if not layers or min(layers) < 0:
        raise ValueError("layers are indices from 0; leave them out for all layers")
    return tuple(sorted(set(layers)))


def _sorted_names(names: tuple[str, ...]) -> tuple[str, ...]:
    if not names or not all(names):
        raise ValueError("target_modules names at least one linear layer")
    return tuple(sorted(set(names)))


Layers = Annotated[tuple[int, ...] | None, AfterValidator(_sorted_layers)]
TargetModules = Annotated[tuple[str, ...], AfterValidator(_sorted_names)]
Positive = Annotated[int, Field(ge=1)]
Dropout = Annotated[float, Field(ge=0.0, lt=1.0)]


class LoRAArchitecture(Value):
    """Low-rank correction of linear layers: y = W x + (alpha / rank) B A x. Source: arXiv:2106.09685.

    Attributes:
        rank: Inner width of A and B.
        alpha: Numerator of the scale.
        dropout: Share of inputs of A dropped while training.
        target_modules: Last names of the linear layers inside a block (`query`, `q_proj`); `all-linear` means all.
        layers: Indices of the adapted blocks, or None for all.
    """

    strategy: Literal["LoRA"] = "LoRA"
    rank: Positive = 8
    alpha: Annotated[float, Field(gt=0.0)] = 16.0
    dropout: Dropout = 0.0
    target_modules: TargetModules = ("all-linear",)
    layers: Layers = None


class AdapterArchitecture(Value):
    """Bottleneck adapter at the feed-forward network: W_down f(W_up x). Source: arXiv:1902.00751, arXiv:2110.04366.

    Names follow AdapterHub. `par` adds the bottleneck of the FFN's input to the FFN's output; `seq` adds the
    bottleneck of the FFN's output to that output, before the residual.

    Attributes:
        bottleneck_size: Inner width.
        non_linearity: Activation between the two projections.
        placement: `par` or `seq`.
        is_gated: f(W_gate x) * (W_up x) instead of f(W_up x), without biases; folds into a gated FFN.
        dropout: Share of inner activations dropped while training.
        layers: Indices of the adapted blocks, or None for all.
    """

    strategy: Literal["Adapter"] = "Adapter"
    bottleneck_size: Positive = 64
    non_linearity: NonLinearity = "gelu"
    placement: Placement = "par"
    is_gated: bool = False
    dropout: Dropout = 0.0
    layers: Layers = None


class MoEArchitecture(Value):
    """Mixture of bottleneck experts beside a frozen feed-forward network.

    p = softmax(W_r x); y = FFN(x) + sum over the top_k largest p_e of p_e * expert_e(x), without renormalising, so
    that the mixture folds into a stock mixture model. Auxiliary loss: num_experts * sum_e f_e p_e (arXiv:2101.03961).

    Attributes:
        num_experts: Experts in each adapted block.
        top_k: Experts a token is sent to.
        load_balancing: Whether the auxiliary loss is added while training.
        load_balancing_coefficient: Its weight.
        bottleneck_size: Inner width of one expert.
        non_linearity: Activation inside an expert.
        is_gated: Gated experts without biases, as in `AdapterArchitecture`.
        layers: Indices of the adapted blocks, or None for all.
    """

    strategy: Literal["MoE"] = "MoE"
    num_experts: Annotated[int, Field(ge=2)] = 8
    top_k: Positive = 2
    load_balancing: bool = True
    load_balancing_coefficient: Annotated[float, Field(ge=0.0)] = 0.01
    bottleneck_size: Positive = 16
    non_linearity: NonLinearity = "gelu"
    is_gated: bool = False
    layers: Layers = None

    @model_validator(mode="after")
    def _top_k_within_experts(self) -> MoEArchitecture:
        if self.top_k > self.num_experts:
            raise ValueError(f"top_k {self.top_k} exceeds num_experts {self.num_experts}")
        return self


Architecture = Annotated[LoRAArchitecture | AdapterArchitecture | MoEArchitecture, Field(discriminator="strategy")]
_ARCHITECTURE: Final[TypeAdapter[LoRAArchitecture | AdapterArchitecture | MoEArchitecture]] = TypeAdapter(Architecture)


def strategy_names() -> tuple[str, ...]:
    """Every strategy there is, as the CLI spells it."""
    return get_args(Strategy)


def parse_architecture(config: dict[str, Any]) -> LoRAArchitecture | AdapterArchitecture | MoEArchitecture:
    """The architecture in a plain config, its defaults filled in.

    Raises:
        UnknownNameError: no such strategy.
        InvalidValueError: lists every wrong field.
    """
    strategy = config.get("strategy")
    if strategy not in strategy_names():
        raise UnknownNameError.of("strategy", str(strategy), strategy_names())
    try:
        return _ARCHITECTURE.validate_python(config)
    except ValidationError as error:
        raise InvalidValueError(f"{strategy} architecture is not valid", cause=explain(error)) from error


def semantic_hash(architecture: LoRAArchitecture | AdapterArchitecture | MoEArchitecture) -> str:
    """16 hex digits that name the architecture: equal whatever the key order and the defaults spelled out.

    What only matters while training (dropout, the auxiliary loss) is part of the name too: it changes which weights
    the architecture ends with.
    """
    content = {key: value for key, value in architecture.to_dict().items() if value is not None}
    return digest_json(content).removeprefix("sha256:")[:SEMANTIC_HASH_HEX_DIGITS]
