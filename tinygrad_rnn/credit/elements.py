"""Elements of values along their last axis, in NumPy's functions, so that a plan can record them."""

from __future__ import annotations

import math

import numpy as np

from ..engine.tape import Array
from ..engine.tensor import Value


def added(a: Value | None, b: Value | None) -> Value | None:
    """Return the sum of what there is."""
    return b if a is None else a if b is None else a + b


def flat(values: Value, lead: int) -> Value:
    """Return values with all axes after the first `lead` as one."""
    if values.ndim == lead + 1:
        return values
    made: Value = np.reshape(values, (*values.shape[:lead], math.prod(values.shape[lead:])))
    return made


def picked(values: Value, at: Array) -> Value:
    """Return elements of the last axis, (..., *shape of at), and 0 where `at` is -1.

    Elements at equal distances are a slice, which copies nothing; a few runs of neighbours are joined.
    """
    lead, numbers = values.shape[:-1], at.reshape(-1)
    slices = _slices(numbers)
    made: Value
    if slices is None:
        made = np.take(values, numbers, axis=-1)
        if (numbers < 0).any():
            made = made * (numbers >= 0).astype(values.dtype)
    elif len(slices) == 1:
        made = _sliced(values, slices[0])
    else:
        made = np.concatenate([_sliced(values, run) for run in slices], axis=-1)
    return np.reshape(made, (*lead, *at.shape))


_RUNS = 8
"""The most runs of elements that are joined; more are taken one by one."""


def _slices(numbers: Array) -> list[slice | int] | None:
    """Return numbers as slices; -1, repeated, as how many there are. None: they are too many."""
    steps = np.diff(numbers)
    if len(numbers) > 1 and numbers[0] >= 0 and steps[0] > 0 and (steps == steps[0]).all():
        return [slice(int(numbers[0]), int(numbers[-1]) + 1, int(steps[0]))]
    together = np.where(numbers[1:] < 0, numbers[:-1] < 0, (steps == 1) & (numbers[:-1] >= 0))
    borders = np.flatnonzero(~together) + 1
    if len(borders) >= _RUNS:
        return None
    runs = np.split(numbers, borders)
    return [len(run) if not len(run) or run[0] < 0 else slice(int(run[0]), int(run[-1]) + 1, 1) for run in runs]


def _sliced(values: Value, run: slice | int) -> Value:
    if isinstance(run, int):
        zeros: Value = np.zeros((*values.shape[:-1], run), values.dtype)
        return zeros
    whole = (run.start, run.stop, run.step) == (0, values.shape[-1], 1)
    made: Value = values if whole else values[..., run]
    return made


def fitted_to(value: Value, lead: tuple[int, ...], have: tuple[int, ...], want: tuple[int, ...]) -> Value:
    """Return a rule's result, summed over the axes along which the operand was broadcast: (*lead, *want)."""
    if value.shape == (*lead, *want) and have == want:
        return value
    full: Value = np.broadcast_to(value, (*lead, *have)) if value.shape != (*lead, *have) else value
    stripped = want[len(want) - len(have) :] if len(want) > len(have) else want
    padded = (1,) * (len(have) - len(stripped)) + stripped
    axes = tuple(len(lead) + axis for axis, (h, w) in enumerate(zip(have, padded, strict=True)) if w == 1 and h != 1)
    if axes:
        full = np.sum(full, axis=axes, keepdims=True)
    made: Value = np.reshape(full, (*lead, *want))
    return made
