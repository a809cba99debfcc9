"""A bottleneck behind a whole block: one more stock block whose attention writes nothing.

h + W_down f(W_up norm(h)) is what a pre-norm block computes when its attention's output projection is zero: the norm is
the block's second norm, the bottleneck its feed-forward network, padded with silent units to the base's width.
"""

from __future__ import annotations

import copy
from typing import Any, Final

import torch

from legion.foundation.errors import NotPortableError
from legion.neuro_architecture.adapters.bottleneck import Bottleneck
from legion.neuro_architecture.anatomy import LayerAnatomy
from legion.neuro_architecture.portability.checkpoint import StockCheckpoint
from legion.neuro_architecture.portability.folds.units import Units, ffn_names, padding_to_block, place, units_at
from legion.neuro_architecture.portability.folds.wider_ffn import append_units
from legion.neuro_architecture.portability.trained import TrainedForm

__all__ = ["fold_extra_layers"]

# Where pre-norm families keep the norm in front of the feed-forward network, and how their configs count blocks.
_FFN_NORMS: Final = ("post_attention_layernorm", "ln_2")
_DEPTH_KEYS: Final = ("num_hidden_layers", "n_layer")


def fold_extra_layers(trained: TrainedForm) -> StockCheckpoint:
    """The base with one more block behind each adapted one.

    Raises:
        NotPortableError: no block carries an adapter.
    """
    base = trained.network_tensors()
    found = {layer.index: units_at(trained, layer.path) for layer in trained.layers}
    present = [units for units in found.values() if units is not None]
    if not present:
        raise NotPortableError("there is nothing to append", cause=f"{trained.architecture.strategy} on no block")
    width = trained.facts.anatomy.intermediate_size
    total = max(width, *(units.up.shape[0] for units in present))
    total += padding_to_block(total)
    has_biases = any(units.has_biases for units in present)
    stack = trained.layers[0].path.rpartition(".")[0]
    tensors = {name: weight for name, weight in base.items() if not name.startswith(f"{stack}.")}
    order: list[int] = []
    for layer in trained.layers:
        append_units(base, layer, None, total - width, has_biases=has_biases)
        blocks = [{name: base[name] for name in base if name.startswith(f"{layer.path}.")}]
        units = found[layer.index]
        if units is not None:
            blocks.append(_silent_block(blocks[0], layer, units, trained, total, has_biases=has_biases))
        for block in blocks:
            for name, weight in block.items():
                tensors[f"{stack}.{len(order)}.{name.removeprefix(layer.path + '.')}"] = weight
            order.append(layer.index)
    config = _deeper(trained, order)
    setattr(config, str(trained.facts.ffn_width_key), total)
    if trained.facts.anatomy.is_ffn_gated and has_biases:
        config.mlp_bias = True
    return StockCheckpoint(config=config, architecture=type(trained.model.get_base_model()).__name__, tensors=tensors)


def _silent_block(
    block: dict[str, torch.Tensor],
    layer: LayerAnatomy,
    units: Units,
    trained: TrainedForm,
    total: int,
    *,
    has_biases: bool,
) -> dict[str, torch.Tensor]:
    """A block like `block` whose attention adds nothing and whose feed-forward network is the bottleneck alone."""
    adapter = trained.correction(layer.path, "bottleneck_adapter")
    if not isinstance(adapter, Bottleneck) or adapter.norm is None:
        raise NotPortableError(f"the adapter at {layer.path} has no norm of its own")
    silent = {
        name: torch.ones_like(weight) if weight.dim() == 1 and name.endswith(".weight") else torch.zeros_like(weight)
        for name, weight in block.items()
    }
    norm = next(f"{layer.path}.{name}" for name in _FFN_NORMS if f"{layer.path}.{name}.weight" in block)
    silent[f"{norm}.weight"] = adapter.norm.detach()
    if adapter.norm_bias is not None:
        silent[f"{norm}.bias"] = adapter.norm_bias.detach()
    names = ffn_names(layer)
    for site in (names.gate, names.up):
        if site is not None:
            rows = place(block[f"{site.path}.weight"], site)
            silent[f"{site.path}.weight"] = place(rows[:0], site)
            if f"{site.path}.bias" in block:
                silent[f"{site.path}.bias"] = block[f"{site.path}.bias"][:0]
    columns = place(block[f"{names.down.path}.weight"], names.down)
    silent[f"{names.down.path}.weight"] = place(columns[:, :0], names.down)
    append_units(silent, layer, units, total, has_biases=has_biases)
    return silent


def _deeper(trained: TrainedForm, order: list[int]) -> Any:
    """The config for as many blocks as `order` lists; what it says of each block is repeated with it."""
    config = copy.deepcopy(trained.config)
    key = next(name for name in _DEPTH_KEYS if name in trained.facts.config)
    setattr(config, key, len(order))
    layer_types = trained.facts.config.get("layer_types")
    if layer_types:
        config.layer_types = [layer_types[index] for index in order]
    return config
