"""Contents of boxes in the rows of the unrolled view: cells, layers, losses, inputs, initial states."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable
from dataclasses import replace

import numpy as np

from ...engine.tape import Array, Node, Spec
from ...pictures.layout.content import Content
from ...pictures.scene.scene import BoxKind
from ...pictures.scene.scene import Row as Line
from ...pictures.scene.text import plain, shortened, text_width
from ..model.blocks import Block, Link
from ..model.flow import Flow
from ..model.graph import Edge, Place, Summary
from ..model.names import maker_of
from ..model.table import Row, Table
from .builder import BINARY, ContentBuilder, short_names, spec_text, symbol

_FORMULA_WIDTH = 160.0  # points; a wider formula is replaced by the name of the class
_SCALING = frozenset(("multiply", "divide", "mean", "subtract", "negative"))
_SILENT = frozenset(("stack", "unstack", "reshape", "broadcast_to", "astype", "getitem", "concatenate", "split"))
_LIMIT = 60  # characters; a longer formula is not drawn


class _TooLongError(Exception):
    pass


class RowContent(ContentBuilder):
    """Builder of the contents of the boxes in a table's rows.

    Args:
        flow: the graph, and its gradient.
        table: its rows.
    """

    def __init__(self, flow: Flow, table: Table) -> None:
        super().__init__(flow, table.constants)
        self.blocks, self.table = table.blocks, table
        self._expressions: dict[Row, str] = {}

    def of(self, row: Row, time: int) -> Content:
        """Return the content of a row's box at a time; -1 for a row that spans the whole sequence."""
        if row.role == "input":
            return self._input(row, time)
        times = self.table.times
        span = f"{times[0] + 1}…{times[-1] + 1}" if times else ""
        return self.content(row, row.blocks[time], f"{time + 1}" if time >= 0 else span)

    def content(self, row: Row, block: Block, index: str) -> Content:
        """Return the content of a block in a row, with `index` as the subscript of its title."""
        return self._cell(row, block, index) if row.role == "cell" else self._other(row, block, index)

    # -- formulas -----------------------------------------------------------------------------------------------------

    def formula(self, row: Row) -> str:
        """Return the formula of a row, or else the class or function that contains it, or the number of operations."""
        made = shortened(self.maker(row), 9, _FORMULA_WIDTH)
        return self.expression(row) or made or f"{len(_latest(row).nodes)} operations"

    def expression(self, row: Row) -> str:
        """Return the formula of a row in terms of what it reads; "" if it is too long to help.

        A value that is used twice appears twice, so the formula of a gated cell is usually too long.
        """
        if row not in self._expressions:
            block = _latest(row)
            try:
                text, _ = self._written(row, self._inside(block), result_of(block)[0], 12)
            except _TooLongError:
                text = ""
            self._expressions[row] = text if text_width(text, 9) <= _FORMULA_WIDTH else ""
        return self._expressions[row]

    def _written(self, row: Row, inside: Container[Node], node: Node, depth: int) -> tuple[str, int]:
        """Return text and precedence: 1 a sum, 2 a product of elements, 3 of matrices, 4 a name, a call or a power."""
        if not depth:
            raise _TooLongError
        parts: list[tuple[str, int]] = []
        for edge in self.graph.edges(node):
            if edge.source is not None and edge.source in inside:
                part = self._written(row, inside, edge.source, depth - 1)
            else:
                part = (f"{edge.number:.3g}" if edge.number is not None else self._called(row, edge), 4)
            if part[0]:
                parts.append(part)
        text, strength = _join(node, list(dict.fromkeys(parts)) if node.name in _SILENT - {"concatenate"} else parts)
        if len(text) > _LIMIT:
            raise _TooLongError
        return text, strength

    def _names(self, row: Row) -> dict[Node, str]:
        """Return the names of parameters in the formula of a row."""
        leaves = {leaf for op in _latest(row).ops for node in op.sources for leaf in self.blocks.flow.leaves_of(node)}
        return self.called | short_names(map(self.parameter_of.__getitem__, leaves), self.scope)

    def _inside(self, block: Block) -> set[Node]:
        """Return the nodes whose operations a formula writes out: a cell gives others no values but its states."""
        beside = (other for other in self.blocks.blocks if other.step == block.step and other is not block)
        cells = [other for other in beside if other.kind.role == "cell"]
        return {*block.nodes, *(node for b in cells for node in {*b.nodes} - {node for node, _ in b.states})}

    def maker(self, row: Row) -> str:
        """Return the class or function that contains the code of a row; of a cell drawn by itself, that of the cell."""
        alone = row.role == "cell" and [other.role for other in self.table.rows].count("cell") == 1
        return (alone and self.graph.cell) or maker_of(result_of(_latest(row))[0])

    def label(self, row: Row) -> str:
        """Return the label of a row: its module, and the class of a cell; "" for inputs and losses."""
        if row.role not in ("cell", "layer", "attention"):
            return ""
        made = shortened(self.maker(row), 9, _FORMULA_WIDTH) if row.role == "cell" else ""
        name = ".".join(_latest(row).kind.scope)
        return " · ".join(filter(None, dict.fromkeys((name, made, "backward" if row.backward else ""))))

    def headline(self, how: str) -> str:
        """Return a title that names the cells and how they are drawn, such as "2 × LSTMCell, unrolled"."""
        cells = [self.maker(row) for row in self.table.rows if row.role == "cell"]
        counted = [f"{cells.count(n)} × {n}" if cells.count(n) > 1 else n for n in dict.fromkeys(cells) if n]
        return f"{' and '.join(counted)}, {how}" if counted else f"{how.capitalize()} graph"

    def _called(self, row: Row, source: Edge) -> str:
        """Return the name, in the formula of a row, of a value from outside; "" omits a factor or an argument."""
        if source.place is None:
            return self._constant(row, source)
        node = source.place[0]
        if leaves := self.blocks.flow.leaves_of(node):
            return self._names(row)[leaves[0]] + ("ᵀ" if node.name == "transpose" else "")
        block = self.blocks.of.get(node)
        if block is None:
            return "…"
        other = self.table.row_of[block]
        if source.place in block.states and (other is row or other.role == "cell"):
            name, lag = other.slots[block.states.index(source.place)], (_latest(row).step or 0) - (block.step or 0)
            return f"{name}[t−{lag}]" if lag > 1 else name
        return (other.slots[-1] if other.slots else other.letter) or "x"

    def _constant(self, row: Row, source: Edge) -> str:
        """Return the name of an array that a row reads but the graph did not compute; "" for the targets of a loss."""
        if row.role == "loss":
            return ""
        slot = self.table.slot_of(_latest(row), source.use)
        return self.table.constants.name(source) if slot is None else row.slots[slot]

    # -- boxes of rows ------------------------------------------------------------------------------------------------

    def _input(self, row: Row, time: int) -> Content:
        spec = row.inputs[time]
        made = self.data(f"{row.letter}_{{{time + 1}}}", spec)
        text = spec_text(spec, "ids" if spec.dtype.kind in "iu" else "")
        return replace(made, rows=(Line(text),), tooltip=plain(made.tooltip))

    def _cell(self, row: Row, block: Block, index: str) -> Content:
        places = block.states or [result_of(block)]
        states = list(zip(reversed(row.slots[: len(places)]), reversed(places), strict=False))
        whole = ", ".join(f"{name}_{{{index}}}" for name, _ in states)
        title = whole if len(states) < 4 else f"s_{{{index}}}"
        lines = [Line(self.formula(row)), Line(_spec_of(places[-1]))]
        tips = [plain(whole), f"computes: {self.formula(row)}"]
        for name, place in states:
            tips += [name] if len(states) > 1 else []
            tips += self.facts(place)
        return Content("state", title, (*lines, *self.warnings(places)), "\n".join(tips))

    def frame(self, row: Row, time: int) -> Content:
        """Return the content of an opened cell's border."""
        closed = self._cell(row, row.blocks[time], f"{time + 1}")
        return Content("frame", closed.title, (Line(self.maker(row)),), closed.tooltip)

    def _other(self, row: Row, block: Block, index: str) -> Content:
        place = result_of(block)
        node, output = place
        is_loss = block.kind.role == "loss"
        kind: BoxKind = "loss" if is_loss else "operation"
        if is_loss:
            value = self.graph.summary(place) if node.specs[output].shape in ((), (1,)) else None
            lines = self._loss_lines(row, node, value)
        else:
            lines = [Line(self.formula(row)), Line(_spec_of(place))]
            weights = [op.node for op in block.ops if op.name == "exp" and block.kind.role == "attention"]
            lines += [Line(f"weights {_spec_of((weights[0], 0))}")] if weights else []
        tips = [f"{row.letter}_{index}", f"computes: {self.formula(row)}", *self.facts(place)]
        return Content(kind, f"{row.letter}_{{{index}}}", (*lines, *self.warnings([place])), "\n".join(tips))

    def start(self, row: Row, slots: list[int]) -> Content:
        """Return the content of the box of a cell's initial states, given by their numbers."""
        time = max(self.table.times) + 2 if row.backward else min(self.table.times)
        title = ", ".join(f"{row.slots[slot]}_{{{time}}}" for slot in reversed(slots))
        texts = dict.fromkeys(_origin(self.table.starts[row, slot], self.graph.initial) for slot in reversed(slots))
        return Content("constant", title, (Line(", ".join(texts)),), plain(title))

    # -- losses -------------------------------------------------------------------------------------------------------

    def total(self, number: int) -> Content:
        """Return the content of the box of a total loss."""
        place = self.graph.losses[number]
        name = "L" if len(self.graph.losses) == 1 else f"L_{{{number + 1}}}"
        summary = self.graph.summary(place)
        if not self.blocks.sums[number]:
            block = self.blocks.of.get(place[0])
            lines = [Line("loss")] if block is None else self._loss_lines(self.table.row_of[block], place[0], summary)
        else:
            count = len(self.blocks.terms[number])
            value = "" if summary is None else f" = {summary.mean:.3g}"
            lines = [Line(f"{self._how(number)} ℓ{value}"), Line(f"{count} term{'s' * (count != 1)}")]
        tips = [plain(name), *self.facts(place)]
        return Content("loss", name, (*lines, *self.warnings([place])), "\n".join(tips), strong=True)

    def _loss_lines(self, row: Row, node: Node, summary: Summary | None) -> list[Line]:
        value = "" if summary is None else f"{summary.mean:.3g}"
        if node.name == "cross_entropy":
            return [Line(f"{symbol(node.name)} {value}".rstrip())]
        return [Line(self.expression(row) or symbol(node.name)), *([Line(f"= {value}")] if value else [])]

    def _how(self, number: int) -> str:
        """Return how a loss combines its terms: "Σ", "mean", or "weighted Σ"."""
        if not _SCALING & {node.name for node in self.blocks.sums[number]}:
            return "Σ"
        terms = [self.graph.summary(place) for place in self.blocks.terms[number]]
        total = self.graph.summary(self.graph.losses[number])
        values = [term.mean for term in terms if term is not None]
        if total is None or len(values) < len(terms):
            return "weighted Σ"
        return "mean" if math.isclose(float(np.mean(values)), total.mean, rel_tol=1e-5) else "weighted Σ"


def _join(node: Node, parts: list[tuple[str, int]]) -> tuple[str, int]:
    name = node.name
    if name in BINARY and len(parts) == 2:
        sign, strength = BINARY[name]
        (a, strong_a), (b, strong_b) = parts
        left = a if strong_a >= strength else f"({a})"
        right = b if strong_b > strength or (strong_b == strength and name in ("add", "multiply")) else f"({b})"
        return left + sign + right, strength
    if (name in BINARY or name in _SILENT) and len(parts) == 1:
        return parts[0]
    if name == "negative" and parts:
        text, strength = parts[0]
        return f"−{text if strength > 1 else f'({text})'}", 2
    if name == "power" and len(parts) == 2:
        (a, strong_a), (b, _) = parts
        return f"{a if strong_a == 4 else f'({a})'}{'²' if b == '2' else f'^{b}'}", 4
    if name == "transpose" and len(parts) == 1:
        text, strength = parts[0]
        return f"{text if strength == 4 else f'({text})'}ᵀ", 4
    if name == "exp" and parts and parts[0][0].startswith("log softmax("):
        return parts[0][0].removeprefix("log "), 4
    if name == "take" and parts:
        return f"{parts[0][0]}[ids]", 4
    return f"{symbol(name)}({', '.join(text for text, _ in parts)})", 4


def result_of(block: Block) -> Place:
    """Return the value that represents a block: its last state, or its last result."""
    if block.states:
        return block.states[-1]
    whole = [node for node in block.nodes if not node.operation.multiple]  # type: ignore[union-attr]  # not a leaf
    return (whole or block.nodes)[-1], 0


def _latest(row: Row) -> Block:
    return row.blocks[max(row.blocks)]


def _origin(value: object, initial: Iterable[Array]) -> str:
    """Return the origin of an initial state (a constant or a link) in a word; `initial`: the whole initial state."""
    if isinstance(value, Spec):  # no rule kept it
        alike = [array for array in initial if array.shape == value.shape]
        return "given" if not alike or any(array.any() for array in alike) else "zeros"
    if isinstance(value, np.ndarray):
        return "given" if value.any() else "zeros"
    if not isinstance(value, Link):
        return "given"
    if value.cuts and (value.place is None or value.tail is None):
        return "cut off"
    return "learned" if value.place is not None and value.place[0].operation is None else "computed"


def _spec_of(place: Place) -> str:
    return spec_text(place[0].specs[place[1]])
