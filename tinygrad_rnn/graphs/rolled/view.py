"""The rolled view: one step, its operations from left to right, and the state carried back above them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from ...pictures.layout.compose import scene_edge
from ...pictures.layout.content import Content
from ...pictures.scene.legend import LEGEND_HEIGHT, LEGEND_WIDTH, short_number
from ...pictures.scene.reach import reach_of
from ...pictures.scene.scene import Bar, Box, Edge, Label, Region, Scale, Scene
from ...pictures.scene.text import text_width
from ...pictures.scene.texts import headline_width
from ..content.builder import cut_content
from ..model.flow import Flow
from ..model.operations import operations_of
from ..model.options import Options
from ..model.rolling import Unlike, roll
from ..unrolled.view import unrolled
from .diagram import Loop, RolledDiagram, RolledDiagramBuilder
from .layout import LEFT, SHORT, RolledLayout

_BESIDE = 22.0  # between loops that leave one box
_BAR = 22.0  # height of the tallest
_SIDE = 15.0  # between loops that enter delays from the left
_ENTRY = 30.0


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
    diagram = RolledDiagramBuilder(flow, rolling, closed=options.depth == 1).build()
    facts = [f"one step, repeated {len(rolling.steps)} times"]
    facts += [loop.fact for loop in diagram.loops]
    facts += ["gradients: root mean square over the steps"] if flow.measured else []
    scene = Scene(options.title or diagram.title, " · ".join(dict.fromkeys([*facts, *options.notes])))
    scene.scale = Scale.of(diagram.magnitudes())
    _fill(scene, diagram, RolledLayout(diagram), len(rolling.steps))
    scene.reach = reach_of(scene, diagram.losses)
    return scene


def _fill(scene: Scene, diagram: RolledDiagram, places: RolledLayout, T: int) -> None:
    """Draw everything at its position."""
    for area, (left, top, right, bottom) in places.frames:
        if area.label:
            label = f"{area.label} · {f'× {T} steps' if area.repeats else 'once'}"
            right = max(right, left + text_width(label, 9) + 26)
            id = f"module{len(scene.regions)}"
            scene.regions.append(Region.around(id, "module", left, top, right, bottom))
            # At the top: lines to parameters cross the bottom.
            scene.labels.append(Label(left + 12, top + 13, label, "start", size=9))
    for loop, y, level in places.loops:
        alike = sorted(depth for other, _, depth in places.loops if other.source == loop.source)
        shift = (alike.index(level) - (len(alike) - 1) / 2) * _BESIDE
        _draw_loop(scene, loop, places.boxes[loop.source], places.boxes[loop.delay], y, level, shift)
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


def _draw_loop(scene: Scene, loop: Loop, source: Box, delay: Box, y: float, level: int, shift: float = 0.0) -> None:
    """Add a loop to a scene: its line, the mark of its cuts, and a bar for each pass.

    Args:
        scene: to add to.
        loop: the loop.
        source: box that computes it; the line leaves at its top.
        delay: its delay; the innermost loop enters it from above, the others from the left.
        y: of the line.
        level: 0 for the innermost loop.
        shift: of the point at which it leaves, from the middle of its source.
    """
    closed = [scale == 0 for scale in loop.scales]
    magnitude = loop.magnitude
    if level:
        x = delay.left - _ENTRY - _SIDE * (level - 1)
        end = [(x, y), (x, delay.y), (delay.left, delay.y)]
    else:
        x = delay.x
        end = [(x, y), (x, delay.top)]
    points = [(source.x + shift, source.top), (source.x + shift, y), *end]
    what = f"{loop.fact}," if loop.kind == "influence" else f"state: {loop.name}, carried"
    tooltip = f"{what} to the next step"
    if magnitude is not None:
        tooltip += f"\ngradient norm: {short_number(magnitude)} (root mean square)"
    line = partial(Edge, kind=loop.kind, magnitude=magnitude, tooltip=tooltip)
    id, start, mark = f"{'influence' if loop.kind == 'influence' else 'loop'} {loop.delay}", x + 30.0, _mark(loop)
    if mark is None:
        scene.edges.append(line(id, source.id, delay.id, tuple(points)))
    else:
        # Two pieces, so that highlighting can stop at the scissors.
        content, said = mark
        cut = content.at(f"cut {loop.delay}", x + 46.0, y)
        scene.edges.append(line(id, source.id, cut.id, (*points[:2], (cut.right, y)), arrow=False))
        scene.edges.append(line(f"{id} back", cut.id, delay.id, ((cut.left, y), *points[2:])))
        scene.boxes.append(cut)
        scene.labels.append(Label(cut.right + 5, y + 11, said, "start", size=9, warn=True))
        start = cut.right + 14
    if loop.norms:
        _bars(scene, loop, closed, start, source.x + shift - 20, y)


def _mark(loop: Loop) -> tuple[Content, str] | None:
    """Return the mark of the cuts of a loop, and which passes are cut, in words; None if nothing is cut."""
    cuts = [number for number, scale in enumerate(loop.scales) if scale == 0]
    factors = sorted({scale for scale in loop.scales if scale not in (None, 0, 1)})
    if 1.0 in loop.scales:
        return replace(cut_content(1.0, "✂ some"), title="✂"), "in some passes"
    if not cuts and not factors:
        return None
    said = " or ".join(short_number(f) for f in factors[:2]) + (" ..." if len(factors) > 2 else "")
    if not cuts:
        content = replace(cut_content(factors[0] or 0.0), title=f"× {said}")
        return content, "some steps" if None in loop.scales else "each step"
    passes = len(loop.scales)
    begins = when(loop.cuts, passes + loop.lag - 1) if loop.cuts else when(cuts, passes, loop.lag)
    text = f"cut {begins}" + (f", else × {said}" if factors else "")
    facts = f"closed: {len(cuts)} of {len(loop.scales)} passes" + (f"\nelse: × {said}" if factors else "")
    return cut_content(0.0, facts=facts), text


def when(cuts: Sequence[int], passes: int, lag: int = 1) -> str:
    """Return which passes of a loop are cut, in words; pass j leads to step j + lag, counted from 0.

    >>> when([9, 19, 29], 34), when([3], 7), when([0, 1, 2], 3), when([2, 11, 13, 30, 31], 34)
    ('every 10 steps', 'before t = 5', 'every step', '5 of 34 times')
    """
    steps = [cut + lag for cut in cuts]  # the step that begins after the cut, counted from 0
    if len(cuts) == passes:
        return "every step"
    every = steps[1] - steps[0] if len(steps) > 1 else 0
    if every and steps[0] <= every and steps == list(range(steps[0], passes + lag, every)):
        return f"every {every} steps"
    if len(steps) <= 3:
        return "before t = " + ", ".join(str(step + 1) for step in steps)
    return f"{len(steps)} of {passes} times"


def _bars(scene: Scene, loop: Loop, closed: Sequence[bool], left: float, right: float, y: float) -> None:
    """Add a bar on the line for each pass, and scissors where a pass is cut."""
    first, last = "t = 1", f"t = {len(loop.norms)}"
    ends = text_width(last, 9) + 8
    room = right - left - 2 * ends
    forward = loop.kind == "influence"
    if room < 30 or (scene.scale is None and not forward):
        return
    count = len(loop.norms)
    group = -(-count * 5 // max(1, int(room)))  # passes that share a bar
    step = min(20.0, room / -(-count // group))
    # Heights compare the passes with each other; colours compare them with the rest of the picture.
    own = Scale.of(loop.norms)
    middle = (left + right) / 2
    start = middle - step * (count / group) / 2
    for number, at in enumerate(range(0, count, group)):
        x = start + (number + 0.5) * step
        norms = loop.norms[at : at + group]
        passes = f"t = {at + 1}" if group == 1 else f"t = {at + 1} to {at + len(norms)}"
        if any(closed[at : at + group]):
            scene.labels.append(Label(x, y - 11, "✂" if step >= 9 else "|", size=min(10.0, step + 3), warn=True))
            continue
        norm = max(norms)
        height = 2 + (_BAR - 2) * (own.place(norm) if own else 0.0)
        tooltip = f"{passes}\n{'' if forward else 'gradient '}norm: {short_number(norm)}"
        size = round(0.68 * step, 2), round(height, 2)
        scene.bars.append(Bar(round(x, 2), y - 5, *size, None if forward else norm, tooltip))
    scene.labels.append(Label(start - 5, y - 11, first, "end", size=9))
    scene.labels.append(Label(start + step * (count / group) + 5, y - 11, last, "start", size=9))
    said = f"‖{loop.name}‖ carried forward" if forward else f"‖∂L/∂{loop.name}_{{t}}‖ carried back"
    scene.labels.append(Label(middle, y - 5 - _BAR - 8, f"{said} on each pass of the loop", size=9))
