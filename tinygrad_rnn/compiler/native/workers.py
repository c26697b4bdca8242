"""Calls of the C library: its worker threads, and replays of records by them."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from functools import cache
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ...errors import NativeError
from .build import library
from .numbers import NAMES
from .program import RECORD, Records

_NO_MEMORY = -2  # what a replay returns if an allocation failed


@cache
def _functions() -> ctypes.CDLL:
    functions = library().functions
    functions.tinygrad_rnn_pool.restype = ctypes.c_void_p
    functions.tinygrad_rnn_pool.argtypes = [ctypes.c_int]
    functions.tinygrad_rnn_replay.restype = ctypes.c_ssize_t
    functions.tinygrad_rnn_replay.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_ssize_t]
    functions.tinygrad_rnn_operations.restype = ctypes.c_char_p
    there = functions.tinygrad_rnn_record_bytes(), functions.tinygrad_rnn_operations().decode().split()
    if there != (RECORD.itemsize, NAMES):
        raise NativeError(
            f"native: {library().path} is of another version than the package: a record has {there[0]} bytes in C and "
            f"{RECORD.itemsize} in Python, or the numbers of operations differ; delete the file"
        )
    return functions


@cache
def _pool(workers: int) -> int:
    """Return the address of this process's thread pool of that size; its threads live until the process ends."""
    pool = _functions().tinygrad_rnn_pool(workers)
    if not pool:
        raise NativeError(f"native: {workers} threads could not be started; choose fewer with threads=")
    return int(pool)


class _Given(ctypes.Structure):
    """`Given` of source/replay.c: passing a pointer to it takes a sixth of the time of passing five arguments."""

    _fields_: ClassVar = [
        ("pool", ctypes.c_void_p),
        ("records", ctypes.c_void_p),
        ("count", ctypes.c_ssize_t),
        ("bases", ctypes.c_void_p),
        ("room", ctypes.c_ssize_t),
    ]


class Replay:
    """Records bound to memory; calling it replays them.

    Args:
        records: what `encode` made for this number of workers.
        bases: addresses of the arena and of the other buffers of the program. The caller keeps that memory alive.
        workers: number of threads, the calling one among them.
    """

    def __init__(self, records: Records, bases: NDArray[np.int64], workers: int) -> None:
        self._records, self._bases = records, bases
        self._replay = _functions().tinygrad_rnn_replay
        where = records.array.ctypes.data, len(records.array), bases.ctypes.data
        self._given = _Given(_pool(workers), *where, records.room)
        self._address = ctypes.addressof(self._given)

    def __call__(self, step: int = 0, times: int | None = None) -> None:
        """Replay the records, at `step` of the loop around them if Python runs that loop; add seconds at `times`.

        Raises:
            IndexError: if an id of a lookup is out of range.
            MemoryError: if memory cannot be allocated: for a loop, or for a replay on one thread because another replay
                uses the workers or the process was forked.
        """
        failed = self._replay(self._address, times, step)
        if failed == _NO_MEMORY:
            raise MemoryError("compile: memory for a replay cannot be allocated; free some memory")
        if failed >= 0:
            length = self._records.array[failed]["n"][3]
            raise IndexError(f"take: index out of range for axis 0 with size {length}")

    def seconds(self, step: int = 0) -> Iterator[tuple[int, float]]:
        """Replay once, with barriers around each call, errors as in a call; yield (number of an instruction, seconds).

        A loop counts all its steps. The time of a call that does several instructions is divided equally.
        """
        times = np.zeros(len(self._records.array))
        self(step, times.ctypes.data)
        for row, numbers in self._records.heads:
            for number in numbers:
                yield number, float(times[row]) / len(numbers)
