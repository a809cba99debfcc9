from __future__ import annotations

import os
import subprocess
import sys

import psycopg
import pytest

from legion.foundation.errors import IntegrityError, RefusedError, WorldError
from legion.neuro_architecture.registry.indexing import open_index, open_postgres_index
from legion.neuro_architecture.registry.indexing.postgres import PostgresDatabase, schema_name
from legion.neuro_architecture.registry.indexing.schema import NEWEST
from legion.neuro_architecture.registry.indexing.sql_index import SqlIndex
from legion.testing.index_entries import made_snapshot, numbered, registered
from legion.testing.index_example import example_log
from legion.testing.index_kit import every_query_finds_what_it_says


def test_the_server_is_a_real_one(postgres_url):
    with psycopg.connect(postgres_url) as connection:
        version = connection.execute("SELECT version()").fetchone()
    assert version[0].startswith("PostgreSQL 1")


def test_without_psycopg_the_extra_is_named(tmp_path):
    script = """
import sys
sys.modules["psycopg"] = None
from pathlib import Path
from legion.foundation.errors import WorldError
from legion.neuro_architecture.registry.indexing import open_index
open_index(None, path=Path("index.sqlite"), origin="x").close()
try:
    open_index("postgresql://host/db", path=Path("x"), origin="x")
except WorldError as error:
    print(error.hint)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.strip() == "pip install 'legion-neuro-rewriter[teams]'"


def test_each_log_has_a_schema_of_its_own(postgres_url, fresh_origin, tmp_path):
    one = open_index(postgres_url, path=tmp_path / "unused", origin=fresh_origin)
    two = open_index(postgres_url, path=tmp_path / "unused", origin=fresh_origin + "/other")
    one.apply(0, numbered([registered(made_snapshot(1))]))
    assert (one.position()[0], two.position()[0]) == (1, 0)
    assert not (tmp_path / "unused").exists()
    with psycopg.connect(postgres_url) as connection:
        found = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
    assert found == (0,)
    one.close()
    two.close()


def test_an_index_is_migrated_from_version_1_with_its_data(postgres_url, fresh_origin):
    _, entries = example_log()
    old = PostgresDatabase(postgres_url, origin=fresh_origin, newest=1)
    SqlIndex(old).apply(0, numbered(entries))
    assert old.read("SELECT version FROM schema_version") == [(1,)]
    old.close()
    newest = PostgresDatabase(postgres_url, origin=fresh_origin)
    index = SqlIndex(newest)
    assert index.position()[0] == len(entries)
    assert newest.read("SELECT version FROM schema_version ORDER BY version") == [(1,), (NEWEST,)]
    every_query_finds_what_it_says(index, is_filled=True)
    index.close()


def test_an_index_of_a_newer_legion_is_refused_by_its_version(postgres_url, fresh_origin):
    database = PostgresDatabase(postgres_url, origin=fresh_origin)
    with database.transaction() as session:
        session.run("INSERT INTO schema_version (version) VALUES (?)", (NEWEST + 5,))
    database.close()
    index = open_postgres_index(postgres_url, origin=fresh_origin)
    with pytest.raises(RefusedError, match=f"schema version {NEWEST + 5}; this Legion knows versions up to {NEWEST}"):
        index.position()
    index.close()


def test_tables_that_are_gone_are_named(postgres_url, fresh_origin):
    index = open_postgres_index(postgres_url, origin=fresh_origin)
    index.position()
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"DROP TABLE {schema_name(fresh_origin)}.snapshots")
    with pytest.raises(IntegrityError, match="has other tables"):
        list(index.snapshots())
    index.close()


def test_a_lost_connection_is_made_anew(postgres_url, fresh_origin):
    index = open_postgres_index(postgres_url, origin=fresh_origin)
    index.apply(0, numbered([registered(made_snapshot(1))]))
    for use in (
        lambda: index.position()[0],
        lambda: index.apply(1, numbered([registered(made_snapshot(2))], 1)) or index.position()[0],
    ):
        process = index._database.read("SELECT pg_backend_pid()")[0][0]
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute("SELECT pg_terminate_backend(%s, 5000)", (process,))
        try:
            use()
        except WorldError:  # a write is not repeated blindly: the next call finds out where it stands
            use()
    assert index.position()[0] == 2
    assert list(index.snapshots()) == [0, 1]
    index.close()


def test_a_server_that_is_not_there_is_named_without_the_password(tmp_path):
    url = f"postgresql://ada:secret@/team?host={tmp_path}"
    index = open_postgres_index(url, origin="legion.registry/x")
    with pytest.raises(WorldError, match="cannot be used") as caught:
        index.position()
    told = caught.value.render()
    assert "database team" in told
    assert "secret" not in told
    index.close()


def test_a_forked_child_has_a_connection_of_its_own(postgres_url, fresh_origin):
    index = open_postgres_index(postgres_url, origin=fresh_origin)
    index.apply(0, numbered([registered(made_snapshot(1))]))
    parents = index._database.read("SELECT pg_backend_pid()")
    child = os.fork()
    if child == 0:
        is_own = index.position()[0] == 1 and index._database.read("SELECT pg_backend_pid()") != parents
        os._exit(0 if is_own else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert index._database.read("SELECT pg_backend_pid()") == parents
    index.close()
