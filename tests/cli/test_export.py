import json

import pytest
from tests.portability.conftest import shaken_adapter

from legion.cli.app import main
from legion.neuro_architecture.data.base_models import resolve_base
from legion.neuro_architecture.spec.architecture import parse_architecture
from legion.testing import tiny_model


def _run(*args):
    with pytest.raises(SystemExit) as caught:
        main([str(arg) for arg in args])
    return caught.value.code


@pytest.fixture
def adapter(settings):
    base = resolve_base(str(tiny_model(settings.workspace / "base", "llama")), settings)
    config = {"strategy": "MoE", "num_experts": 2, "bottleneck_size": 4, "is_gated": True, "non_linearity": "silu"}
    return shaken_adapter(base, parse_architecture(config), settings.workspace / "adapter", kind="summarization")


def test_export_and_certify_from_the_command_line(adapter, capsys):
    assert _run("export", adapter, "--to", "hf", "-o", "out", "--format", "json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["plan"]["form"] == "qwen2-moe"
    assert told["certificate"]["verdict"] == "same"
    assert _run("certify", "out", "--format", "quiet") == 0
    assert capsys.readouterr().out.strip() == "same"


def test_not_portable_is_exit_code_1(adapter, capsys, settings):
    assert _run("export", adapter, "--to", "peft", "-o", "out") == 1
    assert "stock PEFT has no MoE" in capsys.readouterr().err
    assert _run("export", adapter, "--to", "peft", "--dry-run") == 1
    assert not (settings.workspace / "out").exists()


def test_a_dry_run_says_what_would_become_of_it(adapter, capsys, settings):
    assert _run("export", adapter, "--to", "hf", "--dry-run") == 0
    assert capsys.readouterr().out.startswith("exact: qwen2-moe")
    assert not (settings.workspace / "out").exists()


def test_asked_wrongly_is_exit_code_2(adapter, capsys):
    assert _run("export", adapter, "--to", "hf") == 2
    assert "-o DIR" in capsys.readouterr().err
    assert _run("export", "0123456789ab", "--to", "hf", "-o", "out") == 2
    assert "unknown snapshot" in capsys.readouterr().err
    assert _run("certify", adapter) == 2
    assert "is no export" in capsys.readouterr().err


def test_the_matrix_is_printed_for_the_families_and_for_a_base(adapter, capsys):
    assert _run("portability", "--format", "json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["base"] for row in rows} == {"llama", "gpt2", "bert"}
    assert _run("portability", "--base", "base", "--reasons") == 0
    told = capsys.readouterr().out
    assert "qwen2-moe" in told
    assert "changes no weight" in told


def test_a_registered_snapshot_is_exported_with_its_evidence(adapter, capsys, settings):
    from legion.neuro_architecture.registry import ArchitectureRegistry

    record = json.loads((adapter / "legion_adapter.json").read_text())
    snapshot = ArchitectureRegistry.of(settings).register(
        "4.1.0",
        record["architecture"],
        {"accuracy": 0.5, "rank": 1, "units": {"accuracy": "share"}},
        {"base": record["base"], "task": "tiny", "task_kind": "summarization", "data_digest": "sha256:data"},
        files={path.name: path for path in adapter.iterdir()},
    )
    short = snapshot.digest.removeprefix("sha256:")[:12]
    assert _run("export", short, "--to", "hf", "-o", "out", "--name", "mine") == 0
    assert "serve it" in capsys.readouterr().out
    card = (settings.workspace / "out" / "README.md").read_text()
    for said in ("# mine", snapshot.digest, "sha256:data", "| accuracy | 0.5 share |"):
        assert said in card
    assert "| rank |" not in card
