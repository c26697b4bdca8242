"""The legend of a picture, made of the same edges and labels as the picture."""

from __future__ import annotations

from .scene import Edge, EdgeKind, Label, Scene

LEGEND_WIDTH = 190.0
LEGEND_HEIGHT = 62.0
_SWATCH, _GAP = 30.0, 8.0
_KINDS: dict[EdgeKind, str] = {
    "cut": "value only, no gradient",
    "next": "into the next step",
    "influence": "credit, carried forward",
}


def legend_of(scene: Scene) -> tuple[list[Edge], list[Label]]:
    """Return the lines and texts of the legend, from `scene.legend` to the right and down; none if that is None.

    The legend takes LEGEND_WIDTH by LEGEND_HEIGHT points: five magnitudes, from the lowest to the highest of the
    scale in equal ratios, and the meaning of lines without a magnitude, if there are any.
    """
    if scene.legend is None:
        return [], []
    x, y = scene.legend
    edges: list[Edge] = []
    labels: list[Label] = []
    middle = x + LEGEND_WIDTH / 2
    if scene.scale is not None:
        labels.append(Label(middle, y + 6, "returning gradient ‖∂L/∂·‖", size=9))
        for number in range(5):
            magnitude = scene.scale.low * (scene.scale.high / scene.scale.low) ** (number / 4)
            left = x + number * (_SWATCH + _GAP)
            line = ((left, y + 22.0), (left + _SWATCH, y + 22.0))
            edges.append(Edge(f"legend{number}", "", "", line, "gradient", magnitude, arrow=False))
            labels.append(Label(left + _SWATCH / 2, y + 34, short_number(magnitude), size=8))
        y += 42
    for kind, said in _KINDS.items():
        if any(edge.kind == kind for edge in scene.edges):
            edges.append(Edge(f"legend_{kind}", "", "", ((x, y + 8), (x + _SWATCH + _GAP, y + 8)), kind, arrow=False))
            labels.append(Label(x + _SWATCH + 2 * _GAP, y + 8, said, "start", size=9))
            y += 14
    return edges, labels


def short_number(value: float) -> str:
    """Return a number in two significant digits, without padding.

    >>> [short_number(value) for value in (0.00012, 0.333, 1.0, 12.54, 1234.0)]
    ['1.2e-4', '0.33', '1', '13', '1.2e3']
    """
    text = f"{value:.2g}"
    if "e" in text:
        digits, _, exponent = text.partition("e")
        return f"{digits}e{int(exponent)}"
    if 0 < abs(value) < 0.01:
        digits, _, exponent = f"{value:.1e}".partition("e")
        return f"{digits.removesuffix('.0')}e{int(exponent)}"
    return text
