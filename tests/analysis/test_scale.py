"""Ticks are round and within the range."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from legion.neuro_architecture.analysis.scale import Scale, format_tick, padded_range, round_ticks


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_are_evenly_spaced_within_the_range(low, span):
    high = low + span
    ticks = round_ticks(low, high)
    assert 2 <= len(ticks) <= 8
    assert all(low - 1e-6 * span - 1e-9 <= tick <= high + 1e-6 * span + 1e-9 for tick in ticks)


@given(st.lists(st.floats(-1e9, 1e9), min_size=1))
def test_a_range_is_never_empty_and_holds_its_values(values):
    low, high = padded_range(values)
    assert low < min(values) <= max(values) < high


def test_a_scale_maps_ends_to_ends():
    scale = Scale(1.0, 3.0, 100.0, 0.0)
    assert (scale(1.0), scale(2.0), scale(3.0)) == (100.0, 50.0, 0.0)


@pytest.mark.parametrize(
    ("value", "step", "shown"),
    [(0.82, 0.02, "0.82"), (1.0, 0.2, "1.0"), (0.025, 0.025, "0.025"), (40.0, 20.0, "40"), (2.5e8, 5e7, "250M"),
     (3e9, 1e9, "3G"), (20000.0, 5000.0, "20k"), (620.5e6, 5e5, "620.5M"),
     (0.0, 2000.0, "0k"), (0.0, 0.5, "0.0"), (2.5, 2.5, "2.5")],
)  # fmt: skip
def test_ticks_show_the_decimals_that_their_step_needs(value, step, shown):
    assert format_tick(value, step) == shown
