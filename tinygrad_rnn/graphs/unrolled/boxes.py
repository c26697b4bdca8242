"""The boxes of the rows of the unrolled view, and the lines from row to row within a step."""

from __future__ import annotations

import math

from ...pictures.scene.scene import Region
from .canvas import Canvas
from .parts import losses_in_steps


def draw_boxes(canvas: Canvas) -> None:
    """Draw the inputs and the blocks of all steps that are shown."""
    in_steps = losses_in_steps(canvas.blocks)
    for row in canvas.table.rows:
        for time in [time for time in row.inputs if time in canvas.grid.shown]:
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


def draw_links(canvas: Canvas) -> None:
    """Draw what goes from row to row within a step."""
    grid, table = canvas.grid, canvas.table
    for link in canvas.blocks.links:
        tail = None if link.tail is None else canvas.boxes.get(link.tail)
        head = None if link.head is None else canvas.boxes.get(link.head)
        if tail is None or head is None or table.joins_steps(link):
            continue
        pair = canvas.row(link.tail), canvas.row(link.head)
        if pair[0] is not pair[1] and pair in grid.routes:
            times = [table.time(block) for block in (link.tail, link.head) if block is not None]
            spot = next((grid.x[time] for time in times if time is not None), sum(grid.span()) / 2)
            canvas.link(link, tail, head, grid.up(*pair, spot, spot), small=True)
    for low, high in table.pairs:
        for time in grid.shown if low.role == "input" else ():
            if time in low.inputs and high.blocks.get(time) in canvas.boxes:
                block, x = high.blocks[time], grid.x[time]
                tail = canvas.scene.box(table.input_id(low, time))
                canvas.edge(tail, canvas.boxes[block], grid.up(low, high, x, x), None, block.nodes)


def draw_parameters(canvas: Canvas) -> None:
    """Draw parameters, and the lines that lead from them to the steps."""
    for (own, box), wires in zip(canvas.plan.boxes, canvas.plan.wires, strict=True):
        canvas.add(box, [node for reader in own.readers for node in reader.nodes])
        for wire in wires:
            norms = (canvas.norms.get((wire.name, place)) for place in own.uses(wire.readers))
            known = [norm for norm in norms if norm is not None]
            magnitude = math.hypot(*known) if known else None
            nodes = [node for reader in wire.readers for node in reader.nodes]
            if len(wire.points) == 1:
                canvas.dot(wire.name, wire.points[0], magnitude, nodes)
            else:
                head = None if wire.head is None else canvas.boxes[wire.head]
                arrow = head is not None
                canvas.edge(box, head, wire.points, magnitude, nodes, arrow=arrow, name=wire.name)
