"""The registry's index: derived from the log, rebuilt at any time; SQLite in one file, or PostgreSQL for teams."""

from legion.neuro_architecture.registry.indexing.naming import content_name, snapshot_json
from legion.neuro_architecture.registry.indexing.opening import open_index, open_postgres_index, open_sqlite_index
from legion.neuro_architecture.registry.indexing.port import RegistryIndex

__all__ = ["RegistryIndex", "content_name", "open_index", "open_postgres_index", "open_sqlite_index", "snapshot_json"]
