"""The diagram of a rolled picture, without positions: boxes, lines, loops and areas of one step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ...engine.tape import Node
from ...pictures.layout.content import Content
from ...pictures.layout.diagram import Diagram, DiagramEdge
from ...pictures.scene.legend import short_number
from ...pictures.scene.scene import EdgeKind, Row
from ..content.builder import ContentBuilder, data_key, root_mean_square
from ..content.rows import RowContent
from ..model.blocks import Block
from ..model.credit import Credit
from ..model.flow import Flow
from ..model.formula import symbol
from ..model.graph import Edge, Use, shape_text
from ..model.operations import Operation
from ..model.rolling import Rolling, State, StepEdge
from ..model.table import make_table
from .areas import Area, areas_of


@dataclass(frozen=True)
class Loop:
    """A state that is carried from step to step, or what a policy carries forward beside the states.

    Attributes:
        source: id of the box that computes it.
        delay: id of its delay box.
        name: of the state.
        shape: of the state, as text.
        lag: of the delay, in steps.
        scales: for each step that could read it, the factor of the cut before it; None: no cut.
        norms: for each of these, the norm of the gradient that goes back to the previous step, or of what is carried
            forward; empty if unknown.
        kind: of its line.
        cuts: the passes, counted as if the delay were one step, at which a window begins; None: those with scale 0.
    """

    source: str
    delay: str
    name: str
    shape: str
    lag: int
    scales: tuple[float | None, ...]
    norms: tuple[float, ...]
    kind: EdgeKind
    cuts: tuple[int, ...] | None = None

    @property
    def magnitude(self) -> float | None:
        """The root mean square of the norms of the gradient that goes back."""
        return None if self.kind == "influence" else root_mean_square([norm or None for norm in self.norms])

    @property
    def fact(self) -> str:
        """A description of what it carries."""
        said = f"{self.name} {self.shape}"
        return f"{said} carried forward" if self.kind == "influence" else f"state {said}"


@dataclass
class RolledDiagram(Diagram):
    """Boxes, lines, loops, parameters and areas of a rolled picture.

    Attributes:
        loops: states that are carried.
        areas: cells and modules, in the order in which values pass through them.
        parameters: id of a parameter's box to its readers: (id of the box that reads it, magnitude).
        closed: whether cells are one box each.
        title: of the picture.
    """

    loops: list[Loop] = field(default_factory=list)
    areas: list[Area] = field(default_factory=list)
    parameters: dict[str, list[tuple[str, float | None]]] = field(default_factory=dict)
    closed: bool = False
    title: str = ""

    def magnitudes(self) -> Iterator[float]:
        """Yield the magnitudes of edges, of gradients of parameters, and of each pass of a loop."""
        yield from super().magnitudes()
        yield from (norm for readers in self.parameters.values() for _, norm in readers if norm)
        yield from (norm for loop in self.loops if loop.kind != "influence" for norm in loop.norms if norm)


_LineKey = tuple[str, str, str, Hashable]
"""Tail, head, label, and a key that distinguishes parallel lines."""


class RolledDiagramBuilder:
    """Builder of the diagram of a recurrence.

    Args:
        flow: the recorded graph, and its gradient.
        rolling: the recurrence as one step.
        closed: draw each cell, layer and loss as one box, without its operations.
    """

    def __init__(self, flow: Flow, rolling: Rolling, closed: bool) -> None:
        self.graph, self.flow, self.rolling, self.closed = flow.graph, flow, rolling, closed
        self.T = len(rolling.steps)
        self.table = make_table(self.graph)
        self.content = ContentBuilder(flow, self.table.constants, "_{t}")
        self.blocks = self.table.blocks
        self.rows = RowContent(Flow(self.graph), self.table)  # as in the unrolled view, without gradients
        self.made = RolledDiagram(closed=closed, title=self.rows.headline("rolled"))
        self.ops = [*rolling.template, *rolling.outside]
        self.states = rolling.states()
        self.box = self._boxes()
        self.losses = {node for node, _ in self.graph.losses}
        self.terms = self.losses | {node for terms in self.blocks.terms for node, _ in terms}
        self.delays = {state: f"delay{number}" for number, state in enumerate(self.states)}
        self.names = {state: self._name(number, state) for number, state in enumerate(self.states)}
        self.lines: dict[_LineKey, dict[int, list[Use]]] = {}  # line to its uses in each step

    def _boxes(self) -> dict[Node, str]:
        """Return the box of each operation, by its result: its own, or, in a closed picture, that of its block."""
        box = {op.node: f"op{number}" for number, op in enumerate(self.rolling.template)}
        box |= {op.node: f"once{number}" for number, op in enumerate(self.rolling.outside)}
        first: dict[tuple[Block, bool], str] = {}
        for op in self.ops if self.closed else ():
            block = self.blocks.of.get(op.node)
            if block is not None:
                box[op.node] = first.setdefault((block, op.node in self.rolling.home), box[op.node])
        return box | {copy: box[home] for copy, home in self.rolling.home.items()}

    def _name(self, number: int, state: State) -> str:
        node = state.source
        block = self.blocks.of.get(node)
        if block is not None and (node, state.output) in block.states:
            row = self.table.row_of[block]
            return row.slots[block.states.index((node, state.output))]
        return "s" if len(self.states) == 1 else f"s{number + 1}"

    def build(self) -> RolledDiagram:
        """Return the diagram."""
        for op in self.rolling.template:
            self._operation(op)
            for number, edge in enumerate(self.rolling.inputs[op.node]):
                self._input(op, number, edge)
        for op in self.rolling.outside:
            self._once(op)
        if self.closed:
            self._close()
        self._measure()
        self._sum_of_losses()
        ends = Counter((line.tail, "out") for line in self.made.edges)
        ends.update((line.head, "in") for line in self.made.edges)
        for (box, _), count in ends.items():
            content = self.made.boxes[box]
            if content.kind != "delay":
                least = max(content.least_height, 14.0 * count + 8.0)
                self.made.boxes[box] = replace(content, least_height=least)
        sources = {delay: self.box[state.source] for state, delay in self.delays.items()}
        self.made.areas = areas_of(self.made.edges, self.box, sources, self.rolling, self.blocks)
        return self.made

    # -- boxes --------------------------------------------------------------------------------------------------------

    def _operation(self, op: Operation) -> None:
        """Draw an operation of the step."""
        box = self.box[op.node]
        copies = [copy for copy in self.rolling.copies[op.node] if copy is not None]
        if any(copy.node in self.terms for copy in copies) and op.node.specs[0].shape in ((), (1,)):
            values = [self.graph.summary((copy.node, 0)) for copy in copies if copy.node in self.terms]
            mean = [value.mean for value in values if value is not None]
            text = f"{symbol(op.name)}, mean {short_number(sum(mean) / len(mean))}" if mean else symbol(op.name)
            self.made.boxes[box] = self.content.loss(op, "ℓ_{t}", text)
            self.made.losses.append(box)
        else:
            states = list(dict.fromkeys(name for state, name in self.names.items() if state.source is op.node))
            facts = f"repeated: {self.T} steps"
            self.made.boxes.setdefault(box, self.content.operation(op, states=states, facts=facts))
        self._attribute(op)

    def _attribute(self, op: Operation, repeats: bool = True) -> None:
        box = self.box[op.node]
        array = self.content.attribute(self.made.boxes, op, box, repeats)
        if array is not None:
            self._line(array, box, {})

    def _once(self, op: Operation) -> None:
        """Draw an operation outside time; edges from all steps become one line."""
        box = self.box[op.node]
        gathers = False
        groups: dict[tuple[str, int], list[Edge]] = {}
        for edge in op.inputs:
            source = edge.source
            if source is not None and source.operation is None:
                self._line(self._parameter(source), box, {0: [edge.use]})
            elif source is not None:
                output = edge.output if source not in self.rolling.home else 0
                groups.setdefault((self.box[source], output), []).append(edge)
            elif data_key(edge) is not None:
                tail = f"{box}.data{len(groups)}"
                self.made.boxes[tail] = self.content.data("data", edge.spec)
                self._line(tail, box, {})
        for (tail, output), edges in groups.items():
            gathers = gathers or (len(edges) == self.T and self.T > 1)
            uses = {number: [edge.use] for number, edge in enumerate(edges)}
            self._line(tail, box, uses, key=None if self.closed else (op.node, output))
        if op.node in self.losses:
            self.made.boxes[box] = self._total(op, gathers)
            self.made.losses.insert(0, box)
        else:
            content = self.content.operation(op)
            if gathers:
                title = "Σ" if op.name == "add" else content.title
                content = replace(content, title=title, rows=(Row(f"{self.T} steps"),))
            self.made.boxes.setdefault(box, content)
        self._attribute(op, repeats=False)

    def _total(self, op: Operation, gathers: bool) -> Content:
        value = self.graph.summary((op.node, 0))
        weighted = any(node.name != "add" for node in op.nodes)
        made = ("mean ℓ" if weighted else "Σ ℓ") if op.name == "add" and gathers else symbol(op.name)
        text = made if value is None else f"{made} = {short_number(value.mean)}"
        return self.content.loss(op, "L", text, strong=True)

    def _close(self) -> None:
        """Replace the contents of the boxes of blocks by those of the unrolled view."""
        for op in self.ops:
            box, block = self.box[op.node], self.blocks.of.get(op.node)
            if block is not None and self.made.boxes[box].kind != "loss":
                index = "t" if op.step is not None else ""
                self.made.boxes[box] = self.rows.content(self.table.row_of[block], block, index)

    def _sum_of_losses(self) -> None:
        """Add a box for the sum of the losses, if each step has one, because the gradient is that of their sum."""
        boxes = [box for box in self.made.losses if box.startswith("op")]
        if not boxes or len(self.losses) < 2:
            return
        values = [self.graph.summary(place) for place in self.graph.losses]
        known = [value.mean for value in values if value is not None]
        text = f"Σ ℓ = {short_number(sum(known))}" if len(known) == len(values) else "Σ ℓ"
        self.made.boxes["sum"] = Content("loss", "L", (Row(text),), f"L\nsum of {len(values)} losses", strong=True)
        self.made.edges += [DiagramEdge(box, "sum", 1.0 if self.flow.measured else None) for box in boxes]
        self.made.losses = ["sum", *self.made.losses]

    # -- lines --------------------------------------------------------------------------------------------------------

    def _line(
        self, tail: str, head: str, uses: Mapping[int, Sequence[Use]], label: str = "", key: Hashable = None
    ) -> None:
        """Record a line; lines between the same boxes are merged unless their keys differ."""
        if tail != head:
            found = self.lines.setdefault((tail, head, label, key), {})
            for step, read in uses.items():
                found.setdefault(step, []).extend(read)

    def _input(self, op: Operation, number: int, edge: StepEdge) -> None:
        """Draw what an operation of the step reads."""
        box, edges = self.box[op.node], [found for found in edge.edges if found is not None]
        leaves = {found.source: None for found in edges} if edge.kind == "leaf" else {}
        if edge.source is None:
            read = op.inputs[number]
            fixed = self.content.constants.is_fixed(read.use)
            tail = self.content.constant(self.made.boxes, read, "" if fixed else "_{t}", fixed)
        elif len(leaves) == 1:
            tail = self._parameter(edge.source)
        elif leaves:
            tail = f"leaf{self.graph.number[edge.source]}"
            self.made.boxes[tail] = self.content.data("x_{t}", edges[0].spec)
        elif edge.kind == "back":
            tail = self.delays[State(edge.source, edge.output, edge.lag)]
        else:
            tail = self.box[edge.source]
        named = edge.kind in ("here", "outside") and not self.closed
        label = self.content.output_name(op.inputs[number]) if named else ""
        uses = {step: [found.use] for step, found in enumerate(edges)}
        if tail is not None:
            self._line(tail, box, uses, label, None if self.closed else (op.node, number))

    def _parameter(self, leaf: Node) -> str:
        id = f"parameter{self.graph.number[leaf]}"
        self.made.boxes.setdefault(id, self.content.parameter(leaf))
        return id

    # -- magnitudes and loops -----------------------------------------------------------------------------------------

    def _measure(self) -> None:
        """Set the magnitudes of lines, parameters and loops: the cotangents of a line are added up before the norm."""
        carried = {state: self.rolling.carried(state, readers) for state, readers in self.states.items()}
        bundles: dict[Hashable, Sequence[Use]] = {
            (state, t): uses for state, found in carried.items() for t, uses in enumerate(found)
        }
        bundles |= {(key, step): uses for key, steps in self.lines.items() for step, uses in steps.items()}
        joint = self.flow.joint(bundles)
        for state, readers in self.states.items():
            norms = tuple(joint.get((state, t), 0.0) for t in range(len(carried[state])))
            self._loop(state, readers, norms if self.flow.measured else ())
        if self.graph.credit is not None and self.made.loops:
            self._influence(self.graph.credit, self.made.loops[0])
        for key, steps in self.lines.items():
            tail, head, label, _ = key
            magnitude = root_mean_square([joint.get((key, step)) or None for step in steps])
            if self.made.boxes[tail].kind == "parameter":
                self.made.parameters.setdefault(tail, []).append((head, magnitude))
            else:
                self.made.edges.append(DiagramEdge(tail, head, magnitude, label=label))

    def _loop(self, state: State, readers: Sequence[StepEdge], norms: tuple[float, ...]) -> None:
        read = ([edge for reader in readers if (edge := reader.edges[t]) is not None] for t in range(state.lag, self.T))
        scales = [next((edge.scale for edge in edges if edge.cuts), None) for edges in read]
        kind: EdgeKind = "cut" if all(scale == 0 for scale in scales) else "gradient" if norms else "value"
        name, delay = self.names[state], self.delays[state]
        sign = "z⁻" + "".join("⁰¹²³⁴⁵⁶⁷⁸⁹"[int(digit)] for digit in str(state.lag))
        ago = "the step before" if state.lag == 1 else f"{state.lag} steps before"
        self.made.boxes[delay] = Content("delay", sign, (), f"delay\nstate: {name} of {ago}")
        shape = shape_text(state.source.specs[state.output].shape)
        if self.graph.credit is not None:  # credit goes forward, so nothing is truncated
            scales, norms, kind = [], (), "cut"
        cuts = self._windows(readers) if state.lag > 1 else None
        self.made.loops.append(
            Loop(self.box[state.source], delay, name, shape, state.lag, tuple(scales), norms, kind, cuts)
        )

    def _windows(self, readers: Sequence[StepEdge]) -> tuple[int, ...]:
        """Return the passes that the cuts of a delayed state belong to: several steps read it across one cut."""
        steps = self.rolling.steps
        cuts = {cut for reader in readers for edge in reader.edges if edge is not None for cut in edge.cuts}
        closed = {steps.index(cut.step) for cut in cuts if self.graph.cuts[cut].closed and cut.step in steps}
        return tuple(sorted(step - 1 for step in closed if step))

    def _influence(self, credit: Credit, beside: Loop) -> None:
        """Draw what is carried forward beside the states."""
        shape = f"{max(credit.sizes):,} numbers"
        cells = {block.kind for block in self.blocks.blocks if block.kind.role == "cell"}
        name = f"{credit.symbol} of all layers" if len(cells) > 1 else credit.symbol
        loop = Loop(beside.source, beside.delay, name, shape, 1, (), credit.norms[:-1], "influence")
        self.made.loops.append(loop)
