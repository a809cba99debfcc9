"""`legion registry` as its users meet it."""

from __future__ import annotations

import json

import pytest

from legion.cli.app import _run
from legion.neuro_architecture.registry import ArchitectureRegistry


@pytest.fixture
def legion(settings, capsys):
    """Runs a command line in this process; gives exit code, stdout, stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = _run(["registry", *arguments], "legion")
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return run


@pytest.fixture
def registry(settings):
    """Three snapshots of two architectures."""
    registry = ArchitectureRegistry.of(settings)
    measured = {"accuracy": {"value": 0.84, "unit": "share", "n": 600, "error": 0.015}}
    registry.register("1", {"strategy": "LoRA"}, measured, {"task": "classification"}, ["candidate"])
    registry.register("1", {"strategy": "MoE"}, {"accuracy": 0.79, "latency_ms": 14.0})
    registry.register("2", {"strategy": "LoRA"}, {"accuracy": 0.86, "latency_ms": 11.0})
    return registry


def test_an_empty_registry_says_so(legion):
    assert legion("ls") == (0, "empty\n", "")
    assert legion("verify")[0] == 0
    assert legion("prove")[0] == 2


def test_snapshots_are_listed_and_queried(legion, registry):
    first, mixture, second = registry.list_all()
    assert legion("ls", "--format", "quiet")[1].split() == [first.digest, mixture.digest, second.digest]
    assert legion("ls", "--limit", "1", "--format", "quiet")[1].split() == [second.digest]
    found = legion("query", "accuracy > 0.8", "--order", "accuracy", "--descending", "--format", "quiet")[1].split()
    assert found == [second.digest, first.digest]
    code, _, err = legion("query", "accuracy >> 0.8")
    assert code == 2
    assert "^" in err


def test_tags_and_aliases_move_and_history_tells(legion, registry):
    first = registry.list_all()[0]
    short = first.digest[7:19]
    assert legion("tag", short, "production", "--remove", "candidate", "--by", "ada")[1] == "production\n"
    assert legion("ls", "--tag", "production", "--format", "quiet")[1].split() == [first.digest]
    assert legion("alias", "champion", short, "--expect", "nothing")[0] == 0
    code, _, err = legion("alias", "champion", registry.list_all()[2].digest, "--expect", "nothing")
    assert code == 1
    assert first.digest in err
    assert json.loads(legion("alias", "--format", "json")[1]) == {"champion": first.digest}
    assert legion("approve", "champion", "--by", "ada", "--reason", "measured")[0] == 0
    events = json.loads(legion("history", "champion", "--format", "json")[1])["events"]
    assert [(event["kind"], event["by"]) for event in events] == [
        ("snapshot", None),
        ("tags", "ada"),
        ("alias", None),
        ("approval", "ada"),
    ]
    text = legion("history", "champion")[1]
    assert "+production -candidate" in text
    assert "approved: measured" in text
    assert legion("alias", "champion", "--remove")[0] == 0
    assert legion("show", "champion")[0] == 2


def test_a_diff_names_what_changed(legion, registry):
    first, mixture, second = registry.list_all()
    text = legion("diff", first.digest, second.digest)[1]
    assert "accuracy" in text
    assert legion("diff", first.digest, mixture.digest, "--format", "json")[0] == 0


def test_an_exported_file_is_verified_and_imported(legion, registry, tmp_path):
    first = registry.list_all()[0]
    path = tmp_path / "first.legion"
    assert legion("export", first.digest, str(path))[0] == 0
    code, out, _ = legion("verify", str(path))
    assert code == 0
    assert "nobody vouched for" in out
    assert legion("verify", str(path), "--key", str(registry.key))[0] == 0
    assert legion("import", str(path), "--key", str(registry.key))[0] == 0
    assert registry.get(first.semantic_hash).provenance["imported_from"]["snapshot"] == first.digest
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    code, _, err = legion("verify", str(path))
    assert code == 1
    assert "not as it was written" in err


def test_a_kept_checkpoint_is_compared(legion, registry, tmp_path):
    kept = tmp_path / "checkpoint"
    note = json.loads(legion("prove", "--format", "json")[1])["checkpoint"]
    kept.write_text(note)
    registry.register("3", {"strategy": "LoRA"}, {})
    assert legion("verify", "--against", str(kept))[0] == 0
    proofs = json.loads(legion("prove", registry.list_all()[0].digest, "--since", "3", "--format", "json")[1])
    assert {"checkpoint", "inclusion", "consistency"} == set(proofs)
    kept.write_text(note.replace("3\n", "2\n", 1))
    assert legion("verify", "--against", str(kept))[0] == 1


def test_restoring_rebuilding_and_collecting(legion, registry):
    first = registry.list_all()[0]
    assert legion("restore", first.digest)[0] == 0
    assert registry.get(first.semantic_hash).revision == 3
    assert legion("rebuild")[1] == "4 entries indexed\n"
    assert "every blob" in legion("gc")[1]


def test_the_prototypes_files_are_imported_as_claims(legion, settings, tmp_path):
    folder = tmp_path / "prototype"
    folder.mkdir()
    said = {
        "version": "4.0.0",
        "config": {"strategy": "LoRA", "rank": 8},
        "metrics": {"accuracy": 0.92},
        "tags": ["old"],
    }
    (folder / "a.json").write_text(json.dumps(said))
    (folder / "b.json").write_text("[]")
    code, out, err = legion("import", str(folder), "--kind", "prototype")
    assert code == 0, err
    assert "1 snapshots" in out
    (snapshot,) = ArchitectureRegistry.of(settings).list_all()
    assert snapshot.metrics["claimed"]["accuracy"] == 0.92


def test_text_files_follow_the_registry(legion, registry, tmp_path):
    folder = tmp_path / "architectures"
    assert legion("text", str(folder))[0] == 0
    assert legion("text", str(folder), "--check") == (0, "nothing differs\n", "")
    registry.register("4", {"strategy": "LoRA"}, {})
    code, _, err = legion("text", str(folder), "--check")
    assert code == 1
    assert "differ" in err


def test_where_a_snapshot_comes_from_is_described(legion, registry, tmp_path):
    first = registry.list_all()[0]
    statement = json.loads(legion("describe", first.digest)[1])
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert legion("describe", first.digest, "--as", "bom", "-o", str(tmp_path / "bom.json"))[0] == 0
    assert json.loads((tmp_path / "bom.json").read_text())["bomFormat"] == "CycloneDX"
    card = legion("describe", first.digest, "--as", "card")[1]
    assert card.startswith("---\n")
    assert first.digest in card
    assert legion("describe", first.digest, "--as", "card", "-o", str(tmp_path / "card.md"))[0] == 0
    assert (tmp_path / "card.md").read_text() == card
