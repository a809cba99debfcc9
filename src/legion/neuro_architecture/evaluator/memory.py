"""Answers of the bare base, kept on disk: they depend on the base, the data and the libraries, not on candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, final

from legion.foundation.canonical import digest_bytes, digest_json
from legion.foundation.errors import UsageError
from legion.foundation.files import read_json, write_json
from legion.foundation.settings import Settings
from legion.neuro_architecture.evaluator.inference import Answer

__all__ = ["BaselineKey", "BaselineMemory"]

_FORMAT: Final = 1  # raise it when features, prompts or generation change
_LIBRARIES: Final = ("torch", "transformers", "tokenizers", "scikit-learn", "numpy")


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineKey:
    """What the bare base's answers depend on.

    Attributes:
        base_digest: Digest of the base's weights.
        data_digest: Digest of the data set; the probe is fitted on its training split.
        max_tokens: Most tokens read of a text.
        max_new_tokens: Most tokens written.
        device: `cpu` or `cuda`, whose rounding differs.
    """

    base_digest: str
    data_digest: str
    max_tokens: int
    max_new_tokens: int
    device: str

    def to_dict(self) -> dict[str, Any]:
        """The key spelled out, with the versions of the libraries that compute."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {"format": _FORMAT, **fields, "versions": {name: version(name) for name in _LIBRARIES}}


@final
class BaselineMemory:
    """One file `baselines/<12 hex>.json` under the home: the fitted probe, and an answer for each text asked so far.

    Not safe for concurrent writers: the last one wins, and only time is lost.

    Args:
        settings: Says where the home is.
        key: What the answers depend on.
    """

    def __init__(self, settings: Settings, key: BaselineKey) -> None:
        self._key = key.to_dict()
        name = digest_json(self._key).removeprefix("sha256:")[:12]
        self.path: Path = settings.home / "baselines" / f"{name}.json"
        stored = self._read()
        self.fitted: dict[str, Any] | None = stored.get("probe")
        self._answers: dict[str, Any] = stored.get("answers", {})

    def _read(self) -> dict[str, Any]:
        if not self.path.is_file():
            return {}
        stored = read_json(self.path)
        if not isinstance(stored, dict) or stored.get("key") != self._key:
            raise UsageError(
                f"{self.path} does not hold the baseline it is named for", hint=f"remove it: rm '{self.path}'"
            )
        return stored

    def recall(self, text: str) -> Answer | None:
        """The answer to `text` in an earlier run, if any."""
        answer = self._answers.get(_name(text))
        return tuple(answer) if isinstance(answer, list) else answer

    def learn(self, texts: Sequence[str], answers: Sequence[Answer]) -> None:
        """Takes the answers over; `save` keeps them."""
        for text, answer in zip(texts, answers, strict=True):
            self._answers[_name(text)] = list(answer) if isinstance(answer, tuple) else answer

    def save(self) -> None:
        """Writes the file."""
        write_json(self.path, {"key": self._key, "probe": self.fitted, "answers": self._answers})


def _name(text: str) -> str:
    return digest_bytes(text.encode()).removeprefix("sha256:")[:24]
