"""Constants of a program in C: as arrays in the source, or in a file of their own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ...compiler.ir.arrays import DType
from ...compiler.ir.graph import Value
from ...compiler.plans.instructions import Buffer
from ...engine.tape import Array
from .literals import array_lines, type_of
from .names import Names
from .quantize import Quantized, Small
from .schedule import Schedule, flat


def constants_of(schedule: Schedule) -> list[Buffer]:
    """Return the constants of more than one number, in the order in which they are used."""
    found: dict[Buffer, None] = {}
    for item, _ in flat(schedule):
        for slot in item.slots():
            constant = slot.buffer.constant
            if constant is not None and constant.size and not _is_uniform(constant):
                found[slot.buffer] = None
    return list(found)


def _is_uniform(array: Array) -> bool:
    first = array.flat[0]
    return bool((array == first).all()) and not (first == 0 and np.signbit(array).any())


@dataclass
class Constants:
    """Arrays that do not change.

    Args:
        names: hands out their names.
        known: names of the weights, by value.
        blob: the dtype of what goes into a file of its own, with all that is in 8 bits; None: all is in the source.

    Attributes:
        defined: those of the source by name, as (lines, bytes).
        parts: the arrays of the file: those of its dtype, then those in 8 bits.
        places: array and first element, by buffer.
        small: those in 8 bits, by buffer.
    """

    names: Names
    known: Mapping[Value, str]
    blob: DType | None = None
    defined: dict[str, tuple[list[str], int]] = field(default_factory=dict)
    parts: list[Array] = field(default_factory=list)
    places: dict[Buffer, tuple[str, int]] = field(default_factory=dict)
    small: dict[Buffer, Small] = field(default_factory=dict)

    def add_all(self, buffers: list[Buffer], quantized: Mapping[Buffer, Quantized]) -> None:
        """Place constants, some of them in 8 bits."""
        later: list[tuple[Buffer, Quantized, tuple[str, int]]] = []
        for buffer in buffers:
            name = self.known.get(buffer.value, "constant") if buffer.value is not None else "constant"
            assert buffer.constant is not None
            if buffer not in quantized:
                self.places[buffer] = self.add(name, buffer.constant)
                continue
            made = quantized[buffer]
            scales = self.add(f"{name}.scale", made.scales)
            if self.blob is None:
                self._put(buffer, made, self.add(name, made.values), scales)
            else:
                later.append((buffer, made, scales))
        whole = sum(part.size for part in self.parts)
        at = 0
        for buffer, made, scales in later:
            self.parts.append(made.values)
            self._put(buffer, made, (f"((const int8_t *)(weights + {whole}))", at), scales)
            at += made.values.size

    def _put(self, buffer: Buffer, made: Quantized, values: tuple[str, int], scales: tuple[str, int]) -> None:
        self.places[buffer] = values
        self.small[buffer] = Small(made, values, scales)

    def add(self, name: str, array: Array, inside: bool = False) -> tuple[str, int]:
        """Place an array, in the source if `inside`; return what it lies in, and where it starts there."""
        if self.blob is not None and array.dtype == self.blob and not inside:
            at = sum(part.size for part in self.parts)
            self.parts.append(array)
            return "weights", at
        given = self.names.give(name, prefix="w_")
        self.defined[given] = array_lines(given, array, type_of(array.dtype)), array.nbytes
        return given, 0

    def keep(self, text: str) -> None:
        """Drop those of the source that a text does not name."""
        named = set(re.findall(r"\w+", text))
        self.defined = {name: definition for name, definition in self.defined.items() if name in named}

    @property
    def nbytes(self) -> int:
        """What they take, in the source and in the file."""
        return sum(size for _, size in self.defined.values()) + sum(part.nbytes for part in self.parts)

    def content(self) -> bytes:
        """Return the content of the file, in little-endian order."""
        return b"".join(np.ascontiguousarray(part, part.dtype.newbyteorder("<")).tobytes() for part in self.parts)
