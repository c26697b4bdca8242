"""Places for the backward view: two graphs side by side in common levels, values down, cotangents up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...pictures.layout.layered import Arc, Item, layered
from ...pictures.scene.legend import LEGEND_HEIGHT, LEGEND_WIDTH, short_number
from ...pictures.scene.reach import reach_of
from ...pictures.scene.scene import Edge, EdgeKind, Label, Region, Scale, Scene
from ...pictures.scene.text import text_width
from ..model.operations import Operation
from ..rolled.sketch import Line
from .chart import Chart
from .mirror import Mirror

Point = tuple[float, float]

_LEFT, _TOP = 34.0, 118.0
_BETWEEN = 60.0  # from the forward side to the backward side, besides the lanes
_LANE = 6.0
_ACROSS = 26.0
_BAND = 11.0  # from the boxes of a level to its border


def facing(
    scene: Scene, forward: Chart, mirror: Mirror, ops: Sequence[Operation], front: Mapping[int, str], gradients: bool
) -> None:
    """Fill a scene with both sides.

    Args:
        scene: to fill; its title and subtitle stay.
        forward: the left side.
        mirror: the right side.
        ops: drawn operations, oldest first.
        front: id of an operation to the id of its box on the left.
        gradients: whether lines show magnitudes.
    """
    magnitudes = [line.magnitude for line in (*forward.lines, *mirror.chart.lines) if line.magnitude]
    scene.scale = Scale.of(magnitudes) if gradients else None
    left, right, bands = _levels(forward, mirror, ops, front)
    extents = _extents((forward, left), (mirror.chart, right))
    lanes = len({line.tail for line in mirror.crossing})
    places, width, height = _side(scene, forward, left, extents, _LEFT, up=False)
    start = _LEFT + width + _BETWEEN + _LANE * lanes
    others, wide, _ = _side(scene, mirror.chart, right, extents, start, up=True)
    ends = start + wide
    tops = _rank_tops(extents)
    for number, (op, (first, last)) in enumerate(zip(ops, bands, strict=True)):
        top, bottom = _TOP + tops[first] - _BAND, _TOP + tops[last] + extents[last] + _BAND
        made = len(mirror.levels[op.id])
        said = f"rule of {op.name.replace('_', ' ')}" if made else f"{op.name.replace('_', ' ')}: handed on"
        x0, x1 = _LEFT - 18, max(ends, start + 60) + text_width("rule of cross entropy", 9) + 22
        scene.regions.append(
            Region(f"level{number}", (x0 + x1) / 2, (top + bottom) / 2, x1 - x0, bottom - top, "module")
        )
        scene.labels.append(Label(x1 - 10, top + 11, said, "end", size=9))
    ends = max(ends, start + 60) + text_width("rule of cross entropy", 9) + 22
    _cross(scene, mirror.crossing, places, others, forward, mirror.chart, _LEFT + width + _BETWEEN / 2)
    scene.labels.append(Label(_LEFT + width / 2, _TOP - 34, "forward: values ↓", strong=True))
    scene.labels.append(Label(start + wide / 2, _TOP - 34, "backward: cotangents ↑", strong=True))
    scene.width, scene.height = max(ends + 20, LEGEND_WIDTH + 60), _TOP + height + 34
    if scene.scale is not None:
        scene.legend = (scene.width - LEGEND_WIDTH - 30, scene.height - 12)
        scene.height += LEGEND_HEIGHT
    scene.reach = reach_of(scene, forward.losses)


def _levels(
    forward: Chart, mirror: Mirror, ops: Sequence[Operation], front: Mapping[int, str]
) -> tuple[dict[str, int], dict[str, int], list[tuple[int, int]]]:
    """Return the rank of each box on the left and on the right, and the first and last rank of each operation."""
    into: dict[str, list[str]] = {}
    for line in forward.lines:
        into.setdefault(line.head, []).append(line.tail)
    operations = set(front.values())
    left: dict[str, int] = {}
    right: dict[str, int] = {}
    bands: list[tuple[int, int]] = []
    rank = 0
    for op in ops:
        box = front[op.id]
        sources = [tail for tail in into.get(box, ()) if tail not in operations and tail not in left]
        cut = [tail for tail in sources if forward.figures[tail].kind == "cut"]
        behind = [tail for id in cut for tail in into.get(id, ()) if tail not in left and tail not in operations]
        for id in behind:
            left[id] = rank
        rank += bool(behind)
        for id in sources:
            left[id] = rank
        rank += bool(sources)
        deep = max(mirror.levels[op.id].values(), default=0)
        bands.append((rank, rank + deep))
        left[box] = rank + deep // 2
        for id, depth in mirror.levels[op.id].items():
            right[id] = rank + deep - depth
        rank += deep + 1
        late = [line.head for line in forward.lines if line.tail == box and line.head not in operations]
        starts = [id for id, at in mirror.starts.items() if at == op.id]
        for id in late:
            left[id] = rank
        for id in starts:
            right[id] = rank
        rank += bool(late or starts)
    for id, end in mirror.ends.items():
        right[end] = left[id]
    return left, right, bands


def _extents(*sides: tuple[Chart, Mapping[str, int]]) -> list[float]:
    count = 1 + max(rank for _, ranks in sides for rank in ranks.values())
    found = [20.0] * count
    for chart, ranks in sides:
        for id, rank in ranks.items():
            found[rank] = max(found[rank], chart.figures[id].size()[1])
    return found


def _rank_tops(extents: Sequence[float]) -> list[float]:
    tops = [0.0]
    for extent in extents:
        tops.append(tops[-1] + extent + _ACROSS)
    return tops


def _side(
    scene: Scene, chart: Chart, ranks: Mapping[str, int], extents: Sequence[float], x0: float, up: bool
) -> tuple[dict[str, Point], float, float]:
    """Place one side and add it to the scene; return its centres, width and height."""
    index = {id: number for number, id in enumerate(chart.figures)}
    items = [Item(*figure.size()) for figure in chart.figures.values()]
    pairs = [(line.head, line.tail) if up else (line.tail, line.head) for line in chart.lines]
    arcs = [Arc(index[a], index[b]) for a, b in pairs]
    layout = layered(
        items, arcs, ranks=[ranks[id] for id in index], downward=True, across=_ACROSS, between=18.0, extents=extents
    )
    places = {id: (x0 + layout.centres[n][0], _TOP + layout.centres[n][1]) for id, n in index.items()}
    side = "back" if up else "line"
    for number, (line, route) in enumerate(zip(chart.lines, layout.routes, strict=True)):
        points = tuple((round(x0 + x, 2), round(_TOP + y, 2)) for x, y in route)
        kind: EdgeKind = "cut" if line.closed else "value" if line.magnitude is None else "gradient"
        tooltip = "" if line.magnitude is None else f"gradient norm: {short_number(line.magnitude)}"
        scene.edges.append(
            Edge(
                f"{side}{number}", line.tail, line.head, points[::-1] if up else points, kind, line.magnitude,
                curved=True, tooltip=tooltip,
            )
        )  # fmt: skip
    for id, figure in chart.figures.items():
        scene.boxes.append(figure.at(id, *places[id]))
    return places, layout.width, layout.height


def _cross(
    scene: Scene,
    lines: Sequence[Line],
    left: Mapping[str, Point],
    right: Mapping[str, Point],
    forward: Chart,
    backward: Chart,
    corridor: float,
) -> None:
    """Draw what crosses over, a lane in the middle for each array: out of its box, along the lane, into the reader."""
    lanes = {
        tail: number
        for number, tail in enumerate(sorted({line.tail for line in lines}, key=lambda id: (left[id][1], id)))
    }
    for number, line in enumerate(lines):
        lane = corridor + _LANE * lanes[line.tail]
        (x, y), (width, height) = left[line.tail], forward.figures[line.tail].size()
        beside = any(other > x and abs(level - y) < height for id, (other, level) in left.items() if id != line.tail)
        # Where another box stands in the way, the line goes over it.
        gap = y - height / 2 - 5 - 2 * (lanes[line.tail] % 4)
        out = (
            [(x + width / 4, y - height / 2), (x + width / 4, gap), (lane, gap)]
            if beside
            else [(x + width / 2, y), (lane, y)]
        )
        (x, y), (width, height) = right[line.head], backward.figures[line.head].size()
        beside = any(other < x and abs(level - y) < height for id, (other, level) in right.items() if id != line.head)
        over = y - height / 2 - 6 - 2 * (number % 3)
        into = (
            [(lane, over), (x - width / 4, over), (x - width / 4, y - height / 2)]
            if beside
            else [(lane, y), (x - width / 2, y)]
        )
        points = tuple(dict.fromkeys([*out, *into]))
        scene.edges.append(Edge(f"kept{number}", line.tail, line.head, points, tooltip="an array kept for the rule"))
