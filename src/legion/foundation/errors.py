"""The one error tree of the project.

LegionError                     exit 4  our bug, if nothing narrower was raised
├── UsageError                  exit 2  asked wrongly
│   ├── UnknownNameError                no such strategy, task, proposal, slot, ...
│   ├── InvalidValueError               a value outside its range
│   ├── ConfigError                     legion.toml or LEGION_* cannot be understood
│   ├── DataError                       a data set is broken; lists every bad row
│   ├── ModelError                      a base model cannot be used as asked
│   └── AdapterError                    an adapter does not fit its model, or its files are damaged
├── RefusedError                exit 1  the answer is no: a gate is not passed
│   ├── IntegrityError                  stored bytes are not what their digest says
│   ├── NotPortableError                a target cannot serve this adapter; says why
│   └── ParityError                     an artefact does not compute what was trained
├── TrainingError               exit 1  a trial ended without a usable adapter
└── WorldError                  exit 3  missing asset, extra, disk, network
    ├── AssetError                      an embedded asset could not be fetched
    └── EngineError                     a serving engine is not installed, did not start, or died

Each class carries a stable `code`; the message holds the offending value, `cause` says why, and `hint` is a
command where possible.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar

__all__ = [
    "AdapterError",
    "AssetError",
    "ConfigError",
    "DataError",
    "EngineError",
    "IntegrityError",
    "InvalidValueError",
    "LegionError",
    "ModelError",
    "NotPortableError",
    "ParityError",
    "RefusedError",
    "TrainingError",
    "UnknownNameError",
    "UsageError",
    "WorldError",
]


class LegionError(Exception):
    """Something that a person can act on: what happened, why, and the next command.

    Args:
        message: One sentence with the offending value.
        cause: Why it is so, or None when the message says it all.
        hint: The next command or step, or None.
    """

    code: ClassVar[str] = "LGN-001"
    exit_code: ClassVar[int] = 4

    def __init__(self, message: str, *, cause: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.cause = cause
        self.hint = hint

    def render(self) -> str:
        """The error as a person reads it, over one to several lines."""
        lines = [f"error[{self.code}]: {self.message}"]
        for label, text in (("cause", self.cause), ("hint", self.hint)):
            if text:
                first, *rest = text.splitlines()
                lines.append(f"  {label + ':':<6} {first}")
                lines += [f"         {line}" for line in rest]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, str | int | None]:
        """The error for programs (`--format json`)."""
        return {
            "error": self.code,
            "message": self.message,
            "cause": self.cause,
            "hint": self.hint,
            "exit_code": self.exit_code,
        }


class UsageError(LegionError):
    """The request cannot be understood or cannot be right."""

    code = "LGN-200"
    exit_code = 2


class UnknownNameError(UsageError):
    """A name that nothing has, with the nearest names that something has."""

    code = "LGN-204"

    @classmethod
    def of(cls, kind: str, name: str, known: Iterable[str], *, hint: str | None = None) -> UnknownNameError:
        """The error for `name`, where `known` are the names of this kind."""
        names = sorted(set(known))
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
        shown = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
        advice = " ".join(filter(None, [f"did you mean {near[0]!r}?" if near else None, hint]))
        return cls(f"unknown {kind} {name!r}", cause=f"known: {shown or 'none yet'}", hint=advice or None)


class InvalidValueError(UsageError):
    """A value outside its range or of the wrong form."""

    code = "LGN-201"


class ConfigError(UsageError):
    """Settings that cannot be understood: an unknown key, a wrong type."""

    code = "LGN-202"


class DataError(UsageError):
    """A data set that cannot be trusted as it is. The message lists every mistake found."""

    code = "LGN-301"


class ModelError(UsageError):
    """A base model that is missing, unsafe to load, or of a shape that is not understood."""

    code = "LGN-311"


class AdapterError(UsageError):
    """An adapter that does not fit its model, or adapter files with missing, unexpected or damaged tensors."""

    code = "LGN-321"


class RefusedError(LegionError):
    """A gate said no. Nothing was changed."""

    code = "LGN-401"
    exit_code = 1


class IntegrityError(RefusedError):
    """Stored bytes differ from the digest they are kept under."""

    code = "LGN-402"


class NotPortableError(RefusedError):
    """The target cannot serve this adapter; the cause says why, the hint what would."""

    code = "LGN-403"


class ParityError(RefusedError):
    """An engine's answers differ from the trained form's. Nothing was published."""

    code = "LGN-404"


class TrainingError(LegionError):
    """A trial ended without a usable adapter; its record says why."""

    code = "LGN-411"
    exit_code = 1


class WorldError(LegionError):
    """The machine or the world said no: a missing extra, a full disk, no network."""

    code = "LGN-500"
    exit_code = 3


class AssetError(WorldError):
    """An embedded asset that is not there and could not be fetched, or whose bytes are not the pinned ones."""

    code = "LGN-501"


class EngineError(WorldError):
    """A serving engine that is not installed, did not start, died, or refused what it was given."""

    code = "LGN-511"
