"""Frames: the bodies of loops while they are recorded, and while their backward passes are."""

from __future__ import annotations

import weakref

from ...engine.tape import Edge, Node, Spec
from ...errors import TraceError
from ..ir.arrays import Shape
from ..ir.graph import Body, Call, Value
from ..ir.table import VIEWS

Homes = dict[Value, "Frame"]
"""The frame of each value in a body; values of the graph around all loops have none."""


class Frame:
    """The body of a loop, while it is recorded and afterwards.

    Attributes:
        calls: of the body.
        steps, reverse: of the loop.
        forward: for a backward pass, the frame of the loop that it differentiates: its values at the same step can be
            read; else None.
        carried, slices, constants: inputs of the body; those of slices and constants by their values outside.
        results: values of the body that the loop returns, carried ones first.
        edges: their edges on the tape, or None.
        call, node: of the loop, once it is closed.
        outside: from the leaves of slices and constants in the body to their edges outside.
        idle: nodes of the body that depend on nothing with a gradient.
    """

    def __init__(self, steps: int, reverse: bool, forward: Frame | None = None) -> None:
        self.steps, self.reverse, self.forward = steps, reverse, forward
        self.calls: list[Call] = []
        self.carried: list[Value] = []
        self.slices: dict[Value, Value] = {}
        self.constants: dict[Value, Value] = {}
        self.results: list[Value] = []
        self.edges: list[Edge | None] = []
        self.call: Call | None = None
        self._node: weakref.ref[Node] | None = None  # weak: the node holds its operation, which holds the frame
        self._views: dict[Value, Value] = {}
        self.outside: dict[Edge, Edge | None] = {}
        self.idle: set[Node] = set()

    @property
    def node(self) -> Node | None:
        """Node of the loop on the tape, or None."""
        return None if self._node is None else self._node()

    @node.setter
    def node(self, node: Node) -> None:
        self._node = weakref.ref(node)

    # -- values of other frames -------------------------------------------------------------------------------------

    def here(self, value: Value, homes: Homes) -> Value:
        """Return the value that stands in this body for one of the graph around it, or of the forward body.

        Args:
            value: the value.
            homes: the frames of values. A frame does not keep it, or nodes of the tape would keep each other alive.
        """
        home = homes.get(value)
        if home is None:
            return self._input_for(value, value.shape, self.constants, homes)
        frame = self.forward
        while frame is not None and frame is not home:
            frame = frame.forward
        if frame is None:
            raise leaked()
        for theirs, mine in ((home.constants, self.constants), (home.slices, self.slices)):
            for outer, inner in theirs.items():
                if inner is value:  # an input of the forward body is one of this body, too
                    return self._input_for(outer, value.shape, mine, homes)
        maker = value.maker
        if maker is not None and maker.name in VIEWS and isinstance(maker.inputs[0], Value):
            return self._view(value, maker, homes)
        return self._input_for(home.stack(value, None), value.shape, self.slices, homes)

    def _input_for(self, outer: Value, shape: Shape, kind: dict[Value, Value], homes: Homes) -> Value:
        if outer not in kind:
            kind[outer] = new = Value(shape, outer.dtype, name=outer.name)
            homes[new] = self
        return kind[outer]

    def _view(self, value: Value, maker: Call, homes: Homes) -> Value:
        """Repeat a view of the forward body here, so that one stack of what it views serves all such views."""
        if value not in self._views:
            base: Value = maker.inputs[0]
            seen = base if base.constant is not None else self.here(base, homes)
            specs = [one.spec for one in maker.outputs]
            again = Call(maker.operator, [seen, *maker.inputs[1:]], maker.attrs, specs, maker.place)
            self.calls.append(again)
            homes.update(dict.fromkeys(again.outputs, self))
            self._views.update(zip(maker.outputs, again.outputs, strict=True))
        return self._views[value]

    def stack(self, value: Value, edge: Edge | None) -> Value:
        """Return the stack (T, ...) of a value of this body, which the loop returns from now on."""
        call, node = self.call, self.node
        assert call is not None
        carried = len(self.carried)
        if value not in self.results[carried:]:
            self.results.append(value)
            self.edges.append(edge)
            body: Body = call.attrs["body"]
            body.graph.outputs.append(value)
            stacked = Value((self.steps, *value.shape), value.dtype, call, len(call.outputs))
            call.outputs = (*call.outputs, stacked)
            if node is not None:
                node.specs = (*node.specs, Spec(stacked.shape, stacked.dtype))
        number = self.results.index(value, carried)
        self.edges[number] = self.edges[number] or edge
        return call.outputs[number]

    # -- edges of the tape -----------------------------------------------------------------------------------------

    def busy(self, edges: list[Edge | None]) -> list[Edge | None]:
        """Return edges, with None in place of those that depend on nothing with a gradient."""
        return [None if edge is None or edge[0] in self.idle else edge for edge in edges]

    def outer(self, edge: Edge, value: Value, home: Frame | None) -> Edge | None:
        """Return the edge outside of this loop that the cotangent of a value in its body goes to; None: there is none.

        For a value of the forward body it is the stack that the forward loop returns.

        Args:
            edge: of the value.
            value: the value.
            home: its frame.
        """
        frame = self.forward
        while frame is not None:
            if edge in frame.outside:
                return frame.outside[edge]
            frame = frame.forward
        if home is None:
            return edge
        if home.node is None or edge[0] in home.idle:
            return None
        return home.node, home.stack(value, edge).index


def leaked() -> TraceError:
    """Return the error for a value of a step that is used where it does not exist."""
    return TraceError(
        "compile: a value that a step of a scan (or unroll) computed is used outside of that step; return it as an "
        "output of the step, or keep it in the state"
    )
