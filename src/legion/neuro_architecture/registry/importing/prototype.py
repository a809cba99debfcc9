"""The prototype's registry: JSON files in `artifacts/architecture_registry/`.

Each file is one snapshot, a list of snapshots, or an object that holds them under their hashes; `index.json` is one of
these too. The prototype drew its metrics with `random.uniform`: nothing was measured, so they come in as claimed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from legion.foundation.errors import InvalidValueError, LegionError, WorldError
from legion.neuro_architecture.registry.importing.draft import Collector, ImportReport
from legion.neuro_architecture.registry.plain_json import parse_plain_json
from legion.neuro_architecture.registry.regular import open_regular
from legion.neuro_architecture.spec.architecture import parse_architecture, strategy_names

__all__ = ["read_prototype"]

_MAX_FILE_BYTES: Final = 64 << 20
_MAX_DEPTH: Final = 40
_CONTAINERS: Final = ("snapshots", "architectures", "entries", "registry")
_READ: Final = frozenset({"version", "config", "metrics", "provenance", "tags"})
_PARAMETERS: Final = ("params", "parameters", "hyperparameters")
_NOTE: Final = "claimed by the prototype, which drew its metrics at random; none was measured"


def read_prototype(folder: Path) -> ImportReport:
    """Drafts of the snapshots in the prototype's folder, or in one of its files.

    Raises:
        InvalidValueError: there is no such folder or file.
        WorldError: the folder cannot be listed.
    """
    collector = Collector(str(folder))
    try:
        if folder.is_dir():
            paths = sorted(folder.iterdir())
        elif folder.exists():
            paths = [folder]
        else:
            raise InvalidValueError(
                f"there is no {folder}", hint="name the prototype's artifacts/architecture_registry"
            )
    except OSError as error:
        raise WorldError(f"cannot list {folder}", cause=str(error)) from error
    for path in paths:
        if path.suffix != ".json":
            collector.skip(path.name, "it is no JSON file of the folder itself and was not opened")
            continue
        try:
            value = _read(path)
        except (LegionError, ValueError, OSError) as error:
            collector.skip(path.name, error if isinstance(error, LegionError) else str(error))
            continue
        for origin, entry in _entries(path.name, value, collector):
            _take(origin, entry, collector)
    return collector.report()


def _read(path: Path) -> Any:
    with open_regular(path) as (file, size):
        if size > _MAX_FILE_BYTES:
            raise InvalidValueError(f"it has {size} bytes; at most {_MAX_FILE_BYTES} are read")
        return parse_plain_json(file.read(), "it", max_depth=_MAX_DEPTH)


def _entries(name: str, value: Any, collector: Collector) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(value, dict) and _is_snapshot(value):
        yield name, value
        return
    if isinstance(value, dict):
        container = next((word for word in _CONTAINERS if isinstance(value.get(word), (dict, list))), None)
        if container is not None:
            for key in value.keys() - {container}:
                collector.skip(f"{name}, {key!r}", "it stands beside the snapshots and is none")
            yield from _entries(name, value[container], collector)
            return
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    if not isinstance(value, (dict, list)) or not value:
        collector.skip(name, "it holds no snapshot")
    for key, entry in pairs:
        origin = f"{name}, entry {key}"
        if isinstance(entry, dict) and _is_snapshot(entry):
            yield origin, entry
        else:
            collector.skip(origin, "it is no snapshot: it has no config")


def _is_snapshot(value: Mapping[str, Any]) -> bool:
    return isinstance(value.get("config", value.get("architecture")), dict)


def _take(origin: str, entry: dict[str, Any], collector: Collector) -> None:
    config, unread = _config(entry.get("config", entry.get("architecture")) or {})
    if unread:
        collector.skip(f"{origin}, config", f"no architecture here has {', '.join(sorted(unread))}")
    metrics = entry.get("metrics") or {}
    provenance = entry.get("provenance") or {}
    for name, value in (("metrics", metrics), ("provenance", provenance)):
        if not isinstance(value, dict):
            collector.skip(origin, f"its {name} are no object")
            return
    source: dict[str, Any] = {"kind": "prototype", "entry": origin, "metrics": _NOTE}
    source |= {"unread_config": unread} if unread else {}
    others = {key: value for key, value in entry.items() if key not in _READ and key != "architecture"}
    source |= {"said": others} if others else {}
    if "imported_from" in provenance:
        source["before"] = provenance["imported_from"]
    version = entry.get("version")
    tags = entry.get("tags") or []
    collector.add(
        origin,
        version=str(version) if isinstance(version, (str, int, float)) else "unversioned",
        config=config,
        metrics={"claimed": metrics} if metrics else {},
        provenance={**provenance, "imported_from": source},
        tags=tags if isinstance(tags, list) else [tags],
    )


def _config(said: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The architecture as we spell it, and what of it no architecture of that strategy has."""
    config = dict(said)
    for word in _PARAMETERS:
        inner = config.pop(word, None)
        if isinstance(inner, dict):
            config = {**inner, **config}
        elif inner is not None:
            config[word] = inner
    strategy = config.pop("strategy", config.pop("type", None))
    names = {name.lower(): name for name in strategy_names()}
    strategy = names.get(str(strategy).lower(), strategy)
    try:
        known = set(type(parse_architecture({"strategy": strategy})).model_fields)
    except LegionError:
        return {"strategy": strategy, **config}, {}  # its own refusal says more
    unread = {key: value for key, value in config.items() if key not in known}
    return {"strategy": strategy, **{key: value for key, value in config.items() if key in known}}, unread
