"""Which commit of the code stands in a folder."""

from __future__ import annotations

import subprocess
from pathlib import Path

__all__ = ["describe_revision"]


def describe_revision(folder: Path) -> dict[str, str | bool | None]:
    """Branch, commit and whether tracked files differ from it; or nulls and the reason.

    Returns:
        `{"branch", "commit", "is_dirty", "reason"}`; the first three are None exactly when `reason` is not.
    """
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        branch = _git(folder, "rev-parse", "--abbrev-ref", "HEAD")
        is_dirty = bool(_git(folder, "status", "--porcelain", "--untracked-files=no"))
    except FileNotFoundError:
        return _absent("git is not installed")
    except subprocess.CalledProcessError as error:
        last_line = (error.stderr or "").strip().splitlines()[-1:]
        return _absent(last_line[0] if last_line else f"git ended with {error.returncode}")
    return {"branch": branch, "commit": commit, "is_dirty": is_dirty, "reason": None}


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def _absent(reason: str) -> dict[str, str | bool | None]:
    return {"branch": None, "commit": None, "is_dirty": None, "reason": reason}
