"""B0 and B1: Optuna, PEFT and the Hugging Face Trainer, one trial after another in one process.

B0 is written as their documentation teaches: each objective loads the base with `from_pretrained`, wraps it with
`get_peft_model`, trains and evaluates with `Trainer`, pads each batch to its longest row, and saves the adapter.
TrainingArguments keep their defaults, but for the recipe that all systems share. Optuna trains the workload's list,
enqueued. Bottlenecks and mixtures, which PEFT has not, are this project's PEFT tuners in the same Trainer.

B1 is B0 tuned by hand: the base stays in memory, batches are those of like length that the packed trainer takes too,
validation is sorted by length, attention is eager (on an accelerator torch's own), and the weights may be bf16.

To the baselines' advantage, the base's dropouts are 0 as everywhere here, and nothing but the adapter is saved.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import optuna
import torch
import transformers
from benchmarks.population.hf_trainer import BenchTrainer, count_hits, list_data
from benchmarks.population.places import Outcome, Place
from benchmarks.population.workloads import Trial, Workload
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, TrainingArguments

from legion.neuro_architecture.adapters import build_adapter, remove_adapter
from legion.neuro_architecture.data.base_models import BaseModel, resolve_base
from legion.neuro_architecture.data.datasets import read_data
from legion.neuro_architecture.spec.architecture import LoRAArchitecture

__all__ = ["Baseline", "prepare_b0", "prepare_b0_autocast", "prepare_b1_bf16", "prepare_b1_fp32"]

Kind = Literal["B0", "B1"]
_ALL_LINEAR: Final = {
    "bert": ("query", "key", "value", "dense"),
    "llama": ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
}
_PARTS: Final = ("load", "adapt", "train", "evaluate", "save")


def prepare_b0(workload: Workload, place: Place) -> Callable[[], Outcome]:
    """The defaults."""
    return _prepared(Baseline(workload, place, kind="B0", dtype=torch.float32))


def prepare_b0_autocast(workload: Workload, place: Place) -> Callable[[], Outcome]:
    """The defaults with `bf16=True`, as the documentation asks for on accelerators."""
    return _prepared(Baseline(workload, place, kind="B0", dtype=torch.float32, is_autocast=True))


def prepare_b1_fp32(workload: Workload, place: Place) -> Callable[[], Outcome]:
    """Tuned, fp32."""
    return _prepared(Baseline(workload, place, kind="B1", dtype=torch.float32))


def prepare_b1_bf16(workload: Workload, place: Place) -> Callable[[], Outcome]:
    """Tuned, bf16 weights."""
    return _prepared(Baseline(workload, place, kind="B1", dtype=torch.bfloat16))


def _prepared(baseline: Baseline) -> Callable[[], Outcome]:
    transformers.logging.set_verbosity_error()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return baseline.run


@dataclass(slots=True)
class _Timed:
    """Seconds of each part, summed over the trials, and of each trial."""

    parts: dict[str, float] = field(default_factory=lambda: dict.fromkeys(_PARTS, 0.0))
    trials: list[float] = field(default_factory=list)

    def measure(self, part: str, work: Callable[[], Any]) -> Any:
        began_s = time.perf_counter()
        done = work()
        self.parts[part] += time.perf_counter() - began_s
        return done


class Baseline:
    """A study over the workload's trials.

    Args:
        workload: What is trained.
        place: Where data lie and adapters go.
        kind: B0 or B1.
        dtype: Of the base's weights and the adapter's.
        is_autocast: Whether the Trainer computes in bf16 beside weights in fp32.
    """

    def __init__(
        self, workload: Workload, place: Place, *, kind: Kind, dtype: torch.dtype, is_autocast: bool = False
    ) -> None:
        self._workload = workload
        self._place = place
        self._is_tuned = kind == "B1"
        self._dtype = dtype
        self._is_autocast = is_autocast
        self._is_on_cpu = place.settings.device == "cpu"
        self._timed = _Timed()
        self._found: list[dict[str, float]] = []
        self._kept: Any = None

    def run(self) -> Outcome:
        """Reads and encodes the data once, then one objective call a trial."""
        workload = self._workload
        base = resolve_base(workload.base, self._place.settings)
        data = read_data(self._place.data)
        self._base, self._spec = base, data.spec
        self._tokenizer = base.tokenizer()
        self._train = list_data(data.train, self._tokenizer, data.spec, workload.max_tokens)
        self._validation = list_data(data.validation, self._tokenizer, data.spec, workload.max_tokens)
        if self._is_tuned:
            self._validation.sort(key=lambda row: len(row["input_ids"]))
        study = optuna.create_study(direction="maximize")
        for index in range(len(workload.trials)):
            study.enqueue_trial({"index": index})
        study.optimize(self._objective, n_trials=len(workload.trials))
        return Outcome(
            losses=[found["eval_loss"] for found in self._found],
            accuracies=[found["eval_accuracy"] for found in self._found if "eval_accuracy" in found],
            trial_s=self._timed.trials,
            record={"parts_s": self._timed.parts, "steps": [found["steps"] for found in self._found]},
        )

    def _objective(self, optuna_trial: optuna.Trial) -> float:
        index = optuna_trial.suggest_int("index", 0, len(self._workload.trials) - 1)
        trial, timed = self._workload.trials[index], self._timed
        began_s = time.perf_counter()
        transformers.set_seed(0)
        model = timed.measure("load", self._model)
        head = copy.deepcopy(getattr(model, "classifier", None)) if self._is_tuned else None
        adapted = timed.measure("adapt", lambda: self._adapt(model, trial))
        trainer = self._trainer(adapted, trial, index)
        timed.measure("train", trainer.train)
        found = timed.measure("evaluate", trainer.evaluate)
        timed.measure("save", lambda: adapted.save_pretrained(str(self._place.workspace / "adapters" / str(index))))
        if self._is_tuned:
            timed.measure("adapt", lambda: self._take_off(adapted, trial, head))
        timed.trials.append(time.perf_counter() - began_s)
        self._found.append(found | {"steps": trainer.state.global_step})
        return float(found.get("eval_accuracy", -found["eval_loss"]))

    def _model(self) -> Any:
        """B0: loaded anew. B1: the one in memory."""
        if self._kept is not None:
            return self._kept
        model = load_model(self._base, self._spec, dtype=self._dtype, is_eager=self._is_tuned and self._is_on_cpu)
        self._kept = model if self._is_tuned else None
        return model

    def _adapt(self, model: Any, trial: Trial) -> Any:
        architecture = trial.architecture
        if not isinstance(architecture, LoRAArchitecture):
            return build_adapter(architecture).apply(model)
        config = LoraConfig(
            r=architecture.rank,
            lora_alpha=architecture.alpha,
            lora_dropout=0.0,
            target_modules=_targets(architecture, model.config.model_type),
            layers_to_transform=list(architecture.layers or range(model.config.num_hidden_layers)),
            task_type="SEQ_CLS" if self._spec.kind == "classification" else "CAUSAL_LM",
        )
        return get_peft_model(model, config, autocast_adapter_dtype=False)

    def _take_off(self, adapted: Any, trial: Trial, head: Any) -> None:
        """The bare base again; PEFT leaves the trained head in the place of the fresh one."""
        if not isinstance(trial.architecture, LoRAArchitecture):
            remove_adapter(adapted)
            return
        self._kept = adapted.unload()
        if head is not None:
            self._kept.classifier = head
        for weight in self._kept.parameters():
            weight.requires_grad_(True)

    def _trainer(self, model: Any, trial: Trial, index: int) -> BenchTrainer:
        workload = self._workload
        arguments = TrainingArguments(
            output_dir=str(self._place.workspace / "trainer" / str(index)),
            max_steps=workload.steps,
            learning_rate=trial.recipe.learning_rate,
            weight_decay=trial.recipe.weight_decay,
            warmup_steps=round(trial.recipe.warmup_share * workload.steps),
            max_grad_norm=trial.recipe.max_gradient_norm,
            per_device_train_batch_size=trial.recipe.batch_size,
            per_device_eval_batch_size=workload.validation_batch_size,
            save_strategy="no",
            report_to=[],
            use_cpu=self._is_on_cpu,
            bf16=self._is_autocast,
            dataloader_pin_memory=not self._is_on_cpu,  # it would only warn, without an accelerator
            disable_tqdm=True,
            seed=0,
        )
        return BenchTrainer(
            model=model,
            args=arguments,
            train_dataset=self._train,
            eval_dataset=self._validation,
            processing_class=self._tokenizer,
            kind=self._spec.kind,
            is_bucketed=self._is_tuned,
            compute_metrics=count_hits if self._spec.kind == "classification" else None,
        )


def load_model(base: BaseModel, spec: Any, *, dtype: torch.dtype, is_eager: bool) -> Any:
    """`from_pretrained` with the attention that transformers chooses (sdpa), or eager."""
    named: dict[str, Any] = {"dtype": dtype}
    if is_eager:
        named["attn_implementation"] = "eager"
    if spec.kind != "classification":
        return AutoModelForCausalLM.from_pretrained(str(base.folder), **named)
    named |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return AutoModelForSequenceClassification.from_pretrained(str(base.folder), num_labels=len(spec.labels), **named)


def _targets(architecture: LoRAArchitecture, model_type: str) -> list[str]:
    """PEFT takes "all-linear" for whole models only: where layers are chosen, the names are spelled out."""
    is_all = architecture.target_modules == ("all-linear",)
    return list(_ALL_LINEAR[model_type] if is_all else architecture.target_modules)
