"""The table of operators that the compiler knows by name.

Shape inference, passes, memory layout and both executors read it, and the C library's numbers of operators are made
from it (`native/numbers.py`). An elementwise operation is a row of this table and, if the library is to compute it, an
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
            "view": the result is, as a rule, a view of the first operand; "move": copies elements; or "other".
        native: how the C library computes it: "vector" in a loop that becomes vector instructions; "scalar" in one that
            calls libm for each element, which on large arrays is much slower than NumPy; "own" in a function of its
            own; "" not at all.
        truth: whether the result is boolean.
        in_place: whether the result may overwrite an operand: each element is read before it is written.
        ufunc: the NumPy function that computes exactly this, and is called directly; None if there is none.
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
    Row("maximum"),  # no ufunc for these two: NumPy wants their out= by name
    Row("minimum"),
    *_numpy("negative sqrt exp tanh floor ceil trunc rint sign"),
    *map(Row, ("relu", "sigmoid", "sigmoid_slope", "softplus")),
    *map(Row, ("sigmoid_tail", "tail_sigmoid", "tail_slope")),  # of passes/slopes.py
    *_numpy("power log sin cos tan arcsin arccos arctan sinh cosh arcsinh arccosh arctanh", "scalar"),
    *_numpy("log1p expm1 log2 log10 exp2 cbrt", "scalar"),
    *_numpy("arctan2 hypot fmod logaddexp remainder floor_divide", "scalar"),
    *_numpy("less less_equal greater greater_equal equal not_equal", truth=True),
    Row("copy", "move", "vector"),  # added when a plan is made, never recorded
    Row("where", native="own", in_place=False),  # NumPy's has no out=
    Row("astype", native=""),
    *_numpy("isfinite isnan logical_and logical_or logical_not", "", truth=True),
    Row("matmul", "other", "own", in_place=False, ufunc=np.matmul),
    *_others("reshape transpose broadcast_to split unstack getitem cut squeeze expand_dims", "view", ""),
    *_others("contiguous stack concatenate", "move", ""),
    *_others("take", "move"),
    *_others("take_back find_equal add_equal subtract_rows loss_and_gradient mean_nats log_softmax logsumexp"),
    # Records of the library, not instructions of plans:
    *_others("sum_rows sum_middle sum_along convert from_whole to_whole chain loop"),
]
"""Every operator that is known by name; any other has none of these properties."""

ELEMENTWISE = frozenset(row.name for row in TABLE if row.kind == "elementwise")
"""Names of operators that compute each element of the result from the same element of each operand."""

VIEWS = frozenset(row.name for row in TABLE if row.kind == "view")
"""Names of operators whose result is, as a rule, a view of their first operand."""

MOVES = VIEWS | {row.name for row in TABLE if row.kind == "move"}
"""Names of operators that only view or copy elements."""

IN_PLACE = ELEMENTWISE & {row.name for row in TABLE if row.in_place}
"""Names of operators that may write their result over an operand."""

TRUTH = frozenset(row.name for row in TABLE if row.truth)
"""Names of operators whose results are boolean."""

UFUNCS = {row.name: row.ufunc for row in TABLE if row.ufunc is not None}
"""The NumPy functions that compute operators into an array."""
