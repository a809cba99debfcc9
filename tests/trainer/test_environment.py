import dataclasses

import pytest
import torch

from legion.foundation.errors import WorldError
from legion.neuro_architecture.trainer.environment import (
    choose_device,
    describe_place,
    library_versions,
    torch_environment,
)


def test_threads_and_random_state_are_put_back(settings):
    threads, state = torch.get_num_threads(), torch.random.get_rng_state()
    with torch_environment(dataclasses.replace(settings, threads=2)):
        assert torch.get_num_threads() == 2
        torch.manual_seed(5)
        torch.rand(3)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.random.get_rng_state(), state)


def test_cpu_is_taken_when_asked_for():
    assert choose_device("cpu").type == "cpu"


def test_missing_accelerator_is_an_error_and_no_fallback(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto").type == "cpu"
    with pytest.raises(WorldError, match="no CUDA device"):
        choose_device("cuda")


def test_record_names_machine_and_versions():
    place = describe_place(torch.device("cpu"))
    assert {"cpu", "cores", "threads", "device", "accelerator"} <= place.keys()
    assert {"torch", "transformers", "peft", "python", "legion"} <= library_versions().keys()
