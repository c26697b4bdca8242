"""What recordings of a function have found out about its loops, for those that follow.

What the backward pass of a loop does at a step follows from the calls of the loop's own step, and from where gradients
go in it. Both are the same for another T, as a rule, to the last number; then the body that an earlier recording has
found is taken, and no rule runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple
from weakref import ref

from ...engine.primitive import Primitive
from ...engine.tape import Array, Edge, node_count
from ...engine.walk import ancestors
from ..ir.graph import LOOP, Body, Call, Graph, Value, map_attrs
from ..ir.operators import operator_of
from ..plans.skeleton import Skeleton, key_of, skeleton
from .frames import Frame

_MOST = 64  # backward passes that are kept, the newest


class Pulled(NamedTuple):
    """The backward pass of a loop.

    Attributes:
        body: of the backward loop.
        sources: what the slices and constants of the backward loop are, by their places in `_values`.
        states: numbers of the carried values that get a cotangent.
        reached: numbers of the inputs of the loop to which a cotangent comes.
        seen: writable arrays from elsewhere that its rules have used.
    """

    body: Body
    sources: list[int]
    states: list[int]
    reached: set[int]
    seen: list[ref[Array]]

    def operands(self, frame: Frame, given: Sequence[Value]) -> list[Value]:
        """Return the slices and constants that the backward loop reads; the loop with this body stacks its share."""
        outer, inner = _values(frame, given)
        return [outer[n] if n < len(outer) else frame.stack(inner[n - len(outer)], None) for n in self.sources]


class Known:
    """What recordings of a function have found out; each adds to it.

    Args:
        shares: whether recordings share the bodies of backward passes, so that `own` comes before all passes.

    Attributes:
        verified: hashes of the forms of steps of which a second call has found the same.
    """

    def __init__(self, shares: bool = False) -> None:
        self.shares = shares
        self.verified: set[int] = set()
        self._pulled: dict[object, Pulled] = {}

    def pulled(self, key: object) -> Pulled | None:
        """Return a backward pass, unless its rules have used an array that somebody can still write to."""
        found = self._pulled.get(key)
        return None if found is None or any(array() is not None for array in found.seen) else found

    def keep(self, key: object, call: Call, frame: Frame, given: Sequence[Value], found: Pulled) -> None:
        """Take note of `call`, the backward pass of the loop with the body `frame`, if it would be the same again.

        Of what is found, the sources are added.
        """
        n = len(frame.carried)
        assert frame.call is not None
        stacks = dict(zip(frame.call.outputs[n:], frame.results[n:], strict=True))
        numbers = _numbers(frame, given)
        sources = [numbers.get(stacks.get(value, value), -1) for value in call.inputs[found.body.carried :]]
        read = {value for one in frame.calls for value in one.values()}
        if call.operator is LOOP and -1 not in sources and read.isdisjoint(_constants(found.body.graph)):
            graph = copied(found.body.graph)
            graph.skeleton = skeleton(graph)
            self._pulled[key] = found._replace(body=replace(found.body, graph=graph), sources=sources)
            if len(self._pulled) > _MOST:
                del self._pulled[next(iter(self._pulled))]


def key_of_pull(
    form: Skeleton,
    frame: Frame,
    leaves: Iterable[Edge | None],
    given: Sequence[Value],
    value_at: Callable[[Edge], Value],
    others: object,
) -> object:
    """Return what the body of the backward pass of a loop follows from, the rules aside; None: from more than that.

    Args:
        form: of the body of the loop, with its numbers and constants.
        frame: the body.
        leaves: for each input of the loop, what stands for it in the body.
        given: stacks of cotangents.
        value_at: returns the value that an edge leads to.
        others: which cotangents there are, and which are wanted.
    """
    numbers = _numbers(frame, given)
    order = ancestors(edge[0] for edge in frame.edges if edge is not None)
    places = {node: number for number, node in enumerate(order)}

    def place(edge: Edge | None) -> object:
        return None if edge is None else (places.get(edge[0]), edge[1])

    nodes: list[object] = []
    for node in order:
        value, operation = value_at((node, 0)), node.operation
        if isinstance(operation, Primitive):  # then the call says what the node keeps
            if value.maker is None or value.maker.operator is not operator_of(operation):
                return None
        elif operation is not None:
            return None
        nodes.append((numbers.get(value), operation and operation.pull, *map(place, node.edges)))
    return (
        (form.form, form.numbers.tobytes(), *map(key_of, form.constants)),
        (*[call.place for call in frame.calls],),
        (*nodes, *map(place, frame.edges), *map(place, leaves)),
        (*[(value.shape[1:], value.dtype, numbers[value]) for value in given],),
        others,
    )


def own(graph: Graph) -> Graph:
    """Return a graph whose loops have got bodies of their own, where other recordings share them."""
    for call in graph.calls:
        if call.name == "loop" and call.attrs["body"].graph.skeleton is not None:
            body: Body = call.attrs["body"]
            call.attrs = {"body": replace(body, graph=copied(body.graph))}
    return graph


def copied(graph: Graph) -> Graph:
    """Return a copy of the body of a loop."""
    sums: dict[object, tuple[int, int]] = {}
    now = {value: Value(value.shape, value.dtype, name=value.name) for value in graph.inputs}
    now |= {value: Value(value.shape, value.dtype, constant=value.constant) for value in _constants(graph)}

    def get(part: object) -> object:
        return now[part] if isinstance(part, Value) else part

    calls = []
    for call in graph.calls:
        specs = [value.spec for value in call.outputs]
        new = Call(call.operator, map(get, call.inputs), map_attrs(get, call.attrs), specs, call.place)
        calls.append(new)
        new.cotangent = call.cotangent and sums.setdefault(call.cotangent, (node_count(), 0))
        now.update(zip(call.outputs, new.outputs, strict=True))
    return Graph([now[value] for value in graph.inputs], calls, [now[value] for value in graph.outputs])


def _constants(graph: Graph) -> list[Value]:
    """Return the constants that the calls of a body read, and those that it returns."""
    read = [value for call in graph.calls for value in call.values()]
    return [value for value in (*read, *graph.outputs) if value.constant is not None]


def _values(frame: Frame, given: Sequence[Value]) -> tuple[list[Value], list[Value]]:
    """Return what the backward pass of a loop can read outside of the loop, and in the body of it."""
    made = [value for call in frame.calls for value in call.outputs]
    inner = [*frame.carried, *frame.slices.values(), *frame.constants.values(), *made]
    return [*given, *frame.slices, *frame.constants], inner


def _numbers(frame: Frame, given: Sequence[Value]) -> dict[Value, int]:
    """Return the places of those values, outer ones first; of one that is there twice, the first."""
    outer, inner = _values(frame, given)
    return {value: number for number, value in reversed([*enumerate([*outer, *inner])])}
