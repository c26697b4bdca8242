"""What stands in the boxes of the unrolled view: title, small lines, tooltip."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from ...engine.tape import Node, Spec
from ..model.flow import Flow
from ..model.formula import formula, maker_of, symbol
from ..model.groups import Group, Groups
from ..model.read import Parameter, Place, Source, Story, Summary, shape_text
from ..scene.legend import short_number
from ..scene.lines import box_size
from ..scene.scene import BoxKind
from ..scene.scene import Row as Line
from ..scene.text import text_width
from .table import Row, Table

_FORMULA_WIDTH = 150.0  # points; a longer formula gives way to the name of the class


@dataclass(frozen=True)
class Face:
    """What a box shows."""

    kind: BoxKind
    title: str
    rows: tuple[Line, ...] = ()
    tooltip: str = ""
    strong: bool = False

    def size(self, least: float = 0.0) -> tuple[float, float]:
        """Return width and height that it needs."""
        return box_size(self.kind, self.title, self.rows, least)


@dataclass
class Faces:
    """Makes the faces of a picture."""

    story: Story
    groups: Groups
    table: Table
    flow: Flow | None
    _formulas: dict[Row, str] = field(default_factory=dict)

    def of(self, row: Row, time: int) -> Face:
        """Return what the box of a row shows at a time (-1: of a wide row)."""
        if row.role == "input":
            return self._input(row, time)
        group = row.groups[time]
        return self._cell(row, group, time) if row.role == "cell" else self._other(row, group, time)

    def formula(self, row: Row) -> str:
        """Return the formula of a row, or the class or function that it was written in."""
        group = row.groups[max(row.groups)]
        return self.expression(row) or maker_of(result_of(group)[0]) or f"{len(group.nodes)} operations"

    def expression(self, row: Row) -> str:
        """Return the formula of a row; "" if it is too long."""
        if row not in self._formulas:
            group = row.groups[max(row.groups)]
            text = formula(result_of(group), set(group.nodes), self._source, lambda source: self._called(row, source))
            self._formulas[row] = text if text_width(text, 9) <= _FORMULA_WIDTH else ""
        return self._formulas[row]

    def maker(self, row: Row) -> str:
        """Return the class or function that a row was written in."""
        return maker_of(result_of(row.groups[max(row.groups)])[0])

    def _source(self, node: Node, number: int) -> Source:
        return self.story.source(node, number)

    def _called(self, row: Row, source: Source) -> str:
        if source.place is None:
            return "x" if row.role != "loss" else ""
        node = source.place[0]
        leaves = (node,) if node.operation is None else self.groups.weights.get(node, ())
        if leaves:
            name = next(p.name for p in self.story.parameters if p.node is leaves[0])
            return name.rpartition(".")[2] + ("ᵀ" if node.name == "transpose" else "")
        group = self.groups.of.get(node)
        if group is None:
            return "…"
        other = self.table.row_of[group]
        if source.place in group.states and (other is row or other.role == "cell"):
            return other.slots[group.states.index(source.place)]
        return (other.slots[-1] if other.slots else other.letter) or "x"

    def _input(self, row: Row, time: int) -> Face:
        spec = row.inputs[time]
        text = spec_text(spec, "ids" if spec.dtype.kind in "iu" else "")
        tip = f"{row.letter}_{time + 1}\n{_spec_lines(spec)}"
        return Face("input", f"{row.letter}_{{{time + 1}}}", (Line(text),), tip)

    def _cell(self, row: Row, group: Group, time: int) -> Face:
        places = group.states or [result_of(group)]
        names = row.slots[: len(places)]
        title = (
            ", ".join(f"{name}_{{{time + 1}}}" for name in reversed(names)) if len(names) < 4 else f"s_{{{time + 1}}}"
        )
        lines = [Line(self.formula(row)), Line(spec_text(places[-1][0].specs[places[-1][1]]))]
        tips = [", ".join(f"{name}_{time + 1}" for name in reversed(names)), f"computes: {self.formula(row)}"]
        for name, place in zip(reversed(names), reversed(places), strict=False):
            tips += [name] if len(names) > 1 else []
            tips += self._facts(place)
        return Face("state", title, (*lines, *self._warnings(places)), "\n".join(tips))

    def _other(self, row: Row, group: Group, time: int) -> Face:
        place = result_of(group)
        spec = place[0].specs[place[1]]
        index = f"{time + 1}" if time >= 0 else self.span()
        text = self.formula(row)
        if group.kind.role == "loss":
            kind: BoxKind = "loss"
            value = self.story.summary(place) if spec.shape in ((), (1,)) else None
            lines = self._loss_lines(row, place[0], value)
        else:
            kind = "operation"
            lines = [Line(text), Line(spec_text(spec))]
        title = f"{row.letter}_{{{index}}}"
        tips = [f"{row.letter}_{index}", f"computes: {text}", *self._facts(place)]
        return Face(kind, title, (*lines, *self._warnings([place])), "\n".join(tips))

    def frame(self, row: Row, time: int) -> Face:
        """Return what the border of an opened cell shows."""
        closed = self._cell(row, row.groups[time], time)
        return Face("frame", closed.title, (Line(self.maker(row)),), closed.tooltip)

    def span(self) -> str:
        """Return "1…T" for the steps of the graph, "" if it has none."""
        times = self.table.times
        return f"{times[0] + 1}…{times[-1] + 1}" if times else ""

    def total(self, number: int) -> Face:
        """Return what the box of a whole loss shows."""
        place = self.story.losses[number]
        name = "L" if len(self.story.losses) == 1 else f"L_{{{number + 1}}}"
        summary = self.story.summary(place)
        terms = self.groups.terms[number]
        adds = self.groups.sums[number]
        if not adds:
            group = self.groups.of.get(place[0])
            lines = [Line("loss")] if group is None else self._loss_lines(self.table.row_of[group], place[0], summary)
        else:
            how = self._how(number)
            value = "" if summary is None else f" = {short(summary.mean)}"
            lines = [Line(f"{how} ℓ{value}"), Line(f"{len(terms)} term{'s' * (len(terms) != 1)}")]
        tips = [name.replace("_{", "_").replace("}", ""), *self._facts(place)]
        return Face("loss", name, (*lines, *self._warnings([place])), "\n".join(tips), strong=True)

    def _loss_lines(self, row: Row, node: Node, summary: Summary | None) -> list[Line]:
        value = "" if summary is None else short(summary.mean)
        if node.name == "cross_entropy":
            return [Line(f"{symbol(node.name)} {value}".rstrip())]
        return [Line(self.expression(row) or symbol(node.name)), *([Line(f"= {value}")] if value else [])]

    def _how(self, number: int) -> str:
        """Return how a loss is made of its terms: "Σ", "mean", or "weighted Σ"."""
        names = {node.name for node in self.groups.sums[number]}
        if not names & {"multiply", "divide", "mean", "subtract", "negative"}:
            return "Σ"
        terms = [self.story.summary(place) for place in self.groups.terms[number]]
        total = self.story.summary(self.story.losses[number])
        values = [term.mean for term in terms if term is not None]
        is_mean = total is not None and len(values) == len(terms) and math.isclose(
            float(np.mean(values)), total.mean, rel_tol=1e-5
        )  # fmt: skip
        return "mean" if is_mean else "weighted Σ"

    def start(self, row: Row, slots: list[int]) -> Face:
        """Return what the box of a first state shows."""
        time = max(self.table.times) + 2 if row.backward else min(self.table.times)
        title = ", ".join(f"{row.slots[slot]}_{{{time}}}" for slot in reversed(slots))
        texts: dict[str, None] = {}
        for slot in slots:
            value = self.table.starts[row, slot]
            if isinstance(value, np.ndarray):
                texts["zeros" if not value.any() else "given"] = None
            elif isinstance(value, Spec) or value is None or isinstance(value, int | float):
                texts["given"] = None
            elif value.cuts and (value.place is None or value.tail is None):
                texts["cut off"] = None
            else:
                texts["learned" if value.place is not None and value.place[0].operation is None else "computed"] = None
        return Face("constant", title, (Line(", ".join(texts)),), title.replace("_{", "_").replace("}", ""))

    def _facts(self, place: Place) -> list[str]:
        lines = self.story.facts(place)
        magnitude = None if self.flow is None else self.flow.total(place)
        if magnitude is not None:
            lines.append(f"gradient norm: {short_number(magnitude)}")
        return lines

    def _warnings(self, places: list[Place]) -> list[Line]:
        lines = []
        for place in places:
            summary = self.story.summary(place)
            if summary is not None and summary.bad:
                lines.append(Line(f"{summary.bad} of {summary.size} not finite", warn=True))
                break
        for place in places:
            magnitude = None if self.flow is None else self.flow.total(place)
            found = "" if self.flow is None else self.flow.warning(magnitude)
            if found and magnitude is not None:
                lines.append(Line(f"‖∇‖ {short_number(magnitude)} {found}", warn=True))
                break
        return lines


def result_of(group: Group) -> Place:
    """Return the value that a group stands for: its last state, or what it computed last."""
    if group.states:
        return group.states[-1]
    whole = [node for node in group.nodes if not node.operation.multiple]  # type: ignore[union-attr]  # not a leaf
    return (whole or group.nodes)[-1], 0


def spec_text(spec: Spec, what: str = "") -> str:
    """Return a shape, and the dtype where it is not the usual one: "8×32", "8×32 float64", "ids 8×1"."""
    usual = spec.dtype == np.float32 or (what and spec.dtype.kind in "iu")
    parts = [what, shape_text(spec.shape), "" if usual else str(spec.dtype)]
    return " ".join(part for part in parts if part)


def _spec_lines(spec: Spec) -> str:
    return f"shape: {shape_text(spec.shape)}\ndtype: {spec.dtype}"


def short(value: float) -> str:
    """Return a value in three significant digits."""
    return f"{value:.3g}"


def parameter_line(parameter: Parameter, magnitude: float | None, flow: Flow | None) -> Line:
    """Return the row of a parameter in its table: name, shape (and dtype), norm of the gradient."""
    cells = [parameter.name.rpartition(".")[2], spec_text(Spec(parameter.shape, parameter.dtype))]
    if flow is None:
        return Line("\t".join(cells))
    if magnitude is None:
        return Line("\t".join([*cells, "no gradient"]))
    warning = flow.warning(magnitude)
    return Line("\t".join([*cells, f"‖∇‖ {short_number(magnitude)}"]), magnitude, warn=bool(warning))
