"""Proposals under `orchestrator/proposals/`, a file each, named by id."""

from __future__ import annotations

from pathlib import Path
from typing import Final, final

from legion.foundation.errors import UnknownNameError, UsageError
from legion.foundation.files import read_json, write_json
from legion.foundation.settings import Settings
from legion.neuro_architecture.spec.proposal import ArchitectureProposal

__all__ = ["ProposalStore"]

FOLDER: Final = Path("orchestrator") / "proposals"


@final
class ProposalStore:
    """Reads and writes the proposals of one workspace. Safe for several processes: files are renamed into place.

    Args:
        settings: Says where the workspace is.
    """

    def __init__(self, settings: Settings) -> None:
        self.folder = settings.workspace / FOLDER

    def save(self, proposal: ArchitectureProposal) -> Path:
        """Writes the proposal; writing an equal one again changes nothing."""
        path = self.folder / f"{proposal.id}.json"
        write_json(path, proposal.to_dict())
        return path

    def ids(self) -> list[str]:
        """Ids of all stored proposals, sorted."""
        return sorted(path.stem for path in self.folder.glob("*.json"))

    def all(self) -> list[ArchitectureProposal]:
        """All stored proposals, by id."""
        return [self.load(proposal_id) for proposal_id in self.ids()]

    def load(self, proposal_id: str) -> ArchitectureProposal:
        """The proposal with this id, or with this unique beginning of an id.

        Raises:
            UnknownNameError: none has it, with the nearest id.
            UsageError: several begin with it, or the file is damaged.
        """
        known = self.ids()
        found = [proposal_id] if proposal_id in known else [name for name in known if name.startswith(proposal_id)]
        if not proposal_id or not found:
            raise UnknownNameError.of("proposal", proposal_id, known, hint="list them: legion proposals ls")
        if len(found) > 1:
            raise UsageError(f"proposal {proposal_id!r} is ambiguous", cause="it begins " + ", ".join(found))
        path = self.folder / f"{found[0]}.json"
        proposal = ArchitectureProposal.parse(read_json(path), what=str(path))
        if proposal.id != found[0]:
            raise UsageError(f"{path} holds proposal {proposal.id}", hint="a proposal's file is named by its id")
        return proposal
