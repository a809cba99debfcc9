"""Noise is noise of its kind, and the same for the same stream."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from legion.foundation.rng import RandomStream
from legion.neuro_architecture.evaluator.perturbations import PERTURBATIONS, perturb

TEXT = "It's not a great film, but the leading actress does not disappoint."


@pytest.mark.parametrize("name", PERTURBATIONS)
@given(text=st.text(min_size=1, max_size=80), seed=st.integers(0, 50))
def test_same_stream_same_noise_and_never_a_blank(name, text, seed):
    noisy = perturb(name, text, RandomStream(seed))
    assert noisy == perturb(name, text, RandomStream(seed))
    assert noisy.strip() or not text.strip()


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_every_perturbation_changes_an_ordinary_sentence(name):
    assert all(perturb(name, TEXT, RandomStream(seed)) != TEXT for seed in range(20))


@pytest.mark.parametrize("name", ["typo", "homoglyph"])
def test_a_replaced_letter_keeps_the_length(name):
    assert len(perturb(name, TEXT, RandomStream(1))) == len(TEXT)


def test_one_word_in_five_loses_one_letter():
    assert len(TEXT) - len(perturb("drop", TEXT, RandomStream(1))) == 2


def test_swapped_letters_are_the_same_letters():
    assert sorted(perturb("swap", TEXT, RandomStream(1))) == sorted(TEXT)


def test_case_changes_nothing_but_case():
    assert perturb("case", TEXT, RandomStream(1)).lower() == TEXT.lower()


def test_spacing_changes_nothing_but_spaces():
    assert perturb("spacing", TEXT, RandomStream(1)).replace(" ", "") == TEXT.replace(" ", "")


def test_homoglyphs_leave_latin():
    assert not perturb("homoglyph", TEXT, RandomStream(1)).isascii()


def test_contractions_go_both_ways_and_keep_capitals():
    noisy = perturb("contraction", TEXT, RandomStream(1))
    assert noisy == "It is not a great film, but the leading actress doesn't disappoint."
