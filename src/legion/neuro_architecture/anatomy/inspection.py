"""Reads a transformer's structure off its modules, whatever its weights are and wherever they live.

The blocks are the one outermost `ModuleList`; linear layers are found inside them; feed-forward networks are known by
the names of their modules (`mlp`, `ffn`, or BERT's `intermediate` and `output`). Layers that PEFT has wrapped are seen
as what they wrap, so a model has the same anatomy before and after an adapter is applied.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from torch import nn
from transformers import PreTrainedModel
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
)
from transformers.pytorch_utils import Conv1D

from legion.foundation.errors import ModelError
from legion.neuro_architecture.anatomy.values import FfnSite, LayerAnatomy, LinearSite, ModelAnatomy
from legion.neuro_architecture.spec.architecture import NonLinearity

__all__ = ["activation_name", "base_modules", "inspect_model"]

# PEFT keeps what it wraps under these names; nothing in transformers uses them.
_WRAPPED_NAMES: Final = ("base_layer", "original_module")
_ACTIVATION_KEYS: Final = ("hidden_activation", "hidden_act", "activation_function", "activation")
_NON_LINEARITIES: Final[dict[str, NonLinearity]] = {
    "gelu": "gelu",
    "gelu_new": "gelu",
    "gelu_fast": "gelu",
    "gelu_python": "gelu",
    "gelu_pytorch_tanh": "gelu",
    "gelu_accurate": "gelu",
    "quick_gelu": "gelu",
    "silu": "silu",
    "swish": "silu",
    "relu": "relu",
}


def inspect_model(model: Any) -> ModelAnatomy:
    """The anatomy of a transformers model, bare, with a head, on the meta device, or wrapped by PEFT.

    Args:
        model: A `PreTrainedModel` or a `PeftModel` around one.

    Raises:
        ModelError: the model is not a stack of blocks with linear layers and a feed-forward network; names the part
            that is not understood.
    """
    base = _unwrap(model)
    modules = dict(base_modules(base))
    layers = tuple(_layer(modules, path, index) for index, path in enumerate(_block_paths(base, modules)))
    config = base.config.get_text_config()
    ffn = _ffn_linears(layers[0])
    head = _head_modules(base, modules)
    return ModelAnatomy(
        model_type=base.config.model_type,
        hidden_size=config.hidden_size,
        intermediate_size=ffn[-1].in_features,
        num_attention_heads=config.num_attention_heads,
        vocab_size=config.vocab_size,
        non_linearity=_NON_LINEARITIES[activation_name(base)],
        is_ffn_gated=len(ffn) == 3 or ffn[0].out_features == 2 * ffn[-1].in_features,
        is_causal=type(base).__name__ in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values(),
        layers=layers,
        head_modules=head,
        num_parameters=_count_parameters(modules),
        head_parameters=sum(
            _count_parameters(dict(base_modules(modules[name])) | {"": modules[name]}) for name in head
        ),
        final_norm_parameters=_final_norm_parameters(base, modules),
    )


def activation_name(model: Any) -> str:
    """The activation of the feed-forward networks as transformers spells it (`gelu_new`), finer than our own names.

    Raises:
        ModelError: the config names none, or one that no adapter can take.
    """
    config = _unwrap(model).config.get_text_config()
    for key in _ACTIVATION_KEYS:
        name = getattr(config, key, None)
        if name in _NON_LINEARITIES:
            return str(name)
        if name is not None:
            known = ", ".join(sorted(_NON_LINEARITIES))
            raise ModelError(f"activation {name!r} of {config.model_type} is not understood", cause=f"known: {known}")
    raise ModelError(f"the config of {config.model_type} names no activation")


def base_modules(model: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Every module below `model` with its dotted path, a PEFT wrapper standing for the module that it wraps."""
    for name, child in model.named_children():
        path = f"{prefix}.{name}" if prefix else name
        inner = _look_through(child)
        yield path, inner
        yield from base_modules(inner, path)


def _unwrap(model: Any) -> PreTrainedModel:
    from peft import PeftModel

    base = model.get_base_model() if isinstance(model, PeftModel) else model
    if not isinstance(base, PreTrainedModel):
        raise ModelError(f"{type(base).__name__} is not a transformers model", hint="pass a PreTrainedModel")
    return base


def _look_through(module: nn.Module) -> nn.Module:
    children = dict(module.named_children())
    for name in _WRAPPED_NAMES:
        if name in children:
            return _look_through(children[name])
    return module


def _block_paths(base: PreTrainedModel, modules: dict[str, nn.Module]) -> list[str]:
    lists = [path for path, module in modules.items() if isinstance(module, nn.ModuleList) and len(module) > 0]
    outermost = [path for path in lists if not any(path.startswith(f"{other}.") for other in lists)]
    if len(outermost) != 1:
        found = ", ".join(outermost) or "none"
        raise ModelError(
            f"{type(base).__name__} has {len(outermost)} stacks of blocks, not one",
            cause=f"outermost module lists: {found}",
            hint="encoders like BERT and decoders like Llama or GPT-2 are understood",
        )
    stack = modules[outermost[0]]
    return [f"{outermost[0]}.{name}" for name, _ in stack.named_children()]


def _final_norm_parameters(base: PreTrainedModel, modules: dict[str, nn.Module]) -> int:
    """Weights of the norm beside the stack of blocks, behind it: what tells blocks that write to a bare residual
    stream from those that normalise what they hand on.
    """
    parent, _, stack = _block_paths(base, modules)[0].rpartition(".")[0].rpartition(".")
    beside = list((modules[parent] if parent else base).named_children())
    names = [name for name, _ in beside]
    behind = [module for _, module in beside[names.index(stack) + 1 :]]
    return next((_count_parameters({"": module}) for module in behind if "norm" in type(module).__name__.lower()), 0)


def _layer(modules: dict[str, nn.Module], path: str, index: int) -> LayerAnatomy:
    par, seq = _ffn_sites(modules, path)
    layer = LayerAnatomy(index=index, path=path, linears=_linears(modules, path), par=par, seq=seq)
    _ffn_linears(layer)
    return layer


def _ffn_sites(modules: dict[str, nn.Module], path: str) -> tuple[FfnSite, FfnSite]:
    """Where the parallel and the sequential correction of one block go."""
    children = [name for name, _ in modules[path].named_children()]
    for name in ("mlp", "ffn"):
        if name in children:
            site = FfnSite(path=f"{path}.{name}", style="output")
            return site, site
    if "intermediate" in children and f"{path}.output.dense" in modules:
        return (
            FfnSite(path=f"{path}.output", style="residual"),
            FfnSite(path=f"{path}.output.dense", style="output"),
        )
    raise ModelError(
        f"no feed-forward network found in block {path} ({type(modules[path]).__name__})",
        cause=f"its parts: {', '.join(children) or 'none'}",
    )


def _linears(modules: dict[str, nn.Module], path: str) -> tuple[LinearSite, ...]:
    found = {
        name.removeprefix(f"{path}."): module
        for name, module in modules.items()
        if name.startswith(f"{path}.") and isinstance(module, (nn.Linear, Conv1D))
    }
    uses = Counter(name.rpartition(".")[2] for name in found)
    return tuple(
        _linear_site(f"{path}.{name}", last if uses[last := name.rpartition(".")[2]] == 1 else name, module)
        for name, module in found.items()
    )


def _linear_site(path: str, name: str, module: nn.Linear | Conv1D) -> LinearSite:
    is_transposed = isinstance(module, Conv1D)
    rows, columns = module.weight.shape
    return LinearSite(
        path=path,
        name=name,
        in_features=rows if is_transposed else columns,
        out_features=columns if is_transposed else rows,
        is_transposed=is_transposed,
        has_bias=module.bias is not None,
    )


def _ffn_linears(layer: LayerAnatomy) -> tuple[LinearSite, ...]:
    """The block's two or three linears that make its feed-forward network, in order."""
    linears = layer.ffn_linears
    if len(linears) not in (2, 3):
        names = ", ".join(linear.name for linear in linears) or "none"
        raise ModelError(
            f"the feed-forward network {layer.par.path} has {len(linears)} linear layers, not two or three",
            cause=f"found: {names}; mixtures of experts as base models are not understood",
        )
    return linears


def _head_modules(base: PreTrainedModel, modules: dict[str, nn.Module]) -> tuple[str, ...]:
    if type(base).__name__ not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES.values():
        return ()
    names = [name for name, _ in base.named_children() if name != base.base_model_prefix]
    return tuple(name for name in names if any(True for _ in modules[name].parameters()))


def _count_parameters(modules: dict[str, nn.Module]) -> int:
    """Weights of the base, each shared one counted once; adapter weights are not among these modules."""
    parameters = (parameter for module in modules.values() for parameter in module.parameters(recurse=False))
    return sum({id(parameter): parameter.numel() for parameter in parameters}.values())
