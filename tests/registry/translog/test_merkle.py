from __future__ import annotations

import random

import pymerkle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from legion.foundation.errors import InvalidValueError
from legion.neuro_architecture.registry.translog import (
    EMPTY_ROOT,
    ConsistencyProof,
    InclusionProof,
    hash_leaf,
    hash_node,
    verify_consistency,
    verify_inclusion,
)
from legion.neuro_architecture.registry.translog.merkle import (
    CompactRange,
    consistency_path,
    inclusion_path,
    range_hash,
)

# The entries and roots that RFC 6962's reference implementation tests itself with.
REFERENCE_ENTRIES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
REFERENCE_ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


class Tree:
    """A tree by the definition, from its leaves."""

    def __init__(self, size):
        self.entries = [b"entry %d" % number for number in range(size)]
        self.leaves = [hash_leaf(entry) for entry in self.entries]
        self._rows = [self.leaves]
        while len(self._rows[-1]) > 1:
            row = self._rows[-1]
            self._rows.append([hash_node(row[at], row[at + 1]) for at in range(0, len(row) - 1, 2)])

    def node(self, height, index):
        return self._rows[height][index]

    def root(self, size):
        return range_hash(0, size, self.node) if size else EMPTY_ROOT


def by_definition(leaves):
    """MTH of RFC 6962, section 2.1, word for word."""
    if not leaves:
        return EMPTY_ROOT
    if len(leaves) == 1:
        return leaves[0]
    middle = 1
    while 2 * middle < len(leaves):
        middle *= 2
    return hash_node(by_definition(leaves[:middle]), by_definition(leaves[middle:]))


@pytest.fixture(scope="module")
def tree():
    return Tree(200)


@pytest.fixture(scope="module")
def oracle(tree):
    oracle = pymerkle.InmemoryTree(algorithm="sha256")
    for entry in tree.entries:
        oracle.append_entry(entry)
    return oracle


def test_roots_are_those_of_the_reference_implementation():
    for size, root in enumerate(REFERENCE_ROOTS):
        compact = CompactRange()
        compact.extend(hash_leaf(bytes.fromhex(entry)) for entry in REFERENCE_ENTRIES[:size])
        assert compact.root().hex() == root


def test_inclusion_proofs_are_those_of_the_rfcs_example():
    """RFC 9162, section 2.1.5: of 7 leaves the path of d0 is [b, h, l], d3's [c, g, l], d4's [f, j, k], d6's [i, k]."""
    tree = Tree(7)
    a, b, c, d, e, f, j = tree.leaves
    g, h, i = hash_node(a, b), hash_node(c, d), hash_node(e, f)
    k = hash_node(g, h)
    right = hash_node(i, j)
    assert inclusion_path(0, 7, tree.node) == (b, h, right)
    assert inclusion_path(3, 7, tree.node) == (c, g, right)
    assert inclusion_path(4, 7, tree.node) == (f, j, k)
    assert inclusion_path(6, 7, tree.node) == (i, k)


def test_consistency_proofs_are_those_of_the_rfcs_example():
    """RFC 9162, section 2.1.5: PROOF(3, 7) is [c, d, g, l], PROOF(4, 7) is [l], PROOF(6, 7) is [i, j, k]."""
    tree = Tree(7)
    a, b, c, d, e, f, j = tree.leaves
    g, h, i = hash_node(a, b), hash_node(c, d), hash_node(e, f)
    right = hash_node(i, j)
    assert consistency_path(3, 7, tree.node) == (c, d, g, right)
    assert consistency_path(4, 7, tree.node) == (right,)
    assert consistency_path(6, 7, tree.node) == (i, j, hash_node(g, h))


def test_pymerkle_agrees_with_every_root_up_to_200_leaves(tree, oracle):
    compact = CompactRange()
    for size in range(201):
        assert tree.root(size) == by_definition(tree.leaves[:size]) == compact.root()
        assert oracle.get_root(size) == tree.root(size)
        compact.extend(tree.leaves[size : size + 1])


def test_pymerkle_agrees_with_every_inclusion_proof_up_to_200_leaves(tree, oracle):
    for size in range(1, 201):
        root = tree.root(size)
        for number in range(size):
            path = inclusion_path(number, size, tree.node)
            assert tuple(oracle.prove_inclusion(number + 1, size).path) == (tree.leaves[number], *path)
            assert verify_inclusion(tree.leaves[number], number, size, path, root)


def test_pymerkle_accepts_our_roots_with_every_consistency_proof_up_to_200_leaves(tree, oracle):
    for new in range(201):
        for old in range(new + 1):
            roots = tree.root(old), tree.root(new)
            assert verify_consistency(old, new, consistency_path(old, new, tree.node), *roots)
            if old:
                pymerkle.verify_consistency(*roots, oracle.prove_consistency(old, new))


def test_pymerkle_agrees_with_random_larger_trees():
    draw = random.Random(11)
    tree = Tree(5000)
    oracle = pymerkle.InmemoryTree(algorithm="sha256")
    for entry in tree.entries:
        oracle.append_entry(entry)
    for _ in range(60):
        size = draw.randrange(2, 5001)
        number, old = draw.randrange(size), draw.randrange(1, size)
        assert oracle.get_root(size) == tree.root(size)
        path = inclusion_path(number, size, tree.node)
        assert tuple(oracle.prove_inclusion(number + 1, size).path) == (tree.leaves[number], *path)
        pymerkle.verify_consistency(tree.root(old), tree.root(size), oracle.prove_consistency(old, size))
        assert verify_consistency(
            old, size, consistency_path(old, size, tree.node), oracle.get_root(old), oracle.get_root(size)
        )


@given(st.integers(1, 200), st.data())
def test_an_altered_inclusion_proof_never_verifies(tree, size, data):
    number = data.draw(st.integers(0, size - 1))
    path, leaf, root = inclusion_path(number, size, tree.node), tree.leaves[number], tree.root(size)
    other = data.draw(st.integers(0, size))
    assert verify_inclusion(leaf, other, size, path, root) == (other == number)
    assert not verify_inclusion(hash_leaf(b"no entry"), number, size, path, root)
    assert not verify_inclusion(leaf, number, size, (*path, leaf), root)
    assert not verify_inclusion(leaf, number, size, path, hash_leaf(b"no root"))
    if path:
        place = data.draw(st.integers(0, len(path) - 1))
        assert not verify_inclusion(leaf, number, size, path[:place] + path[place + 1 :], root)
        assert not verify_inclusion(leaf, number, size, (*path[:place], path[place][:31], *path[place + 1 :]), root)
        assert not verify_inclusion(leaf, number, size, (*path[:place], EMPTY_ROOT, *path[place + 1 :]), root)


@given(st.integers(1, 200), st.data())
def test_an_altered_consistency_proof_never_verifies(tree, new, data):
    old = data.draw(st.integers(1, new))
    path, roots = consistency_path(old, new, tree.node), (tree.root(old), tree.root(new))
    assert not verify_consistency(old, new, (*path, roots[0]), *roots)
    assert not verify_consistency(old, new, path, hash_leaf(b"other"), roots[1])
    assert not verify_consistency(old, new, path, roots[0], hash_leaf(b"other"))
    assert not verify_consistency(new + 1, new, path, *roots)
    if path:
        place = data.draw(st.integers(0, len(path) - 1))
        assert not verify_consistency(old, new, path[:place] + path[place + 1 :], *roots)
        assert not verify_consistency(old, new, (*path[:place], EMPTY_ROOT, *path[place + 1 :]), *roots)


def test_an_empty_tree_begins_every_tree_and_nothing_else_is_empty(tree):
    assert verify_consistency(0, 7, (), EMPTY_ROOT, tree.root(7))
    assert not verify_consistency(0, 7, (), tree.root(1), tree.root(7))
    assert not verify_consistency(0, 7, (tree.root(7),), EMPTY_ROOT, tree.root(7))
    assert not verify_inclusion(tree.leaves[0], 0, 0, (), EMPTY_ROOT)


def test_proofs_survive_as_json_and_nothing_else_is_taken_for_one(tree):
    inclusion = InclusionProof(
        number=2, size=7, leaf_hash=tree.leaves[2], root=tree.root(7), path=inclusion_path(2, 7, tree.node)
    )
    consistency = ConsistencyProof(
        old=3, new=7, old_root=tree.root(3), new_root=tree.root(7), path=consistency_path(3, 7, tree.node)
    )
    assert InclusionProof.parse(inclusion.to_dict()) == inclusion
    assert ConsistencyProof.parse(consistency.to_dict()) == consistency
    assert inclusion.verify()
    assert consistency.verify()
    for change in (
        {"number": -1},
        {"number": True},
        {"root": "AB" * 32},
        {"root": "ab" * 31},
        {"path": "ab"},
        {"path": [3]},
        {"more": 1},
    ):
        with pytest.raises(InvalidValueError):
            InclusionProof.parse(inclusion.to_dict() | change)
    with pytest.raises(InvalidValueError):
        ConsistencyProof.parse([1])
