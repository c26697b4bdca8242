"""Learning-rate schedules: the rate of each update, from its number and from validation losses.

A schedule is any object with `lr(step)` and `observe(validation_loss)`. A schedule that remembers its observations also
has `state_dict` and `load_state_dict`, so that a run can be resumed; without them it is assumed to be stateless.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from ..checks import instance, integer, number
from ..engine.saved import Saved, Stateful, check_keys
from ..errors import ConfigError


@runtime_checkable
class Schedule(Protocol):
    """The interface of a schedule for the training loop."""

    def lr(self, step: int) -> float:
        """Return the learning rate of update `step`, counted from 0."""

    def observe(self, validation_loss: float) -> None:
        """Observe a validation loss, in nats per token."""


class _Stateless:
    """A schedule that depends only on the number of the step."""

    def observe(self, validation_loss: float) -> None:
        """Ignore the loss."""

    def state_dict(self) -> dict[str, Saved]:
        """Return the state: there is none."""
        return {}

    def load_state_dict(self, state: Mapping[str, Saved]) -> None:
        """Take what `state_dict` returned.

        Raises:
            ConfigError: if it is the state of something else.
        """
        check_keys(f"{type(self).__name__}.load_state_dict", state, set())


class Constant(_Stateless):
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


class Plateau:
    """Multiply the rate by `factor` when the validation loss has stopped improving.

    A loss improves if it is below best - threshold * |best|. After more than `patience` losses in a row without an
    improvement, the rate is lowered, and the count starts again; factor=0.25 divides by 4.

    Args:
        lr: the rate at the start, above 0.
        factor: in (0, 1).
        patience: how many losses in a row may fail to improve, 0 or more.
        threshold: the smallest improvement that counts, as a share of the best loss, 0 or more.
        floor: the rate is never lowered below it, in [0, lr].

    Raises:
        ConfigError: if a setting is out of range.

    >>> schedule = Plateau(0.8)
    >>> for loss in (5.0, 4.0, 4.1, 4.0):
    ...     schedule.observe(loss)
    >>> schedule.lr(0)
    0.2
    """

    def __init__(
        self, lr: float, factor: float = 0.5, patience: int = 0, threshold: float = 0.0, floor: float = 0.0
    ) -> None:
        self.factor = number("Plateau", "factor", factor, low=0, high=1, above=True, below=True)
        self.patience = integer("Plateau", "patience", patience, low=0)
        self.threshold = number("Plateau", "threshold", threshold, low=0)
        self.current = _rate("Plateau", lr)
        self.floor = number("Plateau", "floor", floor, low=0, high=self.current)
        self.best = math.inf
        self.waited = 0

    def lr(self, step: int) -> float:
        """Return the current rate."""
        return self.current

    def observe(self, validation_loss: float) -> None:
        """Keep a new best loss, or wait, or lower the rate."""
        margin = self.threshold * abs(self.best) if math.isfinite(self.best) else 0.0
        if validation_loss < self.best - margin:
            self.best, self.waited = validation_loss, 0
            return
        self.waited += 1
        if self.waited > self.patience:
            self.current, self.waited = max(self.current * self.factor, self.floor), 0

    def state_dict(self) -> dict[str, Saved]:
        """Return the rate, the best loss (None before the first) and the count of losses since."""
        best = None if self.best == math.inf else self.best
        return {"lr": self.current, "best": best, "waited": self.waited}

    def load_state_dict(self, state: Mapping[str, Saved]) -> None:
        """Take what `state_dict` returned.

        Raises:
            ConfigError: if it is the state of something else.
        """
        where = "Plateau.load_state_dict"
        found = check_keys(where, state, {"lr", "best", "waited"})
        lr = number(where, "lr", found["lr"], low=0)
        best = math.inf if found["best"] is None else number(where, "best", found["best"])
        self.current, self.best, self.waited = lr, best, integer(where, "waited", found["waited"], low=0)


class StepDecay(_Stateless):
    """Multiply the rate by `factor` at regular intervals, or at given steps.

    lr(step) = lr * factor ** (number of milestones m with m <= step).

    Args:
        lr: the rate at the start, above 0.
        every: steps from one change to the next, 1 or more; or the steps at which it changes, increasing.
        factor: above 0.

    Raises:
        ConfigError: if a setting is out of range.

    >>> [round(StepDecay(1.0, every=10, factor=0.5).lr(step), 3) for step in (0, 9, 10, 20)]
    [1.0, 1.0, 0.5, 0.25]
    >>> [round(StepDecay(1.0, every=[3, 5], factor=0.1).lr(step), 3) for step in (2, 3, 5, 99)]
    [1.0, 0.1, 0.01, 0.01]
    """

    def __init__(self, lr: float, every: int | Sequence[int], factor: float = 0.1) -> None:
        self.base = _rate("StepDecay", lr)
        self.every: int | tuple[int, ...]
        if isinstance(every, Sequence) and not isinstance(every, str):
            self.every = tuple(integer("StepDecay", f"every[{n}]", step) for n, step in enumerate(every))
            if sorted(set(self.every)) != list(self.every):
                raise ConfigError(f"StepDecay: every must be increasing steps, got {list(every)}")
        else:
            self.every = integer("StepDecay", "every", every)
        self.factor = number("StepDecay", "factor", factor, low=0, above=True)

    def lr(self, step: int) -> float:
        """Return the rate of this step."""
        changes = step // self.every if isinstance(self.every, int) else bisect_right(self.every, step)
        return self.base * _power(self.factor, changes)


class Exponential(_Stateless):
    """Multiply the rate by `factor` after each step: lr(step) = lr * factor ** max(0, step - hold).

    Args:
        lr: the rate at the start, above 0.
        factor: above 0; for a decay by d each epoch of n updates, d ** (1 / n).
        hold: steps before the decay starts, 0 or more.

    Raises:
        ConfigError: if a setting is out of range.

    >>> [Exponential(1.0, 0.5, hold=1).lr(step) for step in (0, 1, 2, 3)]
    [1.0, 1.0, 0.5, 0.25]
    """

    def __init__(self, lr: float, factor: float, hold: int = 0) -> None:
        self.base = _rate("Exponential", lr)
        self.factor = number("Exponential", "factor", factor, low=0, above=True)
        self.hold = integer("Exponential", "hold", hold, low=0)

    def lr(self, step: int) -> float:
        """Return the rate of this step."""
        return self.base * _power(self.factor, max(0, step - self.hold))


class OneCycle(_Stateless):
    """Raise the rate along half a cosine from lr / divide to `lr`, then lower it to lr / (divide * final_divide).

    The peak is at step rise * total_steps - 1, the end at total_steps - 1 and after. Source: Smith and Topin 2018,
    Super-convergence; with cosines for the two legs, as is usual now.

    Args:
        lr: the rate at the peak, above 0.
        total_steps: steps of the whole cycle, 2 or more.
        rise: the share of the steps before the peak, in (0, 1).
        divide: the rate at the start is lr / divide, 1 or more.
        final_divide: the rate at the end is that of the start / final_divide, 1 or more.

    Raises:
        ConfigError: if a setting is out of range.

    >>> schedule = OneCycle(1.0, total_steps=10, rise=0.4, divide=10)
    >>> [round(schedule.lr(step), 5) for step in (0, 3, 6, 9, 99)]
    [0.1, 1.0, 0.50001, 1e-05, 1e-05]
    """

    def __init__(
        self, lr: float, total_steps: int, rise: float = 0.3, divide: float = 25.0, final_divide: float = 1e4
    ) -> None:
        self.base = _rate("OneCycle", lr)
        self.total_steps = integer("OneCycle", "total_steps", total_steps, low=2)
        self.rise = number("OneCycle", "rise", rise, low=0, high=1, above=True, below=True)
        self.divide = number("OneCycle", "divide", divide, low=1)
        self.final_divide = number("OneCycle", "final_divide", final_divide, low=1)

    def lr(self, step: int) -> float:
        """Return the rate of this step."""
        peak, end, step = self.rise * self.total_steps - 1, self.total_steps - 1, min(step, self.total_steps - 1)
        start = self.base / self.divide
        if step < peak:
            return _half_cosine(start, self.base, step / peak)
        return _half_cosine(self.base, start / self.final_divide, (step - peak) / (end - peak))


class Cosine(_Stateless):
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
        return _half_cosine(self.base, self.floor, min(step, self.total_steps) / self.total_steps)


class Warmup:
    """Raise another schedule's rate linearly over the first steps.

    lr(step) = inner.lr(step) * min(1, (step + 1) / steps).

    Args:
        inner: the schedule after the rise.
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

    def state_dict(self) -> dict[str, Saved]:
        """Return the state of the inner schedule, {} if that has none."""
        return {"inner": self.inner.state_dict() if isinstance(self.inner, Stateful) else {}}

    def load_state_dict(self, state: Mapping[str, Saved]) -> None:
        """Take what `state_dict` returned.

        Raises:
            ConfigError: if it is the state of something else.
        """
        inner = check_keys("Warmup.load_state_dict", state, {"inner"})["inner"]
        if not isinstance(inner, Mapping):
            raise ConfigError(f"Warmup.load_state_dict: expected the state of the inner schedule, got {inner!r}")
        if isinstance(self.inner, Stateful):
            self.inner.load_state_dict(inner)
        else:
            check_keys("Warmup.load_state_dict: inner", inner, set())


def _rate(where: str, lr: float) -> float:
    return number(where, "lr", lr, low=0, above=True)


def _half_cosine(start: float, end: float, share: float) -> float:
    """Return the rate after a fraction of the way from `start` to `end`, flat at both ends."""
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


def _power(factor: float, count: int) -> float:
    """Return factor ** count, or infinity if that is too large for a float."""
    try:
        return factor**count
    except OverflowError:
        return math.inf
