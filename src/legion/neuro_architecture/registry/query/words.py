"""What the words of a query may be: values of fields in their one spelling, metrics that exist."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from typing import Final

from legion.neuro_architecture.registry.query.mistakes import mistake, nearest
from legion.neuro_architecture.registry.query.terms import And, Field, MetricIs, Not, Or, Query, Term
from legion.neuro_architecture.spec.architecture import strategy_names

__all__ = ["microseconds", "plain_value", "refuse_unknown_metrics"]

_HEX: Final = re.compile(r"[0-9a-f]{4,64}")
_DIGESTS: Final = (Field.DIGEST, Field.PARENT, Field.ANCESTOR, Field.HASH, Field.COMMIT)
_CHOICES: Final = {Field.APPROVED: ("yes", "no"), Field.VERDICT: ("pass", "fail", "insufficient")}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def plain_value(field: Field, value: str, text: str, place: int) -> str:
    """`value` in the one spelling of this field.

    Raises:
        InvalidValueError: the field cannot have it; `text` and `place` say where it stands.
    """
    if field in _DIGESTS:
        name = value.lower().removeprefix("sha256:")
        if not _HEX.fullmatch(name):
            raise mistake(text, place, f"expected 4 to 64 hex digits behind '{field}:', not {value[:40]!r}")
        return name
    if field in _CHOICES:
        return _choice(field, value, text, place)
    if field in {Field.SINCE, Field.BEFORE} and microseconds(value) is None:
        raise mistake(text, place, f"expected a date behind '{field}:', not {value[:40]!r}", hint=f"{field}:2026-01-31")
    if field is Field.STRATEGY:
        return next((name for name in strategy_names() if name.lower() == value.lower()), value)
    return value


def _choice(field: Field, value: str, text: str, place: int) -> str:
    if value.lower() not in _CHOICES[field]:
        raise mistake(text, place, f"expected {' or '.join(_CHOICES[field])} behind '{field}:', not {value[:40]!r}")
    return value.lower()


def microseconds(moment: str) -> int | None:
    """Microseconds from 1970 of an ISO 8601 date or time, UTC where it names no zone; None where it is none."""
    try:
        parsed = datetime.fromisoformat(moment)
        aware = parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
        passed = aware - _EPOCH
    except (ValueError, OverflowError):
        return None
    return (passed.days * 86_400 + passed.seconds) * 1_000_000 + passed.microseconds


def refuse_unknown_metrics(query: Query, known: Collection[str]) -> None:
    """Raises InvalidValueError at the first metric that no snapshot has, with the nearest that some has."""
    for metric in _metrics(query.term):
        if metric.name not in known:
            text = query.text or str(query)
            place = metric.place if query.text else max(0, text.find(metric.name))
            shown = ", ".join(sorted(known)[:12])
            hint = nearest(metric.name, known) or (f"some that are: {shown}" if known else None)
            raise mistake(text, place, f"no snapshot has a metric {metric.name[:60]!r}", hint=hint)


def _metrics(term: Term) -> Iterator[MetricIs]:
    match term:
        case MetricIs():
            yield term
        case Not():
            yield from _metrics(term.term)
        case And() | Or():
            for part in term.terms:
                yield from _metrics(part)
        case _:
            return
