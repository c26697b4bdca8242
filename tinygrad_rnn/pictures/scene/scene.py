"""A scene: the parts of a picture with their positions, independent of the format in which it is written.

Views (unrolled, rolled, operations, backward) build scenes; writers (svg, dot, html) read them. Units are points
(1/72 inch), x to the right, y down, positions are centres. A magnitude is the norm of a cotangent; its scale, from
value to thickness and colour, belongs to the scene, so that all its edges share one legend.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

BoxKind = Literal[
    "input",
    "state",
    "operation",
    "loss",
    "parameter",
    "constant",
    "delay",
    "cut",
    "elision",
    "frame",
    "product",
    "view",
    "joined",
    "result",
]
EdgeKind = Literal["value", "gradient", "cut", "border", "next", "influence"]
RegionKind = Literal["step", "window", "module", "cell"]


@dataclass(frozen=True)
class Row:
    """A line of small text in a box; `magnitude` colours its last column, `warn` marks it (non-finite, vanishing).

    A tab separates columns, which are aligned over the rows of one box; the first one is then bold.
    """

    text: str
    magnitude: float | None = None
    warn: bool = False


@dataclass(frozen=True)
class Rectangle:
    """A rectangle in the picture, its centre at (`x`, `y`); `id` is derived from creation order, so it is stable."""

    id: str
    x: float
    y: float
    width: float
    height: float

    @property
    def left(self) -> float:
        """The x of its left side."""
        return self.x - self.width / 2

    @property
    def right(self) -> float:
        """The x of its right side."""
        return self.x + self.width / 2

    @property
    def top(self) -> float:
        """The y of its upper side."""
        return self.y - self.height / 2

    @property
    def bottom(self) -> float:
        """The y of its lower side."""
        return self.y + self.height / 2


@dataclass(frozen=True)
class BoxText:
    """What a box shows.

    Attributes:
        kind: what it represents, shown by colour and shape, never by colour alone. "cut" with a `factor` of 0 is
            drawn as scissors; with another factor as a round badge with the title ("× 0.5").
            The last four are of compiled graphs: matrix products, views, what joins arrays, and results.
            "frame" is the border of an opened cell, with its title in a corner; a "cell" Region lies below it.
        title: one line; "h_{3}" sets 3 as a subscript; single letters are set in italics.
        rows: small lines below the title.
        tooltip: shown on hover, lines separated by a line feed.
        strong: drawn with a heavier border: the total loss, among its terms.
        factor: of a cut.
    """

    kind: BoxKind
    title: str
    rows: tuple[Row, ...] = ()
    tooltip: str = ""
    strong: bool = False
    factor: float = 0.0


@dataclass(frozen=True)
class Box(BoxText, Rectangle):
    """A node of the picture: what it shows, and its position."""


@dataclass(frozen=True)
class Edge:
    """A line from box to box (or to a point on a bus), drawn through `points`, corners rounded.

    Attributes:
        id: unique.
        tail, head: ids of boxes; "" where it starts or ends on another line.
        points: two or more corners, from tail to head, in the direction in which *values* flow.
        kind: "value" (no gradient is known or asked for), "gradient" (has a magnitude), "cut" (value passes, gradient
            does not: dashed), "border" (no edge of the graph: the border between two windows), "next" (leads back,
            into the next step), or "influence" (what a policy carries forward beside the state).
        magnitude: norm of the cotangent that comes back along it, or None.
        arrow: whether there is a head at its end.
        curved: through a spline instead of rounded corners; `points` are then cubic Bezier points, 1 + 3n of them.
        tooltip: shown on hover.
    """

    id: str
    tail: str
    head: str
    points: tuple[tuple[float, float], ...]
    kind: EdgeKind = "value"
    magnitude: float | None = None
    arrow: bool = True
    curved: bool = False
    tooltip: str = ""


@dataclass(frozen=True)
class Region(Rectangle):
    """A shaded area below boxes: a time step, a window of backpropagation, a module."""

    kind: RegionKind
    label: str = ""

    @classmethod
    def around(
        cls, id: str, kind: RegionKind, left: float, top: float, right: float, bottom: float, label: str = ""
    ) -> Region:
        """Return the region with these borders."""
        return cls(id, (left + right) / 2, (top + bottom) / 2, right - left, bottom - top, kind, label)


@dataclass(frozen=True)
class Label:
    """Text outside boxes, with its `anchor` (start, middle or end) at (x, y)."""

    x: float
    y: float
    text: str
    anchor: Literal["start", "middle", "end"] = "middle"
    size: float = 11.0
    strong: bool = False
    warn: bool = False


@dataclass(frozen=True)
class Bar:
    """A bar of a small bar chart in the picture, its foot at (x, y); None for a magnitude: it shows no gradient."""

    x: float
    y: float
    width: float
    height: float
    magnitude: float | None
    tooltip: str = ""


@dataclass(frozen=True)
class Dot:
    """A junction, where lines meet on a bus; None for a magnitude: no gradient is known."""

    id: str
    x: float
    y: float
    magnitude: float | None = None


@dataclass
class Scene:
    """A picture: its parts in drawing order, and what each loss highlights.

    Attributes:
        title, subtitle: headline and one line of facts.
        width, height: of the canvas.
        regions, edges, dots, boxes, bars, labels: the parts, drawn in this order.
        reach: id of a loss box to the ids of all boxes and edges that its gradient reaches.
        scale: from magnitude to thickness and colour; None where no gradient is drawn.
        legend: its top left corner; None: no legend.
    """

    title: str
    subtitle: str
    width: float = 0.0
    height: float = 0.0
    regions: list[Region] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)
    dots: list[Dot] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)
    reach: dict[str, frozenset[str]] = field(default_factory=dict)
    scale: Scale | None = None
    legend: tuple[float, float] | None = None

    @property
    def rectangles(self) -> list[Rectangle]:
        """All boxes and regions."""
        return [*self.boxes, *self.regions]

    def box(self, id: str) -> Box:
        """Return the box with this id.

        Raises:
            KeyError: if there is none.
        """
        for box in self.boxes:
            if box.id == id:
                return box
        raise KeyError(id)


# Grey, amber, orange, red, dark red: lightness decreases throughout, so it reads in grey and to colour-blind readers.
RAMP = (
    (0.0, (206, 208, 216)),
    (0.3, (243, 182, 92)),
    (0.55, (230, 120, 44)),
    (0.8, (190, 62, 30)),
    (1.0, (122, 20, 24)),
)


@dataclass(frozen=True)
class Scale:
    """A logarithmic scale of magnitudes, from `low` (or less) to `high`.

    >>> scale = Scale.of([1e-3, 0.5, 2.0])
    >>> scale.place(2.0), scale.place(0.0), round(scale.thickness(2.0), 1)
    (1.0, 0.0, 7.0)
    """

    low: float
    high: float

    @classmethod
    def of(cls, magnitudes: Iterable[float], decades: float = 6.0) -> Scale | None:
        """Return the scale that fits these magnitudes, no more than `decades` wide; None if none is above 0."""
        found = [m for m in magnitudes if 0 < m < math.inf]
        if not found:
            return None
        high = max(found)
        low = max(min(found), high * 10**-decades)
        return cls(min(low, high / 4), high)

    def place(self, magnitude: float) -> float:
        """Return the position of a magnitude on the scale, from 0 (at or below `low`) to 1."""
        if math.isnan(magnitude):
            return 1.0
        if magnitude <= self.low:
            return 0.0
        return min(1.0, math.log(magnitude / self.low) / math.log(self.high / self.low))

    def thickness(self, magnitude: float) -> float:
        """Return the width of a line, in points."""
        return 1.2 + 5.8 * self.place(magnitude)

    def colour(self, magnitude: float) -> str:
        """Return the colour of a line, "#rrggbb"."""
        place = self.place(magnitude)
        for (a, left), (b, right) in pairwise(RAMP):
            if place <= b:
                part = (place - a) / (b - a)
                return "#" + "".join(f"{round(x + (y - x) * part):02x}" for x, y in zip(left, right, strict=True))
        return "#" + "".join(f"{x:02x}" for x in RAMP[-1][1])
