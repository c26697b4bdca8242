"""A program: a plan as the records that the C library reads, and what is left to Python."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..plans.instructions import Buffer
from .record import AXES

OPERANDS = 4
ALL_WELL = 2
"""`wait` of a call that is done only if no id was out of range, as in source/record.h."""

RECORD = np.dtype(
    [
        ("op", "i4"),
        ("type", "i4"),
        ("split", "i4"),
        ("wait", "i4"),
        ("base", "i8", OPERANDS),
        ("offset", "i8", OPERANDS),
        ("step_stride", "i8", OPERANDS),
        ("n", "i8", 4),
        ("s", "i8", (OPERANDS, AXES)),
        ("x", "f8", OPERANDS),
    ]
)
"""The layout of a record in source/record.h."""


@dataclass(frozen=True)
class Records:
    """Records that one call of the library replays.

    Attributes:
        array: the records, of dtype `RECORD`.
        heads: for each kernel (row of its first record, numbers of the instructions of the plan that it does).
        room: number of records of the longest body of a loop among them.
        extents: for each record, (first byte, byte after the last) that each operand reaches in its memory, over all
            steps of a loop; (0, 0) for nothing.
        shares: for each record and operand, the bytes of an element if each worker touches only its part of the array,
            else 0; and whether it is written.
        buffers: for each record, the buffer that each operand lies in; None for a number, or a block of a chain.
    """

    array: NDArray[np.void]
    heads: list[tuple[int, tuple[int, ...]]]
    room: int = 0
    extents: list[list[tuple[int, int]]] = field(default_factory=list)
    shares: list[list[tuple[int, bool]]] = field(default_factory=list)
    buffers: list[list[Buffer | None]] = field(default_factory=list)


@dataclass(frozen=True)
class Repeated:
    """A loop that Python runs, from the last step to the first if `reverse`.

    Its pieces are done at each step: records, and numbers of instructions that Python does.
    """

    pieces: list[Records | int]
    steps: int
    reverse: bool

    def order(self) -> range:
        """Return the steps in the order of execution."""
        return range(self.steps)[:: -1 if self.reverse else 1]


Piece = Records | int | Repeated


@dataclass
class Program:
    """A plan, encoded.

    Attributes:
        pieces: records, and between them numbers of instructions that Python does, and loops that it runs.
        buffers: number k in the field `base` of a record is buffers[k - 1]; 0 is the arena.
    """

    pieces: list[Piece] = field(default_factory=list)
    buffers: list[Buffer] = field(default_factory=list)

    def base(self, buffer: Buffer) -> int:
        """Return the number of a buffer, a new one if it has none yet."""
        if buffer.kind == "arena":
            return 0
        if id(buffer) not in self._bases:
            self.buffers.append(buffer)
            self._bases[id(buffer)] = len(self.buffers)
        return self._bases[id(buffer)]

    def __post_init__(self) -> None:
        self._bases = {id(buffer): number for number, buffer in enumerate(self.buffers, 1)}
