"""AdamW for each member apart: its own rate, decay, clipping and step, over the parts of shared stacks that are its."""

from __future__ import annotations

from typing import Final, final

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from legion.neuro_architecture.packed.stacking import Piece
from legion.neuro_architecture.spec.proposal import TrainingRecipe

__all__ = ["MemberOptimizer"]

_BETAS: Final = (0.9, 0.999)
_EPSILON: Final = 1e-8
_CLIP_EPSILON: Final = 1e-6  # as in torch.nn.utils.clip_grad_norm_


@final
class MemberOptimizer:
    """torch's own fused AdamW over one member's weights. Moments stay with the member when its group changes.

    Args:
        recipe: Decay and largest norm of the gradient; the rate is given at each step.
    """

    def __init__(self, recipe: TrainingRecipe) -> None:
        self._recipe = recipe
        self._pieces: dict[str, Piece] = {}
        self._first: dict[str, Tensor] = {}
        self._second: dict[str, Tensor] = {}
        self._steps: dict[str, Tensor] = {}
        self._lists: tuple[list[Tensor], ...] = ()

    def place(self, pieces: dict[str, Piece]) -> None:
        """Takes note of where the weights lie from now on."""
        for name, piece in pieces.items():
            before = self._pieces.get(name)
            if before is None:
                self._first[name] = torch.zeros_like(piece.weight)
                self._second[name] = torch.zeros_like(piece.weight)
                self._steps[name] = torch.zeros((), dtype=torch.float32, device=piece.weight.device)
            elif before.is_transposed != piece.is_transposed:
                self._first[name] = self._first[name].T.contiguous()
                self._second[name] = self._second[name].T.contiguous()
        self._pieces = pieces
        by_name = (self._first, self._second, self._steps)
        self._lists = (
            [piece.weight for piece in pieces.values()],
            [piece.gradient for piece in pieces.values()],
            *([table[name] for name in pieces] for table in by_name),
        )

    @torch.no_grad()
    def step(self, rate: float | Tensor) -> Tensor:
        """One update at `rate`, a number or, for a step that is recorded, a scalar on the weights' device; gives the
        gradient's norm before clipping, a scalar tensor.
        """
        weights, gradients, first, second, steps = self._lists
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        factor = torch.clamp(self._recipe.max_gradient_norm / (norm + _CLIP_EPSILON), max=1.0)
        torch._foreach_mul_(gradients, factor)
        adamw(
            weights,
            gradients,
            first,
            second,
            [],
            steps,
            fused=True,
            amsgrad=False,
            beta1=_BETAS[0],
            beta2=_BETAS[1],
            lr=rate,
            weight_decay=self._recipe.weight_decay,
            eps=_EPSILON,
            maximize=False,
        )
        return norm

    def moments(self) -> dict[str, dict[str, Tensor]]:
        """AdamW's state of each weight, as torch names it and as the parameter is oriented; empty before a step."""
        return {
            name: {
                "step": self._steps[name],
                "exp_avg": piece.oriented(self._first[name]),
                "exp_avg_sq": piece.oriented(self._second[name]),
            }
            for name, piece in self._pieces.items()
            if bool(self._steps[name] > 0)
        }

    @torch.no_grad()
    def set_moments(self, moments: dict[str, dict[str, Tensor]]) -> None:
        """Puts AdamW's state back; weights that it does not name begin anew."""
        for name, piece in self._pieces.items():
            state = moments.get(name)
            for table, key in ((self._first, "exp_avg"), (self._second, "exp_avg_sq")):
                table[name].copy_(piece.oriented(state[key]) if state else torch.zeros_like(table[name]))
            self._steps[name].copy_(state["step"] if state else torch.zeros(()))
