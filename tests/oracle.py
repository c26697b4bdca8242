"""The oracle of the tests: complex-step derivatives, which have no step-size error.

f(x + ih).imag / h with h = 1e-30 is the derivative to the last bit for analytic f. The functions under test are
called on plain complex arrays, so nothing of the tape takes part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

STEP = 1e-30


def complex_gradient(f: Callable[..., Any], arrays: Sequence[np.ndarray], which: int) -> np.ndarray:
    """Return d f / d arrays[which], entry by entry; f takes arrays and returns a number."""
    gradient = np.zeros(arrays[which].shape)
    for place in np.ndindex(arrays[which].shape):
        inputs = [array.astype(complex) if index == which else array for index, array in enumerate(arrays)]
        inputs[which][place] += 1j * STEP
        gradient[place] = np.imag(f(*inputs)) / STEP
    return gradient


def relative_error(actual: Any, expected: Any) -> float:
    """Return the largest difference over the largest expected entry (or 1, if that is smaller)."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, (actual.shape, expected.shape)
    if expected.size == 0:
        return 0.0
    return float(np.max(np.abs(actual - expected)) / max(1.0, float(np.max(np.abs(expected)))))
