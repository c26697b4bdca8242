"""Drawings of a graph before and behind a pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from typing import Any

import graphviz

from .elementwise import ELEMENTWISE
from .graph import Call, Graph, Value
from .operators import VIEWS

_FOLD = 40  # calls; a graph with more of them is drawn with the steps of a sequence on top of each other

# What a call does is told by its shape too, so that the drawing does not depend on its colours.
_STYLES = {
    "product": {"shape": "box", "fillcolor": "#9ecae1", "penwidth": "2"},
    "elementwise": {"shape": "ellipse", "fillcolor": "#c7e9c0"},
    "view": {"shape": "box", "style": "dashed", "fontcolor": "#555555"},
    "joined": {"shape": "trapezium", "fillcolor": "#fdd0a2"},
    "other": {"shape": "hexagon", "fillcolor": "#dadaeb"},
}
_ENDS = {
    "input": {"shape": "invhouse", "fillcolor": "#fff7bc"},
    "parameter": {"shape": "cylinder", "fillcolor": "#fee391"},
    "constant": {"shape": "note", "fillcolor": "#f0f0f0"},
    "result": {"shape": "doubleoctagon", "fillcolor": "#fcbba1"},
}
_PAGE = {"labelloc": "t", "fontname": "Helvetica", "fontsize": "18"}
_NODES = {"style": "filled", "fontname": "Helvetica", "fontsize": "11", "height": "0.3", "margin": "0.08,0.04"}
_EDGES = {"fontname": "Helvetica", "fontsize": "9", "arrowsize": "0.7"}


def picture(graph: Graph, title: str = "", fold: bool | None = None) -> graphviz.Source:
    """Return a drawing of a graph: a node for each call, an edge for each value, with its shape.

    Folded, calls that do the same at several time steps are one node, with their number and steps; what a step hands
    on to the next is then an edge from a node back to it, in red.

    Args:
        graph: what is drawn.
        title: put above the drawing.
        fold: whether to fold the time steps; None: if there are more than 40 calls.

    Returns:
        A `graphviz.Source`: `.source` is its text, `.render(...)` writes a file where Graphviz is installed.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> step = tr.compile(lambda x: np.sum(np.tanh(x * 2)))
    >>> drawing = step.draw(np.ones(3), stage="recorded")
    >>> [line.split("[")[0].strip() for line in drawing.source.splitlines() if "->" in line]
    ['input0 -> call0', 'call0 -> call1', 'call1 -> call2', 'call2 -> result0']
    """
    fold = len(graph.calls) > _FOLD if fold is None else fold
    label = f"{title} ({len(graph.calls)} calls)" if title else ""
    dot = graphviz.Digraph(graph_attr={"label": label, **_PAGE}, node_attr=_NODES, edge_attr=_EDGES)
    groups = _groups(graph, fold)
    at = {call: f"call{number}" for number, group in enumerate(groups) for call in group}
    for kind, values in (("input", graph.inputs), ("parameter", graph.captured)):
        for number, value in enumerate(values):
            dot.node(f"{kind}{number}", f"{value.name or kind}\n{_shape(value)}", **_ENDS[kind])
    names = {value: f"{kind}{n}" for kind, values in _sources(graph) for n, value in enumerate(values)}
    for group in groups:
        dot.node(at[group[0]], _label(group), **_STYLES[_kind(group[0])])
    place = {name: number for number, group in enumerate(groups) for name in (at[group[0]],)}
    edges = dict.fromkeys(
        (_end(value, at, names, dot), at[call], _shape(value)) for call in graph.calls for value in call.values()
    )
    for tail, head, shape in edges:
        back = tail in place and place[tail] >= place[head]
        extra = {"color": "#cb181d", "constraint": "false", "penwidth": "1.5"} if back else {}
        dot.edge(tail, head, shape, **extra)
    for number, value in enumerate(graph.outputs):
        dot.node(f"result{number}", f"result {number}\n{_shape(value)}", **_ENDS["result"])
        dot.edge(_end(value, at, names, dot), f"result{number}", _shape(value))
    return graphviz.Source(dot.source)


def _sources(graph: Graph) -> list[tuple[str, list[Value]]]:
    return [("input", graph.inputs), ("parameter", graph.captured)]


def _end(value: Value, at: dict[Call, str], names: dict[Value, str], dot: graphviz.Digraph) -> str:
    """Return the node that a value comes from; that of a constant is put in when it is first needed."""
    if value.maker is not None:
        return at[value.maker]
    if value not in names:
        names[value] = f"constant{value.number}"
        text = f"{value.constant.item():.4g}" if value.constant is not None and value.size == 1 else "constant"
        dot.node(names[value], f"{text}\n{_shape(value)}", **_ENDS["constant"])
    return names[value]


def _groups(graph: Graph, fold: bool) -> list[list[Call]]:
    """Return the calls that are drawn as one node, in the order of the first of each."""
    groups: dict[Hashable, list[Call]] = {}
    seen: Counter[Hashable] = Counter()
    for call in graph.calls:
        key: Hashable = call
        if fold and call.step is not None:
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


def _label(group: list[Call]) -> str:
    first = group[0]
    numbers = [f"{part:.4g}" for part in first.inputs if isinstance(part, int | float)]
    lines = [" ".join([first.name, *numbers])]
    steps = sorted({call.step for call in group if call.step is not None})
    if len(group) > 1:
        lines.append(f"{len(group)} times, steps {steps[0]} to {steps[-1]}")
    elif steps:
        lines.append(f"step {steps[0]}")
    if first.place[1]:
        lines.append(".".join(first.place[1]))
    return "\n".join(lines)


def _shape(value: Value) -> str:
    if value.dtype == object:
        return "generator"
    return " x ".join(map(str, value.shape)) or "scalar"
