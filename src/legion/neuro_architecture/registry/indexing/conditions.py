"""From a query's terms to SQL: constant text, every value a parameter.

Each term is a condition on the row `s` of `snapshots` that is true, false or null; null counts as false, also under
`not`. Most terms can also list the numbers they fit, to begin a search with the rarest of them.
"""

# ruff: noqa: S608 - statements are put together from constants; every value is a parameter

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final, final

from legion.neuro_architecture.registry.indexing.rows import word
from legion.neuro_architecture.registry.query.terms import (
    And,
    Everything,
    Field,
    FieldIs,
    Latest,
    MetricIs,
    Not,
    Operator,
    Or,
    RevisionIs,
    Term,
)
from legion.neuro_architecture.registry.query.words import microseconds

__all__ = ["Fragment", "condition", "listing"]

_HEX_DIGITS: Final = 64
_PAST_HEX: Final = "g"
_HASH_DIGITS: Final = 16

# The operators' SQL is chosen, not passed on.
_COMPARED: Final = {
    Operator.LESS: "<",
    Operator.AT_MOST: "<=",
    Operator.EQUAL: "=",
    Operator.UNEQUAL: "<>",
    Operator.AT_LEAST: ">=",
    Operator.GREATER: ">",
}

_WORDS: Final = {
    Field.FAMILY: "s.family = ?",
    Field.STRATEGY: "s.strategy = ?",
    Field.VERSION: "s.version = ?",
    Field.BRANCH: "s.branch = ?",
    Field.PROPOSAL: "s.proposal = ?",
}
_VERDICTS: Final = {
    "pass": """EXISTS (SELECT 1 FROM verdicts v WHERE v.digest = s.digest)
        AND NOT EXISTS (SELECT 1 FROM verdicts v WHERE v.digest = s.digest AND v.verdict <> 'pass')""",
    "fail": "EXISTS (SELECT 1 FROM verdicts v WHERE v.digest = s.digest AND v.verdict = 'fail')",
    "insufficient": """EXISTS (SELECT 1 FROM verdicts v WHERE v.digest = s.digest AND v.verdict = 'insufficient')
        AND NOT EXISTS (SELECT 1 FROM verdicts v WHERE v.digest = s.digest AND v.verdict = 'fail')""",
}
_TAGGED: Final = "EXISTS (SELECT 1 FROM tags t WHERE t.tag = ? AND t.number = s.number)"
_APPROVED: Final = "EXISTS (SELECT 1 FROM approvals p WHERE p.digest = s.digest AND p.is_approved = ?)"
_DESCENDANTS: Final = """
    WITH RECURSIVE below (number, digest) AS (
        SELECT number, digest FROM snapshots WHERE parent BETWEEN ? AND ?
        UNION
        SELECT child.number, child.digest FROM below JOIN snapshots child ON child.parent = below.digest)
    SELECT number FROM below"""
_LATEST: Final = """NOT EXISTS (
    SELECT 1 FROM snapshots later WHERE later.semantic_hash = s.semantic_hash AND later.number > s.number)"""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Fragment:
    """A piece of SQL with the values of its parameters.

    Attributes:
        statement: Constant text with `?` for each value.
        values: The values, in order.
        needs_row: Whether it asks more of `s` than its number.
        is_ordered: Of a listing: whether the numbers come in their order at no cost.
    """

    statement: str
    values: tuple[Any, ...] = ()
    needs_row: bool = False
    is_ordered: bool = False


_NOTHING: Final = Fragment(statement="1 = 0")
_NO_NUMBERS: Final = Fragment(statement="SELECT number FROM snapshots WHERE 1 = 0", is_ordered=True)


def condition(term: Term) -> Fragment:
    """Whether the snapshot `s` fits."""
    match term:
        case MetricIs():
            found = _metric(term)
        case RevisionIs():
            found = _row(f"s.revision {_COMPARED[term.operator]} ?", term.value)
        case FieldIs():
            found = _NOTHING if word(term.value) is None else _field(term.field, term.value)
        case Latest():
            found = _row(_LATEST)
        case Everything():
            found = Fragment(statement="1 = 1")
        case Not():
            inner = condition(term.term)
            found = replace(inner, statement=f"({inner.statement}) IS NOT TRUE")
        case And():
            found = _joined(" AND ", term.terms)
        case Or():
            found = _joined(" OR ", term.terms)
    return found


def _joined(word_between: str, terms: tuple[Term, ...]) -> Fragment:
    parts = [condition(term) for term in terms]
    return Fragment(
        statement=word_between.join(f"({part.statement})" for part in parts),
        values=tuple(value for part in parts for value in part.values),
        needs_row=any(part.needs_row for part in parts),
    )


def _row(statement: str, *values: Any) -> Fragment:
    return Fragment(statement=statement, values=values, needs_row=True)


def _metric(term: MetricIs) -> Fragment:
    if word(term.name) is None:
        return _NOTHING
    return Fragment(
        # `+` keeps SQLite from walking through the values, where one snapshot's is asked for
        statement=f"""EXISTS (SELECT 1 FROM metrics m
            WHERE m.name = ? AND m.number = s.number AND +m.value {_COMPARED[term.operator]} ?)""",
        values=(term.name, float(term.value)),
    )


def _field(field: Field, value: str) -> Fragment:
    match field:
        case Field.TAG:
            found = Fragment(statement=_TAGGED, values=(value,))
        case Field.ALIAS:
            found = _row("EXISTS (SELECT 1 FROM aliases a WHERE a.name = ? AND a.digest = s.digest)", value)
        case Field.TASK:
            found = _row("s.task = ? OR s.task_kind = ?", value, value)
        case Field.BASE:
            found = _row("s.base = ? OR s.base_digest = ? OR s.base_digest = ?", value, value, f"sha256:{value}")
        case Field.DATA:
            found = _row("s.data = ? OR s.data = ?", value, f"sha256:{value}")
        case Field.VERDICT:
            found = _row(_VERDICTS[value]) if value in _VERDICTS else _NOTHING
        case Field.APPROVED:
            found = _row(_APPROVED, int(value == "yes")) if value in {"yes", "no"} else _NOTHING
        case Field.SINCE | Field.BEFORE:
            moment = microseconds(value)
            compared = ">=" if field is Field.SINCE else "<"
            found = _NOTHING if moment is None else _row(f"s.created_us {compared} ?", moment)
        case _:
            found = _row(_WORDS[field], value) if field in _WORDS else _hexadecimal(field, value)
    return found


def _hexadecimal(field: Field, value: str) -> Fragment:
    name = value.lower().removeprefix("sha256:")
    if not name or set(name) - set("0123456789abcdef") or len(name) > _HEX_DIGITS:
        return _NOTHING
    if field is Field.HASH:
        prefix = name[:_HASH_DIGITS]
        return _row("s.semantic_hash >= ? AND s.semantic_hash < ?", prefix, prefix + _PAST_HEX)
    if field is Field.COMMIT:
        return _row("s.commit_name >= ? AND s.commit_name < ?", name, name + _PAST_HEX)
    lowest, highest = bytes.fromhex(name.ljust(_HEX_DIGITS, "0")), bytes.fromhex(name.ljust(_HEX_DIGITS, "f"))
    match field:
        case Field.DIGEST:
            return _row(
                "substr(s.digest, 1, 8) BETWEEN ? AND ? AND s.digest BETWEEN ? AND ?",
                lowest[:8],
                highest[:8],
                lowest,
                highest,
            )
        case Field.PARENT:
            return _row("s.parent BETWEEN ? AND ?", lowest, highest)
        case _:
            return Fragment(statement=f"s.number IN ({_DESCENDANTS})", values=(lowest, highest))


def listing(term: Term) -> Fragment | None:
    """The numbers of a superset of what fits, or None where only looking at every snapshot would tell."""
    match term:
        case MetricIs():
            return _metric_listing(term)
        case FieldIs():
            return _field_listing(term)
        case Or():
            parts = [listing(part) for part in term.terms]
            known = [part for part in parts if part is not None]
            if len(known) < len(parts):
                return None
            statement = " UNION ".join(f"SELECT number FROM ({part.statement}) AS part" for part in known)
            return Fragment(statement=statement, values=tuple(value for part in known for value in part.values))
        case And():
            return next((found for part in term.terms if (found := listing(part)) is not None), None)
        case _:
            return None


def _metric_listing(term: MetricIs) -> Fragment | None:
    if term.operator is Operator.UNEQUAL:
        return None
    if word(term.name) is None:
        return _NO_NUMBERS
    return Fragment(
        statement=f"SELECT number FROM metrics WHERE name = ? AND value {_COMPARED[term.operator]} ?",
        values=(term.name, float(term.value)),
    )


_JUDGED: Final = {
    Field.APPROVED: """SELECT DISTINCT o.number FROM approvals j CROSS JOIN snapshots o
        WHERE substr(o.digest, 1, 8) = substr(j.digest, 1, 8) AND o.digest = j.digest""",
    Field.VERDICT: """SELECT DISTINCT o.number FROM verdicts j CROSS JOIN snapshots o
        WHERE substr(o.digest, 1, 8) = substr(j.digest, 1, 8) AND o.digest = j.digest""",
}
_NAMED: Final = """SELECT o.number FROM aliases j CROSS JOIN snapshots o
    WHERE j.name = ? AND substr(o.digest, 1, 8) = substr(j.digest, 1, 8) AND o.digest = j.digest"""
_INDEXED: Final = frozenset(
    {
        Field.TASK,
        Field.BASE,
        Field.ANCESTOR,
        Field.HASH,
        Field.COMMIT,
        Field.DIGEST,
        Field.PARENT,
        Field.SINCE,
        Field.BEFORE,
    }
)


def _field_listing(term: FieldIs) -> Fragment | None:
    value = term.value
    if word(value) is None:
        return _NO_NUMBERS
    if term.field is Field.TAG:
        return Fragment(statement="SELECT number FROM tags WHERE tag = ?", values=(value,), is_ordered=True)
    if term.field is Field.ALIAS:
        return Fragment(statement=_NAMED, values=(value,))
    if term.field in _JUDGED:
        return Fragment(statement=_JUDGED[term.field])
    if term.field in _INDEXED:
        found = condition(term)
        return Fragment(statement=f"SELECT s.number FROM snapshots s WHERE {found.statement}", values=found.values)
    return None
