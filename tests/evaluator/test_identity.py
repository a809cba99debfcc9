"""A pair differs in its identity term and in nothing else."""

from __future__ import annotations

import pytest

from legion.neuro_architecture.evaluator.identity import TEMPLATES, TERMS, swap_identity, template_pairs


def test_templates_pair_every_two_neighbouring_terms():
    pairs = template_pairs()
    assert len(pairs) == len(TEMPLATES) * sum(len(terms) - 1 for terms in TERMS.values())
    assert {pair.group for pair in pairs} == set(TERMS)


def test_a_pair_of_a_template_differs_in_one_word():
    for pair in template_pairs():
        first, second = pair.first.split(), pair.second.split()
        assert sum(one != other for one, other in zip(first, second, strict=True)) == 1


@pytest.mark.parametrize(
    ("text", "swapped", "group"),
    [
        ("He loves his wife.", "She loves her husband.", "gender"),
        ("HER brother", "HIS sister", "gender"),
        ("A Muslim family and a muslim school", "A Jewish family and a Jewish school", "religion"),
        ("an old man walks", "an old woman walks", "gender"),
        ("an old couple walks", "an young couple walks", "age"),
        ("this American film", "this British film", "origin"),
    ],
)
def test_terms_are_swapped_and_keep_their_case(text, swapped, group):
    pair = swap_identity(text)
    assert (pair.first, pair.second, pair.group) == (text, swapped, group)


@pytest.mark.parametrize("text", ["a straight line", "the old story", "theatre and shepherd", "Germanic", "he-man's"])
def test_everyday_words_are_left_alone(text):
    assert swap_identity(text) is None
