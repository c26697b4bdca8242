"""Record a model or a cell on an example, one step at a time, so that each step has a column of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, cast

import numpy as np

from ...checks import integer
from ...engine.tape import Array, Node, at_step, enable_grad, scope, watching
from ...engine.tensor import Tensor, shape_of
from ...engine.tree import flatten
from ...errors import ConfigError, DrawingError
from ...nn.base import batch_of_one
from ...nn.cells import Cell, Stacked, initial_state
from ...ops import cut
from ...truncation import Policy, parse_policy, policy_text
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
    """

    losses: list[Tensor]
    values: dict[Place, Array] = field(default_factory=dict)
    names: Mapping[str, Tensor] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    passes: tuple[Pass, ...] = ()

    def graph(self) -> Graph:
        """Return the graph, read."""
        return read(self.losses, self.values, self.names, self.passes)


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
    found = Recording([], notes=_notes(truncation, cut_every))
    if hasattr(target, "parameters"):
        found.names = target.parameters()

    nodes: list[Node] = []

    def look(node: Node, outputs: tuple[Array, ...]) -> None:
        nodes.append(node)
        found.values.update(((node, index), output) for index, output in enumerate(outputs))

    policy = None if truncation is None else parse_policy(truncation, argument="draw: truncation").start()
    windows: list[_Window] = []
    with watching(look), enable_grad():
        found.losses = _run(target, example, _scales(policy, cut_every, windows), {})
    found.passes = tuple(_pass(target, example, window, nodes) for window in windows)
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


def _pass(target: object, example: Sequence[object], window: _Window, nodes: Sequence[Node]) -> Pass:
    """Record the target once more, with the cuts of one pass; `nodes` are those of the first recording, in order."""
    again: list[Node] = []
    terms: dict[int, Tensor] = {}
    with watching(lambda node, _: again.append(node)), enable_grad():
        _run(target, example, lambda _: window.scales, terms)
    seeds = [(part.node, part.index) for t, part in terms.items() if window.begin <= t < window.end and part.node]
    closed = frozenset(t for t, scale in enumerate(window.scales) if scale == 0 and t < window.end)
    return Pass(tuple(seeds), dict(zip(again, nodes, strict=True)), closed, window.end)


def _run(target: object, example: Sequence[object], scales: _Scales, terms: dict[int, Tensor]) -> list[Tensor]:
    """Run a target and return its losses; the terms of a loss that are recorded step by step go into `terms`."""
    assert callable(target)
    shape = shape_of(example[0])
    if hasattr(target, "loss") and hasattr(target, "initial_state") and len(example) > 1:
        model, state = cast(_LanguageModel, target), _first(target, example[2:], shape)
        return [_language_model(model, example[0], example[1], state, scales, terms)]
    if hasattr(target, "loss"):
        loss = target.loss(*example)
        return [loss[0] if isinstance(loss, tuple) else loss]
    is_cell = hasattr(target, "initial_state") and not getattr(target, "time_axis", False)
    if is_cell and len(example) == 1 and len(shape) == 2:
        example = (example[0], _first(target, (), shape))
    if len(shape) == 3 and (is_cell or (len(example) > 1 and not hasattr(target, "time_axis"))):
        xs = example[0] if isinstance(example[0], Tensor) else np.asarray(example[0])
        return [_cell(target, xs, _first(target, example[1:], shape), scales, terms)]
    outputs = [part for part in flatten(target(*example)) if isinstance(part, Tensor) and part.node is not None]
    if not outputs:
        raise DrawingError(f"draw: {type(target).__name__} recorded nothing that requires a gradient")
    return [np.sum(output) for output in outputs[:1]]


def _first(target: object, given: Sequence[object], shape: tuple[int, ...]) -> object:
    return given[0] if given and given[0] is not None else initial_state(target, shape[0])


def _language_model(
    model: _LanguageModel, ids: object, targets: object, state: object, scales: _Scales, terms: dict[int, Tensor]
) -> Tensor:
    """Return the mean nats of a language model, recorded position by position."""
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

    total = _summed(step, state, scales(ids.shape[1]), terms, lambda t, loss: loss * weights[t])
    if total is None:
        raise DrawingError("draw: every target is -1, so there is no loss")
    return total


def _cell(cell: Cell, xs: Tensor | Array, state: object, scales: _Scales, terms: dict[int, Tensor]) -> Tensor:
    """Return the sum of all outputs of a cell: it has no loss of its own."""
    name = getattr(cell, "__name__", type(cell).__name__)

    def step(t: int, state: object) -> tuple[Tensor | None, object]:
        with nullcontext() if isinstance(cell, Stacked) else scope(name):
            output, state = cell(xs[:, t], state)
        return np.sum(output), state

    total = _summed(step, state, scales(shape_of(xs)[1]), terms)
    if not isinstance(total, Tensor):
        raise DrawingError(f"draw: the cell {name} recorded nothing that requires a gradient")
    return total


def _summed(
    step: Callable[[int, object], tuple[Tensor | None, object]],
    state: object,
    scales: Sequence[float | None],
    terms: dict[int, Tensor],
    weighed: Callable[[int, Tensor], Tensor] = lambda t, loss: loss,
) -> Tensor | None:
    """Return the sum of the losses of all steps, each weighed, with the cuts before them; None if no step has one."""
    total: Tensor | None = None
    for t, scale in enumerate(scales):
        with at_step(t):
            loss, state = step(t, state if scale is None else cut(state, scale))
        if loss is not None:
            terms[t] = part = weighed(t, loss)
            total = part if total is None else total + part
    return total


def _scales(policy: Policy | None, cut_every: int | None, windows: list[_Window]) -> _Scales:
    """Return where the cuts of the drawn graph stand.

    Where the windows of a policy's passes overlap, every edge is open, and `windows` gets the passes.
    """
    if cut_every is not None:
        interval = integer("draw", "cut_every", cut_every)
        return lambda T: [0.0 if t and t % interval == 0 else None for t in range(T)]
    if policy is None:
        return lambda T: [None] * T

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


def _notes(truncation: Policy | str | None, cut_every: int | None) -> tuple[str, ...]:
    if cut_every is not None:
        return (f"cut every {cut_every} step{'s' * (cut_every != 1)}",)
    return () if truncation is None else (f"truncation {policy_name(truncation)}",)


def policy_name(policy: Policy | str) -> str:
    """Return a policy in a word: its text, or its class, if it is one of the user's own."""
    try:
        return policy if isinstance(policy, str) else policy_text(policy)
    except ConfigError:
        return type(policy).__name__
