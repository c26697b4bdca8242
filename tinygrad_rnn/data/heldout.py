"""Windows of a held-out text, in which every token but the first is predicted once."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ..checks import integer
from ..errors import CorpusError
from .mapped import BLOCK, mapping_of, release
from .vocabulary import id_array

_Ids: TypeAlias = npt.NDArray[np.int64]


class HeldOutWindows:
    """Windows (ids, targets) in which each token of a text but the first is a target once, all others -1.

    The text is read as N streams side by side, each window when it is its turn; see `evaluate`.

    Args:
        ids: the text, (len(ids),) integers, 2 or more. A mapped file is not loaded.
        batch_size: N, the most streams; fewer, down to one, where they would be shorter than `bptt`.
        bptt: T, steps in a window.
        whole: whether the last window is as long as the others, filled up with id 0 and target -1.

    Attributes:
        streams: N, as used.

    Raises:
        CorpusError: if there are fewer than 2 tokens.
        ConfigError: if `batch_size` or `bptt` is not an integer of 1 or more.
        ShapeError, DTypeError: if `ids` is not a one-dimensional integer array.

    >>> [targets.tolist() for _, targets in HeldOutWindows(np.arange(8), batch_size=2, bptt=3)]
    [[[1, 2, 3], [5, 6, 7]], [[4, -1, -1], [-1, -1, -1]]]
    """

    def __init__(self, ids: npt.ArrayLike, batch_size: int, bptt: int, whole: bool = True) -> None:
        batch_size = integer("evaluate", "batch_size", batch_size)
        bptt = integer("evaluate", "bptt", bptt)
        self._ids = np.asarray(ids)
        if mapping_of(self._ids) is None or self._ids.ndim != 1 or self._ids.dtype.kind != "u":
            self._ids = id_array("evaluate", ids)
        self._tokens = len(self._ids) - 1
        if self._tokens < 1:
            raise CorpusError(f"evaluate: expected 2 tokens or more, to predict one from another; got {len(self._ids)}")
        self.streams = min(batch_size, max(1, self._tokens // bptt))
        self._length = -(-self._tokens // self.streams)
        self._T = min(bptt, self._length)
        self._whole = whole
        self._first = 0

    def rows(self, start: int, stop: int) -> HeldOutWindows:
        """Return the windows of the streams from start to stop - 1 alone; the others are not read.

        >>> [targets.tolist() for _, targets in HeldOutWindows(np.arange(8), batch_size=2, bptt=3).rows(1, 2)]
        [[[5, 6, 7]], [[-1, -1, -1]]]
        """
        part = copy.copy(self)
        part._first, part.streams = self._first + start, stop - start
        return part

    def __len__(self) -> int:
        return -(-self._length // self._T)

    def __iter__(self) -> Iterator[tuple[_Ids, _Ids]]:
        """Yield (ids, targets), each (N, T) int64, from the start of the streams."""
        N, T = self.streams, self._T
        starts = np.arange(self._first, self._first + N)[:, None] * self._length
        most = max(1, BLOCK // (N * T))
        for number in range(len(self)):
            steps = np.arange(number * T, (number + 1) * T if self._whole else min((number + 1) * T, self._length))
            # The last streams may end early, and so may the last window: a target of -1 does not count.
            positions = starts + steps
            there = (positions < self._tokens) & (steps < self._length)
            positions[~there] = 0
            xs, targets = (self._ids[part].astype(np.int64) for part in (positions, positions + 1))
            xs[~there], targets[~there] = 0, -1
            yield xs, targets
            if number % most == most - 1:
                release(self._ids)
