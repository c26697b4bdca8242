"""The styles of boxes and edges, shared by both writers, so that their pictures are the same."""

from __future__ import annotations

from typing import NamedTuple

from .scene import Bar, Box, Dot, Edge, Scale

INK = "#1f2937"  # titles
SMALL = "#566072"  # small text
WARNING = "#b42318"
LINE = "#8e98a8"  # an edge whose gradient is not known
FADED = "#c3c8d2"  # an edge that carries no gradient where others do
DASHED = "#7d8798"  # value passes, no gradient
SCISSORS = "#dc2626"
INFLUENCE = "#2563eb"  # what is carried forward beside the state
BORDER = "#eb9a94"  # between two windows of backpropagation

TITLE_SIZE = 15.0
ROW_SIZE = 9.0
ROW_STEP = 12.5


class Look(NamedTuple):
    """Colours of a kind of box."""

    fill: str
    stroke: str
    stroke_width: float = 1.2
    dashed: bool = False
    ink: str = INK
    corner: float = 11.0


_LOOKS = {
    "input": Look("#eef2ff", "#8fa3f0"),
    "state": Look("#ecfdf5", "#2f9e78", 1.7),
    "operation": Look("#ffffff", "#aab4c4"),
    "loss": Look("#fff1f2", "#ee7f97"),
    "parameter": Look("#fffbeb", "#d9a520"),
    "constant": Look("#f8fafc", "#a9b2c0", dashed=True),
    "delay": Look("#1f2937", "#1f2937", ink="#ffffff", corner=0.0),
    "cut": Look("#ffffff", SCISSORS, 1.8),
    "elision": Look("none", "none"),
    "frame": Look("none", "#2f9e78", 1.7),
    "product": Look("#e6f1fb", "#2171b5", 1.8, corner=3.0),
    "view": Look("#ffffff", "#b4bcc9", 1.0, True, SMALL, 3.0),
    "joined": Look("#fef3e7", "#e08a3c", corner=3.0),
    "result": Look("#fff1f2", "#ee7f97", 1.8),
}
_STRONG_LOSS = Look("#ffe4e6", "#e11d48", 1.8)


def look_of(box: Box) -> Look:
    """Return the colours of a box."""
    if box.strong and box.kind == "loss":
        return _STRONG_LOSS
    look = _LOOKS[box.kind]
    return look._replace(stroke_width=1.8) if box.strong else look


REGIONS = {
    "step": Look("#f2f4fa", "#f2f4fa", 1.0, corner=12.0),
    "window": Look("#fbfcfe", "#d5dbe7", 1.2, corner=14.0),
    "cell": Look("#f1fdf7", "#f1fdf7", 1.0, corner=11.0),
    "module": Look("#f5f7fc", "#dde3ee", 1.0, corner=12.0),
}


class Stroke(NamedTuple):
    """How a line is drawn."""

    colour: str
    width: float
    dashed: bool = False


def stroke_of(edge: Edge, scale: Scale | None) -> Stroke:
    """Return colour and width of an edge: by its magnitude if the picture has a scale."""
    if edge.kind == "cut":
        return Stroke(DASHED, 1.6, True)
    if edge.kind == "next":
        return Stroke(SCISSORS, 1.5, True)
    if edge.kind == "influence":
        return Stroke(INFLUENCE, 2.6)
    if edge.kind == "border":
        return Stroke(BORDER, 1.2, True)
    if scale is None:
        return Stroke(LINE, 1.4)
    if edge.magnitude is None:
        return Stroke(FADED, 1.2)
    return Stroke(scale.colour(edge.magnitude), scale.thickness(edge.magnitude))


def dot_stroke(dot: Dot, scale: Scale | None) -> tuple[str, float]:
    """Return colour and radius of a junction."""
    if scale is None or dot.magnitude is None:
        return (LINE if scale is None else FADED), 2.2
    return scale.colour(dot.magnitude), 1.6 + 0.5 * scale.thickness(dot.magnitude)


def bar_colour(bar: Bar, scale: Scale | None) -> str:
    """Return the colour of a bar."""
    if bar.magnitude is None:
        return INFLUENCE
    return LINE if scale is None else scale.colour(bar.magnitude)


def text_colour(magnitude: float, scale: Scale) -> str:
    """Return the ramp's colour for text: dark enough to read (4.5 to 1) on every light background."""
    return scale.colour(max(magnitude, scale.low * (scale.high / scale.low) ** 0.78))


def arrow_half_width(width: float) -> float:
    """Return half the breadth of the head of an arrow, for a line of this width."""
    return 2.45 + 0.66 * (width - 1.2)


def arrow_length(width: float) -> float:
    """Return the length of the head of an arrow; breadth and length are in the ratio of Graphviz's heads."""
    return arrow_half_width(width) / 0.35


def line_end(width: float) -> float:
    """Return how far from its tip the line of an arrow ends, inside the head."""
    return 0.85 * arrow_length(width)
