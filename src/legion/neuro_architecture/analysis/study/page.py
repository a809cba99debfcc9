"""A study as one HTML page that needs no network and runs no script."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from importlib import resources
from typing import Any, Final

from legion.neuro_architecture.analysis.study.cleaning import number, text
from legion.neuro_architecture.analysis.study.drawing import draw_svg_of
from legion.neuro_architecture.analysis.study.front import front_picture
from legion.neuro_architecture.analysis.study.pictures import study_pictures
from legion.neuro_architecture.analysis.study.record import Study, read_study
from legion.neuro_architecture.analysis.study.tables import final_table, front_table
from legion.neuro_architecture.analysis.study.wording import count

__all__ = ["study_page"]

_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
_STYLE: Final = (
    ".picture{background:#fff;margin:0 0 16px;padding:0}.picture svg{display:block;max-width:100%;height:auto}"
)


def study_page(record: Mapping[str, Any]) -> str:
    """The page: what the study is, its front, every picture, and the tables; every text of the record is escaped.

    Raises:
        WorldError: the extra `charts` is not installed.
    """
    study = read_study(record)
    pictures = study_pictures(record)
    planes = [front_picture(record, x=axis.name) for axis in study.objectives[2:]]
    body = [
        _header(study),
        _section("Front", *map(_card, [pictures.pop("front"), *planes]), _scroll(front_table(study))),
        _section("Trained again from several seeds", _scroll(final_table(study))),
        _section("How the search went", *(_card(pictures[name]) for name in ("hypervolume", "rungs", "curves"))),
        _section("What can be learned from it", *(_card(pictures[name]) for name in ("importance", "parallel"))),
        _section("Whether cheap runs can be trusted", _card(pictures["fidelity"])),
    ]
    return _document(study, "".join(body))


def _document(study: Study, body: str) -> str:
    style = resources.files("legion.neuro_architecture.analysis").joinpath("report.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(study.name or study.about)}: study</title><style>{style}{_STYLE}</style></head>"
        f"<body><main>{body}</main></body></html>\n"
    )


def _header(study: Study) -> str:
    facts = [
        (count(len(study.trials), "trial"), "in the record"),
        (str(len(study.trained)), "fully trained"),
        (str(sum(trial.id in study.front for trial in study.trained)), "on the front"),
        (study.state or "unknown", "state of the study"),
    ]
    cards = "".join(f'<div class="fact"><b>{escape(value)}</b><span>{name}</span></div>' for value, name in facts)
    return (
        f"<header><h1>{escape(study.name or 'Study')}</h1><p>{escape(_about(study))}</p></header>"
        f'<p class="verdict">{escape(_asked(study))}</p><div class="facts">{cards}</div>'
    )


def _about(study: Study) -> str:
    seed = number(study.raw.get("seed"))
    return study.about + (f", seed {seed:.0f}" if seed is not None else "")


def _asked(study: Study) -> str:
    wanted = [f"{axis.name} ({axis.direction})" for axis in study.objectives]
    constraints = study.raw.get("constraints")
    kept = [text(item) for item in constraints] if isinstance(constraints, list | tuple) else []
    asked = f"Searched along {', '.join(wanted)}" if wanted else "The study names no objective"
    return f"{asked}, under {' and '.join(kept)}." if kept else f"{asked}, without constraints."


def _section(title: str, *contents: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{''.join(contents)}</section>"


def _card(spec: Mapping[str, Any]) -> str:
    return f'<div class="card scroll picture">{draw_svg_of(spec)}</div>'


def _scroll(content: str) -> str:
    return f'<div class="card scroll">{content}</div>'
