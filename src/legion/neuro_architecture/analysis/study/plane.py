"""The paper under the front: its domains, and where the names of points go on it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from legion.neuro_architecture.analysis.labels import Box, Label, place_labels
from legion.neuro_architecture.analysis.study.wording import short_names

__all__ = ["Plane"]

Row = Mapping[str, Any]
_MARGIN: Final = 0.07
_MARKER: Final = 7.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plane:
    """Two axes of known length, so that a place on them is known in pixels before anything is drawn."""

    x_domain: tuple[float, float]
    y_domain: tuple[float, float]
    width: int = 640
    height: int = 400

    @classmethod
    def around(cls, rows: Sequence[Row]) -> Plane:
        """The plane that holds all rows with their error bars."""
        return cls(x_domain=_domain(rows, "x"), y_domain=_domain(rows, "y"))

    def names(
        self, front: Sequence[Row], best: Collection[tuple[float, float]], rows: Sequence[Row], bases: Sequence[Row]
    ) -> list[dict[str, Any]]:
        """Names of the front and the base, off the points and off each other.

        Args:
            front: What has a name; where its place is not one of the best, only if there is room for it.
            best: Places on the staircase.
            rows: All points; no name lies on them.
            bases: The bare base, or nothing.

        Returns:
            Rows with `text`, its place `text_x` and `text_y` and on which side of that it ends (`align`), the point `x`
            and `y`, and where it lies far from it (`is_far`) the end `end_x`, `end_y` of the line that joins them.
        """
        short = short_names([row["id"] for row in front])
        wanted = [("bare base", *self._pixels(row), True) for row in bases]
        named = [(short[row["id"]], *self._pixels(row), (row["x"], row["y"]) in best) for row in front]
        wanted += sorted(named, key=lambda name: not name[3])
        obstacles = [self._marker(row) for row in rows]
        bars = [box for row in (*rows, *bases) for box in self._bars(row)]
        frame = Box(0, 0, self.width, self.height)
        return [self._name(label) for label in place_labels(wanted, frame=frame, obstacles=obstacles, lines=bars)]

    def _pixels(self, row: Row) -> tuple[float, float]:
        return self._across(row["x"]), self._down(row["y"])

    def _across(self, value: float) -> float:
        low, high = self.x_domain
        return (value - low) / (high - low) * self.width

    def _down(self, value: float) -> float:
        low, high = self.y_domain
        return (high - value) / (high - low) * self.height

    def _value(self, across: float, down: float) -> tuple[float, float]:
        (left, right), (low, high) = self.x_domain, self.y_domain
        return left + across / self.width * (right - left), high - down / self.height * (high - low)

    def _marker(self, row: Row) -> Box:
        x, y = self._pixels(row)
        return Box(x - _MARKER, y - _MARKER, x + _MARKER, y + _MARKER)

    def _bars(self, row: Row) -> Iterable[Box]:
        x, y = self._pixels(row)
        if row["x_low"] is not None:
            yield Box(self._across(row["x_low"]), y - 2, self._across(row["x_high"]), y + 2)
        if row["y_low"] is not None:
            yield Box(x - 2, self._down(row["y_high"]), x + 2, self._down(row["y_low"]))

    def _name(self, label: Label) -> dict[str, Any]:
        x, y = label.anchor
        end_x = min(max(x, label.box.left), label.box.right)
        end_y = label.box.top + 2 if label.box.top > y else label.box.bottom - 2 if label.box.bottom < y else y
        text_x, align = _towards(x, label.box)
        places = (("", label.anchor), ("text_", (text_x, label.y)), ("end_", (end_x, end_y)))
        found: dict[str, Any] = {"text": label.text, "is_far": label.is_far, "align": align}
        for prefix, place in places:
            found |= dict(zip((f"{prefix}x", f"{prefix}y"), self._value(*place), strict=True))
        return found


def _towards(x: float, box: Box) -> tuple[float, str]:
    """Where a name is set so that it is near its point, though letters are narrower than their box."""
    if box.right < x:
        return box.right, "right"
    return (box.left, "left") if box.left > x else ((box.left + box.right) / 2, "center")


def _domain(rows: Sequence[Row], key: str) -> tuple[float, float]:
    found = [row[name] for row in rows for name in (key, f"{key}_low", f"{key}_high") if row[name] is not None]
    low, high = min(found), max(found)
    margin = (high - low) * _MARGIN or abs(high) * _MARGIN or 1.0
    return low - margin, high + margin
