"""What it saves to ask 16 adapters together: one pass over the shared base against one adapter after another.

    python benchmarks/evaluation.py [--base minilm-l6] [--texts 160] [--repeats 5] [--threads N] [--out FILE]

Every adapter answers validation texts of movie sentiment and each of them once perturbed. Two rows of 16 adapters,
LoRA, bottleneck and mixture in turn: `mixed`, whose lowest layers are spread over the base, and `upper third`. Arms:

- `together`: `PackedClassifier`, with the base in memory.
- `one by one`: each adapter loaded onto the base in memory, with PEFT, and asked through transformers by `Classifier`.
- `one by one, anew`: the same, the base loaded from its folder for each. Its ratio counts one such load for `together`.

All arms load the same folders through the same checks, tokenize the same texts and form the same batches of like
length; baselines have eager attention and length buckets, as the evaluator had them before. Arms are interleaved, their
order turned around at every repeat, in one process with an untimed pass of each before. Wall and CPU seconds (all
threads), medians with the least and the most; ratios are formed within a repeat. Results go to
`benchmarks/results/evaluation.json`, with the largest difference between the arms' probabilities. Exit code 1 where a
`must` is not met.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, final

import torch

from legion.foundation.clock import SystemClock, rfc3339
from legion.foundation.files import write_json
from legion.foundation.machine import available_cores, describe_machine
from legion.foundation.revision import describe_revision
from legion.foundation.rng import RandomStream
from legion.foundation.settings import Settings
from legion.neuro_architecture.adapters import (
    build_adapter,
    load_adapter,
    remove_adapter,
    save_adapter,
    trainable_parameters,
)
from legion.neuro_architecture.data.base_models import BaseModel, resolve_base
from legion.neuro_architecture.data.datasets import DataSet
from legion.neuro_architecture.data.encoding import TaskEncoder
from legion.neuro_architecture.data.prepare import prepare_data
from legion.neuro_architecture.evaluator.inference import Answer, Classifier
from legion.neuro_architecture.evaluator.packed import PackedClassifier
from legion.neuro_architecture.evaluator.perturbations import PERTURBATIONS, perturb
from legion.neuro_architecture.packed.dispatch import Dispatch, choose_dispatch
from legion.neuro_architecture.spec.architecture import (
    AdapterArchitecture,
    AnyArchitecture,
    LoRAArchitecture,
    MoEArchitecture,
)

RESULTS: Final = Path(__file__).parent / "results"
MUST: Final = 4.0
AIM: Final = 10.0
TOGETHER: Final = "together"
ALONE: Final = "one by one"
ANEW: Final = "one by one, anew"
MAX_TOKENS: Final = 256  # as `EvaluatorConfig` has them
BATCH_SIZE: Final = 32
_ATTENTION: Final = (("query", "value"), ("query", "key", "value"), ("all-linear",))

Answers = dict[str, list[Answer]]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What all arms are given.

    Attributes:
        base: The base model.
        data: Movie sentiment.
        encoder: Of its texts.
        model: The base in memory.
        texts: What is asked.
        dispatch: How this machine computes best.
    """

    base: BaseModel
    data: DataSet
    encoder: TaskEncoder
    model: Any
    texts: list[str]
    dispatch: Dispatch

    def together(self, folders: Mapping[str, Path]) -> Answers:
        asked = PackedClassifier(
            model=self.model,
            base=self.base.reference,
            encoder=self.encoder,
            batch_size=BATCH_SIZE,
            dispatch=self.dispatch,
        )
        return asked.answer(folders, self.texts)

    def alone(self, folders: Mapping[str, Path]) -> Answers:
        found = {}
        for name, folder in folders.items():
            adapted = load_adapter(self.model, folder, base=self.base.reference).eval()
            found[name] = Classifier(adapted, self.encoder, BATCH_SIZE).answer(self.texts)
            remove_adapter(adapted)
        return found

    def anew(self, folders: Mapping[str, Path]) -> Answers:
        found = {}
        for name, folder in folders.items():
            adapted = load_adapter(self.load(), folder, base=self.base.reference).eval()
            found[name] = Classifier(adapted, self.encoder, BATCH_SIZE).answer(self.texts)
        return found

    def load(self) -> Any:
        return self.base.load(self.data.spec).eval()


def main() -> int:
    """Makes adapters, asks them in every way, compares, prints."""
    options = _options()
    with tempfile.TemporaryDirectory() as scratch:
        settings = replace(Settings.load(workspace=Path(scratch)), device="cpu")
        settings = replace(settings, threads=options.threads or settings.threads)
        torch.set_num_threads(settings.threads or available_cores())
        bench = _bench(settings, options.base, options.texts)
        layers = bench.base.load_meta("classification").config.num_hidden_layers
        rows = {
            "mixed": [_any_family(index, index // 3 * layers // 6, layers) for index in range(options.adapters)],
            "upper third": [_any_family(index, layers - layers // 3, layers) for index in range(options.adapters)],
        }
        folders = {row: _store(bench, each, Path(scratch) / row) for row, each in rows.items()}
        report = _report(bench, {row: _measure(bench, each, options) for row, each in folders.items()}, options)
    write_json(options.out or RESULTS / "evaluation.json", report)
    return _print(report)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="minilm-l6")
    parser.add_argument("--texts", type=int, default=160, help="validation texts; each is asked once more, perturbed")
    parser.add_argument("--adapters", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0, help="threads of torch; 0 is one for each core")
    parser.add_argument("--out", type=Path, default=None)
    return parser.parse_args()


def _bench(settings: Settings, name: str, num_texts: int) -> Bench:
    (data,) = prepare_data(settings, ["classification"])
    base = resolve_base(name, settings)
    encoder = TaskEncoder(base.tokenizer(), data.spec, max_tokens=min(base.max_tokens, MAX_TOKENS))
    stream = RandomStream(0).child("benchmark")
    clean = [example.text for example in stream.random().sample(data.validation, num_texts)]
    kinds = list(PERTURBATIONS)
    noisy = [
        perturb(kinds[place % len(kinds)], text, stream.child(f"noise/{place}")) for place, text in enumerate(clean)
    ]
    model = base.load(data.spec).eval()
    dispatch = choose_dispatch(settings, torch.device("cpu"))
    return Bench(base=base, data=data, encoder=encoder, model=model, texts=clean + noisy, dispatch=dispatch)


def _any_family(index: int, start: int, num_layers: int) -> AnyArchitecture:
    """LoRA, bottleneck and mixture in turn, on the layers from `start` up."""
    layers, turn = tuple(range(min(start, num_layers - 1), num_layers)), index // 3
    if index % 3 == 0:
        rank = (4, 8, 16, 32)[turn % 4]
        return LoRAArchitecture(rank=rank, alpha=2.0 * rank, target_modules=_ATTENTION[turn % 3], layers=layers)
    if index % 3 == 1:
        size, placement = (8, 16, 32, 64)[turn % 4], "par" if turn % 2 == 0 else "seq"
        return AdapterArchitecture(bottleneck_size=size, placement=placement, layers=layers)
    return MoEArchitecture(num_experts=(2, 4, 8)[turn % 3], top_k=1 + turn % 2, bottleneck_size=8, layers=layers)


def _store(bench: Bench, architectures: Sequence[AnyArchitecture], root: Path) -> dict[str, Path]:
    """Adapter folders with drawn weights: what they answer is nonsense, what it costs is not."""
    folders = {}
    for index, architecture in enumerate(architectures):
        folder = root / f"{index:02}-{architecture.strategy}"
        adapted = build_adapter(architecture).apply(bench.load(), seed=index)
        generator = torch.Generator().manual_seed(index)
        with torch.no_grad():
            for parameter in trainable_parameters(adapted).values():
                parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
        save_adapter(adapted, folder, base=bench.base.reference)
        folders[folder.name] = folder
    return folders


def _measure(bench: Bench, folders: Mapping[str, Path], options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of every arm at every repeat, and how far their answers lie apart."""
    arms: dict[str, Callable[[Mapping[str, Path]], Answers]] = {
        TOGETHER: bench.together,
        ALONE: bench.alone,
        ANEW: bench.anew,
        "one load": lambda _folders: bench.load() and {},
    }
    few = dict(list(folders.items())[:3])
    for arm in arms.values():
        arm(few)
    times: dict[str, list[dict[str, float]]] = {name: [] for name in arms}
    answers: dict[str, Answers] = {}
    for repeat in range(options.repeats):
        for name in arms if repeat % 2 == 0 else reversed(arms):
            gc.collect()
            wall_s, cpu_s = time.perf_counter(), time.process_time()
            answers[name] = arms[name](folders)
            spent = {"wall_s": time.perf_counter() - wall_s, "cpu_s": time.process_time() - cpu_s}
            times[name].append(spent)
            print(f"#{repeat} {name}: {spent['wall_s']:.2f} s, CPU {spent['cpu_s']:.2f} s", file=sys.stderr)
    return {"times": times, "agreement": _agreement(answers[TOGETHER], answers[ALONE])}


def _agreement(together: Answers, alone: Answers) -> dict[str, Any]:
    pairs = [
        (torch.tensor(one), torch.tensor(other))
        for name, rows in alone.items()
        for one, other in zip(together[name], rows, strict=True)
    ]
    return {
        "answers": len(pairs),
        "largest_difference": max(float((one - other).abs().max()) for one, other in pairs),
        "other_labels": sum(int(one.argmax() != other.argmax()) for one, other in pairs),
    }


def _report(bench: Bench, measured: Mapping[str, dict[str, Any]], options: argparse.Namespace) -> dict[str, Any]:
    return {
        "base": bench.base.reference.name,
        "adapters": options.adapters,
        "texts": len(bench.texts),
        "distinct_texts": len(set(bench.texts)),
        "batch_size": BATCH_SIZE,
        "repeats": options.repeats,
        "threads": torch.get_num_threads(),
        "dispatch": bench.dispatch.to_dict(),
        "must": MUST,
        "aim": AIM,
        "rows": {row: _row(each) for row, each in measured.items()},
        "measured_at": rfc3339(SystemClock().now()),
        "machine": describe_machine(),
        "load_average_at_end": [round(value, 2) for value in os.getloadavg()],
        "revision": describe_revision(Path(__file__).parent),
    }


def _row(measured: dict[str, Any]) -> dict[str, Any]:
    times = measured["times"]
    ratios = []
    for over in (ALONE, ANEW):
        for measure in ("wall_s", "cpu_s"):
            extra = [each[measure] if over == ANEW else 0.0 for each in times["one load"]]
            under = [each[measure] + more for each, more in zip(times[TOGETHER], extra, strict=True)]
            values = [each[measure] / below for each, below in zip(times[over], under, strict=True)]
            found = _spread(values)
            ratios.append(
                {"over": over, "measure": measure, **found}
                | {"is_must_met": found["median"] >= MUST, "is_aim_met": found["median"] >= AIM}
            )
    arms = {
        name: {measure: _spread([each[measure] for each in spent]) for measure in ("wall_s", "cpu_s")}
        for name, spent in times.items()
    }
    return {"arms": arms, "ratios": ratios, "agreement": measured["agreement"]}


def _spread(values: Sequence[float]) -> dict[str, Any]:
    return {
        "median": round(statistics.median(values), 3),
        "min": round(min(values), 3),
        "max": round(max(values), 3),
        "values": [round(value, 3) for value in values],
    }


def _print(report: dict[str, Any]) -> int:
    """The figures for a reader; 1 where a wall time misses its must against the base in memory, else 0."""
    missed = False
    for row, found in report["rows"].items():
        print(f"{row}: {report['adapters']} adapters, {report['texts']} texts")
        for name, arm in found["arms"].items():
            wall, cpu = arm["wall_s"], arm["cpu_s"]
            spread = f"({wall['min']:.2f} to {wall['max']:.2f})"
            print(f"  {name:18} {wall['median']:8.2f} s {spread:20} CPU {cpu['median']:8.2f} s")
        for ratio in found["ratios"]:
            judged = [
                f"{what} {report[what]:g}x {'met' if ratio[f'is_{what}_met'] else 'not met'}"
                for what in ("must", "aim")
            ]
            spread = f"({ratio['min']:.2f} to {ratio['max']:.2f})"
            print(f"  {ratio['over']:18} {ratio['measure']:6} {ratio['median']:6.2f}x {spread:18} {', '.join(judged)}")
            missed |= ratio["over"] == ALONE and ratio["measure"] == "wall_s" and not ratio["is_must_met"]
        agreement = found["agreement"]
        print(
            f"  largest difference of {agreement['answers']} answers: {agreement['largest_difference']:.1e}; "
            f"{agreement['other_labels']} with another label"
        )
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
