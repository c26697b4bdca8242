"""Mini-batches for truncated backpropagation through time: parallel streams, cut into windows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from tinygrad_rnn.checks import flag, integer
from tinygrad_rnn.data.vocabulary import id_array
from tinygrad_rnn.errors import CorpusError


class OffsetBatches:
    """Cut a corpus into N parallel streams and yield them window by window, in order.

    The inputs are ids[:-1] and the targets ids[1:]. With L = (len(ids) - 1) // N, stream i holds the L
    positions from i * L on, and each window is the next `bptt` positions of every stream (Saito, Deep
    Learning from Scratch 2, chapter 5: the offsets of the truncated-BPTT training loop). A window continues
    the one before it, so the hidden state is carried from window to window.

    Where this differs from that chapter: its loop reads position (offset + time_idx) modulo the data size,
    takes data size // (N * T) steps an epoch, and lets time_idx run on across epochs, so that windows wrap
    around the end of the corpus and an epoch starts where the last one stopped. Here nothing wraps: each
    pass starts at the start of the streams, so it wants a fresh hidden state, and ends at their end, with a
    shorter window where `bptt` does not divide L. Fewer than N positions at the end of the corpus are left
    out.

    Args:
        ids: The corpus, shape (len(ids),), an integer dtype.
        batch_size: N, the number of streams.
        bptt: Steps in a window.
        drop_last: Leave out a last window that is shorter than `bptt`.

    Attributes:
        batch_size: N.
        bptt: Steps in a window.
        stream_length: L, in positions.

    Raises:
        CorpusError: If the corpus is shorter than N * bptt + 1 tokens.
        ConfigError: If `batch_size` or `bptt` is not an integer of 1 or more. (It is a ValueError.)
        ShapeError, DTypeError: If `ids` is not a one-dimensional integer array.

    Example:
        >>> batches = OffsetBatches(np.arange(11), batch_size=2, bptt=3)
        >>> len(batches), batches.stream_length, batches.tokens
        (2, 5, 10)
        >>> for xs, ts in batches:
        ...     print(xs.tolist(), ts.tolist())
        [[0, 1, 2], [5, 6, 7]] [[1, 2, 3], [6, 7, 8]]
        [[3, 4], [8, 9]] [[4, 5], [9, 10]]
    """

    def __init__(self, ids: npt.ArrayLike, batch_size: int, bptt: int, drop_last: bool = False) -> None:
        self.batch_size = integer("OffsetBatches", "batch_size", batch_size)
        self.bptt = integer("OffsetBatches", "bptt", bptt)
        array = id_array("OffsetBatches", ids)
        needed = self.batch_size * self.bptt + 1
        if len(array) < needed:
            raise CorpusError(
                f"OffsetBatches: ids has {len(array)} tokens, but batch_size * bptt + 1 = "
                f"{self.batch_size} * {self.bptt} + 1 = {needed} are needed; "
                "pass a longer corpus, or a smaller batch_size or bptt"
            )
        self.stream_length = (len(array) - 1) // self.batch_size
        self._used = self.stream_length - (
            self.stream_length % self.bptt if flag("OffsetBatches", "drop_last", drop_last) else 0
        )
        positions = self.batch_size * self.stream_length
        self._inputs = array[:positions].reshape(self.batch_size, -1)
        self._targets = array[1 : positions + 1].reshape(self.batch_size, -1)

    def __len__(self) -> int:
        return -(-self._used // self.bptt)

    @property
    def tokens(self) -> int:
        """The number of positions in one pass over all windows."""
        return self.batch_size * self._used

    def __iter__(self) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
        """Yield (inputs, targets), each of shape (N, T) and dtype int64, from the start of the streams.

        T is `bptt`, or less in the last window.
        """
        for start in range(0, self._used, self.bptt):
            window = np.s_[:, start : start + self.bptt]
            yield self._inputs[window].astype(np.int64), self._targets[window].astype(np.int64)
