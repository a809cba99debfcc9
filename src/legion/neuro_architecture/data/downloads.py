"""Pinned packages from the configured package index, by name, version and sha256."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from legion.foundation.canonical import digest_file
from legion.foundation.errors import AssetError
from legion.foundation.files import fsync_folder

__all__ = ["download_package", "without_addresses"]

NEXT_COMMAND: Final = "legion assets fetch"
_ADDRESS: Final = re.compile(r"[\w.+-]+://\S+|(?<=host=)'[^']*'|'(?:[\w-]+\.)+[A-Za-z]{2,}'(?=,| |\))")


def download_package(package: str, version: str, sha256: str, filename: str, folder: Path, *, is_source: bool) -> Path:
    """The verified archive of a package, from `folder` where an earlier call left it, else through pip.

    The file reaches `folder` by rename after its digest was checked, so what stands there is complete. pip checks the
    digest too, before it looks into the archive. Which index is asked is pip's own configuration.

    Args:
        package: Name in the index.
        version: Exact version.
        sha256: 64 hex digits of the archive.
        filename: The archive's file name.
        folder: Where complete archives are kept.
        is_source: Whether the source archive is wanted instead of the wheel.

    Raises:
        AssetError: pip is missing or failed, or the bytes are not the pinned ones.
    """
    kept = folder / filename
    if kept.is_file():
        if digest_file(kept) == f"sha256:{sha256}":
            return kept
        kept.unlink()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".partial-") as scratch:
            _run_pip(package, version, sha256, Path(scratch), is_source=is_source)
            fresh = Path(scratch) / filename
            _verify(fresh, sha256)
            fresh.replace(kept)
            fsync_folder(folder)
    except OSError as error:
        raise AssetError(f"cannot keep {filename}", cause=str(error), hint=NEXT_COMMAND) from error
    return kept


def _run_pip(package: str, version: str, sha256: str, target: Path, *, is_source: bool) -> None:
    pins = target / "pins.txt"
    pins.write_text(f"{package}=={version} --hash=sha256:{sha256}\n", encoding="utf-8")
    form = "--no-binary" if is_source else "--only-binary"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"]
    command += [
        "--no-cache-dir",
        "--no-deps",
        "--require-hashes",
        form,
        package,
        "--dest",
        str(target),
        "-r",
        str(pins),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, errors="replace", check=False, env=os.environ | {"PIP_NO_COLOR": "1"}
    )
    if done.returncode:
        raise _explain(f"{package}=={version}", done.stderr)


def _explain(pinned: str, stderr: str) -> AssetError:
    if "No module named pip" in stderr:
        return AssetError(
            f"cannot fetch {pinned}",
            cause="this Python has no pip",
            hint=f"python -m ensurepip --upgrade, then: {NEXT_COMMAND}",
        )
    if "DO NOT MATCH THE HASHES" in stderr:
        cause = "the index offers other bytes than the pinned sha256; nothing was kept"
        return AssetError(f"{pinned} is not the pinned package", cause=cause, hint=NEXT_COMMAND)
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")] or lines or ["pip ended without a word"]
    cause = without_addresses(errors[-1].removeprefix("ERROR:").strip())
    if "after connection broken" in stderr:
        cause = f"no connection to the package index; pip ended with: {cause}"
    return AssetError(
        f"cannot fetch {pinned}", cause=cause, hint=f"check the network and the disk, then: {NEXT_COMMAND}"
    )


def without_addresses(text: str) -> str:
    """The text with every URL and host name replaced, since either may carry credentials or a private name."""
    return _ADDRESS.sub("<address>", text)


def _verify(archive: Path, sha256: str) -> None:
    if not archive.is_file():
        raise AssetError(
            f"pip brought no {archive.name}", cause="the index names the archive otherwise", hint=NEXT_COMMAND
        )
    found = digest_file(archive)
    if found != f"sha256:{sha256}":
        cause = f"its digest is {found}; nothing was kept"
        raise AssetError(f"{archive.name} is not the pinned archive", cause=cause, hint=NEXT_COMMAND)
