"""`legion doctor`: what this machine can do, and what is missing."""

from __future__ import annotations

import shutil
from typing import Any, Final

import click

from legion.cli.output import emit, format_option
from legion.foundation.settings import Settings

__all__ = ["command"]

_DISK_WANTED_GIB: Final = 2.0
_MEMORY_WANTED_GIB: Final = 4.0


@click.command("doctor")
@format_option
def command(output_format: str) -> None:
    """Say what this machine can do: processor, memory, accelerator, libraries, assets; and what is missing."""
    settings = Settings.load()
    facts = _facts(settings)
    problems = _problems(facts)
    emit(output_format, facts | {"problems": problems}, lambda: _human(facts, problems), problems)


def _facts(settings: Settings) -> dict[str, Any]:
    from importlib.metadata import version

    import torch

    from legion.foundation.machine import available_cores, describe_machine
    from legion.neuro_architecture.data.assets import AssetStore
    from legion.neuro_architecture.packed.dispatch import choose_dispatch
    from legion.neuro_architecture.space import calibrate

    settings.home.mkdir(parents=True, exist_ok=True)
    has_cuda = torch.cuda.is_available()
    return {
        "machine": describe_machine(),
        "threads": settings.threads or available_cores(),
        "accelerator": torch.cuda.get_device_name() if has_cuda else None,
        "accelerator_reason": None if has_cuda else "torch sees no CUDA device",
        "libraries": {name: version(name) for name in ("torch", "transformers", "peft", "safetensors", "scikit-learn")},
        "calibration": calibrate(settings).to_dict(),
        "training": choose_dispatch(settings, torch.device("cuda" if _takes_cuda(settings) else "cpu")).to_dict(),
        "home": str(settings.home),
        "home_free_gib": round(shutil.disk_usage(settings.home).free / 2**30, 1),
        "workspace": str(settings.workspace),
        "assets": {row["name"]: row["state"] for row in AssetStore(settings).status()},
    }


def _takes_cuda(settings: Settings) -> bool:
    import torch

    return settings.device != "cpu" and torch.cuda.is_available()


def _problems(facts: dict[str, Any]) -> list[str]:
    found = []
    missing = [name for name, state in facts["assets"].items() if state != "ready"]
    if missing:
        found.append(f"assets missing: {', '.join(missing)}; fetch them: legion assets fetch")
    if missing and facts["home_free_gib"] < _DISK_WANTED_GIB:
        found.append(f"only {facts['home_free_gib']} GiB free in {facts['home']}; set LEGION_HOME to a larger disk")
    if facts["machine"]["memory_gib"] < _MEMORY_WANTED_GIB - 0.5:
        found.append(f"only {facts['machine']['memory_gib']} GiB of memory; 4 GiB are needed for the embedded task")
    return found


def _human(facts: dict[str, Any], problems: list[str]) -> str:
    machine = facts["machine"]
    lines = [
        f"processor    {machine['cpu']}, {machine['cores']} cores ({machine['cpu_features'] or 'no AVX'})",
        f"memory       {machine['memory_gib']} GiB",
        f"accelerator  {facts['accelerator'] or 'none: ' + facts['accelerator_reason']}",
        f"threads      {facts['threads']}",
        "libraries    " + ", ".join(f"{name} {number}" for name, number in facts["libraries"].items()),
        "calibration  " + ", ".join(f"{key} {_short(value)}" for key, value in facts["calibration"].items()),
        *_training(facts["training"]),
        f"home         {facts['home']} ({facts['home_free_gib']} GiB free)",
        f"workspace    {facts['workspace']}",
        "assets       " + ", ".join(f"{name}: {state}" for name, state in facts["assets"].items()),
    ]
    return "\n".join(lines + (["", *problems] if problems else ["", "nothing is missing"]))


def _training(chosen: dict[str, Any]) -> list[str]:
    """How a population computes here, and why; LEGION_ATTENTION, _PRECISION, _WORKERS, _GROUP_BLOCKS override it."""
    size = f"groups of at most {chosen['group_blocks']} blocks"
    choices = f"attention {chosen['kernel']}, {chosen['precision']}, {chosen['workers']} groups side by side, {size}"
    return [f"training     {choices}", *(f"             {part}" for part in chosen["reason"].split("; "))]


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
