"""Recording a loop over time: the body once, and its backward pass once, as a loop in the other direction.

While a body is recorded, what it computes goes into a `Frame` instead of the graph around it, and stands for what
happens at one step. What it uses from outside becomes an input of the loop: a constant. The backward body reads what
the forward body computed at the same step: the forward loop then returns that too, stacked, and the backward loop
takes slices of the stack. The cotangent of a constant is carried: a sum over the steps.

Each loop is a node of the tape like any other operation, the backward one too, so that it can be differentiated again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import numpy as np

from ...engine.tape import Array, Changed, Node, Spec, context, is_differentiable, node_count
from ...engine.tensor import Tensor, wrap
from ...engine.walk import pull_back
from ...errors import TraceError
from ..ir.abstract import hollow, spread
from ..ir.graph import LOOP, LOOP_WITH_DRAWS, Body, Call, Graph, Value
from ..plans.skeleton import skeleton
from .dependence import idle_nodes, with_cotangents
from .frames import Frame, Place, Recorder

Step = Callable[[list[Any], list[Any]], tuple[list[Any], list[Any]] | None]
"""`step(slices, carried) -> (what the step returns, carried values after it)`, all of them Tensors or arrays."""


class NotALoopError(Exception):
    """One body cannot stand for all steps."""


def record_loop(
    recorder: Recorder,
    step: Step,
    carried: Sequence[Tensor],
    slices: Sequence[Tensor],
    steps: int,
    reverse: bool,
    forward: Frame | None = None,
) -> tuple[list[Tensor], list[Tensor]]:
    """Record a loop; return what the steps returned, stacked (T, ...), and the carried values after the last one.

    Args:
        recorder: the tracer.
        step: the body.
        carried: values before the first step.
        slices: arrays (T, ...) of which each step gets a slice.
        steps: T.
        reverse: whether the last step comes first.
        forward: the loop that this one is the backward pass of.

    Raises:
        NotALoopError: if carried values change their number, shape or dtype.
        TraceError: if a second call of the step computes something else.
    """
    inputs = [recorder.operand(part) for part in (*carried, *slices)]
    initial, whole = inputs[: len(carried)], inputs[len(carried) :]

    def recorded() -> _Taken:
        return _take(recorder, step, carried, list(zip(slices, whole, strict=True)), Frame(steps, reverse, forward))

    taken = recorded()
    if forward is None:  # the user's own step: another call must find the same
        again = recorded()
        if _form(again.frame, recorder) != _form(taken.frame, recorder):
            raise TraceError(
                "compile: a step of a scan (or unroll) computes something else each time that it is called, so that "
                "one body cannot stand for all steps; keep what changes in the state, or write the loop over the steps "
                "as a for statement"
            )
        taken = again
    frame, results = taken.frame, taken.results
    captured = _captured(recorder, frame, taken.first)
    given, inner = ([_place_of(part) for part in parts] for parts in (carried, taken.parameters))
    busy = {leaf[0] for leaf, place in frame.outside.items() if place is not None}
    frame.idle = idle_nodes(frame.places, inner[: len(carried)], given, busy, steps)
    inner, frame.places = frame.busy(inner), frame.busy(frame.places)
    call = _close(frame, initial)
    recorder.append(call)
    outer = [*given, *map(_place_of, slices), *captured.values()]
    node: Node | None = None
    if context().recording and any(place is not None for place in outer):
        operation = _LoopOperation(frame, len(carried), [*inner, *captured])
        specs = tuple(Spec(value.shape, value.dtype) for value in call.outputs)
        node = Node(operation, tuple(outer), tuple(None for _ in outer), None, specs, {})
        frame.known_as(node)
    found = []
    for part, value in zip(results, call.outputs, strict=True):
        array = _hollow(part if isinstance(part, np.ndarray) else part._array, value.shape)
        home = None if frame.places[value.index] is None else node
        found.append(recorder.known(wrap(array, home, value.index), value))
    return found[len(carried) :], found[: len(carried)]


class _Taken(NamedTuple):
    """A step that was recorded: its frame, the number of the first node, what it was given, what it returned."""

    frame: Frame
    first: int
    parameters: list[Tensor]
    results: list[Any]


def _take(
    recorder: Recorder, step: Step, carried: Sequence[Tensor], slices: list[tuple[Tensor, Value]], frame: Frame
) -> _Taken:
    """Record a step into a frame.

    Raises:
        NotALoopError: if carried values change their number, shape or dtype.
    """
    first = node_count()
    before = recorder.opened(frame)
    try:
        with Changed(step=None):
            old = [_parameter(recorder, frame, part, None) for part in carried]
            cut = [_parameter(recorder, frame, part, value) for part, value in slices]
            found = step(cut, old)
        if found is None:
            raise NotALoopError
        results = [*found[1], *found[0]]
        frame.results = [recorder.operand(part) for part in results]
        if [(v.shape, v.dtype) for v in frame.results[: len(old)]] != [(v.shape, v.dtype) for v in frame.carried]:
            raise NotALoopError
    finally:
        recorder.opened(before)
    frame.places = [_place_of(part) for part in results]
    return _Taken(frame, first, [*old, *cut], results)


def _form(frame: Frame, recorder: Recorder) -> Any:
    """Return what a step does, as something that can be compared."""
    graph = Graph([*frame.carried, *frame.slices.values(), *frame.constants.values()], frame.calls, frame.results)
    found = skeleton(graph)
    constants = [recorder.made_anew(outer) or id(outer) for outer in frame.constants]
    arrays = [(array.dtype, array.shape, array.tobytes()) for array in found.arrays]
    return found.form, found.numbers.tolist(), found.reals, arrays, constants


def _hollow(array: Array, shape: tuple[int, ...]) -> Array:
    """Return an array of this shape that takes no memory; integers are those of one step."""
    return hollow(shape, array.dtype) if array.dtype.kind in "fc" else np.broadcast_to(array, shape)


def _place_of(part: Any) -> Place | None:
    return (part.node, part.index) if isinstance(part, Tensor) and part.node is not None else None


def _parameter(recorder: Recorder, frame: Frame, part: Tensor, outer: Value | None) -> Tensor:
    """Return the Tensor that stands in a body for a carried value (`outer` None), or for a slice of `outer`."""
    array = part._array if outer is None else part._array[0, ...]
    value = None if outer is None else frame.slices.get(outer)
    if value is None:
        value = recorder.settle(Value(array.shape, array.dtype), frame)
    if outer is None:
        frame.carried.append(value)
    else:
        frame.slices[outer] = value
    tensor = wrap(array.view())
    # A carried value may depend on a weight from the second step on, whatever it is before the first.
    if context().recording and is_differentiable(array.dtype) and (outer is None or part.node is not None):
        tensor.requires_grad = True
    if outer is not None and tensor.node is not None:
        frame.outside[tensor.node, 0] = _place_of(part)
    return recorder.known(tensor, value)


def _captured(recorder: Recorder, frame: Frame, first: int) -> dict[Place, Place]:
    """Give the body leaves in the place of what it uses from outside; return what each of them stands for."""
    leaves: dict[Place, Place] = {}

    def inside(place: Place) -> Place:
        if place[0].id > first:
            return place
        if place not in leaves:
            leaves[place] = _leaf(recorder, place)
        return leaves[place]

    frame.places = [None if place is None else inside(place) for place in frame.places]
    waiting = [place[0] for place in frame.places if place is not None]
    seen: set[Node] = set()
    while waiting:
        node = waiting.pop()
        if node not in seen:
            seen.add(node)
            node.edges = tuple(None if edge is None else inside(edge) for edge in node.edges)
            waiting += [edge[0] for edge in node.edges if edge is not None]
    found: dict[Place, Place] = {}
    for place, leaf in leaves.items():
        outer = frame.outer(place, recorder)
        if outer is not None:
            found[leaf] = frame.outside[leaf] = outer
    return found


def _leaf(recorder: Recorder, place: Place) -> Place:
    """Return a new leaf that stands in a body for a place outside."""
    spec = place[0].specs[place[1]]
    node = Node(None, (), (), None, (spec,), {})
    node.id = -node.id  # a walk from the newest to the oldest comes to it last
    recorder.known(wrap(hollow(spec.shape, spec.dtype), node), recorder.value_at(place))
    return node, 0


def _close(frame: Frame, initial: list[Value]) -> Call:
    """Make the call of a loop whose body is recorded, and return it."""
    inputs = [*frame.carried, *frame.slices.values(), *frame.constants.values()]
    body = Graph(inputs, frame.calls, list(frame.results))
    draws = any(not call.operator.pure for call in frame.calls)
    carried = len(frame.carried)
    specs = [
        (value.shape if number < carried else (frame.steps, *value.shape), value.dtype)
        for number, value in enumerate(frame.results)
    ]
    attrs = {"body": Body(body, carried, len(frame.slices), frame.steps, frame.reverse)}
    operands = [*initial, *frame.slices, *frame.constants]
    frame.call = Call(LOOP_WITH_DRAWS if draws else LOOP, operands, attrs, specs, context()[2:4])
    return frame.call


class _LoopOperation:
    """A loop as an operation of the tape: its rule is a loop in the other direction."""

    multiple = True
    name = "scan"

    def __init__(self, frame: Frame, carried: int, leaves: Sequence[Place | None]) -> None:
        self._frame, self._carried, self._leaves = frame, carried, leaves

    @property
    def pull(self) -> Callable[..., Any]:
        """Return the rule; a walk calls `pull_all`, which knows what is needed before it records."""
        return self.pull_all

    def pull_all(self, cotangents: list[Any], needs: list[bool]) -> list[Any]:
        """Return the cotangent of each input that needs one, given those of the outputs (None: zero).

        Raises:
            TraceError: if the function is not being recorded any more.
        """
        recorder = cast(Recorder | None, context().tracer)  # the nodes that it holds would hold it
        if recorder is None:
            raise TraceError(
                "compile: the gradient of a loop is wanted after the function that recorded it; return what you need "
                "of its Tensors, and take gradients inside"
            )
        frame, n, leaves = self._frame, self._carried, self._leaves
        zeros = partial(self._zeros, recorder)
        seeds = [number for number, g in enumerate(cotangents) if g is not None]
        states = with_cotangents(frame.places, leaves[:n], seeds)
        wanted = [number for number, need in enumerate(needs) if need and number >= n]
        stacked = [number for number in wanted if self._is_slice(number)]
        sums = [number for number in wanted if not self._is_slice(number)]
        given = [
            number for number, g in enumerate(cotangents) if number >= n and g is not None and frame.places[number]
        ]
        reached: set[int] = set()

        def step(parts: list[Any], carried: list[Any]) -> tuple[list[Any], list[Any]]:
            seeds = [(frame.places[k], g) for k, g in zip(states, carried, strict=False) if frame.places[k] is not None]
            seeds += [(frame.places[k], g) for k, g in zip(given, parts, strict=True)]
            places = [leaves[number] for number in (*states, *wanted)]
            found = pull_back(seeds, places, recorder.lift)  # type: ignore[arg-type]
            reached.update(number for number in wanted if leaves[number] in found)
            new = [found[leaves[k]] if leaves[k] in found else zeros(k) for k in states]  # type: ignore[index]
            for number, total in zip(sums, carried[len(states) :], strict=True):
                term = found.get(leaves[number])  # type: ignore[arg-type]
                new.append(total if term is None else total + term)
                if term is not None:
                    recorder.accumulated(new[-1], leaves[number])  # type: ignore[arg-type]
            return [found[leaves[k]] if leaves[k] in found else zeros(k) for k in stacked], new  # type: ignore[index]

        start = [zeros(k) if cotangents[k] is None else _tensor(recorder, cotangents[k]) for k in states]
        start += [zeros(k) for k in sums]
        parts = [_tensor(recorder, cotangents[k]) for k in given]
        made, last = record_loop(recorder, step, start, parts, frame.steps, not frame.reverse, frame)
        found = dict(zip((*states, *sums), last, strict=True)) | dict(zip(stacked, made, strict=True))
        return [
            found.get(number) if need and (number < n or number in reached) else None
            for number, need in enumerate(needs)
        ]

    def _is_slice(self, number: int) -> bool:
        """Return whether an input of the node is sliced along time."""
        node = self._frame.node
        assert node is not None
        edge, leaf = node.edges[number], self._leaves[number]
        assert edge is not None
        assert leaf is not None
        inner, outer = leaf[0].specs[leaf[1]].shape, edge[0].specs[edge[1]].shape
        return len(outer) == len(inner) + 1

    def _zeros(self, recorder: Recorder, number: int) -> Tensor:
        """Return zeros in the shape of an input as the body sees it; they take no memory."""
        leaf = self._leaves[number]
        assert leaf is not None
        spec = leaf[0].specs[leaf[1]]
        array = spread(np.zeros((), spec.dtype), spec.shape)
        return recorder.known(wrap(array), Value(spec.shape, spec.dtype, constant=array))


def _tensor(recorder: Recorder, g: Any) -> Tensor:
    if isinstance(g, Tensor):
        return g
    return recorder.known(wrap(np.asarray(g)), recorder.operand(np.asarray(g)))
