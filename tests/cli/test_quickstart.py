"""The quickstart on the embedded data with a tiny model: the whole chain, undone and integrated again."""

from __future__ import annotations

import json

import pytest

from legion.cli.app import _run


@pytest.mark.assets
def test_quickstart_measures_ships_undoes_and_leaves_the_winner_in_its_slot(
    settings, tiny_folders, embedded_home, monkeypatch, capsys
):
    monkeypatch.setenv("LEGION_HOME", str(embedded_home.home))
    monkeypatch.setenv("LEGION_BASE", str(tiny_folders["bert"]))
    arguments = ["quickstart", "--n", "3", "--steps", "2", "--final-steps", "4", "--examples", "40", "--format", "json"]
    assert _run(arguments, "legion") == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["proposals"]) == 3
    assert found["manifest_before"] == found["manifest_after_revert"] == "no manifest"
    slot = json.loads((settings.workspace / "core" / "slots.json").read_text())["slots"]["classification"]
    assert slot["snapshot"] == found["patch"]["after"]["snapshot"]
    assert [answer["snapshot"] for answer in found["answers"]] == [slot["snapshot"]] * 2
    assert found["summary"]["baseline"]["accuracy"]["n"] == 40
    assert (settings.workspace / "artifacts" / "evals" / "report.html").is_file()
    assert _run(["patch", "revert"], "legion") == 0
    assert not (settings.workspace / "core" / "slots.json").exists()
