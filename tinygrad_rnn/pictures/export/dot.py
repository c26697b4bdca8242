"""Write a scene as DOT, with positions: Graphviz draws the same picture, and does no layout of its own.

`layout=nop2` is set inside, so any `dot` program, or the `graphviz` package, draws it unchanged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from ..scene.curves import Point, bezier, tip_direction
from ..scene.legend import legend_of
from ..scene.scene import Box, Edge, Region, Scene
from ..scene.style import REGIONS, SCISSORS, SMALL, arrow_length, bar_colour, dot_stroke, line_end, look_of, stroke_of
from ..scene.text import FAMILY, text_width, title_runs, title_width
from ..scene.texts import COLUMN_GAP, Text, columns_of, heading, is_table, label_text, region_text, texts_of

_ALIGN = {"start": "left", "end": "right", "middle": "center"}
_FACE = FAMILY.partition(",Liberation")[0] + ",sans-serif"


def write_dot(scene: Scene, name: str = "graph") -> str:
    """Return the picture as a DOT graph that ends with a newline.

    Args:
        scene: from any view.
        name: of the graph.

    >>> from tinygrad_rnn.pictures.scene.scene import Box, Scene
    >>> text = write_dot(Scene("one box", "", 120, 90, boxes=[Box("h", 60, 40, 60, 34, "state", "h_{1}")]))
    >>> '"h" [pos="60,50"' in text
    True
    """
    return "\n".join(_Dot(scene).lines(name)) + "\n"


class _Dot:
    """Writer of one scene; in DOT, y grows upward."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.points: list[str] = []  # invisible nodes at which edges start or end that join no box

    def lines(self, name: str) -> Iterator[str]:
        scene = self.scene
        yield f'digraph "{_quoted(name)}" {{'
        yield (
            f'  graph [layout=nop2, bgcolor="white", outputorder=edgesfirst, splines=true, fontname="{_FACE}", '
            f'fontsize=9, bb="0,0,{_n(scene.width)},{_n(scene.height)}", pad=0, margin=0];'
        )
        yield f'  node [fontname="{_FACE}", fontsize=9, shape=box, style="rounded,filled", margin=0, fixedsize=true];'
        yield f'  edge [fontname="{_FACE}", fontsize=9, fontcolor="{SMALL}"];'
        for x, y, corner in ((0.0, 0.0, "origin"), (scene.width, scene.height, "extent")):
            yield f'  "{corner}" [pos="{_n(x)},{_n(y)}", shape=point, width=0.01, height=0.01, style=invis, label=""];'
        for region in scene.regions:
            yield self._region(region)
        for id, text in zip(("headline", "subtitle"), heading(scene), strict=False):
            yield self._text(id, text)
        for box in scene.boxes:
            yield from self._box(box)
        for dot in scene.dots:
            colour, radius = dot_stroke(dot, scene.scale)
            place = self._at(dot.x, dot.y, 2 * radius, 2 * radius)
            yield _node(dot.id, *place, "shape=circle", "style=filled", _fill(colour, colour), 'label=""')
        for number, bar in enumerate(scene.bars, 1):
            colour = bar_colour(bar, scene.scale)
            place = self._at(bar.x, bar.y - bar.height / 2, bar.width, bar.height)
            looks = ("style=filled", _fill(colour, colour, 0.0), 'label=""', f'tooltip="{_quoted(bar.tooltip)}"')
            yield _node(f"bar{number}", *place, *looks)
        edges, labels = legend_of(scene)
        for number, label in enumerate([*scene.labels, *labels], 1):
            yield self._text(f"label{number}", label_text(label))
        drawn = [line for edge in [*scene.edges, *edges] for line in self._edge(edge)]
        yield from self.points
        yield from drawn
        yield "}"

    def _at(self, x: float, y: float, width: float, height: float) -> tuple[str, ...]:
        return f'pos="{self._point((x, y))}"', f"width={width / 72:.4f}", f"height={height / 72:.4f}"

    def _region(self, region: Region) -> str:
        look = REGIONS[region.kind]
        x, y = region.width / 2, region.height / 2
        corners = self._point((region.x - x, region.y + y)), self._point((region.x + x, region.y - y))
        parts = [f'bb="{",".join(corners)}"', 'style="rounded,filled"', f'fillcolor="{look.fill}"']
        parts += [f'color="{look.stroke}"', f"penwidth={_n(look.stroke_width)}"]
        if region.label:
            text = region_text(region)
            parts.append(f"label=<{_font(text, escape(text.text, quote=False))}>")
            parts.append(f'lp="{self._point((_middle(text, _width(text)), text.y))}"')
        return f'  subgraph "cluster_{_quoted(region.id)}" {{ {"; ".join(parts)}; }}'

    def _box(self, box: Box) -> Iterator[str]:
        look = look_of(box)
        texts = texts_of(box, self.scene.scale)
        inside = [text for text in texts if abs(text.y - box.y) <= box.height / 2 and box.kind != "frame"]
        label = self._table(box, inside)
        shape, style = "box", "rounded,filled,dashed" if look.dashed else "rounded,filled" if look.corner else "filled"
        if box.kind == "elision":
            shape, style = "plaintext", "solid"
        elif box.kind == "cut" and box.factor == 0:
            shape, style = "circle", "filled"
            label = f'<<font face="DejaVu Sans" point-size="{_n(box.height * 0.55)}" color="{SCISSORS}">✂</font>>'
        looks = [f"shape={shape}", f'style="{style}"', _fill(look.fill, look.stroke, look.stroke_width)]
        tooltip = [f'tooltip="{_quoted(box.tooltip)}"'] if box.tooltip else []
        yield _node(box.id, *self._at(box.x, box.y, box.width, box.height), f"label={label}", *looks, *tooltip)
        for number, text in enumerate(text for text in texts if text not in inside):
            yield self._text(f"{box.id}_text{number + 1}", text)

    def _table(self, box: Box, texts: Sequence[Text]) -> str:
        """Return an HTML label with the lines of a box at their heights."""
        if not texts:
            return '""'
        by_height: dict[float, list[Text]] = {}
        for text in texts:
            by_height.setdefault(round(text.y, 2), []).append(text)
        heights = sorted(by_height)
        columns = columns_of(box.rows) if is_table(box.rows) else [0.0]
        rows = []
        for number, y in enumerate(heights):
            before = heights[number - 1] if number else y - 12.5
            after = heights[number + 1] if number + 1 < len(heights) else y + 12.5
            line = by_height[y]
            cells = []
            for place, text in enumerate(line):
                span = f' colspan="{len(columns)}"' if len(line) < len(columns) else ""
                gap = COLUMN_GAP if place + 1 < len(columns) else 0.0
                width = "" if span or len(columns) == 1 else f' width="{columns[place] + gap:.0f}"'
                align = _ALIGN[text.anchor]
                cells.append(
                    f'<td align="{align}" height="{(after - before) / 2:.0f}"{span}{width}>{_marked(text)}</td>'
                )
            rows.append(f"<tr>{''.join(cells)}</tr>")
        table = f'<table border="0" cellborder="0" cellspacing="0" cellpadding="0">{"".join(rows)}</table>'
        return f"<{table}>"

    def _text(self, id: str, text: Text) -> str:
        wide = _room(text)
        cell = f'<td align="{_ALIGN[text.anchor]}" width="{wide:.0f}">{_marked(text)}</td>'
        label = f'<<table border="0" cellborder="0" cellspacing="0" cellpadding="0"><tr>{cell}</tr></table>>'
        place = self._at(_middle(text, wide), text.y, wide + 16, text.size * 2)  # room, so that no renderer complains
        return _node(id, *place, f"label={label}", "shape=plaintext", "style=solid")

    def _edge(self, edge: Edge) -> Iterator[str]:
        stroke = stroke_of(edge, self.scene.scale)
        path = bezier(edge, line_end(stroke.width) if edge.arrow else 0.0)
        tail = edge.tail or self._anchor(f"{edge.id}_tail", edge.points[0])
        head = edge.head or self._anchor(f"{edge.id}_head", edge.points[-1])
        ends = f'  "{_quoted(tail)}" -> "{_quoted(head)}"'
        attributes = [f'pos="{self._points(path)}"', f'color="{stroke.colour}"', f"penwidth={_n(stroke.width)}"]
        attributes.append("dir=none")
        if stroke.dashed:
            attributes.append("style=dashed")
        if edge.tooltip:
            attributes.append(f'tooltip="{_quoted(edge.tooltip)}"')
        yield f"{ends} [{', '.join(attributes)}];"
        if edge.arrow:
            # The head is an edge of its own, with a fine pen: where a thick pen puts it depends on the version.
            length, (x, y), (dx, dy) = arrow_length(stroke.width), edge.points[-1], tip_direction(edge)
            base = [(x - dx * (length + rest), y - dy * (length + rest)) for rest in (0.6, 0.4, 0.2, 0.0)]
            pos = f"e,{self._point((x, y))} {self._points(base)}"
            yield (
                f'{ends} [class=head, pos="{pos}", color="{stroke.colour}", penwidth=0.1, arrowsize={length / 10:.3f}];'
            )

    def _anchor(self, id: str, point: Point) -> str:
        place = f'pos="{self._point(point)}"'
        self.points.append(f'  "{_quoted(id)}" [{place}, shape=point, width=0.01, height=0.01, style=invis, label=""];')
        return id

    def _points(self, path: Sequence[Point]) -> str:
        return " ".join(map(self._point, path))

    def _point(self, point: Point) -> str:
        return f"{_n(point[0])},{_n(self.scene.height - point[1])}"


def _node(id: str, *attributes: str) -> str:
    return f'  "{_quoted(id)}" [{", ".join(attributes)}];'


def _fill(fill: str, stroke: str, width: float = 1.0) -> str:
    inside, line = (colour if colour != "none" else "transparent" for colour in (fill, stroke))
    return f'fillcolor="{inside}", color="{line}", penwidth={_n(width)}'


def _width(text: Text) -> float:
    if text.symbols:
        return 1.12 * title_width(text.text, text.size, text.strong)  # Graphviz sets subscripts a little larger
    return text_width(text.text, text.size, text.strong)


def _room(text: Text) -> float:
    """Return the width of the cell of a line of text; renderers measure text differently."""
    return 1.15 * _width(text) + 2


def _middle(text: Text, wide: float) -> float:
    """Return the x of the middle of a line of text of this width."""
    half = wide / 2
    return {"start": text.x + half, "end": text.x - half, "middle": text.x}[text.anchor]


def _n(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _font(text: Text, inner: str) -> str:
    return f'<font point-size="{_n(text.size)}" color="{text.colour}">{inner}</font>'


def _marked(text: Text) -> str:
    """Return a line of text as HTML-like markup of Graphviz."""
    if text.symbols:
        parts = []
        for run in title_runs(text.text, text.italics):
            part = escape(run.text, quote=False)
            if run.subscript:
                part = f'<sub><font point-size="{_n(text.size * 0.84)}">{part}</font></sub>'
            elif run.italic:
                part = f"<i>{part}</i>"
            parts.append(part)
        inner = "".join(parts)
    else:
        inner = escape(text.text, quote=False)
    return _font(text, f"<b>{inner}</b>" if text.strong else inner)
