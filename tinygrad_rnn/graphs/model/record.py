"""Record a model or a cell on an example, one step at a time, so that each step has a column of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...checks import integer
from ...engine.tape import Array, Node, at_step, enable_grad, scope, watching
from ...engine.tensor import Tensor, shape_of
from ...engine.tree import flatten
from ...errors import ConfigError, DrawingError
from ...nn.cells import Stacked, initial_state
from ...ops import cut
from ...truncation import Policy, parse_policy, policy_text
from .graph import Graph, Place, read


@dataclass
class Recording:
    """A recorded graph, and what a drawing may say of it.

    Attributes:
        losses: the Tensors to draw.
        values: what every operation computed.
        names: name to leaf Tensor.
        title: "" or the name of what was recorded.
        note: "" or the truncation.
    """

    losses: list[Tensor]
    values: dict[Place, Array] = field(default_factory=dict)
    names: Mapping[str, Tensor] = field(default_factory=dict)
    title: str = ""
    note: str = ""

    def graph(self) -> Graph:
        """Return the graph, read."""
        return read(self.losses, self.values, self.names)


def record(
    target: Any, example: Sequence[Any], truncation: Policy | str | None = None, cut_every: int | None = None
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
    scales = _scales(truncation, cut_every)
    found = Recording([], title=getattr(target, "__name__", type(target).__name__), note=_note(truncation, cut_every))
    if hasattr(target, "parameters"):
        found.names = target.parameters()

    def look(node: Node, outputs: tuple[Array, ...]) -> None:
        found.values.update(((node, index), output) for index, output in enumerate(outputs))

    with watching(look), enable_grad():
        found.losses = _run(target, example, scales)
    return found


def _run(target: Any, example: Sequence[Any], scales: Callable[[int], list[float]]) -> list[Tensor]:
    shape = shape_of(example[0])
    if hasattr(target, "loss") and hasattr(target, "initial_state") and len(example) > 1:
        return [_language_model(target, example[0], example[1], _first(target, example[2:], shape), scales)]
    if hasattr(target, "loss"):
        loss = target.loss(*example)
        return [loss[0] if isinstance(loss, tuple) else loss]
    if len(shape) == 3 and (hasattr(target, "initial_state") or len(example) > 1):
        return [_cell(target, example[0], _first(target, example[1:], shape), scales)]
    outputs = [part for part in flatten(target(*example)) if isinstance(part, Tensor) and part.node is not None]
    if not outputs:
        raise DrawingError(f"draw: {type(target).__name__} recorded nothing that requires a gradient")
    return [np.sum(output) for output in outputs[:1]]


def _first(target: Any, given: Sequence[Any], shape: tuple[int, ...]) -> Any:
    return given[0] if given and given[0] is not None else initial_state(target, shape[0])


def _language_model(model: Any, ids: Any, targets: Any, state: Any, scales: Callable[[int], list[float]]) -> Tensor:
    """Return the mean nats of a language model, recorded position by position."""
    ids, targets = np.asarray(ids), np.asarray(targets)
    if ids.ndim != 2 or ids.shape != targets.shape:
        raise DrawingError(f"draw: expected ids and targets of one shape (N, T), got {ids.shape} and {targets.shape}")
    counted = np.count_nonzero(targets != -1)
    total: Any = None
    for t, cuts in enumerate(scales(ids.shape[1])):
        with at_step(t):
            state = state if cuts == 1 else cut(state, cuts)
            here = np.count_nonzero(targets[:, t] != -1)
            if not here:
                _, state = model(ids[:, t : t + 1], state)
                continue
            loss, state = model.loss(ids[:, t : t + 1], targets[:, t : t + 1], state)
        part = loss * (here / counted)
        total = part if total is None else total + part
    if total is None:
        raise DrawingError("draw: every target is -1, so there is no loss")
    return total  # type: ignore[no-any-return]  # a Tensor: a loss of a model


def _cell(cell: Any, xs: Any, state: Any, scales: Callable[[int], list[float]]) -> Tensor:
    """Return the sum of all outputs of a cell: it has no loss of its own."""
    name = getattr(cell, "__name__", type(cell).__name__)
    total: Any = None
    for t, cuts in enumerate(scales(shape_of(xs)[1])):
        with at_step(t):
            state = state if cuts == 1 else cut(state, cuts)
            with nullcontext() if isinstance(cell, Stacked) else scope(name):
                output, state = cell(xs[:, t], state)
            part = np.sum(output)
        total = part if total is None else total + part
    if not isinstance(total, Tensor):
        raise DrawingError(f"draw: the cell {name} recorded nothing that requires a gradient")
    return total


def _scales(truncation: Policy | str | None, cut_every: int | None) -> Callable[[int], list[float]]:
    """Return a function from T to the factor at each step's first edge; 1 at the first step."""
    if cut_every is not None:
        interval = integer("draw", "cut_every", cut_every)
        return lambda T: [0.0 if t and t % interval == 0 else 1.0 for t in range(T)]
    if truncation is None:
        return lambda T: [1.0] * T
    return parse_policy(truncation, argument="draw: truncation").start().factors


def _note(truncation: Policy | str | None, cut_every: int | None) -> str:
    if cut_every is not None:
        return f"cut every {cut_every} step{'s' * (cut_every != 1)}"
    if truncation is None:
        return ""
    return f"truncation {truncation if isinstance(truncation, str) else _policy_name(truncation)}"


def _policy_name(policy: Policy) -> str:
    try:
        return policy_text(policy)
    except ConfigError:  # a policy of the user's own
        return type(policy).__name__
