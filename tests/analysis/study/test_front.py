"""The front: which mark shows which trial, and what joins them."""

from __future__ import annotations

import pytest

from legion.foundation.errors import UnknownNameError
from legion.neuro_architecture.analysis.study import front_picture

BARS_X, BARS_Y, STAIRCASE, POINTS, BASELINE, LEADS, NAMES = range(7)


def rows(spec, layer):
    return spec["layer"][layer]["data"]["values"]


def test_the_layers_are_bars_staircase_points_baseline_and_names(record):
    spec = front_picture(record)
    marks = [layer["mark"]["type"] for layer in spec["layer"][:NAMES]]
    assert marks == ["rule", "rule", "line", "point", "point", "rule"]
    assert spec["layer"][STAIRCASE]["mark"]["interpolate"] == "step-after"
    assert [item["mark"]["type"] for item in spec["layer"][NAMES]["layer"]] == ["text", "text"]


def test_axis_titles_say_which_way_is_better(record):
    encoding = front_picture(record)["encoding"]
    assert encoding["x"]["title"] == "Latency (ms), lower is better ←"
    assert encoding["y"]["title"] == "Accuracy (share), higher is better ↑"
    turned = front_picture(record, x="accuracy", y="latency_ms")
    assert turned["encoding"]["x"]["title"] == "Accuracy (share), higher is better →"
    assert turned["encoding"]["y"]["title"] == "Latency (ms), lower is better ↓"
    assert turned["layer"][STAIRCASE]["mark"]["interpolate"] == "step-before"


def test_every_fully_trained_trial_is_a_point_with_its_role(record):
    points = rows(front_picture(record), POINTS)
    assert [(row["id"], row["role"], row["x"], row["y"]) for row in points] == [
        ("lora-aaaa00000001", "on the front", 10.0, 0.80),
        ("lora-bbbb00000002", "on the front", 12.0, 0.84),
        ("adapter-cccc00000003", "dominated", 11.0, 0.79),
        ("moe-dddd00000004", "breaks a constraint", 15.0, 0.86),
    ]


def test_infeasible_trials_are_hollow_and_shapes_are_strategies(record):
    encoding = front_picture(record)["layer"][POINTS]["encoding"]
    assert encoding["fill"]["scale"] == {
        "domain": ["on the front", "dominated", "breaks a constraint"],
        "range": ["#0072b2", "#8791a3", "#ffffff"],
    }
    assert encoding["stroke"]["scale"]["range"] == ["#0072b2", "#8791a3", "#c4530a"]
    assert encoding["shape"]["scale"]["domain"] == ["Adapter", "LoRA", "MoE"]


def test_the_staircase_joins_the_best_that_keep_the_constraints(record):
    assert rows(front_picture(record), STAIRCASE) == [{"x": 10.0, "y": 0.80}, {"x": 12.0, "y": 0.84}]


def test_bars_are_drawn_where_an_error_is_known(record):
    spec = front_picture(record)
    assert rows(spec, BARS_X) == []
    bars = rows(spec, BARS_Y)
    assert [row["id"] for row in bars][-1] == "bare base"
    assert len(bars) == 5
    assert (bars[0]["y_low"], bars[0]["y_high"]) == pytest.approx((0.79, 0.81))


def test_the_baseline_is_its_own_mark(record):
    spec = front_picture(record)
    assert [(row["x"], row["y"], row["y_error"]) for row in rows(spec, BASELINE)] == [(9.0, 0.75, 0.02)]
    assert spec["layer"][BASELINE]["mark"]["shape"].startswith("M-0.6")
    assert rows(front_picture(record | {"baseline": None}), BASELINE) == []


def test_the_front_and_the_base_are_named_as_shortly_as_they_stay_distinct(record):
    assert sorted(row["text"] for row in rows(front_picture(record), NAMES)) == ["bare base", "lora-aaaa", "lora-bbbb"]


def test_everything_lies_within_the_domains(record):
    spec = front_picture(record)
    for key in "xy":
        low, high = spec["encoding"][key]["scale"]["domain"]
        for row in [*rows(spec, POINTS), *rows(spec, BASELINE)]:
            assert low < row[key] < high
        for row in rows(spec, NAMES):
            assert low <= row[f"text_{key}"] <= high


def test_a_trial_without_a_value_is_left_out_and_counted(record):
    del record["trials"][2]["values"]["latency_ms"]
    spec = front_picture(record)
    assert len(rows(spec, POINTS)) == 3
    assert spec["title"]["subtitle"][0].endswith("bars are one standard error; 1 trial left out for want of a value")
    for trial in record["trials"]:
        trial["values"] = trial["values"] and {"accuracy": 0.5}
    reason = "none of 4 fully trained trials has both accuracy and latency_ms"
    assert front_picture(record)["usermeta"]["empty_reason"] == reason


def test_an_objective_that_the_study_does_not_have_is_refused_with_the_nearest(record):
    with pytest.raises(UnknownNameError, match="latency") as caught:
        front_picture(record, x="latency_m")
    assert "latency_ms" in caught.value.hint
