"""The registry's transparency log: append-only segments under a signed Merkle tree, in one folder."""

from legion.neuro_architecture.registry.translog.damage import Damage, Problem
from legion.neuro_architecture.registry.translog.log import TransparencyLog
from legion.neuro_architecture.registry.translog.merkle import (
    EMPTY_ROOT,
    ConsistencyProof,
    InclusionProof,
    hash_leaf,
    hash_node,
    verify_consistency,
    verify_inclusion,
)
from legion.neuro_architecture.registry.translog.notes import Checkpoint, Signer, VerifierKey, verify_note

__all__ = [
    "EMPTY_ROOT",
    "Checkpoint",
    "ConsistencyProof",
    "Damage",
    "InclusionProof",
    "Problem",
    "Signer",
    "TransparencyLog",
    "VerifierKey",
    "hash_leaf",
    "hash_node",
    "verify_consistency",
    "verify_inclusion",
    "verify_note",
]
