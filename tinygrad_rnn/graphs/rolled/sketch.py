"""What a rolled picture shows, before anything has a place: boxes, lines, loops and modules of one step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ...engine.tape import Node
from ...pictures.layout.content import Content
from ...pictures.scene.legend import short_number
from ...pictures.scene.scene import Row
from ..content.builder import ContentBuilder, data_key, mean_square
from ..model.flow import Flow
from ..model.formula import symbol
from ..model.graph import Edge, Graph
from ..model.operations import Operation, terms_of
from ..model.rolling import Link, Rolling, cut_scales
from .blocks import Block, Kind, blocks_of


@dataclass(frozen=True)
class Line:
    """A line between two boxes: its ids, the norm of what comes back (None: nothing, or not asked for), a label."""

    tail: str
    head: str
    magnitude: float | None = None
    closed: bool = False
    label: str = ""


@dataclass(frozen=True)
class Loop:
    """A state that is carried from step to step.

    Attributes:
        source: id of the box that makes it.
        delay: id of its delay box.
        name: of the state.
        lag: steps that the delay waits.
        scales: for each step that could read it, what the cut there multiplies by; None: no cut.
        norms: for each of these, the norm of what goes back to the step before; empty without gradients.
    """

    source: str
    delay: str
    name: str
    lag: int
    scales: tuple[float | None, ...]
    norms: tuple[float, ...]

    @property
    def magnitude(self) -> float | None:
        """The root mean square of the norms."""
        return mean_square([norm or None for norm in self.norms]) if self.norms else None


@dataclass
class Sketch:
    """Boxes, lines, loops, parameters and modules of a rolled picture.

    Attributes:
        figures: id to box.
        lines: between them.
        loops: states that are carried.
        blocks: modules, in the order in which values pass through them.
        parameters: id of a parameter's box to its readers: (id of the box that reads it, magnitude).
        losses: ids of the boxes that are losses, the last one of all first.
    """

    figures: dict[str, Content] = field(default_factory=dict)
    lines: list[Line] = field(default_factory=list)
    loops: list[Loop] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    parameters: dict[str, list[tuple[str, float | None]]] = field(default_factory=dict)
    losses: list[str] = field(default_factory=list)


class Sketcher:
    """Turns a rolling into a sketch.

    Args:
        graph: that the rolling comes from.
        flow: its gradient, or None.
        rolling: the step that stands for all.
    """

    def __init__(self, graph: Graph, flow: Flow | None, rolling: Rolling) -> None:
        self.graph, self.flow, self.rolling = graph, flow, rolling
        self.figures = ContentBuilder(graph, flow, "_{t}")
        self.sketch = Sketch()
        self.T = len(rolling.steps)
        self.box = {op.id: f"op{number}" for number, op in enumerate(rolling.template)}
        self.box |= {op.id: f"once{number}" for number, op in enumerate(rolling.outside)}
        self.box |= {copy: self.box[home] for copy, home in rolling.home.items()}
        self.leaves = {parameter.node.id: parameter.node for parameter in graph.parameters}
        self.losses = {node.id for node, _ in graph.losses}
        self.terms = self.losses | terms_of(rolling.outside, (node for node, _ in graph.losses)).keys()
        self._data_boxes: dict[Any, str] = {}

    def draw(self) -> Sketch:
        """Return the sketch."""
        states = self.rolling.states()
        delays: dict[tuple[int, int, int], str] = {}
        called: dict[tuple[int, int, int], str] = {}
        named: dict[int, list[str]] = {}
        for number, key in enumerate(states):
            given = self.figures.names.get(key[0])
            name = given[key[1]] if given else "s" if len(states) == 1 else f"s{number + 1}"
            delays[key], called[key] = f"delay{number}", name
            if name not in named.setdefault(key[0], []):
                named[key[0]].append(name)
        for op in self.rolling.template:
            self._operation(op, named.get(op.id, []))
            for number, link in enumerate(self.rolling.links[op.id]):
                self._link(op, number, link, delays)
        self._carried = self._norms(states)
        for key, links in states.items():
            self._loop(key, links, delays[key], called[key])
        for op in self.rolling.outside:
            self._once(op)
        self._sum_of_losses()
        ends = Counter((line.tail, "out") for line in self.sketch.lines)
        ends.update((line.head, "in") for line in self.sketch.lines)
        for (box, _), count in ends.items():
            figure = self.sketch.figures[box]
            if figure.kind != "delay":
                self.sketch.figures[box] = replace(figure, least_height=max(figure.least_height, 14.0 * count + 8.0))
        kinds = {self.box[op.id]: Kind(op.node.scope, True) for op in self.rolling.template}
        for op in self.rolling.outside:
            plumbing = op.name in ("stack", "unstack")  # between a sequence and its steps: of no module's making
            kinds[self.box[op.id]] = Kind(() if plumbing else op.node.scope, False)
        if "sum" in self.sketch.figures:
            kinds["sum"] = Kind((), False)
        arrows = [(line.tail, line.head) for line in self.sketch.lines]
        self.sketch.blocks = blocks_of(kinds, arrows, [(loop.delay, loop.source) for loop in self.sketch.loops])
        return self.sketch

    def _operation(self, op: Operation, states: list[str]) -> None:
        box = self.box[op.id]
        copies = [copy for copy in self.rolling.copies[op.id] if copy is not None]
        if any(copy.id in self.terms for copy in copies) and op.node.specs[0].shape in ((), (1,)):
            values = [self.graph.summary((copy.node, 0)) for copy in copies if copy.id in self.terms]
            mean = [value.mean for value in values if value is not None]
            text = f"{symbol(op.name)}, mean {short_number(sum(mean) / len(mean))}" if mean else symbol(op.name)
            self.sketch.figures[box] = self.figures.loss(op, "ℓ_{t}", text)
            self.sketch.losses.append(box)
        else:
            self.sketch.figures[box] = self.figures.operation(op, states=states, facts=f"repeated: {self.T} steps")
        found = self.figures.attribute(op)
        if found is not None:
            self.sketch.figures[f"{box}.{found[0]}"] = found[1]
            self.sketch.lines.append(Line(f"{box}.{found[0]}", box))

    def _link(self, op: Operation, number: int, link: Link, delays: dict[tuple[int, int, int], str]) -> None:
        box, edges = self.box[op.id], [edge for edge in link.edges if edge is not None]
        magnitude = self._rms(edges)
        if link.kind == "leaf":
            leaf = self.leaves[link.source]
            if len({edge.source for edge in edges}) == 1:
                self._parameter(leaf, box, magnitude)
                return
            tail = f"leaf{self.graph.number[leaf]}"
            self.sketch.figures[tail] = self.figures.data("x_{t}", edges[0].spec)
        elif link.kind == "constant":
            found = self._data(op, number, edges)
            if found is None:
                return
            tail = found
        elif link.kind == "back":
            tail = delays[link.source, link.output, link.lag]
        else:
            tail = self.box[link.source]
        label = self.figures.output_name(op.inputs[number]) if link.kind in ("here", "outside") else ""
        self.sketch.lines.append(Line(tail, box, magnitude, label=label))

    def _parameter(self, leaf: Node, box: str, magnitude: float | None) -> None:
        id = f"parameter{self.graph.number[leaf]}"
        if id not in self.sketch.parameters:
            self.sketch.figures[id] = self.figures.parameter(leaf)
        self.sketch.parameters.setdefault(id, []).append((box, magnitude))

    def _data(self, op: Operation, number: int, edges: list[Edge]) -> str | None:
        """Return the id of the box of an array that the step reads; None for a number."""
        keys = [data_key(edge) for edge in edges]
        mine = data_key(op.inputs[number])
        if mine is None:
            return None
        known = self._data_boxes
        if mine not in known:
            known[mine] = f"data{len(known)}"
            same = self.T > 1 and len(set(keys)) == 1 and isinstance(keys[0], tuple) and len(edges) == self.T
            title = "x_{t}" if op.name == "matmul" and not same else "const" if same else "data_{t}"
            self.sketch.figures[known[mine]] = self.figures.data(title, op.inputs[number].spec, constant=same)
        return known[mine]

    def _rms(self, edges: Iterable[Edge]) -> float | None:
        if self.flow is None:
            return None
        return mean_square(self.flow.edge(*edge.use) or None for edge in edges)

    def _norms(self, states: Mapping[tuple[int, int, int], tuple[Link, ...]]) -> dict[Any, float]:
        """Return, for each state and step that reads it, the norm of what goes back to the step before."""
        if self.flow is None:
            return {}
        bundles = {}
        for key, links in states.items():
            for t in range(key[2], self.T):
                edges = [edge for link in links if (edge := link.edges[t]) is not None]
                bundles[key, t] = tuple(dict.fromkeys(edge.passed for edge in edges))
        return self.flow.joint(bundles)

    def _loop(self, key: tuple[int, int, int], links: tuple[Link, ...], delay: str, name: str) -> None:
        source, _, lag = key
        later = range(lag, self.T)
        scales: list[float | None] = []
        for t in later:
            found = [scale for link in links for scale in cut_scales([link.edges[t]]) if scale is not None]
            scales.append(found[0] if found else None)
        norms = tuple(self._carried.get((key, t), 0.0) for t in later) if self.flow is not None else ()
        sign = "z⁻" + "".join("⁰¹²³⁴⁵⁶⁷⁸⁹"[int(digit)] for digit in str(lag))
        ago = "the step before" if lag == 1 else f"{lag} steps before"
        self.sketch.figures[delay] = Content("delay", sign, (), f"delay\nstate: {name} of {ago}")
        self.sketch.loops.append(Loop(self.box[source], delay, name, lag, tuple(scales), norms))

    def _once(self, op: Operation) -> None:
        """Draw an operation outside time; the edges that come from all steps are one line."""
        box = self.box[op.id]
        groups: dict[tuple[str, int], list[Edge]] = {}
        for edge in op.inputs:
            source = edge.source
            if source is not None and source.id in self.leaves:
                self._parameter(source, box, self._rms([edge]))
            elif source is not None:
                groups.setdefault(
                    (self.box[source.id], edge.output if source.id not in self.rolling.home else 0), []
                ).append(edge)
            elif data_key(edge) is not None:
                tail = f"{box}.data{len(groups)}"
                self.sketch.figures[tail] = self.figures.data("data", edge.spec)
                self.sketch.lines.append(Line(tail, box))
        for (tail, _), edges in groups.items():
            self.sketch.lines.append(Line(tail, box, self._rms(edges)))
        gathers = any(len(edges) == self.T for edges in groups.values()) and self.T > 1
        if op.id in self.losses:
            value = self.graph.summary((op.node, 0))
            weighted = any(node.name != "add" for node in op.nodes)
            made = "mean ℓ" if weighted else "Σ ℓ"
            made = made if op.name == "add" and gathers else symbol(op.name)
            text = made if value is None else f"{made} = {short_number(value.mean)}"
            self.sketch.figures[box] = self.figures.loss(op, "L", text, strong=True)
            self.sketch.losses.insert(0, box)
        else:
            figure = self.figures.operation(op)
            self.sketch.figures[box] = (
                Content(
                    figure.kind, "Σ" if op.name == "add" else figure.title, (Row(f"{self.T} steps"),), figure.tooltip
                )
                if gathers
                else figure
            )
        found = self.figures.attribute(op, repeats=False)
        if found is not None:
            self.sketch.figures[f"{box}.{found[0]}"] = found[1]
            self.sketch.lines.append(Line(f"{box}.{found[0]}", box))

    def _sum_of_losses(self) -> None:
        """Several losses, one a step: the picture adds them up in a box of its own, as the gradient does."""
        boxes = [box for box in self.sketch.losses if box.startswith("op")]
        if not boxes or len(self.losses) < 2:
            return
        values = [self.graph.summary(place) for place in self.graph.losses]
        known = [value.mean for value in values if value is not None]
        text = f"Σ ℓ = {short_number(sum(known))}" if len(known) == len(values) else "Σ ℓ"
        self.sketch.figures["sum"] = Content("loss", "L", (Row(text),), f"L\nsum of {len(values)} losses", strong=True)
        for box in boxes:
            self.sketch.lines.append(Line(box, "sum", None if self.flow is None else 1.0))
        self.sketch.losses = ["sum", *self.sketch.losses]
