"""Hidden states below the lowest adapter: computed once for an example, for all members and epochs."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

import numpy as np
import torch
from torch import Tensor

from legion.foundation.canonical import digest_json
from legion.neuro_architecture.packed.attention import Context
from legion.neuro_architecture.packed.inputs import Inputs
from legion.neuro_architecture.packed.sites import Sites
from legion.neuro_architecture.packed.trunk import Trunk

__all__ = ["CacheBudget", "KeptSplit", "Prefix", "PrefixCounts"]

_CHUNK: Final = 32


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class CacheBudget:
    """Where states may be kept.

    Attributes:
        memory_bytes: Most memory for all of them.
        disk_bytes: Most disk for those that find no memory.
        folder: Where their files go; None keeps nothing on disk.
    """

    memory_bytes: int
    disk_bytes: int = 0
    folder: Path | None = None


@final
class KeptSplit:
    """A split whose states are kept.

    States are computed in chunks of examples of like length that only the split decides, never in the batches that
    happen to ask: so they are the same bits whatever was asked before, and a resumed training finds what it left.

    Args:
        digest: Of its token ids: states of other tokens are never taken for them.
        lengths: Tokens of each example.
        fetch: Gives the batch of some examples on the device: input_ids and attention_mask [B, T].
    """

    def __init__(
        self, digest: str, lengths: Sequence[int], fetch: Callable[[Sequence[int]], dict[str, Tensor]]
    ) -> None:
        self.digest = digest
        self.lengths = tuple(lengths)
        self.fetch = fetch
        order = sorted(range(len(lengths)), key=lambda example: (lengths[example], example))
        self._chunks = [order[start : start + _CHUNK] for start in range(0, len(order), _CHUNK)]
        self._chunk_of = {example: number for number, chunk in enumerate(self._chunks) for example in chunk}

    def chunks_of(self, examples: Sequence[int]) -> list[list[int]]:
        """The chunks that these examples belong to."""
        return [self._chunks[number] for number in sorted({self._chunk_of[example] for example in examples})]


@final
@dataclass(slots=True)
class PrefixCounts:
    """What the cache saved, in passes of one example through one block.

    Attributes:
        computed: Block passes that ran, shared by all members that start above.
        wanted: Block passes that members trained or measured apart would have run below their adapters.
    """

    computed: int = 0
    wanted: int = 0

    @property
    def saved_share(self) -> float | None:
        """The part of `wanted` that did not run; None where nothing was wanted."""
        return 1.0 - self.computed / self.wanted if self.wanted else None


@final
class _Store:
    """States of one split before one block, [tokens, D], in memory or in a file that other processes may use too.

    A file's example counts as kept when its checksum stands in the table beside it and matches: states that a kill left
    half-written are computed anew.
    """

    def __init__(self, split: KeptSplit, width: int, dtype: torch.dtype, path: Path | None) -> None:
        self._starts = np.concatenate([[0], np.cumsum(split.lengths)])
        shape = (int(self._starts[-1]), width)
        self._sums: np.ndarray | None = None
        self._is_kept = np.zeros(len(split.lengths), dtype=bool)
        if path is None:
            self._states = torch.zeros(shape, dtype=dtype)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        size = shape[0] * shape[1] * dtype.itemsize
        raw = np.memmap(path, dtype=np.uint8, mode="r+" if path.is_file() else "w+", shape=(size,))
        self._states = torch.from_numpy(raw).view(dtype).view(shape)
        table = path.with_suffix(".sums")
        self._sums = np.memmap(
            table, dtype=np.uint32, mode="r+" if table.is_file() else "w+", shape=(len(split.lengths),)
        )

    @property
    def is_on_disk(self) -> bool:
        return self._sums is not None

    @property
    def num_bytes(self) -> int:
        return self._states.numel() * self._states.dtype.itemsize

    def lacks(self, examples: Sequence[int]) -> list[int]:
        """Those of the examples that are not kept yet."""
        for example in examples:
            if not self._is_kept[example] and self._sums is not None and self._sums[example]:
                self._is_kept[example] = self._sums[example] == self._checksum(example)
        return [example for example in examples if not self._is_kept[example]]

    def read(self, examples: Sequence[int], length: int) -> Tensor:
        """[1, B, T, D]; padding holds some token's state, which no mask lets through."""
        starts = torch.from_numpy(self._starts[list(examples)])
        ends = torch.from_numpy(self._starts[[example + 1 for example in examples]])
        rows = torch.minimum(starts[:, None] + torch.arange(length), ends[:, None] - 1)
        return self._states[rows.flatten()].view(1, len(examples), length, -1)

    def write(self, examples: Sequence[int], x_BTD: Tensor) -> None:
        for row, example in enumerate(examples):
            start, end = self._starts[example], self._starts[example + 1]
            self._states[start:end] = x_BTD[row, : end - start]
            if self._sums is not None:
                self._sums[example] = self._checksum(example)
            self._is_kept[example] = True

    def _checksum(self, example: int) -> int:
        rows = self._states[self._starts[example] : self._starts[example + 1]]
        return zlib.crc32(rows.view(torch.uint8).numpy().tobytes()) or 1


@final
class Prefix:
    """Runs the frozen blocks for a batch once and hands out the states that groups begin with.

    States are kept where an example is seen again, within the budget: in memory first, then in files; else they are
    computed anew. Only bare blocks run here, so nothing that a member does can spoil them. Not for several threads.

    Args:
        trunk: The frozen base, in eval mode and without dropout.
        key: What decides the states beside tokens and block: base, tokenizer, dtype.
        width: Of the hidden states.
        dtype: Of the hidden states.
        budget: Where they may be kept.
    """

    def __init__(
        self, trunk: Trunk, key: dict[str, str], *, width: int, dtype: torch.dtype, budget: CacheBudget
    ) -> None:
        self._trunk = trunk
        self._key = key
        self._width = width
        self._dtype = dtype
        self._budget = budget
        self._splits: dict[str, KeptSplit] = {}
        self._stores: dict[tuple[str, int], _Store | None] = {}
        self.counts = PrefixCounts()

    @property
    def memory_bytes(self) -> int:
        """Kept in memory."""
        return self._kept_bytes(is_on_disk=False)

    @property
    def disk_bytes(self) -> int:
        """Kept in files."""
        return self._kept_bytes(is_on_disk=True)

    def keeps(self, name: str) -> bool:
        """Whether states of this split are kept."""
        return name in self._splits

    def keep(self, name: str, split: KeptSplit) -> None:
        """From now on states of this split's examples are kept; for splits that are read more than once."""
        known = self._splits.get(name)
        if known is None or known.digest != split.digest:
            self._splits[name] = split
            self._stores = {place: store for place, store in self._stores.items() if place[0] != name}

    @torch.no_grad()
    def states(
        self, split: str, examples: Sequence[int], inputs: Inputs, context: Context, wanted: dict[int, int]
    ) -> dict[int, Tensor]:
        """The states before each block of `wanted`, [1, B, T, D].

        Args:
            split: Name of the split.
            examples: The batch's examples, as numbers within it.
            inputs: The batch.
            context: The batch's.
            wanted: How many members begin at each block.
        """
        batch, length = len(examples), inputs.mask.shape[1]
        self.counts.wanted += batch * sum(block * members for block, members in wanted.items())
        stores = {block: self._store(split, block) for block in sorted(wanted) if block}
        kept = {block: store for block, store in stores.items() if store is not None}
        if kept:
            self._fill(split, examples, kept)
        found = {block: store.read(examples, length).to(inputs.mask.device) for block, store in kept.items()}
        x, at = self._trunk.embed(inputs.batch["input_ids"]) if len(found) < len(wanted) else None, 0
        for block in sorted(wanted.keys() - kept.keys()):
            if x is not None:
                x = self._run(x, context, at, block)
                self.counts.computed += batch * (block - at)
                found[block], at = x, block
        return found

    def _run(self, x: Tensor, context: Context, first: int, last: int) -> Tensor:
        for index in range(first, last):
            x = self._trunk.block(index, x, context, Sites.none(), None)
        return x

    def _fill(self, split: str, examples: Sequence[int], stores: dict[int, _Store]) -> None:
        """Computes what the stores lack of the examples, chunk by chunk."""
        kept = self._splits[split]
        missing = {example for store in stores.values() for example in store.lacks(examples)}
        for chunk in kept.chunks_of(sorted(missing)):
            batch = kept.fetch(chunk)
            context = self._trunk.context(batch["attention_mask"])
            x, at = self._trunk.embed(batch["input_ids"]), 0
            for block, store in stores.items():
                x, at = self._run(x, context, at, block), block
                store.write(chunk, x[0].cpu())
            self.counts.computed += len(chunk) * at

    def _store(self, split: str, block: int) -> _Store | None:
        known = self._splits.get(split)
        if known is None:
            return None
        place = (split, block)
        if place not in self._stores:
            self._stores[place] = self._make(known, block)
        return self._stores[place]

    def _kept_bytes(self, *, is_on_disk: bool) -> int:
        stores = [store for store in self._stores.values() if store is not None]
        return sum(store.num_bytes for store in stores if store.is_on_disk == is_on_disk)

    def _make(self, split: KeptSplit, block: int) -> _Store | None:
        size = sum(split.lengths) * self._width * self._dtype.itemsize
        if self.memory_bytes + size <= self._budget.memory_bytes:
            return _Store(split, self._width, self._dtype, None)
        folder = self._budget.folder
        if folder is not None and self.disk_bytes + size <= self._budget.disk_bytes:
            content = self._key | {"split": split.digest, "block": str(block), "dtype": str(self._dtype)}
            name = digest_json(content).removeprefix("sha256:")
            return _Store(split, self._width, self._dtype, folder / f"{name}.states")
        return None
