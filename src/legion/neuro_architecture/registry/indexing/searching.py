"""From a query to the statements that answer it, begun where the fewest snapshots are."""

# ruff: noqa: S608 - statements are put together from constants; every value is a parameter

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from legion.neuro_architecture.registry.indexing.conditions import Fragment, condition, listing
from legion.neuro_architecture.registry.indexing.database import Database
from legion.neuro_architecture.registry.query.terms import And, Everything, Field, FieldIs, Term

__all__ = ["search"]

# Above so many numbers it is no use to know more exactly, nor to sort a listing that is not in order.
_MANY: Final = 100_000
_TAG_COUNT: Final = "SELECT snapshots FROM tag_counts WHERE tag = ?"


def search(
    database: Database, term: Term, *, order: str | None, is_descending: bool, limit: int | None
) -> Iterator[int]:
    """The numbers of the snapshots that fit `term`, in order; `limit` is not negative."""
    start, rest = _start(database, term) if database.must_be_led else (None, term)
    if order is None:
        return _numbers(database, *_in_order(start, condition(rest), limit))
    if start is None and limit is not None:
        return _best(database, condition(rest), order, is_descending, limit)
    return _numbers(database, *_by_metric(start, condition(rest), order, is_descending, limit))


def _numbers(database: Database, statement: str, values: tuple[Any, ...]) -> Iterator[int]:
    return (row[0] for row in database.read(statement, values))


def _start(database: Database, term: Term) -> tuple[Fragment | None, Term]:
    """The shortest listing that holds all that fit, and what is left to check of each number in it."""
    parts = term.terms if isinstance(term, And) else (term,)
    best: tuple[Fragment | None, Term] = (None, term)
    fewest = _MANY
    for part in sorted(parts, key=lambda part: not _is_tag(part)):
        found = listing(part)
        if found is None:
            continue
        count = _count(database, part, found, fewest)
        if count < fewest or (best[0] is None and found.is_ordered):
            fewest, best = min(count, fewest), (found, _without(parts, part))
    return best


def _without(parts: tuple[Term, ...], begun: Term) -> Term:
    """What is left of a conjunction; a listing of numbers is exact for a tag only, so the others are checked again."""
    left = tuple(part for part in parts if part is not begun or not _is_tag(part))
    return And(left) if left else Everything()


def _is_tag(term: Term) -> bool:
    return isinstance(term, FieldIs) and term.field is Field.TAG


def _count(database: Database, term: Term, found: Fragment, enough: int) -> int:
    if isinstance(term, FieldIs) and term.field is Field.TAG and found.values:
        rows = database.read(_TAG_COUNT, (term.value,))
        return int(rows[0][0]) if rows else 0
    counting = f"SELECT COUNT(*) FROM (SELECT number FROM ({found.statement}) AS listed LIMIT ?) AS counted"
    return int(database.read(counting, (*found.values, enough))[0][0])


def _source(start: Fragment | None, check: Fragment) -> str:
    if start is None:
        return "snapshots s"
    if check.needs_row:
        return f"({start.statement}) AS listed CROSS JOIN snapshots s"
    return f"({start.statement}) AS s"


def _where(start: Fragment | None, check: Fragment) -> str:
    joined = "s.number = listed.number AND " if start is not None and check.needs_row else ""
    return f"WHERE {joined}({check.statement})"


def _in_order(start: Fragment | None, check: Fragment, limit: int | None) -> tuple[str, tuple[Any, ...]]:
    statement = f"SELECT s.number FROM {_source(start, check)} {_where(start, check)} ORDER BY s.number"
    values = (*(start.values if start else ()), *check.values)
    return _limited(statement, values, limit)


def _by_metric(
    start: Fragment | None, check: Fragment, order: str, is_descending: bool, limit: int | None
) -> tuple[str, tuple[Any, ...]]:
    """All that fit, joined with the metric; for few, or for all."""
    statement = f"""SELECT s.number FROM {_source(start, check)}
        LEFT JOIN metrics o ON o.name = ? AND o.number = s.number {_where(start, check)}
        ORDER BY (o.value IS NULL), o.value {_direction(is_descending)}, s.number"""
    values = (*(start.values if start else ()), order, *check.values)
    return _limited(statement, values, limit)


def _best(database: Database, check: Fragment, order: str, is_descending: bool, limit: int) -> Iterator[int]:
    """The first `limit` along the metric's own index, then those without it where that is too few."""
    measured = f"""SELECT s.number FROM metrics o CROSS JOIN snapshots s
        WHERE o.name = ? AND s.number = o.number AND ({check.statement})
        ORDER BY o.value {_direction(is_descending)}, o.number"""
    found = [row[0] for row in database.read(*_limited(measured, (order, *check.values), limit))]
    yield from found
    if len(found) < limit:
        others = f"""SELECT s.number FROM snapshots s WHERE ({check.statement})
            AND NOT EXISTS (SELECT 1 FROM metrics o WHERE o.name = ? AND o.number = s.number) ORDER BY s.number"""
        rows = database.read(*_limited(others, (*check.values, order), limit - len(found)))
        yield from (row[0] for row in rows)


def _direction(is_descending: bool) -> str:
    return "DESC" if is_descending else "ASC"


def _limited(statement: str, values: tuple[Any, ...], limit: int | None) -> tuple[str, tuple[Any, ...]]:
    return (statement, values) if limit is None else (statement + " LIMIT ?", (*values, limit))
