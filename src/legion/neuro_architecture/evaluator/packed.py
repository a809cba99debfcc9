"""Asking many adapters on one frozen base in one pass."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

from legion.foundation.errors import AdapterError, IntegrityError
from legion.neuro_architecture.data.encoding import TaskEncoder
from legion.neuro_architecture.evaluator.inference import Answer, like_length_batches, probabilities
from legion.neuro_architecture.packed import Dispatch, Pool
from legion.neuro_architecture.packed.prefix import CacheBudget
from legion.neuro_architecture.spec.proposal import BaseReference

__all__ = ["PackedClassifier"]

# An accelerator's groups are as large as training finds room for; where one model was enough before, few must do.
_MOST_BLOCKS: Final = 64


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class PackedClassifier:
    """Probability of each label by many adapters: as `Classifier` answers for each alone, to the rounding of floats.

    Every batch passes once through the frozen blocks below an adapter, for all adapters that begin above; from there on
    adapters of one family are batched products. Where the base's blocks are not known, each model runs as a whole.
    Adapters are held in waves, so that memory does not grow with their number.

    Attributes:
        model: The bare classifier in eval mode, fp32; its weights are shared, itself it stays as it is.
        base: What `model` is.
        encoder: Turns texts into its inputs.
        batch_size: Texts in a forward pass.
        dispatch: How this machine computes best; answers stay in fp32, and groups within `_MOST_BLOCKS`.
        most_members: Most adapters held at once.
        most_weights: A wave that holds so many adapter weights takes no further adapter.
    """

    model: Any
    base: BaseReference
    encoder: TaskEncoder
    batch_size: int
    dispatch: Dispatch
    most_members: int = 64
    most_weights: int = 1 << 26

    def answer(
        self,
        folders: Mapping[str, Path],
        texts: Sequence[str],
        report: Callable[[int], None] = lambda _done: None,
    ) -> dict[str, list[Answer]]:
        """One answer of each adapter for each text, in order; adapters that cannot be loaded are left out.

        Args:
            folders: Adapter folders by name.
            texts: What is asked.
            report: Told how many adapters are done.
        """
        distinct = list(dict.fromkeys(texts))
        prompts = self.encoder.encode_texts(distinct)
        batches = list(like_length_batches([len(prompt) for prompt in prompts], self.batch_size))
        found: dict[str, list[Answer]] = {}
        pool = self._pool()
        try:
            for done, wave in self._waves(pool, folders):
                if wave:
                    answers = self._ask(pool, wave, prompts, batches)
                    places = {text: place for place, text in enumerate(distinct)}
                    found |= {name: [answers[name][places[text]] for text in texts] for name in wave}
                    pool.drop(wave)
                report(done)
        finally:
            pool.close()
        return found

    def _pool(self) -> Pool:
        shared = {id(weight): weight for weight in (*self.model.parameters(), *self.model.buffers())}
        blocks = min(self.dispatch.group_blocks, _MOST_BLOCKS)
        return Pool(
            copy.deepcopy(self.model, shared),
            key={"base": self.base.digest},
            dispatch=self.dispatch.model_copy(update={"precision": "float32", "group_blocks": blocks}),
            device=self.model.device,
            budget=CacheBudget(memory_bytes=0),
        )

    def _waves(self, pool: Pool, folders: Mapping[str, Path]) -> Iterator[tuple[int, list[str]]]:
        """How many of `folders` are done with each wave, and the names that the pool then holds."""
        wave: list[str] = []
        weights = 0
        for done, (name, folder) in enumerate(folders.items(), start=1):
            # whoever measures a refused adapter alone meets the same error, and reports it by name
            with contextlib.suppress(AdapterError, IntegrityError):
                weights += pool.load(name, folder, self.base).num_parameters
                wave.append(name)
            if len(wave) >= self.most_members or weights >= self.most_weights or done == len(folders):
                yield done, wave
                wave, weights = [], 0

    def _ask(
        self, pool: Pool, names: Sequence[str], prompts: Sequence[list[int]], batches: Sequence[list[int]]
    ) -> dict[str, dict[int, Answer]]:
        answers: dict[str, dict[int, Answer]] = {name: {} for name in names}
        for batch in batches:
            inputs = pool.read(self.encoder.collate_prompts([prompts[place] for place in batch]))
            for name, judged in pool.measure("asked", batch, inputs, names).items():
                if judged.logits_NC is None:
                    raise RuntimeError("a classifier without logits")
                answers[name] |= zip(batch, probabilities(judged.logits_NC), strict=True)
        return answers
