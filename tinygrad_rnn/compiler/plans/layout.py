"""Layout of memory: from a graph to a plan, with the slot of each value and the list of calls.

Views cost nothing: the layout of a reshape or a slice is computed once, here. Operands of `stack` and `concatenate` are
written into the result by the calls that make them, or the result is a view too, if they lie in order already. An
elementwise result is written over an operand that nobody needs any more. The other values share one arena: two of them
may have the same bytes if their lifetimes do not overlap.

In a loop, slices and stacked results move on by one entry at each step. A carried value that is stacked before or after
the step is one array of T + 1 states, of which each step reads one and writes the next; any other carried value has one
place, which the step overwrites. Calls are numbered in order, those of a body within their loop; what a loop uses, and
was there before it or is needed after it, lives as long as the whole loop.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

import numpy as np

from ..ir.arrays import DType, Shape
from ..ir.graph import Body, Call, Graph, Value, map_attrs
from ..ir.table import IN_PLACE, VIEWS
from .arena import place_buffers
from .donation import placed_over
from .instructions import COPY, Buffer, Instruction, Loop, Slot, places, strides_of, views_in
from .loopform import with_places
from .plan import Plan
from .results import made_in_results


class _Span(NamedTuple):
    """The numbers of the first and the last call of a loop."""

    first: int
    last: int


class _Layout:
    """The layout of one graph, used once."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.slots: dict[Value, Slot] = {}
        self.returned = set(graph.outputs)
        self.over: dict[Call, Value] = {}  # donated inputs that results are written over
        self.numbers: dict[Call, int] = {}
        self.spans: dict[Call, _Span] = {}
        self.last: dict[Value, int] = {}  # number of the last call that reads a value
        self.until: dict[Buffer, int] = {}  # number of the last call that reads what lies there, as far as it is known
        for call in graph.calls:
            self._count(call)
        self.last.update(dict.fromkeys(graph.outputs, len(self.numbers)))

    def _count(self, call: Call) -> None:
        first = len(self.numbers)
        if call.name != "loop":
            self.numbers[call] = first
            self.last.update(dict.fromkeys(call.values(), first))
            return
        body: Body = call.attrs["body"]
        for inner in body.graph.calls:
            self._count(inner)
        self.numbers[call] = last = len(self.numbers)  # where a step ends: carried values are copied there
        self.spans[call] = _Span(first, last)
        self.last.update(dict.fromkeys((*call.values(), *body.graph.inputs, *body.graph.outputs), last))

    def give(self, value: Value, slot: Slot, until: int = -1) -> Slot:
        """Put a value into a slot."""
        self.slots[value] = slot
        self.until[slot.buffer] = max(self.until.get(slot.buffer, -1), self.last.get(value, -1), until)
        return slot

    def root(self, value: Value, kind: str = "arena", index: int = 0) -> Slot:
        """Put a value into a buffer of its own."""
        constant = None
        if value.constant is not None:
            kind, constant = "constant", np.ascontiguousarray(value.constant).reshape(value.shape)
        strides = strides_of(value.shape, value.dtype.itemsize)
        return self.give(
            value,
            Slot(Buffer(kind, value.nbytes, 0, constant, index, value=value), 0, value.shape, strides, value.dtype),
        )

    def slot(self, value: Value) -> Slot:
        """Return the slot of a value, in a buffer of its own if it has none yet."""
        found = self.slots.get(value)
        return self.root(value) if found is None else found

    def operand(self, part: object) -> object:
        """Return the slot of a value; anything else as it is."""
        return self.slot(part) if isinstance(part, Value) else part

    def place_over(self, call: Call, inputs: tuple[object, ...]) -> None:
        """Put a result of a call over an operand that nobody needs after it, if the call allows that."""
        if call in self.over:
            self.give(call.output, self.slot(self.over[call]))
            return
        if call.operator.over is not None:
            value, where = call.outputs[call.operator.over], inputs[:1]
        elif call.name in IN_PLACE:
            value, where = call.output, inputs
        else:
            return
        if value in self.slots or value in self.returned:
            return
        layout = value.shape, strides_of(value.shape, value.dtype.itemsize), value.dtype, 0
        for slot in where:
            if not isinstance(slot, Slot) or (slot.shape, slot.strides, slot.dtype, slot.step_stride) != layout:
                continue
            others = [other for other in inputs if isinstance(other, Slot) and other.buffer is slot.buffer]
            is_free = slot.buffer.kind == "arena" and self.until[slot.buffer] == self.numbers[call]
            if is_free and all(other == slot for other in others):  # elements are not read after others are written
                self.give(value, slot)
                return

    def joined(self, call: Call) -> Slot | None:
        """Return the slot of a stack if it is a view of its operands, which lie at equal distances then, else None."""
        if call.name != "stack" or call.output in self.slots:
            return None
        parts = [self.slots.get(part) for part in call.inputs]
        first = parts[0]
        if first is None:
            return None
        gap = parts[1].offset - first.offset if parts[1:] and parts[1] is not None else first.buffer.nbytes
        if [part and (part.buffer, part.offset, part.strides, part.step_stride) for part in parts] != [
            (first.buffer, first.offset + k * gap, first.strides, first.step_stride) for k in range(len(parts))
        ]:
            return None
        axis = call.attrs["axis"] % call.output.ndim
        strides = (*first.strides[:axis], gap, *first.strides[axis:])
        return Slot(first.buffer, first.offset, call.output.shape, strides, first.dtype, first.step_stride)

    def views_of(self, call: Call) -> list[Slot] | None:
        """Return the slots of the results of a call if they are views of its operands, else None."""
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

    # -- loops ------------------------------------------------------------------------------------------------------

    def place_results(self, call: Call) -> None:
        """Place what a loop carries and stacks, before operands of stacks within the body are placed."""
        body: Body = call.attrs["body"]
        inputs, outputs, end = body.graph.inputs, body.graph.outputs, self.spans[call].last
        stacks: dict[Value, list[Value]] = {}
        for value, stack in zip(outputs[body.carried :], call.outputs[body.carried :], strict=True):
            stacks.setdefault(value, []).append(stack)
        for before, after, final in zip(inputs, outputs[: body.carried], call.outputs[: body.carried], strict=False):
            seen = [(stack, 0) for stack in stacks.pop(before, ())] + [(stack, 1) for stack in stacks.pop(after, ())]
            if seen:
                self._states(body, before, after, final, seen, end)
                continue
            slot = self.give(before, self._own(before.shape, before.dtype), end)
            self.give(final, slot)
            if after not in self.slots and self._is_over(before, after, call):
                self.give(after, slot)
        for value, (first, *others) in stacks.items():
            whole = self.root(first)
            self.give(value, _turned(whole, 0), end)
            for other in others:
                self.give(other, whole)

    def _states(
        self, body: Body, before: Value, after: Value, final: Value, seen: list[tuple[Value, int]], end: int
    ) -> None:
        """Lay out a carried value as T + 1 states; `seen` are stacks of the states before (0) and after (1) a step."""
        whole = self._own((body.steps + 1, *before.shape), before.dtype)
        early = _turned(whole, 0), _turned(whole, 1)
        self.give(before, early[1 if body.reverse else 0], end)
        self.give(after, early[0 if body.reverse else 1], end)
        self.give(final, early[0].at(0 if body.reverse else body.steps))
        for stack, number in seen:
            start = early[0].at(1 - number if body.reverse else number)
            self.give(stack, Slot(whole.buffer, start.offset, stack.shape, whole.strides, whole.dtype))

    def _own(self, shape: Shape, dtype: DType) -> Slot:
        strides = strides_of(shape, dtype.itemsize)
        buffer = Buffer("arena", max(1, shape[0] if shape else 1) * (strides[0] if shape else dtype.itemsize))
        return Slot(buffer, 0, shape, strides, dtype)

    def _is_over(self, before: Value, after: Value, call: Call) -> bool:
        """Return whether the value after a step can be written over that before it."""
        maker = after.maker
        assert maker is not None
        body: Body = call.attrs["body"]
        names, last = {before}, -1
        for inner in body.graph.calls:
            read = [value for value in inner.values() if value in names]
            if read and (inner.name in VIEWS or inner.name == "stack"):
                names.update(inner.outputs)
            if read and inner.name not in VIEWS:  # a stack may be a view, or copy: see `joined`
                last = self.numbers[inner]
        if last < self.numbers[maker]:
            return True
        operands = [value for value in maker.values() if value in names]
        plain = all(value is before for value in operands) and before.shape == after.shape
        return last == self.numbers[maker] and maker.name in IN_PLACE and plain

    def enter(self, call: Call) -> Iterator[Instruction]:
        """Place what a loop slices and reads; yield the copies of carried values to where the first step reads them."""
        body: Body = call.attrs["body"]
        inner, end = body.graph.inputs, self.spans[call].last
        for number, (value, outer) in enumerate(zip(inner, call.inputs, strict=True)):
            slot = self.slot(outer)
            if number >= body.carried:
                is_slice = number < body.carried + body.sliced
                self.give(value, _turned(slot, 0) if is_slice else slot, end)
                continue
            own = self.slots[value]
            yield Instruction(COPY, (slot,), (own.at(body.steps - 1 if body.reverse else 0),), {}, None)

    def leave(self, call: Call) -> Iterator[Instruction]:
        """Yield the copies at the end of a step: of carried values that could not be written in place."""
        body: Body = call.attrs["body"]
        for before, after in zip(body.graph.inputs, body.graph.outputs[: body.carried], strict=False):
            own, made = self.slots[before], self.slots[after]
            if own.step_stride == 0 and made != own:
                yield Instruction(COPY, (made,), (own,), {}, None)


def _turned(whole: Slot, first: int) -> Slot:
    """Return the slot of a slice along the first axis: entry `first` at step 0, and one further at each step."""
    step_stride = whole.strides[0]
    offset = whole.offset + first * step_stride
    return Slot(whole.buffer, offset, whole.shape[1:], whole.strides[1:], whole.dtype, step_stride)


def _parts(index: object) -> tuple[object, ...]:
    return index if isinstance(index, tuple) else (index,)


def _place_in_stacks(layout: _Layout, graph: Graph) -> dict[Call, set[int]]:
    """Place operands of stacks within them; return for each stack the numbers of the operands that are placed.

    The last stack comes first, so that one that is an operand of another has its place before its own operands.
    """
    placed: dict[Call, set[int]] = {}
    for call in reversed(graph.calls):
        if call.name == "loop":
            placed |= _place_in_stacks(layout, call.attrs["body"].graph)
        if call.name not in ("stack", "concatenate"):
            continue
        sources = [_source(call, value) for value in call.inputs]
        made = {
            number: source
            for number, source in enumerate(sources)
            if sources.count(source) == 1 and source.dtype == call.output.dtype and _can_be_placed(layout, source)
        }
        if not made:
            continue
        whole = layout.slots.get(call.output) or layout.root(call.output, *_kind(layout, call.output))
        for number, part in enumerate(places(call.name, call.attrs["axis"], call.inputs, whole)):
            if (source := made.get(number)) is not None:
                flat = source is not call.inputs[number]
                strides = strides_of(source.shape, part.dtype.itemsize) if flat else part.strides
                layout.give(source, Slot(part.buffer, part.offset, source.shape, strides, part.dtype, part.step_stride))
        placed[call] = set(made)
    return placed


def _source(call: Call, value: Value) -> Value:
    """Return the array that an operand of a concatenation of vectors is a reshape of, else the operand.

    Gradients that are joined into one vector are thus written into it directly.
    """
    maker = value.maker
    if call.name != "concatenate" or value.ndim != 1 or maker is None or maker.name != "reshape":
        return value
    source: Value = maker.inputs[0]
    return source


def _can_be_placed(layout: _Layout, value: Value) -> bool:
    """Return whether the call that makes a value can write it anywhere."""
    is_free = value not in layout.slots and value not in layout.returned
    return is_free and value.maker is not None and value.maker.name not in VIEWS


def _kind(layout: _Layout, value: Value) -> tuple[str, int]:
    return ("output", layout.graph.outputs.index(value)) if value in layout.returned else ("arena", 0)


def make_plan(graph: Graph, donated: Collection[int] = ()) -> Plan:
    """Lay out memory for a graph and return its plan.

    Args:
        graph: after the passes.
        donated: numbers of the inputs that results may be written over.
    """
    placed_last = placed_over(with_places(graph), [graph.inputs[number] for number in sorted(donated)])
    graph = placed_last.graph
    layout = _Layout(graph)
    layout.over, given = placed_last.over, set(placed_last.over.values())
    for number, value in enumerate([*graph.inputs, *graph.captured]):
        layout.root(value, "donated" if value in given else "input", number)
    for call in layout.spans:
        layout.place_results(call)
    placed = _place_in_stacks(layout, graph)
    for value, result in made_in_results(graph, layout.slots, layout.over):
        layout.give(value, layout.slots.get(result) or layout.root(result, *_kind(layout, result)))
    instructions: list[Instruction | Loop] = []
    last = 0
    for number, call in enumerate(graph.calls):
        if number == placed_last.first:
            last = len(instructions)
        if call.name != "loop":
            instructions += _instructions(layout, call, placed)
            continue
        body: Body = call.attrs["body"]
        instructions += layout.enter(call)
        turn = [one for inner in body.graph.calls for one in _instructions(layout, inner, placed)]
        turn += layout.leave(call)
        if turn:
            instructions.append(Loop(tuple(turn), body.steps, body.reverse))
    results = _outputs(layout, instructions)
    size = lay_out_arena(instructions)
    inputs_at = [layout.slots[value] for value in [*graph.inputs, *graph.captured]]
    return Plan(instructions, inputs_at, results, size, last=last if layout.over else None)


def _instructions(layout: _Layout, call: Call, placed: dict[Call, set[int]]) -> list[Instruction]:
    """Place the results of a call, and return its instructions."""
    views = layout.views_of(call)
    if views is not None:
        for value, view in zip(call.outputs, views, strict=True):
            layout.give(value, view)
        return []
    inputs = tuple(map(layout.operand, call.inputs))
    attrs = map_attrs(layout.operand, call.attrs)
    layout.place_over(call, (*inputs, *attrs.values()))
    for value in call.outputs:
        if value not in layout.slots:
            layout.root(value, *_kind(layout, value))
    outputs = tuple(layout.slots[value] for value in call.outputs)
    direct = placed.get(call)
    if call.name in ("stack", "concatenate") and direct:
        return _copies(call, inputs, outputs[0], direct)
    return [Instruction(call.operator, inputs, outputs, attrs, call.step)]


def _outputs(layout: _Layout, instructions: list[Instruction | Loop]) -> list[Slot]:
    """Return the slots of the results: each in a buffer of its own, which is no input's unless that is donated."""
    slots: list[Slot] = []
    for number, value in enumerate(layout.graph.outputs):
        slot = layout.slot(value)
        is_own = slot.buffer.kind in ("output", "donated")
        if not is_own or any(slot.buffer is other.buffer for other in slots):
            strides = strides_of(slot.shape, slot.dtype.itemsize)
            own = Slot(Buffer("output", value.nbytes, index=number), 0, slot.shape, strides, slot.dtype)
            instructions.append(Instruction(COPY, (slot,), (own,), {}, None))
            slot = own
        slots.append(slot)
    return slots


def _copies(call: Call, inputs: tuple[object, ...], whole: Slot, direct: Collection[int]) -> list[Instruction]:
    """Return the copies that a stack still needs: of operands that could not be written in place."""
    where = places(call.name, call.attrs["axis"], call.inputs, whole)
    return [
        Instruction(COPY, (slot,), (place,), {}, call.step)
        for number, (slot, place) in enumerate(zip(inputs, where, strict=True))
        if number not in direct
    ]


def lay_out_arena(instructions: list[Instruction | Loop]) -> int:
    """Set the lifetime and offset of every buffer in the arena; return the size of the arena."""
    number = 0
    found: dict[Buffer, None] = {}
    for one in instructions:
        turn = one.instructions if isinstance(one, Loop) else (one,)
        start, used = number, set()
        for instruction in turn:
            for slot in instruction.slots():
                used.add((slot.buffer, slot.step_stride != 0))
                slot.buffer.dies = number
                if slot.buffer not in found:
                    found[slot.buffer] = None
                    slot.buffer.born = number
            number += 1
        for buffer, moves in used if isinstance(one, Loop) else ():
            # What was there before the loop, or moves on in it, is needed at each of its steps.
            if moves or buffer.born < start:
                buffer.dies = number - 1
                buffer.born = min(buffer.born, start)
    return place_buffers(found)
