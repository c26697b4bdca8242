"""The views of single operations: of one step, or of a graph without steps.

The operations view shows the forward pass, with values flowing upward. The backward view shows it next to the graph of
the backward pass, whose rules are recorded, so that each multiplication in a rule is a node. Each operation has a level
of its own, with the operations of its rule to the right; values flow down on the left, cotangents up on the right. A
thin line crosses over where a rule reads an array that the forward pass kept for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from ...errors import DrawingError
from ...pictures.layout.compose import BOTTOM, LEFT, TOP, compose, finish
from ...pictures.layout.nested import nested
from ...pictures.scene.reach import reach_of
from ...pictures.scene.scene import Scale, Scene
from ..model.flow import Flow
from ..model.operations import Operation, operations_of
from ..model.options import Options, check_size
from .backward_diagram import BackwardDiagramBuilder, record_backward
from .diagram import OperationDiagram, OperationDiagramBuilder
from .side_by_side import side_by_side


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
    back = BackwardDiagramBuilder(flow, forward, chosen, record_backward(flow.graph)).build()
    count = sum(content.kind == "operation" for content in back.boxes.values())
    facts = [*facts, f"{len(chosen)} operations forward, {count} backward", *options.notes]
    scene = Scene(options.title or "forward and backward", " · ".join(facts))
    scene.scale = Scale.of(chain(forward.magnitudes(), back.magnitudes()))
    side_by_side(scene, forward, back)
    scene.reach = reach_of(scene, forward.losses)
    return scene


def _one_step(view: str, flow: Flow, options: Options) -> tuple[OperationDiagram, list[Operation], list[str]]:
    """Return the diagram of one step (of the whole graph, if it has none), its operations, and facts for a subtitle."""
    ops = operations_of(flow.graph)
    steps = sorted({op.step for op in ops if op.step is not None})
    step = _chosen(view, steps, options.steps) if steps else None
    chosen = [op for op in ops if step is None or op.step == step]
    of = f" of {len(steps)}" if view == "ops" else ""
    facts = [] if step is None else [f"step t = {step + 1}{of}"]
    return OperationDiagramBuilder(flow, ops, chosen).build(), chosen, facts


def _chosen(view: str, steps: Sequence[int], wanted: int | Sequence[int] | None) -> int:
    if wanted is None:
        return steps[min(1, len(steps) - 1)]
    number = wanted if isinstance(wanted, int) else wanted[0] if len(wanted) == 1 else None
    if number is None or number - 1 not in steps:
        raise DrawingError(
            f'draw: view="{view}" shows one step; expected steps= one of {steps[0] + 1} to {steps[-1] + 1}, '
            f"got {wanted!r}"
        )
    return number - 1
