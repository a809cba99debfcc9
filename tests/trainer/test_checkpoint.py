import dataclasses

import pytest
import torch

from legion.foundation.errors import IntegrityError
from legion.neuro_architecture.trainer.checkpoint import (
    FILE,
    Checkpoint,
    read_checkpoint,
    remove_leftovers,
    write_checkpoint,
)
from legion.neuro_architecture.trainer.state import TrialHistory, TrialProgress
from legion.neuro_architecture.trainer.validation import Validation

SEEN = Validation(step=2, loss=0.1 + 0.2, loss_error=0.01, accuracy=0.5, num_predictions=16, num_examples=16)


def checkpoint():
    progress = TrialProgress(
        step=3,
        losses=[0.7, 0.1 + 0.2, 1e-300],
        seconds=1.25,
        tokens_seen=90,
        examples_seen=12,
        validations=[SEEN],
        best=SEEN,
        best_weights={"a.lora_A": torch.arange(4.0), "head/b": torch.zeros(2)},
    )
    return Checkpoint(
        identity={"proposal_id": "lora-0", "seed": 3},
        steps=10,
        curve_bytes=123,
        history=TrialHistory(started_at="2026-01-31T12:00:00Z", attempts=[{"from_step": 0}], extended_from=[1]),
        progress=progress,
        weights={"a.lora_A": torch.full((4,), 0.1), "head/b": torch.ones(2)},
        moments={"head/b": {"step": torch.tensor(3.0), "exp_avg": torch.ones(2) / 3, "exp_avg_sq": torch.ones(2)}},
    )


def test_checkpoint_comes_back_bit_for_bit(tmp_path):
    written = checkpoint()
    write_checkpoint(tmp_path, written)
    found = read_checkpoint(tmp_path)
    for name in ("identity", "steps", "curve_bytes", "history"):
        assert getattr(found, name) == getattr(written, name)
    for name in (field.name for field in dataclasses.fields(TrialProgress) if field.name != "best_weights"):
        assert getattr(found.progress, name) == getattr(written.progress, name)
    for theirs, ours in (
        (found.weights, written.weights),
        (found.progress.best_weights, written.progress.best_weights),
        (found.moments["head/b"], written.moments["head/b"]),
    ):
        assert theirs.keys() == ours.keys()
        assert all(torch.equal(theirs[name], ours[name]) for name in ours)


def test_there_is_none_before_the_first(tmp_path):
    assert read_checkpoint(tmp_path) is None


@pytest.mark.parametrize("keep", [0, 7, 200, -1])
def test_damaged_checkpoint_is_refused(tmp_path, keep):
    write_checkpoint(tmp_path, checkpoint())
    path = tmp_path / FILE
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(IntegrityError) as caught:
        read_checkpoint(tmp_path)
    assert FILE in caught.value.message
    assert str(tmp_path) in caught.value.hint


def test_foreign_safetensors_file_is_refused(tmp_path):
    from safetensors.torch import save_file

    save_file({"weights/a": torch.zeros(1)}, tmp_path / FILE)
    with pytest.raises(IntegrityError):
        read_checkpoint(tmp_path)


def test_leftovers_of_a_kill_are_removed_and_nothing_else(tmp_path):
    write_checkpoint(tmp_path / "checkpoint", checkpoint())
    (tmp_path / "checkpoint" / f".{FILE}.abc.tmp").write_bytes(b"half")
    (tmp_path / ".adapter.xyz" / "fresh").mkdir(parents=True)
    (tmp_path / "adapter").mkdir()
    remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["adapter", "checkpoint", FILE]
