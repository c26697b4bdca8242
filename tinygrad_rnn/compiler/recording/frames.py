"""Frames: what the tracer has open while the body of a loop is recorded, and knows of it later."""

from __future__ import annotations

import weakref
from typing import Any, Protocol

from ...engine.tape import Array, Node, Spec
from ...engine.tensor import Tensor
from ...errors import TraceError
from ..ir.graph import Call, Value
from ..ir.table import VIEWS

Place = tuple[Node, int]


class Recorder(Protocol):
    """What a loop needs of the tracer."""

    def operand(self, part: Any) -> Any:
        """Return the value of a Tensor or an array, in the frame that is open."""

    def known(self, tensor: Tensor, value: Value) -> Tensor:
        """Take note of the value of a Tensor; return the Tensor."""

    def settle(self, value: Value, frame: Frame) -> Value:
        """Take note that a value belongs to a frame; return the value."""

    def value_at(self, place: Place) -> Value:
        """Return the value at a place of the tape."""

    def made_anew(self, value: Value) -> Any:
        """Return what a Tensor without a gradient is known by that a step may make anew each time; else None."""

    def frame_of(self, value: Value) -> Frame | None:
        """Return the frame that a value belongs to; None: the graph around all loops."""

    def opened(self, frame: Frame | None) -> Frame | None:
        """Let calls go into a frame (None: the graph); return the one that was open."""

    def append(self, call: Call) -> None:
        """Append a call where calls go just now."""

    def lift(self, array: Array, place: Place) -> Tensor:
        """Return the Tensor at a place of the tape."""

    def accumulated(self, total: Any, place: Place) -> None:
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
        idle: nodes of the body that depend on nothing with a gradient.
    """

    def __init__(self, steps: int, reverse: bool, forward: Frame | None = None) -> None:
        self.steps, self.reverse, self.forward = steps, reverse, forward
        self.calls: list[Call] = []
        self.carried: list[Value] = []
        self.slices: dict[Value, Value] = {}
        self.constants: dict[Value, Value] = {}
        self.results: list[Value] = []
        self.places: list[Place | None] = []
        self.call: Call | None = None
        self._node: weakref.ref[Node] | None = None  # the node holds its operation, and that the frame
        self._views: dict[Value, Value] = {}
        self.outside: dict[Place, Place | None] = {}
        self.idle: set[Node] = set()

    @property
    def node(self) -> Node | None:
        """Place of the loop on the tape, or None."""
        return None if self._node is None else self._node()

    def known_as(self, node: Node) -> None:
        """Take note of the loop's place on the tape."""
        self._node = weakref.ref(node)

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

    def stack(self, value: Value, place: Place | None) -> Value:
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

    def busy(self, places: list[Place | None]) -> list[Place | None]:
        """Return places, None for those that depend on nothing with a gradient."""
        return [None if place is None or place[0] in self.idle else place for place in places]

    def outer(self, place: Place, recorder: Recorder) -> Place | None:
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
        if home.node is None or place[0] in home.idle:
            return None
        return home.node, home.stack(value, place).index


def leaked() -> TraceError:
    """Return the error for a value of a step that is used where it does not exist."""
    return TraceError(
        "compile: a value that a step of a scan (or unroll) computed is used outside of that step; return it as an "
        "output of the step, or keep it in the state"
    )
