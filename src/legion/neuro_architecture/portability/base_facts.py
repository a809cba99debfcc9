"""What of a base model decides how an adapter on it can be served."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, final

from legion.neuro_architecture.anatomy import ModelAnatomy, inspect_model
from legion.neuro_architecture.data.base_models import BaseModel
from legion.neuro_architecture.spec.task import TaskKind

__all__ = ["BaseFacts", "natural_kind", "read_base_facts"]

# Families whose checkpoints were proven in the engines, by what their blocks look like.
_LLAMA_LIKE: Final = frozenset({"llama", "mistral"})
_ENGINE_FAMILIES: Final = _LLAMA_LIKE | {"gpt2"}
_WIDTH_KEYS: Final = ("intermediate_size", "n_inner", "hidden_dim", "ffn_dim")
_PLAIN_ROPES: Final = frozenset({"default", None})


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class BaseFacts:
    """A base model as portability sees it: its structure and its config, without weights.

    Attributes:
        name: What it is called.
        kind: The kind of task it is loaded for; decides the head.
        anatomy: Its structure.
        config: Its config as plain values.
    """

    name: str
    kind: TaskKind
    anatomy: ModelAnatomy
    config: dict[str, Any]

    @property
    def is_llama_like(self) -> bool:
        """Pre-norm blocks with RMSNorm, rotary positions and a gated network of three linears."""
        return self.anatomy.model_type in _LLAMA_LIKE

    @property
    def is_pre_norm(self) -> bool:
        """Whether a block adds to the residual stream without normalising it afterwards."""
        return self.anatomy.model_type in _ENGINE_FAMILIES

    @property
    def is_served_by_engines(self) -> bool:
        """Whether text engines serve this family and we prove it there."""
        return self.anatomy.model_type in _ENGINE_FAMILIES

    @property
    def takes_ffn_biases(self) -> bool:
        """Whether the family's own config has a place for biases in the feed-forward network."""
        return not self.anatomy.is_ffn_gated or self.anatomy.model_type == "llama"

    @property
    def ffn_width_key(self) -> str | None:
        """The config's word for the inner width of the feed-forward networks."""
        return next((key for key in _WIDTH_KEYS if key in self.config), None)

    @property
    def rope_type(self) -> str | None:
        """How rotary positions are scaled; None where there are none."""
        rope = self.config.get("rope_parameters") or self.config.get("rope_scaling") or {}
        return rope.get("rope_type", "default") if isinstance(rope, dict) else None

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return int(self.config.get("head_dim") or self.anatomy.hidden_size // self.anatomy.num_attention_heads)

    def obstacles_to_mixture(self) -> list[str]:
        """What of this base the stock mixture architectures (Qwen2-MoE, Mixtral) have no place for."""
        if not self.is_llama_like:
            return [f"no stock mixture has the blocks of {self.anatomy.model_type}"]
        config = self.config
        obstacles = [f"{name} is set" for name in ("attention_bias", "mlp_bias", "sliding_window") if config.get(name)]
        heads = self.anatomy.num_attention_heads
        if self.head_size * heads != self.anatomy.hidden_size:
            obstacles.append(
                f"its {heads} heads of {self.head_size} do not make its width of {self.anatomy.hidden_size}"
            )
        if self.rope_type not in _PLAIN_ROPES:
            obstacles.append(f"its rotary positions are scaled ({self.rope_type})")
        return obstacles


def read_base_facts(base: BaseModel, kind: TaskKind, *, num_labels: int = 2) -> BaseFacts:
    """The facts of a base model for a kind of task, from its config alone.

    Raises:
        ModelError: the family cannot do the task, or its structure is not understood.
    """
    model = base.load_meta(kind, num_labels)
    return BaseFacts(
        name=base.reference.name,
        kind=kind,
        anatomy=inspect_model(model),
        config=model.config.get_text_config().to_dict(),
    )


def natural_kind(base: BaseModel) -> TaskKind:
    """What a base is for where nothing else says: an encoder classifies, any other model writes."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    return "classification" if base.reference.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES else "summarization"
