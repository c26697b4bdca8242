"""What a driver is given, and what it yields: the steps of a recurrence, and the update of one gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from ..engine.tape import Array
from ..engine.tensor import Value
from ..engine.tree import brief
from .nests import number_of

Step: TypeAlias = Callable[..., tuple[object, object]]
"""`step(inputs, state) -> (loss, state)`: some steps of a recurrence, and the sum of their losses (None: no loss)."""

Past: TypeAlias = dict[str, object]
"""What is held of the steps so far: arrays, numbers and generators, in any nesting of lists, tuples and dicts."""


def step_of_mean(loss: Callable[..., tuple[Value, object]], targets: Array) -> Step:
    """Return the step of a model whose loss is a mean over the positions that count, so that the losses add up to it.

    Args:
        loss: loss(inputs, targets, state) -> (mean, state).
        targets: all of the sequence, (N, T, ...); of integers those count that are not -1.

    Returns:
        step((inputs, targets), state) -> (loss, state); the loss is None where no position counts.
    """
    counted = _counted(targets)

    def step(inputs: tuple[Array, Array], state: object) -> tuple[object, object]:
        xs, ts = inputs
        here = _counted(ts)
        # A mean over no targets would be nan: give them arbitrary ids and no loss.
        mean, state = loss(xs, ts if here else np.zeros_like(ts), state)
        return (mean * (here / counted) if here else None), state

    return step


def _counted(targets: Array) -> int:
    return int(np.count_nonzero(targets != -1)) if targets.dtype.kind in "iu" else targets.size


class Update(NamedTuple):
    """The result of one backward pass.

    Attributes:
        end: number of steps of the sequence so far.
        losses: the sum of losses of each segment that this pass covers and that has one, oldest first.
        gradients: name to array; the policy's gradient of the sum of these losses.
        state: the state after the last step, arrays without a graph.
        state_gradient: the cotangent that arrived at the sequence's first state; None where the pass did not reach it.
    """

    end: int
    losses: list[float]
    gradients: dict[str, Array]
    state: Any
    state_gradient: Any

    def __repr__(self) -> str:
        return brief(self)

    @property
    def loss(self) -> float:
        """The sum of the losses that this pass covers; a Tensor while `compile` records."""
        return number_of(sum(self.losses))
