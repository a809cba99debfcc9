"""Where the names go: beside their points, off the other points and off each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

__all__ = ["Box", "Label", "place_labels"]

_CHARACTER_WIDTH: Final = 6.8
_HEIGHT: Final = 14.0
_MARKER: Final = 8.0
_DIRECTIONS: Final = ((1, 0), (-1, 0), (0, -1), (0, 1), (1, -1), (1, 1), (-1, -1), (-1, 1))
_DISTANCES: Final = (12.0, 24.0, 40.0, 58.0)
_SOFT: Final = 0.25  # a line under a name disturbs less than another name
_AMBIGUOUS: Final = 30.0  # a name nearer to another point is misread


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in pixels."""

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: Box) -> float:
        """Area shared with `other`."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(0.0, width) * max(0.0, height)

    def distance(self, x: float, y: float) -> float:
        """From the nearest place of the rectangle to a point."""
        return math.hypot(max(self.left - x, x - self.right, 0.0), max(self.top - y, y - self.bottom, 0.0))

    def outside(self, frame: Box) -> float:
        """Area that lies outside `frame`."""
        return (self.right - self.left) * (self.bottom - self.top) - self.overlap(frame)


@dataclass(frozen=True, slots=True)
class Label:
    """A placed name.

    Attributes:
        text: The name.
        x: Where it starts.
        y: Its base line.
        anchor: The point it belongs to.
        box: Its rectangle.
        is_far: Whether it needs a line to its point.
    """

    text: str
    x: float
    y: float
    anchor: tuple[float, float]
    box: Box
    is_far: bool


def place_labels(
    wanted: Sequence[tuple[str, float, float, bool]],
    *,
    frame: Box,
    obstacles: Sequence[Box] = (),
    lines: Sequence[Box] = (),
) -> list[Label]:
    """Places the names one after the other, each where it covers least.

    Args:
        wanted: Name, x, y, and whether it must be shown; the most important first. A name that need not be shown is
            left out where it would cover something.
        frame: Names stay inside.
        obstacles: What no name may cover, beside the points themselves.
        lines: What a name should rather not cover.
    """
    markers = [Box(x - _MARKER, y - _MARKER, x + _MARKER, y + _MARKER) for _, x, y, _ in wanted]
    solid = [*markers, *obstacles]
    placed: list[Label] = []
    for text, x, y, is_needed in wanted:
        options = [_label(text, x, y, direction, distance) for distance in _DISTANCES for direction in _DIRECTIONS]
        costs = [
            sum(option.box.overlap(box) for box in (*solid, *(label.box for label in placed)))
            + option.box.outside(frame) * 4.0
            for option in options
        ]
        soft = [_SOFT * sum(option.box.overlap(box) for box in lines) for option in options]
        strays = [_strays(option, wanted) for option in options]
        total = [
            cost + line + _reach(option) + stray * _AMBIGUOUS
            for cost, line, option, stray in zip(costs, soft, options, strays, strict=True)
        ]
        best = total.index(min(total))
        if is_needed or costs[best] == 0.0:
            placed.append(replace(options[best], is_far=options[best].is_far or strays[best]))
    return placed


def _reach(label: Label) -> float:
    """Far places cost a little, so that a near free one wins."""
    return abs(label.y - label.anchor[1]) * 0.3 + abs((label.box.left + label.box.right) / 2 - label.anchor[0]) * 0.05


def _strays(label: Label, wanted: Sequence[tuple[str, float, float, bool]]) -> bool:
    """Whether another point is nearer to the name than its own."""
    nearest = min(wanted, key=lambda item: label.box.distance(item[1], item[2]))
    return (nearest[1], nearest[2]) != label.anchor


def _label(text: str, x: float, y: float, direction: tuple[int, int], distance: float) -> Label:
    width = len(text) * _CHARACTER_WIDTH
    across, down = direction
    middle_x = x + across * (distance + width / 2) if across else x
    middle_y = y + down * (distance + (2.0 if across == 0 else 0.0))
    box = Box(middle_x - width / 2, middle_y - _HEIGHT / 2, middle_x + width / 2, middle_y + _HEIGHT / 2)
    return Label(text, box.left, middle_y + _HEIGHT * 0.28, (x, y), box, distance > _DISTANCES[1])
