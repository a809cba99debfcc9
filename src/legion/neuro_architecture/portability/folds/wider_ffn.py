"""A bottleneck beside the feed-forward network: the same architecture with a wider network.

W_down f(W_up x) is a sum over units, so m units beside I units are one network of I + m units. Blocks without an
adapter get silent units (f(0) * 0), and so does what is missing to a multiple of `BLOCK`. A plain bottleneck beside a
gated network needs the biases that Llama's `mlp_bias` gives: its units are f(w x + b) * (0 x + 1). Of a combination the
LoRA in the blocks below is merged.
"""

from __future__ import annotations

import copy

import torch

from legion.foundation.errors import NotPortableError
from legion.neuro_architecture.anatomy import LayerAnatomy, LinearSite
from legion.neuro_architecture.portability.checkpoint import StockCheckpoint
from legion.neuro_architecture.portability.folds.units import (
    Units,
    ffn_names,
    padding_to_block,
    place,
    units_at,
    widen_columns,
    widen_rows,
)
from legion.neuro_architecture.portability.trained import TrainedForm

__all__ = ["append_units", "fold_wider_ffn"]


def fold_wider_ffn(trained: TrainedForm) -> StockCheckpoint:
    """The base with `intermediate_size` grown by the bottleneck and padded to a multiple of `BLOCK`.

    Raises:
        NotPortableError: the config has no word for the width, or no block carries an adapter.
    """
    tensors = trained.network_tensors()
    found = {layer.index: units_at(trained, layer.par.path) for layer in trained.layers}
    sizes = {units.up.shape[0] for units in found.values() if units is not None}
    key = trained.facts.ffn_width_key
    if key is None or not sizes:
        raise NotPortableError("there is nothing to widen", cause=f"{trained.architecture.strategy} on no block")
    width = trained.facts.anatomy.intermediate_size
    total = width + max(sizes)
    total += padding_to_block(total)
    has_biases = any(units.has_biases for units in found.values() if units is not None)
    for layer in trained.layers:
        append_units(tensors, layer, found[layer.index], total - width, has_biases=has_biases)
    config = copy.deepcopy(trained.config)
    setattr(config, key, total)
    if trained.facts.anatomy.is_ffn_gated and has_biases:
        config.mlp_bias = True
    return StockCheckpoint(config=config, architecture=type(trained.model.get_base_model()).__name__, tensors=tensors)


def append_units(
    tensors: dict[str, torch.Tensor], layer: LayerAnatomy, units: Units | None, extra: int, *, has_biases: bool
) -> None:
    """Puts `units` and silent ones, `extra` together, behind the units of one block.

    Args:
        tensors: The checkpoint's weights; those of the block are replaced.
        layer: The block.
        units: What to append, or None for silent ones only.
        extra: By how much the network grows.
        has_biases: Whether its linears have biases afterwards.
    """
    names = ffn_names(layer)
    if units is not None and names.gate is not None:
        units = units.gated()
    for site, weight, bias in (
        (names.gate, units and units.gate, units and units.gate_bias),
        (names.up, units and units.up, units and units.up_bias),
    ):
        if site is not None:
            _append_rows(tensors, site, weight, bias, extra, has_biases=has_biases)
    _append_columns(tensors, names.down, units, extra, has_biases=has_biases)


def _append_rows(
    tensors: dict[str, torch.Tensor],
    site: LinearSite,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    extra: int,
    *,
    has_biases: bool,
) -> None:
    own = place(tensors[f"{site.path}.weight"], site)
    fresh = own.new_zeros(0, own.shape[1]) if weight is None else weight.to(own)
    joined = torch.cat([own, widen_rows(fresh, extra - fresh.shape[0])])
    tensors[f"{site.path}.weight"] = place(joined, site)
    own_bias = tensors.get(f"{site.path}.bias")
    if own_bias is None and not has_biases:
        return
    own_bias = own.new_zeros(own.shape[0]) if own_bias is None else own_bias
    fresh_bias = own.new_zeros(0) if bias is None else bias.to(own)
    tensors[f"{site.path}.bias"] = torch.cat([own_bias, widen_rows(fresh_bias, extra - fresh_bias.shape[0])])


def _append_columns(
    tensors: dict[str, torch.Tensor], site: LinearSite, units: Units | None, extra: int, *, has_biases: bool
) -> None:
    own = place(tensors[f"{site.path}.weight"], site)
    fresh = own.new_zeros(own.shape[0], 0) if units is None else units.down.to(own)
    joined = torch.cat([own, widen_columns(fresh, extra - fresh.shape[1])], dim=1)
    tensors[f"{site.path}.weight"] = place(joined, site)
    own_bias = tensors.get(f"{site.path}.bias")
    if own_bias is None and not has_biases:
        return
    own_bias = own.new_zeros(own.shape[0]) if own_bias is None else own_bias
    tensors[f"{site.path}.bias"] = own_bias if units is None or units.down_bias is None else own_bias + units.down_bias
