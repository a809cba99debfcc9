"""Asks the `adapters` library, in its own Python: `python -I _adapters_probe.py JOBS ANSWER`."""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForCausalLM

import adapters
from adapters import BnConfig


def answer(job):
    auto_class = AutoModelForCausalLM if job["causal"] else AutoModel
    model = auto_class.from_pretrained(job["model"], attn_implementation="eager", dtype=torch.float32).eval()
    adapters.init(model)
    model.add_adapter("oracle", config=BnConfig(**job["config"]))
    model.set_active_adapters("oracle")
    tensors = load_file(job["weights"])
    copied = set()
    for layer, places in model.get_adapter("oracle").items():
        weights = dict(places["output_adapter"].named_parameters())
        for name, theirs in job["names"].items():
            weights[theirs].data.copy_(tensors[f"{layer}.{name}"])
            copied.add(f"{layer}.{name}")
    if copied != set(tensors):
        raise SystemExit(f"left over: {sorted(set(tensors) - copied)}")
    with torch.no_grad():
        output = model(input_ids=torch.tensor([job["token_ids"]]))
    return (output.logits if job["causal"] else output.last_hidden_state)[0].tolist()


jobs = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
Path(sys.argv[2]).write_text(json.dumps([answer(job) for job in jobs]), encoding="utf-8")
