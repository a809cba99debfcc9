from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from legion.foundation.progress import Progress
from legion.neuro_architecture.registry.translog.damage import Damage


def check_log(folder: Path, keys: Path, progress: Progress) -> Iterator[Damage]:
    yield from ()
