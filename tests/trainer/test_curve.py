import contextlib
import json

import pytest

from legion.foundation.errors import IntegrityError, InvalidValueError
from legion.neuro_architecture.trainer.curve import Curve


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_what_was_written_after_the_checkpoint_is_cut_off(tmp_path):
    path = tmp_path / "run" / "curve.jsonl"
    with contextlib.closing(Curve(path)) as curve:
        curve.append("train", step=1, loss=0.5)
        vouched = curve.sync()
        curve.append("train", step=2, loss=0.4)
    with contextlib.closing(Curve(path, vouched)) as curve:
        curve.append("train", step=2, loss=0.3)
        assert curve.sync() == path.stat().st_size
    assert lines(path) == [{"kind": "train", "step": 1, "loss": 0.5}, {"kind": "train", "step": 2, "loss": 0.3}]


def test_curve_shorter_than_its_checkpoint_says_is_refused(tmp_path):
    path = tmp_path / "curve.jsonl"
    path.write_text("{}\n")
    with pytest.raises(IntegrityError, match="holds 3 bytes, its checkpoint counts 10"):
        Curve(path, 10)
    assert path.read_text() == "{}\n"


def test_curve_refuses_what_is_no_number(tmp_path):
    with contextlib.closing(Curve(tmp_path / "curve.jsonl")) as curve, pytest.raises(InvalidValueError):
        curve.append("train", loss=float("nan"))
