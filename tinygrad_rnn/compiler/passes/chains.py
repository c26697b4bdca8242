"""Chains of elementwise operations on large arrays, such as an optimizer's update, go through them block by block."""

from __future__ import annotations

from typing import Any

from ..graph import Call, Graph, Rewriter, Value
from ..kernels import CHAINED, Chain, chain_operator
from .batch import substitute
from .simplify import sort

_LARGE = 1 << 17  # elements; smaller arrays stay in cache by themselves
_LEAST = 4  # operations; for fewer, going block by block costs more than it saves


def fuse_chains(graph: Graph) -> Graph:
    """Join elementwise operations on arrays of one large shape: each block of them stays in cache for all of them."""
    levels: dict[Any, list[Call]] = {}
    for call, level in _levels(graph).items():
        levels.setdefault((_kind(call), level), []).append(call)
    groups = [group for group in levels.values() if len(group) >= _LEAST]
    if not groups:
        return graph
    uses = graph.uses()
    returned = set(graph.outputs)
    leader = {call: group for group in groups for call in group}
    last = {id(group): group[-1] for group in groups}
    new = Rewriter(graph)
    now: dict[Value, Value] = {}
    for call in graph.calls:
        group = leader.get(call)
        if group is None:
            new.calls.append(call)
        elif call is last[id(group)]:
            now.update(_join(new, group, uses, returned))
    return sort(substitute(new.done(), now))


def _fits(call: Call) -> bool:
    """Return whether a call is elementwise, on a large array and otherwise on arrays of its shape and numbers only."""
    return (
        call.name in CHAINED
        and len(call.outputs) == 1
        and call.output.size >= _LARGE
        and call.output.dtype.kind == "f"
        and all(
            not isinstance(part, Value) or (part.shape in ((), call.output.shape) and part.dtype == call.output.dtype)
            for part in call.inputs
        )
    )


def _kind(call: Call) -> tuple[tuple[int, ...], Any]:
    return call.output.shape, call.output.dtype


def _levels(graph: Graph) -> dict[Call, int]:
    """Return for each call that fits how often its operands left calls of one kind and came back; equal ones join.

    A path from one group to another always climbs, so joined groups never wait for each other.
    """
    level: dict[Value, int] = {}
    kinds: dict[Value, Any] = {}
    found: dict[Call, int] = {}
    for call in graph.calls:
        kind = _kind(call) if _fits(call) else None
        depth = 0
        for value in call.values():
            left = value in kinds and kinds[value] != kind
            depth = max(depth, level.get(value, 0) + left)
        level.update(dict.fromkeys(call.outputs, depth))
        if kind is not None:
            kinds.update(dict.fromkeys(call.outputs, kind))
            found[call] = depth
    return found


def _join(new: Rewriter, group: list[Call], uses: dict[Value, list[Call]], returned: set[Value]) -> dict[Value, Value]:
    """Append one call for a group; return what stands for the results that others read."""
    members = set(group)
    made = {call.output: number for number, call in enumerate(group)}
    inputs: list[Value] = []
    steps: list[tuple[str, tuple[Any, ...]]] = []
    for call in group:
        operands: list[Any] = []
        for part in call.inputs:
            if not isinstance(part, Value):
                operands.append(part)
            elif part in made:
                operands.append(("step", made[part]))
            else:
                if part not in inputs:
                    inputs.append(part)
                operands.append(("input", inputs.index(part)))
        steps.append((call.name, tuple(operands)))
    wanted = [
        number
        for number, call in enumerate(group)
        if call.output in returned or any(user not in members for user in uses.get(call.output, ()))
    ]
    if not wanted:
        return {}
    chain = Chain(tuple(steps), tuple(wanted))
    specs = [(group[number].output.shape, group[number].output.dtype) for number in wanted]
    call = new.call(chain_operator(chain), inputs, {}, specs, group[-1].place)
    return {group[number].output: value for number, value in zip(wanted, call.outputs, strict=True)}
