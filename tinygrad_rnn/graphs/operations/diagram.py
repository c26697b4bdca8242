"""The diagram of the operations of one step, or of a small graph: with their inputs, and readers in other steps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

from ...engine.tape import Node
from ...pictures.layout.content import Content
from ...pictures.layout.diagram import Diagram, DiagramEdge, Group
from ...pictures.scene.legend import short_number
from ...pictures.scene.scene import Row
from ..content.builder import ContentBuilder, cut_content
from ..model.constants import Constants
from ..model.dataflow import Dataflow
from ..model.flow import Flow
from ..model.formula import symbol
from ..model.graph import Edge
from ..model.operations import Operation

_MANY = 8  # readers of a leaf that share its box; the lines of more of them would tangle


@dataclass
class OperationDiagram(Diagram):
    """Operations and their surroundings, with a group for each module.

    Attributes:
        nodes: id of the box of an operation or a parameter to its node.
    """

    nodes: dict[str, Node] = field(default_factory=dict)


class OperationDiagramBuilder:
    """Builder of the diagram of some operations of a graph.

    Args:
        flow: the recorded graph, and its gradient.
        ops: all operations of the graph, oldest first.
        chosen: the operations to draw.
    """

    def __init__(self, flow: Flow, ops: Sequence[Operation], chosen: Collection[Operation]) -> None:
        self.graph, self.flow, self.chosen = flow.graph, flow, {op.node for op in chosen}
        self.ops = {op.node: op for op in ops}
        self.content = ContentBuilder(flow, Constants(flow.graph))
        self.made = OperationDiagram()
        self.losses = {node for node, _ in self.graph.losses}
        sums = [terms for added, terms in map(Dataflow(self.graph, ops).terms_of, self.graph.losses) if added]
        self.terms = {node: number for terms in sums for number, (node, _) in enumerate(terms, start=1)}
        if len(self.graph.losses) > 1:
            self.terms |= {node: number for number, (node, _) in enumerate(self.graph.losses, start=1)}
        self.outside: set[str] = set()  # ids of boxes of results of other steps
        self.elsewhere: dict[str, list[Edge]] = {}  # id of the box of a reader to what it reads
        self.reads = Counter(edge.source for op in chosen for edge in op.inputs if edge.source is not None)
        step_of = {op.node: op.step for op in ops}
        self.carried = {  # results that a later step reads: states
            edge.source
            for op in ops
            for edge in op.inputs
            if edge.source is not None and (step := step_of.get(edge.source)) is not None and (op.step or 0) > step
        }

    def build(self) -> OperationDiagram:
        """Return the diagram."""
        for op in self.ops.values():
            if op.node in self.chosen:
                self._operation(op)
        for op in self.ops.values():
            for edge in op.inputs:
                if op.node in self.chosen:
                    self._input(op, edge)
                elif edge.source in self.chosen:
                    self._reader(op, edge)
        self._readers()
        self._modules()
        return self.made

    def _modules(self) -> None:
        """Put the operations of each module, and the parameters that it alone reads, into a group."""
        module_of = {
            id: ".".join(node.scope) for id, node in self.made.nodes.items() if node in self.chosen and node.scope
        }
        for id in self.made.boxes:
            if id in self.made.nodes and self.made.nodes[id].operation is None:
                readers = {module_of.get(edge.head, "") for edge in self.made.edges if edge.tail == id}
                module_of[id] = readers.pop() if len(readers) == 1 else ""
        for id, module in module_of.items():
            if module:
                self.made.groups.setdefault(f"module {module}", Group(module)).members.append(id)

    def _id(self, node: Node) -> str:
        return f"n{self.graph.number[node]}"

    def _operation(self, op: Operation) -> None:
        id, node = self._id(op.node), op.node
        if node in self.losses or node in self.terms:
            whole = node in self.losses and node not in self.terms
            title = "L" if whole else f"ℓ_{{{self.terms[node]}}}"
            summary = self.graph.summary((node, 0))
            value = "" if summary is None or summary.size > 1 else f" = {short_number(summary.mean)}"
            self.made.boxes[id] = self.content.loss(op, title, symbol(op.name) + value, strong=whole)
            if whole or node in self.losses or not self.losses & set(self.chosen):
                self.made.losses.append(id)
        else:
            self.made.boxes[id] = self._content(op)
        self.made.nodes[id] = node
        array = self.content.attribute(self.made.boxes, op, id)
        self.made.edges += [] if array is None else [DiagramEdge(array, id)]

    def _content(self, op: Operation) -> Content:
        if op.node in self.carried:
            subscript = "" if op.step is None else f"_{{{op.step + 1}}}"
            return self.content.operation(op, states=[f"{self.graph.name(op.node) or 's'}{subscript}"])
        made = self.content.operation(op)
        return replace(made, rows=(*made.rows, self.content.shape_row(op)))

    def _input(self, op: Operation, edge: Edge) -> None:
        head = self._id(op.node)
        label = ""
        if edge.source is None:
            tail = self._constant(op, edge)
            if tail is None:
                return
        elif edge.source in self.content.parameter_of:
            tail = self._parameter(edge.source, head)
        else:
            tail = self._id(edge.source)
            label = self.content.output_name(edge)
            if edge.source not in self.chosen:
                self._elsewhere(self.ops[edge.source])
        if edge.cuts and edge.source is not None:
            tail = self._cut(tail, edge)
        closed = edge.closed and edge.source is not None
        self.made.edges.append(DiagramEdge(tail, head, self.flow.terms.get(edge.use), closed=closed, label=label))

    def _parameter(self, leaf: Node, head: str) -> str:
        """Return the id of the box of a leaf; a leaf with many readers has a box beside each of them."""
        made = self.content.parameter(leaf)
        if self.reads[leaf] <= _MANY:
            id = self._id(leaf)
        else:
            id = f"{self._id(leaf)} {head}"
            made = replace(made, rows=(*made.rows, Row(f"read {self.reads[leaf]} times")))
        self.made.boxes.setdefault(id, made)
        self.made.nodes[id] = leaf
        return id

    def _constant(self, op: Operation, edge: Edge) -> str | None:
        known, subscript = self.content.constants, ""
        if op.step is not None and not known.is_fixed(edge.use):
            subscript = f"_{{{op.step + (not known.starts(edge.use))}}}"
        return self.content.constant(self.made.boxes, edge, subscript)

    def _elsewhere(self, op: Operation) -> None:
        """Draw a result of another step, or of no step, that is read here."""
        id = self._id(op.node)
        self.outside.add(id)
        self.made.nodes[id] = op.node
        if id not in self.made.boxes:
            made = self._content(op)
            where = "" if op.step is None else f"from t = {op.step + 1}"
            facts = f"{made.tooltip}\n{where}" if where else made.tooltip
            self.made.boxes[id] = replace(made, kind="state" if op.node in self.carried else "input", tooltip=facts)

    def _cut(self, tail: str, edge: Edge) -> str:
        cut = self.graph.cuts[edge.cuts[0]]
        id = self._id(cut.node)
        if id not in self.made.boxes:
            self.made.boxes[id] = cut_content(0.0 if edge.closed else cut.scale, cut.label)
            passed = None if edge.closed else self.flow.terms.get(edge.passed)
            self.made.edges.append(DiagramEdge(tail, id, passed, closed=edge.closed))
            if tail in self.outside:  # a state and its cut stay together
                self.made.groups.setdefault(f"from {tail}", Group("", [tail])).members.append(id)
        return id

    def _reader(self, op: Operation, edge: Edge) -> None:
        """Record that a result is read in another step, from which a gradient comes back."""
        assert edge.source is not None
        title = f"t = {op.step + 1}" if op.step is not None else "L" if op.node in self.losses else symbol(op.name)
        id = f"to {title} {self._id(edge.source)}"
        self.made.boxes.setdefault(id, Content("constant", title, (), f"read at {title}"))
        self.elsewhere.setdefault(id, []).append(edge)

    def _readers(self) -> None:
        """Draw the readers in other steps; one that reads a value several times gets the joint gradient."""
        passed = {id: [edge.passed for edge in edges if not edge.closed] for id, edges in self.elsewhere.items()}
        joint = self.flow.joint(passed)
        for id, edges in self.elsewhere.items():
            assert edges[0].source is not None
            self.made.edges.append(DiagramEdge(self._id(edges[0].source), id, joint.get(id), closed=not passed[id]))
