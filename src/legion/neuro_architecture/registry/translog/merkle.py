"""Merkle trees of RFC 6962 and 9162 over SHA-256: hashes, proofs, and their verification. Pure; no file is touched.

```
MTH({})      = SHA-256()
MTH({d})     = SHA-256(0x00 || d)
MTH(D[0:n])  = SHA-256(0x01 || MTH(D[0:k]) || MTH(D[k:n])),  k the largest power of two below n
```
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Self, final

from legion.foundation.errors import InvalidValueError

__all__ = [
    "EMPTY_ROOT",
    "HASH_BYTES",
    "CompactRange",
    "ConsistencyProof",
    "InclusionProof",
    "consistency_path",
    "hash_leaf",
    "hash_node",
    "inclusion_path",
    "range_hash",
    "verify_consistency",
    "verify_inclusion",
]

HASH_BYTES: Final = 32
EMPTY_ROOT: Final = sha256().digest()

HashOf = Callable[[int, int], bytes]  # (height, index) -> hash of the complete subtree of 2^height leaves


def hash_leaf(entry: bytes) -> bytes:
    """The leaf hash of an entry, 32 bytes. Source: RFC 6962, section 2.1."""
    return sha256(b"\0" + entry).digest()


def hash_node(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node over its two children, 32 bytes. Source: RFC 6962, section 2.1."""
    return sha256(b"\1" + left + right).digest()


@final
class CompactRange:
    """The roots of the complete subtrees that a tree of `size` leaves is made of, the largest first.

    It grows by a leaf in one hash on average and gives the root in at most log2(size) hashes.
    """

    __slots__ = ("nodes", "size")

    def __init__(self, nodes: Iterable[bytes] = (), size: int = 0) -> None:
        self.nodes = list(nodes)
        self.size = size

    def copy(self) -> CompactRange:
        """One that grows apart from this."""
        return CompactRange(self.nodes, self.size)

    def extend(self, leaves: Iterable[bytes]) -> list[tuple[int, bytes]]:
        """Appends leaf hashes; gives each subtree of 256, 256^2, ... leaves that this completed as (1, 2, ..., hash)."""
        nodes, size, completed = self.nodes, self.size, []
        for leaf in leaves:
            node, height, bits = leaf, 0, size
            while bits & 1:
                node = sha256(b"\1" + nodes.pop() + node).digest()
                height += 1
                bits >>= 1
                if not height & 7:
                    completed.append((height >> 3, node))
            nodes.append(node)
            size += 1
        self.size = size
        return completed

    def root(self) -> bytes:
        """The root of the tree, 32 bytes."""
        if not self.nodes:
            return EMPTY_ROOT
        root = self.nodes[-1]
        for node in self.nodes[-2::-1]:
            root = sha256(b"\1" + node + root).digest()
        return root


def range_hash(start: int, stop: int, hash_of: HashOf) -> bytes:
    """MTH(D[start:stop]), for `start` a multiple of the least power of two that is stop - start or more.

    Args:
        start: The first leaf.
        stop: The leaf after the last.
        hash_of: Gives the hash of the complete subtree at (height, index).
    """
    width = stop - start
    height = width.bit_length() - 1
    if width == 1 << height:
        return hash_of(height, start >> height)
    middle = start + (1 << height)
    return hash_node(hash_of(height, start >> height), range_hash(middle, stop, hash_of))


def inclusion_path(number: int, size: int, hash_of: HashOf) -> tuple[bytes, ...]:
    """PATH(number, D[0:size]), from the leaf's sibling up. Source: RFC 9162, section 2.1.3.1."""
    path: list[bytes] = []
    start, stop = 0, size
    while stop - start > 1:
        middle = start + (1 << ((stop - start - 1).bit_length() - 1))
        if number < middle:
            path.append(range_hash(middle, stop, hash_of))
            stop = middle
        else:
            path.append(range_hash(start, middle, hash_of))
            start = middle
    return tuple(reversed(path))


def consistency_path(old: int, new: int, hash_of: HashOf) -> tuple[bytes, ...]:
    """PROOF(old, D[0:new]); empty where old is 0 or new. Source: RFC 9162, section 2.1.4.1."""
    if old in {0, new}:
        return ()
    path: list[bytes] = []
    start, stop = 0, new
    while old != stop:
        middle = start + (1 << ((stop - start - 1).bit_length() - 1))
        if old <= middle:
            path.append(range_hash(middle, stop, hash_of))
            stop = middle
        else:
            path.append(range_hash(start, middle, hash_of))
            start = middle
    if start:
        path.append(range_hash(start, stop, hash_of))
    return tuple(reversed(path))


def verify_inclusion(leaf_hash: bytes, number: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Whether the proof shows that leaf `number` of the tree of this size and root has this hash.

    Source: RFC 9162, section 2.1.3.2.
    """
    if not 0 <= number < size or any(len(item) != HASH_BYTES for item in (leaf_hash, *proof)):
        return False
    first, last, node = number, size - 1, leaf_hash
    for sibling in proof:
        if last == 0:
            return False
        if first & 1 or first == last:
            node = hash_node(sibling, node)
            while not first & 1 and first:
                first, last = first >> 1, last >> 1
        else:
            node = hash_node(node, sibling)
        first, last = first >> 1, last >> 1
    return last == 0 and node == root


def verify_consistency(old: int, new: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes) -> bool:
    """Whether the proof shows that the tree of `new` leaves begins with the tree of `old` leaves.

    An empty tree begins every tree; its proof is empty, as is that of a tree with itself.
    Source: RFC 9162, section 2.1.4.2.
    """
    if not 0 <= old <= new or any(len(item) != HASH_BYTES for item in proof):
        return False
    if old in {0, new}:
        return not proof and old_root == (EMPTY_ROOT if old == 0 else new_root)
    path = list(proof) if old & (old - 1) else [old_root, *proof]
    if not path:
        return False
    first, last = old - 1, new - 1
    while first & 1:
        first, last = first >> 1, last >> 1
    old_node = new_node = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if first & 1 or first == last:
            old_node, new_node = hash_node(sibling, old_node), hash_node(sibling, new_node)
            while not first & 1 and first:
                first, last = first >> 1, last >> 1
        else:
            new_node = hash_node(new_node, sibling)
        first, last = first >> 1, last >> 1
    return last == 0 and old_node == old_root and new_node == new_root


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class InclusionProof:
    """That an entry stands in a tree.

    Attributes:
        number: Number of the entry, from 0.
        size: Leaves of the tree.
        leaf_hash: The entry's, 32 bytes.
        root: The tree's, 32 bytes.
        path: Hashes of the siblings from the leaf up, 32 bytes each.
    """

    number: int
    size: int
    leaf_hash: bytes
    root: bytes
    path: tuple[bytes, ...]

    def verify(self) -> bool:
        """Whether the path leads from the leaf to the root."""
        return verify_inclusion(self.leaf_hash, self.number, self.size, self.path, self.root)

    def to_dict(self) -> dict[str, int | str | list[str]]:
        """Plain JSON values, hashes in hex."""
        return {
            "number": self.number,
            "size": self.size,
            "leaf_hash": self.leaf_hash.hex(),
            "root": self.root.hex(),
            "path": [item.hex() for item in self.path],
        }

    @classmethod
    def parse(cls, data: object) -> Self:
        """The proof in `to_dict`'s form; it is not verified.

        Raises:
            InvalidValueError: it has another form.
        """
        number, size, leaf_hash, root, path = _fields(data, ("number", "size"), ("leaf_hash", "root"))
        return cls(number=number, size=size, leaf_hash=leaf_hash, root=root, path=path)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ConsistencyProof:
    """That a tree begins with an older tree.

    Attributes:
        old: Leaves of the older tree.
        new: Leaves of the newer tree.
        old_root: Root of the older, 32 bytes.
        new_root: Root of the newer, 32 bytes.
        path: Hashes of the proof, 32 bytes each.
    """

    old: int
    new: int
    old_root: bytes
    new_root: bytes
    path: tuple[bytes, ...]

    def verify(self) -> bool:
        """Whether the path leads to both roots."""
        return verify_consistency(self.old, self.new, self.path, self.old_root, self.new_root)

    def to_dict(self) -> dict[str, int | str | list[str]]:
        """Plain JSON values, hashes in hex."""
        return {
            "old": self.old,
            "new": self.new,
            "old_root": self.old_root.hex(),
            "new_root": self.new_root.hex(),
            "path": [item.hex() for item in self.path],
        }

    @classmethod
    def parse(cls, data: object) -> Self:
        """The proof in `to_dict`'s form; it is not verified.

        Raises:
            InvalidValueError: it has another form.
        """
        old, new, old_root, new_root, path = _fields(data, ("old", "new"), ("old_root", "new_root"))
        return cls(old=old, new=new, old_root=old_root, new_root=new_root, path=path)


def _fields(
    data: object, counts: tuple[str, str], hashes: tuple[str, str]
) -> tuple[int, int, bytes, bytes, tuple[bytes, ...]]:
    if not isinstance(data, dict) or set(data) != {*counts, *hashes, "path"} or not isinstance(data["path"], list):
        raise InvalidValueError("this is no proof", cause=f"its fields are {[*counts, *hashes, 'path']}")
    first, second = (_count(data[name], name) for name in counts)
    left, right = (_hash(data[name], name) for name in hashes)
    return first, second, left, right, tuple(_hash(item, "path") for item in data["path"])


def _count(value: object, name: str) -> int:
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise InvalidValueError(f"{name} of a proof is {value!r}, not a count")
    return value


def _hash(value: object, name: str) -> bytes:
    if isinstance(value, str) and len(value) == 2 * HASH_BYTES:
        try:
            decoded = bytes.fromhex(value)
        except ValueError:
            decoded = b""
        if decoded.hex() == value:
            return decoded
    raise InvalidValueError(f"{name} of a proof is {value!r}, not 64 hex digits")
