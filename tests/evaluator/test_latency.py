"""Times are taken in turn, and the ratio is of medians."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from legion.foundation.rng import RandomStream
from legion.neuro_architecture.evaluator.latency import Timings, latency_measurements, time_interleaved


class Recorder:
    """Notes when it is called."""

    device = torch.device("cpu")

    def __init__(self, name, calls):
        self.name, self.calls = name, calls

    def __call__(self, *, index):
        self.calls.append((self.name, index))


def test_adapter_and_base_take_turns_on_the_same_example_after_warm_up():
    calls = []
    batches = [{"index": 0}, {"index": 1}]
    timings = time_interleaved(Recorder("A", calls), Recorder("B", calls), batches, warmup=1)
    assert calls == [("A", 0), ("B", 0), *[(name, index) for index in (0, 1) for name in "ABBA"]]
    assert timings.adapted_ms.shape == timings.bare_ms.shape == (2, 2)
    assert (timings.adapted_ms > 0).all()


def test_ratio_is_of_medians_with_an_error_over_examples():
    base = np.random.default_rng(0).uniform(4, 5, size=(40, 2))
    found = latency_measurements(Timings(adapted_ms=1.5 * base, bare_ms=base), RandomStream(0))
    assert found["latency_ratio"].value == pytest.approx(1.5)
    assert found["latency_ratio"].n == 40
    assert found["latency_ratio"].error == pytest.approx(0.0, abs=1e-12)
    assert found["latency_p50_ms"].value == pytest.approx(np.median(1.5 * base))
    assert found["base_latency_p95_ms"].value == pytest.approx(np.percentile(base, 95))
    assert 0.0 < found["latency_p50_ms"].error < 1.0


def test_same_seed_gives_the_same_errors():
    timings = Timings(adapted_ms=np.random.default_rng(1).uniform(4, 5, (9, 2)), bare_ms=np.ones((9, 2)))
    assert latency_measurements(timings, RandomStream(3)) == latency_measurements(timings, RandomStream(3))
