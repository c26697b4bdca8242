"""`draw`: pictures of recorded graphs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

from ..checks import flag, instance, integer
from ..engine.collector import collector_paused
from ..errors import DrawingError
from ..pictures.drawing import Drawing
from ..pictures.scene.scene import Scene
from ..truncation import Policy
from .model.flow import Flow, flow_of
from .model.graph import Graph
from .model.options import Options, check_size, checked_steps
from .model.record import record
from .operations.view import backward, operations
from .rolled.view import rolled
from .unrolled.view import unrolled

ViewName = Literal["auto", "unrolled", "rolled", "ops", "backward"]

VIEWS: dict[str, Callable[[Flow, Options], Scene]] = {
    "unrolled": unrolled,
    "rolled": rolled,
    "ops": operations,
    "backward": backward,
}


def draw(
    target: object,
    *example: object,
    view: ViewName = "auto",
    steps: int | Sequence[int] | None = None,
    gradients: bool = False,
    depth: int | None = None,
    truncation: Policy | str | None = None,
    cut_every: int | None = None,
    title: str | None = None,
) -> Drawing:
    """Return a drawing of a recorded graph, or of a model or cell that is recorded on an example.

    A loss is drawn as it was recorded. A model is recorded here, step by step, so that the embedding, cells, output
    layer and loss of each step share a column; its loss is the mean over all targets other than -1. A cell has no
    loss, so the sum of all its outputs is used instead. Outside of `draw` nothing is recorded for drawings.

    Views: "unrolled" has a column for each step; "rolled" shows one step and its loop; "ops" the operations of one
    step, or of a graph without steps; "backward" the same beside the graph of its backward pass; "auto" is "unrolled"
    if a step reads a value that another step computed, otherwise "ops".

    Args:
        target: a loss (Tensor); a list of losses; a model, with ids and targets (N, T), or a cell, with xs (N, T, D),
            each perhaps with an initial state; or a module with a method `loss`, or any other callable, with its
            arguments, one by one or as a tuple.
        example: the arguments that a model, cell or callable is recorded on.
        view: see above.
        steps: counted from 1. "unrolled": how many, or which; None: all if there are at most eight, else 1, 2, T-2,
            T-1 and T. "ops", "backward": which one; None: the second. "rolled" ignores it.
        gradients: draw the norm of the cotangent on each edge, as thickness and colour on a logarithmic scale.
        depth: 1: a cell is one box; 2: its operations are shown; None: 1 in the unrolled view, 2 in the rolled one.
        truncation: a policy, or its text, such as "chunked:20", whose cuts are drawn; for models and cells. Where the
            windows of several backward passes overlap ("windowed:20"), their gradients are added up, and marks say how
            many passes stop there. What a policy such as `RTRL` carries forward is a line of its own beside the state,
            with its size, and the gradients of parameters are those of the policy.
        cut_every: steps between cuts; for models and cells.
        title: of the picture; None: the default of the view.

    Raises:
        DrawingError: if a target, view or step does not exist, or there would be more than 3000 boxes.
        ConfigError: if truncation is not a policy, cut_every or a step is not an integer of 1 or more, depth is not 1
            or 2, gradients not True or False, or title not a str.
        GradientError: if a loss was not recorded, or, with `gradients`, its graph was consumed by backward().

    >>> import numpy as np, tinygrad_rnn as tr
    >>> model = tr.RNNLM(10, 4, 4, np.random.default_rng(0))
    >>> ids = np.arange(24).reshape(2, 12) % 10
    >>> picture = tr.draw(model, ids[:, :-1], ids[:, 1:], gradients=True, cut_every=5)
    >>> [box.title for box in picture.scene.boxes if box.kind == "elision"]
    ['⋯']
    """
    if view not in ("auto", *VIEWS):
        raise DrawingError(f"draw: view must be auto, {', '.join(VIEWS)}, got {view!r}")
    depth = None if depth is None else integer("draw", "depth", depth, 1, 2)
    options = Options(instance("draw", "title", title or "", str), (), checked_steps(steps), depth)
    with collector_paused():
        graph = record(target, example, truncation, cut_every)
        flow = flow_of(graph) if flag("draw", "gradients", gradients) else Flow(graph)
        name = view if view != "auto" else "unrolled" if is_recurrent(graph) else "ops"
        scene = VIEWS[name](flow, replace(options, notes=graph.notes))
    check_size(name, len(scene.boxes))
    return Drawing(scene)


def is_recurrent(graph: Graph) -> bool:
    """Return whether some step reads a value that another step computed: otherwise there is nothing to unroll."""
    edges = (edge for node in graph.nodes if node.step is not None for edge in graph.edges(node))
    return any(edge.source is not None and edge.source.step not in (None, edge.use[0].step) for edge in edges)
