"""One trial's adapter on a model of its own that shares every frozen weight with the base."""

from __future__ import annotations

import copy
from collections import OrderedDict
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal, final

import torch
from peft.tuners.lora.layer import Linear as LoraLinear
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import ModulesToSaveWrapper
from torch import Tensor, nn

from legion.foundation.rng import RandomStream
from legion.neuro_architecture.adapters import auxiliary_loss, build_adapter, load_adapter, trainable_parameters
from legion.neuro_architecture.adapters.attachment import attachment_of
from legion.neuro_architecture.adapters.bottleneck import BottleneckLayer
from legion.neuro_architecture.adapters.experts import ExpertMixture
from legion.neuro_architecture.adapters.mixture import MixtureLayer
from legion.neuro_architecture.adapters.random_experts import RandomMixture
from legion.neuro_architecture.adapters.routing import RoutingTrace
from legion.neuro_architecture.adapters.split import SplitLayer
from legion.neuro_architecture.anatomy import LayerAnatomy, ModelAnatomy
from legion.neuro_architecture.data.loading import draw_head
from legion.neuro_architecture.packed.cut import Cut, Stage
from legion.neuro_architecture.packed.mixtures import Balance
from legion.neuro_architecture.packed.optimizer import MemberOptimizer
from legion.neuro_architecture.packed.precision import wider
from legion.neuro_architecture.packed.stacking import Piece, loose_piece
from legion.neuro_architecture.spec.architecture import AnyArchitecture
from legion.neuro_architecture.spec.proposal import BaseReference, TrainingRecipe

__all__ = ["ADAPTER", "Form", "Member", "fresh_model", "is_dense", "is_plain_lora", "stored_model"]

ADAPTER: Final = "default"
_UNCHANGING: Final = (str, int, float, type(None), type)
# How a member's adapter joins the shared pass: as rows of batched products, as its own layers on its own rows, or not
# at all (its model runs as a whole, beside the others).
Form = Literal["stacked", "looped", "whole"]


@final
class Member:
    """A trial in a pool. Everything random of it comes from its own seeds, so its neighbours change nothing.

    Its model holds PEFT's names and modules: what saves, loads or serves adapters takes it as any other. While the
    member is in a group, its weights are views of the group's stacks.

    Args:
        name: Unique in the pool.
        model: The adapted model, around the pool's own frozen weights (`fresh_model`, `stored_model`).
        recipe: How it is trained.
        anatomy: Of the base.
        stream: Where its draws while training come from.
        is_known: Whether the base's blocks are known one by one (`find_trunk`).
    """

    def __init__(
        self,
        name: str,
        model: Any,
        recipe: TrainingRecipe,
        anatomy: ModelAnatomy,
        stream: RandomStream,
        *,
        is_known: bool,
    ) -> None:
        self.name = name
        self.architecture: AnyArchitecture = attachment_of(model).architecture
        self.recipe = recipe
        self._dropout = stream.child("dropout")
        self.model: Any = model
        _widen(model)
        self.parameters: dict[str, nn.Parameter] = trainable_parameters(self.model)
        self.optimizer = MemberOptimizer(recipe)
        self.layers = _tuner_layers(self.model)
        blocks = {_block_of(path, anatomy) for path in self.layers}
        self.form: Form = _form(self.layers, anatomy) if is_known and self.layers else "whole"
        self.reads_all = self.is_balanced and max(blocks, default=0) == anatomy.num_layers - 1
        self.cut = self._cut(anatomy) if self.form != "whole" else Cut(0)
        self.place(tuple(loose_piece(parameter) for parameter in self.parameters.values()))

    def _cut(self, anatomy: ModelAnatomy) -> Cut:
        """Where its pass begins: before the first thing that it changes."""
        block = min(_block_of(path, anatomy) for path in self.layers)
        layer = anatomy.layers[block]
        stages = [
            _stage_of(path, item, layer)
            for path, item in self.layers.items()
            if f"{path}.".startswith(f"{layer.path}.")
        ]
        stage = min(stages)
        is_last = block == anatomy.num_layers - 1
        is_read_only = is_last and stage is not Stage.ENTERED and not self.reads_all and not anatomy.is_causal
        return Cut(block, stage, is_read_only)

    @property
    def family(self) -> str:
        """What stacks together first."""
        return self.architecture.strategy

    @property
    def num_parameters(self) -> int:
        """Trainable weights, head included."""
        return sum(parameter.numel() for parameter in self.parameters.values())

    @property
    def head(self) -> nn.Module | None:
        """The task head that is trained, or None for a causal model."""
        wrappers = [module for module in self.model.modules() if isinstance(module, ModulesToSaveWrapper)]
        return wrappers[0].modules_to_save[ADAPTER] if wrappers else None

    @property
    def has_own_networks(self) -> bool:
        """Whether feed-forward networks of the base give way to its own."""
        return any(isinstance(layer, SplitLayer) for layer in self.layers.values())

    @cached_property
    def draws(self) -> bool:
        """Whether anything is drawn in its training passes: dropout, or experts at random."""
        modules = [module for layer in self.layers.values() for module in layer.modules()]
        return any(isinstance(module, RandomMixture) or _is_dropout(module) for module in modules)

    def dropout_seed(self, step: int) -> int:
        """Of everything that is drawn in the pass of step `step`."""
        return self._dropout.child(str(step)).seed

    def place(self, pieces: tuple[Piece, ...]) -> None:
        """Takes note of where a group has put the weights."""
        known = {id(piece.parameter): piece for piece in pieces}
        self.optimizer.place({name: known[id(parameter)] for name, parameter in self.parameters.items()})

    def weights(self) -> dict[str, Tensor]:
        """A copy of the trainable tensors on the CPU."""
        return {
            name: item.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
            for name, item in self.parameters.items()
        }

    @torch.no_grad()
    def set_weights(self, weights: dict[str, Tensor]) -> None:
        """Puts trainable tensors back, wherever they lie."""
        for name, parameter in self.parameters.items():
            parameter.data.copy_(weights[name])

    def begin(self, mask_BT: Tensor, *, is_training: bool, generator: torch.Generator | None) -> None:
        """Before a pass: modes, routing traces, and where an untrained draw comes from."""
        for layer in self.layers.values():
            layer.train(is_training)
            if isinstance(layer, MixtureLayer):
                mixture = layer.mixture_adapter[ADAPTER]
                if isinstance(mixture, RandomMixture):
                    mixture.generator = generator
        trace = self._trace
        if trace is not None:
            trace.logits = {}
            trace.attention_mask = mask_BT

    @property
    def balance(self) -> Balance | None:
        """What its mixtures are weighed by where they are stacked."""
        if not self.is_balanced or self.form != "stacked":
            return None
        config = next(layer.config for layer in self.layers.values() if isinstance(layer, MixtureLayer))
        return Balance(num_experts=config.num_experts, coefficient=config.load_balancing_coefficient)

    def auxiliary_loss(self) -> Tensor | None:
        """After a pass of its own layers: the weighted load-balance loss, or None where there is none."""
        trace = self._trace
        if trace is None or self.form == "stacked":
            return None
        for path, layer in self.layers.items():
            mixture = layer.mixture_adapter[ADAPTER] if isinstance(layer, MixtureLayer) else None
            if isinstance(mixture, ExpertMixture):
                trace.note(path, mixture.take_logits())
        loss = auxiliary_loss(self.model) if self.is_balanced else None
        trace.logits = {}
        return loss

    @property
    def _trace(self) -> RoutingTrace | None:
        return next(
            (layer.trace for layer in self.layers.values() if isinstance(layer, MixtureLayer | SplitLayer)), None
        )

    @property
    def is_balanced(self) -> bool:
        """Whether a load-balance loss is added to its own."""
        architecture = self.architecture
        if architecture.strategy == "MoE":
            return architecture.load_balancing and architecture.routing == "learned"
        return architecture.strategy == "SparseRouting" and architecture.load_balancing


def fresh_model(base: Any, architecture: AnyArchitecture, anatomy: ModelAnatomy, stream: RandomStream) -> Any:
    """A fresh adapter on a copy of `base` that shares its frozen weights.

    Args:
        base: The frozen base of the whole pool; not changed.
        architecture: The adapter.
        anatomy: Of the base.
        stream: Where head and adapter are drawn from.

    Raises:
        AdapterError: the architecture does not fit the base.
    """
    own = _sharing_copy(base, anatomy.head_modules)
    if anatomy.head_modules:
        for name in anatomy.head_modules:
            # the same draw whatever the base is held in and wherever it is
            own.get_submodule(name).to(device="cpu", dtype=wider(base.dtype))
        draw_head(own, stream.child("head").seed)
    device = next(base.parameters()).device
    return build_adapter(architecture).apply(own, seed=stream.child("adapter").seed).to(device)


def stored_model(base: Any, folder: Path, reference: BaseReference, anatomy: ModelAnatomy) -> Any:
    """The adapter in a folder on a copy of `base` that shares its frozen weights, ready to train or to measure.

    Raises:
        AdapterError: the files are damaged, do not fit, or belong to another base.
    """
    device = next(base.parameters()).device
    adapted = load_adapter(_sharing_copy(base, anatomy.head_modules), folder, base=reference)
    return adapted.to(device)


def _sharing_copy(base: Any, head_modules: tuple[str, ...]) -> Any:
    """The same modules around the same weights, but for a head of its own."""
    own = {id(weight) for name in head_modules for weight in base.get_submodule(name).parameters()}
    shared = [weight for weight in (*base.parameters(), *base.buffers()) if id(weight) not in own]
    return _twin(base, {id(weight): weight for weight in shared})


def _twin(value: Any, memo: dict[int, Any]) -> Any:
    """`copy.deepcopy(value, memo)`, faster for modules, whose dozen tables of hooks are mostly empty."""
    if id(value) in memo:
        return memo[id(value)]
    if isinstance(value, _UNCHANGING):
        return value
    if type(value) in (dict, OrderedDict):
        memo[id(value)] = own = type(value)()
        own.update((key, _twin(item, memo)) for key, item in value.items())
        return own
    if isinstance(value, nn.Module) and not hasattr(value, "__deepcopy__"):
        memo[id(value)] = own = object.__new__(type(value))
        own.__dict__.update((key, _twin(item, memo)) for key, item in value.__dict__.items())
        return own
    return copy.deepcopy(value, memo)


def _tuner_layers(model: Any) -> dict[str, Any]:
    """The adapted layers by their path in the base; inner parts of a layer are not listed apart."""
    found = {
        name: module for name, module in model.get_base_model().named_modules() if isinstance(module, BaseTunerLayer)
    }
    return {name.replace(".base_layer", ""): module for name, module in found.items()}


def _widen(model: Any) -> None:
    """Trained weights in no less than fp32 where the base is in bf16; beside a base in fp64, all in fp64."""
    wide = wider(next(model.parameters()).dtype)
    trained = trainable_parameters(model).values()
    others = [tensor for tensor in (*model.parameters(), *model.buffers()) if tensor.dtype == torch.float32]
    for tensor in (*trained, *others):
        tensor.data = tensor.data.to(wide)


def _block_of(path: str, anatomy: ModelAnatomy) -> int:
    return next(layer.index for layer in anatomy.layers if f"{path}.".startswith(f"{layer.path}."))


def _stage_of(path: str, layer: Any, block: LayerAnatomy) -> Stage:
    """How far the block can run bare where `layer` is at `path`."""
    if isinstance(layer, BottleneckLayer | MixtureLayer):
        return Stage.FED
    inside = [linear.path for linear in block.ffn_linears]
    return Stage.ATTENDED if isinstance(layer, SplitLayer) or path in inside else Stage.ENTERED


def is_plain_lora(layer: Any) -> bool:
    """Whether a layer is y + scale B A x and nothing else."""
    return type(layer) is LoraLinear and not layer.use_dora.get(ADAPTER, False) and not layer.lora_bias[ADAPTER]


def is_dense(layer: Any) -> bool:
    """Whether a layer is a learned mixture whose experts are all computed for every token."""
    mixture = layer.mixture_adapter[ADAPTER] if isinstance(layer, MixtureLayer) else None
    return isinstance(mixture, ExpertMixture) and mixture.is_dense


def _form(layers: dict[str, Any], anatomy: ModelAnatomy) -> Form:
    linears = {linear.path for block in anatomy.layers for linear in block.linears}
    if all(isinstance(layer, BottleneckLayer) or is_plain_lora(layer) or is_dense(layer) for layer in layers.values()):
        return "stacked"
    for path, layer in layers.items():
        if isinstance(layer, MixtureLayer | SplitLayer):
            continue
        if path not in linears or _has_dropout(layer):
            return "whole"
    return "looped"


def _has_dropout(layer: nn.Module) -> bool:
    return any(_is_dropout(module) for module in layer.modules())


def _is_dropout(module: nn.Module) -> bool:
    return isinstance(module, nn.Dropout) and module.p > 0.0
