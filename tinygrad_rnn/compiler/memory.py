"""Memory of an executor: it begins on a cache line, as vectors want it, and knows whether anybody holds it."""

from __future__ import annotations

import sys

import numpy as np

from ..engine.tape import Array
from .plan import Slot

_LINE = 64  # bytes


class Block:
    """Bytes of one large result.

    Whether somebody still holds it, or a view of it, is seen from the references to the array that owns the bytes:
    every view in NumPy has one. `own` counts those of bound calls.
    """

    __slots__ = ("address", "memory", "nbytes", "own", "start")

    def __init__(self, nbytes: int) -> None:
        self.memory, self.start = _memory(nbytes)
        self.nbytes, self.address = nbytes, address(self.memory) + self.start
        self.own = 0

    def array(self, slot: Slot) -> Array:
        """Return the array of a slot that lies in here."""
        return slot.array(self.memory, self.start)

    @property
    def held(self) -> bool:
        """Whether anybody but the executor refers to the bytes."""
        return sys.getrefcount(self.memory) - 2 > self.own


def _memory(nbytes: int) -> tuple[Array, int]:
    """Return an array that owns memory, and the first byte in it where a cache line begins: vectors want that."""
    memory = np.empty(nbytes + _LINE, np.uint8)
    return memory, -address(memory) % _LINE


def own_memory(nbytes: int) -> Array:
    """Return that many bytes."""
    memory, start = _memory(nbytes)
    return memory[start : start + nbytes]


def address(array: Array) -> int:
    """Return where an array begins."""
    return int(array.__array_interface__["data"][0])
