"""What is chosen, by whom, and that a machine is measured once."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from legion.foundation.errors import ConfigError, InvalidValueError
from legion.foundation.settings import Settings
from legion.neuro_architecture.packed import dispatch
from legion.neuro_architecture.packed.dispatch import Dispatch, choose_dispatch

CPU = torch.device("cpu")
OPEN = {"attention": "auto", "precision": "auto", "workers": 0, "group_blocks": 0, "threads": 2}


@pytest.fixture
def open_settings(settings):
    return dataclasses.replace(settings, **OPEN)


@pytest.fixture
def measured(monkeypatch):
    """Times as a machine would give them, and how often it was asked."""
    asked = []

    def pretend(**times):
        found = {"eager": 1.0, "sdpa": 2.0, "one": 1.0, "eight": 1.0, "half": 9.0, "side": 1.0} | times
        monkeypatch.setattr(dispatch, "_attention_s", lambda kernel: asked.append(kernel) or found[kernel])
        monkeypatch.setattr(
            dispatch,
            "_block_s",
            lambda members, dtype: (
                found["half"]
                if dtype is torch.bfloat16
                else members * (found["eight"] if members == 8 else found["one"])
            ),
        )
        monkeypatch.setattr(dispatch, "_side_by_side_s", lambda workers: found["side"])
        return asked

    return pretend


def test_everything_named_is_measured_by_nobody(settings, measured):
    asked = measured()
    chosen = choose_dispatch(settings, CPU)
    assert chosen == Dispatch(kernel="eager", precision="float32", workers=1, group_blocks=8, reason="settings")
    assert asked == []
    assert not (settings.home / "dispatch.json").exists()


def test_a_machine_is_measured_once(open_settings, measured):
    asked = measured()
    first = choose_dispatch(open_settings, CPU)
    assert choose_dispatch(open_settings, CPU) == first
    assert sorted(asked) == ["eager", "sdpa"]
    assert "measured" in first.reason


@pytest.mark.parametrize(
    ("times", "features", "expected"),
    [
        ({"sdpa": 0.5}, (), {"kernel": "sdpa"}),
        ({"half": 0.1}, (), {"precision": "float32"}),
        ({"half": 0.1}, ("amx_bf16",), {"precision": "bfloat16"}),
        ({"half": 0.99}, ("avx512_bf16",), {"precision": "float32"}),
        ({"side": 1.9}, (), {"workers": 2}),
        ({"side": 2.1}, (), {"workers": 1}),
        ({"eight": 0.5}, (), {"group_blocks": 16}),
        ({"eight": 1.5}, (), {"group_blocks": 8}),
    ],
)
def test_the_faster_is_taken(times, features, expected, open_settings, measured, monkeypatch):
    measured(**times)
    monkeypatch.setattr(dispatch, "cpu_features", lambda: features)
    chosen = choose_dispatch(open_settings, CPU).to_dict()
    assert {name: chosen[name] for name in expected} == expected


def test_settings_go_before_the_measurement(open_settings, measured):
    measured(sdpa=0.5)
    chosen = choose_dispatch(dataclasses.replace(open_settings, attention="eager", group_blocks=3), CPU)
    assert (chosen.kernel, chosen.group_blocks) == ("eager", 3)
    assert chosen.reason.startswith("settings (group_blocks, kernel)")


def test_a_real_measurement_ends_and_leaves_torch_as_it_was(open_settings, monkeypatch):
    monkeypatch.setattr(dispatch, "_SECONDS_EACH", 0.0)
    threads, state = torch.get_num_threads(), torch.random.get_rng_state()
    chosen = choose_dispatch(open_settings, CPU)
    assert chosen.workers in (1, 2)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_damaged_file_is_named(open_settings):
    open_settings.home.mkdir(parents=True, exist_ok=True)
    (open_settings.home / "dispatch.json").write_text("[]")
    with pytest.raises(Exception, match=r"dispatch\.json") as caught:
        choose_dispatch(open_settings, CPU)
    assert "delete" in caught.value.hint


@pytest.mark.parametrize(("name", "value"), [("precision", "float16"), ("attention", "flash"), ("workers", "-1")])
def test_impossible_settings_are_refused(name, value, settings):
    with pytest.raises(ConfigError, match=name):
        Settings.load(**{name: value})
    with pytest.raises(InvalidValueError):
        Dispatch.parse({"workers": 0}, what="dispatch")
