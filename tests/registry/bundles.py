"""Snapshots as `legion integrate` registers them, and a signed tree that holds one."""

from __future__ import annotations

import io
from dataclasses import dataclass, field, replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from legion.foundation.canonical import canonical_json, digest_bytes
from legion.neuro_architecture.registry.bundle import BundleContents, write_bundle
from legion.neuro_architecture.registry.statement import make_statement, sign_statement
from legion.neuro_architecture.registry.translog import InclusionProof, Signer, hash_leaf, hash_node
from legion.neuro_architecture.spec.architecture import parse_architecture
from legion.neuro_architecture.spec.entries import SnapshotEntry
from legion.neuro_architecture.spec.semantics import semantic_hash
from legion.neuro_architecture.spec.snapshot import ArchitectureSnapshot

ORIGIN = "legion.registry/0123456789abcdef"
AT = "2026-01-01T00:00:00.000000Z"
FILES = {digest_bytes(content): content for content in (b"first " * 100, b"", b"third" * 200)}

METRICS = {
    "accuracy": 0.8,
    "robustness": 0.95,
    "safety_violations": 2.0,
    "peak_memory_mb": None,
    "score": 0.31,
    "terms": {"accuracy": 1.1},
    "units": {"accuracy": "share", "robustness": "ratio", "safety_violations": "violations", "peak_memory_mb": "MB"},
    "counts": {"accuracy": 100, "robustness": 35, "safety_violations": 40},
    "errors": {"accuracy": 0.04, "robustness": 0.02},
    "absent": {"peak_memory_mb": "not asked for"},
}
PROVENANCE = {
    "branch": "main",
    "commit": "1" * 40,
    "is_dirty": False,
    "base": {"name": "minilm-l6", "digest": digest_bytes(b"base"), "model_type": "bert"},
    "task": "tiny",
    "task_kind": "classification",
    "data_digest": digest_bytes(b"data"),
    "proposal": "lora-000000000000",
    "training": {"learning_rate": 0.001, "batch_size": 16},
    "training_record": {
        "seed": 3,
        "steps": 150,
        "split_sizes": {"train": 48, "validation": 16, "test": 24},
        "settings": {"workspace": "/somewhere", "home": "/else", "threads": 1},
        "config": {"max_tokens": 64},
        "machine": {"cpu": "some", "cores": 2},
        "versions": {"legion": "0.1", "torch": "2.13"},
        "started_at": AT,
        "attempts": [{"from_step": 0, "steps": 150, "threads": 1}],
        "extended_from": [],
    },
    "rung_history": [{"steps": 15, "loss": 0.6, "accuracy": 0.7, "num_predictions": 16, "seconds": 1.0}],
    "evaluation": {"config": {"split": "test"}, "seed": 0, "metric": "accuracy"},
    "evaluated_at": AT,
}


def snapshot_of(config=None, **changes) -> ArchitectureSnapshot:
    """A snapshot; `changes` replace its fields."""
    architecture = parse_architecture(config or {"strategy": "LoRA"})
    plain = {
        "version": "1.0",
        "semantic_hash": semantic_hash(architecture),
        "revision": 1,
        "config": architecture.to_dict(),
        "metrics": METRICS,
        "provenance": PROVENANCE,
        "tags": ("candidate", "tiny"),
        "blobs": dict(zip(("a.txt", "empty.txt", "weights.txt"), FILES, strict=True)),
        "parent": None,
        "created_at": AT,
    }
    return ArchitectureSnapshot.model_validate(plain | changes)


@dataclass
class Tree:
    """A log of seven entries, one of them the snapshot's, and the key that signed it."""

    snapshot: ArchitectureSnapshot = field(default_factory=snapshot_of)
    number: int = 3
    private: Ed25519PrivateKey = field(default_factory=lambda: Ed25519PrivateKey.from_private_bytes(bytes(range(32))))

    @property
    def signer(self) -> Signer:
        return Signer(ORIGIN, self.private)

    @property
    def vkey(self) -> str:
        return str(self.signer.verifier)

    @property
    def entry(self) -> bytes:
        return canonical_json(SnapshotEntry(at=AT, by="somebody", snapshot=self.snapshot).to_dict())

    def statement(self) -> bytes:
        return sign_statement(make_statement(self.snapshot), self.private.sign, self.vkey)

    def contents(self, **changes) -> BundleContents:
        leaves = [hash_leaf(b"entry %d" % index) for index in range(7)]
        leaves[self.number] = hash_leaf(self.entry)
        path, root = _path(leaves, self.number)
        proof = InclusionProof(number=self.number, size=7, leaf_hash=leaves[self.number], root=root, path=tuple(path))
        checkpoint = self.signer.checkpoint(size=7, root=root, previous=None)
        whole = BundleContents(entry=self.entry, proof=proof, checkpoint=checkpoint.note, vkey=self.vkey)
        return replace(whole, **({} if "statement" in changes else {"statement": self.statement()}), **changes)

    def write(self, path, **changes):
        return write_bundle(path, self.contents(**changes), lambda digest: io.BytesIO(FILES[digest]))


def _path(leaves, number):
    """Inclusion path and root, straight from the definition in RFC 9162."""
    if len(leaves) == 1:
        return [], leaves[0]
    middle = 1 << (len(leaves) - 1).bit_length() - 1
    left, right = leaves[:middle], leaves[middle:]
    if number < middle:
        path, root = _path(left, number)
        other = _path(right, 0)[1]
        return [*path, other], hash_node(root, other)
    path, root = _path(right, number - middle)
    other = _path(left, 0)[1]
    return [*path, other], hash_node(other, root)
