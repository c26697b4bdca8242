"""The rows of a batch, and of a recurrent state, that one process holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, cast

import numpy as np

from ..engine.tensor import Tensor, shape_of
from ..engine.tree import flatten, map_leaves
from ..errors import ShapeError
from .group import Group


@dataclass(frozen=True)
class Share:
    """The rows of a batch that one process holds.

    A source of batches that reads only these rows yields one. A process for which there is no row (fewer sequences
    than processes) holds the first row with no weight, so that it takes part in every sum.

    Attributes:
        batch: a nesting of arrays (stop - start, ...).
        start, stop: which rows of the whole batch.
        total: N of the whole batch.
        counts: whether they count.
    """

    batch: object
    start: int
    stop: int
    total: int
    counts: bool = True

    def of(self, batch: object) -> Share:
        """Return the same rows of another batch, of which only these are given."""
        return replace(self, batch=batch)

    def rows_of(self, state: object) -> object:
        """Return these rows of a state; one that holds them alone is returned as it is.

        Arrays whose first axis is N are (N, ...); others, such as a counter, belong to all rows.
        """
        if self.stop - self.start == self.total:
            return state
        parts = flatten(state)
        if not any(_length(part) == self.total for part in parts) or _holds(parts, self.stop - self.start):
            return state
        return map_leaves(lambda part: part[self.start : self.stop] if _length(part) == self.total else part, state)


def share_of(batch: object, group: Group) -> Share:
    """Return the rows of a batch that a process holds.

    Args:
        batch: a nesting of arrays (N, ...), the whole batch; or a `Share`, which is returned.
        group: the processes.

    Raises:
        ShapeError: if an array of it has another first axis.

    >>> share_of({"x": np.arange(6), "y": np.zeros((6, 2))}, Group()).total
    6
    """
    if isinstance(batch, Share):
        return batch
    lengths = {_length(part) for part in flatten(batch) if isinstance(part, Tensor | np.ndarray)}
    if len(lengths) != 1 or None in lengths:
        shapes = [shape_of(part) for part in flatten(batch) if isinstance(part, Tensor | np.ndarray)]
        raise ShapeError(
            f"comm: the rows of a batch are divided among processes, so each array of it must be (N, ...); got {shapes}"
        )
    (total,) = lengths
    assert total is not None
    rows = group.rows(total)
    counts = rows.stop > rows.start
    start, stop = (rows.start, rows.stop) if counts else (0, 1)
    part = batch if stop - start == total else map_leaves(lambda part: _cut(part, start, stop), batch)
    return Share(part, start, stop, total, counts)


class Streams(Protocol):
    """Batches whose rows are streams that go on from batch to batch, of which some can be read alone."""

    def rows(self, start: int, stop: int) -> Iterable[object]:
        """Return the batches of the streams from start to stop - 1 alone."""


def own_rows(batches: object, group: Group) -> Iterator[Share] | None:
    """Return the batches of the streams that a process holds, the only ones that it reads; None: it cannot.

    Args:
        batches: such as `OffsetBatches`, with `rows(start, stop)`, and N as `batch_size` or `streams`.
        group: the processes; with more of them than streams None is returned, too.
    """
    total = getattr(batches, "streams", getattr(batches, "batch_size", None))
    if group.size == 1 or not hasattr(batches, "rows") or not isinstance(total, int) or total < group.size:
        return None
    held = group.rows(total)
    parts = cast(Streams, batches).rows(held.start, held.stop)
    return (Share(part, held.start, held.stop, total) for part in parts)


def joined_state(states: Sequence[tuple[Share | None, object]], fresh: object = None) -> object:
    """Return the state of the whole batch from those of the processes.

    Args:
        states: of each process, the rows that it holds and its state.
        fresh: state of the whole batch for rows that no process holds; None: zeros.

    >>> one, two = Share(None, 0, 1, 3), Share(None, 1, 3, 3)
    >>> joined_state([(one, np.ones((1, 2))), (two, np.zeros((2, 2)))]).tolist()
    [[1.0, 1.0], [0.0, 0.0], [0.0, 0.0]]
    """
    held = [(share, state) for share, state in states if share is not None and share.counts]
    if not held:
        return states[0][1]
    wanted = flatten(fresh)
    parts = [flatten(state) for _, state in held]
    made: list[object] = []
    for number, first in enumerate(parts[0]):
        share = held[0][0]
        if _length(first) != share.stop - share.start:
            made.append(first)
            continue
        array = _array(first)
        whole = np.zeros((share.total, *array.shape[1:]), array.dtype)
        if len(wanted) == len(parts[0]) and np.shape(wanted[number]) == whole.shape:
            whole[...] = _array(wanted[number])
        for (rows, _), part in zip(held, parts, strict=True):
            whole[rows.start : rows.stop] = _array(part[number])
        made.append(whole)
    leaves = iter(made)
    return map_leaves(lambda _: next(leaves), held[0][1])


def _array(part: object) -> np.ndarray:
    return part.data if isinstance(part, Tensor) else np.asarray(part)


def _cut(part: object, start: int, stop: int) -> object:
    return part[start:stop] if isinstance(part, Tensor | np.ndarray) else part


def _length(part: object) -> int | None:
    return shape_of(part)[0] if isinstance(part, Tensor | np.ndarray) and part.ndim else None


def _holds(parts: Sequence[object], rows: int) -> bool:
    return all(_length(part) == rows for part in parts if isinstance(part, Tensor | np.ndarray) and part.ndim)
