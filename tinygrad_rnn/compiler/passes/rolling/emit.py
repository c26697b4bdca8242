"""Emission of the graph with loops as calls, on demand: only what the results need becomes part of it.

A result that is demanded of a loop is added to its body, and the operands of that are demanded in turn. Values of the
old graph are used until the end; then results of loops replace them, and the calls are sorted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from itertools import groupby
from typing import Any

import numpy as np

from ....engine.tape import Array
from ...ir.editing import OpenLoop, State
from ...ir.graph import LOOP, LOOP_WITH_DRAWS, Body, Call, Graph, Origin, Rewriter, Value
from ...ir.operators import CONCATENATE, GETITEM, RESHAPE, STACK, TRANSPOSE, UNSTACK
from ...ir.order import CycleError, sort
from .loop import Carried, Invariant, Key, Local, Read, Rolled, Series, resolved
from .numbering import ZERO, Node, with_operands
from .series import Join, Listed, Parts, Results, SeriesTable, Slices, join_of, looked_through


class ConflictError(Exception):
    """Loops, or calls that draw, depend on each other.

    Attributes:
        loops: the loops that do.
    """

    def __init__(self, loops: list[Rolled]) -> None:
        super().__init__()
        self.loops = loops


def emitted(graph: Graph, table: SeriesTable, nodes: list[Node]) -> Graph:
    """Return the graph with calls of loops.

    Args:
        graph: the recorded graph.
        table: the loops, and what they compute.
        nodes: of the graph, in their order.

    Raises:
        ConflictError: if the calls have no topological order.
    """
    return _Emission(graph, table).graph(nodes)


class _Emission:
    """Writes the new graph; one use."""

    def __init__(self, graph: Graph, table: SeriesTable) -> None:
        self.old, self.table, self.numbering = graph, table, table.numbering
        self.new = Rewriter(graph)
        self.loops: dict[Rolled, _Loop] = {}
        self._places: dict[Call, int] = {}
        self._seen: set[int] = set()
        self._appended: set[int] = set()  # the first result of each node that was appended
        self._waiting: list[Callable[[], None]] = []
        self._single: dict[tuple[Rolled, int, int], dict[int, Value]] = {}  # results that are read at single steps
        self._alone: dict[tuple[Rolled, int, int], Node] = {}  # those that are read at one step only
        self._arrays: dict[object, Value] = {}

    def graph(self, nodes: list[Node]) -> Graph:
        """Return the new graph."""
        drawn = [node for node in nodes if not node.call.operator.pure]
        homes = [self.table.home.get(node.outs[0]) for node in drawn]
        order = [loop for loop, _ in groupby(home[0] if home else None for home in homes) if loop]
        if len(set(order)) < len(order):  # another draw comes between two of its steps
            raise ConflictError([loop for loop in order if order.count(loop) > 1])
        for node, home in zip(drawn, homes, strict=True):
            if home is None:
                self.node(node)
            else:
                self.loop(home[0]).result(home[1], home[2])
        outputs = [self.value(self.numbering.of(value)) for value in self.old.outputs]
        while self._waiting or self._alone:
            if self._waiting:
                self._waiting.pop()()
            else:
                self._one_step(*self._alone.popitem())
        self._steps()
        for loop in self.loops.values():
            call = loop.close()
            self.new.calls.append(call)
            self._places[call] = loop.rolled.place
        return self._sorted(outputs)

    def _sorted(self, outputs: list[Value]) -> Graph:
        last = len(self.numbering.nodes)
        calls = sorted(self.new.calls, key=lambda call: self._places.get(call, last))
        new, now = Rewriter(Graph(self.old.inputs, calls, outputs, self.old.captured)), self.new.now
        for value in now:
            found = value
            while found in now:
                found = now[found]
            new.now[value] = found
        for call in calls:
            new.keep(call)
        try:
            return sort(new.done())
        except CycleError as cycle:
            raise ConflictError([loop.rolled for loop in self.loops.values() if loop.call in cycle.calls]) from None

    # -- values -------------------------------------------------------------------------------------------------------

    def later(self, function: Callable[..., None], *arguments: object) -> None:
        """Have a function called later, so that chains of demands need no recursion."""
        self._waiting.append(partial(function, *arguments))

    def value(self, number: int) -> Any:
        """Demand a value; return that of the old graph, or the Python number."""
        if number not in self._seen:
            self._seen.add(number)
            self.later(self._demanded, number)
        return self.numbering.values[number]

    def _demanded(self, number: int) -> None:
        made, home = self.numbering.maker(number), self.table.home.get(number)
        if made is None:
            return
        if home is None:
            self.node(made[0])
            return
        loop, slot, index, step = home
        value, key = self.numbering.values[number], (loop, slot, index)
        if step == loop.steps - 1 and (slot, index) in loop.lags:
            self.new.now[value] = self.loop(loop).state((slot, index, 1)).final
            return
        steps = self._single.setdefault(key, {})
        steps[step] = value
        if len(steps) == 1 and (slot, index, 0) not in self.loop(loop).stacks:
            self._alone[key] = made[0]
        else:
            self._alone.pop(key, None)
            self.loop(loop).stack((slot, index, 0))

    def _one_step(self, result: tuple[Rolled, int, int], node: Node) -> None:
        """Compute a result that is read at one step only outside of the loop, if it does not depend on the loop."""
        loop, slot, index = result
        homes = [self.table.home.get(operand) for operand in node.operands]
        is_free = node.call.operator.pure and all(home is None or home[0] is not loop for home in homes)
        if (slot, index, 0) in self.loop(loop).stacks or not is_free:
            self.loop(loop).stack((slot, index, 0))
            return
        del self._single[result]
        for out in node.outs:
            self.table.home.pop(out, None)
        self.node(node)

    def _steps(self) -> None:
        """Append calls that select single steps from stacks."""
        for (loop, slot, index), steps in self._single.items():
            whole = self.loop(loop).stack((slot, index, 0))
            if len(steps) == 1:
                ((step, value),) = steps.items()
                self.new.now[value] = self.new.call(GETITEM, [whole], {"index": loop.time(step)}).output
                continue
            parts = self.new.call(UNSTACK, [whole], {"axis": 0}).outputs
            self.new.now.update((value, parts[loop.time(step)]) for step, value in steps.items())

    def loop(self, rolled: Rolled) -> _Loop:
        """Return the call of a loop."""
        if rolled not in self.loops:
            self.loops[rolled] = _Loop(self, rolled)
        return self.loops[rolled]

    # -- arrays that loops go along -----------------------------------------------------------------------------------

    def along(self, series: Series, start: int, step: int, count: int) -> Value:
        """Return elements start, start + step, ... of a series, stacked."""
        if (start, step, count) == (0, 1, series.length):
            return self._whole(series)
        key = series, start, step, count
        if key not in self._arrays:
            end = start + step * count
            part = slice(start, None if end < 0 else end, step)
            self._arrays[key] = self.new.call(GETITEM, [self._whole(series)], {"index": part}).output
        return self._arrays[key]

    def _whole(self, series: Series) -> Value:
        """Return the array of a series, with its elements along the first axis."""
        if series not in self._arrays:
            self._arrays[series] = self._array_of(series)
        return self._arrays[series]

    def _array_of(self, series: Series) -> Value:
        if isinstance(series, Results):
            return self.loop(series.loop).stack((series.slot, series.index, series.lag))
        if isinstance(series, Listed):
            values = list(map(self.value, series.base))
            if series.dtype is not None:
                return _constant(np.array(values).astype(series.dtype))
            if all(value.constant is not None for value in values):
                return _constant(np.stack([value.constant for value in values]))
            return self.new.call(STACK, values, {"axis": 0}).output
        assert isinstance(series, Parts | Slices)
        call, whole = series.node.call, self.value(series.node.operands[0])
        if isinstance(series, Slices):
            return self._first(*self._without_hole(series, whole))
        axis = call.attrs["axis"] % whole.ndim
        if call.name == "split":
            length = whole.shape[axis] // series.length
            shape = (*whole.shape[:axis], series.length, length, *whole.shape[axis + 1 :])
            whole = self.new.call(RESHAPE, [whole], {"shape": shape}).output
        return self._first(whole, axis)

    def _without_hole(self, series: Slices, whole: Value) -> tuple[Value, int]:
        """Return an array indexed like the slices of a series but for the axis they vary on, and that axis's number."""
        index = series.node.call.attrs["index"]
        parts = list(index) if type(index) is tuple else [index]
        parts[series.axis] = slice(None)
        axis = sum(type(part) is not int for part in parts[: series.axis])
        if all(part == slice(None) for part in parts):
            return whole, axis
        return self.new.call(GETITEM, [whole], {"index": tuple(parts)}).output, axis

    def _first(self, whole: Value, axis: int) -> Value:
        """Return an array with an axis moved to the front."""
        if axis == 0:
            return whole
        order = (axis, *(a for a in range(whole.ndim) if a != axis))
        return self.new.call(TRANSPOSE, [whole], {"axes": order}).output

    # -- calls outside of loops ---------------------------------------------------------------------------------------

    def node(self, node: Node) -> None:
        """Append the call of a node, once, even if several of its results are demanded."""
        if node.outs[0] in self._appended:
            return
        self._appended.add(node.outs[0])
        join = join_of(self.table, node)
        if join is not None:
            self.new.now[self.numbering.values[node.outs[0]]] = self._joined(node.call, join)
            return
        call = _copy(node.call, map(self.value, node.operands), node.call.place)
        self.new.calls.append(call)
        self._places[call] = node.place
        self.new.now.update(zip((self.numbering.values[n] for n in node.outs), call.outputs, strict=True))
        self._seen.update(node.outs)

    def _joined(self, call: Call, join: Join) -> Value:
        """Return the result of a stack or a concatenation of elements of series."""
        new = self.new
        parts = []
        for series, start, step, count in join:
            if series is None:
                value = self.value(start)
                parts.append(new.call(RESHAPE, [value], {"shape": (1, *value.shape)}).output)
            else:
                parts.append(self.along(series, start, step, count))
        whole = parts[0] if len(parts) == 1 else new.call(CONCATENATE, parts, {"axis": 0}).output
        axis = call.attrs["axis"] % call.output.ndim
        if axis:
            order = (*range(1, axis + 1), 0, *range(axis + 1, whole.ndim))
            whole = new.call(TRANSPOSE, [whole], {"axes": order}, place=call.place).output
        if call.name == "concatenate":
            whole = new.call(RESHAPE, [whole], {"shape": call.output.shape}, place=call.place).output
        return whole


class _Loop:
    """The call of a loop, with the results demanded so far.

    Attributes:
        stacks: for each (slot, index, lag) that is demanded for all steps, its stack.
    """

    def __init__(self, emission: _Emission, rolled: Rolled) -> None:
        self.rolled, self.stacks = rolled, dict[Key, Value]()
        body = Body(Graph([], [], []), 0, 0, rolled.steps, rolled.reverse)
        self.call = Call(LOOP_WITH_DRAWS if rolled.drawn else LOOP, [], {"body": body}, [])
        self._emission, self._open = emission, OpenLoop(self.call)
        self._states: dict[Key, State] = {}
        self._made: dict[int, tuple[Value, ...]] = {}
        self._slots: dict[int, Call] = {}
        self._views: dict[tuple[Read, int], Call] = {}

    def close(self) -> Call:
        """Return the call."""
        self._open.states = list(self._states.values())
        self._open.calls = [*self._views.values(), *(self._slots[slot] for slot in sorted(self._slots))]
        return self._open.close()

    def stack(self, key: Key) -> Value:
        """Return the stack of a result at all steps, or of its values `lag` steps before, in the order of time."""
        if key not in self.stacks:
            slot, index, lag = key
            self.stacks[key] = self._open.stack_of(self.state(key).before if lag else self.result(slot, index))
        return self.stacks[key]

    def state(self, key: Key) -> State:
        """Return the carried value that holds a result for `lag` steps."""
        if key not in self._states:
            slot, index, lag = key
            after = self.state((slot, index, lag - 1)).before if lag > 1 else None
            like, number = self.rolled.nodes[slot].call.outputs[index], self.rolled.init[key]
            initial = _constant(np.zeros(*like.spec)) if number == ZERO else self._emission.value(number)
            state = self._states[key] = State(initial, Value(*like.spec), like, Value(*like.spec, self.call))
            state.after = self.result(slot, index) if after is None else after
        return self._states[key]

    def result(self, slot: int, index: int) -> Value:
        """Return a result of a slot."""
        read = resolved(Local(slot, index), self.rolled.nodes, self.rolled.replaced)
        if not isinstance(read, Local):
            made = self._read(read)
            assert isinstance(made, Value)
            return made
        if slot not in self._made:
            outputs = self.rolled.nodes[slot].call.outputs
            self._made[slot] = tuple([Value(*value.spec) for value in outputs])
            self._emission.later(self._compute, slot)
        return self._made[slot][index]

    def _compute(self, slot: int) -> None:
        """Append the call of a slot."""
        call = self.rolled.nodes[slot].call
        made = self._slots[slot] = _copy(call, map(self._read, self.rolled.reads[slot]), (None, call.place[1]))
        made.outputs = self._made[slot]
        for index, value in enumerate(made.outputs):
            value.maker, value.index = made, index

    def _read(self, read: Read) -> object:
        """Return an operand in the body."""
        if isinstance(read, Invariant):
            outer = self._emission.value(read.number)
            return self._open.constant(outer) if isinstance(outer, Value) else outer
        if isinstance(read, Local):
            return self.result(read.slot, read.out)
        if isinstance(read, Carried):
            return self.state((read.slot, read.out, read.lag)).before
        base, view = looked_through(self._emission.table, read)
        if view is not None:
            node, index = view
            if (base, node.static) not in self._views:
                place = None, node.call.place[1]
                made = _copy(node.call, [self._read(base)], place)
                self._views[base, node.static] = made
            return self._views[base, node.static].outputs[index]
        start, step, steps = read.start, read.step, self.rolled.steps
        if self.rolled.reverse:
            start, step = start + step * (steps - 1), -step
        return self._open.slice_of(self._emission.along(read.series, start, step, steps))


def _constant(array: Array) -> Value:
    return Value(array.shape, array.dtype, constant=array)


def _copy(call: Call, operands: Iterable[object], place: Origin) -> Call:
    """Return a call with other operands."""
    inputs, attrs = with_operands(call, operands)
    made = Call(call.operator, inputs, attrs, [value.spec for value in call.outputs], place)
    made.cotangent = call.cotangent
    return made
