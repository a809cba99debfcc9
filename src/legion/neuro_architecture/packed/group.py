"""Members that start at one block, passed through the base together."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol, final

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from legion.neuro_architecture.adapters import auxiliary_loss
from legion.neuro_architecture.packed.attention import Context, take
from legion.neuro_architecture.packed.building import assemble
from legion.neuro_architecture.packed.cut import Cut, Stage
from legion.neuro_architecture.packed.inputs import Inputs
from legion.neuro_architecture.packed.member import Member
from legion.neuro_architecture.packed.mixtures import balance_losses
from legion.neuro_architecture.packed.objective import accepts_positions, target_logits
from legion.neuro_architecture.packed.precision import halved_products, widened
from legion.neuro_architecture.packed.recording import Recorder
from legion.neuro_architecture.packed.stacking import Arena, own_piece
from legion.neuro_architecture.packed.trunk import Trunk, through

__all__ = ["Group", "Judged", "PackedGroup", "StepOutcome", "Turn", "WholeGroup"]

# torch's global generator serves one member at a time.
_GLOBAL_DRAWS: Final = threading.Lock()


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What one member does at one step.

    Attributes:
        step: Number of the update, counted from 0.
        rate: Its learning rate.
    """

    step: int
    rate: float


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class StepOutcome:
    """What one step was: losses in nats, the gradient's norm before clipping, the rate, the batch's size, and the
    member's share of the group's time in seconds.
    """

    loss: float
    auxiliary_loss: float | None
    gradient_norm: float
    learning_rate: float
    num_tokens: int
    num_examples: int
    seconds: float


@final
@dataclass(frozen=True, slots=True)
class Judged:
    """One member's predictions on one batch, on the CPU: losses in nats (fp64), hits, and a classifier's logits; None
    for a causal model, whose logits are as wide as its vocabulary.
    """

    losses_N: Tensor
    is_hit_N: Tensor
    logits_NC: Tensor | None


class Group(Protocol):
    """Members that are stepped and measured together."""

    @property
    def members(self) -> tuple[Member, ...]: ...

    @property
    def cut(self) -> Cut:
        """Where its pass begins."""
        ...

    def step(self, x_BTD: Tensor, context: Context | None, inputs: Inputs, turns: Sequence[Turn]) -> list[StepOutcome]:
        """One update of every member, from the state at `cut`, [1, B, T, D]."""
        ...

    def measure(self, x_BTD: Tensor, context: Context | None, inputs: Inputs) -> list[Judged]:
        """Every member's predictions, without a trace on weights or random states."""
        ...


@final
class PackedGroup:
    """Stacks and single modules of several members on one trunk. For one thread at a time.

    Args:
        members: None `whole`, and all or none with networks of their own.
        trunk: The frozen base.
        head: The base's own head for causal models; None where each member trains its own.
        arena: Where gradients go; shared with no group that steps at the same time.
        recorder: Records and replays its steps, where the device can and nothing in them is drawn.
    """

    def __init__(
        self, members: Sequence[Member], trunk: Trunk, head: Any, arena: Arena, recorder: Recorder | None = None
    ) -> None:
        self.members = tuple(members)
        self.cut = min(member.cut for member in members)
        self._trunk = trunk
        self._head = head
        self._reads_all = any(member.reads_all for member in members)
        self._has_own_networks = members[0].has_own_networks
        self._generators: list[torch.Generator | None] = [None] * len(members)
        self._on_cpu: list[torch.Generator | None] = [None] * len(members)
        self._is_balanced = [False] * len(members)
        assembly = assemble(members, self._draw, arena.gradients())
        self._sites = assembly.sites
        self._heads = assembly.head
        self._mixtures = assembly.mixtures
        self._balances = [member.balance for member in members]
        for member, pieces in zip(members, assembly.pieces, strict=True):
            member.place(pieces)
        loose = {
            id(piece.gradient): piece.gradient
            for pieces in assembly.pieces
            for piece in pieces
            if piece.parameter.grad is piece.gradient
        }
        leaves = [stack.leaf.grad for stack in assembly.leaves]
        self._gradients = [item for item in (*leaves, *loose.values()) if item is not None]
        self._recorder = None if any(member.draws for member in members) else recorder

    def step(self, x_BTD: Tensor, context: Context | None, inputs: Inputs, turns: Sequence[Turn]) -> list[StepOutcome]:
        began_s = time.perf_counter()
        if context is None:
            raise RuntimeError("a packed group needs the batch's context")
        if self._recorder is None:
            self._seed(inputs, turns)
            found = self._updated(x_BTD, context, inputs, [turn.rate for turn in turns])
        else:
            found = self._recorded(self._recorder, x_BTD, context, inputs, turns)
        losses, auxiliary, norms = found.tolist()
        share_s = (time.perf_counter() - began_s) / len(self.members)
        return [
            StepOutcome(
                loss=losses[place],
                auxiliary_loss=auxiliary[place] if self._is_balanced[place] else None,
                gradient_norm=norms[place],
                learning_rate=turn.rate,
                num_tokens=inputs.num_tokens,
                num_examples=inputs.num_examples,
                seconds=share_s,
            )
            for place, turn in enumerate(turns)
        ]

    def _recorded(
        self, recorder: Recorder, x: Tensor, context: Context, inputs: Inputs, turns: Sequence[Turn]
    ) -> Tensor:
        rates_S = torch.tensor([turn.rate for turn in turns], dtype=torch.float32, device=x.device)
        given = {
            "x": x,
            "bias": context.bias,
            "cos": context.cos,
            "sin": context.sin,
            "mask": inputs.mask,
            "read": inputs.read_BR,
            "rows": inputs.rows_N,
            "targets": inputs.targets_N,
            "rates": rates_S,
        }

        def work(held: Mapping[str, Tensor]) -> Tensor:
            in_place = replace(context, bias=held.get("bias"), cos=held.get("cos"), sin=held.get("sin"))
            read = replace(
                inputs,
                batch={"attention_mask": held["mask"]},
                read_BR=held["read"],
                rows_N=held["rows"],
                targets_N=held["targets"],
            )
            return self._updated(held["x"], in_place, read, list(held["rates"]))

        return recorder.run(work, {name: tensor for name, tensor in given.items() if tensor is not None})

    def _updated(self, x: Tensor, context: Context, inputs: Inputs, rates: Sequence[float | Tensor]) -> Tensor:
        """One update; losses, balance losses (0 where there is none) and norms of all members, [3, S]."""
        torch._foreach_zero_(self._gradients)
        for place, member in enumerate(self.members):
            member.begin(inputs.mask, is_training=True, generator=self._on_cpu[place])
        logits = self._logits(x, context, inputs)
        losses = [cross_entropy(widened(each), inputs.targets_N) for each in logits]
        extra = self._auxiliary(inputs.mask)
        self._is_balanced = [item is not None for item in extra]
        torch.stack([*losses, *(item for item in extra if item is not None)]).sum().backward()
        norms = [member.optimizer.step(rate) for member, rate in zip(self.members, rates, strict=True)]
        nothing = torch.zeros_like(losses[0])
        auxiliary = [nothing if item is None else item.to(nothing.dtype) for item in extra]
        return torch.stack([torch.stack(losses), torch.stack(auxiliary), torch.stack(norms)]).detach()

    @torch.no_grad()
    def measure(self, x_BTD: Tensor, context: Context | None, inputs: Inputs) -> list[Judged]:
        if context is None:
            raise RuntimeError("a packed group needs the batch's context")
        self._generators = [None] * len(self.members)
        for member in self.members:
            member.begin(inputs.mask, is_training=False, generator=None)
        is_causal = self._head is not None
        judged = [
            _judge(logits[: inputs.num_targets], inputs.targets_N[: inputs.num_targets], is_causal=is_causal)
            for logits in self._logits(x_BTD, context, inputs)
        ]
        for member in self.members:
            member.auxiliary_loss()
        for mixtures in self._mixtures:
            mixtures.forget()
        return judged

    def _auxiliary(self, mask_BT: Tensor) -> list[Tensor | None]:
        """Each member's weighted balance loss, or None."""
        stacked = balance_losses(self._mixtures, self._balances, mask_BT)
        return [
            member.auxiliary_loss() if found is None else found
            for member, found in zip(self.members, stacked, strict=True)
        ]

    def _seed(self, inputs: Inputs, turns: Sequence[Turn]) -> None:
        """Sets where the members that draw anything draw it from."""
        device = inputs.mask.device
        for place, (member, turn) in enumerate(zip(self.members, turns, strict=True)):
            if member.draws:
                seed = member.dropout_seed(turn.step)
                self._generators[place] = torch.Generator(device=device).manual_seed(seed)
                self._on_cpu[place] = torch.Generator().manual_seed(seed)

    def _draw(self, place: int, shape: tuple[int, ...], share: float) -> Tensor | None:
        generator = self._generators[place]
        if generator is None or share == 0.0:
            return None
        kept = torch.rand(shape, generator=generator, device=generator.device) >= share
        return kept.float() / (1.0 - share)

    def _logits(self, x: Tensor, context: Context, inputs: Inputs) -> list[Tensor]:
        """Each member's logits [N, C]."""
        last = self._trunk.num_blocks - 1
        for index in range(self.cut.block, last + 1):
            read = inputs.read_BR if index == last and not self._has_own_networks else None
            if index > self.cut.block or self.cut.stage is Stage.ENTERED:
                routes_all = self._reads_all and read is not None
                x = through(self._trunk, index, x, context, self._sites, read, routes_all=routes_all)
            else:
                x = self._rest_of_first(x, None if self.cut.is_read_only else read)
        if self._has_own_networks:
            x = take(x, inputs.read_BR)
        rows_gND = self._trunk.rows(x.flatten(1, 2).index_select(1, inputs.rows_N))
        rows_GND = rows_gND.expand(len(self.members), *rows_gND.shape[1:])
        if self._heads is not None:
            weight = self._heads["weight"].leaf
            logits = torch.bmm(widened(rows_GND), weight.transpose(1, 2))
            bias = self._heads.get("bias")
            return list(logits if bias is None else logits + bias.leaf.unsqueeze(1))
        if self._head is not None:
            return [self._head(rows_ND) for rows_ND in rows_GND]
        return [
            member.head(widened(rows_ND).unsqueeze(1))
            for member, rows_ND in zip(self.members, rows_GND, strict=True)
            if member.head is not None
        ]

    def _rest_of_first(self, state: Tensor, read: Tensor | None) -> Tensor:
        """The output of the block that the cut lies in; at `read` positions of the state, or at all it has."""
        block = self.cut.block
        if self.cut.stage is Stage.ATTENDED:
            h, y = state, self._trunk.fed(block, take(state, read), self._sites)
        else:
            h, y = state.chunk(2, dim=-1)
            y = take(y, read)
        return self._trunk.joined(block, h, y, self._sites, read)


@final
class WholeGroup:
    """One member whose model runs as a whole: virtual tokens, or a base whose blocks are not known.

    Args:
        member: The member.
        device: Where it is.
        arena: As a packed group's.
    """

    def __init__(self, member: Member, device: torch.device, arena: Arena) -> None:
        self.members = (member,)
        self.cut = member.cut
        self._member = member
        self._device = device
        self._has_positions = accepts_positions(member.model)
        gradients = arena.gradients()
        pieces = tuple(own_piece(parameter, gradients) for parameter in member.parameters.values())
        member.place(pieces)
        self._gradients = [piece.gradient for piece in pieces]

    def step(self, x_BTD: Tensor, context: Context | None, inputs: Inputs, turns: Sequence[Turn]) -> list[StepOutcome]:  # noqa: ARG002 - the group's own signature
        began_s = time.perf_counter()
        member, (turn,) = self._member, turns
        torch._foreach_zero_(self._gradients)
        devices = [self._device] if self._device.type == "cuda" else []
        with _GLOBAL_DRAWS, torch.random.fork_rng(devices=devices):
            torch.manual_seed(member.dropout_seed(turn.step))
            member.model.train()
            logits, targets = self._logits(inputs)
            loss = cross_entropy(widened(logits), targets)
            extra = auxiliary_loss(member.model)
            (loss if extra is None else loss + extra).backward()
        norm = member.optimizer.step(turn.rate)
        return [
            StepOutcome(
                loss=float(loss.detach()),
                auxiliary_loss=None if extra is None else float(extra.detach()),
                gradient_norm=float(norm),
                learning_rate=turn.rate,
                num_tokens=inputs.num_tokens,
                num_examples=inputs.num_examples,
                seconds=time.perf_counter() - began_s,
            )
        ]

    @torch.no_grad()
    def measure(self, x_BTD: Tensor, context: Context | None, inputs: Inputs) -> list[Judged]:  # noqa: ARG002 - as above
        self._member.model.eval()
        logits, targets = self._logits(inputs)
        return [_judge(logits, targets, is_causal=inputs.batch["labels"].dim() == 2)]

    def _logits(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        with halved_products(self._member.model.dtype, self._device):
            return target_logits(self._member.model, inputs.batch, self._device, has_positions=self._has_positions)


def _judge(logits_NC: Tensor, targets_N: Tensor, *, is_causal: bool) -> Judged:
    losses_N = cross_entropy(widened(logits_NC), targets_N, reduction="none").double()
    is_hit_N = logits_NC.argmax(dim=-1) == targets_N
    return Judged(losses_N.cpu(), is_hit_N.cpu(), None if is_causal else logits_NC.float().cpu())
