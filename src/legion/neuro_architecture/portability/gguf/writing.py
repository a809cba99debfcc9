"""Writes the GGUF file: metadata, tokenizer, then one tensor after the other."""

from __future__ import annotations

import math
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import numpy as np
from gguf import GGUFWriter, Keys, LlamaFileType, TokenType

from legion.foundation.errors import ModelError, NotPortableError, WorldError
from legion.foundation.files import fsync_folder, read_json
from legion.neuro_architecture.portability.gguf.layouts import GGUF_ARCHITECTURES, Layout, layout_of
from legion.neuro_architecture.portability.gguf.reading import CheckpointReader
from legion.neuro_architecture.portability.gguf.tokenizers import GgufTokenizer, NoTokenizer, read_tokenizer

__all__ = ["GgufSummary", "write_gguf"]

_SPECIAL_KEYS: Final = {
    "bos": Keys.Tokenizer.BOS_ID,
    "eos": Keys.Tokenizer.EOS_ID,
    "unk": Keys.Tokenizer.UNK_ID,
    "pad": Keys.Tokenizer.PAD_ID,
}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class GgufSummary:
    """What was written.

    Attributes:
        architecture: GGUF's name of the architecture (`llama`).
        tokenizer: llama.cpp's name for how the tokenizer splits text (`smollm`), or `none`: such a file is for
            questions in token ids only.
        tokenizer_reason: Why there is no tokenizer; None where there is one.
        num_tensors: Tensors in the file.
        size_bytes: Of the file.
    """

    architecture: str
    tokenizer: str
    tokenizer_reason: str | None
    num_tensors: int
    size_bytes: int


def write_gguf(checkpoint: Path, target: Path) -> GgufSummary:
    """Turns a checkpoint folder into one F32 GGUF file; memory stays within a few tensors.

    The file is written beside `target` and renamed over it once it is complete.

    Args:
        checkpoint: `config.json`, safetensors (one file, or shards with an index), tokenizer files.
        target: The file to write.

    Raises:
        NotPortableError: llama.cpp has no such architecture, or would compute something else; lists every obstacle.
        ModelError: the checkpoint is incomplete, damaged or holds NaN.
        WorldError: the disk refused.
    """
    architecture, config = _read_config(checkpoint)
    with CheckpointReader(checkpoint) as reader:
        layout = layout_of(architecture, config, reader)
        num_rows = layout.tensors[0].shape(reader)[0]
        tokenizer = read_tokenizer(checkpoint, num_rows, config)
        try:
            _write_beside(target, checkpoint.name, layout, tokenizer, reader)
        except OSError as error:
            raise WorldError(
                f"cannot write {target}", cause=str(error), hint="check the disk's free space and rights"
            ) from error
    return GgufSummary(
        architecture=layout.architecture,
        tokenizer=tokenizer.pre if isinstance(tokenizer, GgufTokenizer) else "none",
        tokenizer_reason=tokenizer.reason if isinstance(tokenizer, NoTokenizer) else None,
        num_tensors=len(layout.tensors),
        size_bytes=target.stat().st_size,
    )


def _read_config(checkpoint: Path) -> tuple[str, Any]:
    """The architecture's class name and transformers' config object, which fills in what `config.json` leaves out."""
    from transformers import AutoConfig

    names = read_json(checkpoint / "config.json").get("architectures") or []
    if len(names) != 1:
        raise ModelError(f"{checkpoint / 'config.json'} names {len(names)} architectures, not one")
    if names[0] not in GGUF_ARCHITECTURES:
        raise NotPortableError(
            f"{names[0]} does not become a GGUF file", cause="these do: " + ", ".join(GGUF_ARCHITECTURES)
        )
    try:
        config = AutoConfig.from_pretrained(checkpoint, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"transformers does not read {checkpoint / 'config.json'}", cause=str(error)) from error
    return names[0], config


def _write_beside(
    target: Path, name: str, layout: Layout, tokenizer: GgufTokenizer | NoTokenizer, reader: CheckpointReader
) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as scratch:
        fresh = Path(scratch) / "fresh.gguf"
        writer = GGUFWriter(fresh, layout.architecture)
        try:
            num_rows = layout.tensors[0].shape(reader)[0]
            _add_metadata(writer, name, layout, num_rows)
            _add_tokenizer(writer, tokenizer, num_rows)
            _write_tensors(writer, layout, reader)
        finally:
            writer.close()
        with fresh.open("rb+") as file:
            os.fsync(file.fileno())
        fresh.replace(target)
    fsync_folder(target.parent)


def _add_metadata(writer: Any, name: str, layout: Layout, num_rows: int) -> None:
    writer.add_name(name)
    writer.add_file_type(LlamaFileType.ALL_F32)
    writer.add_vocab_size(num_rows)
    for key, value in layout.metadata.items():
        full = f"{layout.architecture}.{key}"
        if isinstance(value, str):
            writer.add_string(full, value)
        elif isinstance(value, float):
            writer.add_float32(full, value)
        else:
            writer.add_uint32(full, value)


def _add_tokenizer(writer: Any, tokenizer: GgufTokenizer | NoTokenizer, num_rows: int) -> None:
    writer.add_tokenizer_model("gpt2")
    if isinstance(tokenizer, NoTokenizer):
        _add_names(writer, tokenizer, num_rows)
        return
    writer.add_tokenizer_pre(tokenizer.pre)
    writer.add_token_list(tokenizer.tokens)
    writer.add_token_types(tokenizer.token_types)
    writer.add_token_merges(tokenizer.merges)
    for kind, index in tokenizer.special_ids.items():
        writer.add_uint32(_SPECIAL_KEYS[kind], index)
    writer.add_add_bos_token(tokenizer.adds_bos)
    writer.add_add_eos_token(tokenizer.adds_eos)
    if tokenizer.chat_template is not None:
        writer.add_chat_template(tokenizer.chat_template)


def _add_names(writer: Any, tokenizer: NoTokenizer, num_rows: int) -> None:
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([f"<{index}>" for index in range(num_rows)])
    writer.add_token_types([int(TokenType.USER_DEFINED)] * num_rows)
    writer.add_token_merges(["< >"])  # llama.cpp insists on one; it joins nothing
    if tokenizer.eos is not None and 0 <= tokenizer.eos < num_rows:
        writer.add_eos_token_id(tokenizer.eos)
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)


def _write_tensors(writer: Any, layout: Layout, reader: CheckpointReader) -> None:
    dtype = np.dtype(np.float32)
    for plan in layout.tensors:
        shape = plan.shape(reader)
        writer.add_tensor_info(plan.name, shape, dtype, math.prod(shape) * dtype.itemsize)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for plan in layout.tensors:
        writer.write_tensor_data(plan.read(reader).numpy())
