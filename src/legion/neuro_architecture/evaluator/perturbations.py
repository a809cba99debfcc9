"""Seven ways in which real text is noisy, each deterministic by its stream."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import Final

from legion.foundation.rng import RandomStream

__all__ = ["PERTURBATIONS", "perturb"]

_NOISY_WORDS: Final = 5  # one word in five is touched, at least one
_WORD: Final = re.compile(r"[^\W\d_]{3,}")
_NEIGHBOURS: Final = {
    "a": "qs", "b": "vn", "c": "xv", "d": "sf", "e": "wr", "f": "dg", "g": "fh", "h": "gj", "i": "uo",
    "j": "hk", "k": "jl", "l": "k", "m": "n", "n": "bm", "o": "ip", "p": "o", "q": "wa", "r": "et",
    "s": "ad", "t": "ry", "u": "yi", "v": "cb", "w": "qe", "x": "zc", "y": "tu", "z": "x",
}  # fmt: skip
_HOMOGLYPHS: Final = dict(zip("aceiopxyABEHKMOPTX", "асеіорхуАВЕНКМОРТХ", strict=True))
_CONTRACTIONS: Final = {
    "is not": "isn't", "are not": "aren't", "was not": "wasn't", "were not": "weren't", "do not": "don't",
    "does not": "doesn't", "did not": "didn't", "has not": "hasn't", "have not": "haven't", "had not": "hadn't",
    "will not": "won't", "would not": "wouldn't", "could not": "couldn't", "should not": "shouldn't",
    "cannot": "can't", "it is": "it's", "that is": "that's", "there is": "there's", "he is": "he's",
    "she is": "she's", "what is": "what's", "i am": "i'm", "you are": "you're", "we are": "we're",
    "they are": "they're", "i have": "i've", "you have": "you've", "we have": "we've", "they have": "they've",
    "i will": "i'll", "you will": "you'll", "it will": "it'll", "let us": "let's",
}  # fmt: skip
_SWAPS: Final = _CONTRACTIONS | {short: long for long, short in _CONTRACTIONS.items()}
_PHRASE: Final = re.compile(
    r"\b(" + "|".join(re.escape(phrase) for phrase in sorted(_SWAPS, key=len, reverse=True)) + r")\b", re.IGNORECASE
)


def _typo(word: str, draw: random.Random) -> str:
    """One letter becomes its neighbour on a QWERTY keyboard."""
    places = [index for index, letter in enumerate(word) if letter.lower() in _NEIGHBOURS]
    if not places:
        return word
    at = draw.choice(places)
    letter = draw.choice(_NEIGHBOURS[word[at].lower()])
    return word[:at] + (letter.upper() if word[at].isupper() else letter) + word[at + 1 :]


def _swap(word: str, draw: random.Random) -> str:
    """Two unequal adjacent letters change places."""
    places = [index for index in range(len(word) - 1) if word[index] != word[index + 1]]
    if not places:
        return word
    at = draw.choice(places)
    return word[:at] + word[at + 1] + word[at] + word[at + 2 :]


def _drop(word: str, draw: random.Random) -> str:
    """One letter is missing."""
    at = draw.randrange(len(word))
    return word[:at] + word[at + 1 :]


def _homoglyph(word: str, draw: random.Random) -> str:
    """One Latin letter becomes the Cyrillic one that looks alike."""
    places = [index for index, letter in enumerate(word) if letter in _HOMOGLYPHS]
    if not places:
        return word
    at = draw.choice(places)
    return word[:at] + _HOMOGLYPHS[word[at]] + word[at + 1 :]


def _by_words(change: Callable[[str, random.Random], str]) -> Callable[[str, random.Random], str]:
    def perturbation(text: str, draw: random.Random) -> str:
        words = list(_WORD.finditer(text))
        if not words:
            return text
        chosen = draw.sample(words, max(1, len(words) // _NOISY_WORDS))
        for word in sorted(chosen, key=lambda match: match.start(), reverse=True):
            text = text[: word.start()] + change(word.group(), draw) + text[word.end() :]
        return text

    return perturbation


def _case(text: str, draw: random.Random) -> str:
    """All capitals, all small, or the case of every letter turned round."""
    changed = [other for other in (text.upper(), text.lower(), text.swapcase()) if other != text]
    return draw.choice(changed) if changed else text


def _spacing(text: str, draw: random.Random) -> str:
    """Spaces are doubled, and one word in ten is torn apart or glued to the next."""
    words = text.split(" ")
    for _ in range(max(1, len(words) // 10)):
        at = draw.randrange(len(words))
        if len(words[at]) > 3 and draw.random() < 0.5:
            cut = draw.randrange(1, len(words[at]))
            words[at] = words[at][:cut] + " " + words[at][cut:]
        elif at + 1 < len(words):
            words[at : at + 2] = [words[at] + words[at + 1]]
    return "  ".join(words)


def _contraction(text: str, draw: random.Random) -> str:  # noqa: ARG001 - one signature for all
    """Contractions are spelled out and the other way round; a text without any loses its apostrophes and final mark."""
    changed = _PHRASE.sub(lambda match: _like(_SWAPS[match.group().lower()], match.group()), text)
    return changed if changed != text else text.replace("'", "").rstrip(" .!?")


def _like(replacement: str, original: str) -> str:
    return replacement[0].upper() + replacement[1:] if original[0].isupper() else replacement


PERTURBATIONS: Final[dict[str, Callable[[str, random.Random], str]]] = {
    "typo": _by_words(_typo),
    "swap": _by_words(_swap),
    "drop": _by_words(_drop),
    "case": _case,
    "spacing": _spacing,
    "homoglyph": _by_words(_homoglyph),
    "contraction": _contraction,
}


def perturb(name: str, text: str, stream: RandomStream) -> str:
    """`text` with the noise called `name`, drawn from `stream` and nothing else.

    A text that offers no place for the noise (no letters, say), or that nothing would be left of, comes back unchanged.
    """
    noisy = PERTURBATIONS[name](text, stream.child(name).random())
    return noisy if noisy.strip() else text
