"""Which modules of a model an architecture adapts, by exact path; what does not fit is an error with its reason."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from peft.utils.other import get_pattern_key

from legion.foundation.errors import AdapterError
from legion.neuro_architecture.anatomy import FfnSite, LayerAnatomy, LinearSite, ModelAnatomy
from legion.neuro_architecture.spec.architecture import LoRAArchitecture, PeftArchitecture, PeftStrategy, Placement

__all__ = ["ALL_LINEAR", "choose_ffn_sites", "choose_layers", "choose_linears", "path_pattern", "rank_at"]

ALL_LINEAR: Final = "all-linear"
# Methods whose rank is the height of a frozen random projection, which may exceed a layer's widths.
_ANY_RANK: Final[frozenset[PeftStrategy]] = frozenset({"VeRA"})


def choose_layers(anatomy: ModelAnatomy, indices: Sequence[int] | None) -> tuple[LayerAnatomy, ...]:
    """The blocks at `indices`, or all.

    Raises:
        AdapterError: an index is out of range.
    """
    if indices is None:
        return anatomy.layers
    wrong = [index for index in indices if not 0 <= index < anatomy.num_layers]
    if wrong:
        raise AdapterError(
            f"layers {', '.join(map(str, wrong))} are out of range",
            cause=f"{anatomy.model_type} has {anatomy.num_layers} blocks, 0 to {anatomy.num_layers - 1}",
        )
    return tuple(anatomy.layers[index] for index in indices)


def choose_linears(anatomy: ModelAnatomy, architecture: LoRAArchitecture | PeftArchitecture) -> tuple[LinearSite, ...]:
    """The linear layers that a LoRA, or another method of PEFT's, corrects.

    A name is the anatomy's own (`attention.output.dense`, `query`), or the last part of a path (`dense`), which means
    every linear of a block that ends so.

    Raises:
        AdapterError: a name is not there, a pattern fits no layer, or a rank exceeds a layer's width.
    """
    layers = choose_layers(anatomy, architecture.layers)
    chosen: dict[str, LinearSite] = {}
    for name in architecture.target_modules:
        sites = [linear for layer in layers for linear in layer.linears if _matches(name, linear)]
        if not sites:
            raise AdapterError(
                f"no linear layer called {name!r} in the blocks of {anatomy.model_type}",
                cause=f"there are {', '.join((ALL_LINEAR, *anatomy.linear_names))}",
            )
        chosen.update({site.path: site for site in sites})
    order = [linear for layer in layers for linear in layer.linears]
    ordered = tuple(linear for linear in order if linear.path in chosen)
    _refuse_wide_ranks(architecture, ordered)
    return ordered


def _matches(name: str, linear: LinearSite) -> bool:
    if name in (ALL_LINEAR, linear.name):
        return True
    return "." not in name and linear.path.rpartition(".")[2] == name


def rank_at(architecture: LoRAArchitecture, path: str) -> int:
    """The rank of one layer: of the patterns that fit, the alphabetically first holds, as in what PEFT has stored."""
    patterns = architecture.rank_pattern
    return patterns.get(get_pattern_key(sorted(patterns), path), architecture.rank)


def _refuse_wide_ranks(architecture: LoRAArchitecture | PeftArchitecture, linears: Sequence[LinearSite]) -> None:
    ranks: dict[str, int] = {}
    if isinstance(architecture, LoRAArchitecture):
        for pattern in (*architecture.rank_pattern, *architecture.alpha_pattern):
            _refuse_idle_pattern(pattern, linears)
        ranks = {site.path: rank_at(architecture, site.path) for site in linears}
    elif architecture.rank is not None and architecture.strategy not in _ANY_RANK:
        ranks = {site.path: architecture.rank for site in linears}
    narrow = [site for site in linears if ranks.get(site.path, 0) > min(site.in_features, site.out_features)]
    if narrow:
        raise AdapterError(
            f"rank {ranks[narrow[0].path]} exceeds the width of {narrow[0].path}",
            cause="\n".join(f"{site.path} maps {site.in_features} to {site.out_features}" for site in narrow),
            hint=f"rank is at most {min(min(site.in_features, site.out_features) for site in narrow)} here",
        )


def _refuse_idle_pattern(pattern: str, linears: Sequence[LinearSite]) -> None:
    try:
        fits = any(get_pattern_key([pattern], site.path) == pattern for site in linears)
    except re.error as error:
        raise AdapterError(f"pattern {pattern!r} is no regular expression", cause=str(error)) from error
    if not fits:
        raise AdapterError(
            f"pattern {pattern!r} fits none of the adapted layers",
            cause=f"the first of them is {linears[0].path}",
            hint="a pattern is the end of a layer's path from a dot on: 0.self_attn.q_proj, q_proj",
        )


def choose_ffn_sites(anatomy: ModelAnatomy, indices: Sequence[int] | None, placement: Placement) -> tuple[FfnSite, ...]:
    """Where a bottleneck or a mixture sits in the blocks at `indices`; `seq_layer` wraps the blocks themselves."""
    layers = choose_layers(anatomy, indices)
    if placement == "seq_layer":
        return tuple(FfnSite(path=layer.path, style="output") for layer in layers)
    return tuple(layer.par if placement == "par" else layer.seq for layer in layers)


def path_pattern(paths: Sequence[str]) -> str:
    """A regular expression that fully matches exactly these dotted paths, short where only block indices differ."""
    indices: dict[tuple[str, str], set[int]] = {}
    for path in paths:
        head, index, tail = _split_at_index(path)
        indices.setdefault((head, tail), set()).add(index)
    tails: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for (head, tail), found in indices.items():
        tails.setdefault((head, tuple(sorted(found))), []).append(tail)
    parts = [
        rf"{re.escape(head)}({'|'.join(map(str, found))})({'|'.join(map(re.escape, ends))})"
        for (head, found), ends in tails.items()
    ]
    return "|".join(parts)


def _split_at_index(path: str) -> tuple[str, int, str]:
    """`('encoder.layer.', 3, '.output')` of `encoder.layer.3.output`."""
    match = re.fullmatch(r"((?:.*?\.)??)(\d+)(\..*)?", path)
    if match is None:
        raise AdapterError(f"{path} is not inside a numbered block")
    return match[1], int(match[2]), match[3] or ""
