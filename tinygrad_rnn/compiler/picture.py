"""Drawings of a graph before and after a pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from typing import Any

import graphviz

from .ir.graph import Body, Call, Graph, Value
from .ir.table import ELEMENTWISE, VIEWS

_FOLD = 40  # calls; a graph with more of them is drawn with the steps of a sequence on top of each other
_LOOK = 4096  # elements of a constant that are looked at

# What a call does is told by its shape too, so that the drawing does not depend on its colours.
_STYLES = {
    "product": {"shape": "box", "fillcolor": "#9ecae1", "penwidth": "2"},
    "elementwise": {"shape": "ellipse", "fillcolor": "#c7e9c0"},
    "view": {"shape": "box", "style": "dashed", "fontcolor": "#555555"},
    "joined": {"shape": "trapezium", "fillcolor": "#fdd0a2"},
    "other": {"shape": "hexagon", "fillcolor": "#dadaeb"},
    "input": {"shape": "invhouse", "fillcolor": "#fff7bc"},
    "parameter": {"shape": "cylinder", "fillcolor": "#fee391"},
    "constant": {"shape": "note", "fillcolor": "#f0f0f0"},
    "state": {"shape": "box", "style": "filled,rounded", "fillcolor": "#fde0ef"},
    "slice": {"shape": "box", "style": "dashed", "fontcolor": "#555555"},
    "stack": {"shape": "box3d", "fillcolor": "#fdd0a2", "margin": "0.14,0.1"},
    "result": {"shape": "doubleoctagon", "fillcolor": "#fcbba1"},
}
_PAGE = {"labelloc": "t", "fontname": "Helvetica", "fontsize": "18"}
_BOX = {"style": "filled,rounded", "color": "#08519c", "fillcolor": "#f7fbff", "fontsize": "14", "labeljust": "l"}
_NODES = {"style": "filled", "fontname": "Helvetica", "fontsize": "11", "height": "0.3", "margin": "0.08,0.04"}
_EDGES = {"fontname": "Helvetica", "fontsize": "9", "arrowsize": "0.7"}
_NEXT = {"color": "#cb181d", "fontcolor": "#cb181d", "style": "dashed", "constraint": "false", "penwidth": "1.5"}


def picture(graph: Graph, title: str = "", fold: bool | None = None) -> graphviz.Source:
    """Return a drawing of a graph: a node for each call, an edge for each value, with its shape.

    A loop is a box with its body inside, once. Rounded nodes are carried values as they are before a step; what a step
    hands on to the next is a dashed red edge back to them. Nodes [t] are the slice of a step, and results of all steps
    leave the box to their stack. What is the same at each step goes straight in.

    Folded, calls outside of loops that do the same at several time steps are one node, with their number and steps;
    what a step hands on to the next leads back, dashed and red.

    Args:
        graph: what is drawn.
        title: put above the drawing.
        fold: whether to fold time steps that are not a loop; None: if there are more than 40 calls.

    Returns:
        A `graphviz.Source`: `.source` is its text, `.render(...)` writes a file where Graphviz is installed.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> step = tr.compile(lambda x: np.sum(np.tanh(x * 2)))
    >>> drawing = step.draw(np.ones(3), stage="recorded")
    >>> [line.split("[")[0].strip() for line in drawing.source.splitlines() if "->" in line]
    ['input0 -> call0', 'call0 -> call1', 'call1 -> call2', 'call2 -> result0']
    """
    label = f"{title} ({_counted(graph)})" if title else ""
    dot = graphviz.Digraph(graph_attr={"label": label, **_PAGE}, node_attr=_NODES, edge_attr=_EDGES)
    _Drawing(dot, len(graph.calls) > _FOLD if fold is None else fold).whole(graph)
    return graphviz.Source(dot.source)


class _Drawing:
    """What has been drawn so far: first all nodes, then the edges between them."""

    def __init__(self, dot: graphviz.Digraph, fold: bool) -> None:
        self._dot, self._fold = dot, fold
        self._counts: Counter[str] = Counter()
        self._nodes: dict[Value, str] = {}  # that values come from
        self._same: dict[Value, Value] = {}  # what values of bodies are outside, and finals of loops inside
        self._sliced: dict[Value, Value] = {}  # from values of bodies to the arrays that they are slices of
        self._last: set[Value] = set()  # carried values after the last step
        self._order: dict[str, int] = {}  # of the nodes of calls
        self._edges: dict[tuple[str, str, str], dict[str, str]] = {}

    def whole(self, graph: Graph) -> None:
        """Draw a graph, with what comes in and what is returned."""
        for kind, values in (("input", graph.inputs), ("parameter", graph.captured)):
            for value in values:
                self._nodes[value] = self._node(self._dot, kind, f"{value.name or kind}\n{_shape(value)}")
        self._calls(graph, self._dot)
        self._operands(graph)
        for number, value in enumerate(graph.outputs):
            self._edge(value, self._node(self._dot, "result", f"result {number}\n{_shape(value)}"))
        for (tail, head, label), attrs in self._edges.items():
            self._dot.edge(tail, head, label, **attrs)

    def _node(self, dot: graphviz.Digraph, kind: str, label: str, name: str = "") -> str:
        name = name or kind
        number = self._counts[name]
        self._counts[name] += 1
        dot.node(f"{name}{number}", label, **_STYLES[kind])
        return f"{name}{number}"

    # -- nodes ------------------------------------------------------------------------------------------------------

    def _calls(self, graph: Graph, dot: graphviz.Digraph, place: tuple[str, ...] = ()) -> None:
        """Draw calls and loops; the names of modules in `place` are known from the box around them."""
        for group in _groups(graph, self._fold):
            first = group[0]
            if first.name == "loop":
                self._loop(first, dot)
                continue
            node = self._node(dot, _kind(first), _label(group, place), "call")
            self._order[node] = len(self._order)
            self._nodes.update((value, node) for call in group for value in call.outputs)

    def _loop(self, call: Call, dot: graphviz.Digraph) -> None:
        body: Body = call.attrs["body"]
        graph, n, m = body.graph, body.carried, body.carried + body.sliced
        self._same.update(zip(graph.inputs[m:], call.inputs[m:], strict=True))
        self._same.update(zip(call.outputs[:n], graph.outputs[:n], strict=True))
        self._last.update(call.outputs[:n])
        self._sliced.update(zip(graph.inputs[n:m], call.inputs[n:m], strict=True))
        number = self._counts["loop"]
        self._counts["loop"] += 1
        with dot.subgraph(name=f"cluster_loop{number}") as box:
            box.attr(label="\\l".join([f"loop, {_steps(body)}", *_modules(call.place[1]), ""]), **_BOX)
            for value in graph.inputs[:n]:
                self._nodes[value] = self._node(box, "state", f"carried\n{_shape(value)}")
            for value, outer in zip(graph.inputs[n:m], call.inputs[n:m], strict=True):
                self._nodes[value] = self._node(box, "slice", f"{self._name(outer)}[t]\n{_shape(value)}")
            self._calls(graph, box, call.place[1])
        for value, stack in zip(graph.outputs[n:], call.outputs[n:], strict=True):
            self._nodes[stack] = self._node(dot, "stack", f"{self._name(value)}, all t\n{_shape(stack)}")

    def _name(self, value: Value) -> str:
        """Return what a slice or a stack is one of, in a word or two."""
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

    # -- edges ------------------------------------------------------------------------------------------------------

    def _operands(self, graph: Graph) -> None:
        for call in graph.calls:
            if call.name == "loop":
                self._through(call)
                continue
            for value in call.values():
                self._edge(value, self._nodes[call.outputs[0]])

    def _through(self, call: Call) -> None:
        """Draw what goes into a loop, around in it, and out of it."""
        body: Body = call.attrs["body"]
        graph, n, m = body.graph, body.carried, body.carried + body.sliced
        for outer, value in zip(call.inputs[:m], graph.inputs[:m], strict=True):
            self._edge(outer, self._nodes[value])
        self._operands(graph)
        for value, stack in zip(graph.outputs[n:], call.outputs[n:], strict=True):
            self._edge(value, self._nodes[stack])
        for before, after in zip(graph.inputs[:n], graph.outputs[:n], strict=True):
            self._edges[self._end(after), self._nodes[before], "next step"] = _NEXT

    def _edge(self, value: Value, head: str) -> None:
        tail = self._end(value)
        is_back = tail in self._order and head in self._order and self._order[tail] >= self._order[head]
        label = f"last: {_shape(value)}" if value in self._last else _shape(value)
        self._edges.setdefault((tail, head, label), _NEXT if is_back else {})

    def _end(self, value: Value) -> str:
        """Return the node that a value comes from; that of a constant is put in when it is first needed."""
        while value in self._same:
            value = self._same[value]
        if value not in self._nodes:
            self._nodes[value] = self._node(self._dot, "constant", f"{_number(value)}\n{_shape(value)}")
        return self._nodes[value]


def _groups(graph: Graph, fold: bool) -> list[list[Call]]:
    """Return the calls that are drawn as one node, in the order of the first of each."""
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


def _role(part: Any) -> Hashable:
    """Return where an operand comes from, in words that are the same at every step."""
    if not isinstance(part, Value):
        return repr(part)
    if part.maker is None or (part.maker.step is None and part.maker.name != "unstack"):
        return part
    return part.maker.operator.key, part.shape


def _kind(call: Call) -> str:
    if call.name == "matmul":
        return "product"
    if call.name in ("stack", "concatenate", "contiguous"):
        return "joined"
    return "elementwise" if call.name in ELEMENTWISE else "view" if call.name in VIEWS else "other"


def _label(group: list[Call], place: tuple[str, ...] = ()) -> str:
    first = group[0]
    numbers = [f"{part:.4g}" for part in first.inputs if isinstance(part, int | float)]
    lines = [" ".join([first.name, *numbers])]
    steps = sorted({call.step for call in group if call.step is not None})
    if len(group) > 1:
        lines.append(f"{len(group)} times, steps {steps[0]} to {steps[-1]}")
    elif steps:
        lines.append(f"step {steps[0]}")
    if first.place[1] != place:
        lines += _modules(first.place[1])
    return "\n".join(lines)


def _modules(names: tuple[str, ...]) -> list[str]:
    return [".".join(names)] if names else []


def _number(value: Value) -> str:
    """Return what all elements of a constant are, if that is quick to see."""
    array = value.constant
    if array is None or array.size == 0 or not (array.size <= _LOOK or not any(array.strides)):
        return "constant"
    first = array.flat[0]
    return f"{first.item():.4g}" if not any(array.strides) or (array == first).all() else "constant"


def _steps(body: Body) -> str:
    return f"T = {body.steps} {'step' if body.steps == 1 else 'steps'}{', in reverse' if body.reverse else ''}"


def _counted(graph: Graph) -> str:
    """Return how many calls there are, those of a body counted once."""
    inside = [len(call.attrs["body"].graph.calls) for call in graph.calls if call.name == "loop"]
    text = f"{len(graph.calls) - len(inside) + sum(inside)} calls"
    return f"{text}, {sum(inside)} in {'a loop' if len(inside) == 1 else f'{len(inside)} loops'}" if inside else text


def _shape(value: Value) -> str:
    if value.dtype == object:
        return "generator"
    return " x ".join(map(str, value.shape)) or "scalar"
