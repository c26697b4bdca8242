"""Contents of boxes of single operations, losses, arrays and parameters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence

import numpy as np

from ...engine.tape import Node, Spec
from ...pictures.layout.content import Content
from ...pictures.scene.legend import short_number
from ...pictures.scene.scene import Row
from ...pictures.scene.text import shortened
from ..model.constants import Constants
from ..model.flow import Flow
from ..model.graph import Edge, Parameter, Place, shape_text
from ..model.operations import Operation

SYMBOLS = {
    "add": "+",
    "subtract": "−",
    "multiply": "⊙",
    "divide": "÷",
    "negative": "−",
    "matmul": "×",
    "sigmoid": "σ",
    "power": "^",
    "sqrt": "√",
    "sum": "Σ",
    "cross_entropy": "cross-entropy",
    "take": "lookup",
    "take_along": "reorder",
    "unstack": "steps",
    "stack": "stack",
    "concatenate": "join",
    "getitem": "pick",
    "astype": "cast",
    "log_softmax": "log softmax",
    "broadcast_to": "broadcast",
}
"""Operations with a shorter or clearer name in pictures."""

BINARY = {"add": (" + ", 1), "subtract": (" − ", 1), "multiply": (" ⊙ ", 2), "divide": (" / ", 2), "matmul": ("·", 3)}
"""Infix operators: their sign and precedence."""
_ATTRIBUTES = {"indices": "id", "targets": "target"}
_NAME_WIDTH = 150.0  # points; a longer name of a parameter is shortened
_WITH_NUMBER = frozenset(("add", "subtract", "multiply", "divide", "power"))


def symbol(name: str) -> str:
    """Return the sign or name of an operation in pictures.

    >>> symbol("matmul"), symbol("sigmoid"), symbol("tanh")
    ('×', 'σ', 'tanh')
    """
    return SYMBOLS.get(name, name)


class ContentBuilder:
    """Builder of the contents of boxes, for one recorded graph.

    Args:
        flow: the graph, and its gradient.
        constants: the names of arrays that the graph did not compute.
        subscript: suffix of the titles of states and arrays, such as "_{t}".
    """

    def __init__(self, flow: Flow, constants: Constants, subscript: str = "") -> None:
        self.graph, self.flow, self.constants, self.subscript = flow.graph, flow, constants, subscript
        self.parameter_of = {parameter.node: parameter for parameter in self.graph.parameters}
        self.scope = {edge[0]: node.scope for node in self.graph.nodes for edge in node.edges if edge is not None}
        self.called = short_names(self.graph.parameters, self.scope, apart=True)
        self._arrays: dict[Hashable, str] = {}

    # -- names --------------------------------------------------------------------------------------------------------

    def input_name(self, edge: Edge) -> str:
        """Return the name of an input of an operation: that of a parameter, a result or an array, or ""."""
        source = edge.source
        if source is None:
            return self.constants.name(edge) if edge.spec.ndim and not edge.cuts else ""
        if source in self.parameter_of:
            return self.called[source]
        return self.graph.name(source, edge.output) or ("x" if source.name in ("unstack", "take") else "")

    def output_name(self, edge: Edge) -> str:
        """Return the name of one of several outputs of an operation, such as a gate; "" if it has one output."""
        one = edge.source is None or len(edge.source.specs) == 1
        return "" if edge.source is None or one else self.graph.name(edge.source, edge.output)

    # -- operations and losses ----------------------------------------------------------------------------------------

    def operation(self, op: Operation, states: Sequence[str] = (), facts: str = "") -> Content:
        """Return the content of an operation; with `states`, the title is their names, with the symbol below it."""
        node = op.node
        tooltip = [f"{'state' if states else 'operation'}: {node.name}", *self.graph.facts((node, 0)), facts]
        sign = sign_of(op)
        if states:
            title = ", ".join(f"{name}{self.subscript}" for name in states)
            row = Row(f"{sign} · {shape_text(node.specs[0].shape)}")
            return Content("state", title, (row,), _lines(title, *tooltip))
        below = self._formula(op) or (self.graph.name(node) if len(node.specs) == 1 else "")
        return Content("operation", sign, (Row(below),) if below else (), _lines(below or node.name, *tooltip))

    def _formula(self, op: Operation) -> str:
        if op.name == "matmul":
            names = [self.input_name(edge) for edge in op.inputs]
            return "·".join(names) if all(names) else ""
        if op.name == "take":
            name = self.input_name(op.inputs[0])
            return f"rows of {name}" if name else ""
        return ""

    def shape_row(self, op: Operation) -> Row:
        """Return the line with the shape of a result, and a warning if values are not finite."""
        summary = self.graph.summary((op.node, 0))
        bad = summary.bad if summary is not None else 0
        shape = " | ".join(dict.fromkeys(shape_text(spec.shape) for spec in op.node.specs))
        return Row(f"{shape}, {bad} not finite" if bad else shape, warn=bool(bad))

    def loss(self, op: Operation, title: str, value: str, strong: bool = False) -> Content:
        """Return the content of a loss."""
        return Content("loss", title, (Row(value),), _lines(title, *self.graph.facts((op.node, 0))), strong=strong)

    # -- arrays and parameters ----------------------------------------------------------------------------------------

    def data(self, title: str, spec: Spec, constant: bool = False) -> Content:
        """Return the content of an array that the graph reads but did not compute."""
        rows = (Row(shape_text(spec.shape)),)
        tooltip = _lines(title, f"shape: {shape_text(spec.shape)}", f"dtype: {spec.dtype}")
        return Content("constant" if constant else "input", title, rows, tooltip)

    def constant(self, boxes: dict[str, Content], edge: Edge, subscript: str, constant: bool = False) -> str | None:
        """Add the box of an array that an edge reads, unless an equal one has it; return its id, None for a number."""
        key = data_key(edge)
        if key is not None and key not in self._arrays:
            self._arrays[key] = id = f"data{len(self._arrays)}"
            boxes[id] = self.data(f"{self.constants.name(edge)}{subscript}", edge.spec, constant)
        return self._arrays.get(key)

    def attribute(self, boxes: dict[str, Content], op: Operation, reader: str, repeats: bool = True) -> str | None:
        """Add the box of an array among the attributes, such as the ids of a lookup; return its id, None: no array."""
        for key, value in op.node.attrs.items():
            if isinstance(value, np.ndarray):
                name = "order" if op.name == "take_along" else _ATTRIBUTES.get(key, key)
                title = f"{name}{self.subscript}" if repeats else f"{name}s" if name in ("id", "target") else name
                boxes[f"{reader}.{key}"] = self.data(title, Spec(value.shape, value.dtype))
                return f"{reader}.{key}"
        return None

    def parameter(self, leaf: Node) -> Content:
        """Return the content of a parameter: its name without the modules, its shape, and the norm of its gradient."""
        parameter = self.parameter_of[leaf]
        rows = [Row(shape_text(parameter.shape))]
        if self.flow.measured:
            rows.append(self._gradient_row(parameter))
        title = shortened(self.called[leaf], 11, _NAME_WIDTH)
        return Content("parameter", title, tuple(rows), _lines(*self._about(parameter)))

    def _gradient_row(self, parameter: Parameter, before: str = "", none: str = "‖∇‖ 0") -> Row:
        total = self.flow.totals.get((parameter.node, 0))
        text = none if total is None else f"‖∇‖ {short_number(total)}"
        return Row(before + text, total, warn=bool(self.flow.warning(total)))

    def parameters(self, what: str, parameters: Sequence[Parameter]) -> Content:
        """Return the content of a table of parameters: name, shape (and dtype), norm of the gradient."""
        count = sum(parameter.size for parameter in parameters)
        title = f"{what}: {count:,} parameter{'s' * (count != 1)}"
        facts = [line for parameter in parameters for line in self._about(parameter)]
        called = short_names(parameters, self.scope)
        rows = [self._table_row(parameter, called[parameter.node]) for parameter in parameters]
        return Content("parameter", title, tuple(rows), _lines(title, *facts))

    def _table_row(self, parameter: Parameter, name: str) -> Row:
        name = shortened(name, 9, _NAME_WIDTH)
        cells = f"{name}\t{spec_text(Spec(parameter.shape, parameter.dtype))}"
        return self._gradient_row(parameter, f"{cells}\t", "no gradient") if self.flow.measured else Row(cells)

    def _about(self, parameter: Parameter) -> list[str]:
        facts = self.facts((parameter.node, 0), site=False)
        return [parameter.name, f"parameters: {parameter.size:,}", *facts]

    # -- facts about values -------------------------------------------------------------------------------------------

    def facts(self, place: Place, site: bool = True) -> list[str]:
        """Return lines about a value for a tooltip, with the norm of its gradient if that is known."""
        facts, magnitude = self.graph.facts(place, site), self.flow.totals.get(place)
        return facts if magnitude is None else [*facts, f"gradient norm: {short_number(magnitude)}"]

    def warnings(self, places: Sequence[Place]) -> list[Row]:
        """Return warnings about the first value that is not finite, and about the first such or vanished gradient."""
        values = [value for value in map(self.graph.value, places) if value is not None and value.dtype.kind in "fc"]
        bad = [Row(f"{n} of {v.size} not finite", warn=True) for v in values if (n := v.size - np.isfinite(v).sum())]
        totals = [total for place in places if (total := self.flow.totals.get(place)) is not None]
        found = [(total, warning) for total in totals if (warning := self.flow.warning(total))]
        return bad[:1] + [Row(f"‖∇‖ {short_number(total)} {warning}", warn=True) for total, warning in found[:1]]


def cut_content(factor: float, label: str = "", before: str = "", facts: str = "") -> Content:
    """Return the content of a mark on a cut edge: scissors, the factor, or how many of several passes stop there.

    Args:
        factor: on the cotangent.
        label: title of a cut that is closed in only some passes, such as "✂ 3 of 5".
        before: name of the reader, for the tooltip.
        facts: more lines of the tooltip.

    >>> cut_content(0.5).title, cut_content(0.0).tooltip.splitlines()[-1]
    ('× 0.5', 'gradient: stops here')
    """
    passes = f"{label.removeprefix('✂ ')} passes stop here" if label else f"× {factor:.4g}" if factor else "stops here"
    tooltip = _lines(
        f"cut before {before}" if before else "cut", f"factor: {factor:g}", "values: pass unchanged",
        f"gradient: {passes}", facts,
    )  # fmt: skip
    title = (label or f"× {factor:.3g}") if factor else ""
    return Content("cut", title, (), tooltip, factor=factor)


def sign_of(op: Operation) -> str:
    """Return the symbol of an operation, with its operand if that is a constant number: "1 −", "× 0.5"."""
    sign = symbol(op.name)
    numbers = [None if edge.number is None else short_number(edge.number) for edge in op.inputs]
    if len(numbers) == 2 and op.name in _WITH_NUMBER:
        first, second = numbers
        return f"{first} {sign}" if first is not None else f"{sign} {second}" if second is not None else sign
    return sign


def data_key(edge: Edge) -> Hashable:
    """Return a key that is equal for edges that read equal arrays; None for a number, which needs no box."""
    value = edge.constant
    if not edge.spec.ndim or edge.cuts:
        return None
    if isinstance(value, np.ndarray):
        return value.shape, value.dtype.str, value.tobytes()
    return edge.use


def short_names(
    parameters: Iterable[Parameter], scope: Mapping[Node, tuple[str, ...]], apart: bool = False
) -> dict[Node, str]:
    """Return names of parameters without their modules; if two would have one name, with those inside of its reader.

    `scope` has the modules of the reader of each; `apart` lets those of different readers have one name.
    """
    found = {leaf: (scope.get(leaf) if apart else None, name.rpartition(".")[2], name) for leaf, name, *_ in parameters}
    alike = Counter((reader, short) for reader, short, _ in found.values())
    return {
        leaf: short if alike[reader, short] == 1 else name.removeprefix(".".join((*scope.get(leaf, ()), "")))
        for leaf, (reader, short, name) in found.items()
    }


def spec_text(spec: Spec, what: str = "") -> str:
    """Return a shape, and the dtype unless it is the usual one: "8×32", "8×32 float64", "ids 8×1"."""
    usual = spec.dtype == np.float32 or (what and spec.dtype.kind in "iu")
    parts = [what, shape_text(spec.shape), "" if usual else str(spec.dtype)]
    return " ".join(part for part in parts if part)


def _lines(*lines: str) -> str:
    return "\n".join(line for line in lines if line)


def root_mean_square(magnitudes: Iterable[float | None]) -> float | None:
    """Return the root mean square, None counted as 0; None if all are None.

    >>> root_mean_square([3.0, 4.0, None, None])
    2.5
    """
    found = list(magnitudes)
    if all(m is None for m in found):
        return None
    return float(np.sqrt(np.mean(np.square([m or 0.0 for m in found]))))
