from pathlib import Path

import pytest
import torch

from legion.foundation.settings import Settings
from legion.neuro_architecture.adapters import build_adapter, save_adapter, trainable_parameters
from legion.neuro_architecture.data.base_models import BaseModel, resolve_base
from legion.neuro_architecture.portability.trained import TrainedForm, load_trained
from legion.neuro_architecture.spec.architecture import AnyArchitecture, parse_architecture
from legion.neuro_architecture.spec.task import TaskKind, TaskSpec
from legion.testing import tiny_model

KINDS: dict[str, TaskKind] = {"llama": "summarization", "gpt2": "summarization", "bert": "classification"}
LABELS = ("negative", "positive", "neutral")


@pytest.fixture(scope="session")
def tiny_bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, BaseModel]:
    root = tmp_path_factory.mktemp("bases")
    settings = Settings.load(workspace=root)
    return {family: resolve_base(str(tiny_model(root / family, family)), settings) for family in KINDS}


def labels_of(kind: TaskKind) -> tuple[str, ...]:
    return LABELS if kind == "classification" else ()


def shaken_adapter(
    base: BaseModel, architecture: AnyArchitecture, folder: Path, *, kind: TaskKind, std: float = 0.1
) -> Path:
    """An adapter folder whose every trained weight is away from where it starts."""
    model = build_adapter(architecture).apply(base.load(TaskSpec(name="t", kind=kind, labels=labels_of(kind))), seed=1)
    # PEFT multiplies what these train by up to 640: the same shake would drown the base.
    std /= {"WaveFT": 25.0, "FourierFT": 30.0, "RandLoRA": 20.0}.get(architecture.strategy, 1.0)
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in trainable_parameters(model).values():
            weight.add_(torch.randn(weight.shape, generator=draw) * std)
    save_adapter(model, folder, base=base.reference)
    return folder


def trained_form(base: BaseModel, config: dict, folder: Path, *, kind: TaskKind, std: float = 0.1) -> TrainedForm:
    shaken_adapter(base, parse_architecture(config), folder, kind=kind, std=std)
    return load_trained(folder, base, kind=kind, labels=labels_of(kind))
