"""What an adapter is: families of architecture, named by what they compute (`spec.semantics`)."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter, ValidationError, model_validator

from legion.foundation.errors import InvalidValueError, UnknownNameError
from legion.neuro_architecture.spec._value import Value, explain
from legion.neuro_architecture.spec.layer_sets import Layers

__all__ = [
    "DEFAULT_STRATEGIES",
    "PEFT_SIZES",
    "WIDEST_DENSE_MIXTURE",
    "AdapterArchitecture",
    "AnyArchitecture",
    "Architecture",
    "CombinedArchitecture",
    "LoRAArchitecture",
    "MoEArchitecture",
    "NonLinearity",
    "PeftArchitecture",
    "PeftStrategy",
    "Placement",
    "Routing",
    "SplitArchitecture",
    "Strategy",
    "VirtualTokensArchitecture",
    "parse_architecture",
    "strategy_names",
]

# Total inner width of a mixture (num_experts * bottleneck_size) up to which a CPU computes all experts as one product.
# Measured on one thread at widths 384 and 576 and 400 to 4,000 tokens, eight experts, two of them used: one product
# wins up to a total of 128 and loses by up to 2 at 512.
WIDEST_DENSE_MIXTURE: Final = 256

PeftStrategy = Literal[
    "IA3",
    "LoHa",
    "LoKr",
    "OFT",
    "BOFT",
    "VeRA",
    "HRA",
    "FourierFT",
    "WaveFT",
    "C3A",
    "RandLoRA",
    "MiSS",
    "DeLoRA",
    "GraLoRA",
]
Strategy = Literal[
    "LoRA",
    "Adapter",
    "MoE",
    "SplitLayer",
    "SparseRouting",
    "IA3",
    "LoHa",
    "LoKr",
    "OFT",
    "BOFT",
    "VeRA",
    "HRA",
    "FourierFT",
    "WaveFT",
    "C3A",
    "RandLoRA",
    "MiSS",
    "DeLoRA",
    "GraLoRA",
    "PrefixTuning",
    "PromptTuning",
    "Combined",
]
NonLinearity = Literal["relu", "gelu", "silu"]
Placement = Literal["par", "seq", "seq_layer"]
Routing = Literal["learned", "random"]

# What is proposed where nobody names strategies.
DEFAULT_STRATEGIES: Final[tuple[Strategy, ...]] = ("LoRA", "Adapter", "MoE")

# The one size that each of PEFT's methods is asked for, under PEFT's own word for it; IA3 has none.
PEFT_SIZES: Final[dict[PeftStrategy, Literal["rank", "block_size", "num_frequencies"] | None]] = {
    "IA3": None,
    "LoHa": "rank",
    "LoKr": "rank",
    "OFT": "block_size",
    "BOFT": "block_size",
    "VeRA": "rank",
    "HRA": "rank",
    "FourierFT": "num_frequencies",
    "WaveFT": "num_frequencies",
    "C3A": "block_size",
    "RandLoRA": "rank",
    "MiSS": "rank",
    "DeLoRA": "rank",
    "GraLoRA": "rank",
}
_PEFT_DEFAULT_SIZES: Final = {"rank": 8, "block_size": 4, "num_frequencies": 128}


def _one_or_more(names: Any) -> Any:
    """One name may stand without a list, as in PEFT's `all-linear`."""
    return (names,) if isinstance(names, str) else names


def _sorted_names(names: tuple[str, ...]) -> tuple[str, ...]:
    if not names or not all(names):
        raise ValueError("target_modules names at least one linear layer")
    return tuple(sorted(set(names)))


TargetModules = Annotated[tuple[str, ...], BeforeValidator(_one_or_more), AfterValidator(_sorted_names)]
Positive = Annotated[int, Field(ge=1)]
PositiveFloat = Annotated[float, Field(gt=0.0)]
NumExperts = Annotated[int, Field(ge=2, le=16)]
Dropout = Annotated[float, Field(ge=0.0, lt=1.0)]


class LoRAArchitecture(Value):
    """Low-rank correction of linear layers: y = W x + (alpha / rank) B A x. Source: arXiv:2106.09685.

    Attributes:
        rank: Inner width of A and B.
        alpha: Numerator of the scale.
        dropout: Share of inputs of A dropped while training.
        target_modules: Last names of the linear layers inside a block (`query`, `q_proj`); `all-linear` means all.
        layers: Indices of the adapted blocks, or None for all; ranges (`0-3,5`) are read too.
        use_rslora: Scale by alpha / sqrt(rank) instead (arXiv:2312.03732).
        use_dora: Train the weights' magnitudes apart from their directions (arXiv:2402.09353).
        rank_pattern: Ranks of single layers by the end of their path (`0.self_attn.q_proj`, `q_proj`), as in PEFT.
        alpha_pattern: Alphas of single layers, likewise.
    """

    strategy: Literal["LoRA"] = "LoRA"
    rank: Positive = 8
    alpha: Annotated[float, Field(gt=0.0)] = 16.0
    dropout: Dropout = 0.0
    target_modules: TargetModules = ("all-linear",)
    layers: Layers = None
    use_rslora: bool = False
    use_dora: bool = False
    rank_pattern: dict[str, Positive] = Field(default_factory=dict)
    alpha_pattern: dict[str, PositiveFloat] = Field(default_factory=dict)


class AdapterArchitecture(Value):
    """Bottleneck adapter at the feed-forward network: W_down f(W_up x). Source: arXiv:1902.00751, arXiv:2110.04366.

    Names follow AdapterHub. `par` adds the bottleneck of the FFN's input to the FFN's output; `seq` adds the
    bottleneck of the FFN's output to that output, before the residual. `seq_layer` stands behind the whole block with a
    norm of its own, h + W_down f(W_up norm(h)): the sequential form that folds into one more stock block.

    Attributes:
        bottleneck_size: Inner width.
        non_linearity: Activation between the two projections.
        placement: `par`, `seq` or `seq_layer`.
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

    With `routing` random there is no router: each training step draws one expert, and what serves is one bottleneck
    whose weights are the experts' average (AdaMix, arXiv:2205.12410), at no more cost than an `Adapter`.

    Attributes:
        num_experts: Experts in each adapted block.
        top_k: Experts a token is sent to.
        load_balancing: Whether the auxiliary loss is added while training.
        load_balancing_coefficient: Its weight.
        bottleneck_size: Inner width of one expert.
        non_linearity: Activation inside an expert.
        is_gated: Gated experts without biases, as in `AdapterArchitecture`.
        layers: Indices of the adapted blocks, or None for all.
        routing: `learned` (softmax, top-k) or `random` (drawn while training, averaged to serve; top_k is 1).
    """

    strategy: Literal["MoE"] = "MoE"
    num_experts: NumExperts = 8
    top_k: Positive = 2
    load_balancing: bool = True
    load_balancing_coefficient: Annotated[float, Field(ge=0.0)] = 0.01
    bottleneck_size: Positive = 16
    non_linearity: NonLinearity = "gelu"
    is_gated: bool = False
    layers: Layers = None
    routing: Routing = "learned"

    @model_validator(mode="after")
    def _top_k_within_experts(self) -> MoEArchitecture:
        if self.top_k > self.num_experts:
            raise ValueError(f"top_k {self.top_k} exceeds num_experts {self.num_experts}")
        if self.routing == "random" and self.top_k != 1:
            raise ValueError(f"random routing draws one expert: top_k is 1, not {self.top_k}")
        return self


class SplitArchitecture(Value):
    """A dense feed-forward network cut into experts of its own units, with a router and a low-rank correction.

    p = softmax(W_r x); the hidden units of expert e are scaled by w_e = top_k p_e / sum of the top_k largest p, or 0
    where e is not among them. `SplitLayer` keeps all experts (top_k = num_experts); with the router at zero it is the
    dense network itself. `SparseRouting` keeps fewer and needs training. The correction is a LoRA of the network's own
    linears, shared by all experts. Folds into Mixtral (arXiv:2401.04088); the cut is MoEfication's (arXiv:2110.01786).

    Attributes:
        strategy: `SplitLayer` or `SparseRouting`.
        num_experts: Experts of equal size; divides the network's width.
        top_k: Experts a token is sent to: num_experts for `SplitLayer` (None means that), fewer for `SparseRouting`.
        rank: Rank of the correction.
        alpha: Its scale is alpha / rank.
        load_balancing: Whether the auxiliary loss is added while training; only where experts are left out.
        load_balancing_coefficient: Its weight.
        split: `contiguous` cuts units in order; `clusters` groups units whose input weights point the same way.
        layers: Indices of the cut blocks, or None for all.
    """

    strategy: Literal["SplitLayer", "SparseRouting"]
    num_experts: NumExperts = 4
    top_k: Positive | None = None
    rank: Positive = 8
    alpha: PositiveFloat = 16.0
    load_balancing: bool = True
    load_balancing_coefficient: Annotated[float, Field(ge=0.0)] = 0.01
    split: Literal["contiguous", "clusters"] = "clusters"
    layers: Layers = None

    @model_validator(mode="before")
    @classmethod
    def _fill_top_k(cls, data: Any) -> Any:
        """The one spelling of top_k: all experts of a `SplitLayer`, half of a `SparseRouting`'s if not said."""
        if not isinstance(data, dict) or data.get("top_k") is not None:
            return data
        num_experts = data.get("num_experts", cls.model_fields["num_experts"].default)
        if not isinstance(num_experts, int):
            return data
        return data | {"top_k": num_experts if data.get("strategy") == "SplitLayer" else max(1, num_experts // 2)}

    @model_validator(mode="after")
    def _top_k_fits(self) -> SplitArchitecture:
        if self.strategy == "SplitLayer" and self.top_k != self.num_experts:
            raise ValueError(f"SplitLayer keeps all {self.num_experts} experts, not {self.top_k}: see SparseRouting")
        if self.strategy == "SparseRouting" and not self.experts_per_token < self.num_experts:
            raise ValueError(f"SparseRouting keeps fewer than all {self.num_experts} experts, not {self.top_k}")
        return self

    @property
    def experts_per_token(self) -> int:
        """`top_k` with its default filled in."""
        return self.num_experts if self.top_k is None else self.top_k


class PeftArchitecture(Value):
    """One of PEFT's other methods that end in a changed weight of a linear layer, and so merge into the base.

    Which size a method takes, and under which word, is `PEFT_SIZES`; the others stay None.

    Attributes:
        strategy: The method.
        rank: Inner width (LoHa, LoKr, VeRA, RandLoRA, MiSS, DeLoRA, GraLoRA) or number of reflections (HRA).
        block_size: Width of a block (OFT, BOFT, C3A).
        num_frequencies: Coefficients of each layer's spectrum (FourierFT, WaveFT).
        target_modules: As in `LoRAArchitecture`.
        layers: Indices of the adapted blocks, or None for all.
    """

    strategy: PeftStrategy
    rank: Positive | None = None
    block_size: Positive | None = None
    num_frequencies: Positive | None = None
    target_modules: TargetModules = ("all-linear",)
    layers: Layers = None

    @model_validator(mode="before")
    @classmethod
    def _fill_size(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        size = next((word for name, word in PEFT_SIZES.items() if name == data.get("strategy")), None)
        if size is None or data.get(size) is not None:
            return data
        return data | {size: _PEFT_DEFAULT_SIZES[size]}

    @model_validator(mode="after")
    def _only_its_own_size(self) -> PeftArchitecture:
        own = PEFT_SIZES[self.strategy]
        others = [name for name in _PEFT_DEFAULT_SIZES if name != own and getattr(self, name) is not None]
        if others:
            raise ValueError(f"{self.strategy} takes {own or 'no size'}, not {', '.join(others)}")
        return self

    @property
    def size(self) -> int | None:
        """The method's one size, whatever its name; None for IA3."""
        own = PEFT_SIZES[self.strategy]
        return None if own is None else getattr(self, own)


class VirtualTokensArchitecture(Value):
    """Trained virtual tokens in front of the input. Source: arXiv:2104.08691 (prompt), arXiv:2101.00190 (prefix).

    `PromptTuning` trains embeddings that stand before the text's; `PrefixTuning` trains the keys and values that every
    block attends to. Neither changes a weight, so neither merges.

    Attributes:
        strategy: `PrefixTuning` or `PromptTuning`.
        num_virtual_tokens: How many.
    """

    strategy: Literal["PrefixTuning", "PromptTuning"]
    num_virtual_tokens: Positive = 16


class CombinedArchitecture(Value):
    """LoRA in the lower blocks, a bottleneck at the feed-forward network in the upper ones.

    Kinds of adapters are mixed within a block in arXiv:2110.04366, and block by block by search in arXiv:2301.12132;
    one border by depth, so that both parts fold, is ours. `parts` gives the two as architectures of their own kinds:
    what their fields mean, cost and may be is said there.

    Attributes:
        first_layer: Index of the lowest adapted block.
        boundary: Index of the lowest block with a bottleneck; the LoRA ends below it.
        rank: As in `LoRAArchitecture`, for the lower blocks.
        alpha: Likewise.
        target_modules: Likewise.
        bottleneck_size: As in `AdapterArchitecture`, for the upper blocks.
        non_linearity: Likewise.
        placement: Likewise.
        is_gated: Likewise.
        dropout: Of both: share of A's inputs below, of the bottleneck's inner activations above.
    """

    strategy: Literal["Combined"] = "Combined"
    first_layer: Annotated[int, Field(ge=0)] = 0
    boundary: Positive = 1
    rank: Positive = 8
    alpha: PositiveFloat = 16.0
    target_modules: TargetModules = ("all-linear",)
    bottleneck_size: Positive = 64
    non_linearity: NonLinearity = "gelu"
    placement: Placement = "par"
    is_gated: bool = False
    dropout: Dropout = 0.0

    @model_validator(mode="after")
    def _has_blocks_below(self) -> CombinedArchitecture:
        if self.first_layer >= self.boundary:
            raise ValueError(f"first_layer {self.first_layer} leaves no block below the boundary {self.boundary}")
        return self

    def parts(self, num_layers: int) -> tuple[LoRAArchitecture, AdapterArchitecture]:
        """What stands below the boundary, and what stands from it to the last block.

        Args:
            num_layers: Blocks of the model.

        Raises:
            InvalidValueError: no block is left above the boundary.
        """
        if self.boundary >= num_layers:
            raise InvalidValueError(
                f"boundary {self.boundary} leaves no block for the bottleneck",
                cause=f"the model has blocks 0 to {num_layers - 1}",
            )
        below = LoRAArchitecture(
            rank=self.rank,
            alpha=self.alpha,
            dropout=self.dropout,
            target_modules=self.target_modules,
            layers=tuple(range(self.first_layer, self.boundary)),
        )
        above = AdapterArchitecture(
            bottleneck_size=self.bottleneck_size,
            non_linearity=self.non_linearity,
            placement=self.placement,
            is_gated=self.is_gated,
            dropout=self.dropout,
            layers=tuple(range(self.boundary, num_layers)),
        )
        return below, above


AnyArchitecture = (
    LoRAArchitecture
    | AdapterArchitecture
    | MoEArchitecture
    | SplitArchitecture
    | PeftArchitecture
    | VirtualTokensArchitecture
    | CombinedArchitecture
)
Architecture = Annotated[AnyArchitecture, Field(discriminator="strategy")]
_ARCHITECTURE: Final[TypeAdapter[AnyArchitecture]] = TypeAdapter(Architecture)


def strategy_names() -> tuple[str, ...]:
    """Every strategy there is, as the CLI spells it."""
    return get_args(Strategy)


def parse_architecture(config: dict[str, Any]) -> AnyArchitecture:
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
