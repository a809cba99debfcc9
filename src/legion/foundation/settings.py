"""Where things are and what the machine may use: flag > environment `LEGION_*` > `legion.toml` > default."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, Self

from legion.foundation.errors import ConfigError

__all__ = ["Settings"]

_CHOICES: Final = {
    "device": ("auto", "cpu", "cuda"),
    "precision": ("auto", "float32", "bfloat16"),
    "attention": ("auto", "eager", "sdpa"),
    "graphs": ("auto", "on", "off"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The resolved settings of one process.

    Attributes:
        workspace: Folder that holds `data/`, `orchestrator/` and `artifacts/`; the current folder by default.
        home: Cache of embedded assets and of this machine's calibration (`LEGION_HOME`).
        threads: Threads torch may use; 0 means one for each core this process may run on.
        device: `auto`, `cpu` or `cuda`.
        precision: Of a frozen base while training, `float32` or `bfloat16`; `auto` takes what is fast on this machine.
        attention: How it is computed while training, `eager` or `sdpa`; `auto` takes the faster.
        workers: Groups of trials that train side by side, each on one thread; 0 takes what is faster.
        group_blocks: Most blocks that a group of trials passes through together, over its trials; 0 takes the fastest.
        graphs: Whether training steps are recorded and replayed, `on` or `off`; `auto` does so on CUDA.
        prefix_memory_mb: Most memory for states of frozen blocks while training.
        prefix_disk_mb: Most disk for those that find no memory, in the home folder.
        base: Base model to use where a command names none, or None for the task's own default.
        eval_examples: Most test examples measured for each objective; 0 means all.
        risk_threshold: Proposals riskier than this need a named approval.
        llama_server: A `llama-server` to use instead of the one that `legion engines install llama.cpp` makes.
        vllm_python: A Python that imports vLLM, to use instead of the one that `legion engines install vllm` makes.
        keys: Folder of the registries' private keys and of the checkpoints that this machine has seen (`LEGION_KEYS`).
            It is no cache: without its key a registry can be read and verified, not written.
        registry_index: Database URL of the registry's index (`postgresql://...`), or None for SQLite in its folder.
        registry_blobs: URL of the folder that keeps the registry's files (`s3://...`), or None for its own folder.
    """

    workspace: Path
    home: Path
    threads: int = 0
    device: str = "auto"
    precision: str = "auto"
    attention: str = "auto"
    workers: int = 0
    group_blocks: int = 0
    graphs: str = "auto"
    prefix_memory_mb: int = 1024
    prefix_disk_mb: int = 0
    base: str | None = None
    eval_examples: int = 0
    risk_threshold: float = 0.5
    llama_server: str | None = None
    vllm_python: str | None = None
    keys: Path = Path("~/.config/legion/keys")
    registry_index: str | None = None
    registry_blobs: str | None = None

    @classmethod
    def load(
        cls,
        *,
        workspace: Path | None = None,
        environment: Mapping[str, str] | None = None,
        **flags: Any,
    ) -> Self:
        """Resolves every setting; `flags` that are None were not given.

        Raises:
            ConfigError: an unknown key, or a value of the wrong type.
        """
        env = os.environ if environment is None else environment
        root = (workspace or Path(env.get("LEGION_WORKSPACE") or Path.cwd())).resolve()
        values: dict[str, Any] = {
            "home": Path.home() / ".cache" / "legion",
            "keys": Path.home() / ".config" / "legion" / "keys",
        }
        values |= _from_toml(root / "legion.toml")
        values |= {name: env[_variable(name)] for name in _names() if env.get(_variable(name))}
        values |= {name: value for name, value in flags.items() if value is not None}
        _refuse_unknown(values, "settings")
        return cls(workspace=root, **{name: _convert(name, value) for name, value in values.items()})

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as written with every trial; of a database its password is left out."""
        return {field.name: _plain(getattr(self, field.name)) for field in fields(self)}


def _names() -> list[str]:
    return [field.name for field in fields(Settings) if field.name != "workspace"]


def _variable(name: str) -> str:
    return "LEGION_" + name.upper()


def _from_toml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"cannot read {path}", cause=str(error)) from error
    _refuse_unknown(values, str(path))
    return values


def _refuse_unknown(values: Mapping[str, Any], where: str) -> None:
    for key in values:
        if key not in _names():
            near = difflib.get_close_matches(key, _names(), n=1)
            raise ConfigError(
                f"unknown key {key!r} in {where}",
                cause="known: " + ", ".join(_names()),
                hint=f"did you mean {near[0]!r}?" if near else None,
            )


def _convert(name: str, value: Any) -> Any:
    try:
        match name:
            case "home" | "keys":
                return Path(value).expanduser().resolve()
            case "threads" | "eval_examples" | "workers" | "group_blocks" | "prefix_memory_mb" | "prefix_disk_mb":
                number = int(value)
                if number < 0:
                    raise ValueError("must be 0 or more")
                return number
            case "risk_threshold":
                share = float(value)
                if not 0.0 <= share <= 1.0:
                    raise ValueError("must be from 0 to 1")
                return share
            case "device" | "precision" | "attention":
                if value not in _CHOICES[name]:
                    raise ValueError("must be " + " or ".join((", ".join(_CHOICES[name][:-1]), _CHOICES[name][-1])))
                return value
            case _:
                return str(value)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{name} cannot be {value!r}", cause=str(error), hint=f"set {_variable(name)} or {name} in legion.toml"
        ) from error


def _plain(value: Any) -> Any:
    if isinstance(value, str) and "://" in value:
        return re.sub(r"(://[^:/@]*):[^@/]*@", r"\1:***@", value)
    return str(value) if isinstance(value, Path) else value
