from __future__ import annotations

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from legion.neuro_architecture.registry.importing.flat_yaml import parse_flat_yaml

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x7f\ufeff"), max_size=120)
prose = st.lists(st.sampled_from(["word", "a:", "#", "'", '"', "-", "\\", "\n", "  ", "null", "1"]), max_size=60).map(
    " ".join
)
keys = st.from_regex(r"[a-z_]{1,12}", fullmatch=True)
values = st.none() | texts | prose


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(keys, values, min_size=1, max_size=4), st.booleans())
def test_what_pyyaml_writes_is_read_as_pyyaml_reads_it(value, allow_unicode):
    text = yaml.safe_dump(value, default_flow_style=False, allow_unicode=allow_unicode)
    try:
        found = parse_flat_yaml(text)
    except ValueError:
        assert any(character in text for character in "\r\x85\u2028\u2029")
        return
    assert found == value


def test_numbers_stay_text_and_nothing_is_none():
    assert parse_flat_yaml("a: 1\nb: null\nc: ''\nd: ~\ne:\nf: 1.5e3\ng: true\n") == {
        "a": "1",
        "b": None,
        "c": "",
        "d": None,
        "e": None,
        "f": "1.5e3",
        "g": "true",
    }


def test_maps_of_texts_and_empty_lists_are_read():
    text = yaml.safe_dump({"aliases": {"champion": "2", "baseline": "10"}, "tags": [], "none": {}, "z": "end"})
    assert parse_flat_yaml(text) == {"aliases": {"champion": "2", "baseline": "10"}, "tags": [], "none": {}, "z": "end"}


@pytest.mark.parametrize(
    "text",
    [
        "a: !!python/object/apply:os.system ['true']",
        "a: &x 1\nb: *x",
        "- a",
        "a: [1, 2]",
        "a: {b: 1}",
        "a: |\n  text",
        "a: 1\na: 2",
        " a: 1",
        "a: 'open",
        'a: "open',
        'a: "\\q"',
        "a:\n  b:\n    c: 1",
        "a:\n  b: 1\n   c: 1",
        "a: b: c",
        "%YAML 1.1",
        "? a",
        "a: 1\n" * 20_000,
    ],
)
def test_other_yaml_is_refused(text):
    with pytest.raises(ValueError):
        parse_flat_yaml(text)
