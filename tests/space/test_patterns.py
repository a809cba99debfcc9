from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peft.utils.other import get_pattern_key

from legion.neuro_architecture.space.patterns import canonical_pattern, fits, is_pattern, value_at
from legion.testing import paper_anatomy

LINEARS = [linear for layer in paper_anatomy(num_layers=3).layers for linear in layer.linears]
KEYS = ("q_proj", "0.self_attn.q_proj", "mlp.up_proj", "1.mlp.up_proj", "model.layers.2.mlp.up_proj", ".*_proj", "1.*")
patterns = st.dictionaries(st.sampled_from(KEYS), st.integers(1, 4))


@pytest.mark.parametrize(
    ("key", "path", "is_end"),
    [
        ("q_proj", "model.layers.0.self_attn.q_proj", True),
        ("proj", "model.layers.0.self_attn.q_proj", False),
        ("0.self_attn.q_proj", "model.layers.10.self_attn.q_proj", False),
        ("0.self_attn.q_proj", "model.layers.0.self_attn.q_proj", True),
        ("[qk]_proj", "model.layers.0.self_attn.k_proj", True),
        ("self_attn", "model.layers.0.self_attn.k_proj", False),
    ],
)
def test_key_is_the_end_of_a_path_from_a_dot_on(key, path, is_end):
    assert fits(key, path) is is_end


def test_what_is_no_expression_fits_nothing():
    assert not is_pattern("(")
    assert not fits("(", "(")


@given(pattern=patterns)
def test_values_are_those_that_peft_finds_in_what_it_has_stored(pattern):
    stored = dict(sorted(pattern.items()))
    for linear in LINEARS:
        assert value_at(pattern, linear.path, 9) == stored.get(get_pattern_key(stored, linear.path), 9)


@given(pattern=patterns)
def test_one_spelling_keeps_every_value_and_is_the_same_for_all_spellings(pattern):
    default, spelled = canonical_pattern(9, pattern, LINEARS)
    values = {linear.path: value_at(pattern, linear.path, 9) for linear in LINEARS}
    assert {linear.path: value_at(spelled, linear.path, default) for linear in LINEARS} == values
    if pattern:
        # Every layer by its whole path, over a default that nothing takes.
        assert canonical_pattern(77, {path.replace(".", "[.]"): value for path, value in values.items()}, LINEARS) == (
            default,
            spelled,
        )


def test_keys_that_fit_nothing_are_kept():
    assert canonical_pattern(4, {"nowhere": 2, "q_proj": 4}, LINEARS) == (4, {"nowhere": 2})
