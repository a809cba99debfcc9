"""The command line as a stranger meets it: one error with cause and hint, exit codes, data on stdout."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from legion.cli.app import _COMMANDS, _run
from legion.testing import tiny_classification


@pytest.fixture
def legion(settings, capsys):
    """Runs a command line in this process; gives exit code, stdout, stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = _run(list(arguments), "legion")
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return run


@pytest.fixture
def tiny_loop(legion, settings, tiny_folders, monkeypatch):
    """A workspace with a tiny task, six proposals, and all of them trained."""
    monkeypatch.setenv("LEGION_BASE", str(tiny_folders["bert"]))
    monkeypatch.setenv("LEGION_RISK_THRESHOLD", "1")
    tiny_classification(settings.workspace / "data" / "classification")
    code, out, _ = legion("generate", "--task", "classification", "--n", "6", "--format", "quiet")
    assert code == 0
    ids = out.split()
    for proposal_id in ids:
        assert legion("train", "--proposal", proposal_id, "--data", "data/classification", "--steps", "4")[0] == 0
    return ids


def test_help_lists_every_command_without_loading_torch():
    probe = (
        "import sys\nfrom legion.cli.app import _run\ncode = _run(['--help'], 'legion')\n"
        "heavy = [name for name in ('torch', 'transformers', 'pydantic', 'sklearn') if name in sys.modules]\n"
        "sys.exit(f'loaded {heavy}' if heavy or code else 0)"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in _COMMANDS:
        assert f"  {name} " in done.stdout


@pytest.mark.parametrize("name", sorted(_COMMANDS))
def test_every_command_explains_itself(legion, name):
    code, out, _ = legion(name, "--help")
    assert code == 0
    assert out.startswith(f"Usage: legion {name}")


WRONG = {
    "unknown command": (["generat"], "LGN-204", "generate"),
    "no task": (["generate"], "LGN-200", "--task"),
    "unknown task": (["generate", "--task", "clasification"], "LGN-204", "did you mean 'classification'"),
    "unknown strategy": (["generate", "--task", "classification", "--strategies", "Lora"], "LGN-204", "LoRA"),
    "no strategy": (["generate", "--task", "classification", "--strategies", ","], "LGN-2", "strateg"),
    "unknown target": (["generate", "--task", "classification", "--target", "vlm"], "LGN-204", "vllm"),
    "strategy misfits": (
        ["generate", "--task", "classification", "--strategies", "LoRA,SplitLayer"],
        "LGN-201",
        "cuts gated feed-forward networks",
    ),
    "n below one": (["generate", "--task", "classification", "--n", "0"], "LGN-201", "0"),
    "n no number": (["generate", "--task", "classification", "--n", "x"], "LGN-200", "x"),
    "missing base": (["generate", "--task", "classification", "--base", "no-such-folder/"], "LGN-", "no-such-folder"),
    "missing data": (["generate", "--task", "x", "--data", "data/none/"], "LGN-301", "data/none"),
    "unknown proposal": (["train", "--proposal", "lora-0", "--data", "data/x", "--steps", "1"], "LGN-204", "lora-0"),
    "no runs": (["evaluate", "--runs", "artifacts/proxy_runs/*"], "LGN-2", "artifacts/proxy_runs/*"),
    "bad weights": (["evaluate", "--runs", "x", "--weights", "accuracy:much"], "LGN-2", "much"),
    "unknown weight": (["evaluate", "--runs", "x", "--weights", "acuracy:1"], "LGN-2", "acuracy"),
    "nothing evaluated": (["integrate", "--top", "3"], "LGN-2", "legion evaluate"),
    "unknown slot": (["ask", "nowhere", "hello"], "LGN-204", "nowhere"),
    "unknown patch": (["patch", "show", "x-1"], "LGN-204", "x-1"),
    "unknown snapshot": (["registry", "show", "0123456789abcdef"], "LGN-204", "0123456789abcdef"),
    "broken data": (["data", "check", "data/none"], "LGN-301", "data/none"),
    "unknown data set": (["data", "prepare", "nonsense"], "LGN-204", "nonsense"),
    "unknown asset": (["assets", "fetch", "nonsense"], "LGN-204", "nonsense"),
}


@pytest.mark.parametrize("case", sorted(WRONG))
def test_wrong_input_is_one_error_with_exit_code_two(legion, case, tiny_folders, monkeypatch):
    monkeypatch.setenv("LEGION_BASE", str(tiny_folders["bert"]))
    arguments, code_prefix, mentions = WRONG[case]
    if "--base" in arguments:
        monkeypatch.delenv("LEGION_BASE")
    code, out, err = legion(*arguments)
    assert code == 2, err
    assert out == ""
    assert err.count("error[") == 1
    assert f"error[{code_prefix}" in err
    assert mentions in err


def test_a_target_that_serves_none_is_the_answer_no(legion, tiny_folders, monkeypatch):
    monkeypatch.setenv("LEGION_BASE", str(tiny_folders["bert"]))
    code, out, err = legion("generate", "--task", "classification", "--target", "ollama")
    assert (code, out) == (1, "")
    assert err.count("error[") == 1
    assert "error[LGN-403]" in err
    assert "answers with text" in err


def test_every_strategy_is_described_in_a_line(legion, tiny_folders, monkeypatch):
    from legion.neuro_architecture.spec.architecture import strategy_names

    monkeypatch.setenv("LEGION_BASE", str(tiny_folders["llama"]))
    names = ",".join(strategy_names())
    arguments = ("generate", "--task", "summarization", "--n", "60", "--strategies", names, "--format", "human")
    code, out, err = legion(*arguments)
    assert code == 0, err
    for described in (
        "r8 alpha 16 on all-linear",
        "par 16 silu",
        "4 experts, top 2, width 16",
        "4 clusters experts, top 4, r8",
        "4 clusters experts, top 2, r8",
        "IA3 on all-linear",
        "LoHa rank 8 on all-linear",
        "OFT block 4 on all-linear",
        "WaveFT frequencies 128 on all-linear",
        "16 virtual tokens",
        "r8 alpha 16 on all-linear up to block 0, par 16 silu above",
    ):
        assert described in out


def test_target_that_cannot_serve_a_strategy_is_told(legion, tiny_folders, monkeypatch):
    monkeypatch.setenv("LEGION_BASE", str(tiny_folders["llama"]))
    names = "LoRA,PromptTuning"
    arguments = ("generate", "--task", "summarization", "--n", "4", "--strategies", names, "--target", "llama.cpp")
    code, out, err = legion(*arguments, "--format", "human")
    assert code == 0, err
    assert "lora-" in out
    assert "prompttuning-" not in out
    assert "none of PromptTuning: llama.cpp cannot serve them" in err


def test_hugging_faces_own_library_is_a_target_by_both_names(legion, tiny_folders, monkeypatch):
    monkeypatch.setenv("LEGION_BASE", str(tiny_folders["bert"]))
    arguments = ("generate", "--task", "classification", "--n", "3", "--format", "quiet", "--target")
    assert legion(*arguments, "hf")[1] == legion(*arguments, "transformers")[1]


def test_nothing_to_revert_is_a_no(legion):
    code, _, err = legion("patch", "revert")
    assert code == 1
    assert "nothing to revert" in err


def test_errors_are_json_when_json_is_asked_for(legion):
    code, _, err = legion("generate", "--task", "nonsense", "--format", "json")
    error = json.loads(err)
    assert (code, error["exit_code"], error["error"]) == (2, 2, "LGN-204")


def test_a_bug_of_ours_is_no_traceback(legion, monkeypatch):
    from legion.foundation import settings

    def broken(*_arguments, **_keywords):
        raise ZeroDivisionError("planted")

    monkeypatch.setattr(settings.Settings, "load", broken)
    code, _, err = legion("slots")
    assert code == 4
    assert "unexpected ZeroDivisionError: planted" in err


def test_an_interrupt_says_how_to_go_on(legion, monkeypatch):
    from legion.foundation import settings

    def interrupted(*_arguments, **_keywords):
        raise KeyboardInterrupt

    monkeypatch.setattr(settings.Settings, "load", interrupted)
    code, _, err = legion("train", "--proposal", "a b", "--data", "d")
    assert code == 130
    assert "Continue: legion train --proposal 'a b' --data d" in err


def test_the_loop_runs_from_the_command_line_and_can_be_undone(legion, settings, tiny_loop):
    code, out, err = legion("evaluate", "--runs", "artifacts/proxy_runs/*")
    assert code == 0, err
    assert all(proposal_id in out for proposal_id in tiny_loop)
    assert "bare base" in out
    code, out, err = legion("integrate", "--top", "2", "--format", "json")
    assert code == 0, err
    plan = json.loads(out)
    code, out, err = legion("ask", "tiny", "a lovely film", "--format", "json")
    assert code == 0, err
    answer = json.loads(out)
    assert answer["snapshot"] == plan["after"]["snapshot"]
    assert set(answer["scores"]) == {"negative", "positive"}
    assert sum(answer["scores"].values()) == pytest.approx(1.0, abs=1e-5)
    assert legion("slots")[1].splitlines()[1].startswith("tiny")
    code, out, err = legion("registry", "ls", "--format", "quiet")
    assert len(out.split()) == 2
    assert legion("registry", "verify")[0] == 0
    code, out, err = legion("patch", "revert")
    assert code == 0, err
    assert not (settings.workspace / "core" / "slots.json").exists()
    assert legion("ask", "tiny", "a lovely film")[0] == 2


def test_risk_above_the_threshold_needs_a_name(legion, tiny_loop, monkeypatch, settings):
    assert legion("evaluate", "--runs", "artifacts/proxy_runs/*")[0] == 0
    monkeypatch.setenv("LEGION_RISK_THRESHOLD", "0")
    code, _, err = legion("integrate", "--top", "1")
    assert code == 1
    assert "--approve" in err
    assert not (settings.workspace / "core" / "slots.json").exists()
    assert legion("integrate", "--top", "1", "--approve", "ada")[0] == 0
    patches = json.loads(legion("patch", "ls", "--format", "json")[1])
    assert [patch["status"]["approved_by"] for patch in patches] == ["ada"]


def test_a_tampered_registry_fails_verification_with_exit_code_one(legion, settings, tiny_loop):
    assert legion("evaluate", "--runs", "artifacts/proxy_runs/*")[0] == 0
    assert legion("integrate", "--top", "1", "--dry-run")[0] == 0
    root = settings.workspace / "artifacts" / "architecture_registry"
    blob = max((path for path in (root / "blobs").rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    content = bytearray(blob.read_bytes())
    content[len(content) // 2] ^= 1
    blob.chmod(0o644)
    blob.write_bytes(bytes(content))
    code, _, err = legion("registry", "verify")
    assert code == 1
    assert blob.name[:12] in err


def test_a_failed_trial_is_reported_with_exit_code_one(legion, settings, tiny_folders, monkeypatch):
    monkeypatch.setenv("LEGION_BASE", str(tiny_folders["bert"]))
    tiny_classification(settings.workspace / "data" / "classification")
    _, out, _ = legion("generate", "--task", "classification", "--n", "1", "--format", "json")
    from legion.neuro_architecture.records import ProposalStore
    from legion.neuro_architecture.spec.proposal import ArchitectureProposal

    plain = json.loads(out)[0]
    plain["training"]["learning_rate"] = 1e30
    plain["id"] = "lora-ffffffffffff"
    ProposalStore(settings).save(ArchitectureProposal.model_validate(plain))
    code, _, err = legion("train", "--proposal", plain["id"], "--data", "data/classification", "--steps", "20")
    assert code == 1
    assert "failed" in err
