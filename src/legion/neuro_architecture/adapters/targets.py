"""Which modules of a model an architecture adapts, by exact path; what does not fit is an error with its reason."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from legion.foundation.errors import AdapterError
from legion.neuro_architecture.anatomy import FfnSite, LayerAnatomy, LinearSite, ModelAnatomy
from legion.neuro_architecture.spec.architecture import LoRAArchitecture, Placement

__all__ = ["ALL_LINEAR", "choose_ffn_sites", "choose_layers", "choose_linears", "path_pattern"]

ALL_LINEAR: Final = "all-linear"


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


def choose_linears(anatomy: ModelAnatomy, architecture: LoRAArchitecture) -> tuple[LinearSite, ...]:
    """The linear layers that a LoRA corrects.

    A name is the anatomy's own (`attention.output.dense`, `query`), or the last part of a path (`dense`), which means
    every linear of a block that ends so.

    Raises:
        AdapterError: a name is not there, or the rank exceeds a layer's width.
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
    _refuse_wide_ranks(architecture.rank, chosen.values())
    order = [linear for layer in layers for linear in layer.linears]
    return tuple(linear for linear in order if linear.path in chosen)


def _matches(name: str, linear: LinearSite) -> bool:
    if name in (ALL_LINEAR, linear.name):
        return True
    return "." not in name and linear.path.rpartition(".")[2] == name


def _refuse_wide_ranks(rank: int, linears: Iterable[LinearSite]) -> None:
    narrow = [linear for linear in linears if rank > min(linear.in_features, linear.out_features)]
    if narrow:
        raise AdapterError(
            f"rank {rank} exceeds the width of {narrow[0].path}",
            cause="\n".join(f"{site.path} maps {site.in_features} to {site.out_features}" for site in narrow),
            hint=f"rank is at most {min(min(site.in_features, site.out_features) for site in narrow)} here",
        )


def choose_ffn_sites(anatomy: ModelAnatomy, indices: Sequence[int] | None, placement: Placement) -> tuple[FfnSite, ...]:
    """Where a bottleneck or a mixture sits in the blocks at `indices`."""
    layers = choose_layers(anatomy, indices)
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
