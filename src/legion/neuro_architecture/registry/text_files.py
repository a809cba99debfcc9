"""Snapshots as small text files for version control, so that a review sees what was registered and a diff what changed.

```
architectures/README.md                       a table of all of them
architectures/<semantic hash>/<revision>.json the snapshot with its digest, sorted keys, a field a line
```

Files that a snapshot carries stay in the registry and are named by digest. The same snapshots give the same bytes; what
is there already is not touched. The registry is the truth: `check_text_files` says where the text says something else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, final

from legion.foundation.canonical import short
from legion.foundation.errors import InvalidValueError, RefusedError
from legion.foundation.files import write_text
from legion.neuro_architecture.registry.intervals import measurements_of
from legion.neuro_architecture.spec.snapshot import ArchitectureSnapshot

__all__ = ["FOLDER", "TextDifference", "check_text_files", "write_text_files"]

FOLDER: Final = "architectures"
INDEX: Final = "README.md"
_HASH: Final = re.compile(r"[0-9a-f]{16,64}")
_HEAD: Final = """# Registered architectures

Written from the registry; do not edit. A file each: `<semantic hash>/<revision>.json`.

| architecture | revision | strategy | version | accuracy | tags | registered | digest |
|---|---|---|---|---|---|---|---|
"""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class TextDifference:
    """One text file that does not say what the registry says.

    Attributes:
        path: It, relative to the folder.
        problem: What is wrong.
        detail: One sentence.
    """

    path: str
    problem: Literal["missing", "altered", "unexpected", "not a file"]
    detail: str

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}: {self.detail}"


def write_text_files(folder: Path, snapshots: Iterable[ArchitectureSnapshot]) -> list[Path]:
    """Writes what is missing or says something else; the paths that were written, in order.

    Text of snapshots that are not given stays; the table lists the given ones.

    Raises:
        InvalidValueError: a snapshot's semantic hash is no hash, or two snapshots ask for one file.
        RefusedError: a link stands where a file or folder belongs.
        WorldError: the disk refused.
    """
    written = []
    for name, text in _texts(snapshots).items():
        path = folder / name
        _refuse_links(folder, path)
        if not path.is_file() or path.read_bytes() != text.encode():
            write_text(path, text)
            written.append(path)
    return written


def check_text_files(folder: Path, snapshots: Iterable[ArchitectureSnapshot]) -> list[TextDifference]:
    """Where the text files do not say what these snapshots say; empty where they do.

    Raises:
        InvalidValueError: a snapshot's semantic hash is no hash, or two snapshots ask for one file.
    """
    expected = _texts(snapshots)
    found = [_difference(folder, name, text) for name, text in expected.items()]
    root = folder / FOLDER
    strangers = (path for path in sorted(root.rglob("*")) if path.is_symlink() or not path.is_dir())
    found += [
        TextDifference(path=name, problem="unexpected", detail="no snapshot asks for it")
        for path in strangers
        if (name := str(path.relative_to(folder))) not in expected
    ]
    return [difference for difference in found if difference is not None]


def _difference(folder: Path, name: str, text: str) -> TextDifference | None:
    path = folder / name
    if path.is_symlink() or (path.exists() and not path.is_file()):
        return TextDifference(path=name, problem="not a file", detail="a link or folder stands in its place")
    if not path.is_file():
        return TextDifference(path=name, problem="missing", detail="the registry holds it")
    content = path.read_bytes()
    if content == text.encode():
        return None
    pairs = enumerate(zip(content.splitlines(), text.encode().splitlines(), strict=False), start=1)
    line = next((number for number, (one, other) in pairs if one != other), None)
    place = "its length" if line is None else f"line {line}"
    return TextDifference(path=name, problem="altered", detail=f"{place} differs from what the registry says")


def _texts(snapshots: Iterable[ArchitectureSnapshot]) -> dict[str, str]:
    """Every text file by its name relative to the folder, the table last."""
    texts: dict[str, str] = {}
    rows: dict[tuple[str, int], str] = {}
    for snapshot in snapshots:
        name = _name(snapshot)
        text = _text(snapshot)
        if texts.setdefault(name, text) != text:
            raise InvalidValueError(f"two snapshots are revision {snapshot.revision} of {snapshot.semantic_hash}")
        rows[snapshot.semantic_hash, snapshot.revision] = _row(snapshot)
    ordered = {name: texts[name] for name in sorted(texts)}
    return ordered | {f"{FOLDER}/{INDEX}": _HEAD + "".join(rows[key] for key in sorted(rows))}


def _name(snapshot: ArchitectureSnapshot) -> str:
    if not _HASH.fullmatch(snapshot.semantic_hash):
        raise InvalidValueError(f"{snapshot.semantic_hash[:40]!r} is no semantic hash")
    return f"{FOLDER}/{snapshot.semantic_hash}/{snapshot.revision}.json"


def _text(snapshot: ArchitectureSnapshot) -> str:
    plain = snapshot.to_dict() | {"digest": snapshot.digest}
    return json.dumps(plain, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def _row(snapshot: ArchitectureSnapshot) -> str:
    accuracy = measurements_of(snapshot.metrics).get("accuracy")
    link = f"[{snapshot.semantic_hash}]({snapshot.semantic_hash}/{snapshot.revision}.json)"
    cells = (
        link,
        str(snapshot.revision),
        str(snapshot.config.get("strategy", "")),
        snapshot.version,
        "" if accuracy is None or accuracy.value is None else f"{accuracy.value:.4g}",
        ", ".join(snapshot.tags),
        snapshot.created_at,
        short(snapshot.digest),
    )
    return "| " + " | ".join(map(_cell, cells)) + " |\n"


def _cell(text: str) -> str:
    """Text that ends no cell and no row."""
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")


def _refuse_links(folder: Path, path: Path) -> None:
    for part in (path, *path.parents):
        if part == folder:
            return
        if part.is_symlink():
            raise RefusedError(f"{part} is a link", hint="remove it; text files are written into real folders only")
