from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from legion.neuro_architecture.registry.translog import EMPTY_ROOT, hash_leaf, hash_node
from legion.neuro_architecture.registry.translog.merkle import CompactRange
from legion.neuro_architecture.registry.translog.tiles import TILE_BYTES, TileStore, parse_tile_path, pyramid, tile_path
from legion.neuro_architecture.registry.translog.tree import TileTree


def make_tree(folder, size):
    leaves = [hash_leaf(b"%d" % number) for number in range(size)]
    return TileTree(TileStore(folder), lambda start, stop: leaves[start:stop]), leaves


def test_paths_are_those_of_c2sp_tlog_tiles():
    assert tile_path(0, 1234067) == "tile/0/x001/x234/067"
    assert tile_path(0, 0) == "tile/0/000"
    assert tile_path(1, 999) == "tile/1/999"
    assert tile_path(63, 1000) == "tile/63/x001/000"
    assert tile_path(0, 273, 112) == "tile/0/273.p/112"


@given(st.integers(0, 63), st.integers(0, 10**12))
def test_every_path_is_read_back(level, index):
    assert parse_tile_path(tile_path(level, index)) == (level, index)


@pytest.mark.parametrize(
    "path",
    ["tile/0", "tile/0/1", "tile/00/001", "tile/0/x001", "tile/0/001/002", "tile/0/000.p/12", "tile/0/x000/001",
     "tile/٣/001", "tile/0/.001.tmp"],
)  # fmt: skip
def test_other_paths_are_no_tiles(path):
    assert parse_tile_path(path) is None


def test_a_tree_of_70000_has_the_tiles_of_the_specifications_example(tmp_path):
    tree, leaves = make_tree(tmp_path, 70_000)
    tree.extend(leaves)
    tree.write()
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {tile_path(0, index) for index in range(273)} | {tile_path(1, 0)}
    assert all((tmp_path / name).stat().st_size == TILE_BYTES for name in files)


def test_a_tile_above_holds_the_roots_of_the_full_tiles_below(tmp_path):
    tree, leaves = make_tree(tmp_path, 256 * 256)
    tree.extend(leaves)
    tree.write()
    store = TileStore(tmp_path)
    row = store.read(1, 0)
    assert row == b"".join(pyramid(store.read(0, index))[-1] for index in range(256))
    assert store.read(0, 7) == b"".join(leaves[7 * 256 : 8 * 256])
    assert pyramid(row)[-1] == tree.root()


@pytest.mark.parametrize("size", [0, 1, 2, 255, 256, 257, 511, 512, 700, 65_536, 65_537])
def test_a_tree_that_is_loaded_from_tiles_is_the_one_that_grew(tmp_path, size):
    grown, leaves = make_tree(tmp_path, size)
    grown.extend(leaves)
    grown.write()
    loaded, _ = make_tree(tmp_path, size)
    loaded.load(size)
    compact = CompactRange()
    compact.extend(leaves)
    assert loaded.root() == grown.root() == compact.root()
    assert loaded.compact.nodes == compact.nodes
    assert not loaded.unwritten
    for old in {0, min(1, size), size // 3, max(0, size - 1), size}:
        older = CompactRange()
        older.extend(leaves[:old])
        assert loaded.root(old) == older.root()
    more = [hash_leaf(b"more %d" % number) for number in range(300)]
    loaded.extend(more)
    compact.extend(more)
    assert loaded.root() == compact.root()


@pytest.mark.parametrize("harm", ["missing", "torn", "altered"])
def test_a_damaged_tile_is_made_again_from_the_entries(tmp_path, harm):
    tree, leaves = make_tree(tmp_path, 1000)
    tree.extend(leaves)
    tree.write()
    path = tmp_path / tile_path(0, 1)
    content = path.read_bytes()
    if harm == "missing":
        path.unlink()
    elif harm == "torn":
        path.write_bytes(content[:4000])
    else:
        path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    root = tree.root()
    tree.load(1000)
    if harm == "altered":
        assert tree.root() != root  # the owner compares it with the signed one
        tree.rebuild(1000)
    assert tree.root() == root
    assert tree.leaf(256) == leaves[256]
    tree.write()
    assert path.read_bytes() == content


def test_a_row_of_hashes_has_its_parents_above_it():
    a, b, c = (hash_leaf(text) for text in (b"a", b"b", b"c"))
    assert pyramid(a + b + c) == [a + b + c, hash_node(a, b)]
    assert pyramid(b"") == [b""]
    assert CompactRange().root() == EMPTY_ROOT
