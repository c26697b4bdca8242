"""Donated inputs, and the results that are written over them.

A result is written over a donated input if it is an elementwise update of it, and nobody reads the input afterwards.
All such updates come at the end of a plan, after everything that can fail, so that an error leaves the inputs as they
were.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ..ir.graph import Call, Graph, Value
from ..ir.table import IN_PLACE, VIEWS

_ALIASES = VIEWS | {"stack"}  # a stack of operands that lie in order is a view too


class Placed(NamedTuple):
    """A graph that ends with updates in place.

    Attributes:
        graph: its calls, those of the updates last.
        first: number of the first of these.
        over: call to the input that its result is written over.
    """

    graph: Graph
    first: int
    over: dict[Call, Value]


def placed_over(graph: Graph, donated: Sequence[Value]) -> Placed:
    """Return a graph in which results are written over donated inputs, as far as that is possible."""
    over = dict(_candidates(graph, donated))
    uses = graph.uses()
    while True:
        late = _late(graph, over, uses)
        calls = [*(c for c in graph.calls if c not in late), *(c for c in graph.calls if c in late)]
        wrong = {call for call in over if call not in late} | _read_later(graph, calls, over)
        if not wrong:
            return Placed(graph.with_calls(calls), len(calls) - len(late), over)
        # Drop one at a time, the last: with its result written elsewhere, others may be possible.
        del over[next(call for call in reversed(calls) if call in wrong)]


def _candidates(graph: Graph, donated: Sequence[Value]) -> Iterator[tuple[Call, Value]]:
    """Yield calls whose results are elementwise updates of donated inputs, each with the nearest of its shape."""
    inputs = set(donated)
    known = set(graph.calls)
    pairs: list[tuple[int, int, Call, Value]] = []
    for number, output in enumerate(dict.fromkeys(graph.outputs)):
        call = output.maker
        if call not in known or call is None or not _may_update(call):
            continue
        seen: set[Value] = set()
        level = [output]
        depth = 0
        while level:
            operands = [part for value in level for part in _operands(value, known)]
            level = [value for value in dict.fromkeys(operands) if value not in seen]
            seen.update(level)
            pairs += [(depth, number, call, value) for value in level if value in inputs and value.spec == output.spec]
            depth += 1
    taken: set[Call | Value] = set()
    for _, _, call, value in sorted(pairs, key=lambda pair: pair[:2]):
        if call not in taken and value not in taken:
            taken |= {call, value}
            yield call, value


def _may_update(call: Call) -> bool:
    """Return whether a call has one result, which may be written over an operand."""
    return len(call.outputs) == 1 and call.operator.pure and (call.name in IN_PLACE or call.operator.over is not None)


def _operands(value: Value, known: set[Call]) -> list[Value]:
    """Return the operands of an elementwise result that have its shape."""
    call = value.maker
    if call is None or call not in known or not _may_update(call):
        return []
    parts = call.inputs if call.name in IN_PLACE else call.inputs[:1]
    return [part for part in parts if isinstance(part, Value) and part.shape == value.shape]


def _late(graph: Graph, over: dict[Call, Value], uses: dict[Value, list[Call]]) -> set[Call]:
    """Return the updates, and the elementwise calls that only they need."""
    late: set[Call] = set()
    returned = set(graph.outputs)
    for call in reversed(graph.calls):
        if not _may_update(call):
            continue
        readers = uses.get(call.output, [])
        wanted = call in over or (call.output not in returned and len(readers) > 0)
        if wanted and all(reader in late for reader in readers):
            late.add(call)
    return late


def _read_later(graph: Graph, calls: Sequence[Call], over: dict[Call, Value]) -> set[Call]:
    """Return the calls that cannot write over an input: it is read after them, or by them in another order."""
    number = {call: place for place, call in enumerate(calls)}
    writer = {value: call for call, value in over.items()}
    part_of: dict[Value, set[Value]] = {value: {value} for value in writer}  # what it may be a view of
    wrong: set[Call] = set()
    for call in calls:
        read: set[Value] = set()
        for value in call.values():
            read |= part_of.get(value, set())
        for value in read:
            by = writer[value]
            if number[call] > number[by]:
                wrong.add(by)
            elif call is by:
                operands = call.inputs if call.name in IN_PLACE else call.inputs[:1]
                plain = sum(part is value for part in operands)
                touched = sum(value in part_of.get(part, ()) for part in call.values())
                if plain != touched:
                    wrong.add(by)
        if read and call.name in _ALIASES:
            for output in call.outputs:
                part_of[output] = set(read)
    for value in graph.outputs:
        wrong.update(writer[part] for part in part_of.get(value, ()))
    return wrong
