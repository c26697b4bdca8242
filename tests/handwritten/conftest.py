"""The oracle of these tests: the derivative of a forward, to the last digits, without any backward.

For a real analytic f, f(x + ih) = f(x) + ih f'(x) + O(h^2), so that f'(x) = Im f(x + ih) / h. No difference
is taken, so that h can be so small that the O(h^2) is far below rounding (Squire and Trapp, 1998).
"""

from __future__ import annotations

import numpy as np
import pytest

STEP = 1e-30


def gradients_of(f, *arrays):
    """Return the gradient of the scalar f(*arrays) for every entry of every array."""
    gradients = []
    for position, array in enumerate(arrays):
        gradient = np.empty(array.shape)
        for index in np.ndindex(array.shape):
            moved = array.astype(complex)
            moved[index] += 1j * STEP
            gradient[index] = f(*arrays[:position], moved, *arrays[position + 1 :]).imag / STEP
        gradients.append(gradient)
    return gradients


def slope_of(f, arrays, directions):
    """Return the derivative of the scalar f(*arrays) when all arrays move along their directions."""
    moved = [array + 1j * STEP * direction for array, direction in zip(arrays, directions, strict=True)]
    return f(*moved).imag / STEP


def relative_error_of(actual, expected):
    """Return the largest difference over the largest expected entry."""
    assert actual.shape == expected.shape
    return np.abs(actual - expected).max() / np.abs(expected).max()


@pytest.fixture(scope="session")
def complex_step():
    return gradients_of


@pytest.fixture(scope="session")
def complex_slope():
    return slope_of


@pytest.fixture(scope="session")
def relative_error():
    return relative_error_of
