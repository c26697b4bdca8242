"""The operations of one step, or of a small graph, as boxes and lines that have no places yet: `Chart`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ...engine.tape import Node
from ..content.builder import ContentBuilder, data_key
from ..content.node import Content
from ..model.flow import Flow
from ..model.formula import symbol
from ..model.parts import Part, Wire, terms_of
from ..model.read import Story
from ..rolled.sketch import Line
from ..scene.legend import short_number
from ..scene.scene import Row

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


def chart_of(story: Story, flow: Flow | None, parts: Sequence[Part], chosen: Collection[int]) -> Chart:
    """Return the chart of some parts of a story, with what they read and, where that is elsewhere, who reads them.

    Args:
        story: what was recorded.
        flow: its gradient, or None.
        parts: of the whole story, oldest first.
        chosen: ids of the parts to draw.
    """
    return _Charter(story, flow, parts, chosen).draw()


class _Charter:
    def __init__(self, story: Story, flow: Flow | None, parts: Sequence[Part], chosen: Collection[int]) -> None:
        self.story, self.flow, self.chosen = story, flow, chosen
        self.parts = {part.id: part for part in parts}
        self.figures = ContentBuilder(story, flow)
        self.chart = Chart()
        self.losses = {node.id for node, _ in story.losses}
        self.terms = terms_of(parts, (node for node, _ in story.losses))
        if len(story.losses) > 1:
            self.terms |= {node.id: number for number, (node, _) in enumerate(story.losses, start=1)}
        self.data: dict[Any, str] = {}
        here = [part for part in parts if part.id in chosen]
        self.reads = Counter(wire.source for part in here for wire in part.inputs if wire.source is not None)
        self.carried = {  # results that a later step reads: states
            wire.source.id
            for part in parts
            for wire in part.inputs
            if wire.source is not None and (step := self._step(wire.source)) is not None and (part.step or 0) > step
        }

    def draw(self) -> Chart:
        for part in self.parts.values():
            if part.id in self.chosen:
                self._operation(part)
        for part in self.parts.values():
            for number, wire in enumerate(part.inputs):
                if part.id in self.chosen:
                    self._input(part, number, wire)
                elif wire.source is not None and wire.source.id in self.chosen:
                    self._reader(part, wire)
        return self.chart

    def _step(self, node: Node) -> int | None:
        part = self.parts.get(node.id)
        return None if part is None else part.step

    def _id(self, node: Node) -> str:
        return f"n{self.story.number[node]}"

    def _operation(self, part: Part) -> None:
        id, node = self._id(part.node), part.node
        if node.id in self.losses or node.id in self.terms:
            whole = node.id in self.losses and node.id not in self.terms
            title = "L" if whole else f"ℓ_{{{self.terms[node.id]}}}"
            summary = self.story.summary((node, 0))
            value = "" if summary is None or summary.size > 1 else f" = {short_number(summary.mean)}"
            self.chart.figures[id] = self.figures.loss(part, title, symbol(part.name) + value, strong=whole)
            if whole or node.id in self.losses or not self.losses & set(self.chosen):
                self.chart.losses.append(id)
        else:
            self.chart.figures[id] = self._figure(part)
        self.chart.scopes[id], self.chart.nodes[id] = node.scope, node
        found = self.figures.attribute(part)
        if found is not None:
            self.chart.figures[f"{id}.{found[0]}"] = found[1]
            self.chart.lines.append(Line(f"{id}.{found[0]}", id))

    def _figure(self, part: Part) -> Content:
        given = self.figures.names.get(part.id)
        subscript = "" if part.step is None else f"_{{{part.step + 1}}}"
        if part.id in self.carried:
            return self.figures.operation(part, states=[f"{given[0] if given else 's'}{subscript}"])
        figure = self.figures.operation(part)
        shape = self.figures.shape_row(part)
        return replace(figure, rows=(*figure.rows, shape))

    def _input(self, part: Part, number: int, wire: Wire) -> None:
        head = self._id(part.node)
        magnitude = None if self.flow is None else self.flow.edge(*wire.uses[0])
        label = ""
        if wire.source is None:
            tail = self._constant(part, wire)
            if tail is None:
                return
        elif wire.source in self.figures.parameter_of:
            tail = self._parameter(wire.source, head)
        else:
            tail = self._id(wire.source)
            label = self.figures.output_name(wire)
            if wire.source.id not in self.chosen:
                self._elsewhere(self.parts[wire.source.id])
        if wire.cuts and wire.source is not None:
            tail = self._cut(tail, wire)
        self.chart.lines.append(
            Line(tail, head, magnitude, closed=wire.closed and wire.source is not None, label=label)
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

    def _constant(self, part: Part, wire: Wire) -> str | None:
        key = data_key(wire)
        if key is None:
            return None
        if key not in self.data:
            self.data[key] = f"data{len(self.data)}"
            subscript = "" if part.step is None else f"_{{{part.step + 1}}}"
            title = f"x{subscript}" if part.name == "matmul" else "data"
            self.chart.figures[self.data[key]] = self.figures.data(title, wire.spec)
        return self.data[key]

    def _elsewhere(self, part: Part) -> None:
        """Draw a result of another step, or of no step, that is read here."""
        id = self._id(part.node)
        self.chart.nodes[id] = part.node
        if id not in self.chart.figures:
            figure = self._figure(part)
            where = "" if part.step is None else f"from t = {part.step + 1}"
            facts = f"{figure.tooltip}\n{where}" if where else figure.tooltip
            self.chart.figures[id] = replace(
                figure, kind="state" if part.id in self.carried else "input", tooltip=facts
            )

    def _cut(self, tail: str, wire: Wire) -> str:
        cut = wire.cuts[0]
        id, scale = self._id(cut), float(cut.attrs["scale"])
        if id not in self.chart.figures:
            factor = short_number(scale)
            title = "" if wire.closed else f"× {factor}"
            said = "cut\nno gradient passes" if wire.closed else f"cut\nfactor: {factor}"
            self.chart.figures[id] = Content("cut", title, (), said, factor=0.0 if wire.closed else scale)
            passed = None if self.flow is None or wire.closed else self.flow.edge(*wire.passed[0])
            self.chart.lines.append(Line(tail, id, passed, closed=wire.closed))
        return id

    def _reader(self, part: Part, wire: Wire) -> None:
        """Draw where a result goes that is read elsewhere: gradient comes in from there."""
        assert wire.source is not None
        tail = self._id(wire.source)
        title = (
            f"t = {part.step + 1}" if part.step is not None else "L" if part.id in self.losses else symbol(part.name)
        )
        id = f"to {title} {tail}"
        magnitude = None if self.flow is None or wire.closed else self.flow.edge(*wire.passed[0])
        if id in self.chart.figures:  # read several times: the norms of its terms are joined below
            before = next(n for n, line in enumerate(self.chart.lines) if line.head == id)
            line = self.chart.lines[before]
            known = [m for m in (line.magnitude, magnitude) if m is not None]
            self.chart.lines[before] = replace(line, magnitude=max(known) if known else None)
            return
        self.chart.figures[id] = Content("constant", title, (), f"read at {title}")
        self.chart.lines.append(Line(tail, id, magnitude, closed=wire.closed))
