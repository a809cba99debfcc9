"""Every strategy beside every target: what `plan` says, for a base or for the three families that are proven."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

from legion.neuro_architecture.anatomy import inspect_model
from legion.neuro_architecture.portability.base_facts import BaseFacts
from legion.neuro_architecture.portability.plan import plan
from legion.neuro_architecture.portability.values import TARGETS, PortabilityPlan, Target
from legion.neuro_architecture.spec.architecture import AnyArchitecture, parse_architecture, strategy_names

__all__ = ["FAMILIES", "MatrixRow", "family_facts", "portability_matrix", "render_matrix", "variants"]

FAMILIES: Final = ("llama", "gpt2", "bert")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixRow:
    """One variant of a strategy on one base.

    Attributes:
        label: The variant, as a person says it.
        architecture: The variant.
        plans: What becomes of it at each target.
    """

    label: str
    architecture: AnyArchitecture
    plans: Mapping[Target, PortabilityPlan]


def variants(facts: BaseFacts) -> dict[str, AnyArchitecture]:
    """The forms of every strategy that portability tells apart, sized for any base, with the base's own activation."""
    own = facts.anatomy.non_linearity
    other = "relu" if own != "relu" else "gelu"
    gated: dict[str, Any] = {"is_gated": True, "non_linearity": own}
    adapter: dict[str, Any] = {"strategy": "Adapter", "bottleneck_size": 8, "non_linearity": own}
    mixture: dict[str, Any] = {"strategy": "MoE", "num_experts": 4, "bottleneck_size": 8, "non_linearity": own}
    combined: dict[str, Any] = {"strategy": "Combined", "rank": 4, "bottleneck_size": 8, "non_linearity": own}
    lora: dict[str, Any] = {"strategy": "LoRA", "rank": 4}
    configs: dict[str, dict[str, Any]] = {
        "LoRA": lora,
        "LoRA, rsLoRA": lora | {"use_rslora": True},
        "LoRA, DoRA": lora | {"use_dora": True},
        "Adapter, par, gated": adapter | gated,
        "Adapter, par, plain": adapter,
        f"Adapter, par, plain {other}": adapter | {"non_linearity": other},
        "Adapter, seq": adapter | {"placement": "seq"},
        "Adapter, seq_layer, gated": adapter | gated | {"placement": "seq_layer"},
        "Adapter, seq_layer, plain": adapter | {"placement": "seq_layer"},
        "MoE, gated": mixture | gated,
        "MoE, plain": mixture,
        "MoE, random routing, gated": mixture | gated | {"routing": "random", "top_k": 1},
        "MoE, random routing, plain": mixture | {"routing": "random", "top_k": 1},
        "SplitLayer": {"strategy": "SplitLayer", "num_experts": 4, "rank": 4},
        "SparseRouting": {"strategy": "SparseRouting", "num_experts": 4, "top_k": 2, "rank": 4},
        "Combined, par, gated": combined | gated,
        "Combined, par, plain": combined,
        "Combined, seq": combined | {"placement": "seq"},
        "Combined, seq_layer, gated": combined | gated | {"placement": "seq_layer"},
        "Combined, seq_layer, plain": combined | {"placement": "seq_layer"},
    }
    told = {config["strategy"] for config in configs.values()}
    configs |= {name: {"strategy": name} for name in strategy_names() if name not in told}
    return {label: parse_architecture(config) for label, config in configs.items()}


def portability_matrix(facts: BaseFacts, targets: Sequence[Target] = TARGETS) -> list[MatrixRow]:
    """A row for each variant of each strategy."""
    return [
        MatrixRow(
            label=label,
            architecture=architecture,
            plans={target: plan(architecture, facts, target) for target in targets},
        )
        for label, architecture in variants(facts).items()
    ]


def family_facts(family: str) -> BaseFacts:
    """A small base of a proven family, as the published matrix means it: a causal Llama or GPT-2, a BERT classifier."""
    import torch
    import transformers

    shared = {"vocab_size": 64}
    with torch.device("meta"):
        match family:
            case "llama":
                model: Any = transformers.LlamaForCausalLM(
                    transformers.LlamaConfig(
                        **shared, hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4
                    )
                )
            case "gpt2":
                config = transformers.GPT2Config(
                    **shared, n_embd=128, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0
                )
                model = transformers.GPT2LMHeadModel(config)
            case _:
                model = transformers.BertForSequenceClassification(
                    transformers.BertConfig(
                        **shared, hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4
                    )
                )
    return BaseFacts(
        name=family,
        kind="classification" if family == "bert" else "summarization",
        anatomy=inspect_model(model),
        config=model.config.to_dict(),
    )


def render_matrix(facts: BaseFacts, rows: Sequence[MatrixRow]) -> str:
    """The matrix as a Markdown table, with every reason why something is impossible below it."""
    lines = [f"| on {facts.anatomy.model_type} | {' | '.join(TARGETS)} |", "|---" * (len(TARGETS) + 1) + "|"]
    lines += [f"| {row.label} | {' | '.join(_cell(row.plans[target]) for target in TARGETS)} |" for row in rows]
    return "\n".join([*lines, "", *_notes(rows)]) + "\n"


def _notes(rows: Sequence[MatrixRow]) -> list[str]:
    """Each reason once, with the variants and targets it stands for; `all but` where that is shorter."""
    where: dict[str, dict[str, list[Target]]] = {}
    for row in rows:
        for target, planned in row.plans.items():
            if not planned.is_possible:
                where.setdefault(planned.reason, {}).setdefault(row.label, []).append(target)
    notes = []
    for reason, targets_of in where.items():
        groups: dict[tuple[Target, ...], list[str]] = {}
        for label, targets in targets_of.items():
            groups.setdefault(tuple(targets), []).append(label)
        told = [f"{_some(labels, rows)} at {_every(targets)}" for targets, labels in groups.items()]
        notes.append(f"- {'; '.join(told)}: {reason}.")
    return notes


def _some(labels: Sequence[str], rows: Sequence[MatrixRow]) -> str:
    others = [row.label for row in rows if row.label not in labels]
    if len(others) < len(labels):
        return "all" if not others else f"all but {_listed(others)}"
    return _listed(labels)


def _listed(labels: Sequence[str]) -> str:
    """Labels hold commas themselves."""
    return " / ".join(labels)


def _every(targets: Sequence[Target]) -> str:
    missing = [target for target in TARGETS if target not in targets]
    if not missing:
        return "every target"
    return f"all but {missing[0]}" if len(missing) == 1 else ", ".join(targets)


def _cell(planned: PortabilityPlan) -> str:
    """The stock form, with the bound where it is not exact; a dash where there is none."""
    if planned.form is None:
        return "—"
    if planned.verdict == "exact":
        return planned.form
    return f"{planned.form}, bounded" + ("" if planned.bound is None else f" by {planned.bound:g}")
