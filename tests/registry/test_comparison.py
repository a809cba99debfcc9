"""Two snapshots side by side."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.registry.bundles import METRICS, PROVENANCE, snapshot_of

from legion.foundation.canonical import canonical_json
from legion.foundation.errors import InvalidValueError
from legion.neuro_architecture.registry.comparison import compare_metric, diff_snapshots
from legion.neuro_architecture.registry.intervals import (
    difference_interval,
    interval_of,
    measurements_of,
    no_interval_because,
    other_evidence,
)
from legion.neuro_architecture.spec.measurement import Measurement

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.sampled_from([*METRICS, *PROVENANCE, "x", "y"]), JSON, max_size=4)
SHARES = st.builds(
    lambda hits, n, error: Measurement.measured(min(hits, n) / n, "share", n=n, error=error),
    st.integers(0, 50),
    st.integers(1, 50),
    st.none() | st.just(0.0) | st.floats(1e-6, 0.5),
)


def test_a_snapshot_differs_in_nothing_from_itself():
    found = diff_snapshots(snapshot_of(), snapshot_of())
    assert found.is_empty
    assert found.kinship == "the same"
    assert {item.verdict for item in found.metrics} == {"equal"}


def test_only_revision_parent_and_time_are_no_difference():
    one = snapshot_of()
    other = snapshot_of(revision=2, parent=one.digest, created_at="2026-02-02T00:00:00Z")
    assert diff_snapshots(one, other).is_empty
    assert diff_snapshots(one, other).kinship == "next revision"
    assert diff_snapshots(other, one).kinship == "previous revision"


def test_architectures_are_compared_field_by_field_with_defaults():
    one, other = snapshot_of(), snapshot_of({"strategy": "LoRA", "rank": 32, "use_dora": True})
    found = diff_snapshots(one, other)
    assert [str(change) for change in found.architecture] == ["rank: 8 -> 32", "use_dora: False -> True"]
    assert found.kinship == "other architecture"


def test_a_field_that_an_older_version_did_not_know_is_at_its_default():
    one = snapshot_of()
    older = one.model_copy(update={"config": {key: value for key, value in one.config.items() if key != "use_dora"}})
    assert older.config != one.config
    assert diff_snapshots(older, one).architecture == ()


def test_an_architecture_that_this_version_cannot_read_is_compared_as_it_is_written():
    one, other = (
        snapshot_of().model_copy(update={"config": {"strategy": "Dreams", "depth": depth}}) for depth in (1, 2)
    )
    assert [str(change) for change in diff_snapshots(one, other).architecture] == ["depth: 1 -> 2"]


CHANGES = {
    "data": ({"data_digest": "sha256:" + "1" * 64}, "data_digest"),
    "base": ({"base": PROVENANCE["base"] | {"name": "other"}}, "base.name"),
    "code": ({"is_dirty": True}, "is_dirty"),
    "training": ({"training": PROVENANCE["training"] | {"batch_size": 8}}, "recipe.batch_size"),
    "evaluation": ({"evaluation": PROVENANCE["evaluation"] | {"seed": 1}}, "evaluation.seed"),
    "environment": ({"machine": {"cpu": "other"}}, "evaluation_machine.cpu"),
    "other provenance": ({"reviewer": "somebody"}, "reviewer"),
}


@pytest.mark.parametrize("section", sorted(CHANGES))
def test_each_part_of_the_origin_has_its_section(section):
    changed, path = CHANGES[section]
    found = diff_snapshots(snapshot_of(), snapshot_of(provenance=PROVENANCE | changed))
    assert {name: [item.path for item in items] for name, items in found.sections.items() if items} == {section: [path]}
    assert not found.is_empty
    assert any(path in line for line in found.lines())


def test_files_tags_and_versions_are_compared():
    one = snapshot_of()
    blobs = {name: digest for name, digest in one.blobs.items() if name != "a.txt"} | {"b.txt": one.blobs["a.txt"]}
    found = diff_snapshots(one, snapshot_of(blobs=blobs, tags=("candidate", "x"), version="2"))
    assert [(change.path, change.is_before, change.is_after) for change in found.blobs] == [
        ("a.txt", True, False),
        ("b.txt", False, True),
    ]
    assert (found.tags_added, found.tags_removed) == (("x",), ("tiny",))
    assert str(found.version) == "version: 1.0 -> 2"


def test_true_is_not_one():
    found = diff_snapshots(snapshot_of(metrics={"x": {"y": [True]}}), snapshot_of(metrics={"x": {"y": [1]}}))
    assert [item.path for item in found.sections["other evidence"]] == ["x.y"]


def test_names_with_dots_hide_nothing():
    one, other = {"a": {"b": 1}, "a.b": 2}, {"a": {"b": 2}, "a.b": 1}
    found = diff_snapshots(snapshot_of(provenance=one), snapshot_of(provenance=other))
    assert len(found.sections["other provenance"]) == 2


def _with_accuracy(value, error, **more):
    metrics = {**METRICS, "accuracy": value, "errors": {**METRICS["errors"], "accuracy": error}}
    return snapshot_of(metrics=metrics | more)


def _accuracy(found):
    return next(item for item in found.metrics if item.name == "accuracy")


def test_a_difference_beyond_its_interval_is_told_apart_from_one_within():
    near = _accuracy(diff_snapshots(_with_accuracy(0.8, 0.04), _with_accuracy(0.85, 0.04)))
    far = _accuracy(diff_snapshots(_with_accuracy(0.8, 0.01), _with_accuracy(0.85, 0.01)))
    assert (near.verdict, near.do_overlap) == ("within", True)
    assert (far.verdict, far.do_overlap) == ("apart", False)
    assert far.interval == pytest.approx((0.05 - 1.959964 * 0.0141421, 0.05 + 1.959964 * 0.0141421), abs=1e-6)
    assert far.difference == pytest.approx(0.05)


def test_overlapping_intervals_do_not_mean_within():
    """The two single intervals may share points though their difference is not 0: both are told."""
    found = _accuracy(diff_snapshots(_with_accuracy(0.8, 0.01), _with_accuracy(0.835, 0.01)))
    assert (found.verdict, found.do_overlap) == ("apart", True)


def test_what_was_not_measured_is_unknown_with_the_reason():
    other = snapshot_of(metrics={**METRICS, "peak_memory_mb": 7.0, "absent": {}})
    found = next(item for item in diff_snapshots(snapshot_of(), other).metrics if item.name == "peak_memory_mb")
    assert found.verdict == "unknown"
    assert found.reason == "not measured in the first: not asked for"
    gone = snapshot_of(metrics={})
    missing = next(item for item in diff_snapshots(snapshot_of(), gone).metrics if item.name == "accuracy")
    assert missing.reason == "the second snapshot does not name it"


def test_numbers_in_other_units_are_not_subtracted():
    found = compare_metric("x", Measurement.measured(1, "ms"), Measurement.measured(1, "s"))
    assert (found.verdict, found.difference, found.reason) == ("unknown", None, "in ms and s")


def test_whether_the_examples_were_the_same_is_told():
    one = snapshot_of()
    assert diff_snapshots(one, one).is_same_examples is True
    seeded = snapshot_of(provenance=PROVENANCE | {"evaluation": PROVENANCE["evaluation"] | {"seed": 1}})
    assert diff_snapshots(one, seeded).is_same_examples is False
    assert diff_snapshots(one, snapshot_of(provenance={})).is_same_examples is None
    assert "taken as independent" in "\n".join(diff_snapshots(one, _with_accuracy(0.9, 0.01)).lines())


def test_an_impossible_level_is_refused():
    for level in (0.0, 1.0, 95.0):
        with pytest.raises(InvalidValueError, match="confidence level"):
            diff_snapshots(snapshot_of(), snapshot_of(), level=level)


@given(OBJECTS, OBJECTS)
def test_a_comparison_is_empty_exactly_where_the_content_is_equal(metrics, provenance):
    one, other = snapshot_of(), snapshot_of(metrics=metrics, provenance=provenance)
    assert diff_snapshots(other, other).is_empty
    found = diff_snapshots(one, other)
    json.dumps(found.to_dict(), allow_nan=False)
    is_equal = canonical_json([one.metrics, one.provenance]) == canonical_json([metrics, provenance])
    assert found.is_empty == is_equal


@given(OBJECTS, OBJECTS)
def test_the_other_way_round_it_says_the_opposite(metrics, provenance):
    one, other = snapshot_of(), snapshot_of(metrics=metrics, provenance=provenance)
    there, back = diff_snapshots(one, other), diff_snapshots(other, one)
    for name, changes in there.sections.items():
        assert [(item.path, item.after, item.before) for item in back.sections[name]] == [
            (item.path, item.before, item.after) for item in changes
        ]
    for ahead, behind in zip(there.metrics, back.metrics, strict=True):
        assert ahead.verdict == behind.verdict
        assert ahead.difference is None or ahead.difference == -behind.difference


@given(OBJECTS)
def test_metrics_are_measured_or_other_evidence_and_nothing_is_lost(metrics):
    measured, rest = measurements_of(metrics), other_evidence(metrics)
    assert set(metrics) - set(measured) - set(rest) <= {"units", "counts", "errors", "absent"}


@given(SHARES, SHARES, st.floats(0.5, 0.999))
def test_intervals_hold_their_number_and_turn_with_the_sign(one, other, level):
    for found in (one, other):
        lower, upper = interval_of(found, level)
        assert lower <= found.value <= upper
        assert upper > lower
        if not found.error:
            assert 0.0 <= lower <= upper <= 1.0
    ahead, back = difference_interval(one, other, level), difference_interval(other, one, level)
    assert ahead[0] <= other.value - one.value <= ahead[1]
    assert back == pytest.approx((-ahead[1], -ahead[0]))


def test_shares_have_newcombes_interval():
    """Newcombe 1998, table II, method 10, of 56/70 and 48/80."""
    one, other = Measurement.measured(48 / 80, "share", n=80), Measurement.measured(56 / 70, "share", n=70)
    assert difference_interval(one, other) == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_shares_at_the_edge_have_no_point_for_an_interval():
    """Newcombe 1998, table II, of 10/10 and 0/10."""
    one = Measurement.measured(0.0, "share", n=10, error=0.0)
    other = Measurement.measured(1.0, "share", n=10, error=0.0)
    assert difference_interval(one, other) == pytest.approx((0.6075, 1.0), abs=5e-5)
    assert interval_of(one)[1] == pytest.approx(0.2775, abs=5e-5)


def test_a_number_without_error_has_no_interval_and_says_why():
    assert no_interval_because(Measurement.measured(5, "bytes", n=1)) == "no standard error is stored"
    assert "bounds nothing" in no_interval_because(Measurement.measured(1, "ratio", n=9, error=0.0))
    assert "not asked" in no_interval_because(Measurement.absent("ms", "not asked"))
    assert no_interval_because(Measurement.measured(0.5, "share", n=9)) is None
