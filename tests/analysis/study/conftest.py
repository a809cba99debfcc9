"""Records of studies made by hand."""

from __future__ import annotations

import copy

import pytest

HOSTILE = "<script>alert('x')</script>&\"\x00\ud800"


def make_trial(name, accuracy=None, latency=None, *, state="completed", decisions=("continue", "end"), **changes):
    """A trial on the rungs 15 and 60; with an accuracy it is fully trained."""
    values = None if accuracy is None else {"accuracy": accuracy, "latency_ms": latency}
    reports = [
        {"steps": steps, "values": {"accuracy": 0.7}, "errors": {}, "decision": decision, "reason": None}
        for steps, decision in zip((15, 60), decisions, strict=False)
    ]
    fields = {
        "id": name,
        "traits": {"strategy": "LoRA", "rank": 8, "learning_rate": 0.001},
        "generation": 0,
        "origin": "tpe",
        "state": state,
        "reason": None,
        "is_exploratory": False,
        "rungs": reports,
        "values": values,
        "errors": {"accuracy": 0.01} if values else {},
        "violation": 0.0,
        "rank": None,
        "spent_s": 2.0,
        "curve": [[15, 0.6, 0.7], [60, 0.5, 0.8]][: len(decisions)],
    }  # fmt: skip
    return fields | changes


def make_record(trials, **changes):
    fields = {
        "name": "first search",
        "task": "classification",
        "base": "minilm-l6",
        "seed": 7,
        "state": "finished",
        "objectives": [
            {"name": "accuracy", "direction": "maximise", "unit": "share"},
            {"name": "latency_ms", "direction": "minimise", "unit": "ms"},
        ],
        "constraints": ["latency_ms<=14"],
        "reference_point": [0.7, 20.0],
        "rungs": [15, 60],
        "trials": trials,
        "history": [
            {"trials": 1, "spent_s": 2.0, "hypervolume": None},
            {"trials": 4, "spent_s": 8.0, "hypervolume": 0.12},
            {"trials": 6, "spent_s": 11.5, "hypervolume": 0.25},
        ],
        "baseline": {
            "name": "bare base", "values": {"accuracy": 0.75, "latency_ms": 9.0}, "errors": {"accuracy": 0.02}
        },
        "fidelity": [
            {
                "cheap": "15 steps", "dear": "60 steps", "tau": 0.61, "low": 0.4, "high": 0.8, "recall_top_tenth": 0.5,
                "n": 3, "pairs": [[0.7, 0.80], [0.6, 0.82], [0.8, 0.90]], "reason": None,
            },
            {
                "cheap": "free score", "dear": "60 steps", "tau": None, "low": None, "high": None,
                "recall_top_tenth": None, "n": None, "pairs": [], "reason": "all scores are equal",
            },
        ],
        "front": ["lora-aaaa00000001", "lora-bbbb00000002"],
        "final": [
            {
                "id": "lora-bbbb00000002", "seeds": [0, 1, 2],
                "values": {"accuracy": 0.845}, "errors": {"accuracy": 0.004},
            }
        ],
    }  # fmt: skip
    return fields | changes


@pytest.fixture
def record():
    """Four fully trained trials, two of them on the front and one infeasible; a stopped, a paused and a failed one."""
    return make_record(
        [
            make_trial("lora-aaaa00000001", 0.80, 10.0),
            make_trial("lora-bbbb00000002", 0.84, 12.0, traits={"strategy": "LoRA", "rank": 16, "learning_rate": 0.01}),
            make_trial("adapter-cccc00000003", 0.79, 11.0, traits={"strategy": "Adapter", "bottleneck": 32}),
            make_trial("moe-dddd00000004", 0.86, 15.0, traits={"strategy": "MoE", "experts": 4}, violation=0.07),
            make_trial("lora-eeee00000005", state="stopped", decisions=("stop",)),
            make_trial("lora-ffff00000006", state="paused", decisions=("pause",)),
            make_trial("lora-000000000007", state="failed", decisions=("continue",), reason="loss is not finite"),
        ]
    )


@pytest.fixture
def early():
    """Nothing has reached the last rung."""
    trials = [make_trial(f"lora-{place:012x}", state="paused", decisions=("pause",)) for place in range(12)]
    trials += [make_trial("moe-000000000012", state="failed", decisions=())]
    return make_record(trials, rungs=[15, 150], history=[], fidelity=[], front=[], final=[], state="running")


@pytest.fixture
def barren():
    """A record in which everything that may be absent is."""
    return dict.fromkeys(make_record([]))


@pytest.fixture
def hostile(record):
    """A record whose every text is hostile."""

    def poison(value, key=""):
        if isinstance(value, dict):
            return {name: poison(item, name) for name, item in value.items()}
        if isinstance(value, list):
            return [poison(item, key) for item in value]
        kept = {"state", "direction", "decision"}
        return HOSTILE + value if isinstance(value, str) and key not in kept else value

    found = poison(copy.deepcopy(record))
    for trial in found["trials"]:
        trial["traits"] = {HOSTILE + name: value for name, value in trial["traits"].items()}
        trial["values"] = trial["values"] and {HOSTILE + name: value for name, value in trial["values"].items()}
    found["baseline"]["values"] = {HOSTILE + name: value for name, value in found["baseline"]["values"].items()}
    return found


@pytest.fixture
def trial_of():
    """Makes one trial."""
    return make_trial


@pytest.fixture
def record_of():
    """Makes a record of trials."""
    return make_record
