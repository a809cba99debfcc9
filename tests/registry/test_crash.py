"""Kills writers at random instants, and lets many write at once."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading

from legion.neuro_architecture.registry import ArchitectureRegistry

WRITER = """
import sys
from pathlib import Path
from legion.neuro_architecture.registry import ArchitectureRegistry

root, weights, attempt, count = sys.argv[1:]
registry = ArchitectureRegistry(root)
print("ready", flush=True)
for step in range(int(count)):
    note = Path(weights).with_name(f"note-{attempt}-{step}.txt")
    note.write_text(f"{attempt} {step} " * 2000)
    files = {"weights.safetensors": Path(weights), "note.txt": note}
    snapshot = registry.register(f"{attempt}.{step}", {"strategy": "LoRA", "rank": 1 + step % 3}, {}, files=files)
    print(snapshot.digest, flush=True)
"""


def start_writer(root, weights, attempt, count):
    command = [sys.executable, "-c", WRITER, str(root), str(weights), str(attempt), str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_nothing_acknowledged_is_lost_and_nothing_torn_is_visible_after_kill(root, weights):
    draw = random.Random(7)
    acknowledged = []
    for attempt in range(8):
        writer = start_writer(root, weights, attempt, 10_000)
        assert writer.stdout.readline() == "ready\n"
        acknowledged += [writer.stdout.readline().strip() for _ in range(draw.randrange(6))]
        threading.Event().wait(draw.uniform(0.0, 0.01))  # so that the kill lands anywhere inside a registration
        writer.send_signal(signal.SIGKILL)
        rest, _ = writer.communicate()
        acknowledged += [line for line in rest.split("\n")[:-1] if line]

        registry = ArchitectureRegistry(root)
        known = {snapshot.digest for snapshot in registry.list_all()}
        assert set(acknowledged) <= known
        assert len(known) <= len(acknowledged) + attempt + 1
        report = registry.verify()
        assert report.problems == []
        for snapshot in registry.list_all()[-3:]:
            registry.verify_files(snapshot)
    assert acknowledged


def test_processes_and_threads_that_write_at_once_lose_nothing(root, weights):
    writers = [start_writer(root, weights, attempt, 6) for attempt in ("a", "b")]
    registry = ArchitectureRegistry(root)
    errors: list[BaseException] = []

    def write(name):
        try:
            for step in range(5):
                registry.register(f"{name}.{step}", {"strategy": "MoE"}, {})
                registry.list_all()
        except BaseException as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=write, args=(name,)) for name in ("x", "y", "z")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for writer in writers:
        writer.communicate()
        assert writer.returncode == 0
    assert errors == []
    assert len(registry.list_all()) == 2 * 6 + 3 * 5
    moe = [snapshot for snapshot in registry.list_all() if snapshot.config["strategy"] == "MoE"]
    assert [snapshot.revision for snapshot in moe] == list(range(1, 16))
    assert registry.verify().is_clean


def test_registry_loads_no_torch():
    code = (
        "import sys, legion.neuro_architecture.registry, legion.neuro_architecture.integrator;"
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'peft')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
