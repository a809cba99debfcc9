"""LEGION Core: resolves a slot, loads what it names, answers."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import final

from legion.core.answer import Answer
from legion.core.serving import ServedModel, serve
from legion.foundation.clock import Clock, SystemClock
from legion.foundation.errors import InvalidValueError
from legion.foundation.settings import Settings
from legion.neuro_architecture.records import SlotStore
from legion.neuro_architecture.spec.ports import RegistryPort
from legion.neuro_architecture.spec.slot import Slot

__all__ = ["LegionCore"]


@final
class LegionCore:
    """Answers texts through the slots of one workspace; what agents, the CLI and servers call.

    The manifest is read at every question, so an applied or reverted patch is in force from the next one on. A loaded
    model is kept under everything that its slot's entry says (base, snapshot, labels): another snapshot is another
    model, never the old one under a new name. Threads may share one object; questions to one model take turns.

    Args:
        settings: The workspace, its device and threads (torch's own number of threads is set, for the process).
        registry: Where snapshots and their files are.
        clock: Measures the latency.
        max_models: Models kept loaded; the one asked longest ago goes first.
    """

    def __init__(
        self, settings: Settings, registry: RegistryPort, *, clock: Clock | None = None, max_models: int = 4
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._clock = clock or SystemClock()
        self._slots = SlotStore(settings)
        self._max_models = max_models
        self._models: OrderedDict[str, ServedModel] = OrderedDict()
        self._loading = threading.Lock()

    def slots(self) -> dict[str, Slot]:
        """What there is to ask, as the manifest stands now."""
        return self._slots.read().slots

    def ask(self, slot: str, text: str) -> Answer:
        """The slot's answer to the text, with the digest of the snapshot that gave it.

        Raises:
            UnknownNameError: there is no such slot, or its base is nowhere.
            InvalidValueError: the text is blank.
            ModelError: the base is not the one that the slot names, or the slot has no trained head.
            AdapterError: the snapshot's adapter does not fit the base.
            IntegrityError: the snapshot is not registered or was altered.
        """
        entry = self._slots.slot(slot)
        if not text.strip():
            raise InvalidValueError("the text is blank", hint=f'legion ask {slot} "some text"')
        model = self._model(entry)
        started = self._clock.monotonic_s()
        scores = model.classify(text) if entry.task_kind == "classification" else {}
        label = max(scores, key=scores.__getitem__) if scores else None
        answer = model.write(text) if label is None else label
        return Answer(
            slot=entry.name,
            task_kind=entry.task_kind,
            text=answer,
            label=label,
            scores=scores,
            snapshot=entry.snapshot,
            base=entry.base.name,
            base_digest=entry.base.digest,
            latency_ms=(self._clock.monotonic_s() - started) * 1e3,
        )

    def _model(self, entry: Slot) -> ServedModel:
        key = entry.model_copy(update={"name": ""}).model_dump_json()
        with self._loading:
            if key not in self._models:
                self._models[key] = serve(entry, self._settings, self._registry)
            self._models.move_to_end(key)
            while len(self._models) > self._max_models:
                self._models.popitem(last=False)
            return self._models[key]
