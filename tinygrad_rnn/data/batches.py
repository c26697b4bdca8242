"""Mini-batches for truncated backpropagation through time: parallel streams, cut into windows."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from tinygrad_rnn.checks import flag, integer
from tinygrad_rnn.data.arrays import Array as Numbers
from tinygrad_rnn.data.arrays import Given, as_array
from tinygrad_rnn.data.mapped import BLOCK, mapping_of, release
from tinygrad_rnn.data.vocabulary import id_array
from tinygrad_rnn.errors import CorpusError, ShapeError


class OffsetBatches:
    """Cut a corpus or a series into N parallel streams and yield them window by window, in order.

    The inputs are values[:-1] and the targets values[1:]; or all values, and targets of the same time. With
    L = (number of inputs) // N, stream i holds the L positions from i * L on, and each window is the next
    `bptt` positions of every stream (Saito, Deep Learning from Scratch 2, chapter 5: the offsets of the truncated-BPTT
    training loop). A window continues the one before it, so the hidden state is carried from window to window.

    Where this differs from that chapter: its loop reads position (offset + time_idx) modulo the data size,
    takes data size // (N * T) steps an epoch, and lets time_idx run on across epochs, so that windows wrap
    around the end of the corpus and an epoch starts where the last one stopped. Here nothing wraps: each
    pass starts at the start of the streams, so it wants a fresh hidden state, and ends at their end, with a
    shorter window where `bptt` does not divide L. Fewer than N positions at the end of the corpus are left
    out.

    An array in a file that is mapped into memory (`np.memmap`, `np.load(..., mmap_mode="r")`, the ids of a prepared
    `Corpus`) is not loaded: each window is read when it is its turn, so memory does not grow with the file.

    Args:
        values: the corpus, ids of shape (M,) and an integer dtype; or a series (M,) or (M, ...) of any real numbers,
            in the order of time. Arrays of pandas and PyTorch are taken as they are.
        batch_size: N, the number of streams.
        bptt: steps in a window.
        drop_last: leave out a last window that is shorter than `bptt`.
        targets: (M, ...), what to predict at each position; None: the next value.
        dtype: of floating point values and targets, that of the model; None: they keep their own.

    Attributes:
        batch_size: N.
        bptt: steps in a window.
        stream_length: L, in positions.

    Raises:
        CorpusError: if the corpus is shorter than N * bptt positions, and one more for the last target; or an id is
            negative (in a mapped file: when its window is read).
        ConfigError: if `batch_size` or `bptt` is not an integer of 1 or more. (It is a ValueError.)
        ShapeError, DTypeError: if `values` have no axis of time or are not real numbers, or `targets` are not as many.

    >>> batches = OffsetBatches(np.arange(11), batch_size=2, bptt=3)
    >>> len(batches), batches.stream_length, batches.tokens
    (2, 5, 10)
    >>> for xs, ts in batches:
    ...     print(xs.tolist(), ts.tolist())
    [[0, 1, 2], [5, 6, 7]] [[1, 2, 3], [6, 7, 8]]
    [[3, 4], [8, 9]] [[4, 5], [9, 10]]
    >>> xs, ts = next(iter(OffsetBatches(np.arange(8.0).reshape(4, 2), 1, 2)))
    >>> xs.tolist(), ts.tolist()
    ([[[0.0, 1.0], [2.0, 3.0]]], [[[2.0, 3.0], [4.0, 5.0]]])
    """

    def __init__(
        self,
        values: Given,
        batch_size: int,
        bptt: int,
        drop_last: bool = False,
        *,
        targets: Given | None = None,
        dtype: npt.DTypeLike | None = np.float32,
    ) -> None:
        self.batch_size: int = integer("OffsetBatches", "batch_size", batch_size)
        self.bptt: int = integer("OffsetBatches", "bptt", bptt)
        self._dtype = dtype
        array = _series("values", values, dtype)
        mapped = mapping_of(array) is not None
        self._unchecked = mapped and array.ndim == 1 and array.dtype.kind == "i"  # ids, to be checked in windows
        if array.ndim == 1 and array.dtype.kind != "f" and not mapped:
            array = id_array("OffsetBatches", array)
        inputs, wanted = (array[:-1], array[1:]) if targets is None else (array, _series("targets", targets, dtype))
        if len(inputs) != len(wanted):
            raise ShapeError(
                f"OffsetBatches: expected as many targets as values, {len(inputs)}, got {len(wanted)}; without targets "
                "the next value is one"
            )
        needed, more = self.batch_size * self.bptt + (targets is None), " + 1" if targets is None else ""
        if len(array) < needed:
            raise CorpusError(
                f"OffsetBatches: expected at least batch_size * bptt{more} = {self.batch_size} * {self.bptt}{more} = "
                f"{needed} values, got {len(array)}; pass a longer corpus, or a smaller batch_size or bptt"
            )
        self.stream_length: int = len(inputs) // self.batch_size
        self._used = self.stream_length - (
            self.stream_length % self.bptt if flag("OffsetBatches", "drop_last", drop_last) else 0
        )
        positions = self.batch_size * self.stream_length
        self._inputs, self._targets = (
            part[:positions].reshape(self.batch_size, self.stream_length, *part.shape[1:]) for part in (inputs, wanted)
        )

    def rows(self, start: int, stop: int) -> OffsetBatches:
        """Return the windows of the streams from start to stop - 1 alone; the others are not read.

        >>> [xs.tolist() for xs, _ in OffsetBatches(np.arange(11), batch_size=2, bptt=3).rows(1, 2)]
        [[[5, 6, 7]], [[8, 9]]]
        """
        part = copy.copy(self)
        part._inputs, part._targets = self._inputs[start:stop], self._targets[start:stop]
        part.batch_size = len(part._inputs)
        return part

    def __len__(self) -> int:
        return -(-self._used // self.bptt)

    @property
    def tokens(self) -> int:
        """The number of positions in one pass over all windows."""
        return self.batch_size * self._used

    def __iter__(self) -> Iterator[tuple[Numbers, Numbers]]:
        """Yield (inputs, targets), each of shape (N, T, ...), from the start of the streams.

        T is `bptt`, or less in the last window. Ids are int64.
        """
        most = max(1, BLOCK // (self.batch_size * self.bptt))
        for number, start in enumerate(range(0, self._used, self.bptt), start=1):
            window = np.s_[:, start : start + self.bptt]
            xs, ts = self._window(self._inputs[window]), self._window(self._targets[window])
            if self._unchecked and xs.min() < 0:
                raise CorpusError(f"OffsetBatches: the mapped file holds the id {xs.min()}; ids are 0 or more")
            yield xs, ts
            if number % most == 0:
                release(self._inputs, self._targets)

    def _window(self, part: Numbers) -> Numbers:
        """Return a copy of a window, in its final dtype."""
        if part.dtype.kind in "iu":
            return part.astype(np.int64)
        return np.array(part, self._dtype if part.dtype.kind == "f" else None)


def _series(name: str, given: Given, dtype: npt.DTypeLike | None) -> Numbers:
    """Return an array of numbers with an axis of time."""
    array = as_array("OffsetBatches", name, given)
    if array.ndim == 0:
        raise ShapeError(f"OffsetBatches: expected {name} of shape (M, ...), in the order of time, got a single number")
    if dtype is None or array.dtype.kind != "f" or mapping_of(array) is not None:  # a mapped one is cast in windows
        return array
    return array.astype(dtype, copy=False)
