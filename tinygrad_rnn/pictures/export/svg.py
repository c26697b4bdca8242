"""Writer of a scene as SVG, which any browser opens; Graphviz is not needed.

Every box is a `<g class="box kind-..." id=...>`, every edge a `<g class="edge kind-..." id=...>` with the ids of its
boxes in `data-tail` and `data-head`, every region a `<g class="region kind-..." id=...>`; tooltips are `<title>`s.
Other groups have the classes `heading`, `dot`, `bar`, `label` and `legend`. No script, no reference to another file.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from ..scene.curves import bezier, tip_direction
from ..scene.legend import legend_of
from ..scene.scene import Bar, Box, Dot, Edge, Label, Region, Scale, Scene
from ..scene.style import (
    REGIONS,
    SCISSORS,
    arrow_half_width,
    arrow_length,
    bar_colour,
    dot_stroke,
    line_end,
    look_of,
    stroke_of,
)
from ..scene.text import FAMILY, title_runs
from ..scene.texts import Text, heading, label_text, region_text, texts_of

_UNDER = 0.36  # of the font size: from the middle of a line of text down to its baseline


def write_svg(scene: Scene) -> str:
    """Return the picture as one `<svg>` element on a white background, ending with a newline.

    Args:
        scene: from any view; its title and subtitle are set in the top left corner, from y = 20 to 60 points.

    >>> from tinygrad_rnn.pictures.scene.scene import Box, Scene
    >>> text = write_svg(Scene("one box", "", 120, 90, boxes=[Box("h", 60, 40, 60, 34, "state", "h_{1}")]))
    >>> 'class="box kind-state" id="h"' in text
    True
    """
    legend_edges, legend_labels = legend_of(scene)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_n(scene.width)} {_n(scene.height)}" '
        f'width="{_n(scene.width)}pt" height="{_n(scene.height)}pt" font-family="{FAMILY}" role="img" '
        f'aria-label="{escape(scene.title)}">',
        f'<rect class="background" x="0" y="0" width="{_n(scene.width)}" height="{_n(scene.height)}" fill="#ffffff"/>',
        '<g class="heading">',
        *(_text(text) for text in heading(scene)),
        "</g>",
        *(_region(region) for region in scene.regions),
        *(line for edge in scene.edges for line in _edge(edge, scene.scale)),
        *(_dot(dot, scene.scale) for dot in scene.dots),
        *(line for box in scene.boxes for line in _box(box, scene.scale)),
        *(_bar(bar, scene.scale) for bar in scene.bars),
        *(_label(label) for label in scene.labels),
    ]
    if legend_edges:
        lines += [
            '<g class="legend">',
            *(line for edge in legend_edges for line in _edge(edge, scene.scale)),
            *(_label(label) for label in legend_labels),
            "</g>",
        ]
    return "\n".join([*lines, "</svg>", ""])


def _n(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _title(tooltip: str) -> str:
    return f"<title>{escape(tooltip, quote=False)}</title>" if tooltip else ""


def _region(region: Region) -> str:
    look = REGIONS[region.kind]
    x, y = region.left, region.top
    shape = (
        f'<rect x="{_n(x)}" y="{_n(y)}" width="{_n(region.width)}" height="{_n(region.height)}" rx="{_n(look.corner)}" '
        f'fill="{look.fill}" stroke="{look.stroke}" stroke-width="{_n(look.stroke_width)}"/>'
    )
    label = _text(region_text(region)) if region.label else ""
    return f'<g class="region kind-{region.kind}" id="{escape(region.id)}">{shape}{label}</g>'


def _edge(edge: Edge, scale: Scale | None) -> Iterator[str]:
    stroke = stroke_of(edge, scale)
    path = bezier(edge, line_end(stroke.width) if edge.arrow else 0.0)
    d = f"M{_n(path[0][0])},{_n(path[0][1])}C" + " ".join(f"{_n(x)},{_n(y)}" for x, y in path[1:])
    yield (
        f'<g class="edge kind-{edge.kind}" id="{escape(edge.id)}" data-tail="{escape(edge.tail)}" '
        f'data-head="{escape(edge.head)}">{_title(edge.tooltip)}'
    )
    dashes = ' stroke-dasharray="6 5"' if stroke.dashed else ""
    yield f'<path d="{d}" fill="none" stroke="{stroke.colour}" stroke-width="{_n(stroke.width)}"{dashes}/>'
    if edge.arrow:
        (x, y), (dx, dy) = edge.points[-1], tip_direction(edge)
        length, half = arrow_length(stroke.width), arrow_half_width(stroke.width)
        corners = (
            (x, y),
            (x - dx * length - dy * half, y - dy * length + dx * half),
            (x - dx * length + dy * half, y - dy * length - dx * half),
        )
        shape = " ".join(f"{_n(a)},{_n(b)}" for a, b in corners)
        yield f'<polygon points="{shape}" fill="{stroke.colour}"/>'
    yield "</g>"


def _dot(dot: Dot, scale: Scale | None) -> str:
    colour, radius = dot_stroke(dot, scale)
    shape = f'<circle cx="{_n(dot.x)}" cy="{_n(dot.y)}" r="{_n(radius)}" fill="{colour}"/>'
    return f'<g class="dot" id="{escape(dot.id)}">{shape}</g>'


def _box(box: Box, scale: Scale | None) -> Iterator[str]:
    yield f'<g class="box kind-{box.kind}" id="{escape(box.id)}">{_title(box.tooltip)}'
    look = look_of(box)
    x, y = box.left, box.top
    if box.kind != "elision":
        round_ = min(box.width, box.height) / 2 if box.kind == "cut" else min(look.corner, box.height / 2)
        dashes = ' stroke-dasharray="5 4"' if look.dashed else ""
        yield (
            f'<rect x="{_n(x)}" y="{_n(y)}" width="{_n(box.width)}" height="{_n(box.height)}" rx="{_n(round_)}" '
            f'fill="{look.fill}" stroke="{look.stroke}" stroke-width="{_n(look.stroke_width)}"{dashes}/>'
        )
    if box.kind == "cut" and box.factor == 0:
        yield _scissors(box.x, box.y, box.height / 34)
    for text in texts_of(box, scale):
        yield _text(text)
    yield "</g>"


def _scissors(x: float, y: float, size: float) -> str:
    """Return a pair of scissors, open to the left: drawn, because not every font has the sign."""
    blades = (
        '<path d="M-9.5,-4.5L4.2,3.2M-9.5,4.5L4.2,-3.2"/><circle cx="6.9" cy="4.7" r="3.1"/>'
        '<circle cx="6.9" cy="-4.7" r="3.1"/>'
    )
    return (
        f'<g transform="translate({_n(x)} {_n(y)}) scale({_n(size)})" fill="none" stroke="{SCISSORS}" '
        f'stroke-width="1.9" stroke-linecap="round">{blades}</g>'
    )


def _bar(bar: Bar, scale: Scale | None) -> str:
    colour = bar_colour(bar, scale)
    shape = (
        f'<rect x="{_n(bar.x - bar.width / 2)}" y="{_n(bar.y - bar.height)}" width="{_n(bar.width)}" '
        f'height="{_n(bar.height)}" fill="{colour}"/>'
    )
    return f'<g class="bar">{_title(bar.tooltip)}{shape}</g>'


def _label(label: Label) -> str:
    return f'<g class="label">{_text(label_text(label))}</g>'


def _text(text: Text) -> str:
    """Return one line of text, its middle at the height (y) of `text`."""
    strong = ' font-weight="bold"' if text.strong else ""
    head = (
        f'<text x="{_n(text.x)}" y="{_n(text.y + text.size * _UNDER)}" font-size="{_n(text.size)}" '
        f'text-anchor="{text.anchor}" fill="{text.colour}"{strong}>'
    )
    if not text.symbols:
        return head + escape(text.text, quote=False) + "</text>"
    parts, low = [], False
    for run in title_runs(text.text, text.italics):
        italic = ' font-style="italic"' if run.italic else ""
        size = f' font-size="{_n(text.size * 2 / 3)}"' if run.subscript else ""
        shift = f' dy="{_n((run.subscript - low) * text.size * 0.27)}"' if run.subscript != low else ""
        low = run.subscript
        parts.append(f"<tspan{italic}{size}{shift}>{escape(run.text, quote=False)}</tspan>")
    return head + "".join(parts) + "</text>"
