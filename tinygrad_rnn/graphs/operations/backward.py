"""The backward view: a graph, and beside it the graph of its own backward pass, level by level.

The backward pass is run with its rules on values that record, so each multiplication that a derivative rule does is a
node. Each operation has a level of its own; to its right stands what its rule made, values flowing down on the left,
cotangents up on the right. A thin line crosses over where a rule reads an array that going forward kept for it.
"""

from __future__ import annotations

from itertools import chain

from ...pictures.scene.reach import reach_of
from ...pictures.scene.scene import Scale, Scene
from ..model.flow import Flow
from ..model.graph import Graph
from ..model.operations import operations_of
from ..model.options import Options
from .backward_diagram import BackwardDiagramBuilder
from .diagram import OperationDiagramBuilder
from .recorded import record_backward
from .side_by_side import side_by_side
from .view import check_size, chosen_step


def backward(graph: Graph, flow: Flow | None, options: Options) -> Scene:
    """Return the picture of a graph (one step of it, if it has steps) beside the graph of its backward pass.

    Args:
        graph: what was recorded.
        flow: its gradient; None: lines show no magnitude.
        options: `steps` says which step, counted from 1; None: the second.

    Raises:
        DrawingError: if there is no such step, or there are more than 3000 boxes.
        GradientError: if the graph was consumed by an earlier backward().
    """
    ops = operations_of(graph)
    step = chosen_step("backward", ops, options)
    chosen = [op for op in ops if step is None or op.step == step]
    forward = OperationDiagramBuilder(graph, flow, ops, chosen).build()
    check_size("backward", 3 * len(forward.boxes))
    back = BackwardDiagramBuilder(graph, flow, forward, chosen, record_backward(graph)).build()
    count = sum(content.kind == "operation" for content in back.boxes.values())
    facts = [] if step is None else [f"step t = {step + 1}"]
    facts += [f"{len(chosen)} operations forward, {count} backward", *filter(None, [options.note])]
    scene = Scene(options.title or "forward and backward", " · ".join(facts))
    scene.scale = Scale.of(chain(forward.magnitudes(), back.magnitudes())) if flow is not None else None
    side_by_side(scene, forward, back)
    scene.reach = reach_of(scene, forward.losses)
    return scene
