"""What of a model's folder may be read: its safetensors, by digest; never a pickle, never code, never a way out."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from legion.foundation.canonical import digest_bytes, digest_file, digest_json
from legion.foundation.errors import ModelError, UsageError
from legion.foundation.files import confine, read_json, write_json

__all__ = ["check_folder", "find_gguf", "weight_files", "weights_digest"]

_SINGLE: Final = "model.safetensors"
_INDEX: Final = "model.safetensors.index.json"
_PICKLES: Final = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".msgpack", ".h5"})
_MAY_NAME_CODE: Final = ("config.json", "tokenizer_config.json", "processor_config.json")


def check_folder(folder: Path) -> None:
    """Refuses a folder that transformers would run code from or follow links out of.

    Links are followed inside the folder only; a snapshot of the hub's cache may link into its own repository.

    Raises:
        ModelError: lists every reason.
    """
    root = folder.parent.parent if folder.parent.name == "snapshots" else folder
    links = [path for path in sorted(folder.rglob("*")) if not path.resolve().is_relative_to(root)]
    mistakes = [f"{path.relative_to(folder)} is a link that leaves the folder" for path in links]
    mistakes += [
        f"{name} asks to run code of the model's own (auto_map)"
        for name in _MAY_NAME_CODE
        if folder / name not in links and "auto_map" in _read_object(folder / name)
    ]
    if mistakes:
        raise ModelError(
            f"{folder} is not safe to load",
            cause="\n".join(mistakes),
            hint="use a model that transformers knows without code of its own",
        )


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that hold a model: `model.safetensors`, or the shards that its index names.

    Raises:
        ModelError: there are none, only pickles, or an index names a file that is not there.
    """
    if (folder / _INDEX).is_file():
        shards = _read_object(folder / _INDEX).get("weight_map")
        names = sorted(set(shards.values())) if isinstance(shards, dict) else []
        files = [confine(folder, str(name)) for name in names]
        lost = [path.name for path in files if not path.is_file() or path.suffix != ".safetensors"]
        if lost or not files:
            raise ModelError(
                f"{folder / _INDEX} is wrong", cause="no such weights: " + ", ".join(lost or ["none named"])
            )
        return files
    if (folder / _SINGLE).is_file():
        return [folder / _SINGLE]
    raise _no_weights(folder)


def find_gguf(folder: Path) -> Path | None:
    """The one GGUF file of a folder without safetensors, else None.

    Raises:
        ModelError: there are several, so that none is meant.
    """
    if (folder / _SINGLE).is_file() or (folder / _INDEX).is_file():
        return None
    files = sorted(folder.glob("*.gguf"))
    if len(files) > 1:
        names = ", ".join(path.name for path in files)
        raise ModelError(f"{folder} holds several GGUF files", cause=names, hint="keep the one you mean in a folder")
    return files[0] if files else None


def weights_digest(files: list[Path], home: Path) -> str:
    """sha256 over the canonical JSON of {file name: sha256 of its bytes}.

    A file is hashed once: the digest is remembered in `home/digests/` for its path, size and modification time.
    """
    return digest_json({path.name: _remembered_digest(path, home) for path in files})


def _remembered_digest(path: Path, home: Path) -> str:
    real = path.resolve()
    state = real.stat()
    key = {"path": str(real), "size_bytes": state.st_size, "mtime_ns": str(state.st_mtime_ns)}
    memo = home / "digests" / f"{digest_bytes(str(real).encode()).removeprefix('sha256:')[:32]}.json"
    known = _read_object(memo)
    if known and {name: known.get(name) for name in key} == key:
        return str(known["digest"])
    digest = digest_file(real)
    write_json(memo, key | {"digest": digest})
    return digest


def _no_weights(folder: Path) -> ModelError:
    names = sorted(path.name for path in folder.iterdir())
    if "adapter_config.json" in names:
        cause = "it holds an adapter, not a base model"
    elif pickles := [name for name in names if Path(name).suffix in _PICKLES]:
        cause = f"only pickles are there ({', '.join(pickles[:3])}); a pickle may run anything when it is read"
    else:
        cause = "files there: " + (", ".join(names[:8]) or "none")
    return ModelError(
        f"{folder} has no {_SINGLE}",
        cause=cause,
        hint="save it with model.save_pretrained(FOLDER), which writes safetensors",
    )


def _read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty where there is no such file.

    Raises:
        ModelError: the file holds something else.
    """
    if not path.is_file():
        return {}
    try:
        value = read_json(path)
    except UsageError as error:
        raise ModelError(error.message, cause=error.cause) from error
    if not isinstance(value, dict):
        raise ModelError(f"{path} holds no JSON object")
    return value
