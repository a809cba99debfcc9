"""A safe format is not a safe model: reads a tensor file's header and every value in it.

```
u64 little endian: length of the header | header: JSON, {name: {dtype, shape, data_offsets: [begin, end]}} | bytes
```

Tensors lie one behind the other without holes, and the last one ends with the file (safetensors' own rule).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, final

from legion.foundation.errors import InvalidValueError
from legion.neuro_architecture.registry.plain_json import parse_plain_json
from legion.neuro_architecture.registry.regular import open_regular

__all__ = ["MAX_HEADER_BYTES", "TensorFacts", "TensorInspection", "inspect_tensors"]

MAX_HEADER_BYTES: Final = 16 << 20
_CHUNK_BYTES: Final = 1 << 20
_METADATA: Final = "__metadata__"
_FIELDS: Final = frozenset({"dtype", "shape", "data_offsets"})

_BITS: Final[Mapping[str, int]] = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
}

# A number is NaN or infinite where all bits of its mask are set (the exponent's; in formats without infinity, all).
_MASKS: Final[Mapping[str, tuple[str, int]]] = {
    "F64": ("<u8", 0x7FF0_0000_0000_0000),
    "F32": ("<u4", 0x7F80_0000),
    "C64": ("<u4", 0x7F80_0000),
    "F16": ("<u2", 0x7C00),
    "BF16": ("<u2", 0x7F80),
    "F8_E5M2": ("<u1", 0x7C),
    "F8_E4M3": ("<u1", 0x7F),
    "F8_E8M0": ("<u1", 0xFF),
}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class TensorFacts:
    """One tensor as it lies in its file.

    Attributes:
        name: As the header spells it.
        dtype: safetensors' word for it (`BF16`).
        shape: Its sizes.
        num_non_finite: How many of its numbers are NaN or infinite.
        begin: Where its bytes begin, counted from the header's end.
        end: Where they end.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    num_non_finite: int
    begin: int
    end: int


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class TensorInspection:
    """What a tensor file holds.

    Attributes:
        tensors: In the order of their bytes.
        metadata: The header's own words.
    """

    tensors: tuple[TensorFacts, ...]
    metadata: Mapping[str, str]

    @property
    def is_finite(self) -> bool:
        """Whether every number of every tensor is one."""
        return not any(tensor.num_non_finite for tensor in self.tensors)


def inspect_tensors(path: Path) -> TensorInspection:
    """Names, dtypes, shapes and the number of NaN and infinite values of a safetensors file, read in pieces.

    Raises:
        InvalidValueError: it is no sound safetensors file; says what is wrong with it.
        IntegrityError: it is no regular file.
        OSError: it is missing or cannot be read.
    """
    with open_regular(path) as (file, size):
        try:
            return _inspect(file, size)
        except ValueError as error:
            raise InvalidValueError(f"{path.name} is no sound safetensors file", cause=str(error)) from error


def _inspect(file: BinaryIO, size: int) -> TensorInspection:
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > size - 8:
        raise ValueError(f"it has {size} bytes, too few for the header of {length} that it announces")
    if length > MAX_HEADER_BYTES:
        raise ValueError(f"its header has {length} bytes; at most {MAX_HEADER_BYTES} are read")
    header = parse_plain_json(file.read(length), "its header")
    if not isinstance(header, dict):
        raise ValueError("its header is no object")
    metadata = header.pop(_METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise ValueError(f"{_METADATA} maps no words to words")
    tensors = sorted(
        (_facts(name, entry) for name, entry in header.items()), key=lambda facts: (facts.begin, facts.end)
    )
    _refuse_gaps(tensors, size - 8 - length)
    return TensorInspection(tensors=tuple(_read(file, facts) for facts in tensors), metadata=metadata)


def _facts(name: str, entry: Any) -> TensorFacts:
    if not isinstance(entry, dict) or set(entry) != _FIELDS:
        raise ValueError(f"tensor {name!r} has not just {', '.join(sorted(_FIELDS))}")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _BITS:
        raise ValueError(f"tensor {name!r} is of unknown dtype {str(dtype)[:40]!r}")
    if not (_are_sizes(shape) and _are_sizes(offsets) and len(offsets) == 2 and offsets[0] <= offsets[1]):
        raise ValueError(f"tensor {name!r} has shape {str(shape)[:80]} at {str(offsets)[:80]}")
    num_bits = math.prod(shape) * _BITS[dtype]
    if num_bits != 8 * (offsets[1] - offsets[0]):
        raise ValueError(
            f"tensor {name!r} of shape {shape} in {dtype} needs {num_bits / 8:g} bytes, not {offsets[1] - offsets[0]}"
        )
    return TensorFacts(name=name, dtype=dtype, shape=tuple(shape), num_non_finite=0, begin=offsets[0], end=offsets[1])


def _are_sizes(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 1 << 53 for value in values)


def _refuse_gaps(tensors: list[TensorFacts], num_bytes: int) -> None:
    end = 0
    for facts in tensors:
        if facts.begin != end:
            problem = "overlaps the one before" if facts.begin < end else "leaves a hole before it"
            raise ValueError(f"tensor {facts.name!r} begins at {facts.begin} and {problem}, which ends at {end}")
        end = facts.end
    if end != num_bytes:
        raise ValueError(f"its tensors have {end} bytes, there are {num_bytes} behind its header")


def _read(file: BinaryIO, facts: TensorFacts) -> TensorFacts:
    import numpy

    num_non_finite = 0
    left = facts.end - facts.begin
    while left:
        chunk = file.read(min(left, _CHUNK_BYTES))
        if not chunk:
            raise ValueError(f"it ends inside tensor {facts.name!r}")
        left -= len(chunk)
        if facts.dtype in _MASKS:
            dtype, mask = _MASKS[facts.dtype]
            bits = numpy.frombuffer(chunk, dtype=dtype)
            num_non_finite += int(numpy.count_nonzero((bits & bits.dtype.type(mask)) == mask))
    return TensorFacts(
        name=facts.name,
        dtype=facts.dtype,
        shape=facts.shape,
        num_non_finite=num_non_finite,
        begin=facts.begin,
        end=facts.end,
    )
