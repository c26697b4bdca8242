"""Calls of NumPy functions that record, as cases: gradients, dtypes and plans are checked over all of them."""

from __future__ import annotations

import numpy as np

INF = float("inf")

# name: (function, shapes of its inputs), or with a third entry the interval that inputs are drawn from
ELEMENTWISE = {
    "sin": (np.sin, [(2, 3)]),
    "cos": (np.cos, [(2, 3)]),
    "tan": (np.tan, [(2, 3)], (-1.2, 1.2)),
    "arcsin": (np.arcsin, [(2, 3)], (-0.9, 0.9)),
    "arccos": (np.arccos, [(2, 3)], (-0.9, 0.9)),
    "arctan": (np.arctan, [(2, 3)]),
    "arctan2": (np.arctan2, [(4, 3), (3,)]),
    "sinh": (np.sinh, [(2, 3)]),
    "cosh": (np.cosh, [(2, 3)]),
    "arcsinh": (np.arcsinh, [(2, 3)]),
    "arccosh": (np.arccosh, [(2, 3)], (1.2, 3)),
    "arctanh": (np.arctanh, [(2, 3)], (-0.9, 0.9)),
    "hypot": (np.hypot, [(2, 3), (3,)]),
    "hypot of a number": (lambda x: np.hypot(x, 2.0), [(3,)]),
    "deg2rad": (lambda x: np.deg2rad(x) * np.rad2deg(x), [(3,)]),
    "log1p": (np.log1p, [(2, 3)], (-0.8, 2)),
    "expm1": (np.expm1, [(2, 3)]),
    "log2": (np.log2, [(2, 3)], (0.3, 2)),
    "log10": (np.log10, [(2, 3)], (0.3, 2)),
    "exp2": (np.exp2, [(2, 3)]),
    "cbrt": (lambda x: np.cbrt(x) - np.cbrt(-x), [(2, 3)], (0.3, 2)),
    "logaddexp": (np.logaddexp, [(2, 3), (3,)]),
    "logaddexp of a number": (lambda x: np.logaddexp(x, 0.5), [(3,)]),
    "logaddexp2": (np.logaddexp2, [(2, 1), (3,)]),
}

CASES = ELEMENTWISE


def draw(case, seed: int) -> list[np.ndarray]:
    """Return the inputs of a case: standard normal numbers, or uniform ones from its interval."""
    rng = np.random.default_rng(seed)
    if len(case) == 2:
        return [rng.standard_normal(shape) for shape in case[1]]
    return [rng.uniform(*case[2], shape) for shape in case[1]]
