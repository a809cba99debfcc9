"""The pages about strategies and portability say what the code does: parameters, defaults, grids, matrix, figures."""

import importlib.util
import json
import re
import sys
from functools import cache
from pathlib import Path

import pytest

from legion.cli.app import main
from legion.neuro_architecture.portability.matrix import family_facts
from legion.neuro_architecture.space.members import members, variants
from legion.neuro_architecture.space.peft_methods import METHODS
from legion.neuro_architecture.spec.architecture import (
    PEFT_SIZES,
    PeftArchitecture,
    parse_architecture,
    strategy_names,
)

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.glob("strategies/*.md"), DOCS / "portability.md"])
SHARED = {
    **dict.fromkeys(PEFT_SIZES, "peft-methods"),
    "PrefixTuning": "virtual-tokens",
    "PromptTuning": "virtual-tokens",
}
OWN = {"SplitLayer": "split-layer", "SparseRouting": "sparse-routing"}
# What is searched as a multiple of something else, or by names that depend on the base.
DERIVED = {"strategy", "alpha", "alpha_pattern", "rank_pattern", "target_modules", "layers"}


def _page(strategy):
    return DOCS / "strategies" / f"{SHARED.get(strategy, OWN.get(strategy, strategy.lower()))}.md"


def _rows(text):
    """Cells of every table row by the first cell, its backticks and links taken off."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {re.sub(r"^\[?`?([^`\]]*).*$", r"\1", row[0]): row for row in cells}


def _spelled(value):
    match value:
        case None | {}:
            return "none"
        case bool():
            return str(value).lower()
        case tuple():
            return ", ".join(value)
        case float() | int():
            return f"{value:g}"
    return str(value)


def _anchors(text):
    titles = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@cache
def _table():
    """`benchmarks/strategy_table.py`, which is no package."""
    spec = importlib.util.spec_from_file_location("strategy_table", ROOT / "benchmarks" / "strategy_table.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _between(text, name):
    return text.partition(f"<!-- {name}:begin -->\n")[2].partition(f"\n<!-- {name}:end -->")[0]


def _results(name):
    path = ROOT / "benchmarks" / "results" / name
    return json.loads(path.read_text()) if path.is_file() else None


@pytest.mark.parametrize("strategy", strategy_names())
def test_every_strategy_has_its_title_and_its_row_in_the_index(strategy):
    text = _page(strategy).read_text()
    assert re.search(rf"^#+ {strategy}$|^# .*\b{strategy}\b", text, flags=re.MULTILINE)
    told = (DOCS / "strategies" / "index.md").read_text().partition("<!-- measured:begin -->")[0]
    row = _rows(told)[strategy]
    assert _page(strategy).name in row[0]
    assert re.search(r"arXiv:\d{4}\.\d{5}", row[1])


@pytest.mark.parametrize("strategy", strategy_names())
def test_every_parameter_stands_on_the_page_with_its_default(strategy):
    architecture = parse_architecture({"strategy": strategy})
    rows = _rows(_page(strategy).read_text())
    for name in type(architecture).model_fields:
        value = getattr(architecture, name)
        if name == "strategy" or (isinstance(architecture, PeftArchitecture) and value is None and name != "layers"):
            assert name in rows or name == "strategy"
        else:
            assert rows[name][1] == _spelled(value), name


@pytest.mark.parametrize("strategy", strategy_names())
def test_every_value_that_is_searched_stands_in_its_parameters_row(strategy):
    anatomy = family_facts("llama").anatomy
    rows = _rows(_page(strategy).read_text())
    plain = members(strategy, anatomy)
    found = [config for config, _ in plain + variants(strategy, anatomy, plain)]
    assert found
    for name in set(type(found[0]).model_fields) - DERIVED:
        values = {getattr(config, name) for config in found} - {None}
        row = rows[strategy] if strategy in PEFT_SIZES else rows[name]
        if len(values) > 1 and not values <= {True, False} and (strategy, name) != ("SplitLayer", "top_k"):
            told = re.findall(r"[\w.]*\w", row[3 if strategy in PEFT_SIZES else 2])
            assert {_spelled(value) for value in values} <= set(told), name


@pytest.mark.parametrize("strategy", PEFT_SIZES)
def test_the_table_of_methods_is_the_table_in_the_code(strategy):
    method, row = METHODS[strategy], _rows(_page(strategy).read_text())[strategy]
    assert row[1] == (f"`{PEFT_SIZES[strategy]}`" if PEFT_SIZES[strategy] else "–")
    assert row[2] == _spelled(parse_architecture({"strategy": strategy}).size).replace("none", "–")
    assert row[3] == (", ".join(map(str, method.sizes)) or "–")
    assert row[5].startswith("rebuilds W") == method.rebuilds_weight
    assert row[6] == ("yes" if method.takes_transposed else "no")
    assert row[7] == f"{method.rate_factor:g}"


def test_the_matrix_in_the_docs_is_what_the_command_prints(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["portability", "--markdown"])
    assert ended.value.code == 0
    printed = capsys.readouterr().out.rstrip("\n")
    # To refresh: paste what `legion portability --markdown` prints between the markers of docs/portability.md.
    assert _between((DOCS / "portability.md").read_text(), "matrix") == printed


def test_the_measured_table_is_that_of_the_results():
    results = _results("strategies.json") or {"rows": {}}
    assert _between((DOCS / "strategies" / "index.md").read_text(), "measured") == _table().render(results)


def test_what_averaging_costs_is_that_of_the_results():
    report = _results("adamix.json")
    expected = _table().NOT_MEASURED if report is None else _table().render_averaging(report)
    assert _between((DOCS / "strategies" / "moe.md").read_text(), "averaging") == expected


def test_a_block_is_put_between_its_own_markers_alone():
    text = "a\n<!-- one:begin -->\nold\n<!-- one:end -->\n<!-- two:begin -->\nkept\n<!-- two:end -->\n"
    inserted = _table().insert(text, "new", "one")
    assert inserted == text.replace("old", "new")
    assert _table().insert(inserted, "new", "one") == inserted


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_resolves(page):
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if anchor:
            assert anchor in _anchors(file.read_text()), target
