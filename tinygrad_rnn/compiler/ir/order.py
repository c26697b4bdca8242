"""Topological order of the calls of a graph."""

from __future__ import annotations

from itertools import pairwise

from .graph import Call, Graph


class CycleError(RuntimeError):
    """Calls depend on each other in a cycle.

    Attributes:
        calls: a path of dependencies that ends in the cycle: each call needs the one after it.
    """

    def __init__(self, calls: list[Call]) -> None:
        super().__init__(
            f"compile: {calls[-1]} needs its own result: a pass joined calls that depend on each other; report it"
        )
        self.calls = calls


def sort(graph: Graph) -> Graph:
    """Put the calls into topological order, as close to the old order as possible.

    Raises:
        CycleError: if calls depend on each other in a cycle.
    """
    place = {call: number for number, call in enumerate(graph.calls)}
    needs = {call: [v.maker for v in call.values() if v.maker is not None] for call in graph.calls}
    draws = [call for call in graph.calls if not call.operator.pure]
    for before, call in pairwise(draws):  # draws from a generator keep their order
        needs[call].append(before)
    done: set[Call] = set()
    opened: set[Call] = set()
    ordered: list[Call] = []
    for first in graph.calls:
        waiting = [first]
        while waiting:
            call = waiting[-1]
            if call in done:
                waiting.pop()
                continue
            missing = [maker for maker in needs[call] if maker not in done]
            if not missing:
                waiting.pop()
                done.add(call)
                ordered.append(call)
            elif call in opened:
                raise CycleError([one for one in waiting if one in opened and one not in done])
            else:
                opened.add(call)
                waiting.extend(sorted(set(missing), key=lambda c: -place[c]))
    return graph.with_calls(ordered)
