"""The page stands alone: no network, no script, no unescaped text, and everything that was measured."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from legion.neuro_architecture.analysis import render_report
from legion.neuro_architecture.spec.measurement import Measurement


class Page(HTMLParser):
    """Collects tags and text, and checks that tags close in order."""

    VOID = frozenset({"meta", "rect", "line", "circle", "polygon", "polyline", "br"})

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def page(summary, tmp_path):
    path = render_report(summary, tmp_path / "deep" / "report.html")
    return Page(path.read_text(encoding="utf-8"))


def test_tags_close_in_order(page):
    assert page.open == []


def test_the_page_needs_nothing_from_outside(page):
    assert {"script", "link", "img", "iframe", "object"}.isdisjoint(tag for tag, _ in page.tags)
    assert all("src" not in attrs and "href" not in attrs for _, attrs in page.tags)
    policies = [attrs["content"] for tag, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'"]


def test_every_candidate_stands_in_the_table_and_the_failed_one_says_why(page, summary):
    for result in summary.results:
        assert result.proposal_id in page.text
    assert "not measured: the trial is failed: loss <nan>" in page.text


def test_foreign_text_is_shown_and_not_interpreted(page):
    assert "The <b>male</b> lead & co." in page.text
    assert "A note with <angle> brackets." in page.text
    assert "a <fast> processor" in page.text
    assert not any(tag in {"b", "angle", "fast"} and "class" in attrs for tag, attrs in page.tags)


def test_errors_units_weights_machine_and_data_are_there(page, summary):
    assert "± 0.012" in page.text
    assert "FLOP/example" in page.text
    assert "abababababab" in page.text
    assert "2026-01-31 12:00 UTC" in page.text
    for name in summary.weights_used:
        assert name in page.text
    assert "metric / the bare base's" in page.text


def test_forgetting_has_a_column_where_a_causal_model_was_adapted(page, result_of, summary_of, tmp_path):
    assert "forgetting" not in page.text
    result = result_of()
    found = result.measurements | {"forgetting": Measurement.measured(0.127, "nats", n=32, error=0.004)}
    written = summary_of([result.model_copy(update={"measurements": found})], task_kind="summarization")
    text = Page(render_report(written, tmp_path / "causal.html").read_text(encoding="utf-8")).text
    assert "forgetting" in text
    assert "0.127 ± 0.004" in text


def test_three_charts_are_drawn(page):
    assert sum(tag == "svg" and attrs.get("role") == "img" and "aria-label" in attrs for tag, attrs in page.tags) == 3


def test_a_summary_without_candidates_still_makes_a_page(summary_of, tmp_path):
    text = render_report(summary_of([]), tmp_path / "report.html").read_text(encoding="utf-8")
    assert "No candidate has a score" in text
    assert "no candidate has been evaluated" in text


def test_the_same_summary_makes_the_same_page(summary, tmp_path):
    one, other = (render_report(summary, tmp_path / f"{index}.html").read_bytes() for index in (1, 2))
    assert one == other
