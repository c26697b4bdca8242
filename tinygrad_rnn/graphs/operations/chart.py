"""The operations of one step, or of a small graph, as boxes and lines that have no places yet: `Chart`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ...engine.tape import Node
from ...pictures.layout.content import Content
from ...pictures.scene.legend import short_number
from ...pictures.scene.scene import Row
from ..content.builder import ContentBuilder, data_key
from ..model.flow import Flow
from ..model.formula import symbol
from ..model.graph import Edge, Graph
from ..model.operations import Operation, terms_of
from ..rolled.sketch import Line

_MANY = 8  # readers of a leaf; more lines than that from one box would be a tangle


@dataclass
class Chart:
    """Boxes and lines, without places.

    Attributes:
        figures: id to box.
        lines: between them, in the direction of values.
        scopes: id of an operation's box to the modules that it was recorded in.
        nodes: id of an operation's (or parameter's) box to its node.
        losses: ids of the boxes of losses.
    """

    figures: dict[str, Content] = field(default_factory=dict)
    lines: list[Line] = field(default_factory=list)
    scopes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    nodes: dict[str, Node] = field(default_factory=dict)
    losses: list[str] = field(default_factory=list)


def chart_of(graph: Graph, flow: Flow | None, ops: Sequence[Operation], chosen: Collection[int]) -> Chart:
    """Return the chart of some operations of a graph, with what they read and, where that is elsewhere, who reads them.

    Args:
        graph: what was recorded.
        flow: its gradient, or None.
        ops: of the whole graph, oldest first.
        chosen: ids of the operations to draw.
    """
    return _Charter(graph, flow, ops, chosen).draw()


class _Charter:
    def __init__(self, graph: Graph, flow: Flow | None, ops: Sequence[Operation], chosen: Collection[int]) -> None:
        self.graph, self.flow, self.chosen = graph, flow, chosen
        self.ops = {op.id: op for op in ops}
        self.figures = ContentBuilder(graph, flow)
        self.chart = Chart()
        self.losses = {node.id for node, _ in graph.losses}
        self.terms = terms_of(ops, (node for node, _ in graph.losses))
        if len(graph.losses) > 1:
            self.terms |= {node.id: number for number, (node, _) in enumerate(graph.losses, start=1)}
        self.data: dict[Any, str] = {}
        here = [op for op in ops if op.id in chosen]
        self.reads = Counter(edge.source for op in here for edge in op.inputs if edge.source is not None)
        self.carried = {  # results that a later step reads: states
            edge.source.id
            for op in ops
            for edge in op.inputs
            if edge.source is not None and (step := self._step(edge.source)) is not None and (op.step or 0) > step
        }

    def draw(self) -> Chart:
        for op in self.ops.values():
            if op.id in self.chosen:
                self._operation(op)
        for op in self.ops.values():
            for number, edge in enumerate(op.inputs):
                if op.id in self.chosen:
                    self._input(op, number, edge)
                elif edge.source is not None and edge.source.id in self.chosen:
                    self._reader(op, edge)
        return self.chart

    def _step(self, node: Node) -> int | None:
        op = self.ops.get(node.id)
        return None if op is None else op.step

    def _id(self, node: Node) -> str:
        return f"n{self.graph.number[node]}"

    def _operation(self, op: Operation) -> None:
        id, node = self._id(op.node), op.node
        if node.id in self.losses or node.id in self.terms:
            whole = node.id in self.losses and node.id not in self.terms
            title = "L" if whole else f"ℓ_{{{self.terms[node.id]}}}"
            summary = self.graph.summary((node, 0))
            value = "" if summary is None or summary.size > 1 else f" = {short_number(summary.mean)}"
            self.chart.figures[id] = self.figures.loss(op, title, symbol(op.name) + value, strong=whole)
            if whole or node.id in self.losses or not self.losses & set(self.chosen):
                self.chart.losses.append(id)
        else:
            self.chart.figures[id] = self._figure(op)
        self.chart.scopes[id], self.chart.nodes[id] = node.scope, node
        found = self.figures.attribute(op)
        if found is not None:
            self.chart.figures[f"{id}.{found[0]}"] = found[1]
            self.chart.lines.append(Line(f"{id}.{found[0]}", id))

    def _figure(self, op: Operation) -> Content:
        given = self.figures.names.get(op.id)
        subscript = "" if op.step is None else f"_{{{op.step + 1}}}"
        if op.id in self.carried:
            return self.figures.operation(op, states=[f"{given[0] if given else 's'}{subscript}"])
        figure = self.figures.operation(op)
        shape = self.figures.shape_row(op)
        return replace(figure, rows=(*figure.rows, shape))

    def _input(self, op: Operation, number: int, edge: Edge) -> None:
        head = self._id(op.node)
        magnitude = None if self.flow is None else self.flow.edge(*edge.use)
        label = ""
        if edge.source is None:
            tail = self._constant(op, edge)
            if tail is None:
                return
        elif edge.source in self.figures.parameter_of:
            tail = self._parameter(edge.source, head)
        else:
            tail = self._id(edge.source)
            label = self.figures.output_name(edge)
            if edge.source.id not in self.chosen:
                self._elsewhere(self.ops[edge.source.id])
        if edge.cuts and edge.source is not None:
            tail = self._cut(tail, edge)
        self.chart.lines.append(
            Line(tail, head, magnitude, closed=edge.closed and edge.source is not None, label=label)
        )

    def _parameter(self, leaf: Node, head: str) -> str:
        """Return the box of a leaf; one that is read at many places stands at each of them."""
        figure = self.figures.parameter(leaf)
        if self.reads[leaf] <= _MANY:
            id = self._id(leaf)
        else:
            id = f"{self._id(leaf)} {head}"
            figure = replace(figure, rows=(*figure.rows, Row(f"read {self.reads[leaf]} times")))
        self.chart.figures.setdefault(id, figure)
        self.chart.nodes[id] = leaf
        return id

    def _constant(self, op: Operation, edge: Edge) -> str | None:
        key = data_key(edge)
        if key is None:
            return None
        if key not in self.data:
            self.data[key] = f"data{len(self.data)}"
            subscript = "" if op.step is None else f"_{{{op.step + 1}}}"
            title = f"x{subscript}" if op.name == "matmul" else "data"
            self.chart.figures[self.data[key]] = self.figures.data(title, edge.spec)
        return self.data[key]

    def _elsewhere(self, op: Operation) -> None:
        """Draw a result of another step, or of no step, that is read here."""
        id = self._id(op.node)
        self.chart.nodes[id] = op.node
        if id not in self.chart.figures:
            figure = self._figure(op)
            where = "" if op.step is None else f"from t = {op.step + 1}"
            facts = f"{figure.tooltip}\n{where}" if where else figure.tooltip
            self.chart.figures[id] = replace(figure, kind="state" if op.id in self.carried else "input", tooltip=facts)

    def _cut(self, tail: str, edge: Edge) -> str:
        cut = edge.cuts[0]
        id, scale = self._id(cut), float(cut.attrs["scale"])
        if id not in self.chart.figures:
            factor = short_number(scale)
            title = "" if edge.closed else f"× {factor}"
            said = "cut\nno gradient passes" if edge.closed else f"cut\nfactor: {factor}"
            self.chart.figures[id] = Content("cut", title, (), said, factor=0.0 if edge.closed else scale)
            passed = None if self.flow is None or edge.closed else self.flow.edge(*edge.passed)
            self.chart.lines.append(Line(tail, id, passed, closed=edge.closed))
        return id

    def _reader(self, op: Operation, edge: Edge) -> None:
        """Draw where a result goes that is read elsewhere: gradient comes in from there."""
        assert edge.source is not None
        tail = self._id(edge.source)
        title = f"t = {op.step + 1}" if op.step is not None else "L" if op.id in self.losses else symbol(op.name)
        id = f"to {title} {tail}"
        magnitude = None if self.flow is None or edge.closed else self.flow.edge(*edge.passed)
        if id in self.chart.figures:  # read several times: the norms of its terms are joined below
            before = next(n for n, line in enumerate(self.chart.lines) if line.head == id)
            line = self.chart.lines[before]
            known = [m for m in (line.magnitude, magnitude) if m is not None]
            self.chart.lines[before] = replace(line, magnitude=max(known) if known else None)
            return
        self.chart.figures[id] = Content("constant", title, (), f"read at {title}")
        self.chart.lines.append(Line(tail, id, magnitude, closed=edge.closed))
