"""Everything that one evaluation loads once: data, sample, the bare base, and the model that adapters go onto."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from legion.foundation.canonical import short
from legion.foundation.errors import UsageError, WorldError
from legion.foundation.machine import available_cores
from legion.foundation.progress import Progress
from legion.foundation.rng import RandomStream
from legion.foundation.settings import Settings
from legion.neuro_architecture.adapters import load_adapter, remove_adapter
from legion.neuro_architecture.data.base_models import BaseModel, resolve_base
from legion.neuro_architecture.data.datasets import DataSet, read_data
from legion.neuro_architecture.data.encoding import TaskEncoder
from legion.neuro_architecture.evaluator.baseline import BareBase
from legion.neuro_architecture.evaluator.candidates import Candidate, CommonGround
from legion.neuro_architecture.evaluator.config import EvaluatorConfig
from legion.neuro_architecture.evaluator.cost import running_cost, weight_file_bytes
from legion.neuro_architecture.evaluator.forgetting import forgetting, plain_losses
from legion.neuro_architecture.evaluator.inference import Answer, Answerer, Classifier, Writer, on_device
from legion.neuro_architecture.evaluator.latency import Timings, latency_measurements, time_interleaved
from legion.neuro_architecture.evaluator.outcome import Outcome, accuracy_gain, judge, mean_with_error
from legion.neuro_architecture.evaluator.packed import PackedClassifier
from legion.neuro_architecture.evaluator.sample import Sample, draw_sample
from legion.neuro_architecture.packed.dispatch import choose_dispatch
from legion.neuro_architecture.spec.evaluation import UNMEASURED
from legion.neuro_architecture.spec.measurement import Measurement

__all__ = ["Measured", "Workbench", "threads"]


@dataclass(frozen=True, slots=True)
class Measured:
    """What was found of one candidate; `plain_losses` in nats a token of each plain text, none for a classifier."""

    measurements: dict[str, Measurement]
    outcome: Outcome
    per_group: dict[str, Measurement]
    plain_losses: tuple[float, ...]


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """Lets torch use `count` threads inside (0: one for each core), and gives the number back afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or available_cores())
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _device(settings: Settings) -> torch.device:
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise WorldError("device cuda was asked for and torch finds none", hint="set LEGION_DEVICE=cpu")
    wanted = "cuda" if settings.device == "auto" and torch.cuda.is_available() else settings.device
    return torch.device("cpu" if wanted == "auto" else wanted)


@final
class Workbench:
    """Measures the bare base once and then one candidate at a time, all on the same sample. For one thread.

    Classifiers may be asked all at once before (`answer_together`); what else is measured, and whatever a causal model
    writes, is each candidate's own work.

    Args:
        ground: The base and data of all candidates.
        settings: Device, home, limits.
        config: Sizes of the samples, or None for the task's defaults.
        seed: Draws the samples.
        progress: Told of long parts.

    Raises:
        UsageError: base or data are no longer those that the candidates were trained on.
    """

    def __init__(
        self, ground: CommonGround, settings: Settings, config: EvaluatorConfig | None, seed: int, progress: Progress
    ) -> None:
        self.data: DataSet = read_data(ground.data_folder)
        _same("data", ground.data_folder, self.data.digest, ground.data_digest)
        self.base: BaseModel = resolve_base(ground.base.name, settings)
        _same("base model", ground.base.name, self.base.reference.digest, ground.base.digest)
        self.config = config or EvaluatorConfig.for_task(self.data.spec.kind, settings)
        self.device = _device(settings)
        self._stream = RandomStream(seed).child("evaluator")
        self.sample: Sample = draw_sample(self.data, self.config, self._stream)
        self._tokenizer = self.base.tokenizer()
        self._max_tokens = min(self.base.max_tokens, self.config.max_tokens)
        self._encoder = TaskEncoder(self._tokenizer, self.data.spec, max_tokens=self._max_tokens)
        self._bare = self._load()
        self._model = self._load()
        self._settings = settings
        self._progress = progress
        self._answers: dict[str, list[Answer]] = {}
        self._is_writing = self.data.spec.kind == "summarization"
        self.bare_base = BareBase(
            base=self.base,
            data=self.data,
            encoder=self._encoder,
            config=self.config,
            settings=settings,
            device=self.device,
            writer=self._answerer(self._bare) if self._is_writing else None,
            progress=progress,
        )

    def _load(self) -> Any:
        return self.base.load(self.data.spec).to(self.device).eval()

    def _answerer(self, model: Any) -> Answerer:
        if self.data.spec.kind == "classification":
            return Classifier(model, self._encoder, self.config.batch_size)
        return Writer(
            model=model,
            encoder=self._encoder,
            tokenizer=self._tokenizer,
            batch_size=self.config.batch_size,
            max_new_tokens=self.config.max_new_tokens,
            max_positions=self.base.max_tokens,
        )

    def _single_batches(self, texts: tuple[str, ...]) -> list[dict[str, Tensor]]:
        encoded = [self._encoder.encode_text(text) for text in texts]
        return [on_device(self._encoder.collate_prompts([tokens]), self.device) for tokens in encoded]

    @property
    def num_examples(self) -> int:
        """Of the split that is measured on."""
        return len(self.data.validation if self.config.split == "validation" else self.data.test)

    def measure_base(self) -> tuple[Measured, int]:
        """The bare base but for its latency, which is timed beside each candidate; and how many answers were reused."""
        answers, reused = self.bare_base.answer(self.sample.texts())
        outcome = judge(answers, self.sample, self.data.spec, self.config)
        size = Measurement.measured(weight_file_bytes(self.base.folder), "bytes", n=1)
        measurements = self._answered(outcome)
        measurements |= running_cost(self._bare, self._single_batches(self.sample.counted)) | {
            "size_on_disk_bytes": size
        }
        losses = self._plain_losses(self._bare)
        measurements |= _plain(losses)
        return Measured(measurements, outcome, outcome.per_group(self.sample, self.data.spec), losses), reused

    def answer_together(self, candidates: Sequence[Candidate]) -> None:
        """Asks all candidates that can be measured in one pass over the base, for `measure` to use.

        Classification only: text is written token by token, each candidate's by itself. A candidate whose adapter
        cannot be loaded is passed over here; `measure` says what is wrong with it.
        """
        if self.data.spec.kind != "classification":
            return
        folders = {item.run: item.folder.adapter_folder for item in candidates if item.reason is None}
        together = PackedClassifier(
            model=self._bare,
            base=self.base.reference,
            encoder=self._encoder,
            batch_size=self.config.batch_size,
            dispatch=choose_dispatch(self._settings, self.device),
        )
        self._progress.start(f"answers of {len(folders)} candidates", len(folders))
        self._answers = together.answer(folders, self.sample.texts(), self._progress.advance)
        self._progress.finish()

    def measure(self, candidate: Candidate, base: Measured) -> tuple[Measured, Timings]:
        """The candidate beside the bare base.

        Raises:
            AdapterError: its files are damaged or do not fit the base.
        """
        adapted = load_adapter(self._model, candidate.folder.adapter_folder, base=self.base.reference)
        try:
            adapted.eval()
            return self._measure(adapted, candidate, base)
        finally:
            self._model = remove_adapter(adapted)

    def _measure(self, adapted: Any, candidate: Candidate, base: Measured) -> tuple[Measured, Timings]:
        answers = self._answers.get(candidate.run) or self._answerer(adapted).answer(self.sample.texts())
        outcome = judge(answers, self.sample, self.data.spec, self.config)
        timed = self._single_batches(self.sample.timed)
        timings = time_interleaved(adapted, self._bare, timed, warmup=self.config.latency_warmup)
        adapter_bytes = weight_file_bytes(candidate.folder.adapter_folder)
        measurements = self._answered(outcome) | accuracy_gain(outcome, base.outcome)
        measurements |= latency_measurements(timings, self._stream.child("bootstrap"))
        measurements |= running_cost(adapted, self._single_batches(self.sample.counted))
        measurements["adapter_size_bytes"] = Measurement.measured(adapter_bytes, "bytes", n=1)
        whole = adapter_bytes + (base.measurements["size_on_disk_bytes"].value or 0.0)
        measurements["size_on_disk_bytes"] = Measurement.measured(whole, "bytes", n=1)
        losses = self._plain_losses(adapted)
        measurements |= _plain(losses)
        reason = UNMEASURED[self.data.spec.kind].get("forgetting")
        measurements["forgetting"] = (
            forgetting(losses, base.plain_losses) if reason is None else Measurement.absent("nats", reason)
        )
        measurements |= {f"base_{name}": item for name, item in base.measurements.items()}
        return Measured(measurements, outcome, outcome.per_group(self.sample, self.data.spec), losses), timings

    def _plain_losses(self, model: Any) -> tuple[float, ...]:
        if not self._is_writing:
            return ()
        return plain_losses(model, self._encoder, self.sample.plain, batch_size=self.config.batch_size)

    def _answered(self, outcome: Outcome) -> dict[str, Measurement]:
        return {
            "accuracy": outcome.accuracy(),
            "safety_violations": outcome.safety_violations(),
            "robustness": outcome.robustness(self.sample),
        }


def _plain(losses: tuple[float, ...]) -> dict[str, Measurement]:
    """The mean over the texts, where there are any and all are finite."""
    if not losses:
        return {}
    if not all(map(math.isfinite, losses)):
        return {"plain_loss": Measurement.absent("nats", "the loss on plain text is not finite")}
    return {"plain_loss": mean_with_error(losses, "nats")}


def _same(what: str, name: object, found: str, recorded: str) -> None:
    if found != recorded:
        raise UsageError(
            f"{what} {name} is no longer what the runs were trained on",
            cause=f"digest {short(found)} now, {short(recorded)} in the runs' records",
            hint="bring it back, or train again on what is there now",
        )
