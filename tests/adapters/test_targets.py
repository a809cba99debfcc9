"""Names of linear layers, patterns of paths, and what does not fit."""

from __future__ import annotations

import re

import pytest

from legion.foundation.errors import AdapterError
from legion.neuro_architecture.adapters import LoRAAdapter
from legion.neuro_architecture.adapters.targets import choose_linears, path_pattern
from legion.neuro_architecture.anatomy import inspect_model
from legion.neuro_architecture.spec.architecture import LoRAArchitecture


def chosen(model, **fields) -> list[str]:
    return [linear.path for linear in choose_linears(inspect_model(model), LoRAArchitecture(**fields))]


def test_all_linear_means_every_linear_of_the_blocks_and_no_head(build):
    model = build("llama", "tokens")
    assert len(chosen(model)) == 3 * 7
    assert not any("lm_head" in path for path in chosen(model))
    assert len(chosen(build("bert"), layers=(0, 2))) == 2 * 6


def test_short_name_means_all_that_end_so(build):
    assert chosen(build("bert"), target_modules=("dense",), layers=(1,)) == [
        "bert.encoder.layer.1.attention.output.dense",
        "bert.encoder.layer.1.intermediate.dense",
        "bert.encoder.layer.1.output.dense",
    ]
    assert len(chosen(build("gpt2"), target_modules=("c_proj",), layers=(1,))) == 2


def test_full_name_means_one(build):
    assert chosen(build("bert"), target_modules=("output.dense",), layers=(1,)) == ["bert.encoder.layer.1.output.dense"]
    assert chosen(build("gpt2"), target_modules=("attn.c_proj",), layers=(0,)) == ["transformer.h.0.attn.c_proj"]


def test_overlapping_names_choose_a_layer_once(build):
    paths = chosen(build("bert"), target_modules=("all-linear", "dense", "output.dense"))
    assert len(paths) == len(set(paths)) == 18


def test_unknown_name_says_what_there_is(build):
    with pytest.raises(AdapterError, match="'q_proj' in the blocks of bert") as caught:
        LoRAAdapter(target_modules=["query", "q_proj"]).apply(build("bert"))
    assert "all-linear, query, key, value, attention.output.dense" in caught.value.cause


def test_part_of_a_name_is_no_name(build):
    for name in ("que", "put.dense", "self.query", ".*"):
        with pytest.raises(AdapterError, match="no linear layer called"):
            LoRAAdapter(target_modules=[name]).apply(build("bert"))


def test_rank_above_a_width_names_target_and_widths(build):
    with pytest.raises(
        AdapterError, match=r"rank 17 exceeds the width of model\.layers\.0\.self_attn\.k_proj"
    ) as caught:
        LoRAAdapter(rank=17).apply(build("llama"))
    assert "model.layers.0.self_attn.k_proj maps 32 to 16" in caught.value.cause
    assert caught.value.hint == "rank is at most 16 here"
    LoRAAdapter(rank=16).apply(build("llama"))


def test_one_name_may_be_given_as_text(build):
    assert LoRAAdapter(target_modules="query").architecture.target_modules == ("query",)


@pytest.mark.parametrize("indices", [(0, 1, 2), (1,), (2, 10, 12)])
def test_pattern_matches_exactly_its_paths(indices):
    tails = ("output", "output.dense", "attention.self.query")
    every = [f"bert.encoder.layer.{index}.{tail}" for index in range(13) for tail in (*tails, "intermediate.dense")]
    wanted = {f"bert.encoder.layer.{index}.{tail}" for index in indices for tail in tails}
    matched = {path for path in every if re.fullmatch(path_pattern(sorted(wanted)), path)}
    assert matched == wanted
    assert not re.fullmatch(path_pattern(sorted(wanted)), "bertXencoder.layer.1.output")


def test_pattern_keeps_uneven_choices_apart():
    wanted = {"h.0.mlp", "h.1.mlp", "h.1.attn.c_attn"}
    every = {f"h.{index}.{tail}" for index in range(3) for tail in ("mlp", "attn.c_attn")}
    assert {path for path in every if re.fullmatch(path_pattern(sorted(wanted)), path)} == wanted


def test_path_outside_a_block_is_refused():
    with pytest.raises(AdapterError, match="not inside a numbered block"):
        path_pattern(["lm_head"])
