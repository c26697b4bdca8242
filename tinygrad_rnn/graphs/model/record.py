"""Record a model or a cell on an example, one step at a time, so that each step has a column of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, cast

import numpy as np

from ...checks import integer
from ...credit.forward import ForwardPolicy
from ...engine.tape import Array, Node, at_step, enable_grad, scope, watching
from ...engine.tensor import Tensor, shape_of
from ...engine.tree import flatten
from ...errors import ConfigError, DrawingError
from ...nn.base import batch_of_one
from ...nn.cells import Cell, Stacked, initial_state
from ...ops import cut
from ...truncation import Policy, parse_policy, policy_text
from .credit import Credit, Step, carry_forward
from .graph import Graph, Pass, Place, read


@dataclass
class Recording:
    """A recorded graph, and what a drawing may say of it.

    Attributes:
        losses: the Tensors to draw.
        values: what every operation computed.
        names: name to leaf Tensor.
        notes: the truncation, if there is one.
        passes: backward passes with windows that overlap, so that no cuts of one graph stand for all of them.
        credit: what a policy carries forward beside the state; None: nothing.
    """

    losses: list[Tensor]
    values: dict[Place, Array] = field(default_factory=dict)
    names: Mapping[str, Tensor] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    passes: tuple[Pass, ...] = ()
    credit: Credit | None = None

    def graph(self) -> Graph:
        """Return the graph, read."""
        return read(self.losses, self.values, self.names, self.passes, self.credit)


def record(
    target: object, example: Sequence[object], truncation: Policy | str | None = None, cut_every: int | None = None
) -> Recording:
    """Return the graph of a target; see `draw` for what a target can be.

    Raises:
        DrawingError: if the target is nothing that can be drawn, its example is missing, or cuts are asked for in a
            graph that is recorded already.
        ConfigError: if `truncation` is no policy, or `cut_every` no number of steps.
    """
    if truncation is not None and cut_every is not None:
        raise DrawingError("draw: pass truncation= or cut_every=, not both")
    losses = [target] if isinstance(target, Tensor) else target
    if isinstance(losses, list | tuple) and losses and all(isinstance(loss, Tensor) for loss in losses):
        if example or truncation is not None or cut_every is not None:
            raise DrawingError(
                "draw: a loss is recorded already, so example, truncation and cut_every have no meaning; pass a model "
                "or a cell with an example, or record with cut() where the cuts shall stand"
            )
        return Recording(list(losses))
    if not callable(target) or not example:
        raise DrawingError(
            f"draw: expected a loss (a Tensor), several losses, or a model or cell with an example, such as "
            f"draw(model, ids, targets) or draw(cell, xs); got {type(target).__name__} and {len(example)} arguments"
        )
    policy = None if truncation is None else parse_policy(truncation, argument="draw: truncation").start()
    found = Recording([], notes=_notes(policy, truncation, cut_every))
    if hasattr(target, "parameters"):
        found.names = target.parameters()
    nodes: list[Node] = []

    def look(node: Node, outputs: tuple[Array, ...]) -> None:
        nodes.append(node)
        found.values.update(((node, index), output) for index, output in enumerate(outputs))

    windows: list[_Window] = []
    steps = _steps_of(target, example)
    with watching(look), enable_grad():
        found.losses = _run(target, example) if steps is None else [steps.run(_scales(policy, cut_every, windows), {})]
    if steps is not None:
        found.passes = tuple(_pass(steps, window, nodes) for window in windows)
    if isinstance(policy, ForwardPolicy):
        if steps is None or not found.names:
            raise DrawingError(
                f"draw: {policy!r} carries credit from step to step, so it needs a model or cell that has parameters() "
                f"and runs step by step; got {type(target).__name__}"
            )
        found.credit = carry_forward(policy, steps.loss, steps.T, steps.state, found.names)
    return found


class _LanguageModel(Protocol):
    """What is recorded position by position."""

    def loss(self, ids: Array, targets: Array, state: object, /) -> tuple[Tensor, object]: ...

    def __call__(self, ids: Array, state: object, /) -> tuple[object, object]: ...


class _Window(NamedTuple):
    """A backward pass: the steps of its losses, begin to end - 1, and the factor at the first edge of each step."""

    begin: int
    end: int
    scales: list[float | None]


_Scales = Callable[[int], Sequence[float | None]]
"""From T to the factor at the first edge of each step; None: no cut there."""


class _Steps(NamedTuple):
    """A target that runs step by step.

    Attributes:
        step: from t and a state to its loss (None: none) and the next state.
        T: number of steps.
        state: the first one.
        weights: of each step's loss; None: 1.
        nothing: what is wrong if there is no loss.
    """

    step: Step
    T: int
    state: object
    weights: Array | None
    nothing: str

    def weighed(self, t: int, loss: Tensor | None) -> Tensor | None:
        """Return what a step adds to the whole loss."""
        return loss if loss is None or self.weights is None else loss * self.weights[t]

    def loss(self, t: int, state: object) -> tuple[Tensor | None, object]:
        """Return what a step adds to the whole loss, and the next state."""
        loss, state = self.step(t, state)
        return self.weighed(t, loss), state

    def run(self, scales: _Scales, terms: dict[int, Tensor]) -> Tensor:
        """Return the sum of the weighed losses, with the cuts before steps; what each step adds goes into `terms`."""
        total: Tensor | None = None
        state = self.state
        for t, scale in enumerate(scales(self.T)):
            with at_step(t):
                loss, state = self.step(t, state if scale is None else cut(state, scale))
            part = self.weighed(t, loss)
            if part is not None:
                terms[t] = part
                total = part if total is None else total + part
        if not isinstance(total, Tensor):
            raise DrawingError(f"draw: {self.nothing}")
        return total


def _pass(steps: _Steps, window: _Window, nodes: Sequence[Node]) -> Pass:
    """Run the steps once more, with the cuts of one pass; `nodes` are those of the first recording, in order."""
    again: list[Node] = []
    terms: dict[int, Tensor] = {}
    with watching(lambda node, _: again.append(node)), enable_grad():
        steps.run(lambda _: window.scales, terms)
    seeds = [(part.node, part.index) for t, part in terms.items() if window.begin <= t < window.end and part.node]
    closed = frozenset(t for t, scale in enumerate(window.scales) if scale == 0 and t < window.end)
    return Pass(tuple(seeds), dict(zip(again, nodes, strict=True)), closed, window.end)


def _steps_of(target: Callable[..., object], example: Sequence[object]) -> _Steps | None:
    """Return a model or a cell as steps; None: it runs on the whole example at once."""
    shape = shape_of(example[0])
    if hasattr(target, "loss"):
        if not hasattr(target, "initial_state") or len(example) < 2:
            return None
        model = cast(_LanguageModel, target)
        return _language_model(model, example[0], example[1], _first(target, example[2:], shape))
    is_cell = hasattr(target, "initial_state") and not getattr(target, "time_axis", False)
    if len(shape) == 3 and (is_cell or (len(example) > 1 and not hasattr(target, "time_axis"))):
        xs = example[0] if isinstance(example[0], Tensor) else np.asarray(example[0])
        return _cell(cast(Cell, target), xs, _first(target, example[1:], shape))
    return None


def _run(target: Callable[..., object], example: Sequence[object]) -> list[Tensor]:
    """Run a target on its whole example, and return its losses."""
    if hasattr(target, "loss"):
        loss = target.loss(*example)
        return [loss[0] if isinstance(loss, tuple) else loss]
    shape = shape_of(example[0])
    is_cell = hasattr(target, "initial_state") and not getattr(target, "time_axis", False)
    if is_cell and len(example) == 1 and len(shape) == 2:
        example = (example[0], _first(target, (), shape))
    outputs = [part for part in flatten(target(*example)) if isinstance(part, Tensor) and part.node is not None]
    if not outputs:
        raise DrawingError(f"draw: {type(target).__name__} recorded nothing that requires a gradient")
    return [np.sum(output) for output in outputs[:1]]


def _first(target: object, given: Sequence[object], shape: tuple[int, ...]) -> object:
    return given[0] if given and given[0] is not None else initial_state(target, shape[0])


def _language_model(model: _LanguageModel, ids: object, targets: object, state: object) -> _Steps:
    """Return a language model position by position; the whole loss is its mean nats."""
    ids, targets = np.asarray(ids), np.asarray(targets)
    if ids.ndim != 2 or ids.shape != targets.shape:
        raise DrawingError(
            f"draw: expected ids and targets of one shape (N, T), got {ids.shape} and {targets.shape}"
            + batch_of_one("ids", ids, 1)
        )
    weights = np.count_nonzero(targets != -1, axis=0) / max(np.count_nonzero(targets != -1), 1)

    def step(t: int, state: object) -> tuple[Tensor | None, object]:
        if weights[t]:
            return model.loss(ids[:, t : t + 1], targets[:, t : t + 1], state)
        return None, model(ids[:, t : t + 1], state)[1]

    return _Steps(step, ids.shape[1], state, weights, "every target is -1, so there is no loss")


def _cell(cell: Cell, xs: Tensor | Array, state: object) -> _Steps:
    """Return a cell step by step; it has no loss of its own: the whole loss is the sum of all outputs."""
    name = getattr(cell, "__name__", type(cell).__name__)

    def step(t: int, state: object) -> tuple[Tensor | None, object]:
        with nullcontext() if isinstance(cell, Stacked) else scope(name):
            output, state = cell(xs[:, t], state)
        return np.sum(output), state

    nothing = f"the cell {name} recorded nothing that requires a gradient"
    return _Steps(step, shape_of(xs)[1], state, None, nothing)


def _scales(policy: Policy | None, cut_every: int | None, windows: list[_Window]) -> _Scales:
    """Return where the cuts of the drawn graph stand.

    Where the windows of a policy's passes overlap, every edge is open, and `windows` gets the passes.
    """
    if cut_every is not None:
        interval = integer("draw", "cut_every", cut_every)
        return lambda T: [0.0 if t and t % interval == 0 else None for t in range(T)]
    if policy is None:
        return lambda T: [None] * T
    if isinstance(policy, ForwardPolicy):  # nothing goes back from step to step
        return lambda T: [None, *[0.0] * (T - 1)]

    def scales(T: int) -> Sequence[float | None]:
        factors, begin = policy.factors(T), 0
        if len(policy.passes(T)) > 1 and not np.allclose(policy.mask(T), _mask(factors)):
            for end in policy.passes(T):
                own = [*policy.factors(end, begin), *[1.0] * (T - end)]
                windows.append(_Window(begin, end, [None, *own[1:]]))
                begin = end
            return [None, *[1.0] * (T - 1)]
        return [None if factor == 1 else factor for factor in factors]

    return scales


def _mask(factors: Sequence[float]) -> Array:
    """Return what is left of each loss (row) at each use (column) in a graph with these factors at its edges."""
    M = np.eye(len(factors))
    for tau in range(len(factors)):
        for t in reversed(range(tau)):
            M[tau, t] = M[tau, t + 1] * factors[t + 1]
    return M


def _notes(policy: Policy | None, truncation: Policy | str | None, cut_every: int | None) -> tuple[str, ...]:
    if isinstance(policy, ForwardPolicy):
        return (f"credit carried forward by {policy!r}", "lines: the gradient within each step")
    if cut_every is not None:
        return (f"cut every {cut_every} step{'s' * (cut_every != 1)}",)
    return () if truncation is None else (f"truncation {policy_name(truncation)}",)


def policy_name(policy: Policy | str) -> str:
    """Return a policy in a word: its text, or its class, if it is one of the user's own."""
    try:
        return policy if isinstance(policy, str) else policy_text(policy)
    except ConfigError:
        return type(policy).__name__
