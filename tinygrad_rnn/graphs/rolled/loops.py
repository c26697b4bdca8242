"""The loop of a rolled picture: a state carried back above the step, with scissors and the gradient of each pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from ...pictures.layout.content import Content
from ...pictures.scene.legend import short_number
from ...pictures.scene.scene import Bar, Box, Edge, Label, Scale, Scene
from ...pictures.scene.text import text_width
from ..content.builder import cut_content
from .diagram import Loop

TALL = 58.0
"""Height of a loop with bars, in points."""

_BAR = 22.0  # height of the tallest
_SIDE = 15.0  # between loops that enter delays from the left
_ENTRY = 30.0


def draw_loop(scene: Scene, loop: Loop, source: Box, delay: Box, y: float, level: int, shift: float = 0.0) -> None:
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
