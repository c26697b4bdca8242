"""States between steps, with cuts, elisions, initial states, and what a policy carries forward."""

from __future__ import annotations

from itertools import pairwise

from ...pictures.layout.content import Content
from ...pictures.scene.curves import Point
from ...pictures.scene.scene import Box, EdgeKind, Label
from ...pictures.scene.scene import Row as Line
from ..model.blocks import Block, Link
from ..model.credit import Credit
from ..model.table import Row
from .canvas import Canvas
from .grid import CUT_GAP, STEP_GAP

_BELOW = 14.0  # from the states to what is carried forward with them, in points


def draw_states(canvas: Canvas) -> None:
    """Draw initial states, links between steps, and what is carried forward with them."""
    for row in canvas.table.rows:
        slots = canvas.table.first_states(row)
        if slots:
            _draw_first(canvas, row, slots)
    elided: dict[tuple[Row, tuple[int, int]], Box] = {}
    for link, tail, head, (early, late) in canvas.carried():
        boxes = canvas.boxes.get(tail), canvas.boxes.get(head)
        if boxes[0] is not None and boxes[1] is not None:
            canvas.link(link, boxes[0], boxes[1], _way(canvas, link, tail, head, (early, late)))
            continue
        between = next(((a, b) for a, b in canvas.grid.breaks if a <= early < b and a < late <= b), None)
        row = canvas.row(tail)
        if boxes == (None, None) or between is None or row is not canvas.row(head):
            continue
        if (row, between) not in elided:
            elided[row, between] = _elision(canvas, row, between)
        _draw_stub(canvas, link, boxes, elided[row, between])
    if canvas.graph.credit is not None:
        _draw_influence(canvas, canvas.graph.credit)


def _state_y(canvas: Canvas, link: Link, tail: Block) -> float:
    slot = tail.states.index(link.place) if link.place in tail.states else 0
    return canvas.state_y(canvas.row(tail), slot)


def _draw_stub(canvas: Canvas, link: Link, boxes: tuple[Box | None, Box | None], elision: Box) -> None:
    """Draw a state that enters or leaves steps that are not shown."""
    assert link.tail is not None
    sign = -1 if canvas.row(link.tail).backward else 1
    y = _state_y(canvas, link, link.tail)
    a, b = boxes[0] or elision, boxes[1] or elision
    points = [(a.x + sign * a.width / 2, y), (b.x - sign * b.width / 2, y)]
    # A cut before a step that is not shown has no mark of its own: the elision counts it.
    closed = any(canvas.graph.cuts[cut].closed for cut in link.cuts)
    nodes = [] if closed and boxes[1] is None else [node for node, _ in link.uses]
    kind: EdgeKind | None = "cut" if closed else None
    canvas.edge(a, b, points, canvas.norms.get(link), nodes, kind=kind, arrow=boxes[1] is not None)


def _elision(canvas: Canvas, row: Row, between: tuple[int, int]) -> Box:
    """Draw the box that replaces steps that are not shown, with their number and that of their cuts."""
    hidden = canvas.table.between(*between)
    cuts: set[int] = set()
    for link, _, head, _ in canvas.carried():
        if canvas.row(head) is row and canvas.graph.credit is None:
            cuts |= {time for time in canvas.table.cut_times(link) if between[0] < time <= between[1]}
    lines = [Line(f"{len(hidden)} step{'s' * (len(hidden) > 1)}")]
    lines += [Line(f"{len(cuts)} cut{'s' * (len(cuts) > 1)}")] if cuts else []
    content = Content("elision", "⋯", tuple(lines), f"steps {hidden[0] + 1} to {hidden[-1] + 1} are not shown")
    nodes = [node for time in hidden if time in row.blocks for node in row.blocks[time].nodes]
    id, size = f"elided{canvas.graph.number[nodes[0]]}", (46, content.size()[1])
    return canvas.add(content.at(id, canvas.grid.breaks[between], row.y, size), nodes)


def _way(canvas: Canvas, link: Link, tail: Block, head: Block, times: tuple[int, int]) -> list[Point]:
    """Return the route of a state: straight to the next column, or else along the gap above its target row."""
    grid, low, high = canvas.grid, canvas.row(tail), canvas.row(head)
    a, b = canvas.boxes[tail], canvas.boxes[head]
    early, late = times
    sign = -1 if low.backward else 1
    start = (a.x + sign * a.width / 2, _state_y(canvas, link, tail))
    if low is high and next((time for time in grid.parts.shown if time > early), None) == late:
        return [start, (b.x - sign * b.width / 2, start[1])]
    before, after = canvas.table.time(tail) or 0, canvas.table.time(head) or 0
    out = grid.x[before] + grid.right + grid.lane_room + 8
    into = grid.x[after] - grid.left - 10
    y = high.y - high.height / 2 - 16
    enter = (b.left, b.y - b.height / 4)
    if abs(out - into) < STEP_GAP + CUT_GAP and out <= into + STEP_GAP:
        middle = (out + into) / 2
        return [start, (middle, start[1]), (middle, enter[1]), enter]
    return [start, (out, start[1]), (out, y), (into, y), (into, enter[1]), enter]


def _draw_first(canvas: Canvas, row: Row, slots: list[int]) -> None:
    """Draw the initial states of a cell."""
    block = row.first
    head = canvas.boxes.get(block)
    if head is None:
        return
    content, grid = canvas.content.start(row, slots), canvas.grid
    width = content.size()[0]
    sign = -1 if row.backward else 1
    edge = grid.x[grid.parts.shown[-1]] + grid.right + grid.lane_room + 26 if row.backward else grid.first_left - 30
    x = edge - sign * width / 2
    starts = {slot: canvas.table.starts[row, slot] for slot in slots}
    nodes = [value.place[0] for value in starts.values() if isinstance(value, Link) and value.place is not None]
    box = canvas.add(content.at(f"start{canvas.graph.number[block.nodes[0]]}", x, row.y), nodes)
    for slot, value in starts.items():
        y = canvas.state_y(row, slot)
        points = [(x + sign * width / 2, y), (head.x - sign * head.width / 2, y)]
        if isinstance(value, Link):
            canvas.link(value, box, head, points)
        else:
            canvas.edge(box, head, points, None, block.nodes)
        if len(row.slots) > 1:
            at = (points[0][0] + grid.first_left) / 2 if sign > 0 else points[0][0] - 12
            canvas.scene.labels.append(Label(at, y - 7, row.slots[slot], size=9))


def _draw_influence(canvas: Canvas, credit: Credit) -> None:
    """Draw a line from step to step, labelled with how many numbers it carries."""
    cells = [row for row in canvas.table.rows if row.role == "cell" and len(row.blocks) > 1]
    if not cells:
        return
    row, shown = cells[0], [time for time in canvas.parts.shown if time in cells[0].blocks]
    y = canvas.state_y(row, len(row.slots) - 1) + _BELOW
    elisions = {box.x: box for box in canvas.scene.boxes if box.kind == "elision" and box.y == row.y}
    for early, late in pairwise(shown):
        tail, head = canvas.boxes[row.blocks[early]], canvas.boxes[row.blocks[late]]
        between = elisions.get(canvas.grid.breaks.get((early, late), 0.0))
        ends = [(tail, head, early)] if between is None else [(tail, between, early), (between, head, late - 1)]
        for a, b, step in ends:
            _draw_piece(canvas, credit, (a, b), y, step)


def _draw_piece(canvas: Canvas, credit: Credit, ends: tuple[Box, Box], y: float, step: int) -> None:
    """Draw a piece of that line, which a step passes on; the losses after it highlight it."""
    tail, head = ends
    nodes = [node for block, box in canvas.boxes.items() if box is head for node in block.nodes]
    points = [(tail.right, y), (head.left, y)]
    tip = "\n".join(credit.facts(step))
    canvas.edge(tail, head, points, None, nodes, kind="influence", arrow=head.kind != "elision", tip=tip)
    if "elision" not in (tail.kind, head.kind):
        x, texts = canvas.grid.mark_x(tail.right, head.left), [f"{credit.symbol}: {credit.sizes[step]:,} numbers"]
        texts += ["of all layers"] * (sum(row.role == "cell" for row in canvas.table.rows) > 1)
        canvas.scene.labels += [Label(x, y + 9 + 10 * number, text, size=8) for number, text in enumerate(texts)]
