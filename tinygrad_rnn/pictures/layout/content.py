"""`Content`: what a box shows, before it has a position."""

from __future__ import annotations

from dataclasses import dataclass

from ..scene.scene import Box, BoxText
from ..scene.text import title_width
from ..scene.texts import box_size, title_size

_LEAST_WIDTH, _LEAST_HEIGHT = 44.0, 36.0
_BADGE = (46.0, 24.0)  # of a cut that scales, at least
_FIXED = {"cut": (30.0, 30.0), "delay": (42.0, 42.0)}  # boxes with a sign in them


@dataclass(frozen=True)
class Content(BoxText):
    """What a box shows, before it has a position.

    Attributes:
        least_height: minimum height, for the lines that end at its side.
    """

    least_height: float = 0.0

    def size(self, least: float = _LEAST_WIDTH) -> tuple[float, float]:
        """Return the width and height, in points, that its text needs, at least `least` wide."""
        if self.kind == "cut" and self.title:
            return max(_BADGE[0], round(title_width(self.title, title_size("cut", ()), True) + 15, 1)), _BADGE[1]
        if self.kind in _FIXED:
            return _FIXED[self.kind]
        width, height = box_size(self.kind, self.title, self.rows, least)
        return round(width, 1), round(max(height, _LEAST_HEIGHT, self.least_height), 1)

    def at(self, id: str, x: float, y: float, size: tuple[float, float] | None = None) -> Box:
        """Return the box with its centre at (x, y), in the size that its text needs unless `size` is given."""
        width, height = size or self.size()
        return Box(
            id, x, y, width, height, self.kind, self.title, self.rows, self.tooltip,
            strong=self.strong, factor=self.factor,
        )  # fmt: skip
