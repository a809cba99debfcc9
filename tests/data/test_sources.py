"""Raw assets become clean rows: unescaped, deduplicated, without contradictions."""

from __future__ import annotations

import json

import pytest

from legion.foundation.errors import AssetError
from legion.neuro_architecture.data.sources import headlines, rated_sentences


def ratings(tmp_path, *lines):
    path = tmp_path / "ratings.tsv"
    path.write_bytes("".join("\t".join(map(str, line)) + "\r\n" for line in lines).encode())
    return rated_sentences(path)


def articles(tmp_path, *texts):
    path = tmp_path / "articles.jsonl"
    path.write_text("".join(json.dumps({"id": f"tech/{n}", "text": text}) + "\n" for n, text in enumerate(texts)))
    return headlines(path)


def test_only_clear_opinions_are_kept(tmp_path):
    rows = ratings(tmp_path, (1, 0.5, "fine"), (2, 0.49, "hm"), (3, -0.5, "poor"), (4, -3.9, "awful"), (5, 0, "so"))
    assert [(row.id, row.target) for row in rows] == [("1", "positive"), ("3", "negative"), ("4", "negative")]


def test_text_is_unescaped(tmp_path):
    assert ratings(tmp_path, (1, 2.0, "Tom &amp; Jerry&#39;s"))[0].text == "Tom & Jerry's"


def test_repeated_text_comes_once_and_a_contradiction_not_at_all(tmp_path):
    rows = ratings(tmp_path, (1, 2, "Good  film"), (2, 1, "good film"), (3, 2, "Both"), (4, -2, "both"))
    assert [row.id for row in rows] == ["1"]


def test_sentences_of_one_article_are_a_group(tmp_path):
    rows = ratings(tmp_path, ("7_1", 2, "one"), ("7_2", 2, "two"), ("8", 2, "three"))
    assert [row.group for row in rows] == ["7", "7", None]


def test_line_of_another_form_is_named(tmp_path):
    with pytest.raises(AssetError, match=r"ratings.tsv:2"):
        ratings(tmp_path, (1, 2, "one"), (2, "two"))
    with pytest.raises(AssetError, match=r"ratings.tsv:1"):
        ratings(tmp_path, (1, "much", "one"))


def test_first_line_is_the_headline(tmp_path):
    (row,) = articles(tmp_path, "Ads  boost profit\n\nFirst  paragraph.\n\nSecond.\n")
    assert (row.id, row.target, row.text) == ("tech/0", "Ads boost profit", "First paragraph.\nSecond.")


def test_bodies_and_headlines_come_once_and_empty_articles_not_at_all(tmp_path):
    rows = articles(tmp_path, "A\nsame body", "B\nSame  body", "a\nother body", "only a headline", "", "C\nthird")
    assert [row.target for row in rows] == ["A", "C"]


def test_article_of_another_form_is_named(tmp_path):
    (tmp_path / "articles.jsonl").write_text('{"id": "x"}\n')
    with pytest.raises(AssetError, match=r"articles.jsonl:1"):
        headlines(tmp_path / "articles.jsonl")
