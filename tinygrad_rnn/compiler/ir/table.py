"""The table of operators that the compiler knows by name.

Inference of shapes, the passes, memory plans and both executors read from here, and the C library gets its numbers from
here (`native/numbers.py`). An elementwise operation is a row of this table and, if the library is to compute it, an
expression in `native/source/elementwise.h`.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

Kind = Literal["elementwise", "view", "move", "other"]
Native = Literal["vector", "scalar", "own", ""]


class Row(NamedTuple):
    """What the compiler knows of an operator.

    Attributes:
        name: the operator's.
        kind: "elementwise": each element of the result comes from the same element of each operand, with broadcasting;
            "view": another way to look at the first operand, as a rule; "move": copies elements; or "other".
        native: how the C library computes it: "vector" in a loop that becomes vector instructions; "scalar" in one that
            calls libm for each element, where NumPy is up to 40 times as quick on many; "own" in a function of its own;
            "" if it does not.
        truth: whether the result is a truth value.
        in_place: whether the result may be written over an operand: each element is read before it is written.
        ufunc: the NumPy function that is all it computes, called without a detour; None if there is none.
    """

    name: str
    kind: Kind = "elementwise"
    native: Native = "vector"
    truth: bool = False
    in_place: bool = True
    ufunc: np.ufunc | None = None


def _numpy(names: str, native: Native = "vector", truth: bool = False) -> list[Row]:
    return [Row(name, native=native, truth=truth, ufunc=getattr(np, name)) for name in names.split()]


def _others(names: str, kind: Kind = "other", native: Native = "own") -> list[Row]:
    return [Row(name, kind, native, in_place=False) for name in names.split()]


TABLE = [
    *_numpy("add subtract multiply divide"),
    Row("maximum"),  # NumPy wants out= by name there
    Row("minimum"),
    *_numpy("negative sqrt exp tanh floor ceil trunc rint sign"),
    *map(Row, ("relu", "sigmoid", "sigmoid_slope", "softplus")),
    *map(Row, ("sigmoid_tail", "tail_sigmoid", "tail_slope")),  # of passes/slopes.py
    *_numpy("power log sin cos tan arcsin arccos arctan sinh cosh arcsinh arccosh arctanh", "scalar"),
    *_numpy("log1p expm1 log2 log10 exp2 cbrt", "scalar"),
    *_numpy("arctan2 hypot fmod logaddexp remainder floor_divide", "scalar"),
    *_numpy("less less_equal greater greater_equal equal not_equal", truth=True),
    Row("copy", "move", "vector"),  # a call of plans, not of programs
    Row("where", native="own", in_place=False),  # NumPy would compute it elsewhere first
    Row("astype", native=""),
    *_numpy("isfinite isnan logical_and logical_or logical_not", "", truth=True),
    Row("matmul", "other", "own", in_place=False, ufunc=np.matmul),
    *_others("reshape transpose broadcast_to split unstack getitem cut squeeze expand_dims", "view", ""),
    *_others("contiguous stack concatenate", "move", ""),
    *_others("take", "move"),
    *_others("take_back find_equal add_equal subtract_rows loss_and_gradient mean_nats"),
    *_others("sum_rows sum_along convert chain loop"),  # calls of the library, not of plans
]
"""Every operator that is known by name; what is not in here has no property of these."""

ELEMENTWISE = frozenset(row.name for row in TABLE if row.kind == "elementwise")
"""Names of operators that compute each element of the result from the same element of each operand."""

VIEWS = frozenset(row.name for row in TABLE if row.kind == "view")
"""Names of operators whose result is another way to look at their first operand, as a rule."""

MOVES = VIEWS | {row.name for row in TABLE if row.kind == "move"}
"""Names of operators that compute nothing."""

IN_PLACE = ELEMENTWISE & {row.name for row in TABLE if row.in_place}
"""Names of operators that may write their result over an operand."""

TRUTH = frozenset(row.name for row in TABLE if row.truth)
"""Names of operators whose results are truth values."""

UFUNCS = {row.name: row.ufunc for row in TABLE if row.ufunc is not None}
"""The NumPy functions that compute operators into an array."""
