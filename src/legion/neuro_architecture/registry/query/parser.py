"""From a query's text to what it says, by recursive descent.

```
query      = either
either     = both { "or" both }
both       = single { "and" single }
single     = "not" single | "(" either ")" | "latest" | "all" | FIELD ":" value | name comparison number
name       = "revision" | a metric's dotted name | "metrics." and a metric's name | any of them quoted
comparison = "<" | "<=" | "=" | "==" | "!=" | "<>" | ">=" | ">"
number     = a decimal number | "true" | "false"
```

`task:` is the task's name or its kind; `base:` the base's name or digest; `family:` its model type; `data:` the digest
of the data. `hash:`, `digest:`, `parent:`, `ancestor:` and `commit:` take 4 or more hex digits from the left.
`ancestor:X` are the descendants of X. `since:` includes its moment, `before:` does not. `approved:` is the last
approver's answer; who was never asked about fits neither. `verdict:` is the worst of the gates' last verdicts.
"""

from __future__ import annotations

import math
from typing import Final, NoReturn, final

from legion.foundation.errors import InvalidValueError
from legion.neuro_architecture.registry.query.mistakes import mistake, nearest
from legion.neuro_architecture.registry.query.terms import (
    METRICS_PREFIX,
    And,
    Everything,
    Field,
    FieldIs,
    Latest,
    MetricIs,
    Not,
    Operator,
    Or,
    Query,
    RevisionIs,
    Term,
)
from legion.neuro_architecture.registry.query.tokens import Kind, Token, tokenise
from legion.neuro_architecture.registry.query.words import plain_value

__all__ = ["MAX_DEPTH", "parse_query"]

MAX_DEPTH: Final = 32
_SPELLINGS: Final = {"==": Operator.EQUAL, "<>": Operator.UNEQUAL}
_TRUTH: Final = {"true": 1.0, "false": 0.0}
_ALONE: Final[dict[str, Term]] = {"latest": Latest(), "all": Everything()}
_BETWEEN: Final = ("and", "or")
_EXAMPLE: Final = "accuracy > 0.82 and latency_ms < 12 and tag:production"


def parse_query(text: str) -> Query:
    """What `text` asks.

    Raises:
        InvalidValueError: it cannot be understood; shows the text, a caret under the place, and what was expected.
    """
    return Query(_Parser(text).parse(), text)


@final
class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = tokenise(text)
        self._next = 0
        self._depth = 0

    def parse(self) -> Term:
        term = self._either()
        if self._token.kind is not Kind.END:
            self._refuse("expected 'and', 'or' or the end")
        return term

    @property
    def _token(self) -> Token:
        return self._tokens[self._next]

    def _take(self) -> Token:
        token = self._token
        self._next += 1
        return token

    def _takes(self, keyword: str) -> bool:
        is_there = self._token.kind is Kind.WORD and self._token.text.lower() == keyword
        self._next += is_there
        return is_there

    def _refuse(self, problem: str, *, token: Token | None = None, hint: str | None = None) -> NoReturn:
        raise self._mistake(problem, token=token, hint=hint)

    def _mistake(self, problem: str, *, token: Token | None = None, hint: str | None = None) -> InvalidValueError:
        return mistake(self._text, (token or self._token).place, problem, hint=hint)

    def _either(self) -> Term:
        terms = [self._both()]
        while self._takes("or"):
            terms.append(self._both())
        return terms[0] if len(terms) == 1 else Or(tuple(terms))

    def _both(self) -> Term:
        terms = [self._single()]
        while self._takes("and"):
            terms.append(self._single())
        return terms[0] if len(terms) == 1 else And(tuple(terms))

    def _single(self) -> Term:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            self._refuse(f"nested deeper than {MAX_DEPTH} levels")
        term = self._unguarded()
        self._depth -= 1
        return term

    def _unguarded(self) -> Term:
        if self._takes("not"):
            return Not(self._single())
        for keyword, term in _ALONE.items():
            if self._takes(keyword):
                return term
        token = self._token
        if token.kind is Kind.OPEN:
            return self._bracketed()
        if token.kind is Kind.FIELD:
            return self._field()
        is_name = token.kind is Kind.QUOTED or (token.kind is Kind.WORD and token.text.lower() not in _BETWEEN)
        if not is_name:
            self._refuse("expected a condition", hint=f"such as: {_EXAMPLE}")
        return self._comparison()

    def _bracketed(self) -> Term:
        opened = self._take()
        term = self._either()
        if self._token.kind is not Kind.CLOSE:
            hint = f"the bracket opened at character {opened.place + 1}"
            self._refuse("expected 'and', 'or' or ')'", hint=hint)
        self._take()
        return term

    def _field(self) -> Term:
        token = self._take()
        name = token.text.lower()
        if name not in set(Field):
            hint = nearest(name, set(Field))
            if hint is None:
                hint = f"fields are {', '.join(Field)}; metrics are compared: {token.text} > 0.5"
            self._refuse(f"unknown field {token.text!r}", token=token, hint=hint)
        return FieldIs(Field(name), plain_value(Field(name), token.value, self._text, token.value_place))

    def _comparison(self) -> Term:
        name = self._take()
        if self._token.kind is not Kind.OPERATOR:
            hint = f"fields are asked as {name.text.lower()}:value" if name.text.lower() in set(Field) else None
            self._refuse(f"expected a comparison (<, <=, =, !=, >=, >) behind {name.text[:40]!r}", hint=hint)
        spelled = self._take().text
        operator = _SPELLINGS.get(spelled) or Operator(spelled)
        value = self._number(name)
        if name.kind is Kind.WORD and name.text.lower() == "revision":
            return RevisionIs(operator, value)
        metric = name.text.removeprefix(METRICS_PREFIX)
        if not metric:
            self._refuse("expected the name of a metric", token=name)
        return MetricIs(metric, operator, value, name.place)

    def _number(self, name: Token) -> float:
        token = self._take()
        if token.kind is Kind.WORD and token.text.lower() in _TRUTH:
            return _TRUTH[token.text.lower()]
        if token.kind is not Kind.NUMBER:
            is_field = name.text.lower() in set(Field)
            hint = f"texts are asked as {name.text.lower()}:{token.text or 'value'}" if is_field else None
            self._refuse("expected a number", token=token, hint=hint)
        value = float(token.text)
        if not math.isfinite(value):
            self._refuse(f"{token.text[:40]} is beyond every number that is stored", token=token)
        return value + 0.0  # minus zero is zero
