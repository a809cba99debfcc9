"""From the members of a group to its sites: what stacks is stacked, the rest keeps its own modules."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

from torch import nn

from legion.neuro_architecture.adapters.bottleneck import BottleneckLayer
from legion.neuro_architecture.adapters.mixture import MixtureLayer
from legion.neuro_architecture.adapters.split import SplitLayer
from legion.neuro_architecture.packed.corrections import Bottlenecks, Draw, LowRanks, SingleCorrection
from legion.neuro_architecture.packed.member import ADAPTER, Member, is_dense, is_plain_lora
from legion.neuro_architecture.packed.mixtures import Mixtures
from legion.neuro_architecture.packed.sites import Correction, Sites
from legion.neuro_architecture.packed.stacking import Gradients, Piece, Stack, own_piece

__all__ = ["Assembly", "assemble"]

# What two bottlenecks must share to stand in one stack: place, where they correct, activation, and their tensors.
_Form = tuple[str, str, str, tuple[str, ...]]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Assembly:
    """A group's sites, and where its weights lie.

    Attributes:
        sites: What the members change.
        head: The members' linear heads as stacks `weight` [S, C, D] and `bias` [S, C]; None where heads are of another
            kind, or there are none.
        leaves: Every stack.
        pieces: Every member's weights.
        mixtures: The stacked mixtures.
    """

    sites: Sites
    head: dict[str, Stack] | None
    leaves: tuple[Stack, ...]
    pieces: tuple[tuple[Piece, ...], ...]
    mixtures: tuple[Mixtures, ...]


def assemble(members: Sequence[Member], draw: Draw, gradients: Gradients) -> Assembly:
    """Stacks what the members have alike; their models' weights become views of the stacks."""
    builder = _Builder(members, draw, gradients)
    sites = builder.sites()
    head = builder.head()
    return Assembly(
        sites=sites,
        head=head,
        leaves=tuple(builder.leaves),
        pieces=builder.pieces(),
        mixtures=tuple(builder.mixtures),
    )


@final
class _Builder:
    def __init__(self, members: Sequence[Member], draw: Draw, gradients: Gradients) -> None:
        self._members = members
        self._size = len(members)
        self._draw = draw
        self._gradients = gradients
        self.leaves: list[Stack] = []
        self.mixtures: list[Mixtures] = []

    def sites(self) -> Sites:
        low_ranks: dict[str, list[tuple[int, Any]]] = defaultdict(list)
        bottlenecks: dict[_Form, list[tuple[int, Any]]] = defaultdict(list)
        mixtures: dict[_Form, list[tuple[int, Any]]] = defaultdict(list)
        networks: dict[str, list[Correction]] = defaultdict(list)
        own_linears: dict[str, dict[int, Callable[..., Any]]] = defaultdict(dict)
        own_networks: dict[str, dict[int, Callable[..., Any]]] = defaultdict(dict)
        for place, member in enumerate(self._members):
            for path, layer in member.layers.items():
                if is_plain_lora(layer):
                    low_ranks[path].append((place, layer))
                elif isinstance(layer, BottleneckLayer):
                    bottlenecks[_form_of(path, layer)].append((place, layer))
                elif is_dense(layer):
                    mixtures[_mixture_form(path, layer)].append((place, layer))
                elif isinstance(layer, MixtureLayer):
                    mixture = layer.mixture_adapter[ADAPTER]
                    networks[path].append(SingleCorrection(place, self._size, mixture, is_parallel=True))
                elif isinstance(layer, SplitLayer):
                    own_networks[path][place] = layer
                else:
                    own_linears[path][place] = layer
        for form, entries in bottlenecks.items():
            networks[form[0]].append(self._bottlenecks(entries))
        for form, entries in mixtures.items():
            self.mixtures.append(self._mixtures(entries))
            networks[form[0]].append(self.mixtures[-1])
        linears = {path: [self._low_ranks(entries)] for path, entries in low_ranks.items()}
        return Sites(self._size, linears, networks, own_linears, own_networks)

    def head(self) -> dict[str, Stack] | None:
        heads = [member.head for member in self._members]
        if not all(isinstance(head, nn.Linear) for head in heads):
            return None
        names = [name for name, _ in heads[0].named_parameters()] if heads[0] is not None else []
        return {name: self._stack([head.get_parameter(name) for head in heads if head is not None]) for name in names}

    def pieces(self) -> tuple[tuple[Piece, ...], ...]:
        placed = {id(piece.parameter): piece for stack in self.leaves for piece in stack.pieces}
        return tuple(
            tuple(
                placed.get(id(parameter)) or own_piece(parameter, self._gradients)
                for parameter in member.parameters.values()
            )
            for member in self._members
        )

    def _stack(self, parameters: list[nn.Parameter], *, is_transposed: bool = False) -> Stack:
        stack = Stack(parameters, self._gradients, is_transposed=is_transposed)
        self.leaves.append(stack)
        return stack

    def _low_ranks(self, entries: list[tuple[int, Any]]) -> LowRanks:
        layers = [layer for _, layer in entries]
        return LowRanks(
            [place for place, _ in entries],
            self._size,
            self._stack([layer.lora_A[ADAPTER].weight for layer in layers]),
            self._stack([layer.lora_B[ADAPTER].weight for layer in layers], is_transposed=True),
            scales=[layer.scaling[ADAPTER] for layer in layers],
            dropouts=[getattr(layer.lora_dropout[ADAPTER], "p", 0.0) for layer in layers],
            draw=self._draw,
        )

    def _bottlenecks(self, entries: list[tuple[int, Any]]) -> Bottlenecks:
        layers = [layer for _, layer in entries]
        parts = [layer.bottleneck_adapter[ADAPTER] for layer in layers]
        names = [name for name, _ in parts[0].named_parameters()]
        tensors = {
            name: self._stack([part.get_parameter(name) for part in parts], is_transposed=name == "down")
            for name in names
        }
        return Bottlenecks(
            [place for place, _ in entries],
            self._size,
            tensors,
            widths=[part.up.shape[0] for part in parts],
            activation=parts[0].activation,
            norm=parts[0].block_norm,
            dropouts=[part.dropout.p for part in parts],
            is_parallel=layers[0].config.placement == "par",
            draw=self._draw,
        )

    def _mixtures(self, entries: list[tuple[int, Any]]) -> Mixtures:
        parts = [layer.mixture_adapter[ADAPTER] for _, layer in entries]
        names = [name for name, _ in parts[0].named_parameters()]
        return Mixtures(
            [place for place, _ in entries],
            self._size,
            {name: self._stack([part.get_parameter(name) for part in parts]) for name in names},
            num_experts=[len(part.router) for part in parts],
            top_k=[part.top_k for part in parts],
            activation=parts[0].activation,
            is_traced=any(self._members[place].balance is not None for place, _ in entries),
        )


def _form_of(path: str, layer: BottleneckLayer) -> _Form:
    part = layer.bottleneck_adapter[ADAPTER]
    names = tuple(name for name, _ in part.named_parameters())
    return path, layer.config.placement, layer.config.activation, names


def _mixture_form(path: str, layer: MixtureLayer) -> _Form:
    """As `_form_of`; with the inner width, which is not padded."""
    names = tuple(name for name, _ in layer.mixture_adapter[ADAPTER].named_parameters())
    return path, str(layer.config.bottleneck_size), layer.config.activation, names
