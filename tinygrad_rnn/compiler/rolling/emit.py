"""The graph with its loops as calls: what the results need, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np

from ..ir.graph import LOOP, LOOP_WITH_DRAWS, Body, Call, Graph, Rewriter, Value
from ..ir.operators import CONCATENATE, GETITEM, RESHAPE, STACK, TRANSPOSE, UNSTACK
from .families import Families, Listed, Parts, Results, Slices
from .loop import Family, Inner, Past, Read, Rolled, Same, Slice
from .needs import Join, Needs, looked_through
from .numbering import ZERO, Node, with_operands


class CircleError(Exception):
    """Loops, or calls that draw, wait for each other.

    Attributes:
        loops: that are part of it.
    """

    def __init__(self, loops: list[Rolled]) -> None:
        super().__init__()
        self.loops = loops


def emitted(graph: Graph, families: Families, nodes: list[Node]) -> Graph:
    """Return the graph with calls of loops.

    Args:
        graph: what was recorded.
        families: which know what the loops compute.
        nodes: of the graph, in their order.

    Raises:
        CircleError: if there is no order in which each call follows those that it needs.
    """
    return _Emission(graph, families, Needs(graph, families, nodes)).graph()


class _Emission:
    """Writes the new graph; one use."""

    def __init__(self, graph: Graph, families: Families, needs: Needs) -> None:
        self.old, self.families, self.needs, self.numbering = graph, families, needs, families.numbering
        self.new = Rewriter(graph)
        self._made: dict[int, Any] = {}
        self._results: dict[tuple[Rolled, int, int, int], Value] = {}
        self._last: dict[tuple[Rolled, int, int], Value] = {}
        self._wholes: dict[Family, Value] = {}
        self._parts: dict[Any, Any] = {}

    def graph(self) -> Graph:
        """Return the new graph."""
        for item in self._ordered():
            if isinstance(item, Rolled):
                self._loop(item)
            else:
                self._node(item)
        outputs = [self.get(self.numbering.of(value)) for value in self.old.outputs]
        return Graph(self.old.inputs, self.new.calls, outputs, self.old.captured)

    # -- order --------------------------------------------------------------------------------------------------------

    def _ordered(self) -> list[Node | Rolled]:
        """Return what is to be written in an order in which each follows what it needs, near to the old one."""
        after: dict[Node | Rolled, Node | Rolled] = {}
        drawn = self.needs.drawn
        for before, item in pairwise(drawn):
            if item in after and after[item] is not before:
                raise CircleError([part for part in (before, item) if isinstance(part, Rolled)])
            after[item] = before
        done: set[Node | Rolled] = set()
        opened: dict[Node | Rolled, None] = {}
        ordered: list[Node | Rolled] = []
        for first in self.needs.items():
            waiting: list[Node | Rolled] = [first]
            while waiting:
                item = waiting[-1]
                if item in done:
                    waiting.pop()
                    continue
                missing = [other for other in self._before(item) if other not in done]
                if item in after and after[item] not in done:
                    missing.append(after[item])
                if not missing:
                    waiting.pop()
                    done.add(item)
                    opened.pop(item, None)
                    ordered.append(item)
                elif item in opened:
                    raise CircleError([part for part in opened if isinstance(part, Rolled)])
                else:
                    opened[item] = None
                    waiting.extend(missing)
        return ordered

    def _before(self, item: Node | Rolled) -> Iterator[Node | Rolled]:
        """Yield what must be written before."""
        numbers, some = self.needs.inputs(item)
        for family in some:
            if isinstance(family, Results):
                yield family.loop
            else:
                numbers = [*numbers, *family.base]
        for number in numbers:
            home = self.families.home.get(number)
            made = self.numbering.pulled(number)
            if home is not None:
                yield home[0]
            elif made is not None:
                yield made[0]

    # -- values -------------------------------------------------------------------------------------------------------

    def get(self, number: int) -> Any:
        """Return the value with a number in the new graph, or the Python number."""
        if number in self._made:
            return self._made[number]
        home = self.families.home.get(number)
        if home is None:
            return self.numbering.values[number]
        loop, slot, index, step = home
        if step == loop.steps - 1 and (loop, slot, index) in self._last:
            return self._last[loop, slot, index]
        whole, time = self._results[loop, slot, index, 0], loop.time(step)
        if len(self.needs.single[loop, slot, index]) == 1:
            made = self.new.call(GETITEM, [whole], {"index": time}).output
        else:
            if whole not in self._parts:
                self._parts[whole] = self.new.call(UNSTACK, [whole], {"axis": 0}).outputs
            made = self._parts[whole][time]
        self._made[number] = made
        return made

    def _whole(self, family: Family) -> Value:
        """Return the array of a family, the axis along which it goes first."""
        found = self._wholes.get(family)
        if found is None:
            found = self._wholes[family] = self._array_of(family)
        return found

    def _array_of(self, family: Family) -> Value:
        if isinstance(family, Results):
            return self._results[family.loop, family.slot, family.index, family.lag]
        if isinstance(family, Listed):
            values = list(map(self.get, family.base))
            if family.dtype is not None:
                array = np.array(values).astype(family.dtype)
                return Value(array.shape, array.dtype, constant=array)
            if all(value.constant is not None for value in values):
                array = np.stack([value.constant for value in values])
                return Value(array.shape, array.dtype, constant=array)
            return self.new.call(STACK, values, {"axis": 0}).output
        assert isinstance(family, Parts | Slices)
        call, whole = family.node.call, self.get(family.node.operands[0])
        if isinstance(family, Slices):
            return self._first(*self._without_hole(family, whole))
        axis = call.attrs["axis"] % whole.ndim
        if call.name == "split":
            length = whole.shape[axis] // family.length
            shape = (*whole.shape[:axis], family.length, length, *whole.shape[axis + 1 :])
            whole = self.new.call(RESHAPE, [whole], {"shape": shape}).output
        return self._first(whole, axis)

    def _without_hole(self, family: Slices, whole: Value) -> tuple[Value, int]:
        """Return an array indexed like the slices of a family, but along its whole axis, and where that is now."""
        index = family.node.call.attrs["index"]
        parts = list(index) if type(index) is tuple else [index]
        parts[family.axis] = slice(None)
        axis = sum(type(part) is not int for part in parts[: family.axis])
        if all(part == slice(None) for part in parts):
            return whole, axis
        return self.new.call(GETITEM, [whole], {"index": tuple(parts)}).output, axis

    def _first(self, whole: Value, axis: int) -> Value:
        """Return an array with an axis moved to the front."""
        if axis == 0:
            return whole
        order = (axis, *(a for a in range(whole.ndim) if a != axis))
        return self.new.call(TRANSPOSE, [whole], {"axes": order}).output

    def _along(self, family: Family, start: int, step: int, count: int) -> Value:
        """Return elements start, start + step, ... of a family, stacked."""
        if (start, step, count) == (0, 1, family.length):
            return self._whole(family)
        key = family, start, step, count
        if key not in self._parts:
            end: int | None = start + step * count
            part = slice(start, None if end is not None and end < 0 else end, step)
            self._parts[key] = self.new.call(GETITEM, [self._whole(family)], {"index": part}).output
        found: Value = self._parts[key]
        return found

    # -- calls --------------------------------------------------------------------------------------------------------

    def _node(self, node: Node) -> None:
        join = self.needs.joins.get(node)
        if join is not None:
            self._made[node.outs[0]] = self._joined(node, join)
            return
        call = _copy(node.call, map(self.get, node.operands), node.call.place)
        self.new.calls.append(call)
        self._made.update(zip(node.outs, call.outputs, strict=True))

    def _joined(self, node: Node, join: Join) -> Value:
        """Return what a stack, or a concatenation, makes of elements of families."""
        new, call = self.new, node.call
        parts = []
        for family, start, step, count in join:
            if family is None:
                value = self.get(start)
                parts.append(new.call(RESHAPE, [value], {"shape": (1, *value.shape)}).output)
            else:
                parts.append(self._along(family, start, step, count))
        whole = parts[0] if len(parts) == 1 else new.call(CONCATENATE, parts, {"axis": 0}).output
        axis = call.attrs["axis"] % call.output.ndim
        if axis:
            order = (*range(1, axis + 1), 0, *range(axis + 1, whole.ndim))
            whole = new.call(TRANSPOSE, [whole], {"axes": order}, place=call.place).output
        if call.name == "concatenate":
            whole = new.call(RESHAPE, [whole], {"shape": call.output.shape}, place=call.place).output
        return whole

    def _loop(self, loop: Rolled) -> None:
        """Append the call of a loop."""
        need = self.needs.loops[loop]
        writer = _BodyWriter(self, loop)
        carried = [writer.carried(key) for key in need.carried]
        sliced = [writer.sliced(read) for read in need.sliced]
        constants = [writer.constant(number) for number in need.same]
        for slot in sorted(need.slots):
            writer.slot(slot)
        outputs = [writer.after(key) for key in need.carried]
        outputs += [writer.result(*key) for key in need.results]
        pairs = [(inner, outer) for inner, outer in (*carried, *sliced, *constants) if inner is not None]
        graph = Graph([inner for inner, _ in pairs], writer.calls, outputs)
        body = Body(graph, len(carried), len(sliced), loop.steps, loop.reverse)
        inputs = [outer for _, outer in pairs]
        specs = [(value.shape, value.dtype) for value in outputs[: len(carried)]]
        specs += [((loop.steps, *value.shape), value.dtype) for value in outputs[len(carried) :]]
        made = self.new.call(LOOP_WITH_DRAWS if loop.drawn else LOOP, inputs, {"body": body}, specs).outputs
        for (slot, index, lag), value in zip(need.carried, made, strict=False):
            if lag == 1:
                self._last[loop, slot, index] = value
        for key, value in zip(need.results, made[len(carried) :], strict=True):
            self._results[loop, *key] = value


class _BodyWriter:
    """Writes what a loop does at each step; one use."""

    def __init__(self, emission: _Emission, loop: Rolled) -> None:
        self.emission, self.loop, self.numbering = emission, loop, emission.numbering
        self.calls: list[Call] = []
        self._carried: dict[tuple[int, int, int], Value] = {}
        self._sliced: dict[Slice, Value] = {}
        self._same: dict[int, Any] = {}
        self._made: dict[int, tuple[Value, ...]] = {}
        self._views: dict[tuple[Read, int], tuple[Value, ...]] = {}

    def carried(self, key: tuple[int, int, int]) -> tuple[Value, Value]:
        """Return the input of the body for a carried value, and what it is before the first step."""
        slot, index, _ = key
        value, number = self.loop.nodes[slot].call.outputs[index], self.loop.init[key]
        if number == ZERO:
            outer = Value(value.shape, value.dtype, constant=np.zeros(value.shape, value.dtype))
        else:
            outer = self.emission.get(number)
        self._carried[key] = Value(value.shape, value.dtype)
        return self._carried[key], outer

    def sliced(self, read: Slice) -> tuple[Value, Value]:
        """Return the input of the body for a slice, and the array it is a slice of."""
        steps = self.loop.steps
        start, step = read.start, read.step
        if self.loop.reverse:
            start, step = start + step * (steps - 1), -step
        outer = self.emission._along(read.family, start, step, steps)
        self._sliced[read] = Value(outer.shape[1:], outer.dtype)
        return self._sliced[read], outer

    def constant(self, number: int) -> tuple[Value | None, Any]:
        """Return the input of the body for what is the same at each step, and its value; None: it needs no input."""
        outer = self.emission.get(number)
        if not isinstance(outer, Value) or outer.constant is not None:
            self._same[number] = outer
            return None, outer
        inner = self._same[number] = Value(outer.shape, outer.dtype, name=outer.name)
        return inner, outer

    def slot(self, slot: int) -> None:
        """Append the call of a slot."""
        call = self.loop.nodes[slot].call
        made = _copy(call, map(self.read, self.loop.reads[slot]), (None, call.place[1]))
        self.calls.append(made)
        self._made[slot] = made.outputs

    def read(self, read: Read) -> Any:
        """Return the value of an operand."""
        if isinstance(read, Same):
            return self._same[read.number]
        if isinstance(read, Inner):
            return self._made[read.slot][read.out]
        if isinstance(read, Past):
            return self._carried[read.slot, read.out, read.lag]
        base, view = looked_through(self.emission.families, read)
        return self._sliced[read] if view is None else self._view(base, *view)

    def _view(self, base: Read, node: Node, index: int) -> Value:
        """Look anew at what a view looks at that another loop has made."""
        key = base, node.static
        if key not in self._views:
            made = _copy(node.call, [self.read(base)], (None, node.call.place[1]))
            self.calls.append(made)
            self._views[key] = made.outputs
        return self._views[key][index]

    def result(self, slot: int, index: int, lag: int) -> Value:
        """Return the value of a result of a slot, or what it was `lag` steps before."""
        if lag:
            return self._carried[slot, index, lag]
        stand = self.loop.stands.get(slot)
        if isinstance(stand, Same):
            stand = Same(self.loop.nodes[slot].outs[index])
        value: Value = self.read(Inner(slot, index) if stand is None else stand)
        return value

    def after(self, key: tuple[int, int, int]) -> Value:
        """Return what a carried value is after the step."""
        slot, index, lag = key
        return self.result(slot, index, lag - 1)


def _copy(call: Call, operands: Any, place: Any) -> Call:
    """Return a call with other operands."""
    inputs, attrs = with_operands(call, operands)
    made = Call(call.operator, inputs, attrs, [(value.shape, value.dtype) for value in call.outputs], place)
    made.cotangent = call.cotangent
    return made
