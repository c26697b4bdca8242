"""A program as the memory that the executor finds: records, weights, and a table that names what lies where.

All is counted from one address, a multiple of 64: first the content of the image (records, weights, constants, the
state at the start), then room for inputs, outputs and the arena, and for what the executor needs itself. Within it an
array begins at a multiple of 64.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ...compiler.ir.editing import in_bodies
from ...compiler.ir.graph import Graph
from ...compiler.native.encode import encode
from ...compiler.native.program import Piece, Records, Repeated
from ...compiler.passes.simplify import merge_subexpressions, remove_dead_code
from ...compiler.plans.instructions import Buffer, Instruction, Slot
from ...compiler.plans.layout import make_plan
from ...engine.tape import Array
from ...errors import UnsupportedError
from ..program import Port, Program
from .checks import without_checks, without_negatives
from .gather import with_rows
from .reduce import with_known_reductions
from .whole import with_real_numbers

SECTION = "tinygrad_rnn"
"""Name of the custom section of a WebAssembly module that holds an image."""

_LINE = 64
_COPIES = frozenset(["contiguous", "copy", "reshape", "take"])
_DTYPES = ("float32", "float64", "int64", "bool")


@dataclass
class _Memory:
    """Bytes of the image, and where the next array lies."""

    content: bytearray = field(default_factory=bytearray)
    size: int = 0

    def put(self, array: Array) -> int:
        """Append an array to the content; return where it lies."""
        assert self.size == len(self.content), "content comes before room"
        at = self.room(array.nbytes)
        self.content += np.ascontiguousarray(array).tobytes()
        self.content += bytes(self.size - len(self.content))
        return at

    def room(self, nbytes: int) -> int:
        """Return where so many bytes lie that come after all so far."""
        at = self.size
        self.size += -(-nbytes // _LINE) * _LINE
        return at


@dataclass(frozen=True)
class Image:
    """A program in memory.

    Attributes:
        table: what lies where, ready for JSON.
        content: the memory as far as it is not zero at the start.
    """

    table: dict[str, object]
    content: bytes

    def section(self, code: bytes) -> bytes:
        """Return the image as a custom section that ends a module with this code.

        It holds the length of the table (uint32), the table as JSON, the content, and a CRC-32 of the module up to it.
        """
        table = json.dumps(self.table, separators=(",", ":")).encode()
        payload = len(table).to_bytes(4, "little") + table + self.content
        name = SECTION.encode()
        body = _leb(len(name)) + name + payload
        start = b"\0" + _leb(len(body) + 4) + body
        return start + zlib.crc32(start, zlib.crc32(code)).to_bytes(4, "little")


def image_of(program: Program, what: str) -> Image:
    """Return a program as an image; its graph is used up.

    Raises:
        UnsupportedError: if it has an operation or a dtype that the executor does not know.

    Args:
        program: after the passes.
        what: the format, for messages.
    """
    for port in (*program.inputs, *program.outputs):
        if port.dtype.name not in _DTYPES:
            raise UnsupportedError(
                f"export: {what} knows the dtypes {', '.join(_DTYPES)}; {port.name} is of {port.dtype}: convert it"
            )
    natural = set(without_negatives(program.graph))
    plan = make_plan(_in_known_calls(program.graph), frozenset(one.input for one in program.carried))
    for instruction, _ in plan.flat():
        _copy_bits(instruction)
    encoded = encode(plan, 1, alone=True)
    instructions = [instruction for instruction, _ in plan.flat()]
    if unknown := sorted({instructions[number].operator.name for number in _left(encoded.pieces)}):
        raise UnsupportedError(
            f"export: {what} cannot compute {', '.join(unknown)} as it is used here: the C library leaves it to NumPy; "
            "write it with other operations"
        )
    pieces = [piece for piece in encoded.pieces if isinstance(piece, Records)]
    memory = _Memory()
    records = [{"at": memory.put(one.array), "count": len(one.array), "room": one.room} for one in pieces]
    places: dict[int, int] = {}
    slots = plan.inputs
    weights = []
    for weight, slot in zip(program.weights, slots[len(program.inputs) :], strict=True):
        places[id(slot.buffer)] = memory.put(weight.array.astype(slot.dtype, copy=False))
        weights.append(_described(weight.name, slot, places))
    for buffer in encoded.buffers:
        if buffer.constant is not None and id(buffer) not in places:
            places[id(buffer)] = memory.put(buffer.constant)
    initial = [memory.put(one.initial) for one in program.carried]
    for slot in (*slots[: len(program.inputs)], *plan.outputs):
        _place(slot.buffer, places, memory)
    for buffer in encoded.buffers:
        _place(buffer, places, memory)
    arena = memory.room(plan.arena_bytes)
    table = {
        "version": 1,
        "records": records,
        "bases": [arena, *(places[id(buffer)] for buffer in encoded.buffers)],
        "inputs": [
            {**row, "natural": True} if port.value in natural else row
            for port, row in zip(program.inputs, _ports(program.inputs, slots, places), strict=True)
        ],
        "outputs": _ports(program.outputs, plan.outputs, places),
        "weights": weights,
        "carried": [
            {"input": one.input, "output": one.output, "initial": at}
            for one, at in zip(program.carried, initial, strict=True)
        ],
        "bytes": memory.size,
    }
    return Image(table, bytes(memory.content))


def _in_known_calls(graph: Graph) -> Graph:
    """Return a graph of what the C library knows; what that brings twice, or for nothing, goes again."""
    graph = with_known_reductions(with_real_numbers(with_rows(without_checks(graph))))
    return in_bodies(remove_dead_code, in_bodies(merge_subexpressions, graph))


def _copy_bits(instruction: Instruction) -> None:
    """Let a copy of whole numbers be one of float64: the C library has no other loop for 8 bytes, and keeps bits."""
    (out, *more), (x, *others) = instruction.outputs, instruction.inputs or (None,)
    if instruction.operator.name not in _COPIES or more or others or not isinstance(x, Slot):
        return
    if x.dtype == out.dtype == np.int64:
        bits = np.dtype(np.float64)
        instruction.inputs, instruction.outputs = (replace(x, dtype=bits),), (replace(out, dtype=bits),)


def _left(pieces: Sequence[Piece]) -> Iterator[int]:
    """Yield the numbers of the instructions that the library leaves to Python."""
    for piece in pieces:
        if isinstance(piece, Repeated):
            yield from _left(piece.pieces)
        elif isinstance(piece, int):
            yield piece


def _place(buffer: Buffer, places: dict[int, int], memory: _Memory) -> None:
    if id(buffer) not in places:
        places[id(buffer)] = memory.room(buffer.nbytes)


def _ports(ports: Sequence[Port], slots: Sequence[Slot], places: dict[int, int]) -> list[dict[str, object]]:
    return [_described(port.name, slot, places) for port, slot in zip(ports, slots, strict=False)]


def _described(name: str, slot: Slot, places: dict[int, int]) -> dict[str, object]:
    at = places[id(slot.buffer)] + slot.offset
    return {"name": name, "dtype": slot.dtype.name, "shape": list(slot.shape), "at": at}


def _leb(number: int) -> bytes:
    """Return a number in LEB128, as WebAssembly writes it."""
    found = bytearray()
    while True:
        number, low = number >> 7, number & 127
        found.append(low | (128 if number else 0))
        if not number:
            return bytes(found)
