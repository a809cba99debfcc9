"""Which code stood in the workspace: branch, commit and whether tracked files were changed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any, Final

__all__ = ["describe_code"]

_TIMEOUT_S: Final = 20
_REDIRECTIONS: Final = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR")


class _NoGitError(Exception):
    """git gave no answer; the message says why."""


def describe_code(folder: Path) -> dict[str, Any]:
    """`branch`, `commit` and `is_dirty` of the git checkout around `folder`, or nulls with `code_unknown_because`.

    Untracked files do not make it dirty: the loop writes its own.
    """
    try:
        commit = _git(folder, "rev-parse", "--verify", "HEAD")
        is_dirty = bool(_git(folder, "status", "--porcelain", "--untracked-files=no"))
    except _NoGitError as error:
        return {"branch": None, "commit": None, "is_dirty": None, "code_unknown_because": str(error)}
    try:
        branch = _git(folder, "symbolic-ref", "--short", "HEAD")
    except _NoGitError:
        reason = "the checkout is on no branch (detached HEAD)"
        return {"branch": None, "branch_unknown_because": reason, "commit": commit, "is_dirty": is_dirty}
    return {"branch": branch, "commit": commit, "is_dirty": is_dirty}


def _git(folder: Path, *arguments: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in _REDIRECTIONS}
    try:
        answer = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            env=environment | {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except FileNotFoundError as error:
        raise _NoGitError("git is not installed") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _NoGitError(f"git gave no answer: {error}") from error
    if answer.returncode != 0:
        raise _NoGitError((answer.stderr.strip().splitlines() or ["git failed without a word"])[0])
    return answer.stdout.strip()
