"""Live searches by the clock: how soon each reaches the hypervolume that Optuna with defaults reaches.

    python -m benchmarks.search.live [--arms ours moasha b0] [--trials 64] [--minutes 30] [--out DIR]
                                       [--note TEXT]

`b0`: Optuna's TPE within LoRA, each trial by PEFT and the Hugging Face Trainer with their defaults, one after another.
`moasha`: Syne Tune's MO-ASHA over the whole space, each trial by the hand-tuned baseline (length buckets, eager
attention, the base kept in memory). `ours`: `legion search`. All train to 108 steps on movie sentiment at most, are
judged on the same 256 validation examples, and pay for everything but the last part: on the test split each trial that
is on its arm's front when it ends is measured anew, with the clock stopped. From that moocore takes the hypervolumes
that are compared. On a GPU (`LEGION_DEVICE`, by default where there is one) both baselines train with `bf16=True`.

Run on an otherwise idle machine, after `make assets` and `legion data prepare`. Every finished trial is appended to
`search-live.jsonl`; arms that are there already are not run again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import torch
import transformers
from benchmarks.population.baselines import load_model
from benchmarks.population.hf_trainer import BenchTrainer, count_hits, list_data
from benchmarks.search.ground import FULL, OBJECTIVES, RESULTS
from transformers import TrainerCallback, TrainingArguments

from legion.cli.progress import TerminalProgress
from legion.foundation.clock import SystemClock, rfc3339
from legion.foundation.files import write_json
from legion.foundation.machine import describe_machine
from legion.foundation.revision import describe_revision
from legion.foundation.settings import Settings
from legion.neuro_architecture.adapters import build_adapter, load_adapter
from legion.neuro_architecture.data.base_models import resolve_base
from legion.neuro_architecture.data.datasets import read_data
from legion.neuro_architecture.records import RunFolder
from legion.neuro_architecture.space import Candidate, Point
from legion.neuro_architecture.study import Search, StudyRecipe, parse_budget
from legion.neuro_architecture.study.criteria import Criteria
from legion.neuro_architecture.study.space import StudySpace
from legion.neuro_architecture.trainer import TrainerConfig, watched_examples

VALIDATION_EXAMPLES: Final = 256
RUNGS: Final = (12, 36)
_MAX_TOKENS: Final = 256
_BATCH: Final = 32
_MUSTS: Final = {"b0": 40.0, "moasha": 5.0}


@final
class Stopwatch:
    """Seconds of the search alone."""

    def __init__(self) -> None:
        self._spent_s, self._began_s = 0.0, time.monotonic()

    @property
    def spent_s(self) -> float:
        return self._spent_s + time.monotonic() - self._began_s

    def without(self, work: Callable[[], Any]) -> Any:
        """Does what the search does not pay for."""
        spent_s = self.spent_s
        found = work()
        self._spent_s, self._began_s = spent_s, time.monotonic()
        return found


@final
class Arena:
    """What all arms are given: space, data, and the file that their finished trials go to."""

    def __init__(self, settings: Settings, out: Path, steps: int, base: str | None = None) -> None:
        self.settings = settings
        self.device = "cuda" if settings.device != "cpu" and torch.cuda.is_available() else "cpu"
        self.steps = steps
        self.recipe = {"name": "live", "objectives": OBJECTIVES, "base": base}
        recipe = StudyRecipe.parse(self.recipe, what="live")
        self.study = StudySpace(recipe, Criteria.of(OBJECTIVES, (), {}), settings)
        self.data = read_data(settings.workspace / "data" / "classification")
        self.base = resolve_base(self.study.problem.base.name, settings)
        out.mkdir(parents=True, exist_ok=True)
        self._path = out / "search-live.jsonl"

    def is_on_front(self, arm: str, architecture: Any, accuracy: float) -> bool:
        """Whether nothing that the arm finished before is better in one objective and no worse in the others."""
        new = self.losses({**self.study.predicted(architecture), "accuracy": accuracy})
        ended = [
            self.losses({**row["predicted"], "accuracy": row["accuracy"]}) for row in self.rows() if row["arm"] == arm
        ]
        return not any(old != new and all(one <= other for one, other in zip(old, new, strict=True)) for old in ended)

    def losses(self, values: dict[str, float]) -> tuple[float, ...]:
        return self.study.criteria.losses(values)

    def note(self, arm: str, spent_s: float, architecture: Any, accuracy: float, test_accuracy: float | None) -> None:
        row = {
            "arm": arm,
            "spent_s": round(spent_s, 3),
            "strategy": architecture.strategy,
            "predicted": self.study.predicted(architecture),
            "accuracy": accuracy,
            "test_accuracy": test_accuracy,
        }
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._path.read_text().splitlines()] if self._path.is_file() else []


@final
class HandTrainer:
    """Trials by the Hugging Face Trainer: with its defaults, or tuned by hand."""

    def __init__(self, arena: Arena, *, is_tuned: bool) -> None:
        transformers.logging.set_verbosity_error()
        self._arena = arena
        self._is_tuned = is_tuned
        self._tokenizer = arena.base.tokenizer()
        spec = arena.data.spec
        watched = watched_examples(
            arena.data,
            TrainerConfig.for_task(spec.kind).model_copy(update={"validation_examples": VALIDATION_EXAMPLES}),
        )
        rows = [
            list_data(each, self._tokenizer, spec, _MAX_TOKENS) for each in (arena.data.train, watched, arena.data.test)
        ]
        self._train, self._watched, self._test = rows
        if is_tuned:
            self._watched.sort(key=lambda row: len(row["input_ids"]))
        self._kept: Any = None
        self._folder = Path(tempfile.mkdtemp(prefix="legion-live-"))

    def _measured_anew(self, arm: str, trainer: Any, architecture: Any, accuracy: float) -> float | None:
        if not self._arena.is_on_front(arm, architecture, accuracy):
            return None
        return float(trainer.evaluate(self._test)["eval_accuracy"])

    def close(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def train(
        self, arm: str, candidate: Candidate, callback: Callable[[int, float], bool] | None, clock: Stopwatch
    ) -> float | None:
        """Validation accuracy of a candidate at its end, which is noted; None where `callback` stopped it at a rung."""
        architecture, recipe = candidate
        transformers.set_seed(0)
        spec, steps = self._arena.data.spec, self._arena.steps
        is_eager = self._is_tuned and self._arena.device == "cpu"
        model = self._kept or load_model(self._arena.base, spec, dtype=torch.float32, is_eager=is_eager)
        adapted = build_adapter(architecture).apply(model)
        arguments = TrainingArguments(
            output_dir=str(self._folder / "trainer"),
            max_steps=steps,
            learning_rate=recipe.learning_rate,
            weight_decay=recipe.weight_decay,
            warmup_steps=round(recipe.warmup_share * steps),
            lr_scheduler_type=recipe.schedule,
            max_grad_norm=recipe.max_gradient_norm,
            per_device_train_batch_size=recipe.batch_size,
            per_device_eval_batch_size=_BATCH,
            save_strategy="no",
            report_to=[],
            use_cpu=self._arena.device == "cpu",
            bf16=self._arena.device != "cpu",
            dataloader_pin_memory=False,
            disable_tqdm=True,
            seed=0,
        )
        trainer = BenchTrainer(
            model=adapted,
            args=arguments,
            train_dataset=self._train,
            eval_dataset=self._watched,
            processing_class=self._tokenizer,
            kind=spec.kind,
            is_bucketed=self._is_tuned,
            compute_metrics=count_hits,
        )
        if callback is not None:
            trainer.add_callback(_AtRungs(trainer, callback))
        trainer.train()
        found = None
        if trainer.state.global_step >= steps:
            found = float(trainer.evaluate()["eval_accuracy"])
            adapted.save_pretrained(str(self._folder / "adapter"))
            spent_s = clock.spent_s
            test = clock.without(lambda: self._measured_anew(arm, trainer, architecture, found))
            self._arena.note(arm, spent_s, architecture, found, test)
        if self._is_tuned:
            from legion.neuro_architecture.adapters import remove_adapter

            self._kept = remove_adapter(adapted)
        return found


class _AtRungs(TrainerCallback):
    """Asks at each rung whether to go on."""

    def __init__(self, trainer: BenchTrainer, ask: Callable[[int, float], bool]) -> None:
        self._trainer = trainer
        self._ask = ask

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        if state.global_step in RUNGS and state.global_step < args.max_steps:
            accuracy = self._trainer.evaluate()["eval_accuracy"]
            control.should_training_stop = not self._ask(state.global_step, float(accuracy))
        return control


def run_b0(arena: Arena, trials: int, minutes: float, seed: int) -> None:
    """Optuna with its defaults."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    clock = Stopwatch()
    hand = HandTrainer(arena, is_tuned=False)
    space = arena.study.points
    branch = next(number for number, each in enumerate(space.branches) if each.strategy == "LoRA")
    axes = space.branches[branch].axes
    study = optuna.create_study(
        directions=["maximize", "minimize", "minimize"], sampler=optuna.samplers.TPESampler(seed=seed)
    )
    draw = __import__("random").Random(seed)
    for _ in range(trials):
        if clock.spent_s > 60.0 * minutes:
            break
        trial = study.ask()
        codes = tuple(trial.suggest_categorical(axis.name, range(len(axis.values))) for axis in axes)
        point: Point = space.nearest((branch, *codes), draw) or space.starts[branch]
        candidate = space.candidate(point)
        found = hand.train("b0", candidate, None, clock)
        if found is not None:
            predicted = arena.study.predicted(candidate[0])
            study.tell(trial, [found, predicted["latency_ms"], predicted["size_bytes"]])
    hand.close()


def run_moasha(arena: Arena, trials: int, minutes: float, seed: int) -> None:
    """Syne Tune's MO-ASHA over the tuned baseline."""
    import random

    from syne_tune.backend.trial_status import Trial
    from syne_tune.config_space import uniform
    from syne_tune.optimizer.schedulers.multiobjective.moasha import MOASHA

    np.random.seed(seed)
    clock = Stopwatch()
    hand = HandTrainer(arena, is_tuned=True)
    scheduler = MOASHA(
        {"unused": uniform(0.0, 1.0)},
        metrics=list(OBJECTIVES),
        time_attr="steps",
        max_t=arena.steps,
        grace_period=RUNGS[0],
        reduction_factor=3,
        random_seed=seed,
    )
    draw = random.Random(seed)
    for number in range(trials):
        if clock.spent_s > 60.0 * minutes:
            break
        candidate = arena.study.points.candidate(arena.study.points.draw(draw))
        trial = Trial(trial_id=number, config=scheduler.suggest().config, creation_time=None)
        scheduler.on_trial_add(trial)
        predicted = arena.study.predicted(candidate[0])

        def result(steps: int, accuracy: float, predicted: dict[str, float] = predicted) -> dict[str, float]:
            losses = arena.study.criteria.losses({**predicted, "accuracy": accuracy})
            return {"steps": steps, **dict(zip(OBJECTIVES, losses, strict=True))}

        def ask(steps: int, accuracy: float, trial: Any = trial, result: Any = result) -> bool:
            return scheduler.on_trial_result(trial, result(steps, accuracy)) != "STOP"

        found = hand.train("moasha", candidate, ask, clock)
        if found is not None:
            scheduler.on_trial_complete(trial, result(arena.steps, found))
    hand.close()


def run_ours(arena: Arena, trials: int, minutes: float, seed: int) -> None:  # noqa: ARG001 - by the clock alone
    """`legion search`, for the same objectives, until the time is spent."""
    recipe = StudyRecipe.parse(
        arena.recipe
        | {
            "name": f"live-{seed}",
            "seed": seed,
            "scheduler": {"steps": arena.steps, "rungs": [rung for rung in RUNGS if rung < arena.steps]},
            "training": {"validation_examples": VALIDATION_EXAMPLES},
            "final": {"top": 0},
        },
        what="recipe",
    )
    search = Search(arena.settings, recipe, progress=TerminalProgress(), say=lambda line: print(line, file=sys.stderr))
    state = search.run(parse_budget(f"{minutes}m"))
    inner = replace(arena.settings, workspace=search.store.folder)
    for number, moment in enumerate(state.history):
        for trial in state.trials.values():
            ended = trial.looks and trial.looks[-1].decision == "end"
            if not ended or _ended_in(state, trial.id) != number:
                continue
            architecture, _ = arena.study.points.candidate(trial.point)
            accuracy = trial.looks[-1].values["accuracy"]
            is_front = arena.is_on_front("ours", architecture, accuracy)
            test = _test_accuracy(arena, RunFolder.of(inner, trial.id)) if is_front else None
            arena.note("ours", moment.spent_s, architecture, accuracy, test)


def _ended_in(state: Any, name: str) -> int:
    """The generation during which a trial came to its end."""
    looks = len(state.trials[name].looks)
    return next(number for number, each in enumerate(state.generations) if (each.told or {}).get(name) == looks)


def _test_accuracy(arena: Arena, run: RunFolder) -> float:
    model = load_adapter(arena.base.load(arena.data.spec), run.adapter_folder, base=arena.base.reference).eval()
    model.to(arena.device)
    tokenizer = arena.base.tokenizer()
    rows = list_data(arena.data.test, tokenizer, arena.data.spec, _MAX_TOKENS)
    hits = 0
    with torch.inference_mode():
        for start in range(0, len(rows), _BATCH):
            batch = tokenizer.pad(rows[start : start + _BATCH], return_tensors="pt").to(arena.device)
            answers = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.argmax(-1)
            hits += int((answers == batch["labels"]).sum())
    return hits / len(rows)


ARMS: Final = {"ours": run_ours, "moasha": run_moasha, "b0": run_b0}


def main() -> int:
    """Runs the arms that are missing and says how soon each was where b0 ended."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--trials", type=int, default=64)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--steps", type=int, default=FULL)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--base", help="folder of a base model to use in place of the embedded one")
    parser.add_argument("--workspace", type=Path, default=None)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--note", default="", help="kept with the result: how the arms shared the machine")
    arguments = parser.parse_args()
    arena = Arena(Settings.load(workspace=arguments.workspace), arguments.out, arguments.steps, arguments.base)
    for name in arguments.arms:
        if not any(row["arm"] == name for row in arena.rows()):
            ARMS[name](arena, arguments.trials, arguments.minutes, arguments.seed)
    report = summarise(arena)
    report["note"] = arguments.note
    report["options"] = {name: getattr(arguments, name) for name in ("trials", "minutes", "steps", "seed")}
    write_json(arguments.out / "search-live.json", report)
    print(json.dumps(report, indent=2))
    return 0


def summarise(arena: Arena) -> dict[str, Any]:
    """Each arm's hypervolume over time on the test split, and when it had what b0 had at its end."""
    import moocore

    rows = arena.rows()

    def losses(row: dict[str, Any]) -> tuple[float, ...]:
        return arena.losses({**row["predicted"], "accuracy": row["test_accuracy"]})

    worst = np.asarray([losses(row | {"test_accuracy": 0.5})[1:] for row in rows]).max(axis=0)
    reference = np.append(-0.5, 1.1 * worst)
    scale = np.abs(reference)
    found: dict[str, Any] = {}
    for arm in dict.fromkeys(row["arm"] for row in rows):
        ended = [row for row in rows if row["arm"] == arm]
        own = sorted((row for row in ended if row["test_accuracy"] is not None), key=lambda row: row["spent_s"])
        points = np.asarray([losses(row) for row in own]) / scale
        volumes = [float(moocore.hypervolume(points[: n + 1], ref=reference / scale)) for n in range(len(own))]
        found[arm] = {
            "trials_ended": len(ended),
            "spent_s": max(row["spent_s"] for row in ended),
            "seconds": [row["spent_s"] for row in own],
            "hypervolume": volumes,
        }
    goal = found["b0"]["hypervolume"][-1] if "b0" in found else None
    for each in found.values():
        times = zip(each["seconds"], each["hypervolume"], strict=True)
        each["seconds_to_b0"] = None if goal is None else next((s for s, volume in times if volume >= goal), None)
    return {
        "command": "python -m benchmarks.search.live",
        "written_at": rfc3339(SystemClock().now()),
        "machine": describe_machine(),
        "device": arena.device if arena.device == "cpu" else torch.cuda.get_device_name(),
        "base": arena.base.reference.to_dict(),
        "revision": describe_revision(Path(__file__).parent),
        "threads": torch.get_num_threads(),
        "reference_point": reference.tolist(),
        "goal": goal,
        "ratios": {arm: _ratio(found, arm, must) for arm, must in _MUSTS.items()},
        "arms": found,
    }


def _ratio(found: dict[str, Any], arm: str, must: float) -> dict[str, Any]:
    """How much longer an arm took to b0's hypervolume than ours; at least so much where it never came there."""
    ours = found.get("ours", {}).get("seconds_to_b0")
    if ours is None or arm not in found:
        return {"ratio": None, "must": must, "is_met": False}
    theirs = found[arm]["spent_s"] if arm == "b0" else found[arm]["seconds_to_b0"]
    ratio = (found[arm]["spent_s"] if theirs is None else theirs) / ours
    return {"ratio": round(ratio, 2), "is_lower_bound": theirs is None, "must": must, "is_met": ratio >= must}


if __name__ == "__main__":
    sys.exit(main())
