"""Says before any training what becomes of an adapter at each target, by rules that read shapes and configs only.

The rules and why they hold: docs/portability.md. Every rule that says `exact` is proven by a test that folds a trained
adapter and compares.
"""

from __future__ import annotations

from typing import Final

from legion.foundation.errors import InvalidValueError, UnknownNameError
from legion.neuro_architecture.portability.base_facts import BaseFacts
from legion.neuro_architecture.portability.values import TARGETS, Form, PortabilityPlan, Target, Verdict
from legion.neuro_architecture.space.validity import find_mistakes
from legion.neuro_architecture.spec.architecture import (
    AdapterArchitecture,
    AnyArchitecture,
    CombinedArchitecture,
    LoRAArchitecture,
    MoEArchitecture,
    PeftArchitecture,
    SplitArchitecture,
    VirtualTokensArchitecture,
)

__all__ = ["LARGEST_VLLM_RANK", "check_target", "plan"]

LARGEST_VLLM_RANK: Final = 512  # the largest --max-lora-rank that vLLM takes
_TEXT_TARGETS: Final = frozenset({"vllm", "llama.cpp", "ollama"})
# Widths of an attention head that vLLM's CPU back end takes; its GPU back ends take these and others.
_VLLM_HEAD_SIZES: Final = (32, 64, 80, 96, 112, 128, 160, 192, 224, 256, 512)
# llama.cpp's CPU back end reads tanh-GELU off a table of half-precision numbers (GGML_GELU_FP16 in its source): GPT-2's
# log-probabilities differ by 2e-4 to 1.8e-3 on small models, with any adapter and with none.
_GELU_TABLE_TARGETS: Final = frozenset({"llama.cpp", "ollama"})
_GELU_TABLE_BOUND: Final = 5e-3


def check_target(name: str) -> Target:
    """The target called `name`; `hf` is transformers.

    Raises:
        UnknownNameError: there is none.
    """
    alias = "transformers" if name == "hf" else name
    for target in TARGETS:
        if target == alias:
            return target
    raise UnknownNameError.of("target", name, (*TARGETS, "hf"))


def plan(
    adapter: AnyArchitecture,
    base: BaseFacts,
    target: Target,
    *,
    form: Form | None = None,
    max_lora_rank: int = LARGEST_VLLM_RANK,
) -> PortabilityPlan:
    """What becomes of `adapter` on `base` at `target`.

    Args:
        adapter: The adapter's architecture, trained or not.
        base: The base model (`read_base_facts`).
        target: Who is to serve it.
        form: A stock form to insist on; by default the best one there is. The weight-changing methods can become a
            `canonical-lora` (by SVD, hence bounded) or be `merged`.
        max_lora_rank: The largest rank that the server takes.

    Raises:
        InvalidValueError: no adapter of this kind has that form.
    """
    stage = _Stage(adapter, base, target)
    obstacle = stage.obstacle()
    if obstacle is not None:
        return obstacle
    match adapter:
        case LoRAArchitecture():
            planned = _plan_lora(stage, adapter, form, max_lora_rank)
        case PeftArchitecture():
            planned = _plan_peft(stage, adapter, form)
        case AdapterArchitecture():
            planned = _insist(_plan_bottleneck(stage, adapter), form)
        case MoEArchitecture():
            planner = _plan_average if adapter.routing == "random" else _plan_mixture
            planned = _insist(planner(stage, adapter), form)
        case SplitArchitecture():
            planned = _insist(_plan_split(stage, adapter), form)
        case CombinedArchitecture():
            planned = _insist(_plan_combined(stage, adapter), form)
        case VirtualTokensArchitecture():
            planned = _insist(_plan_virtual_tokens(stage, adapter), form)
    return planned


class _Stage:
    """One question to `plan`, with the ways to answer it."""

    def __init__(self, adapter: AnyArchitecture, base: BaseFacts, target: Target) -> None:
        self.adapter = adapter
        self.base = base
        self.target = target

    def say(self, verdict: Verdict, form: Form | None, reason: str, remedy: str | None = None) -> PortabilityPlan:
        return PortabilityPlan(target=self.target, verdict=verdict, form=form, reason=reason, remedy=remedy)

    def exact(self, form: Form, reason: str) -> PortabilityPlan:
        """Exact, unless the engine itself computes this family less exactly than fp32."""
        if self.target in _GELU_TABLE_TARGETS and self.base.anatomy.model_type == "gpt2":
            reason = f"{reason}, but {self.target} reads GELU off a half-precision table"
            return PortabilityPlan(
                target=self.target, verdict="bounded", form=form, bound=_GELU_TABLE_BOUND, reason=reason
            )
        return self.say("exact", form, reason)

    def impossible(self, reason: str, remedy: str | None = None) -> PortabilityPlan:
        return self.say("impossible", None, reason, remedy)

    def obstacle(self) -> PortabilityPlan | None:
        """What stands in the way before any form is thought of: a misfit, the kind of task, the base's family."""
        model_type = self.base.anatomy.model_type
        mistakes = find_mistakes(self.adapter, self.base.anatomy)
        if mistakes:
            return self.impossible(f"it does not fit the base: {'; '.join(mistakes)}")
        if self.target in _TEXT_TARGETS and self.base.kind == "classification":
            return self.impossible(
                f"{self.target} answers with text, and this model classifies", "transformers serves it: --to hf"
            )
        if self.target in _TEXT_TARGETS and not self.base.is_served_by_engines:
            return self.impossible(f"{model_type} models are not proven in {self.target}", "use --to hf")
        if self.target == "vllm" and self.base.head_size not in _VLLM_HEAD_SIZES:
            sizes = ", ".join(map(str, _VLLM_HEAD_SIZES))
            return self.impossible(f"vLLM takes attention heads of {sizes}, not of {self.base.head_size}")
        return None


def _insist(planned: PortabilityPlan, form: Form | None) -> PortabilityPlan:
    if form is not None and planned.is_possible and planned.form != form:
        raise InvalidValueError(
            f"this adapter cannot take the form {form}", cause=f"at {planned.target} it becomes {planned.form}"
        )
    return planned


def _plan_lora(stage: _Stage, adapter: LoRAArchitecture, form: Form | None, max_lora_rank: int) -> PortabilityPlan:
    if form == "canonical-lora" or (form is None and not adapter.use_dora and _serves_lora(stage)):
        return _plan_canonical(stage, adapter, form, max_lora_rank)
    return _plan_changed_weights(stage, form)


def _serves_lora(stage: _Stage) -> bool:
    """Whether a LoRA folder is the target's natural form: PEFT's own, and vLLM's for the families it adapts."""
    return stage.target == "peft" or (stage.target == "vllm" and stage.base.is_llama_like)


def _plan_canonical(stage: _Stage, adapter: LoRAArchitecture, form: Form | None, max_lora_rank: int) -> PortabilityPlan:
    if not _serves_lora(stage):
        return stage.impossible(
            f"{stage.target} is given no LoRA folder on a {stage.base.anatomy.model_type}", "merge it: --form merged"
        )
    rank = max([adapter.rank, *adapter.rank_pattern.values()])
    if stage.target == "vllm" and rank > max_lora_rank:
        if form is None:
            return stage.exact("merged", f"rank {rank} is above the server's {max_lora_rank}, so it is merged")
        return stage.impossible(
            f"rank {rank} is above the server's maximum of {max_lora_rank}",
            f"serve with --max-lora-rank {rank}, re-rank it (legion adapter rerank), or merge it: --form merged",
        )
    if adapter.use_dora:
        return stage.say("bounded", "canonical-lora", "DoRA's change is not of low rank; its best LoRA is an SVD of it")
    return stage.exact(
        "canonical-lora", "one rank, alpha equal to it, the scale inside B: every reader computes the same"
    )


def _plan_peft(stage: _Stage, adapter: PeftArchitecture, form: Form | None) -> PortabilityPlan:
    if form == "canonical-lora":
        if not _serves_lora(stage):
            return stage.impossible(f"{stage.target} is given no LoRA folder here", "merge it: --form merged")
        reason = f"{adapter.strategy}'s change of a weight becomes the best LoRA by SVD"
        return stage.say("bounded", "canonical-lora", reason)
    return _plan_changed_weights(stage, form)


def _plan_changed_weights(stage: _Stage, form: Form | None) -> PortabilityPlan:
    """Methods that end in another weight of the same shape."""
    if stage.target == "peft" and form in (None, "peft-adapter"):
        return stage.exact("peft-adapter", "PEFT's own files")
    if form == "peft-adapter":
        return stage.impossible(f"{stage.target} reads no PEFT folder of this kind", "merge it: --form merged")
    if form not in (None, "merged"):
        raise InvalidValueError(f"this adapter cannot take the form {form}", cause="it is merged, or a canonical-lora")
    if stage.target == "peft":
        return stage.impossible("a merged model holds no adapter for PEFT to load", "use --to hf")
    return stage.exact("merged", "the change is added to the base's weights")


def _plan_bottleneck(stage: _Stage, adapter: AdapterArchitecture) -> PortabilityPlan:
    if stage.target == "peft":
        return _no_tuner(stage)
    if adapter.placement == "seq":
        return stage.impossible(
            "it reads the feed-forward network's output alone, which no stock block passes on",
            "train it with placement par or seq_layer",
        )
    mistake = _unfit_bottleneck(stage, adapter.non_linearity, is_gated=adapter.is_gated)
    if mistake is not None:
        return mistake
    if adapter.placement == "par":
        return stage.exact("wider-ffn", "beside the feed-forward network it is more units of that network")
    if not stage.base.is_pre_norm:
        return stage.impossible(
            f"a block of {stage.base.anatomy.model_type} ends in a norm, so none can pass its input on unchanged",
            "train it with placement par",
        )
    return stage.exact("extra-layers", "behind a block it is one more block whose attention is silent")


def _plan_combined(stage: _Stage, adapter: CombinedArchitecture) -> PortabilityPlan:
    """The form is the bottleneck's: the LoRA merges into the same checkpoint."""
    _, above = adapter.parts(stage.base.anatomy.num_layers)
    planned = _plan_bottleneck(stage, above)
    told = "below, its LoRA is merged; above" if planned.is_possible else "above its boundary"
    return planned if stage.target == "peft" else planned.model_copy(update={"reason": f"{told}, {planned.reason}"})


def _plan_average(stage: _Stage, adapter: MoEArchitecture) -> PortabilityPlan:
    if stage.target == "peft":
        return _no_tuner(stage)
    mistake = _unfit_bottleneck(stage, adapter.non_linearity, is_gated=adapter.is_gated)
    reason = "its experts' average is one bottleneck beside the feed-forward network: more units of that network"
    return mistake or stage.exact("wider-ffn", reason)


def _unfit_bottleneck(stage: _Stage, non_linearity: str, *, is_gated: bool) -> PortabilityPlan | None:
    """Why the base's feed-forward network cannot grow by these units, or None."""
    anatomy = stage.base.anatomy
    own = anatomy.non_linearity
    if stage.base.ffn_width_key is None:
        return stage.impossible(f"the config of {anatomy.model_type} does not say how wide its network is")
    if non_linearity != own:
        return stage.impossible(f"its {non_linearity} is not the base's {own}", f"train it with non_linearity {own}")
    if is_gated and not anatomy.is_ffn_gated:
        return stage.impossible(f"the feed-forward network of {anatomy.model_type} is not gated")
    if not is_gated and not stage.base.takes_ffn_biases:
        return stage.impossible(
            f"a plain bottleneck has biases, for which the feed-forward network of {anatomy.model_type} has no place",
            "train it with is_gated true",
        )
    return None


def _plan_mixture(stage: _Stage, adapter: MoEArchitecture) -> PortabilityPlan:
    if stage.target == "peft":
        return _no_tuner(stage)
    obstacles = stage.base.obstacles_to_mixture()
    if obstacles:
        return stage.impossible(
            f"Qwen2-MoE cannot hold this base: {'; '.join(obstacles)}", "train it with routing random"
        )
    if not adapter.is_gated or adapter.non_linearity != "silu":
        return stage.impossible(
            "Qwen2-MoE's experts are gated with silu and have no biases", "train it with is_gated true"
        )
    return stage.exact("qwen2-moe", "the frozen network is the shared expert, the bottlenecks are the routed ones")


def _plan_split(stage: _Stage, adapter: SplitArchitecture) -> PortabilityPlan:
    if stage.target == "peft":
        return _no_tuner(stage)
    obstacles = stage.base.obstacles_to_mixture()
    if obstacles:
        return stage.impossible(f"Mixtral cannot hold this base: {'; '.join(obstacles)}")
    if adapter.layers is not None and adapter.strategy == "SparseRouting":
        return stage.impossible("Mixtral leaves out experts in every block or in none", "train it on all layers")
    return stage.exact("mixtral", "the experts are the network's own units, in Mixtral's order")


def _plan_virtual_tokens(stage: _Stage, adapter: VirtualTokensArchitecture) -> PortabilityPlan:
    if stage.target == "peft":
        return stage.exact("peft-adapter", "PEFT's own files")
    return stage.impossible(
        f"{adapter.strategy} changes no weight: its virtual tokens are no part of a stock checkpoint", "use --to peft"
    )


def _no_tuner(stage: _Stage) -> PortabilityPlan:
    return stage.impossible(f"stock PEFT has no {stage.adapter.strategy}", "transformers serves it: --to hf")
