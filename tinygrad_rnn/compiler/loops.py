"""Recording a loop over time: the body once, and its backward pass once, as a loop in the other direction.

While a body is recorded, what it computes goes into a `Frame` instead of the graph around it, and stands for what
happens at one step. What it uses from outside becomes an input of the loop: a constant. The backward body reads what
the forward body computed at the same step: the forward loop then returns that too, stacked, and the backward loop
takes slices of the stack. The cotangent of a constant is carried: a sum over the steps.

Each loop is a node of the tape like any other operation, the backward one too, so that it can be differentiated again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from ..engine.tape import Array, Changed, Node, Spec, context, is_differentiable, node_count
from ..engine.tensor import Tensor, wrap
from ..engine.walk import pull_back
from ..errors import TraceError
from .graph import LOOP, LOOP_WITH_DRAWS, Body, Call, Graph, Value
from .operators import VIEWS

Step = Callable[[list[Any], list[Any]], tuple[list[Any], list[Any]] | None]
"""`step(slices, carried) -> (what the step returns, carried values after it)`, all of them Tensors or arrays."""

_Place = tuple[Node, int]


class NotALoopError(Exception):
    """What a step returns does not fit what it was given, so that one body cannot stand for all steps."""


class Recorder(Protocol):
    """What a loop needs of the tracer."""

    def operand(self, part: Any) -> Any:
        """Return the value of a Tensor or an array, in the frame that is open."""

    def known(self, tensor: Tensor, value: Value) -> Tensor:
        """Take note of the value of a Tensor; return the Tensor."""

    def settle(self, value: Value, frame: Frame) -> Value:
        """Take note that a value belongs to a frame; return the value."""

    def value_at(self, place: _Place) -> Value:
        """Return the value at a place of the tape."""

    def frame_of(self, value: Value) -> Frame | None:
        """Return the frame that a value belongs to; None: the graph around all loops."""

    def opened(self, frame: Frame | None) -> Frame | None:
        """Let calls go into a frame (None: the graph); return the one that was open."""

    def append(self, call: Call) -> None:
        """Append a call where calls go just now."""

    def lift(self, array: Array, place: _Place) -> Tensor:
        """Return the Tensor at a place of the tape."""

    def accumulated(self, total: Any, place: _Place) -> None:
        """Mark a sum as one of terms of a cotangent."""


class Frame:
    """The body of a loop while it is recorded, and after.

    Attributes:
        calls: of the body.
        steps, reverse: of the loop.
        forward: the frame whose values at the same step can be read: that of the loop which this one differentiates.
        carried, slices, constants: parameters of the body; of slices and constants by what they stand for outside.
        results: values of the body that the loop returns: carried ones first.
        places: their places on the tape, or None.
        call, node: of the loop, once it is closed.
        outside: from the leaves of slices and constants to the places that they stand for.
    """

    def __init__(self, steps: int, reverse: bool, forward: Frame | None = None) -> None:
        self.steps, self.reverse, self.forward = steps, reverse, forward
        self.calls: list[Call] = []
        self.carried: list[Value] = []
        self.slices: dict[Value, Value] = {}
        self.constants: dict[Value, Value] = {}
        self.results: list[Value] = []
        self.places: list[_Place | None] = []
        self.call: Call | None = None
        self.node: Node | None = None
        self._views: dict[Value, Value] = {}
        self.outside: dict[_Place, _Place | None] = {}

    # -- values of other frames -------------------------------------------------------------------------------------

    def here(self, value: Value, home: Frame | None, recorder: Recorder) -> Value:
        """Return what stands in this body for a value of the graph around it, or of the forward body."""
        if home is None:
            return self._parameter(self.constants, value, value.shape, recorder)
        frame = self.forward
        while frame is not None and frame is not home:
            frame = frame.forward
        if frame is None:
            raise leaked()
        for outer, inner in home.constants.items():
            if inner is value:
                return self._parameter(self.constants, outer, value.shape, recorder)
        for outer, inner in home.slices.items():
            if inner is value:
                return self._parameter(self.slices, outer, value.shape, recorder)
        maker = value.maker
        if maker is not None and maker.name in VIEWS and isinstance(maker.inputs[0], Value):
            return self._view(value, maker, home, recorder)
        return self._parameter(self.slices, home.stack(value, None), value.shape, recorder)

    def _view(self, value: Value, maker: Call, home: Frame, recorder: Recorder) -> Value:
        """Look anew at what a view of the forward body looks at: so one stack serves all views."""
        if value not in self._views:
            base = maker.inputs[0]
            seen = base if base.constant is not None else self.here(base, home, recorder)
            specs = [(one.shape, one.dtype) for one in maker.outputs]
            again = Call(maker.operator, [seen, *maker.inputs[1:]], maker.attrs, specs, maker.place)
            self.calls.append(again)
            for old, new in zip(maker.outputs, again.outputs, strict=True):
                self._views[old] = recorder.settle(new, self)
        return self._views[value]

    def _parameter(self, kind: dict[Value, Value], outer: Value, shape: tuple[int, ...], recorder: Recorder) -> Value:
        if outer not in kind:
            kind[outer] = recorder.settle(Value(shape, outer.dtype, name=outer.name), self)
        return kind[outer]

    def stack(self, value: Value, place: _Place | None) -> Value:
        """Return the stack (T, ...) of a value of this body: the loop returns it from now on."""
        call, node = self.call, self.node
        assert call is not None
        carried = len(self.carried)
        if value not in self.results[carried:]:
            self.results.append(value)
            self.places.append(place)
            call.attrs["body"].graph.outputs.append(value)
            stacked = Value((self.steps, *value.shape), value.dtype, call, len(call.outputs))
            call.outputs = (*call.outputs, stacked)
            if node is not None:
                node.specs = (*node.specs, Spec(stacked.shape, stacked.dtype))
        number = self.results.index(value, carried)
        self.places[number] = self.places[number] or place
        return call.outputs[number]

    # -- places of the tape -----------------------------------------------------------------------------------------

    def outer(self, place: _Place, recorder: Recorder) -> _Place | None:
        """Return the place outside of this loop that gives a value used in its body its cotangent; None: there is none.

        For a value of the forward body that is the stack which the forward loop returns.
        """
        frame = self.forward
        while frame is not None:
            if place in frame.outside:
                return frame.outside[place]
            frame = frame.forward
        value = recorder.value_at(place)
        home = recorder.frame_of(value)
        if home is None:
            return place
        if home.node is None:
            return None
        return home.node, home.stack(value, place).index


def leaked() -> TraceError:
    """Return the error for a value of a step that is used where it does not exist."""
    return TraceError(
        "compile: a value that a step of a scan (or unroll) computed is used outside of that step; return it as an "
        "output of the step, or keep it in the state"
    )


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
        step: the body, called once.
        carried: values before the first step.
        slices: arrays (T, ...) of which each step gets a slice.
        steps: T.
        reverse: whether the last step comes first.
        forward: the loop that this one is the backward pass of.

    Raises:
        NotALoopError: if carried values change their number, shape or dtype.
    """
    frame = Frame(steps, reverse, forward)
    first = node_count()
    inputs = [recorder.operand(part) for part in (*carried, *slices)]
    before = recorder.opened(frame)
    try:
        with Changed(step=None):
            old = [_parameter(recorder, frame, part, None) for part in carried]
            cut = [
                _parameter(recorder, frame, part, value) for part, value in zip(slices, inputs[len(old) :], strict=True)
            ]
            found = step(cut, old)
        if found is None:
            raise NotALoopError
        made, new = found
        frame.results = [recorder.operand(part) for part in (*new, *made)]
        if [(v.shape, v.dtype) for v in frame.results[: len(old)]] != [(v.shape, v.dtype) for v in frame.carried]:
            raise NotALoopError
    finally:
        recorder.opened(before)
    frame.places = [_place_of(part) for part in (*new, *made)]
    captured = _captured(recorder, frame, first)
    _close(frame, inputs[: len(old)])
    call = frame.call
    assert call is not None
    recorder.append(call)
    outer = [*(_place_of(part) for part in (*carried, *slices)), *captured.values()]
    if context().recording and any(place is not None for place in outer):
        leaves = [*(_place_of(part) for part in (*old, *cut)), *captured]
        operation = _LoopOperation(recorder, frame, len(old), leaves)
        specs = tuple(Spec(value.shape, value.dtype) for value in call.outputs)
        frame.node = Node(operation, tuple(outer), tuple(None for _ in outer), None, specs, {})
    results = []
    for part, value in zip((*new, *made), call.outputs, strict=True):
        array = _hollow(part if isinstance(part, np.ndarray) else part._array, value.shape)
        node = frame.node if is_differentiable(value.dtype) else None
        results.append(recorder.known(wrap(array, node, value.index), value))
    return results[len(old) :], results[: len(old)]


def _hollow(array: Array, shape: tuple[int, ...]) -> Array:
    """Return an array of this shape that takes no memory; integers are those of one step."""
    return np.broadcast_to(array if array.dtype.kind not in "fc" else np.ones((), array.dtype), shape)


def _place_of(part: Any) -> _Place | None:
    return (part.node, part.index) if isinstance(part, Tensor) and part.node is not None else None


def _parameter(recorder: Recorder, frame: Frame, part: Tensor, outer: Value | None) -> Tensor:
    """Return the Tensor that stands in a body for a carried value (`outer` None), or for a slice of `outer`."""
    array = part._array if outer is None else part._array[0]
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


def _captured(recorder: Recorder, frame: Frame, first: int) -> dict[_Place, _Place]:
    """Give the body leaves in the place of what it uses from outside; return what each of them stands for."""
    leaves: dict[_Place, _Place] = {}

    def inside(place: _Place) -> _Place:
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
    found: dict[_Place, _Place] = {}
    for place, leaf in leaves.items():
        outer = frame.outer(place, recorder)
        if outer is not None:
            found[leaf] = frame.outside[leaf] = outer
    return found


def _leaf(recorder: Recorder, place: _Place) -> _Place:
    """Return a new leaf that stands in a body for a place outside."""
    spec = place[0].specs[place[1]]
    node = Node(None, (), (), None, (spec,), {})
    node.id = -node.id  # a walk from the newest to the oldest comes to it last
    recorder.known(wrap(np.broadcast_to(np.ones((), spec.dtype), spec.shape), node), recorder.value_at(place))
    return node, 0


def _close(frame: Frame, initial: list[Value]) -> None:
    """Make the call of a loop whose body is recorded."""
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


class _LoopOperation:
    """A loop as an operation of the tape: its rule is a loop in the other direction."""

    multiple = True
    name = "scan"

    def __init__(self, recorder: Recorder, frame: Frame, carried: int, leaves: Sequence[_Place | None]) -> None:
        self._recorder, self._frame, self._carried, self._leaves = recorder, frame, carried, leaves
        self.pull: Callable[..., Any] = self.pull_all

    def pull_all(self, cotangents: list[Any], needs: list[bool]) -> list[Any]:
        """Return the cotangent of each input that needs one, given those of the outputs (None: zero)."""
        recorder, frame, n = self._recorder, self._frame, self._carried
        leaves = self._leaves
        states = [number for number in range(n) if leaves[number] is not None]
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
            new = [found[leaves[k]] if leaves[k] in found else self._zeros(k) for k in states]  # type: ignore[index]
            for number, total in zip(sums, carried[len(states) :], strict=True):
                term = found.get(leaves[number])  # type: ignore[arg-type]
                new.append(total if term is None else total + term)
                if term is not None:
                    recorder.accumulated(new[-1], leaves[number])  # type: ignore[arg-type]
            return [found[leaves[k]] if leaves[k] in found else self._zeros(k) for k in stacked], new  # type: ignore[index]

        start = [self._zeros(k) if cotangents[k] is None else _tensor(recorder, cotangents[k]) for k in states]
        start += [self._zeros(k) for k in sums]
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

    def _zeros(self, number: int) -> Tensor:
        """Return zeros in the shape of an input as the body sees it; they take no memory."""
        leaf = self._leaves[number]
        assert leaf is not None
        spec = leaf[0].specs[leaf[1]]
        array = np.broadcast_to(np.zeros((), spec.dtype), spec.shape)
        return self._recorder.known(wrap(array), Value(spec.shape, spec.dtype, constant=array))


def _tensor(recorder: Recorder, g: Any) -> Tensor:
    if isinstance(g, Tensor):
        return g
    return recorder.known(wrap(np.asarray(g)), recorder.operand(np.asarray(g)))
