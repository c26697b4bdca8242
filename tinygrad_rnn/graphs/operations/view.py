"""The views of single operations: of one step, or of a graph without steps.

The operations view shows the forward pass, with values flowing upward. The backward view shows it next to the graph of
the backward pass, whose rules are recorded, so that each multiplication in a rule is a node. Each operation has a level
of its own, with the operations of its rule to the right; values flow down on the left, cotangents up on the right. A
thin line crosses over where a rule reads an array that the forward pass kept for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, chain

from ...errors import DrawingError
from ...pictures.layout.compose import BOTTOM, LEFT, TOP, compose, finish
from ...pictures.layout.diagram import Diagram
from ...pictures.layout.layered import Arc, Item, layered
from ...pictures.layout.nested import Places, nested
from ...pictures.scene.curves import Point
from ...pictures.scene.reach import reach_of
from ...pictures.scene.scene import Box, Edge, Label, Region, Scale, Scene
from ...pictures.scene.text import text_width
from ..model.flow import Flow
from ..model.operations import Operation, operations_of
from ..model.options import Options, check_size
from .backward_diagram import BackwardDiagram, BackwardDiagramBuilder, RecordedBackward
from .diagram import OperationDiagram, OperationDiagramBuilder

_LEFT, _TOP = 34.0, 118.0
_BETWEEN = 60.0  # between the forward and the backward side, without the lanes
_LANE = 6.0
_ACROSS = 26.0
_BAND = 11.0  # from the boxes of a level to its border


def operations(flow: Flow, options: Options) -> Scene:
    """Return the picture of the operations of one step, or of a graph that has no steps.

    Args:
        flow: the recorded graph, and its gradient.
        options: `steps` chooses the step, counted from 1 (a number, or a sequence of one); None: the second, which
            reads a state and passes one on.

    Raises:
        DrawingError: if there is no such step, or there are more than 3000 boxes.
    """
    diagram, chosen, facts = _one_step("ops", flow, options)
    check_size("ops", len(diagram.boxes))
    scene = Scene(options.title or "operations", " · ".join([*facts, f"{len(chosen)} operations", *options.notes]))
    scene.scale = Scale.of(diagram.magnitudes())
    places = nested(diagram, upward=True)
    compose(scene, diagram, places)
    finish(scene, places.width + 2 * LEFT, places.height + TOP + BOTTOM)
    scene.reach = reach_of(scene, diagram.losses)
    return scene


def backward(flow: Flow, options: Options) -> Scene:
    """Return the picture of a graph (one step of it, if it has steps) next to the graph of its backward pass.

    Args:
        flow: the recorded graph, and its gradient.
        options: `steps` chooses the step, as for `operations`.

    Raises:
        DrawingError: if there is no such step, or there are more than 3000 boxes.
        GradientError: if the graph was consumed by an earlier backward().
    """
    forward, chosen, facts = _one_step("backward", flow, options)
    check_size("backward", 3 * len(forward.boxes))
    back = BackwardDiagramBuilder(flow, forward, chosen, RecordedBackward(flow.graph)).build()
    count = sum(content.kind == "operation" for content in back.boxes.values())
    facts = [*facts, f"{len(chosen)} operations forward, {count} backward", *options.notes]
    scene = Scene(options.title or "forward and backward", " · ".join(facts))
    scene.scale = Scale.of(chain(forward.magnitudes(), back.magnitudes()))
    _side_by_side(scene, forward, back)
    scene.reach = reach_of(scene, forward.losses)
    return scene


def _one_step(view: str, flow: Flow, options: Options) -> tuple[OperationDiagram, list[Operation], list[str]]:
    """Return the diagram of one step (of the whole graph, if it has none), its operations, and facts for a subtitle."""
    ops = operations_of(flow.graph)
    steps = sorted({op.step for op in ops if op.step is not None})
    step, wanted = None, options.steps
    if steps:
        number = steps[min(1, len(steps) - 1)] + 1 if wanted is None else wanted
        if not isinstance(number, int):
            number = number[0] if len(number) == 1 else 0
        step = number - 1
        if step not in steps:
            raise DrawingError(
                f'draw: view="{view}" shows one step; expected steps= one of {steps[0] + 1} to {steps[-1] + 1}, '
                f"got {wanted!r}"
            )
    chosen = [op for op in ops if step is None or op.step == step]
    of = f" of {len(steps)}" if view == "ops" else ""
    facts = [] if step is None else [f"step t = {step + 1}{of}"]
    return OperationDiagramBuilder(flow, ops, chosen).build(), chosen, facts


def _side_by_side(scene: Scene, forward: Diagram, backward: BackwardDiagram) -> None:
    """Fill a scene with a diagram and, to its right, its backward pass; its title and subtitle are kept."""
    left, right, bands = _layers(forward, backward)
    extents = _extents((forward, left), (backward, right))
    lanes = len({edge.tail for edge in backward.crossing})
    places = _side(forward, left, extents, upward=False)
    start = _LEFT + places.width + _BETWEEN + _LANE * lanes
    others = _side(backward, right, extents, upward=True)
    end = start + max(others.width, 60.0) + text_width("rule of cross entropy", 9) + 22
    tops = list(accumulate((extent + _ACROSS for extent in extents), initial=_TOP))
    for number, (box, (first, last)) in enumerate(bands.items()):
        name = backward.rules[box]
        said = f"rule of {name}" if backward.levels[box] else f"{name}: passed on"
        west, north, south = _LEFT - 18, tops[first] - _BAND, tops[last] + extents[last] + _BAND
        scene.regions.append(Region.around(f"level{number}", "module", west, north, end, south))
        scene.labels.append(Label(end - 10, north + 11, said, "end", size=9))
    compose(scene, replace(forward, groups={}), places, _LEFT, _TOP)
    compose(scene, backward, others, start, _TOP, "back")
    _cross(scene, backward, _LEFT + places.width + _BETWEEN / 2)
    scene.labels.append(Label(_LEFT + places.width / 2, _TOP - 34, "forward: values ↓", strong=True))
    scene.labels.append(Label(start + others.width / 2, _TOP - 34, "backward: cotangents ↑", strong=True))
    finish(scene, end + 20, _TOP + places.height + 34)


def _layers(
    forward: Diagram, backward: BackwardDiagram
) -> tuple[dict[str, int], dict[str, int], dict[str, tuple[int, int]]]:
    """Return the layer of each box on the left and on the right, and the first and last layer of each operation."""
    into: dict[str, list[str]] = {}
    for edge in forward.edges:
        into.setdefault(edge.head, []).append(edge.tail)
    operations = backward.rules
    left: dict[str, int] = {}
    right: dict[str, int] = {}
    bands: dict[str, tuple[int, int]] = {}
    rank = 0

    def put(boxes: Sequence[str], side: dict[str, int]) -> bool:
        side.update((box, rank) for box in boxes if box not in side)
        return bool(boxes)

    for box, level in backward.levels.items():
        sources = [tail for tail in into.get(box, ()) if tail not in operations and tail not in left]
        cuts = [tail for tail in sources if forward.boxes[tail].kind == "cut"]
        before = [tail for cut in cuts for tail in into.get(cut, ()) if tail not in left and tail not in operations]
        rank += put(before, left)
        rank += put(sources, left)
        deep = max(level.values(), default=0)
        bands[box] = (rank, rank + deep)
        left[box] = rank + deep // 2
        right.update((made, rank + deep - depth) for made, depth in level.items())
        rank += deep + 1
        late = put([edge.head for edge in forward.edges if edge.tail == box and edge.head not in operations], left)
        starts = put([id for id, at in backward.starts.items() if at == box], right)
        rank += late or starts
    right.update((end, left[box]) for box, end in backward.ends.items())
    return left, right, bands


def _extents(*sides: tuple[Diagram, Mapping[str, int]]) -> list[float]:
    """Return the height of each layer: that of its tallest box."""
    found = [20.0] * (1 + max(rank for _, ranks in sides for rank in ranks.values()))
    for diagram, ranks in sides:
        for id, rank in ranks.items():
            found[rank] = max(found[rank], diagram.boxes[id].size()[1])
    return found


def _side(diagram: Diagram, ranks: Mapping[str, int], extents: Sequence[float], upward: bool) -> Places:
    """Return the layout of one side, with edges upward or downward."""
    index = {id: number for number, id in enumerate(diagram.boxes)}
    pairs = [(edge.head, edge.tail) if upward else (edge.tail, edge.head) for edge in diagram.edges]
    layout = layered(
        [Item(*content.size()) for content in diagram.boxes.values()],
        [Arc(index[a], index[b]) for a, b in pairs],
        ranks=[ranks[id] for id in index],
        downward=True,
        across=_ACROSS,
        between=18.0,
        extents=extents,
    )
    centres = {id: layout.centres[number] for id, number in index.items()}
    routes = [route[::-1] for route in layout.routes] if upward else layout.routes
    return Places(centres, routes, {}, layout.width, layout.height)


def _cross(scene: Scene, backward: BackwardDiagram, corridor: float) -> None:
    """Draw the kept arrays that rules read: each from its box, along a lane in the middle, to its readers."""
    boxes = {box.id: box for box in scene.boxes}
    left = [box for box in scene.boxes if box.id not in backward.boxes]
    right = [box for box in scene.boxes if box.id in backward.boxes]
    tails = sorted({edge.tail for edge in backward.crossing}, key=lambda id: (boxes[id].y, id))
    lanes = {tail: number for number, tail in enumerate(tails)}
    for number, edge in enumerate(backward.crossing):
        lane = corridor + _LANE * lanes[edge.tail]
        out = _around(boxes[edge.tail], left, 1, lane, 5 + 2 * (lanes[edge.tail] % 4))
        into = _around(boxes[edge.head], right, -1, lane, 6 + 2 * (number % 3))
        points = tuple(dict.fromkeys([*out, *reversed(into)]))
        scene.edges.append(Edge(f"kept{number}", edge.tail, edge.head, points, tooltip="an array kept for the rule"))


def _around(box: Box, others: Sequence[Box], sign: int, lane: float, rise: float) -> list[Point]:
    """Return the route from a box to a lane on its right (sign 1) or left (-1), above any boxes in between."""
    beside = any(sign * (other.x - box.x) > 0 and abs(other.y - box.y) < box.height for other in others)
    if not beside:
        return [(box.x + sign * box.width / 2, box.y), (lane, box.y)]
    x, top = box.x + sign * box.width / 4, box.top
    return [(x, top), (x, top - rise), (lane, top - rise)]
