"""What an update of several processes costs: a model of its time from a few numbers of the machine."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .group import Group, in_parts
from .traffic import SIZES

_BEYOND = 1 << 26  # bytes that no cache holds for a process


@dataclass(frozen=True)
class Machine:
    """The numbers that the time of an update follows from.

    Attributes:
        gemm: floating point operations a second of the product that counts most and the two of its backward pass.
        memory: bytes a second that calls read and write, in a cache of each of `traffic.SIZES` and in memory.
        latency: seconds of a message.
        bandwidth: bytes a second that a process sends in a sum over all, or receives of the rows of others.
    """

    gemm: float
    memory: tuple[float, ...]
    latency: float
    bandwidth: float


@dataclass(frozen=True)
class Work:
    """What one process has to do for an update.

    Attributes:
        flops: of its rows.
        nbytes: that its plans read and write, by where they lie; see `traffic`.
        gradient_bytes: of the vector that is summed.
        divided_nbytes: that the update of all parameters reads and writes, likewise, where each process does a part.
        table_bytes: of the gradients of tables that few rows of a batch are looked up in, all rows of them.
        row_bytes: of those rows, with their ids.
    """

    flops: float
    nbytes: tuple[float, ...]
    gradient_bytes: float
    divided_nbytes: tuple[float, ...] = ()
    table_bytes: float = 0.0
    row_bytes: float = 0.0


def sum_seconds(machine: Machine, nbytes: float, processes: int) -> float:
    """Return the time of a sum over all processes.

    2 ceil(log2 P) latency + 2 (P - 1) / P * bytes / bandwidth: a reduce-scatter by recursive halving, and an allgather
    by recursive doubling. In parts, each process gets the sum of its own in turn, which is P ceil(log2 P) latency.
    Source: Thakur, Rabenseifner and Gropp 2005, Optimization of collective communication operations in MPICH.

    >>> sum_seconds(Machine(1e11, (1e10,), 1e-6, 1e9), 1e6, 2)
    0.001003
    """
    if processes == 1:
        return 0.0
    rounds = math.ceil(math.log2(processes))
    messages = rounds + rounds * (processes if in_parts(nbytes, processes) else 1)
    return messages * machine.latency + 2 * (processes - 1) / processes * nbytes / machine.bandwidth


def gather_seconds(machine: Machine, nbytes: float, processes: int) -> float:
    """Return the time in which all processes get what each of them has.

    ceil(log2 P) latency + (P - 1) bytes / bandwidth, by recursive doubling; source as of `sum_seconds`.

    >>> gather_seconds(Machine(1e11, (1e10,), 1e-6, 1e9), 1e6, 2)
    0.001001
    """
    if processes == 1 or not nbytes:
        return 0.0
    return math.ceil(math.log2(processes)) * machine.latency + (processes - 1) * nbytes / machine.bandwidth


def sent_seconds(machine: Machine, work: Work, processes: int) -> float:
    """Return the time of what processes send each other in an update.

    That is the sum of the gradients, and the rows of tables; where those of all processes are more than half of the
    tables, the sum of these instead.

    >>> machine, work = Machine(1e11, (1e10,), 0.0, 1e9), Work(1e9, (1e7,), 1e6, table_bytes=1e7, row_bytes=1e6)
    >>> [sent_seconds(machine, work, processes) for processes in (1, 2, 100)]
    [0.0, 0.002, 0.02178]
    """
    if 2 * processes * work.row_bytes > work.table_bytes:
        return sum_seconds(machine, work.gradient_bytes + work.table_bytes, processes)
    return sum_seconds(machine, work.gradient_bytes, processes) + gather_seconds(machine, work.row_bytes, processes)


def update_seconds(machine: Machine, work: Work, processes: int, overlap: float = 0.0) -> float:
    """Return the time of an update, of which each process does the same work.

    Args:
        machine: its numbers.
        work: of one process, whatever the number of processes: each has its own rows.
        processes: P.
        overlap: the share of what is sent that is overlapped with computing, in [0, 1].

    >>> machine, work = Machine(1e11, (1e10,), 1e-6, 1e9), Work(1e9, (1e7,), 1e6)
    >>> [f"{update_seconds(machine, work, processes):.6f} s" for processes in (1, 2)]
    ['0.011000 s', '0.012003 s']
    """
    parts = processes if in_parts(work.gradient_bytes, processes) else 1
    own = work.flops / machine.gemm + _moved(machine, work.nbytes) + _moved(machine, work.divided_nbytes) / parts
    return own + (1 - overlap) * sent_seconds(machine, work, processes)


def _moved(machine: Machine, nbytes: tuple[float, ...]) -> float:
    """Return the time in which so many bytes are read and written."""
    return sum(count / speed for count, speed in zip(nbytes, machine.memory, strict=False))


def efficiency(machine: Machine, work: Work, processes: int, overlap: float = 0.0) -> float:
    """Return how many times as much P processes do in the same time, divided by P.

    >>> round(efficiency(Machine(1e11, (1e10,), 1e-6, 1e9), Work(1e9, (1e7,), 1e6), 2), 3)
    0.916
    """
    return update_seconds(machine, work, 1) / update_seconds(machine, work, processes, overlap)


def measured(group: Group, gradient_bytes: int, shape: tuple[int, int, int], seconds: float = 0.3) -> Machine:
    """Return the numbers of this machine; all processes call it together, so that they share it as in an update.

    Args:
        group: the processes.
        gradient_bytes: of the sums whose bandwidth is measured.
        shape: (n, K, M) of the product (n, K) @ (K, M) whose speed is measured, with that of its backward pass.
        seconds: for each of them, about.
    """
    rng = np.random.default_rng(0)
    n, K, M = shape
    a, b = rng.standard_normal((n, K), np.float32), rng.standard_normal((K, M), np.float32)
    y, da, db = np.empty((n, M), np.float32), np.empty_like(a), np.empty_like(b)
    vector, one = np.zeros(max(gradient_bytes // 4, 1), np.float32), np.zeros(1, np.float32)
    products = (lambda: np.matmul(a, b, out=y), lambda: np.matmul(y, b.T, out=da), lambda: np.matmul(a.T, y, out=db))
    memory = tuple(size / _streamed(group, size, seconds / 2) for size in (*SIZES, _BEYOND))
    gemm = 3 * 2 * n * K * M / sum(_least(group, product, seconds) for product in products)
    if group.size == 1:
        return Machine(gemm, memory, 0.0, math.inf)
    rounds = math.ceil(math.log2(group.size))
    latency = _least(group, lambda: group.add(one), seconds) / (2 * rounds)

    def summed() -> None:
        group.add_own(vector)
        group.collect_own(vector)

    whole = _least(group, summed, seconds)
    return Machine(gemm, memory, latency, 2 * (group.size - 1) / group.size * vector.nbytes / whole)


def _streamed(group: Group, nbytes: int, seconds: float) -> float:
    """Return the least time in which numbers of so many bytes, half of which are read and half written, are halved."""
    given = np.ones(nbytes // 8, np.float32)  # not zeros, which share a page until they are written
    made = np.empty_like(given)
    return _least(group, lambda: np.multiply(given, 0.5, out=made), seconds)


def _least(group: Group, call: Callable[[], object], seconds: float) -> float:
    """Return the least time of a call of several, the longest of those of all processes."""
    times: list[float] = []
    going = True
    while going:
        group.largest(0.0)  # all start together
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
        going = bool(group.largest(float(sum(times) < seconds and len(times) < 10_000))[0])
    return group.largest(min(times))[0]
