"""Drawings of a graph, as recorded or after a pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable
from functools import partial

from ..pictures.drawing import Drawing
from ..pictures.layout.compose import BOTTOM, LEFT, TOP, compose, finish
from ..pictures.layout.content import Content
from ..pictures.layout.diagram import Diagram, DiagramEdge, Group
from ..pictures.layout.nested import nested
from ..pictures.scene.scene import BoxKind, Row, Scene
from .ir.graph import Body, Call, Graph, Value
from .ir.table import VIEWS

_FOLD = 40  # calls; in a graph with more of them, equal calls of several steps are drawn as one box
_LOOK = 4096  # most elements of a constant that are compared


def prepared(graph: Graph, title: str) -> Callable[[], Drawing]:
    """Return a function that makes the drawing of a graph: a box for each call, with the shape of what it computes.

    Values flow down. A loop is a region that shows its body once. Green boxes are carried values before a step; dashed
    red edges lead back to them from the values after it. Boxes [t] are the slice of a step, and results of all steps
    leave the region to their stack. What is the same at each step goes straight in.

    If there are more than 40 calls, those outside of loops that do the same at several time steps are one box, with
    their number and steps; edges from one step to the next lead back, dashed and red.

    Args:
        graph: what is drawn; it may be changed before the function is called.
        title: put above the drawing.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> step = tr.compile(lambda x: np.sum(np.tanh(x * 2)))
    >>> drawing = step.draw(np.ones(3), stage="recorded")
    >>> [(edge.tail, edge.head) for edge in drawing.scene.edges]
    [('input0', 'call0'), ('call0', 'call1'), ('call1', 'call2'), ('call2', 'result0')]
    """
    diagram = _Builder(len(graph.calls) > _FOLD).whole(graph)
    return partial(_draw, diagram, title, _counted(graph))


def _draw(diagram: Diagram, title: str, subtitle: str) -> Drawing:
    places = nested(diagram)
    scene = Scene(title, subtitle)
    compose(scene, diagram, places)
    finish(scene, places.width + 2 * LEFT, places.height + TOP + BOTTOM)
    return Drawing(scene)


class _Builder:
    """Builder of the diagram of a graph: first all boxes, then the edges between them."""

    def __init__(self, fold: bool) -> None:
        self._fold = fold
        self._diagram = Diagram()
        self._counts: Counter[str] = Counter()
        self._boxes: dict[Value, str] = {}  # value to the box that it comes from
        self._same: dict[Value, Value] = {}  # values in bodies to those outside, last values the other way
        self._sliced: dict[Value, Value] = {}  # from values of bodies to the arrays that they are slices of
        self._last: set[Value] = set()  # carried values after the last step
        self._order: dict[str, int] = {}  # of the boxes of calls
        self._edges: dict[tuple[str, str, str], DiagramEdge] = {}

    def whole(self, graph: Graph) -> Diagram:
        """Return the diagram of a graph, with its inputs and its results."""
        kinds: tuple[tuple[BoxKind, list[Value]], ...] = (("input", graph.inputs), ("parameter", graph.captured))
        for kind, values in kinds:
            for value in values:
                self._boxes[value] = self._box(kind, _box(kind, value.name or kind, _shape(value)))
        self._calls(graph, None)
        self._operands(graph)
        for number, value in enumerate(graph.outputs):
            self._edge(value, self._box("result", _box("result", f"result {number}", _shape(value))))
        self._diagram.edges = list(self._edges.values())
        return self._diagram

    def _box(self, name: str, content: Content, group: Group | None = None) -> str:
        id = f"{name}{self._counts[name]}"
        self._counts[name] += 1
        self._diagram.boxes[id] = content
        if group is not None:
            group.members.append(id)
        return id

    # -- boxes --------------------------------------------------------------------------------------------------------

    def _calls(self, graph: Graph, group: Group | None, place: tuple[str, ...] = ()) -> None:
        """Draw calls and loops; the names of modules in `place` are known from the region around them."""
        for calls in _groups(graph, self._fold):
            if calls[0].name == "loop":
                self._loop(calls[0], group)
                continue
            box = self._box("call", _content(calls, place), group)
            self._order[box] = len(self._order)
            self._boxes.update((value, box) for call in calls for value in call.outputs)

    def _loop(self, call: Call, outer: Group | None) -> None:
        body: Body = call.attrs["body"]
        graph, n, m = body.graph, body.carried, body.carried + body.sliced
        self._same.update(zip(graph.inputs[m:], call.inputs[m:], strict=True))
        self._same.update(zip(call.outputs[:n], graph.outputs[:n], strict=True))
        self._last.update(call.outputs[:n])
        self._sliced.update(zip(graph.inputs[n:m], call.inputs[n:m], strict=True))
        id = f"loop{len(self._diagram.groups)}"
        group = Group(" · ".join(filter(None, [f"loop, {_steps(body)}", ".".join(call.place[1])])))
        self._diagram.groups[id] = group
        if outer is not None:
            outer.members.append(id)
        for value in graph.inputs[:n]:
            self._boxes[value] = self._box("state", _box("state", "carried", _shape(value)), group)
        for value, whole in zip(graph.inputs[n:m], call.inputs[n:m], strict=True):
            self._boxes[value] = self._box("slice", _box("view", f"{self._name(whole)}[t]", _shape(value)), group)
        self._calls(graph, group, call.place[1])
        for value, stack in zip(graph.outputs[n:], call.outputs[n:], strict=True):
            content = _box("joined", f"{self._name(value)}, all t", _shape(stack))
            self._boxes[stack] = self._box("stack", content, outer)

    def _name(self, value: Value) -> str:
        """Return a short name of what a slice or a stack is made of."""
        while value in self._sliced or value in self._same:
            value = self._sliced[value] if value in self._sliced else self._same[value]
        maker = value.maker
        if maker is None:
            return value.name or ("carried" if value.constant is None else "constant")
        if maker.name in VIEWS and isinstance(maker.inputs[0], Value):
            return self._name(maker.inputs[0])
        if maker.name != "loop":
            return maker.name
        body: Body = maker.attrs["body"]
        return self._name(body.graph.outputs[value.index])

    # -- edges --------------------------------------------------------------------------------------------------------

    def _operands(self, graph: Graph) -> None:
        for call in graph.calls:
            if call.name == "loop":
                self._through(call)
                continue
            for value in call.values():
                self._edge(value, self._boxes[call.outputs[0]])

    def _through(self, call: Call) -> None:
        """Draw the edges into a loop, within it, from each step to the next, and out of it."""
        body: Body = call.attrs["body"]
        graph, n, m = body.graph, body.carried, body.carried + body.sliced
        for outer, value in zip(call.inputs[:m], graph.inputs[:m], strict=True):
            self._edge(outer, self._boxes[value])
        self._operands(graph)
        for value, stack in zip(graph.outputs[n:], call.outputs[n:], strict=True):
            self._edge(value, self._boxes[stack])
        for before, after in zip(graph.inputs[:n], graph.outputs[:n], strict=True):
            tail, head = self._end(after), self._boxes[before]
            if tail != head:
                self._edges[tail, head, "next"] = DiagramEdge(tail, head, back=True, tooltip="into the next step")

    def _edge(self, value: Value, head: str) -> None:
        tail = self._end(value)
        is_back = tail in self._order and head in self._order and self._order[tail] >= self._order[head]
        label = "last" if value in self._last else ""
        edge = DiagramEdge(tail, head, label=label, back=is_back, tooltip=_shape(value))
        if tail != head:
            self._edges.setdefault((tail, head, label), edge)

    def _end(self, value: Value) -> str:
        """Return the box that a value comes from; that of a constant is added when it is first needed."""
        while value in self._same:
            value = self._same[value]
        if value not in self._boxes:
            self._boxes[value] = self._box("constant", _box("constant", _number(value), _shape(value)))
        return self._boxes[value]


def _groups(graph: Graph, fold: bool) -> list[list[Call]]:
    """Return groups of calls that are drawn as one box, in the order of their first calls."""
    groups: dict[Hashable, list[Call]] = {}
    seen: Counter[Hashable] = Counter()
    for call in graph.calls:
        key: Hashable = call
        if fold and call.step is not None and call.name != "loop":
            role = (call.operator.key, call.place[1], tuple(v.shape for v in call.outputs), *map(_role, call.inputs))
            seen[call.step, role] += 1
            key = role, seen[call.step, role]  # the first, second, ... call of this role in its step
        groups.setdefault(key, []).append(call)
    return list(groups.values())


def _role(part: object) -> Hashable:
    """Return a key of where an operand comes from that is the same at every step."""
    if not isinstance(part, Value):
        return repr(part)
    if part.maker is None or (part.maker.step is None and part.maker.name != "unstack"):
        return part
    return part.maker.operator.key, part.shape


def _kind(call: Call) -> BoxKind:
    if call.name == "matmul":
        return "product"
    if call.name in ("stack", "concatenate", "contiguous"):
        return "joined"
    return "view" if call.name in VIEWS else "operation"


def _content(group: list[Call], place: tuple[str, ...] = ()) -> Content:
    """Return the content of the box of a call, or of calls that do the same at several steps."""
    first = group[0]
    numbers = [f"{part:.4g}" for part in first.inputs if isinstance(part, int | float)]
    lines = []
    steps = sorted({call.step for call in group if call.step is not None})
    if len(group) > 1:
        lines.append(f"{len(group)} times, steps {steps[0]} to {steps[-1]}")
    elif steps:
        lines.append(f"step {steps[0]}")
    if first.place[1] != place:
        lines.append(".".join(first.place[1]))
    shape = " | ".join(dict.fromkeys(map(_shape, first.outputs)))
    return _box(_kind(first), " ".join([first.name, *numbers]), *filter(None, lines), shape)


def _box(kind: BoxKind, title: str, *lines: str) -> Content:
    return Content(kind, title, tuple(map(Row, lines)), "\n".join([title, *lines]))


def _number(value: Value) -> str:
    """Return the number that all elements of a constant are, if that is quick to check, else "constant"."""
    array = value.constant
    if array is None or array.size == 0 or not (array.size <= _LOOK or not any(array.strides)):
        return "constant"
    first = array.flat[0]
    return f"{first.item():.4g}" if not any(array.strides) or (array == first).all() else "constant"


def _steps(body: Body) -> str:
    return f"T = {body.steps} {'step' if body.steps == 1 else 'steps'}{', in reverse' if body.reverse else ''}"


def _counted(graph: Graph) -> str:
    """Return the number of calls as text, those of a body counted once."""
    inside = [len(call.attrs["body"].graph.calls) for call in graph.calls if call.name == "loop"]
    text = f"{len(graph.calls) - len(inside) + sum(inside)} calls"
    return f"{text}, {sum(inside)} in {'a loop' if len(inside) == 1 else f'{len(inside)} loops'}" if inside else text


def _shape(value: Value) -> str:
    if value.dtype == object:
        return "generator"
    return "×".join(map(str, value.shape)) or "scalar"
