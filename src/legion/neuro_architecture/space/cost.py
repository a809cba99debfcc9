"""The analytic cost model: exact weights, operations from shapes, latency from this machine's calibration."""

from __future__ import annotations

from legion.foundation.errors import InvalidValueError
from legion.neuro_architecture.anatomy.values import ModelAnatomy
from legion.neuro_architecture.space.calibration import Calibration
from legion.neuro_architecture.space.peft_methods import METHODS
from legion.neuro_architecture.space.sites import adapted_layers, adapted_linears, key_width, rank_at
from legion.neuro_architecture.space.validity import find_mistakes
from legion.neuro_architecture.space.work import BYTES_PER_WEIGHT, Work, adapter_work, base_work
from legion.neuro_architecture.spec.architecture import (
    AdapterArchitecture,
    AnyArchitecture,
    CombinedArchitecture,
    LoRAArchitecture,
    MoEArchitecture,
    PeftArchitecture,
    SplitArchitecture,
    VirtualTokensArchitecture,
)
from legion.neuro_architecture.spec.proposal import CostEstimate

__all__ = ["count_adapter_parameters", "estimate_cost"]


def estimate_cost(
    architecture: AnyArchitecture, anatomy: ModelAnatomy, *, calibration: Calibration, sequence_length: int
) -> CostEstimate:
    """What the architecture costs on this model, without building it.

    Latency is linear in what a pass does: operations and bytes and elements, each over the rate that was measured
    here, plus kernels times the measured overhead of one. It is the trained form's, not a merged one's.

    Args:
        architecture: A valid adapter for the model.
        anatomy: The model, with the head of its task.
        calibration: This machine.
        sequence_length: Tokens of the example.

    Raises:
        InvalidValueError: the architecture does not fit the model, or the length is below 1.
    """
    mistakes = find_mistakes(architecture, anatomy)
    if sequence_length < 1:
        mistakes.append(f"sequence_length {sequence_length} is below 1")
    if mistakes:
        raise InvalidValueError(f"no cost for this {architecture.strategy}", cause="\n".join(mistakes))
    base = base_work(anatomy, sequence_length)
    adapted = base + adapter_work(architecture, anatomy, sequence_length)
    trainable = count_adapter_parameters(architecture, anatomy) + anatomy.head_parameters
    return CostEstimate(
        trainable_parameters=trainable,
        adapter_size_bytes=BYTES_PER_WEIGHT * trainable,
        expected_flops=adapted.flops,
        expected_base_flops=base.flops,
        expected_latency_ms=_latency_ms(adapted, calibration),
        sequence_length=sequence_length,
        expected_base_latency_ms=_latency_ms(base, calibration),
    )


def _latency_ms(work: Work, calibration: Calibration) -> float:
    seconds = (
        work.flops / calibration.matmul_flops_per_s
        + work.weight_bytes / calibration.memory_bytes_per_s
        + work.elements / calibration.elements_per_s
        + work.kernels * calibration.kernel_overhead_s
    )
    return 1e3 * seconds


def count_adapter_parameters(architecture: AnyArchitecture, anatomy: ModelAnatomy) -> int:
    """Trainable weights of the adapter, the task's head not counted."""
    match architecture:
        case LoRAArchitecture():
            return _lora_parameters(architecture, anatomy)
        case PeftArchitecture():
            return _method_parameters(architecture, anatomy)
        case VirtualTokensArchitecture():
            return architecture.num_virtual_tokens * _virtual_token_parameters(architecture, anatomy)
        case CombinedArchitecture():
            return sum(count_adapter_parameters(part, anatomy) for part in architecture.parts(anatomy.num_layers))
        case AdapterArchitecture():
            in_one = _bottleneck_parameters(architecture, anatomy.hidden_size)
            in_one += anatomy.final_norm_parameters if architecture.placement == "seq_layer" else 0
        case MoEArchitecture():
            in_one = architecture.num_experts * _bottleneck_parameters(architecture, anatomy.hidden_size)
            in_one += architecture.num_experts * anatomy.hidden_size if architecture.routing == "learned" else 0
        case SplitArchitecture():
            low_rank = 3 * architecture.rank * (anatomy.hidden_size + anatomy.intermediate_size)
            in_one = low_rank + architecture.num_experts * anatomy.hidden_size
    return len(adapted_layers(architecture, anatomy)) * in_one


def _lora_parameters(architecture: LoRAArchitecture, anatomy: ModelAnatomy) -> int:
    """Two factors, and with DoRA a magnitude for each output."""
    return sum(
        rank_at(architecture, linear) * (linear.in_features + linear.out_features)
        + architecture.use_dora * linear.out_features
        for linear in adapted_linears(architecture, anatomy)
    )


def _method_parameters(architecture: PeftArchitecture, anatomy: ModelAnatomy) -> int:
    method, size = METHODS[architecture.strategy], architecture.size or 0
    writers = {layer.ffn_linears[-1].path for layer in anatomy.layers}
    return sum(
        method.parameters(linear, size, linear.path in writers) for linear in adapted_linears(architecture, anatomy)
    )


def _virtual_token_parameters(architecture: VirtualTokensArchitecture, anatomy: ModelAnatomy) -> int:
    """One token's: an embedding, or a key and a value for each block."""
    if architecture.strategy == "PromptTuning":
        return anatomy.hidden_size
    return 2 * anatomy.num_layers * key_width(anatomy)


def _bottleneck_parameters(architecture: AdapterArchitecture | MoEArchitecture, hidden_size: int) -> int:
    """One bottleneck: gated with three projections and no bias, else two projections with biases."""
    size = architecture.bottleneck_size
    return 3 * hidden_size * size if architecture.is_gated else 2 * hidden_size * size + size + hidden_size
