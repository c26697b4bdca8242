"""Recording of loops over time: the body once, and its backward pass once, as a loop in the other direction.

The calls of a body go into a `Frame` instead of the graph around it, and describe one step. A value that the body uses
from outside becomes a constant, an input of the loop. Where the backward body reads a value that the forward body
computed at the same step, the forward loop returns the stack of it as well, and the backward loop reads slices of that.
The cotangent of a constant is carried: a sum over the steps.

Each loop is a node of the tape like any other operation, the backward one too, so it can be differentiated again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple, cast
from weakref import ref

import numpy as np

from ...engine.arrays import is_fixed
from ...engine.tape import Array, Changed, Edge, LoopStep, Node, Operation, Spec, context, is_differentiable, node_count
from ...engine.tensor import Tensor, wrap
from ...engine.walk import pull_back
from ...errors import TraceError
from ..ir.arrays import Shape, abstract_array, repeated
from ..ir.graph import LOOP, LOOP_WITH_DRAWS, Body, Call, Graph, Value
from ..plans.skeleton import Skeleton, key_of, skeleton
from .dependence import idle_nodes, with_cotangents
from .frames import Frame
from .known import Pulled, key_of_pull
from .tracer import Tracer


class LoopTracer(Tracer):
    """A tracer that records loops over time as loops."""

    def loop(
        self, step: LoopStep, carried: Sequence[object], slices: Sequence[object], steps: int, reverse: bool
    ) -> tuple[list[Tensor], list[Tensor]] | None:
        """Record a loop over time; None within another loop, or if one body cannot represent all steps."""
        if self.frame is not None:
            return None
        try:
            return record_loop(
                self, step, [*map(self.tensor_of, carried)], [*map(self.tensor_of, slices)], steps, reverse
            )
        except NotALoopError:
            return None


class NotALoopError(Exception):
    """One body cannot represent all steps."""


def record_loop(
    tracer: Tracer,
    step: LoopStep,
    carried: Sequence[Tensor],
    slices: Sequence[Tensor],
    steps: int,
    reverse: bool,
    forward: Frame | None = None,
) -> tuple[list[Tensor], list[Tensor]]:
    """Record a loop; return what the steps returned, stacked (T, ...), and the carried values after the last one.

    Args:
        tracer: the tracer.
        step: the body.
        carried: values before the first step.
        slices: arrays (T, ...) of which each step gets a slice.
        steps: T.
        reverse: whether the last step comes first.
        forward: the frame of the loop whose backward pass this is; None for a loop of the user's.

    Raises:
        NotALoopError: if carried values change their number, shape or dtype.
        TraceError: if a second call of the step does not compute the same.
    """
    inputs = [tracer.value_of(part) for part in (*carried, *slices)]
    initial, whole = inputs[: len(carried)], inputs[len(carried) :]

    def recorded() -> _Taken:
        return _take(tracer, step, carried, list(zip(slices, whole, strict=True)), Frame(steps, reverse, forward))

    taken, found = recorded(), None
    if forward is None:  # the user's own step: another call must record the same
        found = skeleton(_graph_of(taken.frame))
        if hash(found.form) not in tracer.known.verified:
            again = recorded()
            if _form(taken.frame, found, tracer) != _form(again.frame, skeleton(_graph_of(again.frame)), tracer):
                raise TraceError(
                    "compile: a step of a scan (or unroll) computes something else each time that it is called, so "
                    "one body cannot represent all steps; keep what changes in the state, or write the loop over "
                    "the steps as a for statement"
                )
            taken = again
            tracer.known.verified.add(hash(found.form))
    frame, results = taken.frame, taken.results
    captured = _captured(tracer, frame, taken.first)
    given, inner = ([_edge_of(part) for part in parts] for parts in (carried, taken.parameters))
    busy = {leaf[0] for leaf, edge in frame.outside.items() if edge is not None}
    frame.idle = idle_nodes(frame.edges, inner[: len(carried)], given, busy, steps)
    inner, frame.edges = frame.busy(inner), frame.busy(frame.edges)
    call = _close(frame, initial)
    tracer.append(call)
    outer = [*given, *map(_edge_of, slices), *captured.values()]
    node: Node | None = None
    if context().recording and any(edge is not None for edge in outer):
        operation = _LoopOperation(frame, len(carried), [*inner, *captured], found)
        specs = tuple(Spec(*value.spec) for value in call.outputs)
        node = Node(cast(Operation, operation), tuple(outer), tuple(None for _ in outer), None, specs, {})
        frame.node = node
    made = []
    for part, value in zip(results, call.outputs, strict=True):
        array = _abstract(part._array if isinstance(part, Tensor) else cast(Array, part), value.shape)
        home = None if frame.edges[value.index] is None else node
        made.append(tracer.know(wrap(array, home, value.index), value))
    return made[len(carried) :], made[: len(carried)]


class _Taken(NamedTuple):
    """A recorded step: its frame, the node count before it, its parameters, its results."""

    frame: Frame
    first: int
    parameters: list[Tensor]
    results: list[object]


def _take(
    tracer: Tracer, step: LoopStep, carried: Sequence[Tensor], slices: list[tuple[Tensor, Value]], frame: Frame
) -> _Taken:
    """Record a step into a frame.

    Raises:
        NotALoopError: if carried values change their number, shape or dtype.
    """
    first = node_count()
    around, tracer.frame = tracer.frame, frame
    try:
        with Changed(step=None):
            old = [_parameter(tracer, frame, part, None) for part in carried]
            cut = [_parameter(tracer, frame, part, value) for part, value in slices]
            found = step(cut, old)
        if found is None:
            raise NotALoopError
        results = [*found[1], *found[0]]
        frame.results = [*map(tracer.value_of, results)]
        if [value.spec for value in frame.results[: len(old)]] != [value.spec for value in frame.carried]:
            raise NotALoopError
    finally:
        tracer.frame = around
    frame.edges = [_edge_of(part) for part in results]
    return _Taken(frame, first, [*old, *cut], results)


def _graph_of(frame: Frame) -> Graph:
    inputs = [*frame.carried, *frame.slices.values(), *frame.constants.values()]
    return Graph(inputs, frame.calls, list(frame.results))


def _form(frame: Frame, found: Skeleton, tracer: Tracer) -> tuple[object, ...]:
    """Return a key of what a step computes."""
    constants = [tracer.made_anew(outer) or id(outer) for outer in frame.constants]
    return found.form, found.numbers.tolist(), [*map(key_of, found.constants)], constants


def _abstract(array: Array, shape: Shape) -> Array:
    """Return an abstract array of this shape; integers keep the values of one step."""
    return abstract_array(shape, array.dtype) if array.dtype.kind in "fc" else np.broadcast_to(array, shape)


def _edge_of(part: object) -> Edge | None:
    return (part._node, part._index) if isinstance(part, Tensor) and part._node is not None else None


def _parameter(tracer: Tracer, frame: Frame, part: Tensor, outer: Value | None) -> Tensor:
    """Return the Tensor that represents, in a body, a carried value (`outer` None) or a slice of `outer`."""
    array = part._array if outer is None else part._array[0, ...]
    value = None if outer is None else frame.slices.get(outer)
    if value is None:
        value = Value(array.shape, array.dtype)
        tracer.homes[value] = frame
    if outer is None:
        frame.carried.append(value)
    else:
        frame.slices[outer] = value
    tensor = wrap(array.view())
    # A carried value may depend on a weight from the second step on, whatever it is before the first.
    if context().recording and is_differentiable(array.dtype) and (outer is None or part.node is not None):
        tensor.requires_grad = True
    if outer is not None and tensor.node is not None:
        frame.outside[tensor.node, 0] = _edge_of(part)
    return tracer.know(tensor, value)


def _captured(tracer: Tracer, frame: Frame, first: int) -> dict[Edge, Edge]:
    """Replace what the body uses from outside by leaves; return the edge that each of them stands for."""
    leaves: dict[Edge, Edge] = {}

    def inside(edge: Edge) -> Edge:
        if edge[0].id > first:
            return edge
        if edge not in leaves:
            leaves[edge] = _leaf(tracer, edge)
        return leaves[edge]

    frame.edges = [None if edge is None else inside(edge) for edge in frame.edges]
    waiting = [edge[0] for edge in frame.edges if edge is not None]
    seen: set[Node] = set()
    while waiting:
        node = waiting.pop()
        if node not in seen:
            seen.add(node)
            node.edges = tuple(None if edge is None else inside(edge) for edge in node.edges)
            waiting += [edge[0] for edge in node.edges if edge is not None]
    found: dict[Edge, Edge] = {}
    for edge, leaf in leaves.items():
        value = tracer.value_at(edge)
        outer = frame.outer(edge, value, tracer.homes.get(value))
        if outer is not None:
            found[leaf] = frame.outside[leaf] = outer
    return found


def _leaf(tracer: Tracer, edge: Edge) -> Edge:
    """Return a new leaf that represents an edge outside within a body."""
    spec = edge[0].specs[edge[1]]
    node = Node(None, (), (), None, (spec,), {})
    node.id = -node.id  # a walk from new nodes to old ones reaches it last
    tracer.know(wrap(abstract_array(spec.shape, spec.dtype), node), tracer.value_at(edge))
    return node, 0


def _close(frame: Frame, initial: list[Value]) -> Call:
    """Make the call of a loop whose body is recorded, and return it."""
    body = Body(_graph_of(frame), len(frame.carried), len(frame.slices), frame.steps, frame.reverse)
    frame.call = _loop_call(body, [*initial, *frame.slices, *frame.constants])
    return frame.call


def _loop_call(body: Body, operands: list[Value]) -> Call:
    draws = any(not call.operator.pure for call in body.graph.calls)
    specs = [
        (value.shape if number < body.carried else (body.steps, *value.shape), value.dtype)
        for number, value in enumerate(body.graph.outputs)
    ]
    return Call(LOOP_WITH_DRAWS if draws else LOOP, operands, {"body": body}, specs, context()[2:4])


class _LoopOperation:
    """A loop as an operation of the tape: its rule is a loop in the other direction.

    Args:
        frame: the body.
        carried: how many values are carried.
        leaves: for each input of the node, its leaf in the body; None if it needs no cotangent.
        form: of the body, unless it is that of a backward pass.
    """

    multiple = True
    name = "scan"

    def __init__(self, frame: Frame, carried: int, leaves: Sequence[Edge | None], form: Skeleton | None = None) -> None:
        self._frame, self._carried, self._leaves, self._form = frame, carried, leaves, form

    @property
    def pull(self) -> Callable[..., object]:
        """The rule; a backward pass calls `pull_all`, which knows before it records which cotangents are needed."""
        return self.pull_all

    def pull_all(self, cotangents: list[Tensor | None], needs: list[bool]) -> list[Tensor | None]:
        """Return the cotangent of each input that needs one, given those of the outputs (None: zero).

        Raises:
            TraceError: if the function is no longer being recorded.
        """
        tracer = context().tracer  # not kept here: it holds nodes, which would hold it
        if not isinstance(tracer, Tracer):
            raise TraceError(
                "compile: the gradient of a loop is needed after the function that recorded it has returned; take "
                "gradients inside the function, and return them"
            )
        frame, n = self._frame, self._carried
        zeros = partial(self._zeros, tracer)
        seeds = [number for number, g in enumerate(cotangents) if g is not None]
        wanted = [number for number, need in enumerate(needs) if need and number >= n]
        stacked = [number for number in wanted if self._is_slice(number)]
        sums = [number for number in wanted if not self._is_slice(number)]
        given = [number for number in seeds if number >= n and frame.edges[number]]
        outer = [tracer.tensor_of(cotangents[k]) for k in given]
        parts = [tracer.value_of(part) for part in outer]
        last_states = [tracer.tensor_of(cotangents[k]) for k in seeds if k < n]
        key = self._key(tracer, parts, (*seeds, -1, *wanted, -1, *stacked, *[(g.shape, g.dtype) for g in last_states]))
        known = None if key is None else tracer.known.pulled(key)
        states = with_cotangents(frame.edges, self._leaves[:n], seeds) if known is None else known.states
        reached: set[int] = set() if known is None else known.reached

        def step(parts: list[Tensor], carried: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
            # The cotangents of states come from the step before in this direction, those of outputs are slices.
            seeds = [(edge, g) for k, g in zip(states, carried, strict=False) if (edge := frame.edges[k])]
            seeds += [(edge, g) for k, g in zip(given, parts, strict=True) if (edge := frame.edges[k])]
            inner = {k: edge for k in (*states, *wanted) if (edge := self._leaves[k]) is not None}
            found = pull_back(seeds, inner.values(), tracer.lift)
            terms: dict[int, Tensor] = {k: found[edge] for k, edge in inner.items() if edge in found}
            reached.update(terms.keys() & wanted)
            new = [terms[k] if k in terms else zeros(k) for k in states]
            for number, total in zip(sums, carried[len(states) :], strict=True):
                new.append(total)
                if number in terms:
                    new[-1] = total + terms[number]
                    tracer.accumulated(new[-1], inner[number])
            return [terms[k] if k in terms else zeros(k) for k in stacked], new

        start = [zeros(k) if (g := cotangents[k]) is None else tracer.tensor_of(g) for k in states]
        start += [zeros(k) for k in sums]
        if known is None:
            before = len(tracer.captured), len(tracer.outside)
            made, last = record_loop(tracer, step, start, outer, frame.steps, not frame.reverse, frame)
            if key is not None and (results := [*last, *made]) and len(tracer.captured) == before[0]:
                seen = [ref(array) for array, _ in tracer.outside[before[1] :] if not is_fixed(array)]
                call = cast(Call, tracer.value_of(results[0]).maker)
                pulled = Pulled(call.attrs["body"], [], states, reached, seen)
                tracer.known.keep(key, call, frame, parts, pulled)
        else:
            made, last = self._again(tracer, known, [*map(tracer.value_of, start)], parts)
        found = dict(zip((*states, *sums), last, strict=True)) | dict(zip(stacked, made, strict=True))
        return [
            found.get(number) if need and (number < n or number in reached) else None
            for number, need in enumerate(needs)
        ]

    def _key(self, tracer: Tracer, given: Sequence[Value], others: object) -> object:
        """Return by what other recordings know the backward pass; None: it is on the tape itself, or none is shared."""
        if self._form is None or context().recording or not tracer.known.shares:
            return None
        return key_of_pull(self._form, self._frame, self._leaves, given, tracer.value_at, others)

    def _again(
        self, tracer: Tracer, known: Pulled, start: Sequence[Value], given: Sequence[Value]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Append a backward pass that is known; return what `record_loop` would."""
        body = replace(known.body, steps=self._frame.steps)
        call = _loop_call(body, [*start, *known.operands(self._frame, given)])
        tracer.append(call)
        made = [tracer.know(wrap(abstract_array(value.shape, value.dtype)), value) for value in call.outputs]
        return made[body.carried :], made[: body.carried]

    def _spec(self, number: int) -> Spec:
        """Return shape and dtype of an input within the body."""
        leaf = self._leaves[number]
        assert leaf is not None
        return leaf[0].specs[leaf[1]]

    def _is_slice(self, number: int) -> bool:
        """Return whether an input of the node is sliced along time."""
        node = self._frame.node
        assert node is not None
        edge = node.edges[number]
        assert edge is not None
        return len(edge[0].specs[edge[1]].shape) == len(self._spec(number).shape) + 1

    def _zeros(self, tracer: Tracer, number: int) -> Tensor:
        """Return zeros in the shape of an input within the body; they take no memory."""
        spec = self._spec(number)
        array = repeated(np.zeros((), spec.dtype), spec.shape)
        return tracer.know(wrap(array), Value(spec.shape, spec.dtype, constant=array))
