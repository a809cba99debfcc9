"""A causal model with trained virtual tokens in front of its input, whose logits are those of the input alone."""

from __future__ import annotations

import functools
import inspect
import warnings
from typing import Any, Final, final

import torch
from peft import PeftConfig, PeftModelForCausalLM, PrefixTuningConfig
from torch import nn

__all__ = ["VirtualTokensModel", "has_virtual_tokens"]

_MARK: Final = "legion_virtual_tokens"


def has_virtual_tokens(model: Any) -> bool:
    """Whether a base model stands below a `VirtualTokensModel`; nothing else about it tells."""
    return _MARK in vars(model)


@final
class VirtualTokensModel(PeftModelForCausalLM):
    """PEFT's model, made to stand where a model without virtual tokens stands.

    Logits are those of the input: PEFT's prompt tuning gives the virtual tokens' too, in front. Positions are right
    where rows are padded on the left: PEFT counts the padding between the virtual tokens and the text.

    One tensor is trained, `prompt_encoder.<adapter>.embedding.weight`, stored as `prompt_embeddings`: [num, D] for
    prompt tuning; [num, 2 * num_layers * num_key_value_heads * head_dim] for prefix tuning, a layer's keys before its
    values.

    Args:
        model: The base; it is frozen, and given a hook and a mark that `release` takes away.
        config: Of prompt or prefix tuning.
    """

    def __init__(self, model: Any, config: PeftConfig) -> None:
        super().__init__(model, config, autocast_adapter_dtype=False)
        self.num_in_front = 0 if isinstance(config, PrefixTuningConfig) else config.num_virtual_tokens
        setattr(model, _MARK, True)
        if "position_ids" in inspect.signature(model.forward).parameters:
            hook = functools.partial(_tell_positions, config.num_virtual_tokens)
            self.positions_handle = model.register_forward_pre_hook(hook, with_kwargs=True)

    def forward(self, *inputs: Any, logits_to_keep: int | torch.Tensor = 0, **named: Any) -> Any:
        """As the base's own; `logits_to_keep` counts positions of the input."""
        if isinstance(logits_to_keep, torch.Tensor):
            return super().forward(*inputs, logits_to_keep=logits_to_keep + self.num_in_front, **named)
        if logits_to_keep:
            return super().forward(*inputs, logits_to_keep=logits_to_keep, **named)
        output = super().forward(*inputs, **named)
        output.logits = output.logits[:, self.num_in_front :]
        return output

    def generate(self, *inputs: Any, **named: Any) -> Any:
        """As the base's own."""
        with warnings.catch_warnings():
            # They are given by the hook on the base.
            warnings.filterwarnings("ignore", message="Position ids are not supported")
            return super().generate(*inputs, **named)

    def release(self) -> None:
        """Leaves the base as it was; this model is of no use afterwards."""
        base = self.get_base_model()
        if "position_ids" in inspect.signature(base.forward).parameters:
            self.positions_handle.remove()
        for name in (_MARK, "prepare_inputs_for_generation"):
            vars(base).pop(name, None)


def _tell_positions(
    num_virtual: int, _: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """Forward pre-hook of the base: positions that leave out padding between the virtual tokens and the text.

    Nothing is changed where nothing is padded on the left, or where no virtual tokens are in front.
    """
    mask_BT: Any = named.get("attention_mask")
    tokens_BT: Any = named.get("input_ids")
    if mask_BT is None or mask_BT.dim() != 2 or (tokens_BT is not None and mask_BT.shape[1] == tokens_BT.shape[1]):
        return None
    padding_B1 = (mask_BT[:, num_virtual:].cumsum(-1) == 0).sum(-1, keepdim=True)
    if not padding_B1.any():
        return None
    place_T = torch.arange(mask_BT.shape[1], device=mask_BT.device)
    position_BT = torch.where(place_T < num_virtual, place_T, (place_T - padding_B1).clamp(min=0))
    length = (named["inputs_embeds"] if tokens_BT is None else tokens_BT).shape[1]
    return inputs, named | {"position_ids": position_BT[:, position_BT.shape[1] - length :]}
