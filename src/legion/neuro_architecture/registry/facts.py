"""What a snapshot says of where it comes from, by one name each, and why it does not say the rest.

Statement, bill of materials, comparison and replay all read provenance through this module, so that a fact has one
place to be looked up in, and what is not there is listed with its reason instead of being guessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, final

from legion.neuro_architecture.spec.snapshot import ArchitectureSnapshot

__all__ = ["FACTS", "SnapshotFacts", "facts_of"]

# Where in a settings record a place on somebody's disk or a server is named: no fact about the training.
_PLACES: Final = frozenset(
    {"workspace", "home", "keys", "llama_server", "vllm_python", "registry_index", "registry_blobs"}
)
_CODE_REASON: Final = "code_unknown_because"
_BRANCH_REASON: Final = "branch_unknown_because"
_NOT_RECORDED: Final = "the snapshot does not record it"

# Fact, and the path to it in provenance; the first path that leads somewhere counts.
FACTS: Final[dict[str, tuple[tuple[str, ...], ...]]] = {
    "task": (("task",), ("training_record", "task")),
    "task_kind": (("task_kind",), ("training_record", "task_kind")),
    "base": (("base",), ("training_record", "base")),
    "data_digest": (("data_digest",), ("training_record", "data_digest")),
    "data_path": (("training_record", "data_path"),),
    "split_sizes": (("training_record", "split_sizes"),),
    "labels": (("training_record", "labels"),),
    "branch": (("branch",),),
    "commit": (("commit",),),
    "is_dirty": (("is_dirty",),),
    "proposal": (("proposal",),),
    "proposal_record": (("proposal_record",),),
    "recipe": (("training",), ("training_record", "recipe")),
    "steps": (("training_record", "steps"),),
    "seed": (("training_record", "seed"),),
    "trainer_config": (("training_record", "config"),),
    "settings": (("training_record", "settings"),),
    "training_machine": (("training_record", "machine"),),
    "versions": (("training_record", "versions"),),
    "attempts": (("training_record", "attempts"),),
    "extended_from": (("training_record", "extended_from"),),
    "rung_history": (("rung_history",),),
    "best_step": (("training_record", "best_step"),),
    "population": (("training_record", "population"),),
    "adapter_digest": (("training_record", "adapter_digest"),),
    "started_at": (("training_record", "started_at"),),
    "trained_at": (("training_record", "written_at"),),
    "evaluation": (("evaluation",),),
    "evaluated_at": (("evaluated_at",),),
    "evaluation_machine": (("machine",),),
}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotFacts:
    """What is known, and what is not.

    Attributes:
        known: Facts by the names of `FACTS`, as the snapshot holds them.
        unknown: Every other name of `FACTS`, with the reason why it is not known.
    """

    known: dict[str, Any]
    unknown: dict[str, str]

    def get(self, name: str) -> Any:
        """The fact, or None where it is not known."""
        return self.known.get(name)

    def some(self, *names: str) -> dict[str, Any]:
        """Those of these facts that are known."""
        return {name: self.known[name] for name in names if name in self.known}


def facts_of(snapshot: ArchitectureSnapshot) -> SnapshotFacts:
    """The facts in a snapshot's provenance; places on a disk are left out of its settings."""
    provenance = snapshot.provenance
    known: dict[str, Any] = {}
    unknown: dict[str, str] = {}
    for name, paths in FACTS.items():
        found = next((value for path in paths if (value := _at(provenance, path)) is not None), None)
        if found is None:
            unknown[name] = _reason(name, provenance)
        else:
            known[name] = found
    settings = known.get("settings")
    if isinstance(settings, Mapping):
        known["settings"] = {name: value for name, value in settings.items() if name not in _PLACES}
    return SnapshotFacts(known=known, unknown=unknown)


def _at(value: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _reason(name: str, provenance: Mapping[str, Any]) -> str:
    key = _BRANCH_REASON if name == "branch" and _BRANCH_REASON in provenance else _CODE_REASON
    told = provenance.get(key) if name in {"branch", "commit", "is_dirty"} else None
    return str(told) if told else _NOT_RECORDED
