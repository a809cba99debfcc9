"""Numbers as a person reads them."""

from __future__ import annotations

from html import escape
from typing import Final

from legion.neuro_architecture.spec.measurement import Measurement

__all__ = ["plain", "scaled", "with_error"]

_STEPS: Final = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_ABSENT: Final = '<span class="absent" title="{}">absent</span>'


def plain(value: float) -> str:
    """About four digits, without an exponent where one can avoid it."""
    if value == int(value) and abs(value) < 1e6:
        return f"{int(value)}"
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


def scaled(value: float) -> tuple[str, str]:
    """The number below a thousand and its prefix: 7.4e8 is 740, M."""
    for limit, prefix in _STEPS:
        if abs(value) >= limit:
            return f"{value / limit:.3g}", prefix
    return f"{value:.3g}", ""


def with_error(measured: Measurement | None, *, decimals: int = 3, is_scaled: bool = False) -> str:
    """HTML of a measurement: value, error, and in the tip its unit and n; an absent one says why in its tip."""
    if measured is None:
        return _ABSENT.format("not measured here")
    if measured.value is None:
        return _ABSENT.format(escape(measured.reason or ""))
    tip = f"{plain(measured.value)} {measured.unit}" + (f", n = {measured.n}" if measured.n is not None else "")
    if is_scaled:
        number, prefix = scaled(measured.value)
        return f'<span title="{escape(tip)}">{number} {prefix}</span>'
    error = f" <small>± {measured.error:.{decimals}f}</small>" if measured.error is not None else ""
    return f'<span title="{escape(tip)}">{measured.value:.{decimals}f}{error}</span>'
