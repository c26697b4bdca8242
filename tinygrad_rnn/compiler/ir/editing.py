"""Editing of loops: a loop taken apart, so that passes can move calls into it and out of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from .graph import Body, Call, Graph, Rewriter, Value


@dataclass
class State:
    """A carried value: before the first step, before a step, after a step, after the last step."""

    initial: Value
    before: Value
    after: Value
    final: Value


class OpenLoop:
    """A loop taken apart; `close` writes the parts back into its call.

    Attributes:
        call: the loop.
        body: the body as it was.
        states: carried values.
        slices, constants: for each such input of the body, the value outside.
        stacks: pairs of a value that each step returns, and the stack of it that the loop returns.
        calls: those of the body.
    """

    def __init__(self, call: Call) -> None:
        self.call = call
        self.body: Body = call.attrs["body"]
        graph, n, m = self.body.graph, self.body.carried, self.body.sliced
        rows = zip(call.inputs[:n], graph.inputs[:n], graph.outputs[:n], call.outputs[:n], strict=True)
        self.states = [State(*row) for row in rows]
        pairs = list(zip(graph.inputs[n:], call.inputs[n:], strict=True))
        self.slices: dict[Value, Value] = dict(pairs[:m])
        self.constants: dict[Value, Value] = dict(pairs[m:])
        self.stacks: list[tuple[Value, Value]] = list(zip(graph.outputs[n:], call.outputs[n:], strict=True))
        self.calls = list(graph.calls)

    @property
    def steps(self) -> int:
        """The number of steps, T."""
        return self.body.steps

    def slice_of(self, outer: Value) -> Value:
        """Return the input of the body that is a slice of an array outside; it is added if there is none."""
        return _input_for(self.slices, outer, outer.shape[1:])

    def constant(self, outer: Value) -> Value:
        """Return the input of the body that is a value outside; it is added if there is none."""
        return outer if outer.constant is not None else _input_for(self.constants, outer, outer.shape)

    def stack_of(self, value: Value) -> Value:
        """Return the stack (T, ...) of a value of the body: what it is a slice of, or what the loop returns."""
        if value in self.slices:
            return self.slices[value]
        for made, stack in self.stacks:
            if made is value:
                return stack
        stack = Value((self.steps, *value.shape), value.dtype, self.call)
        self.stacks.append((value, stack))
        return stack

    def outside(self, part: object) -> tuple[object, bool]:
        """Return an operand of the body for all steps at once, and whether it is stacked along time."""
        if not isinstance(part, Value) or part.constant is not None:
            return part, False
        if part in self.constants:
            return self.constants[part], False
        return self.stack_of(part), True

    def uses(self) -> dict[Value, list[Call]]:
        """Return for each value the calls of the body that read it; see `Graph.uses`."""
        return Graph([], self.calls, []).uses()

    def substitute(self, now: dict[Value, Value]) -> None:
        """Replace values of the body by others."""
        if now:
            new = Rewriter(Graph([], self.calls, []))
            new.now.update(now)
            for call in self.calls:
                new.keep(call)
            for state in self.states:
                state.after = new.get(state.after)
            self.stacks = [(new.get(value), stack) for value, stack in self.stacks]

    def close(self) -> Call:
        """Write the parts back into the call, and return it."""
        call = self.call
        inputs = [*(state.before for state in self.states), *self.slices, *self.constants]
        outputs = [*(state.after for state in self.states), *(value for value, _ in self.stacks)]
        call.inputs = (*(state.initial for state in self.states), *self.slices.values(), *self.constants.values())
        call.outputs = (*(state.final for state in self.states), *(stack for _, stack in self.stacks))
        for number, value in enumerate(call.outputs):
            value.maker, value.index = call, number
        graph = Graph(inputs, self.calls, outputs)
        call.attrs = {"body": replace(self.body, graph=graph, carried=len(self.states), sliced=len(self.slices))}
        return call


def _input_for(kind: dict[Value, Value], outer: Value, shape: tuple[int, ...]) -> Value:
    for inner, found in kind.items():
        if found is outer:
            return inner
    inner = Value(shape, outer.dtype, name=outer.name)
    kind[inner] = outer
    return inner


Edit = Callable[[OpenLoop, Rewriter, Rewriter], None]
"""Edits a loop; appends calls that belong before it to the first rewriter, and those that follow it to the second."""


def edit_loops(graph: Graph, edit: Edit) -> Graph:
    """Return a graph with each of its loops edited."""
    if not any(call.name == "loop" for call in graph.calls):
        return graph
    new = Rewriter(graph)
    for call in graph.calls:
        if call.name != "loop":
            new.keep(call)
            continue
        call.inputs = tuple(map(new.get, call.inputs))
        loop, after = OpenLoop(call), Rewriter(graph)
        edit(loop, new, after)
        new.calls += [loop.close(), *after.calls]
        new.now.update(after.now)
    return new.done()


def in_bodies(function: Callable[[Graph], Graph], graph: Graph) -> Graph:
    """Return a graph with a pass applied to the bodies of its loops, and then to the graph itself."""
    for call in graph.calls:
        if call.name == "loop":
            body: Body = call.attrs["body"]
            inner = function(body.graph)
            if inner is not body.graph:
                call.attrs = {"body": replace(body, graph=inner)}
    return function(graph)
