"""The unrolled view: time from left to right, one column for each step.

Inputs are at the bottom of a column, losses at its top, and layers are rows between them; states run through the rows
as straight lines. A parameter is drawn once, below, with a line that leads to every step. The thickness of a piece of
that line shows the norm of the gradient that flows back through it, summed over the steps to which it leads.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal

from ...pictures.scene.curves import Point
from ...pictures.scene.scene import Box, Edge, Label, Region, Scene
from ...pictures.scene.text import text_width
from ...pictures.scene.texts import headline_width
from ..model.blocks import Block, Link
from ..model.flow import Flow
from ..model.options import Options
from .canvas import Canvas
from .carried import draw_states
from .grid import LOSS_GAP, MARGIN, PAD, TOP, Grid
from .interior import Interior, Port, Wire
from .parts import LOSS_LINE, Parts, losses_in_steps


def unrolled(flow: Flow, options: Options) -> Scene:
    """Return the unrolled view of a recurrent graph; steps are counted from 1.

    Args:
        flow: the recorded graph, and its gradient.
        options: `steps` chooses the columns, `depth` 2 opens the cells, `title` and `notes` appear above.

    Raises:
        DrawingError: if `options.steps` names a step that does not exist.
    """
    canvas = Canvas(Grid(Parts(flow, options)))
    for draw in (_boxes, _parameters, _links, draw_states, _regions, _losses):
        draw(canvas)
    for block, interior in canvas.parts.interiors.items():
        _Inside(canvas, block, interior).draw()
    return _finished(canvas, options)


def _boxes(canvas: Canvas) -> None:
    """Draw the inputs and the blocks of all steps that are shown."""
    in_steps = losses_in_steps(canvas.blocks)
    for row in canvas.table.rows:
        for time in [time for time in row.inputs if time in canvas.parts.shown]:
            x = canvas.grid.x[time] + row.offset
            content = canvas.content.of(row, time)
            canvas.add(content.at(canvas.table.input_id(row, time), x, row.y, (row.width, row.height)))
        for time, block in sorted(row.blocks.items()):
            place = canvas.grid.place(block)
            if place is None:
                continue
            content = canvas.content.of(row, time)
            if block in in_steps:
                content = canvas.content.total(in_steps[block])
            elif block in canvas.parts.interiors:
                content = canvas.content.frame(row, time)
                borders = place.left, place.top, place.right, place.bottom
                canvas.scene.regions.append(Region.around(f"cell{len(canvas.boxes)}", "cell", *borders))
            box = content.at(place.id, place.x, place.y, (place.width, place.height))
            canvas.boxes[block] = canvas.add(box, block.nodes)


def _links(canvas: Canvas) -> None:
    """Draw the links from row to row within a step."""
    grid, table = canvas.grid, canvas.table
    for link in canvas.blocks.links:
        tail = None if link.tail is None else canvas.boxes.get(link.tail)
        head = None if link.head is None else canvas.boxes.get(link.head)
        if tail is None or head is None or table.ends(link) is not None:
            continue
        pair = canvas.row(link.tail), canvas.row(link.head)
        if pair[0] is not pair[1] and pair in grid.routes:
            times = [table.time(block) for block in (link.tail, link.head) if block is not None]
            spot = next((grid.x[time] for time in times if time is not None), sum(grid.span()) / 2)
            canvas.link(link, tail, head, grid.up(*pair, spot, spot), small=True)
    for low, high in table.pairs:
        for time in grid.parts.shown if low.role == "input" else ():
            if time in low.inputs and high.blocks.get(time) in canvas.boxes:
                block, x = high.blocks[time], grid.x[time]
                tail = canvas.scene.box(table.input_id(low, time))
                canvas.edge(tail, canvas.boxes[block], grid.up(low, high, x, x), None, block.nodes)


def _parameters(canvas: Canvas) -> None:
    """Draw parameters, and the lines that lead from them to the steps."""
    for own, box in canvas.plan.boxes:
        canvas.add(box, [node for reader in own.readers for node in reader.nodes])
    for wire in canvas.plan.wires:
        magnitude = _together(canvas.norms.get((wire.name, place)) for place in wire.uses)
        nodes = [node for reader in wire.readers for node in reader.nodes]
        if len(wire.points) == 1:
            canvas.dot(wire.name, wire.points[0], magnitude, nodes)
        else:
            head = None if wire.head is None else canvas.boxes[wire.head]
            canvas.edge(wire.box, head, wire.points, magnitude, nodes, arrow=head is not None, name=wire.name)


def _losses(canvas: Canvas) -> None:
    """Draw the losses above the steps, and the lines of their terms."""
    y, totals = TOP, canvas.parts.totals
    for total in totals:
        width, height = total.size
        nodes = [*canvas.blocks.sums[total.number], *(total.merged.nodes if total.merged is not None else ())]
        x = _middle(canvas, width, len(totals) > 1)
        box = canvas.add(total.content.at(f"loss{total.number + 1}", x, y + height / 2, total.size), nodes)
        _lines_to(canvas, box, [(link, canvas.boxes[link.tail]) for link in total.links if link.tail in canvas.boxes])
        y += height + LOSS_GAP


def _middle(canvas: Canvas, width: float, several: bool) -> float:
    """Return the x of a loss: the middle of the steps, or of a column nearby; one of several is put after the steps."""
    left, right = canvas.grid.span()
    if several:
        return right + 60 + width / 2
    middle = (left + right) / 2
    columns = [canvas.grid.x[time] for time in canvas.parts.shown]
    nearest = min(columns, key=lambda x: abs(x - middle), default=middle)
    return nearest if abs(nearest - middle) < width / 2 + 24 else middle


def _lines_to(canvas: Canvas, box: Box, links: Sequence[tuple[Link, Box]]) -> None:
    """Draw the lines of terms to a loss: to its bottom from terms below it, else to its sides."""
    sides: dict[int, list[tuple[Link, Box]]] = {-1: [], 1: []}
    for link, tail in links:
        wide = canvas.row(link.tail).role == "wide"
        if wide or abs(tail.x - box.x) < box.width / 2 - 14:
            x = box.x if wide else tail.x
            canvas.link(link, tail, box, [(x, tail.top), (x, box.bottom)], small=True)
        else:
            sides[-1 if tail.x < box.x else 1].append((link, tail))
    for sign, side in sides.items():
        # The nearest one arrives lowest, so that no line crosses another.
        side.sort(key=lambda pair: abs(pair[1].x - box.x))
        gap = min(LOSS_LINE, (box.height - 12) / max(len(side) - 1, 1))
        for place, (link, tail) in enumerate(side):
            y = box.y + ((len(side) - 1) / 2 - place) * gap
            canvas.link(link, tail, box, [(tail.x, tail.top), (tail.x, y), (box.x + sign * box.width / 2, y)])


def _regions(canvas: Canvas) -> None:
    """Draw windows and steps behind everything else, and dashed borders between windows, with gaps for scissors."""
    canvas.scene.regions[:0] = [*_windows(canvas), *_steps(canvas)]
    grid = canvas.grid
    for number, x in enumerate(grid.borders, 1):
        marks = sorted((box.y - 24, box.y + 52) for box in canvas.scene.boxes if box.kind == "cut" and box.x == x)
        top, pieces = grid.top - 20, []
        for begin, end in [*marks, (grid.bottom + 10, 0.0)]:
            if begin > top:
                pieces.append((top, begin))
            top = end
        for piece, (begin, end) in enumerate(pieces, 1):
            points = ((x, begin), (x, end))
            canvas.scene.edges.append(Edge(f"border{number}_{piece}", "", "", points, "border", arrow=False))


def _windows(canvas: Canvas) -> list[Region]:
    grid, found = canvas.grid, []
    for window in canvas.parts.windows:
        left, right = grid.window_span(window)
        # Lines to a loss cross the top of a window, which holds its name.
        room = grid.left + 9 - 24 if canvas.parts.totals else right - left
        names = (f"{what} {window.number}" for what in ("backprop window", "BPTT window"))
        label = next((name for name in names if text_width(name, 9) < room), f"window {window.number}")
        id = f"window{window.number}"
        found.append(Region.around(id, "window", left, grid.top - 22, right, grid.bottom + 12, label))
    return found


def _steps(canvas: Canvas) -> list[Region]:
    grid, found = canvas.grid, []
    for time in grid.parts.shown:
        tops = [row.y - row.height / 2 for row in grid.parts.table.rows if time in (row.inputs or row.blocks)]
        top = max(min(tops, default=grid.top) - PAD, grid.top)
        left, right = grid.x[time] - grid.left, grid.x[time] + grid.right
        found.append(Region.around(f"t{time + 1}", "step", left, top, right, grid.bottom, f"t = {time + 1}"))
    return found


class _Inside:
    """One opened cell; the cells of a row that reads from the end are mirrored."""

    def __init__(self, canvas: Canvas, block: Block, interior: Interior) -> None:
        self.canvas, self.interior, self.row, self.box = canvas, interior, canvas.row(block), canvas.boxes[block]
        self.side = -1 if self.row.backward else 1
        self.entered: set[Port] = set()

    def draw(self) -> None:
        """Draw boxes and lines."""
        made = self.interior
        drawn = [
            self.canvas.add(content.at(f"o{self.canvas.graph.number[op.node]}", *self._put(centre)), op.nodes)
            for op, content, centre in made.boxes
        ]
        for wire in made.wires:
            tail = drawn[wire.tail] if isinstance(wire.tail, int) else self.box
            head = drawn[wire.head] if isinstance(wire.head, int) else self.box
            if not isinstance(wire.head, Port) or wire.head in made.leaving:  # a last state is read by nothing
                self._wire(wire, tail, head)

    def _put(self, point: Point) -> Point:
        """Return a point of the interior in coordinates of the picture."""
        x = self.box.x - self.interior.width / 2 + point[0]
        return (x if self.side > 0 else 2 * self.box.x - x), self.box.y - self.interior.height / 2 + point[1]

    def _border(self, port: Port) -> Point:
        """Return the point at which a state crosses the border of the cell."""
        side = self.side if port.side == "out" else -self.side
        return self.box.x + side * self.box.width / 2, self.canvas.state_y(self.row, port.slot)

    def _wire(self, wire: Wire, tail: Box, head: Box) -> None:
        points, magnitude = tuple(map(self._put, wire.route)), wire.magnitude
        if isinstance(wire.head, Port):
            norms, links = self.canvas.norms, self.interior.leaving[wire.head]
            magnitude = _together(norms[link] * abs(self.canvas.factor(link)) for link in links if link in norms)
        if isinstance(wire.tail, Port) and wire.tail.side == "in":
            points = (*_bend(self._border(wire.tail), points[0]), *points[1:])
        elif isinstance(wire.tail, Port) and wire.tail not in self.entered:
            self.entered.add(wire.tail)
            self._enter(wire, points[0])
        if isinstance(wire.head, Port) and wire.head.side == "out":
            points = (*points[:-1], *_bend(points[-1], self._border(wire.head)))
        elif isinstance(wire.head, Port):
            (x, y), box = points[-1], self.box
            way = ((x, y), (x, box.top + 29), (box.x, box.top + 29), (box.x, box.top))
            self.canvas.edge(box, None, way, magnitude, wire.nodes, arrow=False)
        self.canvas.edge(tail, head, points, magnitude, wire.nodes, arrow=head is not self.box, curved=True)
        if wire.name:
            x, y = points[0]
            anchor: Literal["start", "end"] = "start" if self.side > 0 else "end"
            self.canvas.scene.labels.append(Label(x + 5 * self.side, y - 7, wire.name, anchor, 9.0))

    def _enter(self, wire: Wire, start: Point) -> None:
        """Draw the line through the bottom of the cell that all wires from below share."""
        box = self.box
        way = ((box.x, box.bottom), (box.x, box.bottom - 12), (start[0], box.bottom - 12), start)
        norms = [other.magnitude for other in self.interior.wires if other.tail == wire.tail]
        magnitude = max((norm for norm in norms if norm is not None), default=None)
        self.canvas.edge(box, None, way, magnitude, wire.nodes, arrow=False)


def _together(norms: Iterable[float | None]) -> float | None:
    """Return the norm of several gradients together; None: no gradient."""
    known = [norm for norm in norms if norm is not None]
    return math.hypot(*known) if known else None


def _bend(a: Point, b: Point) -> tuple[Point, Point, Point, Point]:
    """Return a Bezier curve from a to b that is horizontal at both ends."""
    middle = (a[0] + b[0]) / 2
    return a, (middle, a[1]), (middle, b[1]), b


def _finished(canvas: Canvas, options: Options) -> Scene:
    """Return the scene with its title, the labels of rows, its size, and what each loss highlights."""
    scene, parts = canvas.scene, canvas.parts
    scene.title = options.title or parts.content.headline("unrolled")
    scene.subtitle = " · ".join([*_facts(parts), *options.notes])
    for row in parts.table.rows:
        slots = parts.table.first_states(row)
        above = parts.content.start(row, slots).size()[1] / 2 + 9 if slots and not row.backward else 0.0
        label = parts.content.label(row)
        if label:
            scene.labels.append(Label(MARGIN, row.y - above, label, "start", 9.0))
    canvas.light()
    rights = [part.right for part in scene.rectangles]
    scene.width = max(canvas.plan.right, MARGIN + headline_width(scene), *rights) + MARGIN
    scene.height = canvas.plan.bottom + MARGIN
    return scene


def _facts(parts: Parts) -> list[str]:
    count = len(parts.table.times)
    hidden = count - len(parts.shown)
    facts = [f"{count} step{'s' * (count != 1)}" + (f", {hidden} not shown" if hidden else "")]
    shapes = [node.specs[output].shape for block in parts.table.blocks.blocks for node, output in block.states]
    if shapes and len(shapes[0]) == 2:
        same = len({shape[-1:] for shape in shapes}) == 1
        facts += [f"batch {shapes[0][0]}"] + ([f"hidden {shapes[0][1]}"] if same else [])
    return [*facts, f"{sum(parameter.size for parameter in parts.table.graph.parameters):,} parameters"]
