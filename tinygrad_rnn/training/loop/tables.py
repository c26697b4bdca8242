"""Gradients of tables of which a batch looks up few rows: processes send those rows, and not the zeros between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, cast

import numpy as np

from ...compiler.recording.trace import trace
from ...engine.tape import Array, context
from ...ops.index import take_back


class Rows(NamedTuple):
    """The gradient of a table (V, ...): zeros, to which each of `rows` (R, ...) is added at its id of `ids` (R,).

    While a plan is recorded they are Tensors, which compute like arrays.
    """

    rows: Array
    ids: Array

    def dense(self, shape: tuple[int, ...]) -> Array:
        """Return the gradient of a table of this shape; a plan that only subtracts it changes the named rows alone."""
        return take_back(self.rows, self.ids, shape)


def rows_of(gradient: Array) -> Rows:
    """Return a gradient as rows: of a single lookup those that it looked up, of anything else all rows.

    >>> found = rows_of(np.eye(2))
    >>> found.ids.tolist(), found.dense((2, 2)).tolist()
    ([0, 1], [[1.0, 0.0], [0.0, 1.0]])
    """
    tracer = context().tracer
    found = None if tracer is None else tracer.looked_up(gradient)
    if found is None:
        return Rows(gradient, np.arange(len(gradient)))
    rows, ids = cast("tuple[Array, Array]", found)
    return Rows(np.reshape(rows, (-1, *gradient.shape[1:])), np.reshape(ids, (-1,)))


def sparse_tables(
    function: Callable[..., Mapping[str, Array]], arguments: tuple[object, ...], processes: int
) -> list[str]:
    """Return the names of tables of which all processes look up so few rows that sending those is less than a sum.

    These are at most half as many as the table has.

    Args:
        function: returns gradients by name; it is recorded.
        arguments: what this process calls it with.
        processes: how many there are, each with about as many rows.
    """
    names: list[str] = []

    def look(*arguments: object) -> tuple[()]:
        tracer = context().tracer
        assert tracer is not None
        for name, gradient in function(*arguments).items():
            found = tracer.looked_up(gradient)
            if found is not None and 2 * processes * np.size(cast(Array, found[1])) <= gradient.shape[0]:
                names.append(name)
        return ()

    trace(look, (arguments, {}))
    return names
