"""Targets of drawings as functions to record: a model or a cell step by step, anything else on its whole example."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import NamedTuple, cast

import numpy as np

from ...engine.tape import Array, scope
from ...engine.tensor import Tensor, shape_of
from ...engine.tree import flatten
from ...errors import DrawingError
from ...nn.base import batch_of_one
from ...nn.cells import Cell, Stacked, initial_state
from ...nn.scan import whole_step
from ...ops import cut
from .credit import Step

Scales = Callable[[int], Sequence[float | None]]
"""Function of T that returns the factor of the cut before each step, None for no cut."""


class Steps(NamedTuple):
    """A target that runs step by step.

    Attributes:
        step: function of t and a state that returns the step's loss, or None, and the next state.
        T: number of steps.
        state: the initial one.
        weights: of each step's loss; None: 1.
        nothing: error message if no step has a loss.
        sequence: the array (N, T, ...) of which the steps read slices; None: Tensors or ids.
    """

    step: Step
    T: int
    state: object
    weights: Array | None
    nothing: str
    sequence: Array | None = None

    @property
    def initial(self) -> tuple[Array, ...]:
        """The arrays of the initial state."""
        return tuple(part.data if isinstance(part, Tensor) else np.asarray(part) for part in flatten(self.state))

    def loss(self, t: int, state: object, scale: float | None = None) -> tuple[Tensor | None, object]:
        """Return the weighted loss of a step, and the next state; `scale` is the factor of a cut before the step."""
        with whole_step(t):
            loss, state = self.step(t, state if scale is None else cut(state, scale))
        return loss if loss is None or self.weights is None else loss * self.weights[t], state

    def run(self, scales: Scales, terms: dict[int, Tensor]) -> Tensor:
        """Return the sum of the weighted losses, with cuts before steps; the term of each step is put into `terms`."""
        total: Tensor | None = None
        state = self.state
        for t, scale in enumerate(scales(self.T)):
            part, state = self.loss(t, state, scale)
            if part is not None:
                terms[t] = part
                total = part if total is None else total + part
        if not isinstance(total, Tensor):
            raise DrawingError(f"draw: {self.nothing}")
        return total


def steps_of(target: Callable[..., object], example: Sequence[object]) -> Steps | None:
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
    may_be_cell = len(example) > 1 and not hasattr(target, "time_axis") and any(map(_is_float, flatten(example[1])))
    if len(shape) == 3 and (is_cell or may_be_cell):
        xs = example[0] if isinstance(example[0], Tensor) else np.asarray(example[0])
        return _cell(cast(Cell, target), xs, _first(target, example[1:], shape))
    return None


def _is_float(part: object) -> bool:
    return isinstance(part, Tensor) or np.asarray(part).dtype.kind == "f"  # only targets are integers


def run_whole(target: Callable[..., object], example: Sequence[object]) -> list[Tensor]:
    """Run a target on its whole example, and return its losses."""
    if hasattr(target, "loss"):
        loss = target.loss(*example)
        return [loss[0] if isinstance(loss, tuple) else loss]
    is_cell = hasattr(target, "initial_state") and not getattr(target, "time_axis", False)
    if is_cell and len(example) == 1 and len(shape := shape_of(example[0])) == 2:
        example = (example[0], _first(target, (), shape))
    outputs = [part for part in flatten(target(*example)) if isinstance(part, Tensor) and part.node is not None]
    if not outputs:
        name = type(target).__name__
        raise DrawingError(f"draw: {name} recorded nothing that requires a gradient; set requires_grad on a leaf")
    return [np.sum(output) for output in outputs[:1]]


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
    return Steps(step, shape_of(xs)[1], state, None, nothing, None if isinstance(xs, Tensor) else xs)
