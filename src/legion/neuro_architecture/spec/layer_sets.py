"""Sets of blocks as people write them: indices, ranges (`0-3,5`), lists of both, `all`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator

__all__ = ["LARGEST_LISTED_BLOCK", "Layers"]

# No transformer comes near; a text cannot ask for a billion blocks.
LARGEST_LISTED_BLOCK: Final = 9_999
_ALL: Final = "all"
_PART: Final = re.compile(r" *([0-9]{1,4}) *(?:- *([0-9]{1,4}) *)?")


def _spelled_out(written: Any) -> Any:
    """Indices in place of text; what is neither text nor a list is left to the type to refuse."""
    if isinstance(written, str):
        return None if written.strip() == _ALL else tuple(_indices(written))
    if isinstance(written, list | tuple):
        return tuple(index for item in written for index in (_indices(item) if isinstance(item, str) else (item,)))
    return written


def _indices(text: str) -> Iterator[int]:
    for part in text.split(","):
        match = _PART.fullmatch(part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if last < first:
            raise ValueError(f"{text!r} is no set of blocks such as '0-3,5'; indices go up to {LARGEST_LISTED_BLOCK}")
        yield from range(first, last + 1)


def _sorted(layers: tuple[int, ...] | None) -> tuple[int, ...] | None:
    if layers is None:
        return None
    if not layers or min(layers) < 0:
        raise ValueError("layers are indices from 0; leave them out for all layers")
    return tuple(sorted(set(layers)))


# Sorted and without repeats; None, or the text `all`, means every block.
Layers = Annotated[tuple[int, ...] | None, BeforeValidator(_spelled_out), AfterValidator(_sorted)]
