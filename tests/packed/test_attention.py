import torch
from tests.packed.harness import Examples, tiny_base
from transformers.models.qwen2.modeling_qwen2 import eager_attention_forward

from legion.neuro_architecture.packed.attention import attend, causal_context

HEADS, HEAD_DIM = 4, 8  # of a scale, 8 ** -0.5, that no float holds exactly


def test_eager_attention_rounds_where_transformers_does():
    """Bit for bit: where a gradient is near zero, AdamW makes 1e-5 of a weight of one bit in it."""
    mask = Examples("qwen2", "tokens").batch(0)[1]["attention_mask"]
    bias = causal_context(mask, torch.float32, "eager").bias
    batch, length = mask.shape
    draw = torch.Generator().manual_seed(2)
    parts = [torch.randn(batch, HEADS, length, HEAD_DIM, generator=draw) for _ in "qkv"]
    upstream = torch.randn(batch, length, HEADS * HEAD_DIM, generator=draw)
    ours, theirs = ([part.clone().requires_grad_() for part in parts] for _ in range(2))

    packed = [part.unsqueeze(0) for part in ours]
    found = attend(*packed, bias, scale=HEAD_DIM**-0.5, kernel="eager").squeeze(0)
    found.backward(upstream)
    block = tiny_base("qwen2", "tokens").model.layers[0].self_attn
    block.num_key_value_groups = 1
    expected = eager_attention_forward(block, *theirs, bias, scaling=HEAD_DIM**-0.5)[0].flatten(2)
    expected.backward(upstream)

    assert mask.min() == 0  # padded
    assert torch.equal(found, expected)
    assert all(torch.equal(own.grad, other.grad) for own, other in zip(ours, theirs, strict=True))
