"""Slots with real tiny bases and real adapters whose weights were drawn instead of trained."""

from __future__ import annotations

import pytest
import torch

from legion.core import LegionCore
from legion.neuro_architecture.adapters import build_adapter, save_adapter, trainable_parameters
from legion.neuro_architecture.data.base_models import resolve_base
from legion.neuro_architecture.records import SlotStore
from legion.neuro_architecture.registry import ArchitectureRegistry
from legion.neuro_architecture.spec.architecture import parse_architecture
from legion.neuro_architecture.spec.slot import Slot, SlotManifest
from legion.neuro_architecture.spec.task import TaskSpec

LABELS = ("negative", "positive")


class World:
    """Fills slots in one workspace."""

    def __init__(self, settings, folders, tmp_path) -> None:
        self.settings = settings
        self.folders = folders
        self.registry = ArchitectureRegistry.of(settings)
        self.core = LegionCore(settings, self.registry)
        self._scratch = tmp_path / "trained"

    def base(self, family):
        return resolve_base(str(self.folders[family]), self.settings)

    def snapshot(self, family, kind, config, seed=1):
        """Registers an adapter with drawn weights; returns its snapshot and the model that it was saved from."""
        base = self.base(family)
        labels = LABELS if kind == "classification" else ()
        model = base.load(TaskSpec(name="tiny", kind=kind, labels=labels), seed=seed)
        model = build_adapter(parse_architecture(config)).apply(model, seed=seed)
        draw = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in trainable_parameters(model).values():
                parameter.add_(torch.randn(parameter.shape, generator=draw) * 0.3)
        folder = self._scratch / f"{family}-{seed}"
        save_adapter(model.eval(), folder, base=base.reference)
        files = {path.name: path for path in folder.iterdir()}
        return self.registry.register(f"1.{seed}", config, {"accuracy": 0.5}, files=files), model

    def fill(self, name, family, kind, registered, **changes):
        slot = Slot(
            name=name,
            task_kind=kind,
            base=self.base(family).reference,
            snapshot=registered.digest if registered else None,
            labels=LABELS if kind == "classification" else (),
        )
        store = SlotStore(self.settings)
        store.replace(SlotManifest(slots=store.read().slots | {name: slot.model_copy(update=changes)}))


@pytest.fixture
def world(settings, tiny_folders, tmp_path) -> World:
    return World(settings, tiny_folders, tmp_path)
