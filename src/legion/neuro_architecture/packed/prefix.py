"""Hidden states below the lowest adapter: computed once for an example, for all members and epochs."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

import numpy as np
import torch
from torch import Tensor

from legion.foundation.canonical import digest_json
from legion.neuro_architecture.packed.attention import Context, take
from legion.neuro_architecture.packed.cut import Cut, Stage, passes_below
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
        fetch: Gives some examples as a batch on the device.
    """

    def __init__(self, digest: str, lengths: Sequence[int], fetch: Callable[[Sequence[int]], Inputs]) -> None:
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
    """What the cache saved, in passes of one example through one block; its attention alone counts as a third.

    Attributes:
        computed: Block passes that ran, shared by all members that start above.
        wanted: Block passes that members trained or measured apart would have run below their adapters.
    """

    computed: float = 0.0
    wanted: float = 0.0

    @property
    def saved_share(self) -> float | None:
        """The part of `wanted` that did not run; None where nothing was wanted."""
        return 1.0 - self.computed / self.wanted if self.wanted else None


@final
class _Store:
    """States of one split at one cut, [rows, D], in memory or in a file that other processes may use too.

    A file's example counts as kept when its checksum stands in the table beside it and matches: states that a kill left
    half-written are computed anew.
    """

    def __init__(self, lengths: Sequence[int], width: int, dtype: torch.dtype, path: Path | None) -> None:
        self._starts = np.concatenate([[0], np.cumsum(lengths)])
        shape = (int(self._starts[-1]), width)
        self._sums: np.ndarray | None = None
        self._is_kept = np.zeros(len(lengths), dtype=bool)
        if path is None:
            self._states = torch.zeros(shape, dtype=dtype)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        size = shape[0] * shape[1] * dtype.itemsize
        raw = np.memmap(path, dtype=np.uint8, mode="r+" if path.is_file() else "w+", shape=(size,))
        self._states = torch.from_numpy(raw).view(dtype).view(shape)
        table = path.with_suffix(".sums")
        self._sums = np.memmap(table, dtype=np.uint32, mode="r+" if table.is_file() else "w+", shape=(len(lengths),))

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
        key: What decides the states beside tokens and cut: base, tokenizer, dtype.
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
        self._stores: dict[tuple[str, Cut], _Store | None] = {}
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
        self, split: str, examples: Sequence[int], inputs: Inputs, context: Context, wanted: Mapping[Cut, int]
    ) -> dict[Cut, Tensor]:
        """The states at each cut of `wanted`, [1, B, T, D], or [1, B, 1, D] where only the read position is kept.

        Args:
            split: Name of the split.
            examples: The batch's examples, as numbers within it.
            inputs: The batch.
            context: The batch's.
            wanted: How many members begin at each cut.
        """
        batch, length = len(examples), inputs.mask.shape[1]
        self.counts.wanted += batch * sum(cut.passes * members for cut, members in wanted.items())
        stores = {cut: self._store(split, cut) for cut in sorted(wanted) if cut.passes}
        kept = {cut: store for cut, store in stores.items() if store is not None}
        if kept:
            self._fill(split, examples, kept)
        found = {
            cut: store.read(examples, 1 if cut.is_read_only else length).to(inputs.mask.device)
            for cut, store in kept.items()
        }
        rest = sorted(wanted.keys() - kept.keys())
        self.counts.computed += batch * passes_below(rest)
        return found | dict(self._way_up(inputs, context, rest))

    def _way_up(self, inputs: Inputs, context: Context, cuts: Sequence[Cut]) -> Iterator[tuple[Cut, Tensor]]:
        """The states of a batch at rising cuts, in one pass over the bare blocks."""
        if not cuts:
            return
        x, sites = self._trunk.embed(inputs.batch["input_ids"]), Sites.none()
        for block in range(cuts[-1].block + 1):
            here = [cut for cut in cuts if cut.block == block]
            yield from ((cut, x) for cut in here if cut.stage is Stage.ENTERED)
            inside = [cut for cut in here if cut.stage is not Stage.ENTERED]
            is_last = block == cuts[-1].block
            if is_last and not inside:
                return
            is_narrow = is_last and all(cut.is_read_only for cut in inside)
            h = self._trunk.attended(block, x, context, sites, inputs.read_BR if is_narrow else None)
            if is_last and not any(cut.stage is Stage.FED for cut in inside):
                parts: dict[Stage, Tensor] = {Stage.ATTENDED: h}
            else:
                y = self._trunk.fed(block, h, sites)
                parts = {Stage.ATTENDED: h, Stage.FED: torch.cat((h, y), dim=-1) if inside else h}
                if not is_last:
                    x = self._trunk.joined(block, h, y, sites)
            for cut in inside:
                state = parts[cut.stage]
                yield cut, take(state, inputs.read_BR) if cut.is_read_only and not is_narrow else state

    def _fill(self, split: str, examples: Sequence[int], stores: Mapping[Cut, _Store]) -> None:
        """Computes what the stores lack of the examples, chunk by chunk."""
        kept = self._splits[split]
        missing = {example for store in stores.values() for example in store.lacks(examples)}
        for chunk in kept.chunks_of(sorted(missing)):
            inputs = kept.fetch(chunk)
            context = self._trunk.context(inputs.mask)
            for cut, state in self._way_up(inputs, context, sorted(stores)):
                stores[cut].write(chunk, state[0].cpu())
            self.counts.computed += len(chunk) * passes_below(stores)

    def _store(self, split: str, cut: Cut) -> _Store | None:
        known = self._splits.get(split)
        if known is None:
            return None
        place = (split, cut)
        if place not in self._stores:
            self._stores[place] = self._make(known, cut)
        return self._stores[place]

    def _kept_bytes(self, *, is_on_disk: bool) -> int:
        stores = [store for store in self._stores.values() if store is not None]
        return sum(store.num_bytes for store in stores if store.is_on_disk == is_on_disk)

    def _make(self, split: KeptSplit, cut: Cut) -> _Store | None:
        lengths = [1] * len(split.lengths) if cut.is_read_only else split.lengths
        width = cut.width(self._width)
        size = sum(lengths) * width * self._dtype.itemsize
        if self.memory_bytes + size <= self._budget.memory_bytes:
            return _Store(lengths, width, self._dtype, None)
        folder = self._budget.folder
        if folder is not None and self.disk_bytes + size <= self._budget.disk_bytes:
            place = f"{cut.block} {cut.stage.name} {'read position' if cut.is_read_only else 'all positions'}"
            content = self._key | {"split": split.digest, "place": place, "dtype": str(self._dtype)}
            name = digest_json(content).removeprefix("sha256:")
            return _Store(lengths, width, self._dtype, folder / f"{name}.states")
        return None
