"""Learning-rate schedules: the rate of each update, from its number and from how validation goes.

A schedule is any object with `lr(step)` and `observe(validation_loss)`.
"""

from __future__ import annotations

import math
from typing import Protocol, runtime_checkable

from ..checks import instance, integer, number


@runtime_checkable
class Schedule(Protocol):
    """What the training loop asks of a schedule."""

    def lr(self, step: int) -> float:
        """Return the learning rate of update `step`, counted from 0."""

    def observe(self, validation_loss: float) -> None:
        """Take note of a validation loss, in nats per token."""


class Constant:
    """Return the same learning rate for every step.

    Args:
        lr: the rate, above 0.

    Raises:
        ConfigError: if the rate is not above 0.

    >>> Constant(0.1).lr(1000)
    0.1
    """

    def __init__(self, lr: float) -> None:
        self.base = _rate("Constant", lr)

    def lr(self, step: int) -> float:
        """Return the rate."""
        return self.base

    def observe(self, validation_loss: float) -> None:
        """Take no note."""


class Halving:
    """Multiply the rate by `factor` after each validation loss that is not below the best so far.

    Args:
        lr: the rate at the start, above 0.
        factor: in (0, 1).

    Raises:
        ConfigError: if a setting is out of range.

    >>> schedule = Halving(0.8)
    >>> for loss in (5.0, 4.0, 4.1, 4.0):
    ...     schedule.observe(loss)
    >>> schedule.lr(0)
    0.2
    """

    def __init__(self, lr: float, factor: float = 0.5) -> None:
        self.factor = number("Halving", "factor", factor, low=0, high=1, above=True, below=True)
        self.current = _rate("Halving", lr)
        self.best = math.inf

    def lr(self, step: int) -> float:
        """Return the current rate."""
        return self.current

    def observe(self, validation_loss: float) -> None:
        """Keep a new best loss, or lower the rate."""
        if validation_loss < self.best:
            self.best = validation_loss
        else:
            self.current *= self.factor


class Cosine:
    """Lower the rate along half a cosine, from `lr` at step 0 to `floor` at `total_steps` and after.

    lr(step) = floor + (lr - floor) * (1 + cos(pi * step / total_steps)) / 2.
    Source: Loshchilov and Hutter 2017, SGDR, equation 5, without restarts.

    Args:
        lr: the rate at the start, above 0.
        total_steps: steps until the floor, 1 or more.
        floor: the last rate, in [0, lr].

    Raises:
        ConfigError: if a setting is out of range.

    >>> schedule = Cosine(0.1, total_steps=10)
    >>> [round(schedule.lr(step), 3) for step in (0, 5, 10, 11)]
    [0.1, 0.05, 0.0, 0.0]
    """

    def __init__(self, lr: float, total_steps: int, floor: float = 0.0) -> None:
        self.base = _rate("Cosine", lr)
        self.total_steps = integer("Cosine", "total_steps", total_steps)
        self.floor = number("Cosine", "floor", floor, low=0, high=self.base)

    def lr(self, step: int) -> float:
        """Return the rate of this step."""
        share = min(step, self.total_steps) / self.total_steps
        return self.floor + (self.base - self.floor) * (1 + math.cos(math.pi * share)) / 2

    def observe(self, validation_loss: float) -> None:
        """Take no note."""


class Warmup:
    """Raise another schedule's rate linearly over the first steps.

    lr(step) = inner.lr(step) * min(1, (step + 1) / steps).

    Args:
        inner: the schedule behind it.
        steps: length of the rise, 1 or more.

    Raises:
        ConfigError: if `steps` is below 1.

    >>> schedule = Warmup(Constant(0.1), steps=4)
    >>> [schedule.lr(step) for step in (0, 1, 3, 9)]
    [0.025, 0.05, 0.1, 0.1]
    """

    def __init__(self, inner: Schedule, steps: int) -> None:
        instance("Warmup", "inner", inner, Schedule, "such as Constant(0.1)")
        self.inner, self.steps = inner, integer("Warmup", "steps", steps)

    def lr(self, step: int) -> float:
        """Return the inner rate, scaled while the rise lasts."""
        return self.inner.lr(step) * min(1.0, (step + 1) / self.steps)

    def observe(self, validation_loss: float) -> None:
        """Pass the loss on."""
        self.inner.observe(validation_loss)


def _rate(where: str, lr: float) -> float:
    return number(where, "lr", lr, low=0, above=True)
