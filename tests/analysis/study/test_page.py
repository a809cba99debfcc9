"""The page and the drawing: self-contained, escaped, and without a network."""

from __future__ import annotations

import builtins
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import pytest

from legion.foundation.errors import WorldError
from legion.neuro_architecture.analysis.study import draw_png, draw_svg_of, front_picture, study_page, study_pictures


class Page(HTMLParser):
    """Collects tags, attributes and text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def test_the_page_holds_every_picture_and_the_tables_of_the_front(record):
    page = Page(study_page(record))
    assert sum(tag == "svg" for tag, _ in page.tags) == 7
    for words in ("first search", "lora-aaaa00000001", "strategy LoRA, rank 16", "0.845", "0, 1, 2", "latency_ms<=14"):
        assert words in page.text
    assert sum(tag == "table" for tag, _ in page.tags) == 2


def test_a_third_objective_gets_its_own_plane(record):
    record["objectives"].append({"name": "memory_mb", "direction": "minimise", "unit": "MB"})
    assert sum(tag == "svg" for tag, _ in Page(study_page(record)).tags) == 8


@pytest.mark.parametrize("kind", ["record", "early", "barren", "hostile"])
def test_the_page_needs_nothing_from_outside_and_runs_nothing(kind, request):
    text = study_page(request.getfixturevalue(kind))
    page = Page(text)
    assert {"script", "link", "img", "image", "iframe", "object", "use"}.isdisjoint(tag for tag, _ in page.tags)
    for _, attrs in page.tags:
        assert not {"src", "href", "xlink:href"} & set(attrs)
        assert not [name for name in attrs if name.startswith("on")]
    policies = [attrs["content"] for _, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'"]
    assert text.encode("utf-8")


def test_hostile_text_is_shown_as_text(hostile):
    text = study_page(hostile)
    assert "<script" not in text
    assert "<script>alert('x')</script>&\"" in Page(text).text
    assert "\x00" not in text


@pytest.mark.parametrize("kind", ["record", "hostile"])
def test_every_svg_is_well_formed(kind, request):
    for spec in study_pictures(request.getfixturevalue(kind)).values():
        ET.fromstring(draw_svg_of(spec))  # noqa: S314 - our own text


def test_a_larger_scale_gives_a_larger_picture(record):
    def width(png):
        return int.from_bytes(png[16:20], "big")

    spec = front_picture(record)
    assert width(draw_png(spec)) == pytest.approx(2 * width(draw_png(spec, scale=1.0)), abs=1)


def test_without_the_extra_the_error_says_what_to_install(record, monkeypatch):
    imported = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name == "vl_convert":
            raise ImportError(name)
        return imported(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(WorldError, match="cannot be drawn") as caught:
        draw_png(front_picture(record))
    assert caught.value.hint == "pip install 'legion-neuro-rewriter[charts]'"
