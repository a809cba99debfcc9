"""What holds for every picture: it is plain JSON, it draws, and when it is empty it says why."""

from __future__ import annotations

import json

import pytest

from legion.neuro_architecture.analysis.study import STUDY_PICTURES, draw_png, study_pictures

PNG = b"\x89PNG\r\n\x1a\n"
EARLY = "no trial has reached the last rung yet: 12 are at 15 of 150 steps, 1 failed"
NAMES = ("front", "hypervolume", "curves", "rungs", "fidelity", "importance", "parallel")


def test_the_pictures_have_these_names(record):
    assert tuple(STUDY_PICTURES) == tuple(study_pictures(record)) == NAMES


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["record", "early", "barren", "hostile"])
def test_every_picture_is_plain_json_and_draws(name, kind, request):
    spec = STUDY_PICTURES[name](request.getfixturevalue(kind))
    assert json.loads(json.dumps(spec, allow_nan=False)) == spec
    assert spec["$schema"] == "https://vega.github.io/schema/vega-lite/v5.json"
    assert spec["title"]["text"]
    assert spec["title"]["subtitle"]
    assert draw_png(spec, scale=0.5).startswith(PNG)


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_with_something_in_it_gives_no_reason(name, record):
    assert STUDY_PICTURES[name](record)["usermeta"] == {"empty_reason": None}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("front", EARLY),
        ("hypervolume", EARLY),
        ("fidelity", EARLY),
        ("importance", EARLY),
        ("parallel", EARLY),
    ],
)
def test_a_study_under_way_says_how_far_it_is(name, reason, early):
    spec = STUDY_PICTURES[name](early)
    assert spec["usermeta"]["empty_reason"] == reason
    assert spec["data"]["values"] == [{"reason": reason}]
    assert " ".join(spec["mark"]["text"]) == reason


@pytest.mark.parametrize("name", set(NAMES) - {"front"})
def test_a_study_without_trials_says_so(name, barren):
    assert STUDY_PICTURES[name](barren)["usermeta"]["empty_reason"] == "no trial has been started yet"


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("front", {"objectives": []}, "a plane needs two objectives, and the study has 0 objectives"),
        ("front", {"trials": []}, "no trial has been started yet"),
        ("hypervolume", {"history": []}, "the study has kept no history of its hypervolume"),
        (
            "hypervolume",
            {"history": [], "reference_point": None},
            "the study has no reference point to measure hypervolume from",
        ),
        ("rungs", {"rungs": []}, None),
        ("fidelity", {"fidelity": []}, "the study has compared no cheap run with a dear one"),
        (
            "fidelity",
            {"fidelity": [{"cheap": "a", "dear": "b", "tau": None, "pairs": [], "reason": "only 1 trial"}]},
            "the fidelity is not known: only 1 trial",
        ),
        (
            "importance",
            {"objectives": []},
            "no share can be told from 4 fully trained trials: the traits or the objectives do not vary enough",
        ),
    ],
)
def test_every_empty_picture_has_its_own_reason(name, changes, reason, record):
    assert STUDY_PICTURES[name](record | changes)["usermeta"]["empty_reason"] == reason


def test_other_empty_pictures_say_why(record_of, trial_of):
    skipped = record_of([trial_of("lora-1", state="skipped", decisions=())])
    assert STUDY_PICTURES["rungs"](skipped)["usermeta"]["empty_reason"] == "every trial was skipped"
    rungless = record_of([trial_of("lora-1", 0.8, 10.0, decisions=())], rungs=[])
    reason = "the study has no rungs: every trial is trained to its end"
    assert STUDY_PICTURES["rungs"](rungless)["usermeta"]["empty_reason"] == reason
    curves = STUDY_PICTURES["curves"](rungless)["usermeta"]["empty_reason"]
    assert curves == "none of 1 trial has kept a validation loss"
    alone = STUDY_PICTURES["parallel"](rungless)["usermeta"]["empty_reason"]
    assert alone == "fewer than two traits and objectives vary among 1 fully trained trial"


def test_a_long_task_name_does_not_widen_a_picture(record):
    for spec in study_pictures(record | {"task": "long " * 50}).values():
        assert max(map(len, spec["title"]["subtitle"])) < 140


def test_numbers_that_are_none_or_not_finite_are_absent(record):
    broken = json.loads(json.dumps(record))
    for trial in broken["trials"]:
        trial |= {"errors": None, "violation": None, "rungs": None, "traits": None, "curve": [[15, None, None], None]}
        trial["values"] = {"accuracy": float("nan"), "latency_ms": None}
    broken |= {"baseline": {"name": None, "values": None, "errors": None}, "reference_point": [None, float("inf")]}
    broken["history"] = [{"trials": None, "spent_s": None, "hypervolume": None}]
    broken["fidelity"] = [dict.fromkeys(broken["fidelity"][0]), {"pairs": [[None, 1.0], "no pair"], "tau": True}]
    for spec in study_pictures(broken).values():
        assert json.dumps(spec, allow_nan=False)
        assert draw_png(spec, scale=0.5).startswith(PNG)
