"""The rolled view: one step, its operations from left to right, and the state carried back above them."""

from __future__ import annotations

from dataclasses import replace

from ...pictures.layout.compose import scene_edge
from ...pictures.scene.legend import LEGEND_HEIGHT, LEGEND_WIDTH
from ...pictures.scene.reach import reach_of
from ...pictures.scene.scene import Label, Region, Scale, Scene
from ...pictures.scene.text import text_width
from ...pictures.scene.texts import headline_width
from ..model.flow import Flow
from ..model.operations import operations_of
from ..model.options import Options
from ..model.rolling import Unlike, roll
from ..unrolled.view import unrolled
from .diagram import RolledDiagram, rolled_diagram
from .layout import LEFT, SHORT, RolledLayout, lay_out
from .loops import draw_loop

_BESIDE = 22.0  # between loops that leave one box


def rolled(flow: Flow, options: Options) -> Scene:
    """Return the picture of one step with its loops; if steps do not match, the unrolled picture, with the reason.

    Args:
        flow: the recorded graph, and its gradient.
        options: `depth` 1 draws each cell, layer and loss as one box, otherwise their operations are drawn; `steps`
            is ignored, because one step represents all.
    """
    rolling = roll(flow.graph, operations_of(flow.graph))
    if isinstance(rolling, Unlike):
        return unrolled(flow, replace(options, notes=(*options.notes, f"not rolled: {rolling.reason}")))
    diagram = rolled_diagram(flow, rolling, closed=options.depth == 1)
    facts = [f"one step, repeated {len(rolling.steps)} times"]
    facts += [loop.fact for loop in diagram.loops]
    facts += ["gradients: root mean square over the steps"] if flow.measured else []
    scene = Scene(options.title or diagram.title, " · ".join(dict.fromkeys([*facts, *options.notes])))
    scene.scale = Scale.of(diagram.magnitudes())
    _fill(scene, diagram, lay_out(diagram), len(rolling.steps))
    scene.reach = reach_of(scene, diagram.losses)
    return scene


def _fill(scene: Scene, diagram: RolledDiagram, places: RolledLayout, T: int) -> None:
    """Draw everything at its position."""
    for number, frame in enumerate(frame for frame in places.frames if frame.area.label):
        label = f"{frame.area.label} · {f'× {T} steps' if frame.area.repeats else 'once'}"
        right = max(frame.right, frame.left + text_width(label, 9) + 26)
        scene.regions.append(Region.around(f"module{number}", "module", frame.left, frame.top, right, frame.bottom))
        # At the top: lines to parameters cross the bottom.
        scene.labels.append(Label(frame.left + 12, frame.top + 13, label, "start", size=9))
    for loop, y, level in places.loops:
        alike = sorted(depth for other, _, depth in places.loops if other.source == loop.source)
        shift = (alike.index(level) - (len(alike) - 1) / 2) * _BESIDE
        draw_loop(scene, loop, places.boxes[loop.source], places.boxes[loop.delay], y, level, shift)
    for number, (feed, points) in enumerate(places.feeds):
        edge = scene_edge(f"{feed.tail}-{feed.head}-{number}", feed, points)
        scene.edges.append(replace(edge, curved=False))
    scene.boxes += places.boxes.values()
    for number, line in enumerate(diagram.edges):
        route = places.routes[number]
        scene.edges.append(scene_edge(f"line{number}", line, route))
        if 0 < len(line.label) <= SHORT:
            scene.labels.append(Label(route[0][0] + 5, route[0][1] - 6.5, line.label, "start", size=9))
    _finish(scene, places.bottom)


def _finish(scene: Scene, bottom: float) -> None:
    """Set the size of the scene, and put the legend in free space."""
    parts = scene.rectangles
    right = max(*(part.right for part in parts), *(x for edge in scene.edges for x, _ in edge.points))
    scene.width, scene.height = max(right, LEFT + headline_width(scene)) + LEFT, bottom
    if scene.scale is None:
        return
    x, y = scene.width - LEGEND_WIDTH - 30, bottom - 26 - LEGEND_HEIGHT + 8
    if any(part.right > x - 16 and part.bottom > y - 10 for part in parts):
        y = bottom
        scene.height += LEGEND_HEIGHT + 10
    scene.legend = (x, y)
