"""The unrolled view: time from left to right, one column for each step.

Inputs are at the bottom of a column, losses at its top, and layers are rows between them; states run through the rows
as straight lines. A parameter is drawn once, below, with a line that leads to every step. The thickness of a piece of
that line shows the norm of the gradient that flows back through it, summed over the steps to which it leads.
"""

from __future__ import annotations

from ...pictures.scene.scene import Label, Scene
from ...pictures.scene.texts import headline_width
from ..model.flow import Flow
from ..model.graph import Place
from ..model.options import Options
from .boxes import draw_boxes, draw_links, draw_losses, draw_parameters, draw_regions
from .canvas import Canvas
from .carried import draw_states
from .grid import MARGIN, make_grid
from .opened import draw_opened
from .parts import Parts, find_parts


def unrolled(flow: Flow, options: Options) -> Scene:
    """Return the unrolled view of a recurrent graph; steps are counted from 1.

    Args:
        flow: the recorded graph, and its gradient.
        options: `steps` chooses the columns, `depth` 2 opens the cells, `title` and `notes` appear above.

    Raises:
        DrawingError: if `options.steps` names a step that does not exist.
    """
    parts = find_parts(flow, options)
    canvas = Canvas(parts, make_grid(parts))
    draw_boxes(canvas)
    draw_parameters(canvas)
    draw_links(canvas)
    draw_states(canvas)
    draw_regions(canvas)
    draw_losses(canvas)
    draw_opened(canvas)
    return _finished(canvas, options)


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
    canvas.light(_places_of_losses(canvas))
    rights = [part.right for part in scene.rectangles]
    scene.width = max(canvas.plan.right, MARGIN + headline_width(scene), *rights) + MARGIN
    scene.height = canvas.plan.bottom + MARGIN
    return scene


def _places_of_losses(canvas: Canvas) -> dict[str, list[Place]]:
    """Return the id of the box of each loss and of each term, to the places at which its gradient starts."""
    losses = {f"loss{total.number + 1}": [canvas.graph.losses[total.number]] for total in canvas.parts.totals}
    for place in (place for terms in canvas.blocks.terms for place in terms):
        block = canvas.blocks.of.get(place[0])
        if block is not None and block in canvas.boxes:
            losses[canvas.boxes[block].id] = [place]
    return losses


def _facts(parts: Parts) -> list[str]:
    count = len(parts.table.times)
    hidden = count - len(parts.shown)
    facts = [f"{count} step{'s' * (count != 1)}" + (f", {hidden} not shown" if hidden else "")]
    shapes = [node.specs[output].shape for block in parts.blocks.blocks for node, output in block.states]
    if shapes and len(shapes[0]) == 2:
        same = len({shape[-1:] for shape in shapes}) == 1
        facts += [f"batch {shapes[0][0]}"] + ([f"hidden {shapes[0][1]}"] if same else [])
    return [*facts, f"{sum(parameter.size for parameter in parts.graph.parameters):,} parameters"]
