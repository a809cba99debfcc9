"""Names stand beside their points, inside the frame and off each other."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from legion.neuro_architecture.analysis.labels import Box, place_labels

FRAME = Box(0, 0, 600, 400)
PLACE = st.tuples(st.floats(20, 580), st.floats(20, 380))


@given(st.lists(PLACE, max_size=10))
def test_optional_names_never_cover_each_other_or_a_point(places):
    labels = place_labels([(f"lora-{index}", x, y, False) for index, (x, y) in enumerate(places)], frame=FRAME)
    for one, other in combinations(labels, 2):
        assert one.box.overlap(other.box) == 0.0
    for label in labels:
        assert label.box.outside(FRAME) == 0.0
        assert all(
            not (label.box.left < x < label.box.right and label.box.top < y < label.box.bottom) for x, y in places
        )


@given(st.lists(PLACE, min_size=1, max_size=10))
def test_needed_names_are_always_shown(places):
    labels = place_labels([(f"lora-{index}", x, y, True) for index, (x, y) in enumerate(places)], frame=FRAME)
    assert [label.text for label in labels] == [f"lora-{index}" for index in range(len(places))]


def test_a_lone_name_stands_to_the_right_of_its_point():
    (label,) = place_labels([("lora", 100.0, 100.0, True)], frame=FRAME)
    assert label.box.left == 112.0
    assert not label.is_far


def test_at_the_right_edge_a_name_stands_elsewhere():
    (label,) = place_labels([("lora-7f3a", 595.0, 100.0, True)], frame=FRAME)
    assert label.box.right <= 600
