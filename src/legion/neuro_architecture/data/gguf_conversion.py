"""Quantised GGUF weights written out once as fp32 safetensors, which every later step can read."""

from __future__ import annotations

import contextlib
import io
from importlib import metadata
from pathlib import Path
from typing import Final

from legion.foundation.errors import ModelError
from legion.neuro_architecture.data.quiet import quiet_transformers

__all__ = ["convert_gguf"]

_ONE_FILE: Final = "100GB"


def convert_gguf(source: Path, target: Path) -> dict[str, str]:
    """Writes `model.safetensors` (fp32), config and tokenizer of the causal model in `source` into `target`.

    Returns the versions of the libraries that did it. SmolLM2-135M takes 40 to 60 s on two cores.

    Raises:
        ModelError: the file is no GGUF, or of an architecture that transformers cannot read.
    """
    import torch
    import transformers

    folder, name = str(source.parent), source.name
    # transformers draws its bar of dequantised tensors straight onto stderr; every failure comes as an exception
    with quiet_transformers(), contextlib.redirect_stderr(io.StringIO()):
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder, gguf_file=name, local_files_only=True)
            model = transformers.AutoModelForCausalLM.from_pretrained(
                folder,
                gguf_file=name,
                quantization_config=transformers.GgufConfig(dequantize=True),
                dtype=torch.float32,
                local_files_only=True,
            )
        except (ValueError, KeyError, NotImplementedError, RuntimeError) as error:
            raise ModelError(f"{name} cannot be read as GGUF", cause=str(error).splitlines()[0]) from error
        model.save_pretrained(str(target), max_shard_size=_ONE_FILE)
        tokenizer.save_pretrained(str(target))
    return {name: metadata.version(name) for name in ("transformers", "gguf", "safetensors")}
