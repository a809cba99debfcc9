"""Our bottleneck adapter beside AdapterHub's `adapters` library with the same weights.

Where the forms coincide: `seq` on every family (of its `DoubleSeqBnConfig`, the half behind the feed-forward network),
`par` on post-norm models (its `ParBnConfig` with a scaling of 1), and `seq_layer` on models with a LayerNorm (the
library has no RMSNorm). Where they do not: on pre-norm models its parallel adapter reads the residual stream *before*
the norm, ours the normed input of the feed-forward network, because only that folds into a wider one.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from legion.neuro_architecture.adapters import BottleneckAdapter

pytestmark = pytest.mark.engines

TOKENS = [5, 9, 14, 3, 22, 31, 8]
BOTTLENECK_SIZE = 8
# What AdapterHub calls "down" maps to the narrow width; the prototype's papers and we call that "up".
NAMES = {
    "up": "adapter_down.0.weight",
    "up_bias": "adapter_down.0.bias",
    "down": "adapter_up.weight",
    "down_bias": "adapter_up.bias",
}
NORMED_NAMES = {
    "norm": "adapter_norm_before.weight",
    "norm_bias": "adapter_norm_before.bias",
    "up": "adapter_down.1.weight",
    "up_bias": "adapter_down.1.bias",
    "down": "adapter_up.weight",
    "down_bias": "adapter_up.bias",
}
SEQ = {"is_parallel": False, "original_ln_before": False, "original_ln_after": True, "residual_before_ln": True}
PAR = {"is_parallel": True, "original_ln_before": False, "original_ln_after": True, "residual_before_ln": True}
SEQ_LAYER = {
    "is_parallel": False,
    "ln_before": True,
    "original_ln_before": True,
    "original_ln_after": False,
    "residual_before_ln": False,
}
SAME = {
    "bert-seq": ("bert", "seq", "gelu", SEQ, NAMES),
    "bert-seq-relu": ("bert", "seq", "relu", SEQ, NAMES),
    "gpt2-seq": ("gpt2", "seq", "gelu", SEQ, NAMES),
    "llama-seq": ("llama", "seq", "silu", SEQ, NAMES),
    "bert-par": ("bert", "par", "gelu", PAR, NAMES),
    "bert-par-relu": ("bert", "par", "relu", PAR, NAMES),
    "gpt2-seq_layer": ("gpt2", "seq_layer", "gelu", SEQ_LAYER, NORMED_NAMES),
}
OTHER = {
    "gpt2-par": ("gpt2", "par", "gelu", PAR, NAMES),
    "llama-par": ("llama", "par", "silu", PAR, NAMES),
}


def ours(folder: Path, family: str, placement: str, non_linearity: str, weights: Path):
    """Our outputs with a drawn adapter, whose weights go to `weights`, and our outputs without it."""
    import transformers

    is_causal = family != "bert"
    auto_class = transformers.AutoModelForCausalLM if is_causal else transformers.AutoModel
    base = auto_class.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()
    model = BottleneckAdapter(BOTTLENECK_SIZE, non_linearity, placement).apply(base).eval()
    layers = [module for module in model.modules() if type(module).__name__ == "BottleneckLayer"]
    tensors = {}
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(7)
        for index, layer in enumerate(layers):
            for name, weight in layer.bottleneck_adapter["default"].named_parameters():
                weight.add_(torch.randn_like(weight) * 0.2)
                tensors[f"{index}.{name}"] = weight.detach().clone()
        outputs = model(input_ids=torch.tensor([TOKENS]))
        with model.disable_adapter():
            bare = model(input_ids=torch.tensor([TOKENS]))
    save_file(tensors, weights)
    key = "logits" if is_causal else "last_hidden_state"
    return outputs[key][0], bare[key][0], layers[0].config.activation


@pytest.fixture(scope="module")
def differences(adapters_python, tiny_folders, tmp_path_factory):
    """For each case: our largest difference to the library's outputs, and the adapter's own effect."""
    scratch = tmp_path_factory.mktemp("adapters")
    jobs, mine = [], {}
    for case, (family, placement, non_linearity, config, names) in (SAME | OTHER).items():
        weights = scratch / f"{case}.safetensors"
        outputs, bare, activation = ours(tiny_folders[family], family, placement, non_linearity, weights)
        mine[case] = (outputs, bare)
        jobs.append(
            {
                "model": str(tiny_folders[family]),
                "causal": family != "bert",
                "config": {
                    "mh_adapter": False,
                    "output_adapter": True,
                    "reduction_factor": 32 / BOTTLENECK_SIZE,
                    "non_linearity": activation,
                    "scaling": 1.0,
                    **config,
                },
                "names": names,
                "weights": str(weights),
                "token_ids": TOKENS,
            }
        )
    (scratch / "jobs.json").write_text(json.dumps(jobs), encoding="utf-8")
    probe = Path(__file__).with_name("_adapters_probe.py")
    command = [str(adapters_python), "-I", str(probe), str(scratch / "jobs.json"), str(scratch / "answer.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    theirs = json.loads((scratch / "answer.json").read_text(encoding="utf-8"))
    return {
        case: (
            (outputs - torch.tensor(answer)).abs().max().item(),
            (outputs - bare).abs().max().item(),
        )
        for (case, (outputs, bare)), answer in zip(mine.items(), theirs, strict=True)
    }


@pytest.mark.parametrize("case", SAME)
def test_same_weights_give_the_same_outputs_as_the_library(differences, measured, case):
    difference, effect = differences[case]
    measured("adapters library", case, difference=difference, tolerance=1e-5, effect=effect)
    assert difference <= 1e-5
    assert effect > 0.1


@pytest.mark.parametrize("case", OTHER)
def test_parallel_form_on_pre_norm_models_is_another_function(differences, case):
    difference, effect = differences[case]
    assert difference > 0.01
    assert effect > 0.1
