"""Trials on worker processes, led as one."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager

import pytest
from tests.runtime.fakes import CountingRunner, OpenCounting

from legion.foundation.errors import InvalidValueError, WorldError
from legion.neuro_architecture.runtime import WorkerPool
from legion.neuro_architecture.runtime.worker import Call, _answer


def test_trials_are_spread_in_turn_and_stay_where_they_are(tmp_path):
    with WorkerPool(OpenCounting(tmp_path), 2) as pool:
        pool.add(["a", "b", "c"])
        pool.advance(["a", "b", "c"], 5)
        pool.stop("b", "because")
        pool.finish(["c", "a"])
        record = pool.record()["workers"]
    calls = [each["calls"] for each in record]
    assert calls[0] == [["add", ["a", "c"]], ["advance", ["a", "c"], 5], ["finish", ["c", "a"]]]
    assert calls[1] == [["add", ["b"]], ["advance", ["b"], 5], ["stop", "b", "because"]]
    assert record[0]["pid"] != record[1]["pid"]


def test_an_error_of_a_worker_is_the_parents(tmp_path):
    with (
        WorkerPool(OpenCounting(tmp_path), 2) as pool,
        pytest.raises(InvalidValueError, match="no such trial") as caught,
    ):
        pool.add(["a", "wrong"])
    assert caught.value.hint == "name another"


def test_a_worker_that_dies_is_named(tmp_path):
    with WorkerPool(OpenCounting(tmp_path), 2) as pool:
        pool.add(["a", "b"])
        os.kill(pool.record()["workers"][1]["pid"], signal.SIGKILL)
        with pytest.raises(WorldError, match="worker 1 of 2 died") as caught:
            pool.advance(["a", "b"], 3)
        assert "-9" in caught.value.cause


def test_a_pool_that_is_left_by_ctrl_c_lets_its_workers_save(tmp_path):
    @contextmanager
    def interrupted():
        with WorkerPool(OpenCounting(tmp_path), 2) as pool:
            pool.add(["a", "b"])
            yield
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), interrupted():
        pass
    assert len(list(tmp_path.glob("left-*"))) == 2


def test_a_bug_of_a_worker_is_not_swallowed(tmp_path):
    with pytest.raises(AttributeError):
        _answer(CountingRunner(tmp_path), Call("nothing", ()))
