import json
import math

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from legion.foundation.canonical import canonical_json, digest_bytes, digest_file, digest_json, is_digest, short
from legion.foundation.errors import InvalidValueError

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(_JSON)
def test_canonical_json_reads_back_equal(value):
    # RFC 8785 knows one kind of number, the IEEE double.
    assert json.loads(canonical_json(value), parse_int=float) == json.loads(json.dumps(value), parse_int=float)


_ASCII = st.text(st.characters(max_codepoint=127), max_size=6)
_COMMON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | _ASCII
    | st.floats(-1e3, 1e3) | st.integers(-99, 99).map(float) | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.tuples(inner) | st.dictionaries(_ASCII, inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(_COMMON | _JSON)
def test_the_fast_way_writes_the_bytes_of_the_reference(value):
    assert canonical_json(value) == rfc8785.dumps(value)


@pytest.mark.parametrize("value", [2**53, {1: 2}, {"a": {None: 1}}, [-(2**60)], {"a": object()}])
def test_what_the_reference_refuses_is_refused(value):
    with pytest.raises(InvalidValueError):
        canonical_json(value)


@pytest.mark.parametrize("number", [0.0, -0.0, 1e-4, 9.99e-5, 1e-7, 1e15, 2.0**53, 1e16, 1e21, 5e-324, 123456789.5])
def test_numbers_at_the_borders_are_spelled_as_the_reference_does(number):
    assert canonical_json([number, -number]) == rfc8785.dumps([number, -number])


def test_key_order_does_not_change_the_digest():
    assert digest_json({"b": 1, "a": [1.0, "x"]}) == digest_json({"a": [1.0, "x"], "b": 1})


def test_canonical_json_agrees_with_the_published_example():
    value = {"numbers": [333333333.33333329, 1e30, 4.50, 2e-3, 0.000000000000000000000000001], "literals": [None, True]}
    assert canonical_json(value) == rfc8785.dumps(value)
    assert canonical_json(value) == (b'{"literals":[null,true],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27]}')


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_no_measurement_are_refused_by_path(number):
    with pytest.raises(InvalidValueError, match=r"\$\.metrics\[1\]\.loss"):
        canonical_json({"metrics": [1, {"loss": number}]})


def test_unserialisable_values_are_refused():
    with pytest.raises(InvalidValueError, match="canonical JSON"):
        canonical_json({"when": object()})


def test_digests_have_one_form(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    digest = digest_file(path)
    assert digest == digest_bytes(b"abc") == "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert is_digest(digest)
    assert not is_digest(digest[:-1])
    assert not is_digest(digest.upper())
    assert short(digest) == "ba7816bf8f01"
