"""The backward pass of a graph: its recording, and its diagram, whose boxes are at the levels of forward operations.

The pass runs on recorded Tensors, so each operation of a rule is a node.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ...engine.tape import Array, Node, enable_grad, watching
from ...engine.tensor import Tensor, tensor, wrap
from ...engine.walk import pull_back
from ...pictures.layout.content import Content
from ...pictures.layout.diagram import Diagram, DiagramEdge
from ...pictures.scene.legend import short_number
from ...pictures.scene.scene import Row
from ..content.builder import BINARY, symbol
from ..model.flow import Flow, norm
from ..model.graph import Graph, Place, Use, is_passage, shape_text
from ..model.operations import Operation
from .diagram import OperationDiagram

_MOVING = frozenset(("transpose", "reshape", "astype"))  # not drawn: they move elements, or change their dtype
_SYMBOLS = {"take_back": "add to rows", "cross_entropy_back": "softmax − target", "scatter": "put back"}
_LIMIT = 24  # characters of a formula


class RecordedBackward:
    """The backward pass of a graph's losses, run with its rules recorded.

    Args:
        graph: what was recorded forward.

    Attributes:
        by: forward node to the nodes that its rule recorded, oldest first.
        arrives: forward node to the nodes that sum its cotangents, oldest first.
        values: node to its array.
        sent: forward use to the node of the cotangent that its rule returned for it (None: a constant).
        seeds: the leaves at which the pass starts, one for each loss.

    >>> import tinygrad_rnn as tr
    >>> from tinygrad_rnn.graphs.model.graph import read
    >>> x = tr.tensor(2.0, requires_grad=True)
    >>> y = tr.tanh(x)
    >>> [node.name for node in RecordedBackward(read([y])).by[y.node]]
    ['multiply', 'subtract', 'multiply']
    """

    def __init__(self, graph: Graph) -> None:
        self.by: dict[Node, list[Node]] = {}
        self.arrives: dict[Node, list[Node]] = {}
        self.values: dict[Node, Array] = {}
        self.sent: dict[Use, Node | None] = {}
        self.seeds: list[Node] = []
        self._fresh: list[Node] = []  # recorded since the last rule was done
        self._known = Counter(graph.losses)  # place to the number of cotangents that have come back to it
        self._pending: Node | None = None  # the node whose sum is recorded next
        seeds: list[tuple[Place, Tensor]] = []
        for place in graph.losses:
            spec = place[0].specs[place[1]]
            # The seed is a leaf, so that rules that only pass it on, or multiply it, are recorded too.
            seed = tensor(np.ones(spec.shape, spec.dtype), requires_grad=True, name="1")
            assert seed.node is not None
            self.seeds.append(seed.node)
            self.values[seed.node] = seed.data
            seeds.append((place, seed))
        with enable_grad(), watching(self._watch):
            pull_back(seeds, lift=lambda array, place: wrap(array, *place), observe=self._observe)

    def _watch(self, node: Node, outputs: tuple[Array, ...]) -> None:
        self.values[node] = outputs[0]
        if self._pending is not None and node.name == "add":
            self.arrives.setdefault(self._pending, []).append(node)
            self._pending = None
        else:
            self._fresh.append(node)

    def _observe(self, node: Node, number: int, cotangent: Tensor) -> None:
        self.by.setdefault(node, []).extend(self._fresh)
        self._fresh.clear()
        self.sent[node, number] = cotangent.node if isinstance(cotangent, Tensor) else None
        place = node.edges[number]
        assert place is not None
        self._known[place] += 1
        self._pending = place[0] if self._known[place] > 1 else None


@dataclass
class BackwardDiagram(Diagram):
    """The diagram of a backward pass; its edges point in the direction of cotangents.

    Attributes:
        crossing: edges from boxes of the forward diagram to boxes that read an array kept there.
        rules: box of a forward operation, oldest first, to the name of the operation.
        levels: box of a forward operation to the boxes of its rule, each with its depth: 0 is computed first.
        ends: box of a parameter, or of a result of another step, to the box with its cotangent.
        starts: box at which a cotangent comes in to the box of the operation at its level.
    """

    crossing: list[DiagramEdge] = field(default_factory=list)
    rules: dict[str, str] = field(default_factory=dict)
    levels: dict[str, dict[str, int]] = field(default_factory=dict)
    ends: dict[str, str] = field(default_factory=dict)
    starts: dict[str, str] = field(default_factory=dict)


class BackwardDiagramBuilder:
    """Builder of the diagram of the backward pass of some operations.

    Args:
        flow: the recorded graph, and its gradient.
        forward: the diagram of the operations.
        chosen: the operations in that diagram.
        recorded: the backward pass of the graph.
    """

    def __init__(
        self, flow: Flow, forward: OperationDiagram, chosen: Sequence[Operation], recorded: RecordedBackward
    ) -> None:
        self.graph, self.flow, self.forward, self.recorded, self.chosen = flow.graph, flow, forward, recorded, chosen
        self.made = BackwardDiagram()
        self.box = {node: id for id, node in forward.nodes.items()}  # of the forward diagram
        self.op_of = {node: op for op in chosen for node in op.nodes}
        self.box |= {node: self.box[op.node] for node, op in self.op_of.items()}
        tables = (recorded.by, recorded.arrives)
        self.made_by = {new: node for table in tables for node, made in table.items() for new in made}
        self.home: dict[Node, Operation] = {}
        for op in chosen:
            self.made.rules[self.box[op.node]] = op.name.replace("_", " ")
            self.made.levels[self.box[op.node]] = {}
            cuts = [cut for edge in op.inputs for cut in edge.cuts]
            for node in (*op.nodes, *cuts):
                for new in (*recorded.arrives.get(node, ()), *recorded.by.get(node, ())):
                    self.home.setdefault(new, op)  # of several readers of a cut the oldest, which sends back last
        drawn = [node for node in sorted(self.home, key=lambda node: node.id) if not _only_moves(node)]
        self.ids = {node: f"d{number}" for number, node in enumerate(drawn)}
        self.elsewhere: dict[Node, str] = {}
        self.kept_only: set[Node] = set()  # computed from kept arrays alone: no cotangent
        self.formulas: dict[Node, str] = {}

    def build(self) -> BackwardDiagram:
        """Return the diagram."""
        for node, id in self.ids.items():
            self._operation(node, id)
        self._cotangents_of_inputs()
        return self.made

    # -- names --------------------------------------------------------------------------------------------------------

    def _resolve(self, node: Node) -> tuple[Node, bool]:
        """Return the node whose elements are only moved on the way to a node, and whether they are transposed."""
        transposed = False
        while _only_moves(node) and node not in self.box:
            edge = node.edges[0]
            if edge is None:
                break
            transposed ^= node.name == "transpose"
            node = edge[0]
        return node, transposed

    def _called(self, node: Node, number: int) -> str:
        """Return the name of an input of a backward operation: g for a cotangent, or the name of a kept array."""
        edge = node.edges[number]
        if edge is None:
            value = node.inputs[number]
            return short_number(value) if isinstance(value, int | float) else "x"
        source, transposed = self._resolve(edge[0])
        if source in self.graph.number:
            name = self._kept_name(source, edge[1] if source is edge[0] else 0, node)
            return f"{name}ᵀ" if transposed and name else name
        if source in self.kept_only:
            inner = self.formulas.get(source, "")
            return f"({inner})" if inner else "·"
        return "gᵀ" if transposed else "g"

    def _kept_name(self, source: Node, output: int, reader: Node) -> str:
        """Return the name of a kept array: that of a parameter or a result, or y for the operation's own output."""
        if source.operation is None and source in self.box:
            return self.forward.boxes[self.box[source]].title
        if source in self.graph.names:
            return self.graph.name(source, output)
        if self.op_of.get(source) is self.home[reader]:
            return "y"
        return "x" if source.name in ("take", "unstack") else "·"

    # -- boxes and edges ----------------------------------------------------------------------------------------------

    def _operation(self, node: Node, id: str) -> None:
        op = self.home[node]
        formula = ""
        if node.name in BINARY:
            formula = BINARY[node.name][0].join(self._called(node, number) for number in range(len(node.edges)))
        self.formulas[node] = formula = formula if len(formula) <= _LIMIT else ""
        value = self.recorded.values.get(node)
        shape = shape_text(node.specs[0].shape)
        facts = [f"operation: {node.name}", f"made by: the rule of {op.name}", f"shape: {shape}"]
        facts += [] if value is None else [f"norm: {short_number(norm(value))}"]
        rows = (*([Row(formula)] if formula else []), Row(shape))
        sign = _SYMBOLS.get(node.name, symbol(node.name))
        self.made.boxes[id] = Content("operation", sign, rows, "\n".join([formula or node.name, *facts]))
        sources = list(dict.fromkeys(self._resolve(edge[0])[0] for edge in node.edges if edge is not None))
        for source in sources:
            if source in self.graph.number and source in self.box:
                self.made.crossing.append(DiagramEdge(self.box[source], id))
        backward = [source for source in sources if source not in self.graph.number]
        if all(source in self.kept_only for source in backward):
            self.kept_only.add(node)
        level = self.made.levels[self.box[op.node]]
        for source in backward:
            self.made.edges.append(DiagramEdge(self._source(source, op), id, self._magnitude(source)))
        level[id] = max((level[self.ids[source]] + 1 for source in backward if self.home.get(source) is op), default=0)

    def _magnitude(self, node: Node) -> float | None:
        if not self.flow.measured or node in self.kept_only or node not in self.recorded.values:
            return None
        return norm(self.recorded.values[node])

    def _source(self, node: Node, op: Operation) -> str:
        """Return the box of a backward node; a seed, or a node of another step, gets a box at its entry."""
        if node in self.ids:
            return self.ids[node]
        if node not in self.elsewhere:
            self.elsewhere[node] = id = f"from{len(self.elsewhere)}"
            self.made.starts[id] = self.box[op.node]
            self.made.boxes[id] = self._start(node)
        return self.elsewhere[node]

    def _start(self, node: Node) -> Content:
        """Return the content of a cotangent that comes in: a seed, or one from an operation of another step."""
        if node in self.recorded.seeds:
            return Content("loss", "∂L/∂L = 1", (), "seed\nthe cotangent of the loss")
        maker = self.made_by.get(node)
        if maker is None:
            return Content("constant", "∂L/∂·", (Row("from a later step"),), "comes from a later step")
        summed = maker.specs[0].shape in ((), (1,))  # on the way to the loss
        title = f"t = {maker.step + 1}" if maker.step is not None else "L" if summed else symbol(maker.name)
        return Content("constant", title, (Row("∂L"),), "comes from a later step")

    def _cotangents_of_inputs(self) -> None:
        """Draw the cotangents that leave: to parameters, and to results of other steps."""
        for op in self.chosen:
            for edge in op.inputs:
                source = edge.source
                if source is None or source in self.op_of or source not in self.box or edge.closed:
                    continue
                sent = self.recorded.sent.get(edge.passed)
                if sent is None:
                    continue
                front = self.box[source]
                if front not in self.made.ends:
                    self.made.ends[front] = f"end{len(self.made.ends)}"
                    self._end(front, source)
                magnitude = self.flow.terms.get(edge.passed)
                tail = self._source(self._resolve(sent)[0], op)
                self.made.edges.append(DiagramEdge(tail, self.made.ends[front], magnitude))

    def _end(self, front: str, source: Node) -> None:
        content = self.forward.boxes[front]
        title = content.title
        shape = shape_text(source.specs[0].shape)
        self.made.boxes[self.made.ends[front]] = Content(
            content.kind, f"∂{title}", (Row(shape),), f"gradient of {title}\nshape: {shape}\nfrom this step"
        )


def _only_moves(node: Node) -> bool:
    return len(node.edges) == 1 and (node.name in _MOVING or is_passage(node))
