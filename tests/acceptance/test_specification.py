"""Every block of the specification is executed as written, with fewer steps, on tiny models and data."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from legion.testing import tiny_classification, tiny_summarization

ROOT = Path(__file__).resolve().parents[2]
SPECIFICATION = (ROOT / "tests" / "fixtures" / "NEURO_REWRITER.md").read_text(encoding="utf-8")


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", SPECIFICATION, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def checkout(settings):
    """A workspace that looks like a checkout: `tools/` where the specification expects it."""
    (settings.workspace / "tools").symlink_to(ROOT / "tools")
    return settings.workspace


def _environment(**extra: str) -> dict[str, str]:
    # `python` of the blocks is this interpreter.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": path, "PYTHONWARNINGS": "default"} | extra


def _bash(script: str, folder: Path, **environment: str) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=_environment(**environment),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{script}\n--- stdout\n{done.stdout}\n--- stderr\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done.stdout


def test_the_specification_still_has_the_blocks_that_are_executed_here():
    assert (len(_blocks("bash")), len(_blocks("python")), len(_blocks("json")), len(_blocks("yaml"))) == (4, 5, 1, 1)


def test_the_four_commands_run_as_written(checkout, tiny_folders):
    tiny_summarization(checkout / "data" / "task_small")
    generate, train, evaluate, integrate = _blocks("bash")
    environment = {"LEGION_BASE": str(tiny_folders["llama"]), "LEGION_RISK_THRESHOLD": "1"}
    _bash(generate, checkout, **environment)
    proposals = sorted((checkout / "orchestrator" / "proposals").glob("*.json"))
    assert len(proposals) == 12
    assert {json.loads(path.read_text())["architecture"]["strategy"] for path in proposals} == {
        "LoRA",
        "MoE",
        "Adapter",
    }
    assert "--steps 2000" in train
    _bash(train.replace("--steps 2000", "--steps 2"), checkout, **environment)
    for path in proposals:
        metrics = json.loads((checkout / "artifacts" / "proxy_runs" / path.stem / "metrics.json").read_text())
        assert metrics["steps_completed"] == 2
    _bash(evaluate, checkout, **environment)
    summary = json.loads((checkout / "artifacts" / "evals" / "evaluation_summary.json").read_text())
    assert summary["total_evaluated"] == 12
    assert len(summary["top_3"]) == 3
    assert summary["weights_used"] == {"accuracy": 0.5, "latency": 0.2, "safety": 0.3}
    assert summary["front"]
    assert (checkout / "artifacts" / "evals" / "report.html").is_file()
    _bash(integrate, checkout, **environment)
    assert "tiny-summaries" in json.loads((checkout / "core" / "slots.json").read_text())["slots"]


def test_the_adapter_blocks_run_as_written(tiny_folders):
    from transformers import AutoModelForCausalLM

    lora, bottleneck = _blocks("python")[:2]
    names = {"model": AutoModelForCausalLM.from_pretrained(tiny_folders["llama"])}
    exec(lora, names)
    assert names["adapter"].architecture.to_dict()["rank"] == 8
    exec(bottleneck, names)
    assert names["adapter"].architecture.to_dict()["bottleneck_size"] == 64


def test_the_mixture_block_is_an_architecture():
    from legion.neuro_architecture.spec.architecture import parse_architecture

    architecture = parse_architecture(json.loads(_blocks("json")[0])).to_dict()
    assert (architecture["num_experts"], architecture["top_k"], architecture["load_balancing"]) == (8, 2, True)


def test_the_registry_blocks_run_as_written(settings, capsys):
    register, get = _blocks("python")[2:4]
    names: dict[str, object] = {}
    exec(register, names)
    shown = capsys.readouterr().out
    assert re.fullmatch(r"Registered: [0-9a-f]{16}\n", shown)
    exec(get, names)
    assert names["snapshot"] is None  # the block asks for a hash that nothing has
    assert [item.config["rank"] for item in names["production_archs"]] == [8]
    assert len(names["all_archs"]) == 1


def test_the_programmatic_block_runs_as_written(settings, tiny_folders, monkeypatch, capsys):
    monkeypatch.setenv("LEGION_BASE", str(tiny_folders["bert"]))
    tiny_classification(settings.workspace / "data" / "classification")
    block = _blocks("python")[4]
    assert "steps=2000" in block
    exec(block.replace("steps=2000", "steps=4"), {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    for line in lines:
        assert re.fullmatch(r"(lora|moe)-[0-9a-f]{12}: -?\d+\.\d{3}", line)


def _workflow_runs() -> list[dict[str, str]]:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "neuro_rewriter_ci.yml").read_text(encoding="utf-8"))
    return [step for step in workflow["jobs"]["neuro-evolution"]["steps"] if "run" in step]


def test_the_workflow_has_the_steps_of_the_specification_in_order():
    specified = yaml.safe_load(_blocks("yaml")[0])
    wanted = [step["name"] for step in specified["jobs"]["neuro-evolution"]["steps"] if "name" in step]
    named = [step.get("name") for step in _workflow_runs()]
    assert [name for name in named if name in wanted] == wanted
    assert (
        yaml.safe_load((ROOT / ".github" / "workflows" / "neuro_rewriter_ci.yml").read_text())["name"]
        == specified["name"]
    )


def test_no_shell_line_of_the_workflow_holds_an_expression():
    for step in _workflow_runs():
        assert "${{" not in step["run"], "a title inside a shell line is code"


@pytest.mark.assets
def test_the_workflow_runs_in_a_clean_checkout_whatever_the_title_says(tmp_path, tiny_folders, embedded_home):
    """Set Up is what this test itself runs in; every later step is executed in order with a hostile title."""
    checkout = tmp_path / "checkout"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(checkout)], check=True)
    title = 'Fix "$(touch pwned)"; `touch pwned2` && exit 1'
    steps = [step for step in _workflow_runs() if step.get("name") != "Set Up"]
    assert steps[0]["name"] == "Prepare Data"
    for step in steps:
        _bash(
            step["run"],
            checkout,
            PR_TITLE=title,
            STEPS="2",
            LEGION_HOME=str(embedded_home.home),
            LEGION_BASE=str(tiny_folders["bert"]),
            LEGION_EVAL_EXAMPLES="24",
        )
    assert not list(checkout.rglob("pwned*"))
    baseline = json.loads((checkout / "artifacts" / "baseline.json").read_text())
    assert len(baseline["code"]["commit"]) == 40
    assert set(baseline) >= {"slots", "snapshots", "data", "code"}
    assert (
        json.loads((checkout / "artifacts" / "evals" / "evaluation_summary.json").read_text())["total_evaluated"] == 5
    )
