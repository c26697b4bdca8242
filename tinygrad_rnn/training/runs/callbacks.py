"""Callbacks of a Trainer: what is called after each update and each epoch, in the first process or in all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from ...parallel.group import Group
from ..loop.result import StepResult
from .records import Record

OnEpoch: TypeAlias = Callable[[Record], bool | None]


class Callback:
    """The methods that a `Trainer` calls: derive from it, and write those that you need.

    Each returns True to end the run. With `state_dict` and `load_state_dict` its state is kept in checkpoints.

    >>> class Patient(Callback):
    ...     def on_epoch(self, trainer, record):
    ...         return record.train["loss"] < 0.1
    """

    def on_update(self, trainer: Any, result: StepResult) -> bool | None:
        """Called after each update."""

    def on_epoch(self, trainer: Any, record: Record) -> bool | None:
        """Called after each epoch; `trainer.best` is the best so far, possibly this one."""

    def on_end(self, trainer: Any) -> None:
        """Called once at the end of a run, however it ends: the place to close files."""


class Everywhere(Callback):
    """A callback that each process of a run calls, not the first alone: one that changes the model or the optimizer."""

    def on_loss(self, trainer: Any) -> None:
        """Called in each process that is left, after others have died and before the run goes on."""


class EachEpoch(Callback):
    """A function as a callback."""

    def __init__(self, function: OnEpoch) -> None:
        self._function = function

    def on_epoch(self, trainer: object, record: Record) -> bool | None:
        """Call the function."""
        return self._function(record)


def called(group: Group, callbacks: Sequence[Callback], call: Callable[[Callback], bool | None]) -> bool:
    """Call those of the callbacks that are for this process, and return whether one in any process ends the run.

    Raises:
        Exception: in all processes, what one that is for the first alone raised there.
    """
    if not callbacks:
        return False
    answers = [call(callback) for callback in callbacks if isinstance(callback, Everywhere)]
    others = [callback for callback in callbacks if not isinstance(callback, Everywhere)]
    if others:
        answers.append(group.first(lambda: any([call(callback) for callback in others])))  # noqa: C419 (each is called)
    return bool(group.largest(float(any(answers)))[0])
