"""Stacks that share operands share memory: the states before the steps and behind them are one array, seen twice."""

from __future__ import annotations

from ..graph import Call, Graph, Rewriter, Value
from ..operators import GETITEM, STACK
from .batch import substitute
from .simplify import sort


def share_stacks(graph: Graph) -> Graph:
    """Join stacks whose operands overlap like h0..h(T-1) and h1..hT into one, of which each is a slice."""
    runs: list[list[Value]] = []
    spans: dict[Call, tuple[list[Value], int]] = {}
    for call in graph.calls:
        operands = [part for part in call.inputs if isinstance(part, Value)]
        alike = len({(part.shape, part.dtype) for part in operands}) == 1
        if call.name != "stack" or call.attrs["axis"] != 0 or not alike or len(set(operands)) < len(call.inputs):
            continue
        for run in runs:
            start = _fit(run, operands)
            if start is not None:
                break
        else:
            run, start = operands[:], 0
            runs.append(run)
        if start < 0:
            run[:0] = operands[:-start]
            spans = {c: (r, s - start if r is run else s) for c, (r, s) in spans.items()}
            start = 0
        run.extend(operands[len(run) - start :])
        spans[call] = (run, start)
    shared = [run for run in runs if sum(r is run for r, _ in spans.values()) > 1]
    shared = [run for run in shared if _is_free(graph, run, [call for call, (r, _) in spans.items() if r is run])]
    if not shared:
        return graph
    new = Rewriter(graph)
    new.calls = list(graph.calls)
    now: dict[Value, Value] = {}
    for run in shared:
        whole = new.call(STACK, run, {"axis": 0}).output
        for call, (r, start) in spans.items():
            if r is run:
                index = (slice(start, start + len(call.inputs)),)
                now[call.output] = new.call(GETITEM, [whole], {"index": index}).output
    return sort(substitute(Graph(graph.inputs, new.calls, graph.outputs, graph.captured), now))


def _is_free(graph: Graph, run: list[Value], stacks: list[Call]) -> bool:
    """Return whether no operand of the joined stack needs one of the stacks (as attention to past states does)."""
    operands, reached = set(run), {call.output for call in stacks}
    for call in graph.calls:
        if any(value in reached for value in call.values()):
            reached.update(call.outputs)
    return not operands & reached


def _fit(run: list[Value], operands: list[Value]) -> int | None:
    """Return where operands begin in a run (below 0: before it) if they overlap in order, else None."""
    place = {value: number for number, value in enumerate(run)}
    shared = [(number, place[value]) for number, value in enumerate(operands) if value in place]
    if len(shared) < 2 or (run[0].shape, run[0].dtype) != (operands[0].shape, operands[0].dtype):
        return None
    start = shared[0][1] - shared[0][0]
    lo, hi = max(0, -start), min(len(operands), len(run) - start)
    if [number for number, _ in shared] != list(range(lo, hi)) or any(p - n != start for n, p in shared):
        return None
    return start
