"""The processes that train one model: a thin layer over a communicator of mpi4py.

The collectives, the launcher and the detection of failures are MPI's; nothing of them is written here.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar, cast

import numpy as np

from ..engine.tape import Array
from ..errors import ConfigError
from .sums import Sum

if TYPE_CHECKING:
    from mpi4py import MPI

T = TypeVar("T")
_PIECE = 1 << 19  # bytes of one sum: what MPI keeps in between stays in cache
_LARGE = 1 << 14  # bytes of a part of a sum; for less another message takes as long
_MOST_PARTS = 32  # of a sum; more take longer to collect than their updates would take

_ULFM = "OMPI_MCA_mpi_ft_enable"  # set by `mpiexec --with-ft ulfm`


class LostError(RuntimeError):
    """A process of the run has died, so that a sum over all of them cannot be completed."""


class ToldError(RuntimeError):
    """An error of another process, of which this one was told while it computed; `error` is what all raise."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


def in_parts(nbytes: float, processes: int) -> bool:
    """Return whether a sum of so many bytes is made in parts, one for each process, which may update it there."""
    return processes <= _MOST_PARTS and nbytes >= _LARGE * processes


class Group:
    """The processes that train one model together, each with its rank; one process alone needs no MPI.

    Whatever is called here, all processes of the group call in the same order. Arrays are summed where they lie.

    Args:
        comm: an intracommunicator of mpi4py, such as `MPI.COMM_WORLD`, which is duplicated; None: this process alone.

    Attributes:
        bytes: that this process has sent so far, as the algorithms that need the fewest send them.
        messages: the number of collectives that these bytes were sent in.

    Raises:
        ConfigError: if it is no communicator.

    >>> alone = Group()
    >>> alone.rank, alone.size, alone.rows(10), alone.gather("a")
    (0, 1, slice(0, 10, None), ['a'])
    """

    def __init__(self, comm: MPI.Intracomm | None = None) -> None:
        if comm is not None and not all(hasattr(comm, name) for name in ("Allreduce", "Dup", "allgather")):
            raise ConfigError(f"comm must be a communicator of mpi4py, such as MPI.COMM_WORLD, got {comm!r}")
        self._comm = None if comm is None else comm.Dup()
        self.bytes = self.messages = 0

    @property
    def rank(self) -> int:
        """The number of this process, from 0."""
        return 0 if self._comm is None else self._comm.Get_rank()

    @property
    def size(self) -> int:
        """The number of processes."""
        return 1 if self._comm is None else self._comm.Get_size()

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes logs and files."""
        return self.rank == 0

    def rows(self, count: int) -> slice:
        """Return the part of `count` rows that this process holds; parts differ by one row at most."""
        return self._rows_of(self.rank, count)

    def _rows_of(self, rank: int, count: int) -> slice:
        return slice(count * rank // self.size, count * (rank + 1) // self.size)

    def add(self, array: Array) -> None:
        """Put the sum over all processes into an array, the same bits in each process.

        Args:
            array: contiguous, float32 or float64; of the same shape everywhere.
        """
        if self._comm is None:
            return
        if in_parts(array.nbytes, self.size):
            self.add_own(array.reshape(-1))
            self.collect_own(array.reshape(-1))
            return
        flat, step = array.reshape(-1), self.size * _PIECE // array.itemsize
        with self._watched(2 * array.nbytes * (self.size - 1) // self.size) as comm:
            for start in range(0, flat.size, step):
                comm.Allreduce(_in_place(), flat[start : start + step])

    def add_own(self, vector: Array) -> None:
        """Put the sum over all processes into the part of a vector that is this process's, its `rows`.

        What is in the rest of the vector afterwards is not said.

        Args:
            vector: (n,), float32 or float64; of the same length everywhere.
        """
        if self._comm is None:
            return
        step = _PIECE // vector.itemsize
        with self._watched(vector.nbytes * (self.size - 1) // self.size) as comm:
            for rank in range(self.size):
                part, is_own = vector[self._rows_of(rank, len(vector))], rank == self.rank
                for start in range(0, len(part), step):
                    piece = part[start : start + step]
                    comm.Reduce(_in_place() if is_own else piece, piece if is_own else None, root=rank)

    def collect_own(self, vector: Array) -> None:
        """Put the parts of a vector that all processes have, each its `rows`, where they belong.

        Args:
            vector: (n,), of the same length everywhere.
        """
        if self._comm is not None:
            parts = [self._rows_of(rank, len(vector)) for rank in range(self.size)]
            with self._watched(vector.nbytes * (self.size - 1) // self.size) as comm:
                comm.Allgatherv(_in_place(), [vector, [part.stop - part.start for part in parts]])

    def add_amid(self, array: Array) -> None:
        """Do what `add` does, amid what each process computes for itself, and may fail at.

        A process that has failed is at `agree` meanwhile, and says so here.

        Raises:
            ToldError: if another process has failed.
        """
        try:
            self.agree(None)
        except LostError:
            raise
        except Exception as error:
            raise ToldError(error) from error
        self.add(array)

    def can_add_beside(self) -> bool:
        """Return whether a sum can go on beside computing: over a network, or on a core that no process computes on."""
        if self._comm is None:
            return False
        from mpi4py import MPI

        with self._watched(0) as comm:
            here = comm.Split_type(MPI.COMM_TYPE_SHARED)
        processes = here.Get_size()
        here.Free()
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return bool(self.largest(float(processes < self.size or cores >= 2 * processes))[0])

    def begin_add(self, array: Array) -> Sum:
        """Begin to sum an array over all processes, as `add` does, and return what waits for the end.

        Until then the array is not touched, and nothing else is asked of the group by this thread.
        """
        if self._comm is None:
            return Sum(None)
        with self._watched(2 * array.nbytes * (self.size - 1) // self.size) as comm:
            return Sum(comm.Iallreduce(_in_place(), array))

    def finish(self, begun: Sum) -> None:
        """Wait for the end of a sum.

        Raises:
            LostError: if a process has died.
        """
        if self._comm is not None:
            with self._watched(0):
                begun.wait()
            self.messages -= 1

    def largest(self, *numbers: float) -> list[float]:
        """Return the largest of each number over all processes."""
        if self._comm is None:
            return [*numbers]
        found = np.array(numbers, np.float64)
        with self._watched(2 * found.nbytes) as comm:
            comm.Allreduce(_in_place(), found, _largest())
        return [float(number) for number in found]

    def exchange(self, parts: Array) -> Array:
        """Return what all processes have for this one: row r of `parts` (P, n) goes to process r."""
        if self._comm is None:
            return parts
        received = np.empty_like(parts)
        with self._watched(parts.nbytes * (self.size - 1) // self.size) as comm:
            comm.Alltoall(parts, received)
        return received

    def collect(self, part: Array) -> Array:
        """Return the arrays (n,) of all processes, in their order: (P, n), n the same everywhere."""
        if self._comm is None:
            return part[None]
        received = np.empty((self.size, *part.shape), part.dtype)
        with self._watched(part.nbytes * (self.size - 1)) as comm:
            comm.Allgather(part, received)
        return received

    def joined(self, part: Array) -> Array:
        """Return the arrays (R, ...) of all processes, in their order, joined along R, which may differ."""
        if self._comm is None:
            return part
        counts = self.collect(np.array([part.size])).ravel()
        received = np.empty((int(counts.sum()) // max(math.prod(part.shape[1:]), 1), *part.shape[1:]), part.dtype)
        with self._watched(part.nbytes * (self.size - 1)) as comm:
            comm.Allgatherv(np.ascontiguousarray(part), [received, counts])
        return received

    def gather(self, value: T) -> list[T]:
        """Return the values of all processes, in their order; any Python objects, so for what is small or rare."""
        if self._comm is None:
            return [value]
        with self._watched(0) as comm:
            return cast("list[T]", comm.allgather(value))

    def gather_first(self, value: T) -> list[T] | None:
        """Return the values of all processes as `gather` does, in the first one; None in the others."""
        if self._comm is None:
            return [value]
        with self._watched(0) as comm:
            return cast("list[T] | None", comm.gather(value))

    def share(self, value: T, source: int = 0) -> T:
        """Return the value that one process has, in all of them."""
        if self._comm is None:
            return value
        with self._watched(0) as comm:
            return cast(T, comm.bcast(value if self.rank == source else None, source))

    def first(self, function: Callable[[], T]) -> T | None:
        """Call a function in the first process alone; return its result there, and None in the others.

        Raises:
            Exception: in all processes, what the function raised in the first.
        """
        result: T | None = None
        error: Exception | None = None
        if self.is_first:
            try:
                result = function()
            except Exception as raised:
                error = raised
        if self._comm is not None:
            self.agree(error)
        elif error is not None:
            raise error
        return result

    def agree(self, error: Exception | None) -> None:
        """Raise an error in all processes if one of them had one: its own there, and one that names it in the others.

        Raises:
            Exception: the error, or one of the same class where that takes a text.
        """
        if not self.largest(float(error is not None))[0]:
            return
        found = self.gather(None if error is None else (type(error), str(error)))
        if error is not None:
            raise error
        rank, (kind, text) = next((rank, said) for rank, said in enumerate(found) if said is not None)
        try:
            made = kind(f"process {rank}: {text}")
        except Exception:  # a class that takes something else
            made = RuntimeError(f"process {rank}: {kind.__name__}: {text}")
        raise made

    def shrink(self) -> list[int]:
        """Go on without the processes that have died; return the old ranks of those that are left.

        Raises:
            LostError: if this MPI cannot (no ULFM), or it was started without `mpiexec --with-ft ulfm`.
        """
        assert self._comm is not None
        old = self._comm
        try:
            old.Revoke()  # whoever still waits for a dead process is woken
            self._comm = cast("MPI.Intracomm", old.Shrink())
        except Exception as error:
            raise LostError("a process of the run has died, and this MPI cannot go on without it") from error
        return self.gather(old.Get_rank())

    def all_arrive(self, seconds: float) -> bool:
        """Return whether all processes come here within so many seconds; if not, the group cannot be used any more."""
        if self._comm is None or self.size == 1:
            return True
        try:
            request, end = self._comm.Ibarrier(), time.monotonic() + seconds
            while not request.Test():
                if time.monotonic() > end:
                    return False
                time.sleep(0.01)
        except Exception:  # of MPI: one of them has died
            return False
        return True

    def abort(self, code: int = 1) -> None:
        """End all processes at once, this one included, because an error that only it has leaves the others waiting."""
        if self._comm is not None and self.size > 1:
            self._comm.Abort(code)

    @contextmanager
    def _watched(self, sent: int) -> Iterator[MPI.Intracomm]:
        """Count the bytes that are sent; raise a `LostError` if a process has died."""
        from mpi4py import MPI

        assert self._comm is not None
        try:
            yield self._comm
        except MPI.Exception as error:
            if error.Get_error_class() in (MPI.ERR_PROC_FAILED, MPI.ERR_PROC_FAILED_PENDING, MPI.ERR_REVOKED):
                raise LostError("a process of the run has died") from error
            raise
        self.bytes += sent
        self.messages += 1


def group_of(comm: object) -> Group:
    """Return a `Group` as it is, that of a communicator, or that of this process alone for None."""
    return comm if isinstance(comm, Group) else Group(cast("MPI.Intracomm | None", comm))


def world() -> Group:
    """Return the group of all processes that were launched with this one.

    Where it can go on after a death, and mpi4py is imported here first, its processes end without `MPI_Finalize`: Open
    MPI sometimes hangs there if one has died, whether the others have seen it or not.

    Raises:
        ConfigError: if mpi4py or its MPI library is missing; the message says what to install.
    """
    try:
        import mpi4py

        if os.environ.get(_ULFM, "0") not in ("0", "false"):
            mpi4py.rc.finalize = False
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise ConfigError(
            f"several processes need MPI: pip install 'tinygrad_rnn[mpi]' ({type(error).__name__}: {error})"
        ) from error
    return Group(MPI.COMM_WORLD)


def _in_place() -> object:
    from mpi4py import MPI

    return MPI.IN_PLACE


def _largest() -> MPI.Op:
    from mpi4py import MPI

    return MPI.MAX
