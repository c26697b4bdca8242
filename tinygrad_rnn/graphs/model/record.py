"""The recording of a model or a cell on an example, one step at a time, so that each has a column of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import NamedTuple, cast

import numpy as np

from ...checks import integer, spread
from ...credit.forward import ForwardPolicy
from ...engine.tape import Array, Node, enable_grad, scope, watching
from ...engine.tensor import Tensor, shape_of
from ...engine.tree import flatten
from ...errors import ConfigError, DrawingError
from ...nn.base import batch_of_one
from ...nn.cells import Cell, Stacked, axes_of_a_step, initial_state
from ...nn.scan import whole_step
from ...ops import cut
from ...truncation import Policy, parse_policy, policy_text, started
from .credit import Credit, Step, carry_forward
from .graph import Graph, Pass, Place, read

Scales = Sequence[float | None]
"""The factor of the cut before each step, None for no cut."""


class Steps(NamedTuple):
    """A target that runs step by step.

    Attributes:
        step: function of t and a state that returns the step's loss, or None, and the next state.
        T: number of steps.
        state: the initial one.
        weights: of each step's loss; None: 1.
        nothing: error message if no step has a loss.
        sequence: the array (N, T, ...) of which the steps read slices; None: Tensors or ids.
        cell: name of the cell, if the target is one.
    """

    step: Step
    T: int
    state: object
    weights: Array | None
    nothing: str
    sequence: Array | None = None
    cell: str = ""

    def loss(self, t: int, state: object, scale: float | None = None) -> tuple[Tensor | None, object]:
        """Return the weighted loss of a step, and the next state; `scale` is the factor of a cut before the step."""
        with whole_step(t):
            loss, state = self.step(t, state if scale is None else cut(state, scale))
        return loss if loss is None or self.weights is None else loss * self.weights[t], state

    def run(self, scales: Scales, terms: dict[int, Tensor]) -> Tensor:
        """Return the sum of the weighted losses, with cuts before steps; the term of each step is put into `terms`."""
        total: Tensor | None = None
        state = self.state
        for t, scale in enumerate(scales):
            part, state = self.loss(t, state, scale)
            if part is not None:
                terms[t] = part
                total = part if total is None else total + part
        if not isinstance(total, Tensor):
            raise DrawingError(f"draw: {self.nothing}")
        return total


def record(
    target: object, example: Sequence[object], truncation: Policy | str | None = None, cut_every: int | None = None
) -> Graph:
    """Return the graph of a target; see `draw` for what a target can be.

    Raises:
        DrawingError: if the target cannot be drawn, its example is missing, or cuts are requested in a graph that has
            already been recorded.
        ConfigError: if `truncation` is not a policy, or `cut_every` is not an integer of 1 or more.
    """
    if truncation is not None and cut_every is not None:
        raise DrawingError("draw: pass truncation= or cut_every=, not both")
    losses = [target] if isinstance(target, Tensor) else target
    if isinstance(losses, list | tuple) and losses and all(isinstance(loss, Tensor) for loss in losses):
        if example or truncation is not None or cut_every is not None:
            raise DrawingError(
                "draw: a loss has already been recorded, so example, truncation and cut_every have no effect; pass a "
                "model or a cell with an example, or call cut() where you want cuts when you record the loss"
            )
        return read(list(losses))
    if not (callable(target) or hasattr(target, "loss")) or not example:
        raise DrawingError(
            f"draw: expected a loss (a Tensor), several losses, or a model or cell with an example, such as "
            f"draw(model, ids, targets) or draw(cell, xs); got {type(target).__name__} and {len(example)} arguments"
        )
    target = cast("Callable[..., object]", target)
    example = spread(getattr(target, "loss", target), example)
    policy = None if truncation is None else started(parse_policy(truncation, argument="draw: truncation"))
    names: Mapping[str, Tensor] = target.parameters() if hasattr(target, "parameters") else {}
    nodes: list[Node] = []
    values: dict[Place, Array] = {}

    def look(node: Node, outputs: tuple[Array, ...]) -> None:
        nodes.append(node)
        values.update(((node, index), output) for index, output in enumerate(outputs))

    interval = None if cut_every is None else integer("draw", "cut_every", cut_every)
    steps, windows = _steps_of(target, example), list[_Window]()
    with watching(look), enable_grad():
        if steps is None:
            found = _run_whole(target, example)
        else:
            found = [steps.run(_scales(policy, interval, steps.T, windows), {})]
    passes = () if steps is None else tuple(_pass(steps, window, nodes) for window in windows)
    graph = read(found, values, names, passes)
    credit, notes = _credit(policy, target, steps, names), _notes(policy, truncation, cut_every)
    if steps is not None:
        initial = (part.data if isinstance(part, Tensor) else np.asarray(part) for part in flatten(steps.state))
        graph = replace(graph, sequence=steps.sequence, initial=tuple(initial), cell=steps.cell)
    return replace(graph, credit=credit, notes=notes)


def _credit(policy: Policy | None, target: object, steps: Steps | None, names: Mapping[str, Tensor]) -> Credit | None:
    """Return what a policy carries forward; None: nothing."""
    if not isinstance(policy, ForwardPolicy):
        return None
    if steps is None or not names:
        raise DrawingError(
            f"draw: {policy!r} carries credit from step to step, so it needs a model or cell that has parameters() "
            f"and runs step by step; got {type(target).__name__}"
        )
    return carry_forward(policy, steps.loss, steps.T, steps.state, names)


class _Window(NamedTuple):
    """A backward pass: the steps of its losses, begin to end - 1, and the factor of the cut before each step."""

    begin: int
    end: int
    scales: Scales


def _pass(steps: Steps, window: _Window, nodes: Sequence[Node]) -> Pass:
    """Run the steps once more, with the cuts of one pass; `nodes` are those of the first recording, in order."""
    again: list[Node] = []
    terms: dict[int, Tensor] = {}
    with watching(lambda node, _: again.append(node)), enable_grad():
        steps.run(window.scales, terms)
    seeds = [(part.node, part.index) for t, part in terms.items() if window.begin <= t < window.end and part.node]
    closed = frozenset(t for t, scale in enumerate(window.scales) if scale == 0 and t < window.end)
    return Pass(tuple(seeds), dict(zip(again, nodes, strict=True)), closed, window.end)


def _scales(policy: Policy | None, cut_every: int | None, T: int, windows: list[_Window]) -> Scales:
    """Return the factors of the cuts in the drawn graph.

    If the windows of a policy's passes overlap, no cut is closed, and the passes are put into `windows`.
    """
    if cut_every is not None:
        return [0.0 if t and t % cut_every == 0 else None for t in range(T)]
    if policy is None:
        return [None] * T
    if isinstance(policy, ForwardPolicy):  # nothing goes back from step to step
        return [None, *[0.0] * (T - 1)]
    factors, begin = policy.factors(T), 0
    if len(policy.passes(T)) == 1 or np.allclose(policy.mask(T), _mask(factors)):
        return [None if factor == 1 else factor for factor in factors]
    for end in policy.passes(T):
        own = [*policy.factors(end, begin), *[1.0] * (T - end)]
        windows.append(_Window(begin, end, [None, *own[1:]]))
        begin = end
    return [None, *[1.0] * (T - 1)]


def _mask(factors: Sequence[float]) -> Array:
    """Return the factor on the gradient of each loss (row) at each step (column), given those of the cuts."""
    M = np.tri(len(factors))
    for edge, factor in enumerate(factors):
        M[edge:, :edge] *= factor
    return M


def _notes(policy: Policy | None, truncation: Policy | str | None, cut_every: int | None) -> tuple[str, ...]:
    if isinstance(policy, ForwardPolicy):
        return (f"credit carried forward by {policy!r}", "lines: the gradient within each step")
    if cut_every is not None:
        return (f"cut every {cut_every} step{'s' * (cut_every != 1)}",)
    return () if truncation is None else (f"truncation {policy_name(truncation)}",)


def policy_name(policy: Policy | str) -> str:
    """Return the name of a policy: its text, or the name of its class if that is the user's own."""
    try:
        return policy if isinstance(policy, str) else policy_text(policy)
    except ConfigError:
        return type(policy).__name__


def _steps_of(target: Callable[..., object], example: Sequence[object]) -> Steps | None:
    """Return a model or a cell as steps; None if it runs on the whole example at once."""
    if isinstance(example[0], tuple | dict):  # a batch that the target unpacks itself
        return None
    shape = shape_of(example[0])
    if hasattr(target, "loss"):
        if not hasattr(target, "initial_state") or len(example) < 2:
            return None
        model, state = cast(Cell, target), _first(target, example[2:], shape)
        return _language_model(model, target.loss, example[0], example[1], state)
    is_cell = hasattr(target, "initial_state") and not getattr(target, "time_axis", False)
    given = flatten(example[1]) if len(example) > 1 and not hasattr(target, "time_axis") else []
    # A second argument of floats is a state; targets are integers.
    has_state = any(isinstance(part, Tensor) or np.asarray(part).dtype.kind == "f" for part in given)
    if len(shape) == 1 + axes_of_a_step(target, example[0]) and (is_cell or has_state):
        xs = example[0] if isinstance(example[0], Tensor) else np.asarray(example[0])
        return _cell(cast(Cell, target), xs, _first(target, example[1:], shape))
    return None


def _run_whole(target: Callable[..., object], example: Sequence[object]) -> list[Tensor]:
    """Run a target on its whole example, and return its losses."""
    if hasattr(target, "loss"):
        loss = target.loss(*example)
        return [loss[0] if isinstance(loss, tuple) else loss]
    is_cell = hasattr(target, "initial_state") and not getattr(target, "time_axis", False)
    if is_cell and len(example) == 1 and len(shape := shape_of(example[0])) == axes_of_a_step(target, example[0]):
        example = (example[0], _first(target, (), shape))
    for part in flatten(target(*example)):
        if isinstance(part, Tensor) and part.node is not None:
            return [np.sum(part)]
    raise DrawingError(f"draw: {type(target).__name__} recorded nothing with a gradient; set requires_grad on a leaf")


def _first(target: object, given: Sequence[object], shape: tuple[int, ...]) -> object:
    return given[0] if given and given[0] is not None else initial_state(target, shape[0])


def _language_model(
    model: Cell, loss: Callable[..., tuple[Tensor, object]], ids: object, targets: object, state: object
) -> Steps:
    """Return a language model as steps, one for each position; the total loss is the mean in nats per target."""
    ids, targets = np.asarray(ids), np.asarray(targets)
    if ids.ndim != 2 or ids.shape != targets.shape:
        raise DrawingError(
            f"draw: expected ids and targets of one shape (N, T), got {ids.shape} and {targets.shape}"
            + batch_of_one("ids", ids, 1)
        )
    weights = np.count_nonzero(targets != -1, axis=0) / max(np.count_nonzero(targets != -1), 1)

    def step(t: int, state: object) -> tuple[Tensor | None, object]:
        if weights[t]:
            return loss(ids[:, t : t + 1], targets[:, t : t + 1], state)
        return None, model(ids[:, t : t + 1], state)[1]

    return Steps(step, ids.shape[1], state, weights, "every target is -1, so there is no loss")


def _cell(cell: Cell, xs: Tensor | Array, state: object) -> Steps:
    """Return a cell as steps; as it has no loss of its own, the total loss is the sum of all outputs."""
    name = getattr(cell, "__name__", type(cell).__name__)

    def step(t: int, state: object) -> tuple[Tensor | None, object]:
        with nullcontext() if isinstance(cell, Stacked) else scope(name):
            output, state = cell(xs[:, t], state)
        return np.sum(output), state

    nothing = f"the cell {name} recorded nothing that requires a gradient"
    sequence, own = None if isinstance(xs, Tensor) else xs, "" if isinstance(cell, Stacked) else name
    return Steps(step, shape_of(xs)[1], state, None, nothing, sequence, own)
