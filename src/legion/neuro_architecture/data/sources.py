"""Examples out of the embedded assets: movie reviews with a clear opinion, BBC articles with their headlines."""

from __future__ import annotations

import html
import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from legion.foundation.errors import AssetError
from legion.neuro_architecture.data.examples import Example
from legion.neuro_architecture.data.overlap import normalise_text

__all__ = ["headlines", "rated_sentences"]

_CLEAR: Final = 0.5
_HINT: Final = "legion assets fetch"


def rated_sentences(path: Path) -> list[Example]:
    """Sentences whose mean rating (-4 to 4) is at least 0.5 from neutral, each text once, as negative or positive.

    Sentences of one article share the id's part before `_` and become a group. Texts that repeat with both labels are
    left out.

    Raises:
        AssetError: a line is not id, rating, text.
    """
    examples = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if not line.strip():
            continue
        try:
            identity, rating, text = line.rstrip("\r").split("\t")
            score = float(rating)
        except ValueError as error:
            raise AssetError(f"{path}:{number} is not id, rating, text", cause=str(error), hint=_HINT) from error
        if abs(score) >= _CLEAR:
            group = identity.rpartition("_")[0] or None
            label = "positive" if score > 0 else "negative"
            examples.append(Example(id=identity, text=html.unescape(text).strip(), target=label, group=group))
    return _once(examples)


def headlines(path: Path) -> list[Example]:
    """Articles with their headlines: the first line is the headline, the paragraphs after it the text.

    Each text and each headline comes once, so that no answer can be learnt by heart.

    Raises:
        AssetError: a line is no article.
    """
    examples, seen = [], set()
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if not line:
            continue
        try:
            article = json.loads(line)
            identity, content = str(article["id"]), str(article["text"])
        except (ValueError, KeyError, TypeError) as error:
            raise AssetError(f"{path}:{number} is no article", cause=str(error), hint=_HINT) from error
        headline, *paragraphs = [" ".join(part.split()) for part in content.splitlines() if part.strip()] or [""]
        key = normalise_text(headline)
        if paragraphs and key not in seen:
            seen.add(key)
            examples.append(Example(id=identity, text="\n".join(paragraphs), target=headline))
    return _once(examples, is_any_target_right=True)


def _once(examples: Iterable[Example], *, is_any_target_right: bool = False) -> list[Example]:
    """The first example of each normalised text, unless the others contradict it."""
    same: defaultdict[str, list[Example]] = defaultdict(list)
    for example in examples:
        same[normalise_text(example.text)].append(example)
    return [
        copies[0]
        for key, copies in same.items()
        if key and (is_any_target_right or len({copy.target for copy in copies}) == 1)
    ]
