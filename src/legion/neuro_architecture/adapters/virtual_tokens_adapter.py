"""Prompt and prefix tuning: trained virtual tokens in front of the input."""

from __future__ import annotations

from typing import Any, Literal, final

import torch
from peft import PeftModel, PrefixTuningConfig, PromptTuningConfig

from legion.foundation.errors import AdapterError
from legion.neuro_architecture.adapters.attachment import attachment_to, drawing_from, refuse_adapted
from legion.neuro_architecture.adapters.virtual_tokens import VirtualTokensModel
from legion.neuro_architecture.anatomy import inspect_model
from legion.neuro_architecture.spec.architecture import VirtualTokensArchitecture

__all__ = ["VirtualTokensAdapter"]


@final
class VirtualTokensAdapter:
    """Virtual tokens in front of the input of a causal model. Source: arXiv:2104.08691, arXiv:2101.00190.

    `PromptTuning` trains embeddings, which begin as those of drawn tokens. `PrefixTuning` trains the keys and values
    that every block attends to, which begin as what the model itself makes of drawn tokens. Either way a fresh adapter
    changes the output. Trained tensor: `virtual_tokens.VirtualTokensModel`.

    Args:
        strategy: Which.
        num_virtual_tokens: How many; they count against the model's positions.

    Raises:
        InvalidValueError: lists every argument outside its range.
    """

    def __init__(
        self, strategy: Literal["PrefixTuning", "PromptTuning"] = "PromptTuning", num_virtual_tokens: int = 16
    ) -> None:
        self._architecture = VirtualTokensArchitecture.parse(
            {"strategy": strategy, "num_virtual_tokens": num_virtual_tokens}, what="VirtualTokensAdapter"
        )

    @property
    def architecture(self) -> VirtualTokensArchitecture:
        return self._architecture

    def apply(self, model: Any, *, seed: int = 0) -> PeftModel:
        """Freezes `model` and returns it behind its virtual tokens, as a `PeftModel`.

        Args:
            model: A causal transformers model.
            seed: Of the tokens that the virtual ones begin as; the global generators stay as they are.

        Raises:
            ModelError: the model's structure is not understood.
            AdapterError: the model carries an adapter already, is not causal, or has too few positions.
        """
        refuse_adapted(model)
        anatomy = inspect_model(model)
        architecture = self._architecture
        count = architecture.num_virtual_tokens
        if not anatomy.is_causal:
            raise AdapterError(
                f"{architecture.strategy} needs a causal model", cause=f"{type(model).__name__} predicts no next token"
            )
        positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        if positions is not None and count >= positions:
            raise AdapterError(f"{count} virtual tokens leave none of the model's {positions} positions")
        before = attachment_to(model, architecture, model_type=anatomy.model_type)
        was_training = model.training
        with drawing_from(seed):
            tokens = torch.randint(anatomy.vocab_size, (1, count))
            adapted = VirtualTokensModel(model, self._config())
        adapted.legion_attachment = before
        _begin(adapted, model.eval(), tokens)
        model.requires_grad_(requires_grad=False)
        adapted.train(was_training)
        return adapted

    def _config(self) -> PromptTuningConfig | PrefixTuningConfig:
        fields = {"task_type": "CAUSAL_LM", "num_virtual_tokens": self._architecture.num_virtual_tokens}
        config = PromptTuningConfig if self._architecture.strategy == "PromptTuning" else PrefixTuningConfig
        return config(**fields)


@torch.no_grad()
def _begin(adapted: VirtualTokensModel, base: Any, tokens: torch.Tensor) -> None:
    """Puts what the base makes of `tokens` [1, num] in place of PEFT's noise; weights without storage stay so."""
    embeddings = base.get_input_embeddings().weight
    encoder = adapted.prompt_encoder[adapted.active_adapter].to(embeddings.device, embeddings.dtype)
    if embeddings.is_meta:
        return
    tokens = tokens.to(embeddings.device)
    if adapted.num_in_front:
        encoder.embedding.weight.copy_(embeddings[tokens[0]])
        return
    cache = base(input_ids=tokens, use_cache=True).past_key_values
    pairs = [state for layer in cache.layers for state in (layer.keys, layer.values)]
    encoder.embedding.weight.copy_(torch.stack([state[0].transpose(0, 1).flatten(1) for state in pairs], 1).flatten(1))
