"""From a graph to a plan: which memory each value has, and the flat list of calls.

Views cost nothing: a reshape or a slice of a buffer is another way to look at it, found once, here. What is joined by
`stack` or `concatenate` is written into its place by the call that makes it, or is a view too if it lies there in order
already. An elementwise result is computed over an operand that nobody needs any more. The rest of the values share one
arena: two of them may have the same bytes if their lives do not overlap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..engine.tape import Array
from .arena import offsets
from .elementwise import ELEMENTWISE
from .explain import Explanation, explain
from .graph import Call, Graph, Operator, Value, map_parts
from .operators import VIEWS

_ALIGNMENT = 64  # bytes; a cache line
IN_PLACE = ELEMENTWISE - {"where"}  # which NumPy would compute elsewhere first
"""Names of operators that may write their result over an operand: each element is read before it is written."""


@dataclass(eq=False)
class Buffer:
    """Memory that some values share.

    Attributes:
        kind: "arena", "input", "constant" or "output".
        nbytes: its size.
        offset: where it starts in the arena.
        constant: the array of a constant.
        index: number of the input or output.
        dies: number of the last instruction that uses it.
    """

    kind: str
    nbytes: int
    offset: int = 0
    constant: Array | None = None
    index: int = 0
    dies: int = -1


@dataclass(frozen=True)
class Slot:
    """Where an array lies: its buffer, and how it is laid out in there (offset and strides in bytes).

    Within a loop `turn` is how many bytes further it lies at each step: at step t it begins at offset + t * turn.
    """

    buffer: Buffer
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype[Any]
    turn: int = 0

    def extent(self) -> tuple[int, int]:
        """Return (first byte, byte after the last) of the elements, counted from the first element; (0, 0) for none."""
        if 0 in self.shape:
            return 0, 0
        ends = [stride * (length - 1) for length, stride in zip(self.shape, self.strides, strict=True)]
        return sum(min(0, end) for end in ends), sum(max(0, end) for end in ends) + self.dtype.itemsize

    def array(self, memory: Any, start: int = 0) -> Array:
        """Return the array in memory (anything with the buffer interface); its buffer begins there at byte `start`."""
        if 0 in self.shape:  # NumPy refuses an offset at the end of the memory, and strides that do not fit
            return np.empty(self.shape, self.dtype)
        return np.ndarray(self.shape, self.dtype, memory, start + self.offset, self.strides)


@dataclass(frozen=True)
class Instruction:
    """One call of a plan: an operator, where its operands and results lie, and its attributes. Data, not code."""

    operator: Operator
    inputs: tuple[Any, ...]
    outputs: tuple[Slot, ...]
    attrs: dict[str, Any]
    step: int | None

    def slots(self) -> Iterator[Slot]:
        """Yield the slots that it reads, then those that it writes."""
        for part in (*self.inputs, *self.attrs.values(), *self.outputs):
            if isinstance(part, Slot):
                yield part
            elif isinstance(part, tuple):
                yield from (inner for inner in part if isinstance(inner, Slot))


@dataclass(frozen=True)
class Loop:
    """Instructions that are done at each step t = 0 .. steps - 1, or from the last step to the first."""

    instructions: tuple[Instruction, ...]
    steps: int
    reverse: bool


@dataclass
class Plan:
    """A list of calls, and loops of calls, on memory that is laid out in advance."""

    instructions: list[Instruction | Loop]
    inputs: list[Slot]
    outputs: list[Slot]
    arena_bytes: int
    passes: list[str] = field(default_factory=list)

    def explain(self) -> Explanation:
        """Return what the plan costs, without times; `Compiled.explain` measures those too."""
        return explain(self)


class _Layout:
    """Gives every value a place; one use."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.slots: dict[Value, Slot] = {}
        self.returned = set(graph.outputs)
        self.last = {value: number for number, call in enumerate(graph.calls) for value in call.values()}
        self.last.update(dict.fromkeys(graph.outputs, len(graph.calls)))
        self.until: dict[Buffer, int] = {}  # number of the last call that reads what lies there, as far as it is known

    def give(self, value: Value, slot: Slot) -> Slot:
        """Let a value lie in a slot."""
        self.slots[value] = slot
        self.until[slot.buffer] = max(self.until.get(slot.buffer, -1), self.last.get(value, -1))
        return slot

    def root(self, value: Value, kind: str = "arena", index: int = 0) -> Slot:
        constant = None
        if value.constant is not None:
            kind, constant = "constant", np.ascontiguousarray(value.constant).reshape(value.shape)
        strides = strides_of(value.shape, value.dtype.itemsize)
        return self.give(
            value, Slot(Buffer(kind, value.nbytes, 0, constant, index), 0, value.shape, strides, value.dtype)
        )

    def slot(self, value: Value) -> Slot:
        found = self.slots.get(value)
        return self.root(value) if found is None else found

    def operand(self, part: Any) -> Any:
        """Return the slot of a value; what is not one as it is."""
        return self.slot(part) if isinstance(part, Value) else part

    def place_over(self, number: int, inputs: tuple[Any, ...]) -> None:
        """Let a result of a call lie where an operand lies that nobody needs after it, if the call allows that."""
        call = self.graph.calls[number]
        if call.operator.over is not None:
            value, places = call.outputs[call.operator.over], inputs[:1]
        elif call.name in IN_PLACE:
            value, places = call.output, inputs
        else:
            return
        if value in self.slots or value in self.returned:
            return
        layout = value.shape, strides_of(value.shape, value.dtype.itemsize), value.dtype
        for slot in places:
            if not isinstance(slot, Slot) or (slot.shape, slot.strides, slot.dtype) != layout:
                continue
            others = [other for other in inputs if isinstance(other, Slot) and other.buffer is slot.buffer]
            is_free = slot.buffer.kind == "arena" and self.until[slot.buffer] == number
            if is_free and all(other == slot for other in others):  # elements are not read after others are written
                self.give(value, slot)
                return

    def joined(self, call: Call) -> Slot | None:
        """Return where a stack lies if its operands lie at even distances, so that it is a view of them, else None."""
        if call.name != "stack" or call.output in self.slots:
            return None
        parts = [self.slots.get(part) for part in call.inputs]
        first = parts[0]
        if first is None:
            return None
        gap = parts[1].offset - first.offset if parts[1:] and parts[1] is not None else first.buffer.nbytes
        if [part and (part.buffer, part.offset, part.strides) for part in parts] != [
            (first.buffer, first.offset + number * gap, first.strides) for number in range(len(parts))
        ]:
            return None
        axis = call.attrs["axis"] % call.output.ndim
        strides = (*first.strides[:axis], gap, *first.strides[axis:])
        return Slot(first.buffer, first.offset, call.output.shape, strides, first.dtype)

    def views_of(self, call: Call) -> list[Slot] | None:
        """Return where the results of a call lie if they are views of its operands, else None."""
        joined = self.joined(call)
        if joined is not None:
            return [joined]
        if call.name not in VIEWS or not isinstance(call.inputs[0], Value):
            return None
        base = self.slot(call.inputs[0])
        if any(isinstance(part, np.ndarray | Value) for part in _parts(call.attrs.get("index"))):
            return None
        operator = call.operator
        return views_in(base, lambda array: operator.results(operator.compute(array, *call.inputs[1:], **call.attrs)))


def views_in(base: Slot, function: Callable[[Array], Sequence[Array]]) -> list[Slot] | None:
    """Return where the results of a function of the array in a slot lie if they are views of it, else None."""
    stand_in = base.array(_memory(base))
    parts = function(stand_in)
    start = stand_in.__array_interface__["data"][0] - base.offset
    if not all(np.may_share_memory(part, stand_in) for part in parts if part.size):
        return None
    return [
        Slot(
            base.buffer,
            part.__array_interface__["data"][0] - start if part.size else 0,
            part.shape,
            part.strides,
            part.dtype,
        )
        for part in parts
    ]


def _parts(index: Any) -> tuple[Any, ...]:
    return index if isinstance(index, tuple) else (index,)


def _memory(slot: Slot) -> Any:
    return np.empty(max(1, slot.buffer.nbytes), np.uint8)  # never touched: it takes no pages


def strides_of(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Return the strides in bytes of an array in C order."""
    strides, step = [], itemsize
    for length in reversed(shape):
        strides.append(step)
        step *= max(1, length)
    return tuple(reversed(strides))


def _place_in_stacks(layout: _Layout) -> dict[Call, set[int]]:
    """Let the operands of stacks be made where the stack wants them; return for each stack the operands that are.

    The last stack comes first: one that is an operand of another has its place when its own operands get theirs.
    """
    placed: dict[Call, set[int]] = {}
    for call in reversed(layout.graph.calls):
        if call.name not in ("stack", "concatenate"):
            continue
        direct = {
            number
            for number, value in enumerate(call.inputs)
            if isinstance(value, Value)
            and value.maker is not None
            and value not in layout.slots
            and value.maker.name not in VIEWS
            and value not in layout.returned
            and call.inputs.count(value) == 1
            and value.dtype == call.output.dtype
        }
        if not direct:
            continue
        whole = layout.slots.get(call.output) or layout.root(call.output, *_kind(layout, call.output))
        for number, part in enumerate(places(call.name, call.attrs["axis"], call.inputs, whole)):
            if number in direct:
                layout.give(call.inputs[number], part)
        placed[call] = direct
    return placed


def _kind(layout: _Layout, value: Value) -> tuple[str, int]:
    return ("output", layout.graph.outputs.index(value)) if value in layout.returned else ("arena", 0)


def make_plan(graph: Graph) -> Plan:
    """Lay out memory for a graph and return its plan."""
    layout = _Layout(graph)
    for number, value in enumerate([*graph.inputs, *graph.captured]):
        layout.root(value, "input", number)
    placed = _place_in_stacks(layout)
    instructions: list[Instruction] = []
    for number, call in enumerate(graph.calls):
        views = layout.views_of(call)
        if views is not None:
            for value, view in zip(call.outputs, views, strict=True):
                layout.give(value, view)
            continue
        inputs = tuple(map(layout.operand, call.inputs))
        attrs = {name: map_parts(layout.operand, part) for name, part in call.attrs.items()}
        layout.place_over(number, (*inputs, *attrs.values()))
        for value in call.outputs:
            if value not in layout.slots:
                layout.root(value, *_kind(layout, value))
        outputs = tuple(layout.slots[value] for value in call.outputs)
        direct = placed.get(call, ())
        if call.name in ("stack", "concatenate") and direct:
            instructions += _copies(call, inputs, outputs[0], direct)
        else:
            instructions.append(Instruction(call.operator, inputs, outputs, attrs, call.step))
    results = _outputs(layout, instructions)
    size = _arena(instructions)
    inputs_at = [layout.slots[value] for value in [*graph.inputs, *graph.captured]]
    return Plan(instructions, inputs_at, results, size)


def _outputs(layout: _Layout, instructions: list[Instruction]) -> list[Slot]:
    """Return where the results lie: each in memory of its own, which is no input's and no other result's."""
    slots: list[Slot] = []
    for number, value in enumerate(layout.graph.outputs):
        slot = layout.slot(value)
        if slot.buffer.kind != "output" or any(slot.buffer is other.buffer for other in slots):
            strides = strides_of(slot.shape, slot.dtype.itemsize)
            own = Slot(Buffer("output", value.nbytes, index=number), 0, slot.shape, strides, slot.dtype)
            instructions.append(Instruction(COPY, (slot,), (own,), {}, None))
            slot = own
        slots.append(slot)
    return slots


COPY = Operator("copy", lambda x, /, *, out: np.copyto(out, x), True)


def _copies(call: Call, inputs: tuple[Any, ...], whole: Slot, direct: Any) -> list[Instruction]:
    """Return the copies that a stack still needs: of operands that could not be made in their place."""
    where = places(call.name, call.attrs["axis"], call.inputs, whole)
    return [
        Instruction(COPY, (slot,), (place,), {}, call.step)
        for number, (slot, place) in enumerate(zip(inputs, where, strict=True))
        if number not in direct
    ]


def places(name: str, axis: int, parts: Sequence[Value | Slot], whole: Slot) -> list[Slot]:
    """Return where each operand of a "stack" or a "concatenate" lies in its result."""
    axis %= len(whole.shape)
    stride, at, found = whole.strides[axis], whole.offset, []
    for part in parts:
        if name == "stack":
            strides, length = whole.strides[:axis] + whole.strides[axis + 1 :], 1
        else:
            strides, length = whole.strides, part.shape[axis]
        found.append(Slot(whole.buffer, at, part.shape, strides, whole.dtype))
        at += length * stride
    return found


def _arena(instructions: list[Instruction]) -> int:
    """Give every buffer of the arena its offset: bytes are used again once nobody reads them; return the size."""
    born: dict[Buffer, int] = {}
    for number, instruction in enumerate(instructions):
        for slot in instruction.slots():
            slot.buffer.dies = number
            if slot.buffer.kind == "arena":
                born.setdefault(slot.buffer, number)
    places, size = offsets([_rounded(buffer) for buffer in born], list(born.values()), [buffer.dies for buffer in born])
    for buffer, offset in zip(born, places, strict=True):
        buffer.offset = offset
    return size


def _rounded(buffer: Buffer) -> int:
    return -(-max(1, buffer.nbytes) // _ALIGNMENT) * _ALIGNMENT
