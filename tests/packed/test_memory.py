"""The prediction: what grows with what, smaller groups before a refusal, and a refusal that says how many fit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from legion.foundation.errors import WorldError
from legion.neuro_architecture.packed import Dispatch
from legion.neuro_architecture.packed.cut import Cut
from legion.neuro_architecture.packed.memory import MemberNeeds, plan_memory
from legion.testing import paper_anatomy

MANY = 2**40


def plan(members, *, limit=MANY, **dispatch):
    return plan_memory(
        members,
        paper_anatomy(),
        Dispatch(**{"group_blocks": 24} | dispatch),
        batch=16,
        length=64,
        cache_bytes=0,
        limit_bytes=limit,
    )


def needs(count, num_parameters=300_000, lowest=0):
    return [MemberNeeds(num_parameters=num_parameters, cut=Cut(lowest))] * count


def test_weights_count_five_times_and_the_cache_once():
    few, more = plan(needs(4)), plan(needs(4, num_parameters=301_000))
    assert more.members_bytes - few.members_bytes == 4 * 1_000 * 20
    assert few.predicted_bytes == few.members_bytes + few.activations_bytes


def test_only_groups_that_run_side_by_side_keep_activations():
    assert plan(needs(64)).activations_bytes == plan(needs(32)).activations_bytes
    assert plan(needs(64), workers=2).activations_bytes == 2 * plan(needs(64)).activations_bytes


def test_bf16_halves_the_activations():
    assert 2 * plan(needs(8), precision="bfloat16").activations_bytes == plan(needs(8)).activations_bytes


def test_groups_get_smaller_before_anything_is_refused():
    whole = plan(needs(8))
    tight = plan(needs(8), limit=whole.members_bytes + whole.activations_bytes // 2)
    assert tight.dispatch.group_blocks < whole.dispatch.group_blocks
    assert tight.predicted_bytes <= tight.limit_bytes


@given(st.integers(2, 40), st.integers(0, 39))
def test_refusal_says_how_many_fit_and_so_many_do(count, fitting):
    one = plan(needs(1), group_blocks=1)
    limit = one.activations_bytes + min(fitting, count - 1) * one.members_bytes
    with pytest.raises(WorldError) as caught:
        plan(needs(count), limit=limit, group_blocks=1)
    assert f"{min(fitting, count - 1)} trials fit" in caught.value.cause
    if fitting:
        assert plan(needs(min(fitting, count - 1)), limit=limit, group_blocks=1).predicted_bytes <= limit
