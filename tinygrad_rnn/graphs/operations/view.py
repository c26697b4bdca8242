"""The operations view: every operation of one step, or of a graph without steps, values flowing upward.

Graphviz's `dot` lays it out if it is installed, through the `graphviz` package; else `layered` does.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import graphviz

from ...errors import DrawingError
from ...pictures.layout.layered import Arc, Item, layered
from ...pictures.scene.legend import LEGEND_HEIGHT, LEGEND_WIDTH, short_number
from ...pictures.scene.reach import reach_of
from ...pictures.scene.scene import Edge, EdgeKind, Label, Region, Scale, Scene
from ...pictures.scene.text import text_width
from ..model.flow import Flow
from ..model.graph import Graph
from ..model.operations import Operation, operations_of
from ..options import Options
from .chart import Chart, chart_of

Point = tuple[float, float]

LIMIT = 3000  # boxes; more are no picture
_FOR_DOT = 400  # boxes; `dot` takes minutes for much larger graphs
_SHORT = 4  # characters of a label of a line that is drawn
_LEFT, _TOP, _BOTTOM = 30.0, 84.0, 30.0


class Places(NamedTuple):
    """A layout: y grows downward from (0, 0).

    Attributes:
        centres: id of a box to its centre.
        routes: of the lines: cubic Bezier points from tail to head.
        regions: label to (left, top, right, bottom) of a module.
        width, height: of the whole.
    """

    centres: dict[str, Point]
    routes: list[tuple[Point, ...]]
    regions: dict[str, tuple[float, float, float, float]]
    width: float
    height: float


def operations(graph: Graph, flow: Flow | None, options: Options, engine: str = "dot") -> Scene:
    """Return the picture of the operations of one step, or of a graph that has no steps.

    Args:
        graph: what was recorded.
        flow: its gradient; None: no gradient is drawn.
        options: `steps` says which step, counted from 1 (a number, or a sequence of one); None: the second, which
            reads a state and hands one on.
        engine: "dot" for Graphviz, where it is installed; "layered" for the project's own layout.

    Raises:
        DrawingError: if there is no such step, or there are more than 3000 boxes.
    """
    ops = operations_of(graph)
    step = chosen_step("ops", ops, options)
    chosen = {op.id for op in ops if step is None or op.step == step}
    chart = chart_of(graph, flow, ops, chosen)
    if len(chart.figures) > LIMIT:
        raise DrawingError(
            f'draw: view="ops" would draw {len(chart.figures)} boxes, more than {LIMIT}; record the steps with unroll '
            'or at_step(t), and draw one of them (steps=1), or view="rolled"'
        )
    places = (_by_dot(chart) if engine == "dot" and len(chart.figures) <= _FOR_DOT else None) or _by_us(chart)
    facts = [] if step is None else [f"step t = {step + 1} of {len({p.step for p in ops if p.step is not None})}"]
    facts += [f"{len(chosen)} operations", *filter(None, [options.note])]
    scene = Scene(
        options.title or "operations", " · ".join(facts), places.width + 2 * _LEFT, places.height + _TOP + _BOTTOM
    )
    magnitudes = [line.magnitude for line in chart.lines if line.magnitude]
    scene.scale = Scale.of(magnitudes) if flow is not None else None
    _fill(scene, chart, places)
    return scene


def chosen_step(view: str, ops: list[Operation], options: Options) -> int | None:
    """Return the step, as recorded, that a view of one step shows; None: the graph has no steps.

    Raises:
        DrawingError: if there is no such step.
    """
    steps = sorted({op.step for op in ops if op.step is not None})
    if not steps:
        return None
    wanted = options.steps
    if wanted is None:
        return steps[min(1, len(steps) - 1)]
    number = wanted if isinstance(wanted, int) else wanted[0] if len(wanted) == 1 else None
    if number is None or number - 1 not in steps:
        raise DrawingError(
            f'draw: view="{view}" shows one step; expected steps= one of {steps[0] + 1} to {steps[-1] + 1}, '
            f"got {wanted!r}"
        )
    return number - 1


def _fill(scene: Scene, chart: Chart, places: Places) -> None:
    for number, (label, (left, top, right, bottom)) in enumerate(places.regions.items()):
        x, y = _LEFT + (left + right) / 2, _TOP + (top + bottom) / 2
        scene.regions.append(Region(f"module{number}", x, y, right - left, bottom - top, "module"))
        scene.labels.append(_free_corner(label, (left, top, right, bottom), chart, places))
    for id, figure in chart.figures.items():
        x, y = places.centres[id]
        scene.boxes.append(figure.at(id, _LEFT + x, _TOP + y))
    for number, (line, route) in enumerate(zip(chart.lines, places.routes, strict=True)):
        points = tuple((round(_LEFT + x, 2), round(_TOP + y, 2)) for x, y in route)
        kind: EdgeKind = "cut" if line.closed else "value" if line.magnitude is None else "gradient"
        tooltip = f"gradient norm: {short_number(line.magnitude)}" if line.magnitude is not None else ""
        scene.edges.append(
            Edge(f"line{number}", line.tail, line.head, points, kind, line.magnitude, curved=True, tooltip=tooltip)
        )
        if 0 < len(line.label) <= _SHORT:
            x, y = points[0]
            scene.labels.append(Label(x + 4, y - 8, line.label, "start", size=9))
    scene.width = max(scene.width, text_width(scene.subtitle, 11) + 60, LEGEND_WIDTH + 60)
    if scene.scale is not None:
        scene.legend = (scene.width - LEGEND_WIDTH - 30, scene.height - 14)
        scene.height += LEGEND_HEIGHT
    scene.reach = reach_of(scene, chart.losses)


def _free_corner(label: str, borders: tuple[float, float, float, float], chart: Chart, places: Places) -> Label:
    """Return the label of a module in the corner where least runs through it."""
    left, top, right, bottom = borders
    width = text_width(label, 9)
    busy = [point for route in places.routes for point in _along(route)]
    for id, figure in chart.figures.items():
        (x, y), (w, h) = places.centres[id], figure.size()
        busy += [(x + a * w / 2, y + b * h / 2) for a in (-1, -0.5, 0, 0.5, 1) for b in (-1, 0, 1)]
    corners = [(x, y) for y in (bottom - 10, top + 10) for x in (left + 9, right - 9 - width)]
    x, y = min(corners, key=lambda c: sum(-4 < a - c[0] < width + 4 and abs(b - c[1]) < 9 for a, b in busy))
    return Label(_LEFT + x, _TOP + y, label, "start", size=9)


def _along(route: tuple[Point, ...]) -> Iterator[Point]:
    """Yield points of a Bezier route, close enough to each other to find what it crosses."""
    for at in range(0, len(route) - 3, 3):
        (ax, ay), (bx, by), (cx, cy), (dx, dy) = route[at : at + 4]
        for number in range(17):
            t = number / 16
            a, b, c, d = (1 - t) ** 3, 3 * (1 - t) ** 2 * t, 3 * (1 - t) * t * t, t**3
            yield a * ax + b * bx + c * cx + d * dx, a * ay + b * by + c * cy + d * dy


def _modules(chart: Chart) -> dict[str, list[str]]:
    """Return the boxes of each module, by its name; nested modules by their full names."""
    found: dict[str, list[str]] = {}
    for id, scope in chart.scopes.items():
        if scope:
            found.setdefault(".".join(scope), []).append(id)
    module_of = {id: label for label, members in found.items() for id in members}
    for id, figure in chart.figures.items():
        if figure.kind == "parameter":  # what one module alone reads is its own
            readers = {module_of.get(line.head) for line in chart.lines if line.tail == id}
            owner = readers.pop() if len(readers) == 1 else None
            if owner is not None:
                found[owner].append(id)
    return found


def _by_dot(chart: Chart) -> Places | None:
    """Return Graphviz's layout, or None if `dot` is not there."""
    names = {id: f"b{number}" for number, id in enumerate(chart.figures)}
    lines = ["digraph {", "graph [rankdir=BT nodesep=0.3 ranksep=0.42]", 'node [shape=box fixedsize=true label=""]']
    for id, figure in chart.figures.items():
        width, height = figure.size()
        lines.append(f"{names[id]} [width={width / 72:.4f} height={height / 72:.4f}]")
    for number, (label, members) in enumerate(_modules(chart).items()):
        # The label takes room in the layout, and is written by the picture itself.
        inside = "; ".join(names[id] for id in members)
        lines.append(f'subgraph cluster_{number} {{ label="{label}" fontsize=10 margin=14 {inside} }}')
    for number, line in enumerate(chart.lines):
        lines.append(f"{names[line.tail]} -> {names[line.head]} [id={number} dir=none]")
    source = graphviz.Source("\n".join([*lines, "}"]))
    try:
        found: dict[str, Any] = json.loads(source.pipe(format="json", encoding="utf-8"))
    except (graphviz.ExecutableNotFound, subprocess.CalledProcessError):
        return None
    width, height = (float(part) for part in found["bb"].split(",")[2:])

    def point(text: str) -> Point:
        x, y = text.split(",")
        return float(x), height - float(y)

    objects = {item["name"]: item for item in found["objects"]}
    centres = {id: point(objects[name]["pos"]) for id, name in names.items()}
    routes: list[tuple[Point, ...]] = [()] * len(chart.lines)
    for edge in found["edges"]:
        routes[int(edge["id"])] = tuple(point(text) for text in edge["pos"].split())
    regions = {}
    for number, label in enumerate(_modules(chart)):
        left, low, right, high = (float(part) for part in objects[f"cluster_{number}"]["bb"].split(","))
        regions[label] = (left, height - high, right, height - low)
    return Places(centres, routes, regions, width, height)


def _by_us(chart: Chart) -> Places:
    """Return the project's own layout; a module has a region where no other box stands in it."""
    index = {id: number for number, id in enumerate(chart.figures)}
    items = [Item(*figure.size()) for figure in chart.figures.values()]
    arcs = [Arc(index[line.tail], index[line.head]) for line in chart.lines]
    layout = layered(items, arcs, downward=True, across=34.0)
    pad = 16.0
    up = {id: (layout.centres[n][0] + pad, layout.height - layout.centres[n][1] + pad) for id, n in index.items()}
    routes = [tuple((x + pad, layout.height - y + pad) for x, y in route) for route in layout.routes]
    regions: dict[str, tuple[float, float, float, float]] = {}
    for label, members in _modules(chart).items():
        borders = _around(members, up, chart)
        others = [id for id in chart.figures if id not in members and id.partition(".")[0] not in members]
        if not any(borders[0] < up[id][0] < borders[2] and borders[1] < up[id][1] < borders[3] for id in others):
            regions[label] = borders
    return Places(up, routes, regions, layout.width + 2 * pad, layout.height + 2 * pad)


def _around(members: list[str], centres: Mapping[str, Point], chart: Chart) -> tuple[float, float, float, float]:
    sizes = {id: chart.figures[id].size() for id in members}
    return (
        min(centres[id][0] - sizes[id][0] / 2 for id in members) - 12,
        min(centres[id][1] - sizes[id][1] / 2 for id in members) - 12,
        max(centres[id][0] + sizes[id][0] / 2 for id in members) + 12,
        max(centres[id][1] + sizes[id][1] / 2 for id in members) + 20,
    )
