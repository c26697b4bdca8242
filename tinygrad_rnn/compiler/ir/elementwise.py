"""The elementwise operations that the compiler knows by name, in one table.

Each computes an element of the result from the same element of each operand, with broadcasting. Inference of shapes,
the passes, memory plans and both executors read from here; `native/source/elementwise.h` holds the C expressions of
those that the library computes, in the order of `LOOPS`, and a test compares the two.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Elementwise(NamedTuple):
    """What the compiler knows of an elementwise operation.

    Attributes:
        name: of its operator.
        loop: whether the C library computes it.
        truth: whether its result is a truth value.
        single: whether that loop calls the C library for one element after the other: NumPy, which has vector
            instructions for most such functions, is up to 40 times as quick on many elements.
        ufunc: the NumPy function that is all it computes, which a plan calls without a detour; None: there is none.
    """

    name: str
    loop: bool = True
    truth: bool = False
    single: bool = False
    ufunc: np.ufunc | None = None


def _numpy(names: str, loop: bool = True, truth: bool = False, single: bool = False) -> list[Elementwise]:
    return [Elementwise(name, loop, truth, single, getattr(np, name)) for name in names.split()]


TABLE = [
    *_numpy("add subtract multiply divide"),
    Elementwise("maximum"),  # NumPy wants out= by name there
    Elementwise("minimum"),
    *_numpy("power", single=True),
    Elementwise("copy"),
    *_numpy("negative sqrt"),
    Elementwise("relu"),
    *_numpy("exp tanh"),
    Elementwise("sigmoid"),
    Elementwise("sigmoid_slope"),
    Elementwise("softplus"),
    *_numpy("log sin cos tan arcsin arccos arctan sinh cosh arcsinh arccosh arctanh", single=True),
    *_numpy("log1p expm1 log2 log10 exp2 cbrt", single=True),
    *_numpy("floor ceil trunc rint sign"),
    *_numpy("arctan2 hypot fmod logaddexp remainder floor_divide", single=True),
    *_numpy("less less_equal greater greater_equal equal not_equal", truth=True),
    Elementwise("where"),
    Elementwise("astype", loop=False),
    *_numpy("isfinite isnan logical_and logical_or logical_not", loop=False, truth=True),
]
"""Every elementwise operation, those with a loop first; `copy` is a call of plans, not of programs."""

ELEMENTWISE = frozenset(one.name for one in TABLE) - {"copy"}
"""Names of operators that compute each element of the result from the same element of each operand."""

LOOPS = [one.name for one in TABLE if one.loop]
"""Names of those that the C library computes, in its order."""

SINGLE = frozenset(one.name for one in TABLE if one.single)
"""Names of those that it computes one element after the other."""

TRUTH = frozenset(one.name for one in TABLE if one.truth)
"""Names of those whose results are truth values."""

UFUNCS = {one.name: one.ufunc for one in TABLE if one.ufunc is not None}
"""The NumPy functions that compute them into an array."""
