from __future__ import annotations

import json
import subprocess
import sys

import pytest

from legion.neuro_architecture.registry.indexing import content_name, open_postgres_index, open_sqlite_index
from legion.neuro_architecture.spec.entries import TagsEntry
from legion.testing.index_entries import made_snapshot, moment, numbered, registered

_PROCESSES = 8
_SNAPSHOTS = 60

# Each process brings the index forward as a registry does, from where it stands or from too early, in its own steps.
_RACE = """
import json, os, sys
from pathlib import Path
from legion.neuro_architecture.registry.indexing import open_index
from legion.neuro_architecture.spec.entries import parse_entry

url, path, origin, processes, log = sys.argv[1:]
rows = [(parse_entry(entry), leaf) for entry, leaf in json.loads(Path(log).read_text())]
gate, opened = os.pipe()

def apply_everything(number):
    index = open_index(url or None, path=Path(path), origin=origin)
    os.close(opened)
    os.read(gate, 1)
    while (applied := index.position()[0]) < len(rows):
        early = max(0, applied - number % 3)
        index.apply(early, rows[early : applied + 1 + number % 4])
    index.close()

children = []
for number in range(int(processes)):
    child = os.fork()
    if child == 0:
        status = 1
        try:
            apply_everything(number)
            status = 0
        finally:
            os._exit(status)
    children.append(child)
os.close(opened)  # the last end of the pipe: all begin
statuses = [os.waitpid(child, 0)[1] for child in children]
print(json.dumps(statuses))
"""


def _log():
    """Snapshots of ten architectures, every third of them tagged later."""
    entries = []
    for place in range(_SNAPSHOTS):
        tags = ["all", f"tag {place % 7}"]
        snapshot = made_snapshot(place, rank=1 + place % 10, metrics={"accuracy": place / 100}, tags=tags)
        entries.append(registered(snapshot, key=f"key {place}"))
        if place % 3 == 0:
            entries.append(TagsEntry(at=moment(place), snapshot=snapshot.digest, added=("later",), removed=("all",)))
    return numbered(entries)


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_eight_processes_that_apply_at_once_lose_nothing_and_double_nothing(kind, tmp_path, fresh_origin, request):
    url = "" if kind == "sqlite" else request.getfixturevalue("postgres_url")
    rows, path, log = _log(), tmp_path / "index.sqlite", tmp_path / "log.json"
    log.write_text(json.dumps([[entry.to_dict(), leaf] for entry, leaf in rows]))
    command = [sys.executable, "-c", _RACE, url, str(path), fresh_origin, str(_PROCESSES), str(log)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == (json.dumps([0] * _PROCESSES), "")

    snapshots = {number: entry.snapshot for number, (entry, _) in enumerate(rows) if entry.kind == "snapshot"}
    index = open_postgres_index(url, origin=fresh_origin) if url else open_sqlite_index(path)
    assert index.position() == (len(rows), rows[-1][1])
    assert list(index.snapshots()) == list(snapshots)
    assert len(snapshots) == _SNAPSHOTS
    retagged = {number for number in snapshots if number + 1 < len(rows) and rows[number + 1][0].kind == "tags"}
    assert len(retagged) == _SNAPSHOTS / 3
    assert set(index.tagged(["later"])) == retagged
    assert list(index.tagged(["all"])) == [number for number in snapshots if number not in retagged]
    for number, snapshot in snapshots.items():
        assert index.by_digest(snapshot.digest) == index.by_content(content_name(snapshot)) == number
        assert index.events(snapshot.digest) == ([number, number + 1] if number in retagged else [number])
        assert index.by_key(rows[number][0].key) == number
    counts = dict(index._database.read("SELECT tag, snapshots FROM tag_counts"))
    assert counts["all"] == _SNAPSHOTS - len(retagged)
    assert counts["later"] == len(retagged)
    index.close()
