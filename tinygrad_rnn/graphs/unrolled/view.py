"""The unrolled view: time from left to right, one column for each step.

Inputs stand at the bottom of a column, losses at its top, layers between them as rows; the states run through the rows
as straight lines. A parameter is drawn once, below, on a line that leads to every step: the line to a step is as thick
as the gradient that this step adds, the line that gathers them as thick as what has come together so far.
"""

from __future__ import annotations

from itertools import pairwise

from ...pictures.scene.scene import Box, Label, Region, Scene
from ...pictures.scene.text import text_width
from ..content.rows import RowContent
from ..model.blocks import Blocks, find_blocks
from ..model.flow import Flow
from ..model.graph import Graph
from ..model.options import Options
from ..model.table import Row, Table, make_table, shown_times
from .canvas import Canvas
from .carried import draw_states
from .grid import CUT_GAP, ELISION, MARGIN, STEP_GAP, Needs, make_grid
from .losses import Total, draw_losses, find_totals, height_of, losses_in_steps
from .opened import Opener
from .parameters import find_parameters, plan_parameters, width_below
from .regions import draw_borders, draw_regions, find_windows


def unrolled(graph: Graph, flow: Flow | None, options: Options) -> Scene:
    """Return the unrolled view of a recurrent graph; steps are counted from 1.

    Args:
        graph: the graph.
        flow: the gradient to draw, or None.
        options: `steps` chooses the columns, `depth` 2 opens the cells, `title` and `note` are set above.

    Raises:
        DrawingError: if `options.steps` names a step that does not exist.
    """
    blocks = find_blocks(graph)
    table = make_table(graph, blocks)
    content = RowContent(graph, flow, blocks, table)
    # Of opened cells, unless somebody asks for more, the first and the last are shown.
    shown = shown_times(table.times, 2 if options.steps is None and options.depth == 2 else options.steps)
    totals = find_totals(blocks, content, len(shown))
    parameters = find_parameters(graph, blocks, table)
    contents = [own.content(content) for own in parameters]
    legend = flow is not None or bool(graph.cuts)
    opener = Opener(graph, flow, blocks, table) if options.depth == 2 else None
    needs = Needs(
        hidden=[table.row_of[total.merged] for total in totals if total.merged is not None],
        fed=[{table.row_of[reader] for reader in own.readers} for own in parameters],
        gaps=_gaps(blocks, table, shown),
        start=_start_width(table, content),
        head=height_of(totals),
        sizes={} if opener is None else opener.sizes(shown),
        least=width_below(contents, legend),
        windows=find_windows(graph, blocks, table, shown),
    )
    grid = make_grid(content, shown, needs)
    plan = plan_parameters(graph, grid, parameters, contents, legend)
    norms = {} if flow is None else flow.joint({**{link: link.uses for link in blocks.links}, **dict(plan.bundles())})
    canvas = Canvas(graph, flow, blocks, table, content, grid, norms)
    draw_regions(canvas, bool(totals))
    _draw_boxes(canvas, opened=opener is not None)
    plan.draw(canvas)
    _draw_ups(canvas)
    draw_states(canvas)
    draw_borders(canvas)
    draw_losses(canvas, totals)
    if opener is not None:
        opener.draw(canvas)
    _draw_labels(canvas)
    _light(canvas, totals)
    scene = canvas.scene
    scene.title = options.title or _title(table, content)
    scene.subtitle = " · ".join([*_facts(canvas), *filter(None, [options.note])])
    parts: list[Box | Region] = [*scene.boxes, *scene.regions]
    right = max([plan.right, *(part.right for part in parts)])
    headline = max(text_width(scene.title, 19, True), text_width(scene.subtitle, 11))
    scene.width = max(right, MARGIN + headline) + MARGIN
    scene.height = plan.bottom + MARGIN
    return scene


# -- what needs room ---------------------------------------------------------------------------------------------------


def _gaps(blocks: Blocks, table: Table, shown: list[int]) -> dict[tuple[int, int], float]:
    """Return the room between each two columns."""
    cut = {table.ends(link) for link in blocks.links if link.cuts and table.joins_steps(link)}
    gaps: dict[tuple[int, int], float] = {}
    for pair in pairwise(shown):
        hidden = table.times.index(pair[1]) - table.times.index(pair[0]) - 1
        gaps[pair] = ELISION if hidden else CUT_GAP if pair in cut else STEP_GAP
    return gaps


def _start_width(table: Table, content: RowContent) -> float:
    """Return the width of the column of first states and names of rows."""
    widths = [0.0]
    for row in table.rows:
        slots = table.first_states(row)
        widths.append(text_width(_row_label(row, content), 9))
        widths += [content.start(row, slots).size()[0]] if slots and not row.backward else []
    return max(widths)


def _row_label(row: Row, content: RowContent) -> str:
    if row.role not in ("cell", "layer", "attention"):
        return ""
    made = content.maker(row) if row.role == "cell" else ""
    name = ".".join(next(iter(row.blocks.values())).kind.scope)
    return " · ".join(part for part in (name, made, "backward" if row.backward else "") if part)


# -- drawing -----------------------------------------------------------------------------------------------------------


def _draw_boxes(canvas: Canvas, opened: bool) -> None:
    in_steps = losses_in_steps(canvas.blocks)
    for row in canvas.table.rows:
        for time in [time for time in row.inputs if time in canvas.grid.x and time in canvas.grid.shown]:
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
            elif opened and row.role == "cell":
                content = canvas.content.frame(row, time)
                canvas.scene.regions.append(Region(f"cell{len(canvas.boxes)}", *place, "cell"))
            id = f"n{canvas.graph.number[block.nodes[0]]}"
            canvas.boxes[block] = canvas.add(content.at(id, place.x, place.y, place[2:]), block.nodes)


def _draw_ups(canvas: Canvas) -> None:
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
    boxes = {box.id: box for box in canvas.scene.boxes}
    for low, high in table.pairs:
        for time in grid.shown if low.role == "input" else ():
            if time in low.inputs and high.blocks.get(time) in canvas.boxes:
                block, x = high.blocks[time], grid.x[time]
                points = grid.up(low, high, x, x)
                canvas.edge(boxes[table.input_id(low, time)], canvas.boxes[block], points, None, block.nodes)


def _draw_labels(canvas: Canvas) -> None:
    """Write the names of rows before their first states."""
    for row in canvas.table.rows:
        slots = canvas.table.first_states(row)
        above = canvas.content.start(row, slots).size()[1] / 2 + 9 if slots and not row.backward else 0.0
        label = _row_label(row, canvas.content)
        if label:
            canvas.scene.labels.append(Label(MARGIN, row.y - above, label, "start", 9.0))


def _light(canvas: Canvas, totals: list[Total]) -> None:
    """Note what each loss, and each term of a loss, reaches."""
    losses = {f"loss{total.number + 1}": [canvas.graph.losses[total.number]] for total in totals}
    for place in (place for terms in canvas.blocks.terms for place in terms):
        block = canvas.blocks.of.get(place[0])
        if block is not None and block in canvas.boxes:
            losses[canvas.boxes[block].id] = [place]
    canvas.light(losses)


# -- words -------------------------------------------------------------------------------------------------------------


def _title(table: Table, content: RowContent) -> str:
    cells = [content.maker(row) for row in table.rows if row.role == "cell"]
    named = [name for name in dict.fromkeys(cells) if name]
    counted = [f"{cells.count(name)} × {name}" if cells.count(name) > 1 else name for name in named]
    return f"{' and '.join(counted)}, unrolled" if counted else "Unrolled graph"


def _facts(canvas: Canvas) -> list[str]:
    count = len(canvas.table.times)
    hidden = count - len(canvas.grid.shown)
    facts = [f"{count} step{'s' * (count != 1)}" + (f", {hidden} not shown" if hidden else "")]
    shapes = [node.specs[output].shape for block in canvas.blocks.blocks for node, output in block.states]
    if shapes and len(shapes[0]) == 2:
        same = len({shape[-1:] for shape in shapes}) == 1
        facts += [f"batch {shapes[0][0]}"] + ([f"hidden {shapes[0][1]}"] if same else [])
    return [*facts, f"{sum(parameter.size for parameter in canvas.graph.parameters):,} parameters"]
