"""A study of twenty minutes against the adapter that most would take: LoRA of rank 8 on all linears, three epochs.

    python -m benchmarks.search.versus_default [--minutes 20] [--workspace DIR] [--out FILE]

Run on an otherwise idle machine, after `make assets` and `legion data prepare`. The study gets all of the time, its
final trainings included; the default (learning rate 1e-3) gets as long as it takes. Each is trained with three seeds.
The winner is the one that the study prefers on the validation split, chosen before anything is asked on the test split.

Accuracy is over all test examples, a mean over the seeds; the difference is paired by example, its interval a bootstrap
over examples. Latency is the time of one example at a time through transformers, the two models in turn, as a ratio.
What was trained is kept in the workspace, so a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from benchmarks.search.ground import RESULTS

from legion.cli.progress import TerminalProgress
from legion.foundation.clock import SystemClock, rfc3339
from legion.foundation.files import write_json
from legion.foundation.machine import available_cores, describe_machine
from legion.foundation.revision import describe_revision
from legion.foundation.settings import Settings
from legion.neuro_architecture.adapters import load_adapter, trainable_parameters
from legion.neuro_architecture.data.base_models import BaseModel, resolve_base
from legion.neuro_architecture.data.datasets import DataSet, read_data
from legion.neuro_architecture.data.encoding import TaskEncoder
from legion.neuro_architecture.evaluator.inference import Classifier
from legion.neuro_architecture.records import ProposalStore, RunFolder
from legion.neuro_architecture.spec.architecture import LoRAArchitecture
from legion.neuro_architecture.spec.proposal import TrainingRecipe
from legion.neuro_architecture.study import Search, StudyRecipe, parse_budget
from legion.neuro_architecture.study.state import StudyState
from legion.neuro_architecture.trainer import PopulationTrainer, TrainerConfig

DEFAULT: Final = LoRAArchitecture(rank=8, alpha=16.0, target_modules=("all-linear",))
DEFAULT_RECIPE: Final = TrainingRecipe(learning_rate=1e-3)
EPOCHS: Final = 3
SEEDS: Final = 3
_MAX_TOKENS: Final = 256
_TIMED: Final = 200
_RESAMPLES: Final = 10_000
_FEWER: Final = 5.0
# A fifth of what the default trains: 332,546 numbers on the embedded base, of four bytes.
_MOST_BYTES: Final = int(332_546 * 4 / _FEWER)


def main() -> int:
    """Searches, trains the default, asks both; 0 where the study wins in one of the two ways."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--epochs", type=float, default=EPOCHS, help="of the default adapter")
    parser.add_argument("--workspace", type=Path, default=None)
    parser.add_argument("--out", type=Path, default=RESULTS / "search-versus-default.json")
    arguments = parser.parse_args()
    settings = Settings.load(workspace=arguments.workspace)
    torch.set_num_threads(settings.threads or available_cores())
    data = read_data(settings.workspace / "data" / "classification")
    base = resolve_base("minilm-l6", settings)
    recipe = _recipe(len(data.train) // 16)
    search = Search(settings, recipe, progress=TerminalProgress(), say=lambda line: print(line, file=sys.stderr))
    state = search.run(parse_budget(f"{arguments.minutes}m"))
    if not state.final:
        print(f"the study left nothing to compare: {'; '.join(state.notes)}", file=sys.stderr)
        return 1
    steps = round(arguments.epochs * len(data.train) / DEFAULT_RECIPE.batch_size)
    default = _train_default(search, settings, data, steps)
    winner = [search.store.folder / run for run in state.final[0].runs]
    report = _report(state, search, base, data, winner, default) | {"default_steps": steps}
    write_json(arguments.out, report)
    print(json.dumps({key: report[key] for key in ("winner", "default", "comparison")}, indent=2))
    return 0 if report["comparison"]["is_more_accurate"] or report["comparison"]["is_as_accurate_and_smaller"] else 1


def _recipe(epoch: int) -> StudyRecipe:
    """The most accurate adapter of a fifth of the default's size; what it prefers is trained for two epochs."""
    return StudyRecipe.parse(
        {
            "name": "versus-default",
            "objectives": ["accuracy"],
            "constraints": [f"size_bytes<={_MOST_BYTES}"],
            "scheduler": {"steps": 240, "rungs": [30, 100]},
            "training": {"validation_examples": 512},
            "final": {"top": 1, "seeds": SEEDS, "steps": 2 * epoch, "share": 0.55},
        },
        what="recipe",
    )


def _train_default(search: Search, outer: Settings, data: DataSet, steps: int) -> list[Path]:
    """Run folders of the default adapter, one for each seed."""
    runs = []
    for seed in range(SEEDS):
        settings = replace(outer, workspace=outer.workspace / "studies" / "versus-default" / "default" / f"seed-{seed}")
        proposal = search.space.proposal(DEFAULT, DEFAULT_RECIPE)
        ProposalStore(settings).save(proposal)
        trainer = PopulationTrainer(
            settings=settings,
            seed=seed,
            progress=TerminalProgress(),
            config=TrainerConfig.for_task("classification"),
        )
        trainer.train([proposal.id], data.folder, steps)
        runs.append(RunFolder.of(settings, proposal.id).path)
    return runs


def _report(
    state: StudyState, search: Search, base: BaseModel, data: DataSet, winner: Sequence[Path], default: Sequence[Path]
) -> dict[str, Any]:
    encoder = TaskEncoder(base.tokenizer(), data.spec, max_tokens=min(base.max_tokens, _MAX_TOKENS))
    models = {
        name: [_load(base, data, run) for run in runs] for name, runs in (("winner", winner), ("default", default))
    }
    hits = {name: np.stack([_hits(model, encoder, data) for model in each]) for name, each in models.items()}
    difference = hits["winner"].mean(0) - hits["default"].mean(0)
    low, high = _interval(difference)
    ratio = _latency_ratio(models["winner"][0], models["default"][0], encoder, data)
    sizes = {name: sum(each.numel() for each in trainable_parameters(own[0]).values()) for name, own in models.items()}
    described = {
        name: {
            "accuracy": round(float(each.mean()), 4),
            "accuracy_of_each_seed": [round(float(own.mean()), 4) for own in each],
            "trainable_parameters": sizes[name],
        }
        for name, each in hits.items()
    }
    architecture, recipe = search.space.points.candidate(state.trials[state.final[0].id].point)
    return {
        "command": "python -m benchmarks.search.versus_default",
        "written_at": rfc3339(SystemClock().now()),
        "machine": describe_machine(),
        "revision": describe_revision(Path(__file__).parent),
        "study": {
            "spent_s": round(state.spent_s, 1),
            "search_s": round(state.search_s, 3),
            "trials": len(state.trials),
            "recipe": state.recipe.to_dict(),
        },
        "winner": described["winner"] | {"architecture": architecture.to_dict(), "recipe": recipe.to_dict()},
        "default": described["default"] | {"architecture": DEFAULT.to_dict(), "recipe": DEFAULT_RECIPE.to_dict()},
        "comparison": {
            "test_examples": len(data.test),
            "accuracy_difference": round(float(difference.mean()), 4),
            "low_95": round(low, 4),
            "high_95": round(high, 4),
            "latency_ratio": ratio,
            "parameter_ratio": round(sizes["winner"] / sizes["default"], 4),
            "is_more_accurate": bool(difference.mean() > 0.0 and ratio["median"] <= 1.0),
            "is_surely_more_accurate": bool(low > 0.0),
            "is_as_accurate_and_smaller": bool(high >= 0.0 and _FEWER * sizes["winner"] <= sizes["default"]),
        },
    }


def _load(base: BaseModel, data: DataSet, run: Path) -> Any:
    return load_adapter(base.load(data.spec), run / "adapter", base=base.reference).eval()


def _hits(model: Any, encoder: TaskEncoder, data: DataSet) -> np.ndarray:
    answers = Classifier(model, encoder, 32).answer([row.text for row in data.test])
    return np.asarray(
        [
            float(data.spec.labels[int(np.argmax(answer))] == row.target)
            for answer, row in zip(answers, data.test, strict=True)
        ]
    )


def _interval(differences: np.ndarray) -> tuple[float, float]:
    """The middle 95 % of the mean over resampled examples."""
    draw = np.random.default_rng(0)
    means = [draw.choice(differences, len(differences)).mean() for _ in range(_RESAMPLES)]
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


def _latency_ratio(one: Any, other: Any, encoder: TaskEncoder, data: DataSet) -> dict[str, float]:
    """The winner's time over the default's, text by text, whoever goes first in turn."""
    ratios = []
    with torch.inference_mode():
        for place, row in enumerate(data.test[:_TIMED]):
            (item,) = encoder.encode_all([row])
            batch = {name: each for name, each in encoder.collate([item]).items() if name != "labels"}
            times: dict[int, float] = {}
            for which, model in ((0, one), (1, other)) if place % 2 == 0 else ((1, other), (0, one)):
                model(**batch)
                began_s = time.perf_counter()
                model(**batch)
                times[which] = time.perf_counter() - began_s
            ratios.append(times[0] / times[1])
    quartiles = statistics.quantiles(ratios, n=4)
    return {name: round(each, 4) for name, each in zip(("low", "median", "high"), quartiles, strict=True)}


if __name__ == "__main__":
    sys.exit(main())
