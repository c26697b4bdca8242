"""What stands in the box of one operation, one input or one parameter: `Figure`, a box that has no place yet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...engine.tape import Node, Spec
from ..model.flow import Flow
from ..model.formula import symbol
from ..model.names import names_of
from ..model.parts import Part, Wire
from ..model.read import Parameter, Story, shape_text
from ..scene.legend import short_number
from ..scene.lines import box_size
from ..scene.scene import Box, BoxKind, Row

_ATTRIBUTES = {"indices": "id", "targets": "target"}


@dataclass(frozen=True)
class Figure:
    """A box without a place; the fields are those of `Box`, and `tall`, the least height."""

    kind: BoxKind
    title: str
    rows: tuple[Row, ...] = ()
    tooltip: str = ""
    strong: bool = False
    factor: float = 0.0
    tall: float = 0.0

    @property
    def size(self) -> tuple[float, float]:
        """Width and height that its text needs."""
        if self.kind == "cut":
            return 30.0, 30.0
        if self.kind == "delay":
            return 42.0, 42.0
        width, height = box_size(self.kind, self.title, self.rows)
        return round(max(width, 44.0), 1), round(max(height, 36.0, self.tall), 1)

    def at(self, id: str, x: float, y: float) -> Box:
        """Return the box, in its place."""
        width, height = self.size
        return Box(
            id,
            x,
            y,
            width,
            height,
            self.kind,
            self.title,
            self.rows,
            self.tooltip,
            strong=self.strong,
            factor=self.factor,
        )


class Figures:
    """Makes figures for the parts of a story.

    Args:
        story: that the parts come from.
        flow: its gradient, or None.
        subscript: what a title ends in, such as "_{t}".
    """

    def __init__(self, story: Story, flow: Flow | None, subscript: str = "") -> None:
        self.story, self.flow, self.subscript = story, flow, subscript
        self.names = names_of(story.nodes)
        self.parameters = {parameter.node.id: parameter for parameter in story.parameters}

    def name(self, wire: Wire) -> str:
        """Return what an input of an operation is called: a parameter, a named result, "x" for data, or ""."""
        source = wire.source
        if source is None:
            return "x" if wire.spec.ndim else ""
        if source.id in self.parameters:
            return last_name(self.parameters[source.id].name)
        given = self.names.get(source.id)
        return given[wire.output] if given else "x" if source.name in ("unstack", "take") else ""

    def operation(self, part: Part, kind: BoxKind = "operation", states: Sequence[str] = (), facts: str = "") -> Figure:
        """Return the figure of an operation; a state has its name as title, and what made it below."""
        node = part.node
        shape = shape_text(node.specs[0].shape)
        given = self.names.get(node.id, ())
        tooltip = [f"{'state' if states else 'operation'}: {node.name}", *self.story.facts((node, 0)), facts]
        sign = self._sign(part)
        if states:
            title = ", ".join(f"{name}{self.subscript}" for name in states)
            return Figure("state", title, (Row(f"{sign} · {shape}"),), _lines(title, *tooltip))
        below = self._formula(part) or (given[0] if len(given) == 1 else "")
        return Figure(kind, sign, (Row(below),) if below else (), _lines(below or node.name, *tooltip))

    def _formula(self, part: Part) -> str:
        if part.name == "matmul":
            names = [self.name(wire) for wire in part.inputs]
            return "·".join(names) if all(names) else ""
        if part.name == "take":
            return f"rows of {self.name(part.inputs[0])}" if self.name(part.inputs[0]) else ""
        return ""

    def _sign(self, part: Part) -> str:
        """Return the symbol of an operation, with a number that it always takes: "1 −", "× 0.5"."""
        sign = symbol(part.name)
        numbers = [
            short_number(float(np.real(np.asarray(wire.constant)))) if _is_number(wire) else None
            for wire in part.inputs
        ]
        if len(numbers) == 2 and part.name in ("add", "subtract", "multiply", "divide", "power"):
            first, second = numbers
            return f"{first} {sign}" if first is not None else f"{sign} {second}" if second is not None else sign
        return sign

    def output_name(self, wire: Wire) -> str:
        """Return the name of one of several outputs of an operation, such as a gate; "" if there is one output."""
        if wire.source is None or len(wire.source.specs) == 1:
            return ""
        given = self.names.get(wire.source.id)
        return given[wire.output] if given else ""

    def shape_row(self, part: Part) -> Row:
        """Return the line with the shape of a result; it warns of values that are not finite."""
        summary = self.story.summary((part.node, 0))
        bad = summary.bad if summary is not None else 0
        shape = " | ".join(dict.fromkeys(shape_text(spec.shape) for spec in part.node.specs))
        return Row(f"{shape}, {bad} not finite" if bad else shape, warn=bool(bad))

    def loss(self, part: Part, title: str, value: str, strong: bool = False) -> Figure:
        """Return the figure of a loss."""
        rows = (Row(value),) if value else ()
        return Figure("loss", title, rows, _lines(title, *self.story.facts((part.node, 0))), strong=strong)

    def parameter(self, leaf: Node) -> Figure:
        """Return the figure of a parameter: its name without the modules, shape, and the norm of its gradient."""
        parameter = self.parameters[leaf.id]
        rows = [Row(shape_text(parameter.shape))]
        total = None if self.flow is None else self.flow.total((leaf, 0))
        warning = "" if self.flow is None else self.flow.warning(total)
        if self.flow is not None:
            rows.append(Row(f"‖∇‖ {short_number(total or 0.0)}", total, warn=bool(warning)))
        return Figure(
            "parameter", last_name(parameter.name), tuple(rows), parameter_tooltip(self.story, parameter, total)
        )

    def data(self, title: str, spec: Spec, constant: bool = False) -> Figure:
        """Return the figure of an array that the graph reads but did not compute."""
        rows = (Row(shape_text(spec.shape)),)
        tooltip = _lines(title, f"shape: {shape_text(spec.shape)}", f"dtype: {spec.dtype}")
        return Figure("constant" if constant else "input", title, rows, tooltip)

    def attribute(self, part: Part, repeats: bool = True) -> tuple[str, Figure] | None:
        """Return (key, figure) of the array among an operation's attributes, such as the ids of a lookup."""
        for key, value in part.node.attrs.items():
            if isinstance(value, np.ndarray):
                name = _ATTRIBUTES.get(key, key)
                title = f"{name}{self.subscript}" if repeats else f"{name}s" if name != key else name
                return key, self.data(title, Spec(value.shape, value.dtype))
        return None


def data_key(wire: Wire) -> Any:
    """Return a key that is equal for wires which read equal arrays; None for a number, which needs no box."""
    value = wire.constant
    if _is_number(wire) or not wire.spec.ndim or wire.cuts:
        return None
    if isinstance(value, np.ndarray):
        return value.shape, value.dtype.str, value.tobytes()
    return wire.uses


def _is_number(wire: Wire) -> bool:
    return wire.source is None and not isinstance(wire.constant, Spec) and np.size(wire.constant) == 1


def last_name(name: str) -> str:
    """Return the name of a parameter without its modules.

    >>> last_name("layers.0.Wx"), last_name("leaf 1")
    ('Wx', 'leaf 1')
    """
    return name.rpartition(".")[2]


def parameter_tooltip(story: Story, parameter: Parameter, total: float | None) -> str:
    """Return the lines that are shown when a parameter is pointed at."""
    lines = [parameter.name, f"parameters: {parameter.size:,}", f"shape: {shape_text(parameter.shape)}"]
    lines.append(f"dtype: {parameter.dtype}")
    summary = story.summary((parameter.node, 0))
    lines += summary.lines if summary is not None else []
    return _lines(*lines, "" if total is None else f"gradient norm: {short_number(total)}")


def _lines(*lines: str) -> str:
    return "\n".join(line for line in lines if line)


def mean_square(magnitudes: Iterable[float | None]) -> float | None:
    """Return the root of the mean of squares, None counted as 0; None if nothing but None is given.

    >>> mean_square([3.0, 4.0, None, None])
    2.5
    """
    found = list(magnitudes)
    if all(m is None for m in found):
        return None
    return float(np.sqrt(np.mean(np.square([m or 0.0 for m in found]))))
