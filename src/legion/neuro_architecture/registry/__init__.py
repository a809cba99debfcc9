"""Floor 3: the immutable registry of architectures, their evidence and their files. Loads no torch."""

from legion.neuro_architecture.registry.bill_of_materials import KnownAsset, make_bill_of_materials
from legion.neuro_architecture.registry.bundle import BundleReport, verify_bundle
from legion.neuro_architecture.registry.comparison import SnapshotDiff, diff_snapshots
from legion.neuro_architecture.registry.drafts import SnapshotDraft
from legion.neuro_architecture.registry.listing import Lineage, SnapshotList
from legion.neuro_architecture.registry.model_card import make_model_card
from legion.neuro_architecture.registry.statement import make_statement
from legion.neuro_architecture.registry.store import ArchitectureRegistry
from legion.neuro_architecture.registry.text_files import check_text_files, write_text_files
from legion.neuro_architecture.registry.verification import Finding, VerificationReport

__all__ = [
    "ArchitectureRegistry",
    "BundleReport",
    "Finding",
    "KnownAsset",
    "Lineage",
    "SnapshotDiff",
    "SnapshotDraft",
    "SnapshotList",
    "VerificationReport",
    "check_text_files",
    "diff_snapshots",
    "make_bill_of_materials",
    "make_model_card",
    "make_statement",
    "verify_bundle",
    "write_text_files",
]
