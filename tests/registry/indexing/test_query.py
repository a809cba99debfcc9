from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from legion.foundation.errors import InvalidValueError
from legion.neuro_architecture.registry.query import (
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
    parse_query,
    refuse_unknown_metrics,
)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
names = st.sampled_from(["accuracy", "terms.cost", "rouge l", "and", "latest", "revision", "metrics.x", 'a"b\\', "tag"])
numbers = st.floats(allow_nan=False, allow_infinity=False)
hexes = st.text("0123456789abcdef", min_size=4, max_size=64)
_SPELLED = {
    **dict.fromkeys((Field.DIGEST, Field.PARENT, Field.ANCESTOR, Field.HASH, Field.COMMIT), hexes),
    Field.APPROVED: st.sampled_from(["yes", "no"]),
    Field.VERDICT: st.sampled_from(["pass", "fail", "insufficient"]),
    Field.SINCE: st.datetimes().map(lambda moment: moment.isoformat()),
    Field.BEFORE: st.dates().map(lambda day: day.isoformat()),
    Field.STRATEGY: st.sampled_from(["LoRA", "MoE", "another one"]),
}
field_terms = st.sampled_from(Field).flatmap(lambda name: st.builds(FieldIs, st.just(name), _SPELLED.get(name, texts)))
leaves = st.one_of(
    st.builds(MetricIs, names | texts.filter(bool), st.sampled_from(Operator), numbers),
    st.builds(RevisionIs, st.sampled_from(Operator), numbers),
    field_terms,
    st.just(Latest()),
    st.just(Everything()),
)
terms = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(And, st.lists(inner, min_size=2, max_size=3).map(tuple)),
        st.builds(Or, st.lists(inner, min_size=2, max_size=3).map(tuple)),
    ),
    max_leaves=8,
)


@given(terms)
def test_what_a_term_prints_is_read_as_the_same_term(term):
    text = str(term)
    assert parse_query(text).term == term
    assert str(parse_query(text)) == text


def _refusal(text):
    try:
        parse_query(text)
    except InvalidValueError as error:
        return error
    return None


@given(st.text(max_size=60))
def test_any_text_is_either_read_or_refused_with_a_caret_under_its_line(text):
    refusal = _refusal(text)
    if refusal is None:
        assert str(parse_query(text))
    else:
        shown, caret = refusal.cause.split("\n")
        assert caret.strip() == "^"
        assert 0 <= caret.index("^") <= len(shown)


@given(
    st.lists(
        st.sampled_from(["(", ")", "and", "or", "not", "tag:", "tag:x", "a", ">", "1", "'", '"', ":", "latest"]),
        max_size=12,
    )
)
def test_any_row_of_words_is_either_read_or_refused(words):
    text = " ".join(words)
    try:
        term = parse_query(text).term
    except InvalidValueError:
        return
    assert parse_query(str(term)).term == term


def test_the_example_of_the_issue_is_read():
    query = parse_query("accuracy > 0.82 and latency_ms < 12 and tag:production")
    assert query.term == And(
        (
            MetricIs("accuracy", Operator.GREATER, 0.82),
            MetricIs("latency_ms", Operator.LESS, 12.0),
            FieldIs(Field.TAG, "production"),
        )
    )


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("a>1", "a > 1"),
        ("a==1", "a = 1"),
        ("a<>1", "a != 1"),
        ("a > 1 AND NOT b > 2", "a > 1 and not b > 2"),
        ("a > 1 or b > 1 and c > 1", "a > 1 or (b > 1 and c > 1)"),
        ("((a > 1))", "a > 1"),
        ("not not latest", "not (not latest)"),
        ("metrics.revision > 1", '"revision" > 1'),
        ("safe = true", "safe = 1"),
        ("tag:'two words'", 'tag:"two words"'),
        (r'tag:"a\"b"', "tag:'a\"b'"),
        ("TAG:x", "tag:x"),
        ("strategy:lora", "strategy:LoRA"),
        ("digest:SHA256:ABCD", "digest:abcd"),
        ("approved:YES", "approved:yes"),
        ("base:org/model:v1", 'base:"org/model:v1"'),
        ("a > +.5e1", "a > 5"),
        (" \n a\t>\n1 ", "a > 1"),
    ],
)
def test_two_spellings_say_the_same(text, same):
    assert parse_query(text) == parse_query(same)


@pytest.mark.parametrize(
    ("text", "place", "problem", "hint"),
    [
        ("", 0, "expected a condition", "such as"),
        ("tga:production", 0, "unknown field 'tga'", "did you mean 'tag'?"),
        ("a > 1 and tga:x", 10, "unknown field 'tga'", "did you mean 'tag'?"),
        ("accuracy:0.9", 0, "unknown field 'accuracy'", "accuracy > 0.5"),
        ("accuracy >", 10, "expected a number", None),
        ("accuracy > high", 11, "expected a number", None),
        ("tag = production", 6, "expected a number", "tag:production"),
        ("accuracy", 8, "expected a comparison", None),
        ("tag production", 4, "expected a comparison", "tag:value"),
        ("tag:", 4, "expected a value right behind 'tag:'", "tag:name"),
        ("tag: x", 4, "expected a value right behind 'tag:'", "tag:name"),
        ("(a > 1", 6, "expected 'and', 'or' or ')'", "opened at character 1"),
        ("a > 1)", 5, "expected 'and', 'or' or the end", None),
        ("a > 1 b > 2", 6, "expected 'and', 'or' or the end", None),
        ("a > 1 and", 9, "expected a condition", "such as"),
        ("a > 1 and or b > 1", 10, "expected a condition", "such as"),
        ("tag:'x", 4, "this quote never ends", None),
        ("a > 1e999", 4, "beyond every number", None),
        ("a > nan", 4, "expected a number", None),
        ("a > 1; drop table x", 5, "';' has no meaning here", "quote odd names"),
        ("hash:xyz", 5, "expected 4 to 64 hex digits behind 'hash:'", None),
        ("digest:abc", 7, "expected 4 to 64 hex digits behind 'digest:'", None),
        ("since:yesterday", 6, "expected a date behind 'since:'", "since:2026-01-31"),
        ("approved:maybe", 9, "expected yes or no behind 'approved:'", None),
        ("verdict:passed", 8, "expected pass or fail or insufficient", None),
        ('"metrics." > 1', 0, "expected the name of a metric", None),
        ("a > 1 and " + "(" * 40, 42, "nested deeper than 32 levels", None),
        ("not " * 40 + "latest", 128, "nested deeper than 32 levels", None),
    ],
)
def test_a_mistake_is_shown_where_it_is(text, place, problem, hint):
    with pytest.raises(InvalidValueError) as caught:
        parse_query(text)
    error = caught.value
    assert problem in error.message
    shown, caret = error.cause.split("\n")
    skipped = len(text) - len(shown.replace("...", "", 1)) if shown.startswith("...") else 0
    assert caret.index("^") + skipped - (3 if shown.startswith("...") else 0) == place
    assert hint is None or hint in error.hint


def test_a_text_too_long_is_refused_before_it_is_read():
    with pytest.raises(InvalidValueError, match="5000 characters are too many") as caught:
        parse_query("(" * 5000)
    assert len(caught.value.cause) < 300


def test_a_metric_that_no_snapshot_has_is_refused_with_the_nearest():
    query = parse_query("tag:x and not (acuracy > 0.5)")
    with pytest.raises(InvalidValueError, match="no snapshot has a metric 'acuracy'") as caught:
        refuse_unknown_metrics(query, ["accuracy", "latency_ms"])
    assert caught.value.hint == "did you mean 'accuracy'?"
    assert caught.value.cause.split("\n")[1].index("^") == 15
    refuse_unknown_metrics(query, ["acuracy"])
    with pytest.raises(InvalidValueError):
        refuse_unknown_metrics(Query(MetricIs("nothing", Operator.LESS, 1)), [])
