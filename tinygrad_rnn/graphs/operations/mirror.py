"""The recorded backward pass of some operations as boxes and lines, each in the level of its operation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ...engine.tape import Array, Node
from ...pictures.layout.content import Content
from ...pictures.scene.legend import short_number
from ...pictures.scene.scene import Row
from ..content.builder import last_name
from ..model.flow import Flow, norm
from ..model.formula import symbol
from ..model.graph import Graph, is_passage, shape_text
from ..model.operations import Operation
from ..rolled.sketch import Line
from .chart import Chart

_TURNING = frozenset(("transpose", "reshape", "astype"))  # not drawn: they move elements, or change their dtype
_SYMBOLS = {"take_back": "add to rows", "cross_entropy_back": "softmax − target", "scatter": "put back"}
_SIGNS = {"matmul": "·", "multiply": " ⊙ ", "add": " + ", "subtract": " − ", "divide": " / "}
_LIMIT = 24  # characters of a formula


@dataclass
class Made:
    """What the backward pass recorded.

    Attributes:
        by: forward node to the nodes that its rule made, oldest first.
        arrives: forward node to the nodes that add up what comes back to it, oldest first.
        values: node to its array.
        sent: (node, number of its input) to the node that is the cotangent its rule sent there (None: a constant).
        seeds: the leaves that the pass starts from, one for each loss.
    """

    by: dict[Node, list[Node]] = field(default_factory=dict)
    arrives: dict[Node, list[Node]] = field(default_factory=dict)
    values: dict[Node, Array] = field(default_factory=dict)
    sent: dict[tuple[Node, int], Node | None] = field(default_factory=dict)
    seeds: list[Node] = field(default_factory=list)


class Mirror:
    """The backward side of a picture.

    Args:
        graph: what was recorded.
        flow: its gradient, or None.
        forward: the chart of the forward side.
        chosen: the operations that it draws.
        made: the recorded backward pass.

    Attributes:
        chart: boxes and lines of the backward side, lines in the direction of cotangents.
        crossing: from boxes of the forward side to boxes that read an array kept there.
        levels: id of an operation to its boxes, each with its depth: 0 is computed first.
        ends: id of a forward box that is no operation to the box with its cotangent.
        starts: id of a box where cotangents come in to the operation (by its id) at whose level they do.
    """

    def __init__(
        self, graph: Graph, flow: Flow | None, forward: Chart, chosen: Sequence[Operation], made: Made
    ) -> None:
        self.graph, self.flow, self.forward, self.made = graph, flow, forward, made
        self.chart = Chart()
        self.crossing: list[Line] = []
        self.levels: dict[int, dict[str, int]] = {op.id: {} for op in chosen}
        self.ends: dict[str, str] = {}
        self.starts: dict[str, int] = {}
        self._chosen = chosen
        self._part_of = {node: op for op in chosen for node in op.nodes}
        self._front = {node: f"n{graph.number[op.node]}" for node, op in self._part_of.items()}
        self._front |= {node: id for id, node in forward.nodes.items()}
        self._names = graph.names
        self._home: dict[Node, Operation] = {}
        for op in chosen:
            cuts = [cut for edge in op.inputs for cut in edge.cuts]
            for node in (*op.nodes, *cuts):
                for new in (*made.arrives.get(node, ()), *made.by.get(node, ())):
                    self._home.setdefault(new, op)  # of the operations that read a cut the oldest sends back last
        drawn = [node for node in sorted(self._home, key=lambda node: node.id) if not _is_folded(node)]
        self._ids = {node: f"d{number}" for number, node in enumerate(drawn)}
        self._elsewhere: dict[Node, str] = {}
        self._kept_only: set[Node] = set()  # computed from kept arrays alone: no cotangent
        self._formulas: dict[Node, str] = {}
        for node, id in self._ids.items():
            self._operation(node, id)
        self._cotangents_of_inputs()
        self._where_it_starts()

    def _resolve(self, node: Node) -> tuple[Node, bool]:
        """Return what a node shows, through operations that only move elements, and whether axes are exchanged."""
        turned = False
        while _is_folded(node) and node not in self._front:
            edge = node.edges[0]
            if edge is None:
                break
            turned ^= node.name == "transpose"
            node = edge[0]
        return node, turned

    def _called(self, node: Node, number: int) -> str:
        """Return what an input of a backward operation is called: g for a cotangent, the name of a kept array."""
        edge = node.edges[number]
        if edge is None:
            value = node.inputs[number]
            return short_number(value) if isinstance(value, int | float) else _data(value)
        source, turned = self._resolve(edge[0])
        if source in self.graph.number:
            name = self._front_name(source, edge[1] if source is edge[0] else 0, node)
            return f"{name}ᵀ" if turned and name else name
        if source in self._kept_only:
            inner = self._formulas.get(source, "")
            return f"({inner})" if inner else "·"
        return "gᵀ" if turned else "g"

    def _front_name(self, source: Node, output: int, reader: Node) -> str:
        """Return the name of a kept array: a parameter's, the one its line gave it, y for the rule's own output."""
        if source in self.graph.number and source.operation is None and source in self._front:
            return self.forward.figures[self._front[source]].title
        if source.id in self._names:
            return self._names[source.id][output]
        own = self._part_of.get(source)
        return (
            "y" if own is not None and own is self._home[reader] else "x" if source.name in ("take", "unstack") else "·"
        )

    def _operation(self, node: Node, id: str) -> None:
        op = self._home[node]
        formula = ""
        if node.name in _SIGNS:
            formula = _SIGNS[node.name].join(self._called(node, number) for number in range(len(node.edges)))
        self._formulas[node] = formula = formula if len(formula) <= _LIMIT else ""
        value = self.made.values.get(node)
        shape = shape_text(node.specs[0].shape)
        facts = [f"operation: {node.name}", f"made by: the rule of {op.name}", f"shape: {shape}"]
        facts += [] if value is None else [f"norm: {short_number(norm(value))}"]
        rows = (*([Row(formula)] if formula else []), Row(shape))
        sign = _SYMBOLS.get(node.name, symbol(node.name))
        self.chart.figures[id] = Content("operation", sign, rows, "\n".join([formula or node.name, *facts]))
        depth, kept_only = 0, True
        for source in dict.fromkeys(self._resolve(edge[0])[0] for edge in node.edges if edge is not None):
            if source in self.graph.number:
                if source in self._front:
                    self.crossing.append(Line(self._front[source], id))
                continue
            kept_only = kept_only and source in self._kept_only
            self.chart.lines.append(Line(self._source(source, op), id, self._magnitude(source)))
            if self._home.get(source) is op:
                depth = max(depth, self.levels[op.id][self._ids[source]] + 1)
        if kept_only:
            self._kept_only.add(node)
        self.levels[op.id][id] = depth

    def _magnitude(self, node: Node | None) -> float | None:
        if self.flow is None or node is None or node in self._kept_only or node not in self.made.values:
            return None
        return norm(self.made.values[node])

    def _source(self, node: Node, op: Operation) -> str:
        """Return the box of a backward node; one of another step, or a seed, gets a box where it comes in."""
        if node in self._ids:
            return self._ids[node]
        if node not in self._elsewhere:
            id = f"from{len(self._elsewhere)}"
            self._elsewhere[node] = id
            self.starts[id] = op.id
            if node in self.made.seeds:
                self.chart.figures[id] = Content("loss", "∂L/∂L = 1", (), "seed\nthe cotangent of the loss")
            else:
                self.chart.figures[id] = Content(
                    "constant", "∂L/∂·", (Row("from a later step"),), "comes from a later step"
                )
        return self._elsewhere[node]

    def _cotangents_of_inputs(self) -> None:
        """Draw where cotangents leave: to parameters, and to results of other steps."""
        for op in self._chosen:
            for edge in op.inputs:
                source = edge.source
                if source is None or source in self._part_of or source not in self._front or edge.closed:
                    continue
                sent = self.made.sent.get(edge.passed)
                if sent is None:
                    continue
                front = self._front[source]
                if front not in self.ends:
                    self.ends[front] = f"end{len(self.ends)}"
                    self._end(front, source, op)
                magnitude = None if self.flow is None else self.flow.edge(*edge.passed)
                self.chart.lines.append(Line(self._source(self._resolve(sent)[0], op), self.ends[front], magnitude))

    def _end(self, front: str, source: Node, op: Operation) -> None:
        figure = self.forward.figures[front]
        title = last_name(figure.title)
        shape = shape_text(source.specs[0].shape)
        self.chart.figures[self.ends[front]] = Content(
            figure.kind, f"∂{title}", (Row(shape),), f"gradient of {title}\nshape: {shape}\nfrom this step"
        )

    def _where_it_starts(self) -> None:
        """Say, better than "a later step", which one a cotangent comes from."""
        later = {}
        for node, made in (*self.made.by.items(), *self.made.arrives.items()):
            for new in made:
                later[new] = node
        for node, id in self._elsewhere.items():
            maker = later.get(node)
            if maker is not None:
                summed = maker.specs[0].shape in ((), (1,))  # on the way to the loss
                title = f"t = {maker.step + 1}" if maker.step is not None else "L" if summed else symbol(maker.name)
                figure = self.chart.figures[id]
                self.chart.figures[id] = Content("constant", title, (Row("∂L"),), figure.tooltip)


def _is_folded(node: Node) -> bool:
    return len(node.edges) == 1 and (node.name in _TURNING or is_passage(node))


def _data(value: Any) -> str:
    """Return what an array is called that the graph did not compute; a number that was not kept is the 1 of a rule."""
    return "x" if value.ndim else "1"
