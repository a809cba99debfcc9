from __future__ import annotations

import os
import threading

import apsw
import pytest

from legion.foundation.errors import IntegrityError, InvalidValueError, RefusedError, WorldError
from legion.neuro_architecture.registry.indexing import open_index, open_sqlite_index
from legion.neuro_architecture.registry.indexing.schema import NEWEST
from legion.neuro_architecture.registry.indexing.sql_index import SqlIndex
from legion.neuro_architecture.registry.indexing.sqlite import SqliteDatabase, refuse_library
from legion.testing.index_entries import made_snapshot, numbered, registered
from legion.testing.index_example import example_log
from legion.testing.index_kit import every_query_finds_what_it_says


@pytest.fixture
def path(tmp_path):
    return tmp_path / "registry" / "index.sqlite"


@pytest.mark.parametrize("version", ["3.7.0", "3.40.1", "3.51.2", "3.51"])
def test_a_library_that_may_corrupt_a_write_ahead_log_is_refused_by_name(version):
    with pytest.raises(WorldError, match=f"SQLite {version} may corrupt") as caught:
        refuse_library(version)
    assert "apsw" in caught.value.hint


@pytest.mark.parametrize("version", ["3.6.23.1", "3.51.3", "3.52.0", "4.0.0", apsw.sqlite_lib_version()])
def test_a_sound_library_is_not_refused(version):
    refuse_library(version)


def test_nothing_is_made_before_the_first_use(path):
    index = open_sqlite_index(path)
    assert not path.parent.exists()
    assert index.position() == (0, "")
    assert path.is_file()
    index.close()


def test_the_file_has_a_write_ahead_log_and_syncs_as_much_as_an_index_needs(path):
    database = SqliteDatabase(path)
    assert database.read("PRAGMA journal_mode") == [("wal",)]
    assert database.read("PRAGMA synchronous") == [(1,)]
    database.close()


def test_an_index_is_migrated_from_version_1_with_its_data(path):
    _, entries = example_log()
    old = SqliteDatabase(path, newest=1)
    SqlIndex(old).apply(0, numbered(entries))
    assert old.read("SELECT version FROM schema_version") == [(1,)]
    old.close()
    newest = SqliteDatabase(path)
    index = SqlIndex(newest)
    assert index.position()[0] == len(entries)
    assert newest.read("SELECT version FROM schema_version ORDER BY version") == [(1,), (NEWEST,)]
    every_query_finds_what_it_says(index, is_filled=True)
    index.close()


def test_an_index_of_a_newer_legion_is_refused_by_its_version_and_left_alone(path):
    database = SqliteDatabase(path)
    with database.transaction() as session:
        session.run("INSERT INTO schema_version (version) VALUES (?)", (NEWEST + 5,))
    database.close()
    before = path.read_bytes()
    with pytest.raises(RefusedError, match=f"schema version {NEWEST + 5}; this Legion knows versions up to {NEWEST}"):
        open_sqlite_index(path).position()
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "content", [b"no database at all, but long enough to be read as one" * 10, b"SQLite format 3\0" + b"\xff" * 5000]
)
def test_a_damaged_file_is_named(path, content):
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match=str(path)) as caught:
        open_sqlite_index(path).position()
    assert caught.value.hint == "legion registry rebuild"


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(WorldError, match="cannot make"):
        open_sqlite_index(tmp_path / "file" / "index.sqlite").position()
    (tmp_path / "folder").mkdir()
    with pytest.raises(WorldError, match="cannot be used"):
        open_sqlite_index(tmp_path / "folder").position()


def test_an_error_inside_a_transaction_undoes_it(path):
    index = open_sqlite_index(path)
    index.apply(0, numbered([registered(made_snapshot(1, tags=["a"]))]))

    def break_off():
        with index._database.transaction() as session:
            session.run("DELETE FROM snapshots")
            raise RuntimeError("in between")

    with pytest.raises(RuntimeError):
        break_off()
    assert list(index.snapshots()) == [0]
    index.apply(1, numbered([registered(made_snapshot(2))], 1))
    assert index.position()[0] == 2
    index.close()


def test_an_index_behind_its_log_or_ahead_of_it_shows_in_its_position(path):
    rows = numbered([registered(made_snapshot(place, rank=place + 1)) for place in range(4)])
    index = open_sqlite_index(path)
    index.apply(0, rows[:2])
    assert index.position() == (2, rows[1][1])  # the log has 4: it lags
    index.apply(2, rows[2:])
    assert index.position()[0] > len(rows[:3])  # a log cut back to 3: it is ahead
    forked = numbered([entry for entry, _ in rows], log="fork")
    assert index.position()[1] != forked[3][1]
    index.close()


def test_readers_are_not_kept_waiting_by_a_writer(path):
    index = open_sqlite_index(path)
    index.apply(0, numbered([registered(made_snapshot(1, tags=["a"]))]))
    seen = []
    with index._database.transaction() as session:
        session.run("DELETE FROM tags")
        reader = threading.Thread(target=lambda: seen.append(list(index.tagged(["a"]))))
        reader.start()
        reader.join()
    assert seen == [[0]]
    index.close()


def test_the_connections_of_threads_that_ended_are_closed(path):
    index = open_sqlite_index(path)
    for _ in range(3):
        thread = threading.Thread(target=index.position)
        thread.start()
        thread.join()
    assert len(index._database._connections._holders) == 0
    index.position()
    assert len(index._database._connections._holders) == 1
    index.close()


def test_a_forked_child_has_a_connection_of_its_own(path):
    index = open_sqlite_index(path)
    index.apply(0, numbered([registered(made_snapshot(1))]))
    parents = index._database._connections.get()
    child = os.fork()
    if child == 0:
        is_own = index.position()[0] == 1 and index._database._connections.get() is not parents
        os._exit(0 if is_own else 1)
    assert os.waitpid(child, 0)[1] == 0
    index.apply(1, numbered([registered(made_snapshot(2))], 1))
    assert index.position()[0] == 2
    index.close()


def test_no_url_means_a_file_and_an_unknown_url_is_refused(path):
    index = open_index(None, path=path, origin="legion.registry/x")
    index.position()
    index.close()
    assert path.is_file()
    with pytest.raises(InvalidValueError, match="'mysql' is no kind of index"):
        open_index("mysql://user:secret@host/db", path=path, origin="legion.registry/x")
