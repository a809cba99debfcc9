"""What a query says, as frozen values that print as the text they were read from, up to blanks and brackets."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, final

__all__ = [
    "BARE_VALUE",
    "METRICS_PREFIX",
    "NAME",
    "NOWHERE",
    "RESERVED",
    "And",
    "Everything",
    "Field",
    "FieldIs",
    "Latest",
    "MetricIs",
    "Not",
    "Operator",
    "Or",
    "Query",
    "RevisionIs",
    "Term",
]

NOWHERE: Final = -1
METRICS_PREFIX: Final = "metrics."
NAME: Final = re.compile(r"[^\W\d][\w.\-/@]*")
BARE_VALUE: Final = re.compile(r"[^\s()\"']+")
RESERVED: Final = frozenset({"and", "or", "not", "latest", "all", "true", "false", "revision"})


class Operator(StrEnum):
    """How a number is compared."""

    LESS = "<"
    AT_MOST = "<="
    EQUAL = "="
    UNEQUAL = "!="
    AT_LEAST = ">="
    GREATER = ">"


class Field(StrEnum):
    """What can be asked as `field:value`."""

    TAG = "tag"
    ALIAS = "alias"
    TASK = "task"
    BASE = "base"
    FAMILY = "family"
    STRATEGY = "strategy"
    HASH = "hash"
    DIGEST = "digest"
    VERSION = "version"
    COMMIT = "commit"
    BRANCH = "branch"
    PROPOSAL = "proposal"
    DATA = "data"
    SINCE = "since"
    BEFORE = "before"
    PARENT = "parent"
    ANCESTOR = "ancestor"
    APPROVED = "approved"
    VERDICT = "verdict"


@final
@dataclass(frozen=True, slots=True)
class MetricIs:
    """The snapshot has this metric, and its value compares so. A snapshot without the metric never fits.

    Attributes:
        name: Dotted name of the metric.
        operator: How it is compared.
        value: With what.
        place: Where in the text it was read; no part of what the term says.
    """

    name: str
    operator: Operator
    value: float
    place: int = field(default=NOWHERE, compare=False, repr=False)

    def __str__(self) -> str:
        plain = NAME.fullmatch(self.name) and self.name.lower() not in RESERVED
        shown = self.name if plain and not self.name.startswith(METRICS_PREFIX) else _quoted(METRICS_PREFIX + self.name)
        return f"{shown} {self.operator} {_number(self.value)}"


@final
@dataclass(frozen=True, slots=True)
class RevisionIs:
    """The snapshot's revision compares so."""

    operator: Operator
    value: float

    def __str__(self) -> str:
        return f"revision {self.operator} {_number(self.value)}"


@final
@dataclass(frozen=True, slots=True)
class FieldIs:
    """A field of the snapshot, or of what later entries say of it, has this value."""

    field: Field
    value: str

    def __str__(self) -> str:
        shown = self.value if BARE_VALUE.fullmatch(self.value) else _quoted(self.value)
        return f"{self.field}:{shown}"


@final
@dataclass(frozen=True, slots=True)
class Latest:
    """The snapshot is the newest of its architecture."""

    def __str__(self) -> str:
        return "latest"


@final
@dataclass(frozen=True, slots=True)
class Everything:
    """Every snapshot fits."""

    def __str__(self) -> str:
        return "all"


@final
@dataclass(frozen=True, slots=True)
class Not:
    """The term does not fit; a metric that is absent does not fit, so its negation does."""

    term: Term

    def __str__(self) -> str:
        return f"not {_bracketed(self.term, And, Or)}"


@final
@dataclass(frozen=True, slots=True)
class And:
    """All of two or more terms fit."""

    terms: tuple[Term, ...]

    def __str__(self) -> str:
        return " and ".join(_bracketed(term, And, Or) for term in self.terms)


@final
@dataclass(frozen=True, slots=True)
class Or:
    """At least one of two or more terms fits."""

    terms: tuple[Term, ...]

    def __str__(self) -> str:
        return " or ".join(_bracketed(term, Or) for term in self.terms)


Term = MetricIs | RevisionIs | FieldIs | Latest | Everything | Not | And | Or


@final
@dataclass(frozen=True, slots=True)
class Query:
    """What is asked of an index.

    Attributes:
        term: The condition.
        text: As it was written, or empty where it was built; no part of what it says.
    """

    term: Term = Everything()
    text: str = field(default="", compare=False)

    def __str__(self) -> str:
        return str(self.term)


def _bracketed(term: Term, *kinds: type) -> str:
    return f"({term})" if isinstance(term, kinds) else str(term)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _number(value: float) -> str:
    number = float(value)
    return repr(int(number)) if number.is_integer() and abs(number) < 2**53 else repr(number)
