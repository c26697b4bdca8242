"""The operations view: every operation of one step, or of a graph without steps, values flowing upward."""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import DrawingError
from ...pictures.layout.compose import BOTTOM, LEFT, TOP, compose, finish
from ...pictures.layout.nested import nested
from ...pictures.scene.reach import reach_of
from ...pictures.scene.scene import Scale, Scene
from ..model.flow import Flow
from ..model.graph import Graph
from ..model.operations import Operation, operations_of
from ..model.options import Options
from .diagram import OperationDiagramBuilder

LIMIT = 3000  # boxes; more are no picture


def operations(graph: Graph, flow: Flow | None, options: Options) -> Scene:
    """Return the picture of the operations of one step, or of a graph that has no steps.

    Args:
        graph: what was recorded.
        flow: its gradient; None: no gradient is drawn.
        options: `steps` says which step, counted from 1 (a number, or a sequence of one); None: the second, which
            reads a state and hands one on.

    Raises:
        DrawingError: if there is no such step, or there are more than 3000 boxes.
    """
    ops = operations_of(graph)
    step = chosen_step("ops", ops, options)
    chosen = [op for op in ops if step is None or op.step == step]
    diagram = OperationDiagramBuilder(graph, flow, ops, chosen).build()
    check_size("ops", len(diagram.boxes))
    facts = [] if step is None else [f"step t = {step + 1} of {len({op.step for op in ops if op.step is not None})}"]
    facts += [f"{len(chosen)} operations", *filter(None, [options.note])]
    scene = Scene(options.title or "operations", " · ".join(facts))
    scene.scale = Scale.of(diagram.magnitudes()) if flow is not None else None
    places = nested(diagram, upward=True)
    compose(scene, diagram, places)
    finish(scene, places.width + 2 * LEFT, places.height + TOP + BOTTOM)
    scene.reach = reach_of(scene, diagram.losses)
    return scene


def check_size(view: str, boxes: int) -> None:
    """Refuse a picture of more than 3000 boxes, before it is laid out."""
    if boxes > LIMIT:
        raise DrawingError(
            f'draw: view="{view}" would draw {boxes} boxes, more than {LIMIT}; record the steps with unroll '
            'or at_step(t), and draw one of them (steps=1), or view="rolled"'
        )


def chosen_step(view: str, ops: Sequence[Operation], options: Options) -> int | None:
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
