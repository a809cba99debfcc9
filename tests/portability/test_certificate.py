import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from legion.foundation.errors import ParityError
from legion.neuro_architecture.portability.certificate import as_replies, compare, draw_questions, make_reference
from legion.neuro_architecture.portability.engines.contract import Question, Reply

FULL = {0: -0.5, 1: -1.5, 2: -2.5, 3: -6.0}


def _causal(logprobs=None, tokens=(1, 2)):
    return Reply(logprobs=logprobs or FULL, tokens=tokens)


def test_equal_answers_are_the_same():
    comparison = compare([_causal()], [_causal()])
    assert comparison.largest_difference == 0.0
    assert comparison.is_same(0.0)


@given(st.floats(1e-3, 1.0), st.sampled_from(sorted(FULL)))
def test_one_number_off_is_found(gap, token):
    comparison = compare([_causal()], [_causal(FULL | {token: FULL[token] - gap})])
    assert math.isclose(comparison.largest_difference, gap, rel_tol=1e-9)
    assert not comparison.is_same(gap / 2)


def test_another_continuation_is_different_even_where_the_numbers_agree():
    comparison = compare([_causal()], [_causal(tokens=(1, 3))])
    assert comparison.greedy_agreement == 0.0
    assert not comparison.is_same(1.0)


def test_another_most_probable_token_is_different():
    comparison = compare([_causal({0: -0.5, 1: -0.50001})], [_causal({0: -0.50001, 1: -0.5})])
    assert comparison.argmax_agreement == 0.0
    assert not comparison.is_same(1e-3)


def test_an_engine_that_gives_fewer_tokens_is_compared_on_the_most_probable_ones():
    assert compare([_causal()], [_causal({0: -0.5, 1: -1.5})]).largest_difference == 0.0


def test_an_engine_that_leaves_out_a_probable_token_is_refused():
    expected = _causal({token: -float(token + 1) for token in range(40)})
    with pytest.raises(ParityError, match="says nothing of token 0"):
        compare([expected], [_causal({token: -float(token + 1) for token in range(1, 30)})])


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_an_answer_that_is_not_finite_is_refused(number):
    with pytest.raises(ParityError, match="not finite"):
        compare([_causal()], [_causal(FULL | {0: number})])


def test_improbable_tokens_are_reported_and_not_judged():
    many = {token: -float(token + 1) for token in range(40)}
    comparison = compare([_causal(many)], [_causal(many | {30: many[30] - 0.5})])
    assert comparison.tail_difference == 0.5
    assert comparison.largest_difference == 0.0
    assert comparison.is_same(0.0)


def test_a_missing_answer_is_refused():
    with pytest.raises(ParityError, match="0 answers to 1"):
        compare([_causal()], [])


def test_the_tolerance_of_logits_grows_with_them():
    expected, found = Reply(logits=(28.0, 1.0)), Reply(logits=(28.0002, 1.0))
    comparison = compare([expected], [found])
    assert comparison.quantity == "logits"
    assert comparison.is_same(1e-5)
    assert not compare([Reply(logits=(0.5, 0.1))], [Reply(logits=(0.5002, 0.1))]).is_same(1e-5)


def test_a_reference_travels_and_comes_back():
    questions = [Question(token_ids=(5, 6), num_tokens=2)]
    reference = make_reference(questions, [_causal()], [_causal(FULL | {0: -0.75})])
    assert reference.effect == 0.25
    again = type(reference).parse(reference.to_dict(), what="reference")
    assert again == reference
    assert again.asked() == questions
    assert compare(as_replies(again), [_causal()]).is_same(0.0)


def test_questions_are_always_the_same_and_hold_no_special_token():
    one = draw_questions(50, avoid=frozenset({0, 1}), max_tokens=128, texts=[[7, 8, 9]], causal=True)
    assert one == draw_questions(50, avoid=frozenset({0, 1}), max_tokens=128, texts=[[7, 8, 9]], causal=True)
    assert not {0, 1} & {token for question in one for token in question.token_ids}
    assert one[-1].num_tokens > 0
    assert all(len(question.token_ids) + question.num_tokens <= 128 for question in one)
