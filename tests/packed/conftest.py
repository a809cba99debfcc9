"""Tiny bases of every family; see `harness` for what the tests share."""

from __future__ import annotations

import pytest
from tests.packed.harness import CASES


def pytest_generate_tests(metafunc):
    """A test that takes `case` runs for every known family and task."""
    if "case" in metafunc.fixturenames:
        metafunc.parametrize("case", CASES, ids=["-".join(case) for case in CASES])


@pytest.fixture
def double_norms(monkeypatch):
    """RMS norms without their detour through fp32, so that fp64 is fp64 all the way."""
    import torch
    from transformers.models.llama.modeling_llama import LlamaRMSNorm
    from transformers.models.mistral.modeling_mistral import MistralRMSNorm
    from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm

    def forward(self, x):
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon))

    for norm in (LlamaRMSNorm, MistralRMSNorm, Qwen2RMSNorm):
        monkeypatch.setattr(norm, "forward", forward)
