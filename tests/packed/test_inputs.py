import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.packed.harness import CPU, Examples

from legion.neuro_architecture.packed.inputs import IGNORED, _before_targets, read_inputs

# Which tokens of each row are targets; some row has one that something stands before, as `Feed` sees to.
rows = (
    st.integers(2, 9)
    .flatmap(lambda length: st.lists(st.lists(st.booleans(), min_size=length, max_size=length), min_size=1, max_size=5))
    .filter(lambda flags: any(any(row[1:]) for row in flags))
)


def labels_of(is_target):
    """Labels that say where they stand."""
    places = torch.arange(len(is_target))[:, None] * 10 + torch.arange(len(is_target[0]))
    return torch.where(torch.tensor(is_target), places, IGNORED)


@settings(max_examples=150, deadline=None)
@given(rows)
def test_every_target_is_read_from_the_position_before_it_and_nothing_else_counts(is_target):
    labels = torch.tensor(
        [
            [10 * row + place if flag else IGNORED for place, flag in enumerate(flags)]
            for row, flags in enumerate(is_target)
        ]
    )
    wanted = [[place - 1 for place, flag in enumerate(flags) if flag and place > 0] for flags in is_target]
    read_BR, is_target_BR = _before_targets(labels)
    assert read_BR.shape == is_target_BR.shape == (len(is_target), max(len(places) for places in wanted))
    for row, places in enumerate(wanted):
        assert read_BR[row][is_target_BR[row]].tolist() == places
        assert is_target_BR[row].sum() == len(places)
        if places:  # padded with its last, so that nothing new is computed
            assert set(read_BR[row].tolist()) == set(places)


@settings(max_examples=60, deadline=None)
@given(rows)
def test_targets_stand_in_the_order_of_the_logits(is_target):
    labels = torch.tensor(
        [
            [10 * row + place if flag else IGNORED for place, flag in enumerate(flags)]
            for row, flags in enumerate(is_target)
        ]
    )
    batch = {"input_ids": torch.zeros_like(labels), "attention_mask": torch.ones_like(labels), "labels": labels}
    inputs = read_inputs(batch, "targets", CPU, pad_token_id=None)
    assert inputs.targets_N.tolist() == [int(label) for row in labels for label in row[1:] if label != IGNORED]
    assert inputs.num_examples == len(is_target)
    assert inputs.num_tokens == labels.numel()


def test_classifiers_read_the_first_token_or_the_last_that_is_no_padding():
    examples = Examples("llama", "labels")
    batch = examples.collate([0, 1, 2])
    first = read_inputs(batch, "first", CPU, pad_token_id=0)
    last = read_inputs(batch, "last", CPU, pad_token_id=0)
    assert first.read_BR.tolist() == [[0], [0], [0]]
    assert last.read_BR.flatten().tolist() == [len(examples.ids[example]) - 1 for example in (0, 1, 2)]
    assert torch.equal(last.targets_N, batch["labels"])
    assert last.num_tokens == sum(len(examples.ids[example]) for example in (0, 1, 2))


@settings(max_examples=60, deadline=None)
@given(rows, st.integers(2, 6))
def test_rounded_up_batches_read_the_same(is_target, multiple):
    labels = labels_of(is_target)
    batch = {"input_ids": torch.ones_like(labels), "attention_mask": torch.ones_like(labels), "labels": labels}
    plain = read_inputs(batch, "targets", CPU, pad_token_id=0)
    rounded = read_inputs(batch, "targets", CPU, pad_token_id=0, multiple=multiple)
    sizes = [*rounded.mask.shape[1:], *rounded.read_BR.shape[1:], len(rounded.rows_N), len(rounded.targets_N)]
    assert all(size % multiple == 0 for size in sizes)
    assert rounded.num_targets == plain.num_targets == len(plain.targets_N)
    assert rounded.num_tokens == plain.num_tokens
    count = plain.num_targets
    assert torch.equal(rounded.targets_N[:count], plain.targets_N)
    assert set(rounded.targets_N[count:].tolist()) <= {IGNORED}

    def places(inputs):
        columns = inputs.read_BR.shape[1]
        return [(row // columns, int(inputs.read_BR.flatten()[row])) for row in inputs.rows_N[:count].tolist()]

    assert places(rounded) == places(plain)


def test_a_causal_classifier_without_padding_is_not_rounded_up():
    batch = Examples("llama", "labels").collate([0])
    length = batch["input_ids"].shape[1]
    assert read_inputs(batch, "last", CPU, pad_token_id=None, multiple=64).mask.shape[1] == length
    assert read_inputs(batch, "last", CPU, pad_token_id=0, multiple=64).mask.shape[1] == 64
