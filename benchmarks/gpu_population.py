"""A population on one GPU against the Trainer of transformers, one adapter after another, in bf16 on the same device.

    python -m benchmarks.gpu_population [--rows minilm smollm2] [--repeats 2] [--out FILE]

Rows: 64 adapters of three families on MiniLM, movie sentiment; 32 on SmolLM2, headlines of news. Arms:

- `ours`: one population with this machine's own choices (`legion doctor`): bf16, merged groups, recorded steps.
- `trainer`: the base loaded anew for each adapter, Trainer with its defaults and `bf16=True`.
- `tuned`: the base kept on the device in bf16, batches of like length, Trainer.

Every arm reads and encodes its data, trains, validates once and saves its adapters; that is what is timed. The two
baselines train every `stride`-th adapter, and their seconds of training are multiplied by it: `sampled` says of how
many. Arms are interleaved, their order turned around at every repeat, after an untimed short run of each. Medians with
the least and the most; ratios are formed within a repeat. Results go to `benchmarks/results/gpu-population.json` with
the device's name.

`--minilm` and `--smollm2` name folders to use in place of the embedded models; of SmolLM2 a config and a tokenizer
suffice, and weights are drawn, which no time depends on. The result says so.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import shutil
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import torch
from benchmarks.population.places import Outcome, make_place, write_rows
from benchmarks.population.workloads import Workload, headline, mixed

from legion.foundation.clock import SystemClock, rfc3339
from legion.foundation.files import write_json
from legion.foundation.machine import describe_machine
from legion.foundation.revision import describe_revision
from legion.foundation.settings import Settings
from legion.neuro_architecture.packed.dispatch import choose_dispatch

RESULTS: Final = Path(__file__).parent / "results" / "gpu-population.json"
_ARMS: Final = {
    "ours": "benchmarks.population.ours:prepare",
    "trainer": "benchmarks.population.baselines:prepare_b0_autocast",
    "tuned": "benchmarks.population.baselines:prepare_b1_bf16",
}
# Over `trainer`, in wall time.
_MUST: Final = {"minilm": 15.0, "smollm2": 8.0}
_AIM: Final = {"minilm": 40.0, "smollm2": 13.0}
_STRIDE: Final = {"minilm": 8, "smollm2": 8}
_LIBRARIES: Final = ("torch", "transformers", "peft", "accelerate")


def main() -> int:
    """Runs all and writes the file after every repeat."""
    arguments = _arguments()
    if not torch.cuda.is_available():
        print(f"no CUDA device: torch {torch.__version__} finds none", file=sys.stderr)
        return 2
    warnings.simplefilter("ignore")
    root = Path(arguments.root or tempfile.mkdtemp(prefix="legion-gpu-"))
    workloads = {key: _workload(key, arguments) for key in arguments.rows}
    notes = {key: _complete(Path(workload.base)) for key, workload in workloads.items()}
    units: list[dict[str, Any]] = []
    for key, workload in workloads.items():
        for arm in _ARMS:
            few = workload.every(len(workload.trials) // 2).scaled(steps=3, validation=4)
            _unit(key, arm, few, root, repeat=-1)
    for repeat in range(arguments.repeats):
        for key, workload in workloads.items():
            for arm in list(_ARMS) if repeat % 2 == 0 else reversed(_ARMS):
                found = _unit(key, arm, workload, root, repeat=repeat)
                units.append(found)
                print(
                    f"{key} {arm} #{repeat}: {found['wall_s']} s, {found['adapters_per_minute']} adapters a minute",
                    flush=True,
                )
        report = _report(units, workloads, notes)
        write_json(arguments.out, report)
    print(json.dumps(report["rows"], indent=1))
    return 0 if all(row["is_met"] for row in report["rows"].values()) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=list(_MUST), default=list(_MUST))
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--minilm", default="minilm-l6")
    parser.add_argument("--smollm2", default="smollm2-135m")
    parser.add_argument("--minilm-steps", type=int, default=100)
    parser.add_argument("--smollm2-steps", type=int, default=40)
    parser.add_argument("--root", help="a folder to work in, where rows of data may lie already")
    parser.add_argument("--out", type=Path, default=RESULTS)
    return parser.parse_args()


def _workload(key: str, arguments: argparse.Namespace) -> Workload:
    workload = mixed(64, arguments.minilm_steps) if key == "minilm" else headline(32, arguments.smollm2_steps)
    return replace(workload, base=getattr(arguments, key))


def _complete(folder: Path) -> str | None:
    """Draws weights for a folder that has a config and none; says so."""
    if not folder.is_dir():
        return None
    if not (folder / "model.safetensors").is_file():
        from transformers import AutoConfig, AutoModelForCausalLM

        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder)).save_pretrained(folder)
        (folder / "drawn").touch()
    return "weights drawn at random" if (folder / "drawn").is_file() else "weights of a given folder"


def _unit(key: str, arm: str, workload: Workload, root: Path, *, repeat: int) -> dict[str, Any]:
    """One arm once."""
    settings = Settings.load(workspace=root)
    write_rows(root, workload, settings)
    stride = 1 if arm == "ours" or repeat < 0 else _STRIDE[key]
    part = workload.every(stride)
    folder = root / f"{key}-{arm}-{repeat}"
    shutil.rmtree(folder, ignore_errors=True)
    place = make_place(folder, workload, threads=0, home=settings.home, device="cuda")
    module, _, function = _ARMS[arm].partition(":")
    work: Callable[[], Outcome] = getattr(importlib.import_module(module), function)(part, place)
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    torch.cuda.synchronize()
    began_s = time.perf_counter()
    outcome = work()
    torch.cuda.synchronize()
    wall_s = time.perf_counter() - began_s
    peak_mb = torch.cuda.max_memory_allocated() / 1e6
    if stride > 1:
        alone_s = sum(outcome.trial_s)
        wall_s += alone_s * (len(workload.trials) / len(part.trials) - 1.0)
    shutil.rmtree(folder)
    return {
        "row": key,
        "arm": arm,
        "repeat": repeat,
        "wall_s": round(wall_s, 3),
        "adapters_per_minute": round(60.0 * len(workload.trials) / wall_s, 1),
        "sampled": len(part.trials),
        "peak_gpu_mb": round(peak_mb, 1),
        "mean_loss": statistics.fmean(outcome.losses),
        "mean_accuracy": statistics.fmean(outcome.accuracies) if outcome.accuracies else None,
        "record": outcome.record,
    }


def _report(
    units: list[dict[str, Any]], workloads: dict[str, Workload], notes: dict[str, str | None]
) -> dict[str, Any]:
    rows = {}
    for key, workload in workloads.items():
        of_arm = {
            arm: {unit["repeat"]: unit for unit in units if (unit["row"], unit["arm"]) == (key, arm)} for arm in _ARMS
        }
        ratios = {
            arm: _spread([found["wall_s"] / of_arm["ours"][repeat]["wall_s"] for repeat, found in of_arm[arm].items()])
            for arm in _ARMS
            if arm != "ours"
        }
        rows[key] = {
            "adapters": len(workload.trials),
            "steps": workload.steps,
            "batch_size": workload.batch_size,
            "base_note": notes[key],
            "ratio_over_ours": ratios,
            "adapters_per_minute": {
                arm: _spread([unit["adapters_per_minute"] for unit in found.values()]) for arm, found in of_arm.items()
            },
            "peak_gpu_mb": {arm: max(unit["peak_gpu_mb"] for unit in found.values()) for arm, found in of_arm.items()},
            "must": _MUST[key],
            "aim": _AIM[key],
            "is_met": ratios["trainer"]["median"] >= _MUST[key],
        }
    return {
        "command": f"python -m benchmarks.gpu_population --rows {' '.join(workloads)}",
        "date": rfc3339(SystemClock().now()),
        "device": torch.cuda.get_device_name(),
        "machine": describe_machine(),
        "versions": {name: version(name) for name in _LIBRARIES},
        "revision": describe_revision(Path(__file__).parent),
        "dispatch": choose_dispatch(Settings.load(device="cuda"), torch.device("cuda")).to_dict(),
        "rows": rows,
        "units": units,
    }


def _spread(values: list[float]) -> dict[str, float | int]:
    return {
        "median": round(statistics.median(values), 2),
        "min": round(min(values), 2),
        "max": round(max(values), 2),
        "n": len(values),
    }


if __name__ == "__main__":
    sys.exit(main())
