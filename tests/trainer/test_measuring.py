import sys

import pytest
import torch

from legion.neuro_architecture.trainer.measuring import (
    measure_gpu_memory,
    measure_latency,
    measure_peak_memory,
    reset_peaks,
)

CPU = torch.device("cpu")


class Ticks:
    """A clock that a pass of the model advances by its own number of milliseconds."""

    def __init__(self):
        self.now_s = 0.0

    def monotonic_s(self):
        return self.now_s


class Slow(torch.nn.Module):
    dtype = torch.float32

    def __init__(self, clock):
        super().__init__()
        self.clock, self.calls = clock, []

    def forward(self, input_ids):
        self.calls.append(int(input_ids))
        self.clock.now_s += float(input_ids) / 1e3


def test_latency_is_the_median_over_examples_without_the_warm_up():
    clock = Ticks()
    model = Slow(clock)
    batches = [{"input_ids": torch.tensor(ms), "labels": torch.tensor(0)} for ms in (100, 3, 5)]
    found = measure_latency(model, batches, CPU, num_warmup=2, clock=clock)
    assert (found.value, found.unit, found.n) == (pytest.approx(5.0), "ms", 3)
    assert model.calls == [100, 3, 100, 3, 5]
    assert not model.training


def test_gpu_memory_is_absent_on_a_cpu_with_the_reason():
    assert measure_gpu_memory(CPU).reason == "trained on the CPU"


def test_peak_sees_memory_that_was_given_back():
    is_reset = reset_peaks(CPU)
    before = measure_peak_memory().value
    block = bytearray(b"x" * 80_000_000)
    del block
    grown = measure_peak_memory().value - before
    if is_reset:
        assert grown > 70.0
    assert grown >= 0.0
    assert sys.platform != "linux" or before < 100_000
