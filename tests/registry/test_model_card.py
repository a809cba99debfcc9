"""The card says what the snapshot records, what is not known, and nothing else; hostile text stays text."""

from __future__ import annotations

import re

import pytest
import yaml
from tests.registry.bundles import METRICS, PROVENANCE, snapshot_of

from legion.foundation.canonical import digest_bytes
from legion.foundation.errors import InvalidValueError
from legion.neuro_architecture.registry import KnownAsset, make_model_card
from legion.neuro_architecture.registry.intervals import interval_of, measurements_of

ASSETS = {"minilm-l6": KnownAsset(licence="Apache-2.0", source="sentence-transformers/all-MiniLM-L6-v2")}


def front_matter(card):
    _, head, _ = card.split("---\n", 2)
    return yaml.safe_load(head)


def rows_below(card, heading):
    section = card.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    return [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in section.splitlines()
        if line.startswith("| ")
    ]


def test_every_metric_stands_there_with_its_interval_or_with_why_it_is_absent():
    card = make_model_card(snapshot_of(), assets=ASSETS)
    found = {row[0].replace("\\", ""): row for row in rows_below(card, "Measured")[1:]}
    measured = measurements_of(METRICS)
    assert set(found) == set(measured)
    for name, each in measured.items():
        _, value, between, count = found[name]
        if each.value is None:
            assert value.startswith("absent: ")
            continue
        assert float(value.split()[0]) == pytest.approx(each.value, rel=1e-5)
        interval = interval_of(each)
        if interval is not None:
            low, high = (float(bound) for bound in between.split(" to "))
            assert (low, high) == pytest.approx(interval, rel=1e-5)
        assert count == ("" if each.n is None else str(each.n))


def test_each_fact_is_either_shown_or_listed_as_unknown():
    for snapshot in (snapshot_of(), snapshot_of(provenance={}, metrics={}, blobs={}, tags=())):
        card = make_model_card(snapshot, assets={})
        unknown = {row[0] for row in rows_below(card, "Not known")[1:]}
        assert {"base_licence", "data_licence"} <= unknown
        shown = {
            row[0]
            for name in ("Where it comes from", "How it was trained and measured")
            if f"## {name}" in card
            for row in rows_below(card, name)
        }
        assert not shown & unknown
        for name in ("base", "task", "data_digest", "commit", "recipe", "seed"):
            assert (name in shown) != (name in unknown)
    assert "No measurement is recorded." in card
    assert front_matter(card) == {"library_name": "peft", "tags": ["legion-neuro-rewriter"]}


def test_the_front_matter_is_what_hubs_read():
    assert front_matter(make_model_card(snapshot_of(), assets=ASSETS)) == {
        "base_model": PROVENANCE["base"]["name"],
        "license": "apache-2.0",
        "pipeline_tag": "text-classification",
        "library_name": "peft",
        "tags": ["legion-neuro-rewriter"],
    }


def test_digest_parent_and_files_are_named():
    parent = digest_bytes(b"parent")
    snapshot = snapshot_of(parent=parent, revision=2)
    card = make_model_card(snapshot)
    assert snapshot.digest in card
    assert parent in card
    assert all(digest in card for digest in snapshot.blobs.values())


def test_the_same_snapshot_gives_the_same_card():
    assert make_model_card(snapshot_of(), assets=ASSETS) == make_model_card(snapshot_of(), assets=ASSETS)


@pytest.mark.parametrize("text", ["a\n---\nlicense: mit", "x | y |\n## Measured", "`end` <script>", '": {a: b}'])
def test_text_from_outside_ends_no_line_no_cell_and_no_front_matter(text):
    snapshot = snapshot_of(
        provenance=PROVENANCE | {"base": {"name": text, "digest": text, "model_type": "bert"}, "task": text},
        metrics={"accuracy": 0.5, text: None, "absent": {text: text}, "units": {text: text}},
    ).model_copy(update={"version": text, "blobs": {"note.json": text}, "tags": (text,)})
    card = make_model_card(snapshot)
    assert front_matter(card)["base_model"] == text
    assert "license" not in front_matter(card)
    headings = [line for line in card.splitlines() if line.startswith("#")]
    assert [line for line in headings if line.startswith("## ")] == [
        "## What it is",
        "## Where it comes from",
        "## How it was trained and measured",
        "## Measured",
        "## Not known",
        "## For a person to say",
    ]
    assert "<script>" not in re.sub(r"`[^`]*`", "", card.split("---\n", 2)[2])
    assert all(len(row) == 4 for row in rows_below(card, "Measured"))


def test_a_level_that_is_none_is_refused():
    with pytest.raises(InvalidValueError):
        make_model_card(snapshot_of(), level=1.0)
