"""Names that people give: one printable line, short enough for a screen."""

from __future__ import annotations

import unicodedata
from typing import Final

from legion.foundation.errors import InvalidValueError

__all__ = ["MAX_LABEL_CHARACTERS", "plain_label"]

MAX_LABEL_CHARACTERS: Final = 100


def plain_label(text: object, what: str) -> str:
    """`text`, when it is one printable line of 1 to 100 characters without blanks around it.

    Raises:
        InvalidValueError: it is not; `what` names it.
    """
    is_plain = isinstance(text, str) and text == text.strip() and 0 < len(text) <= MAX_LABEL_CHARACTERS
    if is_plain and str(text).isascii() and str(text).isprintable():
        return str(text)
    if not is_plain or any(unicodedata.category(character)[0] == "C" for character in str(text)):
        raise InvalidValueError(f"{what} {str(text)[:40]!r} is not 1 to {MAX_LABEL_CHARACTERS} printable characters")
    return str(text)
