"""The chart as data: what it shows, what it cannot show and why."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from legion.foundation.errors import UnknownNameError
from legion.neuro_architecture.analysis import axis_names, front_chart
from legion.neuro_architecture.spec.measurement import Measurement


def test_a_chart_is_plain_json(summary):
    for name in axis_names():
        chart = front_chart(summary, x=name)
        assert json.loads(json.dumps(chart, allow_nan=False)) == chart


def test_every_measured_candidate_is_a_point_and_every_other_is_excluded_with_its_reason(summary):
    chart = front_chart(summary)
    assert [point["id"] for point in chart["points"]] == [result.proposal_id for result in summary.results[:-1]]
    assert chart["excluded"] == [{"id": "moe-dead00000008", "reason": "the trial is failed: loss <nan>"}]
    assert chart["empty_reason"] is None


def test_points_carry_values_errors_strategy_and_front(summary):
    point = front_chart(summary)["points"][0]
    assert (point["x"], point["y"], point["x_error"], point["y_error"]) == (1.31, 0.838, 0.02, 0.012)
    assert (point["strategy"], point["on_front"], point["rank"]) == ("LoRA", True, 1)


def test_axes_name_unit_and_direction(summary):
    chart = front_chart(summary)
    assert chart["x"]["label"] == "Latency against the bare base (ratio of medians, batch 1), lower is better ←"
    assert chart["y"]["label"] == "Test accuracy (share), higher is better ↑"
    assert front_chart(summary, x="robustness", y="cost")["x"]["label"].endswith("higher is better →")
    assert front_chart(summary, x="robustness", y="cost")["y"]["label"].endswith("lower is better ↓")


def test_accuracy_is_called_by_the_task_s_metric(summary):
    assert front_chart(summary.model_copy(update={"metric": "rouge_l"}))["y"]["title"] == "Test ROUGE-L"


def test_the_baseline_is_marked_where_it_was_measured(summary):
    baseline = front_chart(summary)["baseline"]
    assert (baseline["x"], baseline["y"], baseline["y_error"]) == (1.0, 0.79, 0.0128)
    assert front_chart(summary, x="cost", y="score")["baseline"]["x"] == 1.0
    assert front_chart(summary, x="adapter_size_bytes")["baseline"] is None


def test_an_empty_chart_says_why(summary_of, summary):
    assert front_chart(summary_of([]))["empty_reason"] == "no candidate has been evaluated"
    failed = front_chart(summary_of([summary.results[-1]]))
    assert (
        failed["empty_reason"]
        == "none of 1 candidates can be placed: moe-dead00000008: the trial is failed: loss <nan>"
    )
    assert failed["points"] == failed["front_line"] == []


def test_an_unknown_axis_is_refused_with_the_nearest_name(summary):
    with pytest.raises(UnknownNameError, match="latency_rato") as caught:
        front_chart(summary, x="latency_rato")
    assert "latency_ratio" in caught.value.hint


def test_labels_are_as_short_as_they_stay_distinct(summary_of, result_of):
    chart = front_chart(summary_of([result_of("lora-abcd11110000"), result_of("lora-abcd22220000")]))
    assert [point["label"] for point in chart["points"]] == ["lora-abcd1", "lora-abcd2"]


def test_the_line_is_a_staircase_through_the_best_trade_offs(summary_of, result_of):
    places = [(1.1, 0.80), (1.2, 0.84), (1.3, 0.82), (1.4, 0.86)]
    runs = [result_of(f"lora-{index:012x}", accuracy, ratio) for index, (ratio, accuracy) in enumerate(places)]
    line = front_chart(summary_of(runs))["front_line"]
    assert line == [[1.1, 0.80], [1.2, 0.80], [1.2, 0.84], [1.4, 0.84], [1.4, 0.86]]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(places=st.lists(st.tuples(st.floats(1, 3), st.floats(0, 1)), min_size=1, max_size=8), flip=st.booleans())
def test_the_line_only_turns_at_right_angles_and_no_point_is_beyond_it(summary_of, result_of, places, flip):
    runs = [result_of(f"lora-{index:012x}", accuracy, ratio) for index, (ratio, accuracy) in enumerate(places)]
    axes = {"x": "accuracy", "y": "latency_ratio"} if flip else {"x": "latency_ratio", "y": "accuracy"}
    chart = front_chart(summary_of(runs), **axes)
    line = chart["front_line"]
    assert all(one[0] == other[0] or one[1] == other[1] for one, other in pairwise(line))
    for point in chart["points"]:
        ratio, accuracy = (point["y"], point["x"]) if flip else (point["x"], point["y"])
        corners = [(corner[1], corner[0]) if flip else tuple(corner) for corner in line]
        assert any(r <= ratio and a >= accuracy for r, a in corners)


def test_absent_measurements_exclude_a_candidate(summary_of, result_of):
    run = result_of()
    measurements = run.measurements | {"accuracy": Measurement.absent("share", "no test row")}
    chart = front_chart(summary_of([run.model_copy(update={"measurements": measurements})]))
    assert chart["excluded"] == [{"id": run.proposal_id, "reason": "no test row"}]
