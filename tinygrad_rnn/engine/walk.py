"""The backward walk over a recorded graph.

It knows nothing about Tensors. To record the backward pass itself, `pull_back` is given `lift`, which turns an array
and the edge to it into a value that records; every cotangent is then such a value, and computes like an array.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, Generic, TypeAlias, TypeVar, cast

import numpy as np

from ..errors import GradientError
from .tape import Array, Changed, Edge, Kept, Node, Spec, check_finite, context

Cotangent = TypeVar("Cotangent")

Lift: TypeAlias = Callable[[Array, Edge], Cotangent]
"""Turns an array and the edge to it into a value that records."""

Observer: TypeAlias = Callable[[Node, int, Cotangent], None]
"""Observes the cotangent on each edge: (node, number of its input, cotangent that its rule sends to that input)."""


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


def pull_back(
    seeds: Sequence[tuple[Edge, Cotangent]],
    wanted: Iterable[Edge] | None = None,
    lift: Lift[Cotangent] | None = None,
    consume: bool = False,
    observe: Observer[Cotangent] | None = None,
    stop: Collection[Edge] = (),
) -> dict[Edge, Cotangent]:
    """Carry cotangents from `seeds` back to the wanted edges.

    Reverse accumulation: for each node, newest first, cotangent(input) += rule(cotangent(output)).

    Args:
        seeds: pairs of an edge and the cotangent that starts there: arrays, or values that record.
        wanted: edges whose cotangent is returned; None means every leaf.
        lift: if given, the rules run on values that record, so that the result can be differentiated again.
        consume: drop what each node keeps as soon as its rule has run.
        observe: called with the cotangent on each edge, before the terms of a node that is used several times are
        added up.
        stop: wanted edges that cotangents do not go through: each is returned as if it were a leaf.

    Returns:
        A table from edge to cotangent; an edge that no cotangent reaches is absent.

    Raises:
        GradientError: if a node of the graph was consumed before, or a rule returns a wrong shape.
        NonFiniteError: in anomaly mode, if a cotangent is not finite.
    """
    nodes = ancestors(edge[0] for edge, _ in seeds)
    targets = {(node, 0) for node in nodes if node.operation is None} if wanted is None else set(wanted)
    useful, ends = useful_nodes(nodes, targets), {node for node, _ in targets}
    table = _Cotangents(lift, observe)
    for (node, index), cotangent in seeds:
        if node in useful:
            table.add(node, index, cotangent)
    found: dict[Edge, Cotangent] = {}
    for node in nodes:
        cotangents = table.pop(node)
        if cotangents is None:
            continue
        if node in ends:
            arrived = (((node, index), value) for index, value in enumerate(cotangents) if (node, index) in targets)
            found.update((edge, value) for edge, value in arrived if value is not None)
        if stop and _stopped(node, cotangents, stop):
            continue
        needs = [edge is not None and edge[0] in useful for edge in node.edges]
        if node.operation is not None and any(needs):
            table.pull(node, cotangents, needs)
            if consume:
                _consume(node)
    return found


def _stopped(node: Node, cotangents: list[Cotangent | None], stop: Collection[Edge]) -> bool:
    """Drop the cotangents of edges that end the walk; return whether none is left."""
    for index in range(len(cotangents)):
        if (node, index) in stop:
            cotangents[index] = None
    return all(value is None for value in cotangents)


def useful_nodes(nodes: Iterable[Node], targets: Iterable[Edge]) -> set[Node]:
    """Return the nodes (newest first) from which a target can be reached: only these are walked."""
    useful = {node for node, _ in targets}
    for node in reversed(list(nodes)):
        if any(edge is not None and edge[0] in useful for edge in node.edges):
            useful.add(node)
    return useful


def _consume(node: Node) -> None:
    """Drop what a node keeps, except its edges: a second pass must get here to report what is wrong."""
    node.inputs = ()
    node.output = None
    node.consumed = True


class _Cotangents(Generic[Cotangent]):
    """The cotangents that have arrived at each output of each node, added up; and the rules that send them on.

    It adds in place only to sums that it made itself.
    """

    def __init__(self, lift: Lift[Cotangent] | None, observe: Observer[Cotangent] | None) -> None:
        self._sums: dict[int, list[Any]] = {}  # of cotangents, None where none came
        self._owned: set[tuple[int, int]] = set()
        self._lift, self._observe = lift, observe
        how = context()
        self._tracer, self._anomaly = how.tracer, how.anomaly

    def add(self, node: Node, index: int, value: Any) -> None:
        """Add a term to the cotangent of an output."""
        sums = self._sums.get(node.id)
        if sums is None:
            sums = self._sums[node.id] = [None] * len(node.specs)
        if sums[index] is None:
            sums[index] = value
        elif (node.id, index) in self._owned:
            np.add(sums[index], value, out=sums[index])
        else:
            sums[index] = sums[index] + value
            if self._tracer is not None:
                self._tracer.accumulated(sums[index], (node, index))
            if self._lift is None and isinstance(sums[index], np.ndarray):  # a sum of 0-d arrays is a scalar
                self._owned.add((node.id, index))

    def pop(self, node: Node) -> list[Cotangent | None] | None:
        """Return the complete cotangents of a node's outputs; None if none has arrived."""
        return self._sums.pop(node.id, None)

    def pull(self, node: Node, cotangents: list[Cotangent | None], needs: list[bool]) -> None:
        """Run the rule of a node, and add its results to the cotangents of its inputs."""
        if node.consumed:
            raise GradientError(
                f"backward: the graph of {node.name} (recorded at {node.where()}) was consumed by an earlier "
                "backward(); use backward(retain_graph=True) or grad() for all but the last pass over it"
            )
        if self._lift is None or (node.step, node.scope) == context()[2:4]:
            self._send(node, cotangents, needs)
        else:  # a recorded backward pass belongs to the time step of the operation that it goes back through
            with Changed(step=node.step, scope=node.scope):
                self._send(node, cotangents, needs)
        node.walked = True

    def _send(self, node: Node, cotangents: list[Cotangent | None], needs: list[bool]) -> None:
        terms: Iterator[Any] = rule_results(node, cotangents, needs, self._lift, fit=True)
        for number, (edge, value) in enumerate(zip(node.edges, terms, strict=True)):
            if edge is None or value is None:
                continue
            if self._observe is not None:
                self._observe(node, number, value)
            if self._anomaly:
                check_finite(value if self._lift is None else value._array, "cotangent", node.name, node.where())
            self.add(*edge, value)


def rule_results(
    node: Node,
    cotangents: Sequence[Cotangent | None],
    needs: Sequence[bool],
    lift: Lift[Cotangent] | None = None,
    fit: bool = False,
) -> Iterator[Cotangent | None]:
    """Yield what the rule of a node returns for each input; None where none is needed.

    Args:
        node: a node with a rule.
        cotangents: one for each output; None: zero.
        needs: for each input, whether its cotangent is needed.
        lift: as in `pull_back`.
        fit: sum the results over broadcast axes, and cast them to the inputs' dtypes.
    """
    operation = node.operation
    assert operation is not None
    if operation.pull_all is not None:
        found = operation.pull_all(cast("list[Array | None]", list(cotangents)), list(needs))
        yield from cast("Sequence[Cotangent | None]", found)
        return
    if operation.multiple:
        cotangent: object = [
            np.zeros(spec.shape, spec.dtype) if value is None else value
            for value, spec in zip(cotangents, node.specs, strict=True)
        ]
    else:
        cotangent = cotangents[0]
    inputs, output = (node.inputs, node.output) if lift is None else lifted(node, lift)
    results = operation.pull(cotangent, output, *inputs, **node.attrs)
    for edge, result, need in zip(node.edges, results, needs, strict=True):
        if edge is None or not need or result is None:
            yield None
            continue
        value: Any = result() if callable(result) else result
        spec = edge[0].specs[edge[1]]
        if fit and (value.shape != spec.shape or value.dtype != spec.dtype):
            value = _fit(value, spec, node)
        yield value


def lifted(node: Node, lift: Lift[Cotangent]) -> tuple[Sequence[Cotangent | Kept], Cotangent | None]:
    """Return the inputs and the output that a node keeps, as values that record."""
    inputs = [
        lift(value, edge) if edge is not None and isinstance(value, np.ndarray) else value
        for value, edge in zip(node.inputs, node.edges, strict=True)
    ]
    return inputs, None if node.output is None else lift(node.output, (node, 0))


def _fit(value: Array, spec: Spec, node: Node) -> Array:
    """Sum a cotangent over broadcast axes and cast it to the input's dtype."""
    if value.shape != spec.shape:
        value = _unbroadcast(value, spec.shape, node)
    if value.dtype != spec.dtype and not (value.dtype.kind == "c" and spec.dtype.kind != "c"):
        value = value.astype(spec.dtype)
    return value


def _unbroadcast(value: Array, shape: tuple[int, ...], node: Node) -> Array:
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
    total: Array = np.reshape(np.sum(value, axis=axes), shape)
    return total


def own(values: Iterable[Array]) -> list[Array]:
    """Return these values as writable arrays that share memory with nothing else.

    A rule may pass on the very array it was given, so two leaves can get the same one; copies are made only then.
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
