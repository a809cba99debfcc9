"""Trains the good default of every strategy for a few steps and writes down what that gives and costs.

    python benchmarks/strategies.py [--only NAME ...] [--steps 60] [--causal-steps 6] [--fresh] [--out FILE]

Strategies that fit a BERT classifier are trained on the embedded movie sentences with minilm-l6, and their accuracy is
taken on 300 seeded test rows, beside the frozen base with logistic regression on the same rows. The others (split
networks, virtual tokens) are trained on the embedded headlines with smollm2-135m, at most 128 tokens an example, and
their validation loss stands beside that of the bare base and of the untrained adapter. BOFT and HRA take 20 steps, the
others 60.

One thread. Rows go to `benchmarks/results/strategies.json` as they come and, from there, into the table of
`docs/strategies/index.md`. A row measured at this commit with these steps is kept; `--fresh` measures it anew.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from strategy_table import insert, points, render

from legion.cli.progress import TerminalProgress, duration
from legion.foundation.clock import SystemClock
from legion.foundation.files import read_json, write_json, write_text
from legion.foundation.machine import describe_machine
from legion.foundation.progress import SilentProgress
from legion.foundation.revision import describe_revision
from legion.foundation.rng import RandomStream
from legion.foundation.settings import Settings
from legion.neuro_architecture.adapters import build_adapter, load_adapter
from legion.neuro_architecture.data.base_models import resolve_base
from legion.neuro_architecture.data.datasets import DataSet, Example
from legion.neuro_architecture.data.encoding import TaskEncoder
from legion.neuro_architecture.data.prepare import prepare_data
from legion.neuro_architecture.evaluator.baseline import BareBase
from legion.neuro_architecture.evaluator.config import EvaluatorConfig
from legion.neuro_architecture.evaluator.inference import Answer, Classifier
from legion.neuro_architecture.generator import ArchitectureGenerator
from legion.neuro_architecture.records import RunFolder
from legion.neuro_architecture.spec.architecture import strategy_names
from legion.neuro_architecture.spec.proposal import ArchitectureProposal
from legion.neuro_architecture.trainer import ProxyTrainer
from legion.neuro_architecture.trainer.config import TrainerConfig
from legion.neuro_architecture.trainer.environment import torch_environment
from legion.neuro_architecture.trainer.feed import Feed
from legion.neuro_architecture.trainer.measuring import measure_latency

RESULTS: Final = Path(__file__).parent / "results" / "strategies.json"
INDEX: Final = Path(__file__).parents[1] / "docs" / "strategies" / "index.md"
CAUSAL: Final = ("SplitLayer", "SparseRouting", "PrefixTuning", "PromptTuning")
# Each of their steps forms matrices as large as the widest layer's input squared: 60 of them take many minutes.
SLOW: Final = ("BOFT", "HRA")
_TEST_ROWS: Final = 300
_BATCH: Final = 32
_CAUSAL_CONFIG: Final = TrainerConfig(
    max_tokens=128, validation_examples=16, validation_batch_size=4, latency_examples=4, latency_warmup=1
)

_SLOW_CONFIG: Final = TrainerConfig(validation_examples=64, latency_examples=5, latency_warmup=1)


def main() -> int:
    """Measures what is missing, row by row."""
    options = _options()
    names = options.only or list(strategy_names())
    revision = describe_revision(Path(__file__).parent)
    results = _load(options.out)
    missing = [name for name in names if options.fresh or not _is_current(results["rows"].get(name), revision, options)]
    for name in sorted(set(names) - set(missing), key=names.index):
        print(f"{name}: measured at this commit already (--fresh measures it anew)", file=sys.stderr)
    began_s = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="legion-strategies-") as folder:
        settings = quiet_settings(Path(folder))
        for place, name in enumerate(missing):
            took_s = time.perf_counter() - began_s
            eta = f", ETA {duration(took_s / place * (len(missing) - place))}" if place else ""
            print(f"[{place + 1}/{len(missing)}] {name}{eta}", file=sys.stderr, flush=True)
            row = measure(name, settings, options)
            row |= {"commit": revision["commit"], "is_dirty": revision["is_dirty"], "machine": describe_machine()}
            results["rows"][name] = row
            results["date"] = row["date"]
            _publish(results, options.out)
            print(f"{name}: {_summary(row)}", flush=True)
    return 0


def quiet_settings(workspace: Path) -> Settings:
    """One thread on the CPU, in a workspace of its own; assets and baselines are the user's."""
    return replace(Settings.load(workspace=workspace), device="cpu", threads=1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=strategy_names(), default=None, metavar="NAME")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--slow-steps", type=int, default=20, help=f"of {' and '.join(SLOW)}")
    parser.add_argument("--causal-steps", type=int, default=6)
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--out", type=Path, default=RESULTS)
    return parser.parse_args()


def _load(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {"command": "python benchmarks/strategies.py", "rows": {}}


def _publish(results: dict[str, Any], path: Path) -> None:
    """Writes the results and, where they are the published ones, the table in the docs, so that both agree always."""
    write_json(path, results)
    if path == RESULTS:
        write_text(INDEX, insert(INDEX.read_text(encoding="utf-8"), render(results), "measured"))


def _steps(name: str, options: argparse.Namespace) -> int:
    wanted: int = options.causal_steps if name in CAUSAL else options.steps
    return min(wanted, options.slow_steps) if name in SLOW else wanted


def _is_current(row: Mapping[str, Any] | None, revision: Mapping[str, Any], options: argparse.Namespace) -> bool:
    return (
        row is not None
        and row["commit"] is not None
        and row["commit"] == revision["commit"]
        and row["steps"] == _steps(row["strategy"], options)
    )


def measure(name: str, settings: Settings, options: argparse.Namespace) -> dict[str, Any]:
    """One strategy's row."""
    is_causal = name in CAUSAL
    task, data_name = ("summarization", "task_small") if is_causal else ("classification", "classification")
    (data,) = prepare_data(settings, [data_name])
    (proposal,) = ArchitectureGenerator(0, settings=settings).generate(task, 1, [name])
    config = _CAUSAL_CONFIG if is_causal else _SLOW_CONFIG if name in SLOW else TrainerConfig()
    started = _before(proposal, data, settings, config) if is_causal else {}
    metrics = ProxyTrainer(proposal.id, settings=settings, progress=TerminalProgress(), config=config).train(
        data.folder, _steps(name, options)
    )
    row = {
        "strategy": name,
        "task": task,
        "base": proposal.base.name,
        "architecture": proposal.architecture.to_dict(),
        "steps": _steps(name, options),
        "batch_size": proposal.training.batch_size,
        "learning_rate": proposal.training.learning_rate,
        "state": str(metrics.state),
        "date": SystemClock().now().date().isoformat(),
        "trainable_parameters": metrics.trainable_parameters.value,
        "training_time_sec": metrics.training_time_sec.value,
        "latency_ms": metrics.latency_ms.to_dict(),
        "validation_loss": metrics.validation_loss.to_dict(),
    }
    return row | (started if is_causal else accuracies(proposal, data, settings))


def _before(proposal: ArchitectureProposal, data: DataSet, settings: Settings, config: TrainerConfig) -> dict[str, Any]:
    """Validation loss of the bare base and of the untrained adapter, on what the training will look at."""
    base = resolve_base(proposal.base.name, settings)
    with torch_environment(settings) as device:
        feed = Feed(base, data, config)
        validator = feed.validator(device, has_positions=True)
        model = build_adapter(proposal.architecture).apply(base.load(data.spec), seed=0).to(device)
        untrained = validator.measure(model, 0)
        bare_model = base.load(data.spec).to(device)
        bare = validator.measure(bare_model, 0)
        batches = feed.single_batches(config.latency_examples)
        latency = measure_latency(bare_model, batches, device, num_warmup=1, clock=SystemClock())
    return {
        "bare_validation_loss": {"value": bare.loss, "error": bare.loss_error, "n": bare.num_predictions},
        "untrained_validation_loss": {
            "value": untrained.loss,
            "error": untrained.loss_error,
            "n": untrained.num_predictions,
        },
        "bare_latency_ms": latency.to_dict(),
    }


def accuracies(proposal: ArchitectureProposal, data: DataSet, settings: Settings) -> dict[str, Any]:
    """Accuracy of the trained adapter and of the frozen base with logistic regression, on the same test rows."""
    rows = sampled_rows(data, _TEST_ROWS)
    texts, targets = [row.text for row in rows], [row.target for row in rows]
    base = resolve_base(proposal.base.name, settings)
    config = EvaluatorConfig()
    encoder = TaskEncoder(base.tokenizer(), data.spec, max_tokens=min(base.max_tokens, config.max_tokens))
    with torch_environment(settings) as device:
        folder = RunFolder.of(settings, proposal.id).adapter_folder
        model = load_adapter(base.load(data.spec), folder, base=base.reference).to(device).eval()
        answers = Classifier(model, encoder, _BATCH).answer(texts)
        bare, _ = BareBase(
            base=base,
            data=data,
            encoder=encoder,
            config=config,
            settings=settings,
            device=device,
            writer=None,
            progress=SilentProgress(),
        ).answer(texts)
    return {
        "accuracy": share(hits(answers, targets, data.spec.labels)),
        "frozen_probe_accuracy": share(hits(bare, targets, data.spec.labels)),
    }


def sampled_rows(data: DataSet, count: int) -> list[Example]:
    """The same test rows for every strategy, in the order of the file."""
    draw = RandomStream(0).child("benchmark strategies").random()
    return [data.test[index] for index in sorted(draw.sample(range(len(data.test)), min(count, len(data.test))))]


def hits(answers: Sequence[Answer], targets: Sequence[str], labels: Sequence[str]) -> list[float]:
    """1 where the most probable label is the right one, else 0."""
    pairs = zip(answers, targets, strict=True)
    return [
        float(labels[max(range(len(labels)), key=lambda i: float(answer[i]))] == target) for answer, target in pairs
    ]


def share(values: Sequence[float]) -> dict[str, float | int]:
    """Mean of numbers between 0 and 1, with the standard error of that mean."""
    mean = math.fsum(values) / len(values)
    spread = math.fsum((value - mean) ** 2 for value in values) / max(1, len(values) - 1)
    return {"value": mean, "error": math.sqrt(spread / len(values)), "n": len(values)}


def _summary(row: Mapping[str, Any]) -> str:
    took = f"{row['steps']} steps in {row['training_time_sec']:.0f} s"
    if "accuracy" in row:
        return f"accuracy {points(row['accuracy'])}, {took}"
    after, bare = row["validation_loss"]["value"], row["bare_validation_loss"]["value"]
    return f"validation loss {bare:.3f} bare, {after:.3f} trained, {took}"


if __name__ == "__main__":
    sys.exit(main())
