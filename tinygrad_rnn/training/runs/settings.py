"""The settings of a run in words, by which a run that goes on with others is noticed."""

from __future__ import annotations

from collections.abc import Mapping, Sized
from types import NoneType

import numpy as np

from ...credit.policy import Policy
from ...errors import warn
from ...optim import Optimizer, Schedule
from ..loop.step import TrainStep

_OTHERS = ("steps", "total_steps", "slots")  # what changes from update to update, or with `epochs`; no setting
_PLAIN = (int, float, str, np.generic, NoneType)


def settings_of(
    step: TrainStep, train: object, schedule: Schedule | None, accumulate: int, monitor: str, maximize: bool, seed: int
) -> dict[str, str]:
    """Return what a Trainer was made with, each setting as a text.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> step = tr.TrainStep(tr.Linear(1, 1, np.random.default_rng(0)), lambda model, batch: None, tr.SGD(0.1), clip=2.0)
    >>> [*settings_of(step, [], None, 1, "loss", False, 3).values()]
    ['SGD(lr=0.1, weight_decay=0.0)', '0', 'None', '2.0', 'None', '1', "'loss'", 'False', '3']
    """
    found = {
        "optimizer": step.optimizer,
        "batches of an epoch": len(train) if isinstance(train, Sized) else None,
        "schedule": schedule,
        "clip": step.clip,
        "policy": step.policy,
        "accumulate": accumulate,
        "monitor": monitor,
        "maximize": maximize,
        "seed": seed,
    }
    return {name: _in_words(value) for name, value in found.items()}


def _in_words(part: object) -> str:
    if isinstance(part, Mapping):
        return "{" + ", ".join(f"{name}: {_in_words(value)}" for name, value in part.items()) + "}"
    if isinstance(part, tuple | list):
        return "[" + ", ".join(map(_in_words, part)) + "]"
    if isinstance(part, Optimizer | Schedule | Policy):
        known = {name: value for name, value in vars(part).items() if name not in _OTHERS and not name.startswith("_")}
        return f"{type(part).__name__}({', '.join(f'{name}={_in_words(value)}' for name, value in known.items())})"
    return repr(part) if isinstance(part, _PLAIN) else type(part).__name__


def warn_of_others(before: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Warn if a run goes on with other settings than it had; what was not recorded is not compared."""
    others = [f"{name} {before[name]}, now {now[name]}" for name in now if before.get(name, now[name]) != now[name]]
    if others:
        warn(
            f"Trainer.resume: the run was made with other settings: {'; '.join(others)}. It goes on with those of now, "
            "and its numbers are not those of a run that was never stopped",
        )
