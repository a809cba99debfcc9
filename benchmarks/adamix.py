"""What averaging costs: a randomly routed mixture as one averaged bottleneck, against its experts drawn at inference.

    python benchmarks/adamix.py [--steps 150] [--draws 5] [--out FILE]

A mixture of four experts of 16 with random routing is trained on the embedded movie sentences (minilm-l6), and asked
about all test rows twice: as it serves, its experts averaged (AdaMix, arXiv:2205.12410), and with two experts drawn
for each pass and layer as in training, five times. Averaging may lose half a point at most. Results with standard
errors go to `benchmarks/results/adamix.json` and `docs/strategies/moe.md`; exit code 1 where it loses more.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch
from strategies import hits, quiet_settings, share
from strategy_table import insert, render_averaging

from legion.cli.progress import TerminalProgress
from legion.foundation.clock import SystemClock
from legion.foundation.files import write_json, write_text
from legion.foundation.machine import describe_machine
from legion.foundation.revision import describe_revision
from legion.foundation.settings import Settings
from legion.neuro_architecture.adapters import RandomMixture, load_adapter
from legion.neuro_architecture.anatomy import inspect_model
from legion.neuro_architecture.data.base_models import resolve_base
from legion.neuro_architecture.data.datasets import DataSet
from legion.neuro_architecture.data.encoding import TaskEncoder
from legion.neuro_architecture.data.prepare import prepare_data
from legion.neuro_architecture.evaluator.inference import Classifier
from legion.neuro_architecture.generator import ArchitectureGenerator
from legion.neuro_architecture.records import ProposalStore, RunFolder
from legion.neuro_architecture.space import assess_risk, calibrate, estimate_cost
from legion.neuro_architecture.spec.architecture import MoEArchitecture
from legion.neuro_architecture.spec.proposal import ArchitectureProposal
from legion.neuro_architecture.trainer import ProxyTrainer
from legion.neuro_architecture.trainer.environment import torch_environment

RESULTS: Final = Path(__file__).parent / "results" / "adamix.json"
PAGE: Final = Path(__file__).parents[1] / "docs" / "strategies" / "moe.md"
_MOST_LOST_POINTS: Final = 0.5
_BATCH: Final = 32


def main() -> int:
    """Trains, asks, compares; 0 when averaging keeps within half a point."""
    options = _options()
    with tempfile.TemporaryDirectory(prefix="legion-adamix-") as folder:
        settings = quiet_settings(Path(folder))
        (data,) = prepare_data(settings, ["classification"])
        proposal = _propose(settings, data)
        metrics = ProxyTrainer(proposal.id, settings=settings, progress=TerminalProgress()).train(
            data.folder, options.steps
        )
        averaged, drawn = _ask(proposal, data, settings, options.draws)
    report = {
        "command": "python benchmarks/adamix.py",
        "architecture": proposal.architecture.to_dict(),
        "base": proposal.base.name,
        "steps": options.steps,
        "training_time_sec": metrics.training_time_sec.value,
        **compare(averaged, drawn),
        "date": SystemClock().now().date().isoformat(),
        "machine": describe_machine(),
        "code": describe_revision(Path(__file__).parent),
    }
    report["is_within_bounds"] = report["lost_points"] <= _MOST_LOST_POINTS
    write_json(options.out, report)
    if options.out == RESULTS:
        write_text(PAGE, insert(PAGE.read_text(encoding="utf-8"), render_averaging(report), "averaging"))
    print(json.dumps(report, indent=2))
    return 0 if report["is_within_bounds"] else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS)
    return parser.parse_args()


def _propose(settings: Settings, data: DataSet) -> ArchitectureProposal:
    """The mixture as a stored proposal, with the recipe of MoE's good default."""
    (default,) = ArchitectureGenerator(0, settings=settings).generate("classification", 1, ["MoE"])
    architecture = MoEArchitecture(num_experts=4, top_k=1, bottleneck_size=16, routing="random")
    anatomy = inspect_model(
        resolve_base(default.base.name, settings).load_meta("classification", len(data.spec.labels))
    )
    estimate = estimate_cost(
        architecture, anatomy, calibration=calibrate(settings), sequence_length=default.estimate.sequence_length
    )
    proposal = ArchitectureProposal(
        id=ArchitectureProposal.id_of(default.task, default.base, architecture, default.training),
        task=default.task,
        task_kind=default.task_kind,
        base=default.base,
        architecture=architecture,
        training=default.training,
        estimate=estimate,
        risk=assess_risk(architecture, anatomy, estimate, default.training),
        seed=default.seed,
    )
    ProposalStore(settings).save(proposal)
    return proposal


def _ask(
    proposal: ArchitectureProposal, data: DataSet, settings: Settings, num_draws: int
) -> tuple[list[float], list[list[float]]]:
    """Hits on every test row: of the averaged form, and of each drawing of its experts."""
    base = resolve_base(proposal.base.name, settings)
    texts, targets = [row.text for row in data.test], [row.target for row in data.test]
    encoder = TaskEncoder(base.tokenizer(), data.spec, max_tokens=min(base.max_tokens, 256))
    folder = RunFolder.of(settings, proposal.id).adapter_folder
    with torch_environment(settings) as device:
        model: Any = load_adapter(base.load(data.spec), folder, base=base.reference).to(device).eval()
        classifier = Classifier(model, encoder, _BATCH)
        averaged = hits(classifier.answer(texts), targets, data.spec.labels)
        mixtures = [module for module in model.modules() if isinstance(module, RandomMixture)]
        for mixture in mixtures:
            mixture.train()  # it alone: it draws its experts, and nothing drops out
        drawn = []
        for seed in range(num_draws):
            torch.manual_seed(seed)
            drawn.append(hits(classifier.answer(texts), targets, data.spec.labels))
            print(f"draw {seed + 1}/{num_draws}", file=sys.stderr, flush=True)
    return averaged, drawn


def compare(averaged: Sequence[float], drawn: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Both accuracies with standard errors, and what averaging loses in points, with the error of the paired rows."""
    mean_drawn = [math.fsum(row) / len(row) for row in zip(*drawn, strict=True)]
    lost = share([one - other for one, other in zip(mean_drawn, averaged, strict=True)])
    return {
        "averaged_accuracy": share(averaged),
        "drawn_accuracy": share(mean_drawn),
        "drawn_accuracies": [share(hits)["value"] for hits in drawn],
        "lost_points": 100 * lost["value"],
        "lost_points_error": 100 * lost["error"],
    }


if __name__ == "__main__":
    sys.exit(main())
