"""What one forward pass does, counted from shapes: operations, bytes, elements, kernels.

A product of [m, k] and [k, n] is 2 m k n operations, as torch's own counter has it; norms, activations and look-ups
are no operations but count as elements. One example of `T` tokens passes through a block as

    sum over its linear layers of 2 T d_in d_out  +  4 T^2 d_attention   (scores, then values)

and a causal model ends with 2 T d V for its vocabulary of V. Left out, being below a thousandth of the whole: rotary
angles and BERT's pooler.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, final

from legion.neuro_architecture.anatomy.values import LayerAnatomy, ModelAnatomy
from legion.neuro_architecture.space.peft_methods import METHODS
from legion.neuro_architecture.space.sites import (
    adapted_layers,
    adapted_linears,
    query_width,
    rank_at,
)
from legion.neuro_architecture.spec.architecture import (
    WIDEST_DENSE_MIXTURE,
    AdapterArchitecture,
    AnyArchitecture,
    CombinedArchitecture,
    LoRAArchitecture,
    MoEArchitecture,
    PeftArchitecture,
    SplitArchitecture,
    VirtualTokensArchitecture,
)

__all__ = ["Work", "adapter_work", "base_work"]

BYTES_PER_WEIGHT: Final = 4

# Kernels that torch dispatches in inference mode, views included, counted on transformers 5.23 with eager attention:
# a BERT block, a GPT-2 block, a Llama block (its norms and rotary embedding are many small ones), and what surrounds
# them; then a LoRA of PEFT 0.21 and our own bottleneck and mixture.
_BLOCK_KERNELS: Final = {"encoder": 28, "decoder": 49, "gated": 72}
_OUTER_KERNELS: Final = {"encoder": 20, "decoder": 44, "gated": 55}
_LORA_KERNELS: Final = 5
_DORA_KERNELS: Final = 24
_BOTTLENECK_KERNELS: Final = 7
_NORM_KERNELS: Final = 6
_AVERAGING_KERNELS: Final = 4
_SPLIT_KERNELS: Final = 30
_PREFIX_KERNELS: Final = 10
_DENSE_MIXTURE_KERNELS: Final = 25
_SPARSE_MIXTURE_KERNELS: Final = 12
_SPARSE_EXPERT_KERNELS: Final = 15


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a forward pass does.

    Attributes:
        flops: Operations of matrix products.
        weight_bytes: Weights that are read, in fp32.
        elements: Numbers that activations and softmaxes pass over.
        kernels: Calls that torch dispatches.
    """

    flops: float = 0.0
    weight_bytes: float = 0.0
    elements: float = 0.0
    kernels: int = 0

    def __add__(self, other: Work) -> Work:
        return Work(
            flops=self.flops + other.flops,
            weight_bytes=self.weight_bytes + other.weight_bytes,
            elements=self.elements + other.elements,
            kernels=self.kernels + other.kernels,
        )


def _product(tokens: int, d_in: float, d_out: float) -> Work:
    """A linear layer over `tokens` rows."""
    return Work(flops=2.0 * tokens * d_in * d_out, weight_bytes=BYTES_PER_WEIGHT * d_in * d_out)


def base_work(anatomy: ModelAnatomy, sequence_length: int) -> Work:
    """The bare base with its head, over one example."""
    style = "gated" if anatomy.is_ffn_gated else "decoder" if anatomy.is_causal else "encoder"
    work = Work(kernels=_OUTER_KERNELS[style] + _BLOCK_KERNELS[style] * anatomy.num_layers)
    for layer in anatomy.layers:
        work += _block_work(layer, anatomy, sequence_length)
    if anatomy.is_causal:
        return work + _product(sequence_length, anatomy.hidden_size, anatomy.vocab_size)
    return work + _product(1, anatomy.head_parameters, 1)


def _block_work(layer: LayerAnatomy, anatomy: ModelAnatomy, tokens: int) -> Work:
    work = Work(
        flops=4.0 * tokens**2 * query_width(anatomy),
        elements=anatomy.num_attention_heads * tokens**2 + tokens * anatomy.intermediate_size,
    )
    for linear in layer.linears:
        work += _product(tokens, linear.in_features, linear.out_features)
    return work


def adapter_work(architecture: AnyArchitecture, anatomy: ModelAnatomy, sequence_length: int) -> Work:
    """What the unmerged adapter adds to the base, over one example."""
    match architecture:
        case LoRAArchitecture():
            return _lora_work(architecture, anatomy, sequence_length)
        case PeftArchitecture():
            return _method_work(architecture, anatomy, sequence_length)
        case VirtualTokensArchitecture():
            return _virtual_token_work(architecture, anatomy, sequence_length)
        case CombinedArchitecture():
            parts = architecture.parts(anatomy.num_layers)
            return sum((adapter_work(part, anatomy, sequence_length) for part in parts), Work())
        case AdapterArchitecture():
            in_one = _bottleneck_work(architecture, anatomy, sequence_length)
        case MoEArchitecture(routing="random"):
            in_one = _averaged_work(architecture, anatomy, sequence_length)
        case MoEArchitecture():
            in_one = _mixture_work(architecture, anatomy, sequence_length)
        case SplitArchitecture():
            in_one = _split_work(architecture, anatomy, sequence_length)
    return sum((in_one for _ in adapted_layers(architecture, anatomy)), Work())


def _lora_work(architecture: LoRAArchitecture, anatomy: ModelAnatomy, tokens: int) -> Work:
    work = Work()
    for linear in adapted_linears(architecture, anatomy):
        rank, widths = rank_at(architecture, linear), linear.in_features + linear.out_features
        work += _product(tokens, widths, rank)
        if architecture.use_dora:
            # PEFT forms B A by sending the unit vectors through it, to know the norms of the corrected rows.
            formed = Work(elements=4 * linear.in_features * linear.out_features, kernels=_DORA_KERNELS)
            work += _product(linear.in_features, widths, rank) + formed
        else:
            work += Work(kernels=_LORA_KERNELS + (architecture.dropout > 0.0))
    return work


def _method_work(architecture: PeftArchitecture, anatomy: ModelAnatomy, tokens: int) -> Work:
    method, size = METHODS[architecture.strategy], architecture.size or 0
    fixed_kernels, more_kernels = method.kernels
    writers = {layer.ffn_linears[-1].path for layer in anatomy.layers}
    work = Work()
    for linear in adapted_linears(architecture, anatomy):
        area = linear.in_features * linear.out_features if method.rebuilds_weight else 0
        work += Work(
            flops=method.flops(linear, size, tokens),
            weight_bytes=BYTES_PER_WEIGHT * (method.parameters(linear, size, linear.path in writers) + area),
            elements=tokens * linear.out_features + area,
            kernels=fixed_kernels + more_kernels * size,
        )
    return work


def _virtual_token_work(architecture: VirtualTokensArchitecture, anatomy: ModelAnatomy, tokens: int) -> Work:
    """A longer example, or more keys and values for each of its tokens to attend to."""
    more = architecture.num_virtual_tokens
    if architecture.strategy == "PromptTuning":
        longer, plain = base_work(anatomy, tokens + more), base_work(anatomy, tokens)
        return Work(
            flops=longer.flops - plain.flops, elements=longer.elements - plain.elements, kernels=_PREFIX_KERNELS
        )
    return Work(
        flops=4.0 * tokens * more * query_width(anatomy) * anatomy.num_layers,
        elements=float(anatomy.num_attention_heads * tokens * more * anatomy.num_layers),
        kernels=_PREFIX_KERNELS * anatomy.num_layers,
    )


def _bottleneck_work(architecture: AdapterArchitecture | MoEArchitecture, anatomy: ModelAnatomy, tokens: int) -> Work:
    size = architecture.bottleneck_size
    extra = Work(elements=tokens * size, kernels=_BOTTLENECK_KERNELS + 2 * architecture.is_gated)
    if isinstance(architecture, AdapterArchitecture) and architecture.placement == "seq_layer":
        extra += Work(elements=2 * tokens * anatomy.hidden_size, kernels=_NORM_KERNELS)
    return _product(tokens, _num_projections(architecture) * anatomy.hidden_size, size) + extra


def _averaged_work(architecture: MoEArchitecture, anatomy: ModelAnatomy, tokens: int) -> Work:
    """One bottleneck, and reading all experts to average them."""
    weights = _num_projections(architecture) * anatomy.hidden_size * architecture.bottleneck_size
    others = BYTES_PER_WEIGHT * weights * (architecture.num_experts - 1)
    averaging = Work(weight_bytes=others, elements=weights * architecture.num_experts, kernels=_AVERAGING_KERNELS)
    return _bottleneck_work(architecture, anatomy, tokens) + averaging


def _split_work(architecture: SplitArchitecture, anatomy: ModelAnatomy, tokens: int) -> Work:
    """Router and correction; the network itself is computed whole, its units weighted."""
    inner = anatomy.intermediate_size
    work = _product(tokens, anatomy.hidden_size, architecture.num_experts)
    work += _product(tokens, 3 * (anatomy.hidden_size + inner), architecture.rank)
    return work + Work(elements=tokens * (3 * inner + architecture.num_experts), kernels=_SPLIT_KERNELS)


def _mixture_work(architecture: MoEArchitecture, anatomy: ModelAnatomy, tokens: int) -> Work:
    """Router and experts. A narrow mixture is computed as one product over all its experts, because that is faster; a
    wide one sends each token to its top_k only.
    """
    num_experts, hidden_size = architecture.num_experts, anatomy.hidden_size
    is_dense = num_experts * architecture.bottleneck_size <= WIDEST_DENSE_MIXTURE
    experts_per_token = num_experts if is_dense else architecture.top_k
    inner = experts_per_token * architecture.bottleneck_size
    work = _product(tokens, hidden_size, num_experts)
    work += _product(tokens, _num_projections(architecture) * hidden_size, inner)
    if is_dense and not architecture.is_gated:
        work += _product(tokens, num_experts, hidden_size)  # the experts' biases, weighted by the router
    kernels = _DENSE_MIXTURE_KERNELS if is_dense else _SPARSE_MIXTURE_KERNELS + _SPARSE_EXPERT_KERNELS * num_experts
    return work + Work(elements=tokens * (inner + num_experts), kernels=kernels)


def _num_projections(architecture: AdapterArchitecture | MoEArchitecture) -> int:
    return 3 if architecture.is_gated else 2
