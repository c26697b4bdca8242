"""The gradient of a batch, and what a loss function returned for the parts of it that a policy made."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

import numpy as np

from ...credit.nests import arrays_of
from ...credit.update import Update
from ...engine.tape import Array, context
from ...engine.tensor import shape_of
from ...engine.tree import flatten
from ...nn.cells import State
from ...nn.module import Module
from .objective import Batch, Mean, Objective, Outcome, Value, divisor, mean_of

Rng: TypeAlias = np.random.Generator | None


class Found(NamedTuple):
    """The gradient of a batch, with the results of its loss function."""

    gradients: dict[str, Array]
    outcome: Outcome


class Parts:
    """The results of a loss function for the parts of a sequence, added up until a pass runs."""

    def __init__(self, objective: Objective, model: Module, rng: Rng, recomputes: bool = False) -> None:
        self._objective, self._model, self.rng, self._recomputes = objective, model, rng, recomputes
        self._records = context().recording
        self._parts: dict[int, tuple[Batch, Value, dict[str, Mean]]] = {}
        self._covered: dict[int, Batch] = {}  # what a later pass may record again, and must not count twice

    def step(self, batch: Batch, state: State) -> tuple[Value, State]:
        """Return the sum of the losses of some steps, and the state after them."""
        if self._records and not context().recording:  # a policy that recomputes only moves the state forward here
            found = self._objective(self._model, batch, state, self.rng)
        else:
            _, found = self._objective.recorded(self._model, batch, state, self.rng)
        weight = math.prod(shape_of(flatten(batch)[0])[:2]) if found.weight is None else found.weight
        if id(batch) not in self._covered:
            self._parts[id(batch)] = (batch, *arrays_of((weight, found.metrics)))
        return found.loss * weight, found.state

    def cover(self, batches: Iterable[Batch]) -> None:
        """Take note of batches that were counted before, and may be recorded again."""
        self._covered.update((id(batch), batch) for batch in batches)

    def forget(self) -> None:
        """Forget the parts so far, which were counted before."""
        self._parts = {}

    def uncover(self) -> None:
        """Forget them: no pass goes back to them any more."""
        self._covered = {}

    def found(self, update: Update) -> Found:
        """Return means over the parts: of the gradient, the loss and the metrics."""
        parts = [*self._parts.values()]
        weight = sum(part[1] for part in parts)
        metrics = {name: mean_of([(size, said[name]) for _, size, said in parts]) for name in parts[0][2]}
        if self._recomputes:
            self.cover(part[0] for part in self._parts.values())
        self._parts = {}
        gradients = {name: g / divisor(weight) for name, g in update.gradients.items()}
        return Found(gradients, Outcome(sum(update.losses) / divisor(weight), update.state, metrics, weight))


def joined(one: Found, other: Found) -> Found:
    """Return the means over two batches of the means over each."""
    a, b = one.outcome, other.outcome
    assert a.weight is not None
    assert b.weight is not None
    weight = a.weight + b.weight
    shares = a.weight / divisor(weight), b.weight / divisor(weight)
    gradients = {
        name: np.asarray(shares[0] * g + shares[1] * other.gradients[name], g.dtype)
        for name, g in one.gradients.items()
    }
    metrics = {name: mean_of([(shares[0], mean), (shares[1], b.metrics[name])]) for name, mean in a.metrics.items()}
    loss = shares[0] * a.loss + shares[1] * b.loss
    return Found(gradients, Outcome(loss, b.state, metrics, weight))
