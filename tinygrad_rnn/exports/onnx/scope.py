"""What writers of operations write into: a block and its names, constants, shapes and lengths."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from ...compiler.ir.arrays import DType
from ...compiler.ir.graph import Call, Value
from ...engine.tape import Array
from ...errors import UnsupportedError
from .blocks import Attribute, Block, Node
from .extents import Extent, Length, Lengths
from .sizes import Sized

Writer: TypeAlias = "Callable[[Scope, Call], Sequence[str]]"
"""Writes the nodes of a call; returns the names of its results."""

Vary: TypeAlias = "Callable[[Scope, Value, str], str]"
"""Writes the nodes that make a constant which depends on the sizes, given its name; returns that."""


class Book:
    """What all scopes of a file share: names, constants, and the lengths that are computed before all else.

    Args:
        sized: what is written.
        sources: of each size, an input and its axis that has this length.
        writers: by name of the operator.
        vary: writes constants that depend on the sizes.
        taken: names of inputs and outputs.
    """

    def __init__(
        self,
        sized: Sized,
        sources: Mapping[str, tuple[str, int]],
        writers: Mapping[str, Writer],
        vary: Vary,
        taken: Iterable[str],
    ) -> None:
        self.sized, self.writers, self.vary = sized, writers, vary
        self.constants: dict[str, Array] = {}
        self.names = set(taken)
        self.weights: dict[Value, str] = {weight.value: weight.name for weight in sized.program.weights}
        self.known: dict[object, str] = {}  # constants by content, and what writers made once for all
        self._counts: dict[str, int] = {}
        self._sources = sources
        self.lengths = Block("lengths")

    def name(self, wanted: str) -> str:
        """Return a name that nothing has: the one that is wanted, or that with a number."""
        name = wanted = printable(wanted)
        while name in self.names:
            self._counts[wanted] = self._counts.get(wanted, 1) + 1
            name = f"{wanted}_{self._counts[wanted]}"
        self.names.add(name)
        return name

    def array(self, array: Array, name: str) -> str:
        """Return the name of a constant of the file."""
        key = (array.dtype, array.shape, array.tobytes()) if array.size <= 64 else None
        if key in self.known:
            return self.known[key]
        made = self.name(name)
        self.constants[made] = array
        if key is not None:
            self.known[key] = made
        return made

    def vector(self, extent: Extent) -> str:
        """Return the name of a length (1,), which is computed once, before all else."""
        if extent in self.known:
            return self.known[extent]
        scope = Scope(self, self.lengths)
        terms = []
        for names, factor in extent.terms:
            parts = [self._size(scope, name) for name in names]
            if factor != 1 or not parts:
                parts.append(scope.integers([factor]))
            while len(parts) > 1:
                parts[:2] = [scope.node("Mul", *parts[:2])]
            terms += parts
        while len(terms) > 1:
            terms[:2] = [scope.node("Add", *terms[:2])]
        self.known[extent] = terms[0]
        return terms[0]

    def _size(self, scope: Scope, name: str) -> str:
        key = ("size", name)
        if key not in self.known:
            source, axis = self._sources[name]
            self.known[key] = scope.node("Shape", source, start=axis, end=axis + 1, name=name)
        return self.known[key]


class Scope:
    """A block that is being written.

    Args:
        book: what it shares with the others.
        block: the block.
        around: the scope of the graph around it, whose names it may use; None: there is none.
        outer: values of the block that are the same as one of the graph around it.
    """

    def __init__(
        self, book: Book, block: Block, around: Scope | None = None, outer: Mapping[Value, Value] | None = None
    ) -> None:
        self.book, self.block, self.around = book, block, around
        self._outer = dict(outer or {})
        self.names: dict[Value, str] = {}
        self._place: tuple[str, ...] = ()
        self._note = ""

    # -- nodes --------------------------------------------------------------------------------------------------------

    def nodes(
        self, kind: str, inputs: Sequence[str], outputs: int, attributes: Mapping[str, Attribute], name: str = ""
    ) -> list[str]:
        """Append a node; return the names of its results.

        Args:
            kind: type of the node in the standard.
            inputs: names of its operands.
            outputs: number of results.
            attributes: of the node.
            name: of the node and its results; "": its type.
        """
        title = self.book.name("/".join([*self._place, name or kind]))
        made = [title] if outputs == 1 else [self.book.name(f"{title}.{number}") for number in range(outputs)]
        self.block.nodes.append(Node(kind, title, list(inputs), made, dict(attributes), self._note))
        return made

    def node(self, kind: str, *inputs: str, name: str = "", **attributes: Attribute) -> str:
        """Append a node with one result; return its name."""
        return self.nodes(kind, inputs, 1, attributes, name)[0]

    def call(self, call: Call) -> None:
        """Write a call.

        Raises:
            UnsupportedError: if the standard has no such operation.
        """
        if all(0 in value.shape and self.shape(value) == value.shape for value in call.outputs):
            # Runtimes do not agree on what has no elements.
            empty = [self.book.array(np.zeros(value.shape, value.dtype), "empty") for value in call.outputs]
            self.names.update(zip(call.outputs, empty, strict=True))
            return
        writer = self.book.writers.get(call.name if isinstance(call.operator.key, str) else "")
        self._place = call.place[1]
        self._note = "" if call.step is None else f"step {call.step}"
        if writer is None:
            writer = self.book.writers["function"]
        self.names.update(zip(call.outputs, writer(self, call), strict=True))
        self._place, self._note = (), ""

    # -- operands -----------------------------------------------------------------------------------------------------

    def name(self, value: Value) -> str:
        """Return the name of a value."""
        if value in self.names:
            return self.names[value]
        if self.around is not None and value in self._outer:
            return self.around.name(self._outer[value])
        key = ("value", value)
        if key not in self.book.known:
            title = self.book.weights.get(value) or "constant"
            fixed = self.book.sized.fixed(value)
            if fixed is not None:
                self.book.known[key] = self.book.array(fixed, title)
            else:
                self.book.known[key] = self.book.vary(Scope(self.book, self.book.lengths), value, title)
        return self.book.known[key]

    def arrays(self, value: Value) -> list[Array] | None:
        """Return what a weight or a constant held in each recording; None of any other value."""
        return self.book.sized.arrays(self.source(value))

    def array(self, value: Value) -> Array | None:
        """Return what a value holds, if that is known and the same at all sizes."""
        return self.book.sized.fixed(self.source(value))

    def source(self, value: Value) -> Value:
        """Return the value of the graph around all others that this one is, if it is one."""
        if value in self._outer and self.around is not None:
            return self.around.source(self._outer[value])
        return value

    def weight_name(self, value: Value) -> str:
        """Return the name that the user knows a weight by; "" of any other value."""
        return self.book.weights.get(self.source(value), "")

    def operand(self, part: object, dtype: DType) -> str:
        """Return the name of an operand, which is cast if it has another dtype; numbers become constants."""
        if isinstance(part, Value):
            return self.cast(self.name(part), part.dtype, dtype)
        if isinstance(part, Extent):
            return self.cast(self.scalar(part), np.dtype(np.int64), dtype)
        return self.book.array(np.asarray(part, dtype), "constant")

    def cast(self, name: str, old: DType, new: DType) -> str:
        """Return the name of an array in another dtype."""
        return name if old == new else self.node("Cast", name, to=code(new))

    def constant(self, number: float, dtype: DType) -> str:
        """Return the name of a number."""
        return self.book.array(np.asarray(number, dtype), "constant")

    # -- shapes -------------------------------------------------------------------------------------------------------

    def integers(self, numbers: Sequence[int]) -> str:
        """Return the name of a constant (n,) of integers."""
        return self.book.array(np.array(numbers, np.int64), "constant")

    def vector(self, lengths: Sequence[Length]) -> str:
        """Return the name of integers (n,), of which some may be expressions."""
        if all(isinstance(length, int) for length in lengths):
            return self.integers([length for length in lengths if isinstance(length, int)])
        key = ("vector", tuple(lengths))
        if key not in self.book.known:
            parts = [self.integers([one]) if isinstance(one, int) else self.book.vector(one) for one in lengths]
            first = Scope(self.book, self.book.lengths)
            self.book.known[key] = parts[0] if len(parts) == 1 else first.node("Concat", *parts, axis=0, name="shape")
        return self.book.known[key]

    def scalar(self, length: Length) -> str:
        """Return the name of an integer without an axis."""
        if isinstance(length, int):
            return self.constant(length, np.dtype(np.int64))
        key = ("scalar", length)
        if key not in self.book.known:
            first = Scope(self.book, self.book.lengths)
            self.book.known[key] = first.node("Squeeze", first.vector([length]), first.integers([0]))
        return self.book.known[key]

    def shape(self, value: Value) -> Lengths:
        """Return the shape of a value."""
        return self.book.sized.shape(value)

    def reshape(self, name: str, old: Lengths, new: Lengths) -> str:
        """Return the name of an array in another shape.

        A length that stays where it was is written as 0, one other that is an expression as -1: then nothing needs to
        be computed.
        """
        if old == new:
            return name
        marks = [
            one if isinstance(one, int) else 0 if place < len(old) and old[place] == one else -1
            for place, one in enumerate(new)
        ]
        if marks.count(-1) <= 1 and 0 not in new:
            return self.node("Reshape", name, self.integers(marks))
        return self.node("Reshape", name, self.vector(new), allowzero=1)

    def expand(self, name: str, old: Lengths, new: Lengths) -> str:
        """Return the name of an array broadcast to a shape."""
        short = len(new) - len(old)
        wanted = [1 if place >= short and old[place - short] == one else one for place, one in enumerate(new)]
        if old == new:
            return name
        return self.node("Expand", name, self.vector(wanted))


def code(dtype: DType) -> int:
    """Return the number of a dtype in the standard.

    Raises:
        UnsupportedError: if it has none.
    """
    found = CODES.get(np.dtype(dtype).newbyteorder("=").name)
    if found is None:
        raise UnsupportedError(f"export: ONNX has no dtype {dtype}; compute in {', '.join(CODES)}")
    return found


CODES = {
    "float32": 1,
    "uint8": 2,
    "int8": 3,
    "uint16": 4,
    "int16": 5,
    "int32": 6,
    "int64": 7,
    "bool": 9,
    "float16": 10,
    "float64": 11,
    "uint32": 12,
    "uint64": 13,
}
"""The dtypes that a file may hold, and their numbers in the standard."""


def printable(name: str) -> str:
    """Return a name as it may stand in a file: never empty, and what cannot be printed escaped.

    >>> printable("layers.0.Wx"), printable('";drop'), len(printable(chr(10))), printable("")
    ('layers.0.Wx', '";drop', 2, '_')
    """
    shown = "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in name)
    return shown or "_"
