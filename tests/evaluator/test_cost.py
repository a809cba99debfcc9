"""Operations and memory against what can be worked out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from legion.foundation.errors import ModelError
from legion.neuro_architecture.evaluator.cost import (
    count_flops,
    live_peak,
    model_bytes,
    peak_memory_bytes,
    weight_file_bytes,
)


class OneLinear(nn.Module):
    """y = W x + b, as a model with a device."""

    def __init__(self, d_in, d_out):
        super().__init__()
        self.linear = nn.Linear(d_in, d_out)
        self.device = torch.device("cpu")

    def forward(self, x):
        return self.linear(x)


def test_a_linear_layer_costs_twice_rows_times_inputs_times_outputs():
    assert count_flops(OneLinear(12, 20), {"x": torch.randn(7, 12)}) == 2 * 7 * 12 * 20


def test_memory_of_a_linear_layer_is_its_weights_and_its_output():
    model, x = OneLinear(12, 20), torch.randn(7, 12)
    assert model_bytes(model) == 4 * (12 * 20 + 20)
    assert peak_memory_bytes(model, {"x": x}) == model_bytes(model) + 4 * 7 * 20


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_released_tensors_and_views_are_not_counted(mode):
    def work():
        tensor = torch.zeros(1000)
        for _ in range(5):
            tensor = tensor + 1
        tensor.view(10, 100).relu_()

    with mode():
        assert live_peak(work) == 2 * 4000


def test_tensors_from_before_are_not_counted():
    before = torch.zeros(1000)
    assert live_peak(lambda: before.add_(1)) == 0
    assert live_peak(lambda: before[:10] * 2) == 40


def test_shared_weights_count_once():
    model = nn.ModuleList([nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)])
    model[1].weight = model[0].weight
    assert model_bytes(model) == 4 * 16


def test_a_folder_without_weights_has_no_size(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"1234")
    assert weight_file_bytes(tmp_path) == 4
    with pytest.raises(ModelError):
        weight_file_bytes(tmp_path / "elsewhere")
