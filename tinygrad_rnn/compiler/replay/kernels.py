"""Kernels that replace several calls each, to read and write memory less often."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol, TypeVar

import numpy as np

from ...engine.tape import Array
from ...ops.index import add_equal
from ..ir.graph import Operator

_BLOCK = 1 << 17  # elements of a block of rows that stays in cache
_LEAST, _MOST = 1e-20, 1e20  # range of sums of exp in which float32 loses neither terms nor quotients

R = TypeVar("R")


class Each(Protocol):
    """Calls work(start, stop) for parts of range(count), perhaps on several threads at a time."""

    def __call__(self, work: Callable[[int, int], R], count: int, /) -> list[R]:
        """Return what the calls returned, in order."""


def in_one_piece(work: Callable[[int, int], R], count: int) -> list[R]:
    """Return [work(0, count)]."""
    return [work(0, count)]


def _loss_and_gradient(
    logits: Array,
    g: Array | float,
    /,
    targets: Array,
    ignore_label: int,
    *,
    out: tuple[Array, Array] | None = None,
    each: Each = in_one_piece,
) -> tuple[Array, Array]:
    """Return the cross-entropy of logits (M, V) and g times its gradient, which may be written over the logits.

    Each block of rows goes through all passes while it is in cache: exp, sum, scale. The largest logit of a row is
    subtracted first only in blocks where a sum of exp leaves the range in which nothing is lost, and if there is one
    class, so that its gradient is exactly 0.
    """
    if out is None:
        out = np.empty((), logits.dtype), np.empty_like(logits)
    loss, gradient = out
    ids = targets.reshape(-1)
    kept = ids != ignore_label
    count = int(np.count_nonzero(kept))
    wide = np.result_type(logits, np.float32)  # half precision is too narrow to add up in
    weight = wide.type(np.asarray(g).item() / count)  # of a position, once for all if none is masked
    weights = None
    if count < len(ids):
        ids, weights = np.where(kept, ids, 0), np.where(kept, weight, 0)
    rows = max(1, _BLOCK // logits.shape[1])
    lines = np.arange(min(rows, len(ids)))

    def part(first: int, last: int) -> float:
        total = 0.0
        scratch = np.empty((min(rows, last - first), logits.shape[1]), wide)
        for start in range(first, last, rows):
            block = slice(start, min(start + rows, last))
            x, d = logits[block].astype(wide, copy=False), gradient[block]
            if weights is not None and not kept[block].all():
                x = np.where(kept[block][:, None], x, 0)  # masked rows may hold anything
            picks = lines[: len(x)], ids[block]
            picked, e = x[picks], scratch[: len(x)]
            with np.errstate(over="ignore"):
                sums = _row_sums(np.exp(x, out=e))
            if x.shape[1] == 1 or not np.all((sums > _LEAST) & (sums < _MOST)):
                top = x.max(axis=1)
                picked -= top
                sums = _row_sums(np.exp(np.subtract(x, top[:, None], out=e), out=e))
            nats = _nats(sums, e[picks], picked)
            scale = weight if weights is None else weights[block]
            total += float(nats.sum() if weights is None else nats.sum(where=kept[block]))
            made = d if d.dtype == wide else e
            np.multiply(e, (scale / sums)[:, None], out=made)
            made[picks] -= scale
            if made is not d:
                d[...] = made
        return total

    loss[()] = math.fsum(each(part, len(logits))) / count
    return loss, gradient


def _nats(sums: Array, exps: Array, picked: Array) -> Array:
    """Return log(sums) - picked, given exp(picked).

    It is computed as log(sums / exp(picked)), as log(sums) and picked are large and cancel if no largest logit was
    subtracted; but where the quotient is large nothing cancels, exp(picked) may be 0, and the difference is taken.
    """
    near = exps > 1e-8 * sums
    nats = np.log(np.divide(sums, np.where(near, exps, 1), dtype=np.float64))
    return np.asarray(nats - np.where(near, 0, picked))


def _row_sums(x: Array) -> Array:
    sums: Array = np.einsum("ij->i", x)  # adds up lane by lane: a third of the time of np.sum
    return sums


LOSS_AND_GRADIENT = Operator("loss_and_gradient", _loss_and_gradient, True, over=1, parts=True, multiple=True)


def _equal_rows(
    g: Array, /, indices: Array, length: int, *, out: tuple[Array, Array] | None = None
) -> tuple[Array, Array]:
    """Return the gradient of a lookup as rows and values: (rows (R, ...), places (R,)).

    At the first occurrence of an id in `indices` (R of them, any shape), the place is its row of the table, counted
    from the start, and the row is the sum of the rows of g with that id, as `take_back` adds them up. At the others the
    place is -1 and the row 0.

    Raises:
        IndexError: if an id is out of range; then nothing has been written.
    """
    if out is None:
        out = np.empty((indices.size, *g.shape[indices.ndim :]), g.dtype), np.empty(indices.size, np.int64)
    rows, places = out
    ids = indices.ravel()
    if ids.size and not -length <= ids.min() <= ids.max() < length:
        raise IndexError(f"take: index out of range for axis 0 with size {length}")
    rows[...], places[...] = 0, -1
    if ids.size:
        ids = ids % length
        first, sums = add_equal(g.reshape(rows.shape), ids)
        rows[first], places[first] = sums, ids[first]
    return rows, places


EQUAL_ROWS = Operator("equal_rows", _equal_rows, True, multiple=True)
"""`equal_rows(g; indices, length)` -> rows (R, ...), places (R,): the gradient of a lookup, without the zeros."""


def _subtract_rows(table: Array, rows: Array, places: Array, /, *, out: Array | None = None) -> Array:
    """Return a table (V, ...) minus rows (R, ...) at their places (R,), which are distinct; -1 is no place."""
    if out is None:
        out = np.array(table)
    elif out is not table:
        out[...] = table
    kept = np.flatnonzero(places >= 0)
    out[places[kept]] -= rows[kept]
    return out


SUBTRACT_ROWS = Operator("subtract_rows", _subtract_rows, True, over=0)
"""`subtract_rows(table, rows, places)`: an update of the rows of a table that a lookup has used."""
