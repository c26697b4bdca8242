"""The C library seen from Python: workers that replay records."""

from __future__ import annotations

import ctypes
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ...errors import NativeError
from .build import library
from .encode import RECORD


@cache
def _functions() -> ctypes.CDLL:
    functions = library().functions
    functions.tinygrad_rnn_pool.restype = ctypes.c_void_p
    functions.tinygrad_rnn_pool.argtypes = [ctypes.c_int]
    functions.tinygrad_rnn_replay.restype = ctypes.c_long
    functions.tinygrad_rnn_replay.argtypes = [ctypes.c_void_p] * 2 + [ctypes.c_long] + [ctypes.c_void_p] * 2
    if functions.tinygrad_rnn_call_bytes() != RECORD.itemsize:
        raise NativeError(
            f"native: a call has {functions.tinygrad_rnn_call_bytes()} bytes in C and {RECORD.itemsize} in Python: "
            "the library and the package do not belong together; delete the cache folder"
        )
    return functions


@cache
def _pool(workers: int) -> int:
    """Return the workers of this process; they sleep between replays, and end with it."""
    pool = _functions().tinygrad_rnn_pool(workers)
    if not pool:
        raise NativeError(f"native: {workers} threads could not be started; choose fewer with threads=")
    return int(pool)


class Replay:
    """Records bound to memory; a call replays them.

    Args:
        records: what `encode` made for this number of workers.
        lengths: how many of them belong to each instruction.
        bases: addresses of the arena and of the other buffers of the program; the caller keeps what lies there alive.
        workers: threads, the caller's among them.
    """

    def __init__(self, records: NDArray[np.void], lengths: list[int], bases: NDArray[np.int64], workers: int) -> None:
        self._records, self._lengths, self._bases = records, lengths, bases
        self._replay = _functions().tinygrad_rnn_replay
        self._arguments = _pool(workers), records.ctypes.data, len(records), bases.ctypes.data

    def __call__(self) -> None:
        failed = self._replay(*self._arguments, None)
        if failed >= 0:
            raise IndexError(f"take: index out of range for axis 0 with size {self._records[failed]['n'][3]}")

    def seconds(self) -> list[float]:
        """Replay once and return the time of each instruction in seconds; all workers wait behind each record."""
        times = np.full(len(self._records), np.inf)
        self._replay(*self._arguments, times.ctypes.data)
        ends = np.cumsum(self._lengths)
        return np.add.reduceat(times, ends - self._lengths).tolist() if len(ends) else []
