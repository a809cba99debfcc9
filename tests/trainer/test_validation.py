import math
from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import cross_entropy

from legion.neuro_architecture.packed.objective import accepts_positions, target_logits
from legion.neuro_architecture.trainer.validation import Validation, Validator, is_better

CPU = torch.device("cpu")


class Table(torch.nn.Module):
    """Logits [B, T, V] that are the row of the token read; a causal model in one line."""

    def __init__(self, size=7):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.rows = torch.nn.Parameter(torch.randn(size, size, generator=generator))
        self.widths = []

    def forward(self, input_ids, attention_mask, logits_to_keep=None):
        logits = self.rows[input_ids]
        kept = logits if logits_to_keep is None else logits[:, logits_to_keep]
        self.widths.append(kept.shape[1])
        return SimpleNamespace(logits=kept)


BATCH = {
    "input_ids": torch.tensor([[1, 2, 3, 4, 5], [1, 2, 6, 0, 0]]),
    "attention_mask": torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]),
    "labels": torch.tensor([[-100, -100, -100, 4, 5], [-100, -100, 6, -100, -100]]),
}


@pytest.mark.parametrize(("has_positions", "width"), [(True, 3), (False, 5)])
def test_each_target_token_is_predicted_from_the_position_before_it(has_positions, width):
    model = Table()
    logits, targets = target_logits(model, BATCH, CPU, has_positions=has_positions)
    assert targets.tolist() == [4, 5, 6]
    assert torch.equal(logits, model.rows[torch.tensor([3, 4, 2])])
    assert model.widths == [width]


def test_first_token_is_never_a_target():
    batch = BATCH | {"labels": torch.tensor([[1, 2, -100, -100, -100], [1, -100, -100, -100, -100]])}
    _, targets = target_logits(Table(), batch, CPU, has_positions=True)
    assert targets.tolist() == [2]


def test_models_that_compute_every_logit_are_told_apart():
    assert accepts_positions(Table())
    assert not accepts_positions(torch.nn.Linear(2, 2))


def test_loss_is_the_mean_over_all_predictions_whatever_the_batches():
    model = Table()
    rows = [{name: tensor[index : index + 1] for name, tensor in BATCH.items()} for index in (0, 1)]
    whole = Validator([BATCH], CPU, has_positions=True).measure(model, 3)
    parts = Validator(rows, CPU, has_positions=True).measure(model, 3)
    read = model.rows.detach()[torch.tensor([3, 4, 2])]
    losses = cross_entropy(read, torch.tensor([4, 5, 6]), reduction="none").double()
    assert whole.loss == pytest.approx(float(losses.mean()), abs=1e-12)
    assert whole.loss == pytest.approx(parts.loss, abs=1e-12)
    assert whole.loss_error == pytest.approx(float(losses.std()) / math.sqrt(3))
    assert (whole.num_predictions, whole.num_examples, whole.step) == (3, 2, 3)


def test_validating_draws_nothing_and_leaves_no_gradient():
    model = Table()
    before = torch.random.get_rng_state()
    Validator([BATCH], CPU, has_positions=True).measure(model, 0)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert model.rows.grad is None


def seen(accuracy, loss):
    return Validation(step=1, loss=loss, loss_error=0.0, accuracy=accuracy, num_predictions=9, num_examples=9)


@pytest.mark.parametrize(
    ("kind", "candidate", "best", "expected"),
    [
        ("classification", (0.8, 9.0), (0.7, 0.1), True),
        ("classification", (0.7, 0.1), (0.8, 9.0), False),
        ("classification", (0.8, 0.3), (0.8, 0.4), True),
        ("classification", (0.8, 0.4), (0.8, 0.4), False),
        ("summarization", (0.1, 0.3), (0.9, 0.4), True),
        ("summarization", (0.9, 0.4), (0.1, 0.3), False),
    ],
)
def test_best_is_by_accuracy_for_classes_and_by_loss_for_summaries(kind, candidate, best, expected):
    assert is_better(seen(*candidate), seen(*best), kind) is expected


def test_anything_beats_nothing():
    assert is_better(seen(0.0, 99.0), None, "classification")


def test_error_of_a_share_is_the_binomial_one():
    assert seen(0.5, 1.0).accuracy_error == pytest.approx(math.sqrt(0.25 / 9))
