"""Data sets of sequences of different lengths, with targets for each step or each sequence; splits and windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ..checks import flag, generator, integer, number
from ..engine.arrays import check_plain
from ..errors import ConfigError, ShapeError
from .arrays import Array, Given, as_array, check_rows, converted
from .batching import Batches

Rows: TypeAlias = Given | Sequence[Given]
"""One array (N, ...), or a list of N arrays."""


class Sequences:
    """N sequences of different lengths, each with a target.

    Targets are one value or array for each sequence (a class, the following numbers: all of one shape), or an array
    with its own time axis for each: as long as its sequence (a target for each step) or not (a translation). `steps`
    says which.

    Args:
        inputs: N arrays (T_n, ...), such as (T_n, D) or ids (T_n,); or one array (N, T, ...).
        targets: N targets; None: no targets (for prediction, or unsupervised learning).
        steps: whether targets have a time axis; None: True if each has one that is as long as that of its input.
        dtype: of inputs or targets that are floating point numbers, some of them at least: that of the model; None:
            they keep their own.

    Attributes:
        inputs: list of N arrays.
        targets: list of N arrays, or None.
        steps: whether targets have a time axis.
        lengths: (N,), of the inputs.

    Raises:
        ShapeError: if there are no sequences, one is empty, or shapes do not agree.
        DTypeError: if inputs or targets are not real numbers.

    >>> data = Sequences([[1, 2, 3], [4], [5, 6]], targets=[0, 1, 1])
    >>> data
    Sequences(3 of 1 to 3 steps, inputs int64 (T,), targets int64 ())
    >>> data.lengths.tolist(), data.steps
    ([3, 1, 2], False)
    >>> batch = next(iter(data.batches(2)))
    >>> batch.inputs.tolist(), batch.targets.tolist(), batch.lengths.tolist()
    ([[1, 2, 3], [4, 0, 0]], [0, 1], [3, 1])
    """

    def __init__(
        self,
        inputs: Rows,
        targets: Rows | None = None,
        steps: bool | None = None,
        dtype: npt.DTypeLike | None = np.float32,
    ) -> None:
        self.inputs: list[Array] = _rows("inputs", inputs, dtype)
        if not self.inputs:
            raise ShapeError("Sequences: there are no sequences; pass one or more")
        self.lengths: npt.NDArray[np.int64] = check_rows("Sequences", self.inputs, "inputs")
        if not self.lengths.min():
            raise ShapeError(f"Sequences: inputs[{int(self.lengths.argmin())}] is empty; leave it out")
        self.targets: list[Array] | None = None if targets is None else _rows("targets", targets, dtype)
        self.steps: bool = steps is not None and flag("Sequences", "steps", steps)
        if self.targets is not None:
            self._check_targets(self.targets, steps)

    def _check_targets(self, targets: list[Array], steps: bool | None) -> None:
        if len(targets) != len(self.inputs):
            raise ShapeError(f"Sequences: expected a target for each of {len(self.inputs)} inputs, got {len(targets)}")
        if steps is None:
            self.steps = all(t.ndim and len(t) == T for t, T in zip(targets, self.lengths, strict=True))
        if self.steps:
            check_rows("Sequences", targets, "targets")
        elif len({target.shape for target in targets}) > 1:
            raise ShapeError(
                f"Sequences: expected targets of one shape, or with a time axis each (steps=True), got "
                f"{sorted({target.shape for target in targets})[:4]}"
            )

    def __len__(self) -> int:
        return len(self.inputs)

    def __repr__(self) -> str:
        shortest, longest = int(self.lengths.min()), int(self.lengths.max())
        parts = [f"{len(self)} of {shortest if shortest == longest else f'{shortest} to {longest}'} steps"]
        parts += [f"inputs {self.inputs[0].dtype} {('T', *self.inputs[0].shape[1:])}".replace("'", "")]
        if self.targets is not None:
            shape = ("T", *self.targets[0].shape[1:]) if self.steps else self.targets[0].shape
            parts += [f"targets {self.targets[0].dtype} {shape}".replace("'", "")]
        return f"Sequences({', '.join(parts)})"

    def __getitem__(self, chosen: slice | Sequence[int] | npt.NDArray[np.integer | np.bool_]) -> Sequences:
        """Return a selection of the sequences: `data[:100]`, `data[[3, 1]]`, `data[data.lengths > 5]`."""
        places = np.atleast_1d(np.arange(len(self))[chosen])
        targets = None if self.targets is None else [self.targets[place] for place in places]
        return Sequences([self.inputs[place] for place in places], targets, self.steps, None)

    def split(self, *shares: float, rng: np.random.Generator | None = None) -> tuple[Sequences, ...]:
        """Split off parts, and return the rest first, then one part for each share.

        Args:
            shares: of all sequences, each above 0, together below 1; counts are rounded to the nearest.
            rng: generator that assigns sequences to parts; None: the order is kept, and the parts are cut from the end,
                the last share last.

        Raises:
            ConfigError: if the shares are out of range.
            ShapeError: if a part would be empty.

        >>> train, valid, test = Sequences(np.arange(20).reshape(10, 2)).split(0.2, 0.1)
        >>> len(train), valid.inputs[0].tolist(), len(test)
        (7, [14, 15], 1)
        """
        for n, share in enumerate(shares):
            number("Sequences.split", f"shares[{n}]", share, low=0, high=1, above=True, below=True)
        counts = [round(len(self) * share) for share in shares]
        rest = len(self) - sum(counts)
        if not shares or sum(shares) >= 1:
            raise ConfigError(f"Sequences.split: expected shares that are together above 0 and below 1, got {shares}")
        if rest < 1 or 0 in counts:
            raise ShapeError(f"Sequences.split: {len(self)} sequences leave a part of {shares} empty")
        order = np.arange(len(self))
        if rng is not None:
            order = generator("Sequences.split", "rng", rng).permutation(order)
        return tuple(self[part] for part in np.split(order, np.cumsum([rest, *counts[:-1]])))

    def batches(
        self,
        batch_size: int,
        rng: np.random.Generator | None = None,
        *,
        pool: int = 1,
        multiple: int = 1,
        drop_last: bool = False,
    ) -> Batches:
        """Return the mini-batches of this data set, which can be iterated repeatedly; see `Batches`.

        Args:
            batch_size: N, sequences in a batch.
            rng: generator that shuffles anew for each pass; None: the order is kept.
            pool: number of batches that are drawn at once, sorted by length, cut into batches, and shuffled, so that
                sequences of similar length are together; 1: no sorting.
            multiple: T is rounded up to a multiple of it, so that fewer shapes occur (a compiled update has a plan for
                each).
            drop_last: leave out a last batch of fewer than N sequences.

        >>> data = Sequences([np.zeros(n) for n in (5, 1, 4, 2)], targets=[5, 1, 4, 2])
        >>> [batch.targets.tolist() for batch in data.batches(2, pool=2)]
        [[1, 2], [4, 5]]
        """
        return Batches(self, batch_size, rng, pool=pool, multiple=multiple, drop_last=drop_last)


def sliding_windows(
    series: Given,
    length: int,
    *,
    horizon: int = 1,
    stride: int = 1,
    targets: Given | None = None,
    steps: bool = False,
    dtype: npt.DTypeLike | None = np.float32,
) -> Sequences:
    """Return the windows of a series, each with the values that follow it: a forecasting task.

    Window i holds `series[i * stride :][:length]`. Its target is the next `horizon` values; with `steps`, at each step
    the value `horizon` steps later.

    Args:
        series: (T,) or (T, D), in the order of time; (T,) becomes (T, 1) in the inputs.
        length: steps of a window.
        horizon: how far to look ahead, 1 or more.
        stride: steps from one window to the next.
        targets: (T,) or (T, K), of the same times, to predict instead of the series itself.
        steps: a target for each step.
        dtype: as in `Sequences`.

    Returns:
        Sequences of inputs (length, D), and targets (horizon,) or (horizon, K); with `steps`, (length, K).

    Raises:
        ShapeError: if the series is shorter than length + horizon, or targets are not as long.
        DTypeError: if they are not real numbers.
        ConfigError: if a setting is not an integer of 1 or more.

    >>> data = sliding_windows(np.arange(6.0), length=3, horizon=2)
    >>> [(x[:, 0].tolist(), t.tolist()) for x, t in zip(data.inputs, data.targets)]
    [([0.0, 1.0, 2.0], [3.0, 4.0]), ([1.0, 2.0, 3.0], [4.0, 5.0])]
    """
    where = "sliding_windows"
    length, horizon = integer(where, "length", length), integer(where, "horizon", horizon)
    values = as_array(where, "series", series)
    wanted = values if targets is None else as_array(where, "targets", targets)
    if values.ndim not in (1, 2) or len(wanted) != len(values):
        raise ShapeError(
            f"{where}: expected a series of shape (T,) or (T, D) and targets as long, got {values.shape} and "
            f"{wanted.shape}"
        )
    if len(values) < length + horizon:
        raise ShapeError(
            f"{where}: the series has {len(values)} steps, but length + horizon = {length} + {horizon} are needed"
        )
    if steps and wanted.ndim == 1:
        wanted = wanted[:, None]
    inputs = values[:, None] if values.ndim == 1 else values
    starts = range(0, len(values) - length - horizon + 1, integer(where, "stride", stride))
    if flag(where, "steps", steps):
        after = [wanted[start + horizon : start + horizon + length] for start in starts]
    else:
        after = [wanted[start + length : start + length + horizon] for start in starts]
    return Sequences([inputs[start : start + length] for start in starts], after, steps, dtype)


def group_rows(
    keys: Given | Sequence[str],
    inputs: Given,
    targets: Given | None = None,
    steps: bool = False,
    dtype: npt.DTypeLike | None = np.float32,
) -> Sequences:
    """Return the sequences of a table with a row for each step; rows with the same key form a sequence, in their order.

    Args:
        keys: (M,), which sequence a row belongs to: numbers or texts.
        inputs: (M,) or (M, D).
        targets: (M,) or (M, K); None: none.
        steps: a target for each step; otherwise the target of a sequence is that of its first row, and must be the same
            in all rows.
        dtype: as in `Sequences`.

    Returns:
        The sequences, in the order in which their keys first appear.

    Raises:
        ShapeError: if the numbers of rows differ, or the targets of a sequence differ.
        DTypeError: if inputs or targets are not real numbers.

    >>> data = group_rows(["a", "a", "b", "a"], [1.0, 2.0, 3.0, 4.0], targets=[0, 0, 1, 0])
    >>> [x.tolist() for x in data.inputs], [int(t) for t in data.targets]
    ([[1.0, 2.0, 4.0], [3.0]], [0, 1])
    """
    where = "group_rows"
    check_plain(keys, f"{where}: keys")
    names = converted(keys)
    values = as_array(where, "inputs", inputs)
    wanted = None if targets is None else as_array(where, "targets", targets)
    if names.ndim != 1 or not len(names) == len(values) == len(values if wanted is None else wanted):
        shapes = [part.shape for part in (names, values, wanted) if part is not None]
        raise ShapeError(f"{where}: expected keys (M,), and as many rows of inputs and targets, got {shapes}")
    _, first, number_of = np.unique(names, return_index=True, return_inverse=True)
    members = [np.flatnonzero(number_of == n) for n in np.argsort(first)]
    found = None if wanted is None else [wanted[rows] for rows in members]
    if found is not None and not flag(where, "steps", steps):
        for rows, group in zip(members, found, strict=True):
            if (group != group[0]).any():
                raise ShapeError(
                    f"{where}: the targets of {names[rows[0]].item()!r} differ; steps=True keeps one for each row"
                )
        found = [np.asarray(group[0]) for group in found]
    return Sequences([values[rows] for rows in members], found, steps, dtype)


def _rows(name: str, given: Rows, dtype: npt.DTypeLike | None) -> list[Array]:
    """Return N arrays, of one array or of a list of them; numbers of N sequences without an axis as 0-d arrays."""
    if isinstance(given, list | tuple):
        rows = [as_array("Sequences", f"{name}[{n}]", row) for n, row in enumerate(given)]
    else:
        array = as_array("Sequences", name, given)
        if not array.ndim:
            raise ShapeError(f"Sequences: expected {name} of N sequences, got a single number")
        rows = [np.asarray(row) for row in array]
    dtypes = {row.dtype for row in rows if row.size}
    if any(found.kind == "f" for found in dtypes):  # [1, 2] among [1.5, 2.0] is not another kind of data
        rows = [row.astype(dtype or np.result_type(*dtypes), copy=False) for row in rows]
    return rows
