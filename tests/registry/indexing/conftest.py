from __future__ import annotations

import itertools

import pytest

from legion.neuro_architecture.registry.indexing import open_postgres_index, open_sqlite_index
from legion.testing.postgres_server import PostgresServer

_ORIGINS = itertools.count()


@pytest.fixture(scope="session")
def postgres_url():
    """A real server, for as long as the tests run."""
    with PostgresServer() as server:
        yield server.url


@pytest.fixture
def fresh_origin() -> str:
    """The name of a log that no other test has."""
    return f"legion.registry/{next(_ORIGINS):016x}"


@pytest.fixture(params=["sqlite", "postgres"])
def open_another(request, tmp_path, fresh_origin):
    """Opens the same index again, as another process would."""
    if request.param == "sqlite":
        return lambda: open_sqlite_index(tmp_path / "index.sqlite")
    url = request.getfixturevalue("postgres_url")
    return lambda: open_postgres_index(url, origin=fresh_origin)


@pytest.fixture
def index(open_another):
    opened = open_another()
    yield opened
    opened.close()
