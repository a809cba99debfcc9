"""From a trained adapter to a folder that a stock engine serves, proven before it is published."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from legion.foundation.canonical import digest_file
from legion.foundation.errors import AdapterError, NotPortableError, UsageError
from legion.foundation.files import publish_folder, read_json, write_json, write_text
from legion.foundation.progress import Progress, SilentProgress
from legion.foundation.settings import Settings
from legion.neuro_architecture.adapters.saving import CONFIG_NAME, WEIGHTS_NAME, AdapterRecord
from legion.neuro_architecture.adapters.saving import RECORD_NAME as ADAPTER_RECORD_NAME
from legion.neuro_architecture.data.base_models import BaseModel
from legion.neuro_architecture.portability.artefact import (
    CARD_NAME,
    CERTIFICATE_NAME,
    MODELFILE_NAME,
    RECORD_NAME,
    REFERENCE_NAME,
    ArtefactRecord,
    digest_files,
)
from legion.neuro_architecture.portability.base_facts import read_base_facts
from legion.neuro_architecture.portability.card import Origin, render_card, serving_lines
from legion.neuro_architecture.portability.certificate import ParityCertificate, refuse_different
from legion.neuro_architecture.portability.certify import TrainedAnswers, ask_trained, certify, open_point
from legion.neuro_architecture.portability.engines import engine_for
from legion.neuro_architecture.portability.engines.contract import Engine
from legion.neuro_architecture.portability.engines.ollama import modelfile
from legion.neuro_architecture.portability.fold import fold
from legion.neuro_architecture.portability.lora_rules import server_rank
from legion.neuro_architecture.portability.plan import LARGEST_VLLM_RANK, plan
from legion.neuro_architecture.portability.trained import load_trained
from legion.neuro_architecture.portability.values import Form, PortabilityPlan, Target
from legion.neuro_architecture.spec.task import TaskKind

__all__ = ["Exported", "export_adapter", "plan_folder"]

_STEPS: Final = 4


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A published artefact.

    Attributes:
        folder: Where it is.
        plan: What was promised.
        record: What it is.
        certificate: The proof, or None.
        reason: Why there is no proof, with the command that makes one possible; or what the proof leaves open.
        serving: Commands that serve it.
    """

    folder: Path
    plan: PortabilityPlan
    record: ArtefactRecord
    certificate: ParityCertificate | None
    reason: str | None
    serving: tuple[str, ...]


def plan_folder(
    adapter_folder: Path,
    base: BaseModel,
    target: Target,
    *,
    kind: TaskKind,
    form: Form | None = None,
    max_lora_rank: int = LARGEST_VLLM_RANK,
) -> PortabilityPlan:
    """The plan for a trained adapter's folder, without loading its weights.

    Raises:
        AdapterError: the adapter was made for another base.
        InvalidValueError: the folder's record cannot be read.
    """
    record = AdapterRecord.parse(read_json(adapter_folder / ADAPTER_RECORD_NAME), what=ADAPTER_RECORD_NAME)
    if record.base is not None and record.base.digest != base.reference.digest:
        raise AdapterError(
            f"the adapter was not made for {base.reference.name}",
            cause=f"made for {record.base.digest}, this is {base.reference.digest}",
        )
    return plan(record.architecture, read_base_facts(base, kind), target, form=form, max_lora_rank=max_lora_rank)


def export_adapter(
    adapter_folder: Path,
    base: BaseModel,
    target: Target,
    out: Path,
    *,
    settings: Settings,
    kind: TaskKind,
    origin: Origin,
    labels: Sequence[str] = (),
    form: Form | None = None,
    max_lora_rank: int = LARGEST_VLLM_RANK,
    engine: Engine | str | None = None,
    progress: Progress | None = None,
) -> Exported:
    """Folds, certifies where the engine is installed, and publishes `out` whole or not at all.

    Args:
        adapter_folder: As training wrote it.
        base: The base it was trained on; its digest must be the recorded one.
        target: Who is to serve it.
        out: The new folder; an earlier export there is replaced.
        settings: Where engines are looked for.
        kind: What the adapter was trained for.
        origin: What the card says of where it comes from.
        labels: Class names, for a classifier.
        form: A stock form to insist on.
        max_lora_rank: The largest rank that the server takes.
        engine: An engine to certify with, or the reason why there is none; by default the installed one.
        progress: Is told of each step.

    Raises:
        NotPortableError: the target cannot take it.
        ParityError: the engine's answers differ from the trained form's.
        AdapterError: the adapter is damaged or was made for another base.
        EngineError: the engine died.
        UsageError: `out` holds something else.
    """
    _refuse_foreign(out)
    listener = progress or SilentProgress()
    planned = plan_folder(adapter_folder, base, target, kind=kind, form=form, max_lora_rank=max_lora_rank)
    if not planned.is_possible:
        raise NotPortableError(f"{target} cannot serve this adapter", cause=planned.reason, hint=planned.remedy)
    listener.start(f"export to {target}", _STEPS)
    trained = load_trained(adapter_folder, base, kind=kind, labels=labels)
    answers = ask_trained(trained, base.tokenizer(), max_tokens=base.max_tokens)
    listener.advance(1, step="asked the trained form")
    chosen = engine_for(target, settings) if engine is None else engine
    done: list[Exported] = []

    def fill(fresh: Path) -> None:
        errors = fold(trained, planned, fresh, adapter_folder=adapter_folder, max_lora_rank=max_lora_rank)
        if target == "ollama":
            write_text(fresh / MODELFILE_NAME, modelfile("model.gguf", checkpoint=base.folder))
        write_json(fresh / REFERENCE_NAME, answers.reference.to_dict())
        record = ArtefactRecord(
            target=target,
            form=planned.form or "merged",
            verdict=planned.verdict,
            bound=planned.bound,
            kind=kind,
            labels=tuple(labels),
            base=base.reference,
            architecture=trained.architecture,
            adapter_digest=digest_file(adapter_folder / WEIGHTS_NAME),
            weight_errors=errors,
            files=digest_files(fresh),
        )
        write_json(fresh / RECORD_NAME, record.to_dict())
        listener.advance(2, step=f"folded into {record.form}")
        certificate, reason = _certify(record, fresh, chosen, answers, base, planned)
        listener.advance(3, step="certified" if certificate else "not certified")
        serving = serving_lines(record, out, base=str(base.folder), name=origin.name, rank=_rank(fresh, target))
        card = render_card(record, planned, origin, certificate, reason=reason, serving=serving)
        write_text(fresh / CARD_NAME, card)
        done.append(
            Exported(
                folder=out, plan=planned, record=record, certificate=certificate, reason=reason, serving=tuple(serving)
            )
        )

    publish_folder(out, fill)
    listener.advance(_STEPS, step="published")
    listener.finish(f"{out}")
    return done[0]


def _certify(
    record: ArtefactRecord,
    fresh: Path,
    engine: Engine | str,
    answers: TrainedAnswers,
    base: BaseModel,
    planned: PortabilityPlan,
) -> tuple[ParityCertificate | None, str | None]:
    if isinstance(engine, str):
        return None, engine
    certificate = certify(
        record,
        fresh,
        engine,
        questions=answers.questions,
        expected=answers.replies,
        reference=answers.reference,
        base_folder=base.folder,
    )
    if planned.verdict == "exact" or planned.bound is not None:
        refuse_different(certificate)
    write_json(fresh / CERTIFICATE_NAME, certificate.to_dict())
    return certificate, open_point(record.target)


def _rank(folder: Path, target: Target) -> int | None:
    """The `--max-lora-rank` that vLLM needs for a LoRA folder, or None for anything else."""
    if target != "vllm" or not (folder / CONFIG_NAME).is_file():
        return None
    return server_rank(read_json(folder / CONFIG_NAME)["r"])


def _refuse_foreign(out: Path) -> None:
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / RECORD_NAME).is_file())):
        raise UsageError(f"{out} is in the way", cause="it is no earlier export", hint="name another folder: -o DIR")
