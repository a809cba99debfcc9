"""The drawing is one well-formed picture that needs nothing from outside."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest

from legion.neuro_architecture.analysis import draw_svg, front_chart

SVG = "{http://www.w3.org/2000/svg}"


def parse(svg):
    return ET.fromstring(svg)  # noqa: S314 - our own text


def shown(svg):
    return " ".join(item.text or "" for item in parse(svg).iter(f"{SVG}text"))


@pytest.mark.parametrize("width", [560, 800, 1080])
def test_the_picture_is_well_formed_and_holds_every_sign(summary, width):
    svg = draw_svg(front_chart(summary), width=width)
    text = shown(svg)
    assert "lower is better ←" in text
    assert "bare base" in text
    for name in ("LoRA", "Adapter", "MoE", "lora-7f3a", "adapter-11ab", "moe-c0de"):
        assert name in text
    assert len(parse(svg).findall(f".//{SVG}polyline")) == 1
    assert len(re.findall("lc-bar", svg.split("</style>")[1])) >= 2 * 7


def test_nothing_is_fetched_and_nothing_runs(summary):
    svg = draw_svg(front_chart(summary))
    assert "<script" not in svg
    assert "href" not in svg
    assert "url(" not in svg


def test_dark_paper_is_provided_for(summary):
    assert "prefers-color-scheme:dark" in draw_svg(front_chart(summary))


def test_an_empty_chart_is_a_sentence(summary_of):
    assert "no candidate has been evaluated" in shown(draw_svg(front_chart(summary_of([]))))


def test_text_is_escaped(summary):
    named = summary.model_copy(update={"task": "<script>&"})
    assert "<script>&; bars" not in draw_svg(front_chart(named))
    assert "<script>&" in shown(draw_svg(front_chart(named)))


def test_one_point_without_errors_can_be_drawn(summary_of, result_of):
    chart = front_chart(summary_of([result_of()], baseline={}), x="peak_memory_mb", y="adapter_size_bytes")
    assert chart["baseline"] is None
    assert "lora-7f3a" in shown(draw_svg(chart))


def test_every_mark_lies_on_the_picture(summary):
    svg = draw_svg(front_chart(summary), width=700)
    for circle in parse(svg).iter(f"{SVG}circle"):
        assert 0 < float(circle.get("cx")) < 700
        assert 0 < float(circle.get("cy")) < 460
