"""The walk backward over a recorded graph.

It knows nothing of tensors. To record the backward pass itself, `pull_back` is given `lift`, which turns an array and
its place in the graph into a value that records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from ..errors import GradientError
from .tape import Array, Changed, Node, Spec, check_finite, context


def ancestors(nodes: Iterable[Node]) -> list[Node]:
    """Return every node reachable from `nodes`, themselves included, newest first (a topological order)."""
    found: dict[int, Node] = {}
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        if node.id not in found:
            found[node.id] = node
            waiting += [edge[0] for edge in node.edges if edge is not None and edge[0].id not in found]
    return [found[key] for key in sorted(found, reverse=True)]


Lift = Callable[[Array, tuple[Node, int]], Any]
"""Turns an array and its place in the graph (node, output index) into a value that records."""

Observer = Callable[[Node, int, Any], None]
"""Sees what each edge carries back: (node, number of its input, cotangent that its rule sends to that input)."""


def pull_back(
    seeds: Sequence[tuple[tuple[Node, int], Any]],
    wanted: Iterable[tuple[Node, int]] | None = None,
    lift: Lift | None = None,
    consume: bool = False,
    observe: Observer | None = None,
) -> dict[tuple[Node, int], Any]:
    """Carry cotangents from `seeds` to the wanted places of the graph.

    Reverse accumulation: for each node, newest first, cotangent(input) += rule(cotangent(output)).

    Args:
        seeds: pairs of a place (node, output index) and the cotangent that starts there.
        wanted: places whose cotangent is returned; None means every leaf.
        lift: given, the rules run on values that record, so that the result can be differentiated again.
        consume: drop what each node keeps as soon as its rule has run.
        observe: shown what each edge carries, before the terms of a node that is used several times are added up.

    Returns:
        A table from place to cotangent; a place that nothing reaches is absent.

    Raises:
        GradientError: if a node of the graph was consumed before, or a rule returns a wrong shape.
        NonFiniteError: in anomaly mode, if a cotangent is not finite.
    """
    nodes = ancestors(place[0] for place, _ in seeds)
    targets = {(node, 0) for node in nodes if node.operation is None} if wanted is None else set(wanted)
    useful = {
        node for node, _ in targets
    }  # grows to the nodes from which a target can be reached: only these are walked
    for node in reversed(nodes):
        if any(edge is not None and edge[0] in useful for edge in node.edges):
            useful.add(node)

    table = _Cotangents(in_place=lift is None)
    for (node, index), cotangent in seeds:
        if node in useful:
            table.add(node, index, cotangent)

    found: dict[tuple[Node, int], Any] = {}
    for node in nodes:
        cotangents = table.pop(node)
        if cotangents is None:
            continue
        for index, value in enumerate(cotangents):
            if value is not None and (node, index) in targets:
                found[node, index] = value
        needs = [edge is not None and edge[0] in useful for edge in node.edges]
        if node.operation is None or not any(needs):
            continue
        if node.consumed:
            raise GradientError(
                f"backward: the graph behind {node.name} (recorded at {node.where()}) was consumed by an earlier "
                "backward(); use backward(retain_graph=True) or grad() for all but the last pass over it"
            )
        if lift is None:
            _send(node, cotangents, needs, None, table, observe)
        else:  # a backward pass that is recorded belongs to the time step whose operation it goes back through
            with Changed(step=node.step, scope=node.scope):
                _send(node, cotangents, needs, lift, table, observe)
        node.walked = True
        if consume:
            node.inputs = ()  # the edges stay: a second pass must find its way here, to say what is wrong
            node.output = None
            node.consumed = True
    return found


def _send(
    node: Node,
    cotangents: list[Any],
    needs: list[bool],
    lift: Lift | None,
    table: _Cotangents,
    observe: Observer | None,
) -> None:
    """Run the rule of a node, and add what it gives to the cotangents of its inputs."""
    anomaly = context().anomaly
    for number, (edge, value) in enumerate(zip(node.edges, _run_rule(node, cotangents, needs, lift), strict=True)):
        if edge is None or value is None:
            continue
        if observe is not None:
            observe(node, number, value)
        if anomaly:
            check_finite(value if lift is None else value._array, "cotangent", node.name, node.where())
        table.add(*edge, value)


class _Cotangents:
    """Sums what arrives at each output of each node; adds in place only to sums that it made itself."""

    def __init__(self, in_place: bool) -> None:
        self._sums: dict[int, list[Any]] = {}
        self._owned: set[tuple[int, int]] = set()
        self._in_place = in_place
        self._tracer = context().tracer

    def add(self, node: Node, index: int, value: Any) -> None:
        sums = self._sums.setdefault(node.id, [None] * len(node.specs))
        if sums[index] is None:
            sums[index] = value
        elif (node.id, index) in self._owned:
            np.add(sums[index], value, out=sums[index])
        else:
            sums[index] = sums[index] + value
            if self._tracer is not None:
                self._tracer.accumulated(sums[index], (node, index))
            if self._in_place and isinstance(sums[index], np.ndarray):  # a sum of 0-d arrays is a scalar
                self._owned.add((node.id, index))

    def pop(self, node: Node) -> list[Any] | None:
        return self._sums.pop(node.id, None)


def _run_rule(node: Node, cotangents: list[Any], needs: list[bool], lift: Lift | None) -> Iterator[Any]:
    """Yield the cotangent of each input: un-broadcast, in the input's dtype; None where none is needed."""
    operation, inputs, output = node.operation, node.inputs, node.output
    assert operation is not None
    if operation.pull_all is not None:
        yield from operation.pull_all(cotangents, needs)
        return
    if operation.multiple:
        cotangent: Any = [
            np.zeros(spec.shape, spec.dtype) if value is None else value
            for value, spec in zip(cotangents, node.specs, strict=True)
        ]
    else:
        cotangent = cotangents[0]
    if lift is not None:
        inputs = tuple(
            value if edge is None or isinstance(value, Spec) else lift(value, edge)
            for value, edge in zip(inputs, node.edges, strict=True)
        )
        if output is not None:
            output = lift(output, (node, 0))
    results = operation.pull(cotangent, output, *inputs, **node.attrs)
    for edge, result, need in zip(node.edges, results, needs, strict=True):
        if edge is None or not need or result is None:
            yield None
            continue
        value = result() if callable(result) else result
        yield _fit(value, edge[0].specs[edge[1]], node)


def _fit(value: Any, spec: Spec, node: Node) -> Any:
    """Sum a cotangent over broadcast axes and cast it to the input's dtype."""
    if value.shape != spec.shape:
        value = _unbroadcast(value, spec.shape, node)
    if value.dtype != spec.dtype and not (value.dtype.kind == "c" and spec.dtype.kind != "c"):
        value = value.astype(spec.dtype)
    return value


def _unbroadcast(value: Any, shape: tuple[int, ...], node: Node) -> Any:
    lead = len(value.shape) - len(shape)
    fits = lead >= 0 and all(have == want or want == 1 for have, want in zip(value.shape[lead:], shape, strict=True))
    if not fits:
        raise GradientError(
            f"{node.name}: its rule returned a cotangent of shape {tuple(value.shape)} for an input of shape {shape}; "
            f"the operation was recorded at {node.where()}"
        )
    axes = tuple(range(lead)) + tuple(
        lead + axis for axis, want in enumerate(shape) if want == 1 and value.shape[lead + axis] != 1
    )
    if value.dtype == np.float16:  # too narrow to add up in
        value = np.astype(value, np.float32)
    return np.reshape(np.sum(value, axis=axes), shape)


def own(values: Iterable[Array]) -> list[Array]:
    """Return writable arrays of these values that share memory with nothing else.

    A rule may hand on the very array it was given, so two leaves can get the same one; copies are made only then.
    """
    seen: set[int] = set()
    owned = []
    for value in values:
        alone = (
            isinstance(value, np.ndarray) and value.flags.owndata and value.flags.writeable and id(value) not in seen
        )
        owned.append(value if alone else np.array(value))
        seen.add(id(value))
    return owned
