"""What a population will need in memory, said before it starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

from legion.foundation.errors import WorldError
from legion.neuro_architecture.anatomy import ModelAnatomy
from legion.neuro_architecture.packed.cut import Cut
from legion.neuro_architecture.packed.dispatch import Dispatch

__all__ = ["MemberNeeds", "MemoryPlan", "plan_memory"]

# fp32 weight, gradient and two moments of AdamW, and a copy of the best weights; less where groups take turns, since
# their gradients then share one memory.
_BYTES_A_WEIGHT: Final = 20
# A member's model shares the base's tensors, not its modules: measured, about as much Python for each adapted block.
_BYTES_A_BLOCK: Final = 60_000
_MIB: Final = 2**20


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class MemberNeeds:
    """What is known of a member before it is built.

    Attributes:
        num_parameters: Trainable weights.
        cut: Where its pass begins.
    """

    num_parameters: int
    cut: Cut


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPlan:
    """A prediction, to be read beside the measured peak.

    Attributes:
        dispatch: With groups as small as the limit asks for.
        members_bytes: Weights, gradients, moments and best weights of all members.
        activations_bytes: Kept for the backward passes of the groups that run side by side.
        cache_bytes: Frozen states.
        limit_bytes: What there is.
    """

    dispatch: Dispatch
    members_bytes: int
    activations_bytes: int
    cache_bytes: int
    limit_bytes: int

    @property
    def predicted_bytes(self) -> int:
        """All of it, beside the base and the process itself."""
        return self.members_bytes + self.activations_bytes + self.cache_bytes

    def to_dict(self) -> dict[str, int]:
        return {
            "predicted_bytes": self.predicted_bytes,
            "members_bytes": self.members_bytes,
            "activations_bytes": self.activations_bytes,
            "cache_bytes": self.cache_bytes,
            "limit_bytes": self.limit_bytes,
            "group_blocks": self.dispatch.group_blocks,
        }


def plan_memory(
    members: Sequence[MemberNeeds],
    anatomy: ModelAnatomy,
    dispatch: Dispatch,
    *,
    batch: int,
    length: int,
    cache_bytes: int,
    limit_bytes: int,
) -> MemoryPlan:
    """The prediction for these members, in smaller groups where the dispatch's would not fit.

    Args:
        members: All that are held at once.
        anatomy: Of the base.
        dispatch: How to compute.
        batch: Examples in a batch.
        length: Tokens of the longest batch.
        cache_bytes: Frozen states that will be kept in memory.
        limit_bytes: What there is beside the base and the process.

    Raises:
        WorldError: they do not fit even one by one; says how many would.
    """
    blocks = anatomy.num_layers
    needs = [_BYTES_A_WEIGHT * item.num_parameters + _BYTES_A_BLOCK * (blocks - item.cut.block) for item in members]
    deepest = max(blocks - item.cut.block for item in members)
    widest = dispatch.group_blocks
    while True:
        group = min(len(members) * deepest, max(widest, deepest))
        workers = min(dispatch.workers, len(members))
        activations = workers * group * _block_bytes(anatomy, dispatch, batch, length)
        plan = MemoryPlan(
            dispatch=Dispatch.parse(dispatch.to_dict() | {"group_blocks": widest}, what="dispatch"),
            members_bytes=sum(needs),
            activations_bytes=activations,
            cache_bytes=cache_bytes,
            limit_bytes=limit_bytes,
        )
        if plan.predicted_bytes <= limit_bytes:
            return plan
        if widest <= 1:
            raise _too_many(plan, sorted(needs))
        widest = max(1, widest // 2)


def _block_bytes(anatomy: ModelAnatomy, dispatch: Dispatch, batch: int, length: int) -> int:
    """What autograd keeps of one member's pass through one block: a dozen tensors as wide as the residual stream, two
    or three as wide as the feed-forward network, two of attention's scores.
    """
    wide = 3 if anatomy.is_ffn_gated else 2
    a_token = 12 * anatomy.hidden_size + wide * anatomy.intermediate_size + 2 * anatomy.num_attention_heads * length
    return batch * length * a_token * (2 if dispatch.precision == "bfloat16" else 4)


def _too_many(plan: MemoryPlan, needs: list[int]) -> WorldError:
    left = plan.limit_bytes - plan.activations_bytes - plan.cache_bytes
    fitting, used = 0, 0
    for need in reversed(needs):  # the largest first, so that any so many of them fit
        used += need
        if used > left:
            break
        fitting += 1
    return WorldError(
        f"{len(needs)} trials at once need about {plan.predicted_bytes // _MIB} MiB beside the base model",
        cause=f"{max(0, plan.limit_bytes) // _MIB} MiB are free; {fitting} trials fit",
        hint=f"hold fewer at once: places {fitting}" if fitting else "free memory, or choose a smaller base or batch",
    )
