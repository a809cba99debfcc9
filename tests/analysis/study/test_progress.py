"""How the search went: hypervolume, learning curves and rungs."""

from __future__ import annotations

from legion.neuro_architecture.analysis.study import curves_picture, hypervolume_picture, rungs_picture


def test_hypervolume_is_drawn_against_trials_and_against_seconds(record):
    spec = hypervolume_picture(record)
    assert [panel["encoding"]["x"]["field"] for panel in spec["hconcat"]] == ["trials", "spent_s"]
    for panel in spec["hconcat"]:
        assert panel["mark"]["interpolate"] == "step-after"
        assert [row["hypervolume"] for row in panel["data"]["values"]] == [0.12, 0.25]
    assert spec["title"]["subtitle"][1] == "reference point: accuracy 0.7, latency_ms 20"


def test_a_history_without_seconds_has_one_panel(record):
    record["history"] = [row | {"spent_s": None} for row in record["history"]]
    assert [panel["encoding"]["x"]["field"] for panel in hypervolume_picture(record)["hconcat"]] == ["trials"]


def curves(spec):
    return {row["id"]: row["fate"] for layer in spec["layer"] for row in layer["data"]["values"] if "id" in row}


def test_curves_are_coloured_by_what_became_of_the_trial(record):
    spec = curves_picture(record)
    assert curves(spec) == {
        "lora-aaaa00000001": "on the front",
        "lora-bbbb00000002": "on the front",
        "adapter-cccc00000003": "completed",
        "moe-dddd00000004": "completed",
        "lora-eeee00000005": "stopped",
        "lora-ffff00000006": "under way or paused",
        "lora-000000000007": "failed",
    }
    scale = spec["layer"][1]["encoding"]["color"]["scale"]
    colours = dict(zip(scale["domain"], scale["range"], strict=True))
    assert (colours["on the front"], colours["stopped"]) == ("#0072b2", "#b3bac6")
    assert spec["layer"][0]["data"]["values"] == [{"rung": 15, "text": "rung 15"}, {"rung": 60, "text": "rung 60"}]


def test_front_curves_lie_on_top(record):
    fates = [layer["data"]["values"][0]["fate"] for layer in curves_picture(record)["layer"][1:-1]]
    assert fates == ["stopped", "failed", "under way or paused", "completed", "on the front"]


def test_a_curve_of_one_sample_is_a_dot(record):
    dots = curves_picture(record)["layer"][-1]["data"]["values"]
    assert {row["id"] for row in dots} == {"lora-eeee00000005", "lora-ffff00000006", "lora-000000000007"}


def test_the_metric_is_shown_on_request_or_where_there_is_no_loss(record):
    def title(spec):
        return spec["layer"][1]["encoding"]["y"]["title"]

    assert title(curves_picture(record)) == "Validation loss, lower is better ↓"
    assert title(curves_picture(record, "metric")) == "Validation metric, higher is better ↑"
    for trial in record["trials"]:
        trial["curve"] = [[step, None, metric] for step, _, metric in trial["curve"]]
    assert title(curves_picture(record)) == "Validation metric, higher is better ↑"


def counted(spec):
    bars, *_, totals = (layer["data"]["values"] for layer in spec["layer"])
    return {(row["rung"], row["fate"]): row["count"] for row in bars}, [row["text"] for row in totals]


def test_rungs_count_what_entered_and_what_followed(record):
    fates, totals = counted(rungs_picture(record))
    assert totals == ["7 entered", "5 entered"]
    assert fates == {
        ("15 steps", "continued"): 5,
        ("15 steps", "paused"): 1,
        ("15 steps", "stopped"): 1,
        ("60 steps", "finished"): 4,
        ("60 steps", "failed"): 1,
    }


def test_a_paused_trial_that_went_on_counts_as_continued(record_of, trial_of):
    resumed = trial_of("lora-1", 0.8, 10.0, decisions=("pause", "end"))
    fates, _ = counted(rungs_picture(record_of([resumed])))
    assert fates == {("15 steps", "continued"): 1, ("60 steps", "finished"): 1}


def test_a_trial_before_its_first_report_is_under_way_and_a_skipped_one_never_entered(record_of, trial_of):
    trials = [trial_of("lora-1", state="", decisions=()), trial_of("lora-2", state="skipped", decisions=())]
    spec = rungs_picture(record_of(trials))
    assert counted(spec) == ({("15 steps", "under way"): 1}, ["1 entered", "0 entered"])
    assert spec["title"]["subtitle"][0].endswith("1 trial started, 1 skipped")


def test_segments_of_a_bar_follow_each_other(record):
    bars = [row for row in rungs_picture(record)["layer"][0]["data"]["values"] if row["rung"] == "15 steps"]
    assert [(row["start"], row["end"]) for row in bars] == [(0, 5), (5, 6), (6, 7)]
