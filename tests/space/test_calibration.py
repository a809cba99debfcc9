from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from legion.foundation.errors import UsageError, WorldError
from legion.neuro_architecture.space import Calibration, calibrate

RATES = ("matmul_flops_per_s", "memory_bytes_per_s", "elements_per_s", "kernel_overhead_s")


@pytest.fixture
def cpu(settings):
    return dataclasses.replace(settings, device="cpu")


def test_machine_is_measured_once_and_then_read(cpu):
    first = calibrate(cpu)
    stored = (cpu.home / "calibration.json").read_bytes()
    assert calibrate(cpu) == first
    assert (cpu.home / "calibration.json").read_bytes() == stored
    assert json.loads(stored) == {first.key: first.to_dict()}
    assert all(getattr(first, rate) > 0 for rate in RATES)


def test_other_thread_count_is_another_measurement(cpu):
    one = calibrate(cpu)
    two = calibrate(dataclasses.replace(cpu, threads=2))
    assert (one.threads, two.threads) == (1, 2)
    assert set(json.loads((cpu.home / "calibration.json").read_text())) == {one.key, two.key}
    assert calibrate(cpu) == one


def test_measuring_leaves_threads_and_generators_alone(cpu):
    threads, state = torch.get_num_threads(), torch.random.get_rng_state()
    calibrate(dataclasses.replace(cpu, threads=2))
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("content", ["{", "[]", '{"a": {"threads": 1}}'])
def test_damaged_file_is_an_error_that_says_what_to_do(cpu, content):
    cpu.home.mkdir(parents=True)
    (cpu.home / "calibration.json").write_text(content)
    with pytest.raises(UsageError) as caught:
        calibrate(cpu)
    assert "delete" in (caught.value.hint or "")


def test_rate_that_is_not_positive_is_refused():
    with pytest.raises(UsageError, match="calibration is not valid"):
        Calibration.parse(
            dict.fromkeys(RATES, 0.0) | {"machine": "m", "device": "cpu", "torch_version": "0", "threads": 1},
            what="calibration",
        )


def test_cuda_that_is_absent_is_not_replaced_in_silence(settings, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(WorldError, match="cuda"):
        calibrate(dataclasses.replace(settings, device="cuda"))
