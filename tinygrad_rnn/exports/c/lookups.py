"""Lookups, their gradients, and the loss: kernels that look at ids; one that is out of range ends the step with 1."""

from __future__ import annotations

import math

from ...compiler.ir.arrays import DType, Shape
from ...compiler.plans.instructions import Slot
from ...errors import UnsupportedError
from ..checks import setting
from .code import Code
from .literals import literal, type_of
from .places import Ref
from .schedule import Kernel


def check_ids(code: Code, kernel: Kernel) -> None:
    """Append a copy of ids of which none may be negative."""
    _checked(code, kernel, "{0} < 0")


def check_lengths(code: Code, kernel: Kernel) -> None:
    """Append a copy of the lengths of sequences, each of which must lie in [1, T]."""
    _checked(code, kernel, f"{{0}} < 1 || {{0}} > {setting(kernel.instruction, 1, 'T')}")


def _checked(code: Code, kernel: Kernel, wrong: str) -> None:
    given, out = kernel.instruction.inputs[0], kernel.instruction.outputs[0]
    with code.loops(out.shape, "i") as index:
        element = code.ref(given).at(*index)
        code.line(f"if ({wrong.format(element)}) return 1;")
        code.line(f"{code.ref(out).at(*index)} = {element};")


def backward_order(code: Code, kernel: Kernel) -> None:
    """Append the steps (N, T, 1) of each sequence, reversed within its own length."""
    lengths, out = kernel.instruction.inputs[0], kernel.instruction.outputs[0]
    with code.loops(out.shape[:2], "i") as (n, t):
        last = code.ref(lengths).at(n)
        code.line(f"{code.ref(out).at(n, t, 0)} = {t} < {last} ? {last} - 1 - {t} : {t};")


def _ids(kernel: Kernel, name: str = "indices") -> Slot:
    ids = kernel.instruction.attrs[name]
    if not isinstance(ids, Slot):
        raise UnsupportedError(
            f"export: C has no {kernel.instruction.operator.name} with ids that are frozen in the program; pass them"
        )
    return ids


def _row(code: Code, ids: str, length: int) -> None:
    """Append the row of a table that an id names, j0; from the end if the id is negative."""
    code.line(f"const long j1 = (long){ids};")
    code.line(f"const long j0 = j1 < 0 ? j1 + {length} : j1;")
    code.line(f"if (j0 < 0 || j0 >= {length}) return 1;")


def take(code: Code, kernel: Kernel) -> None:
    """Append a lookup of slices along an axis."""
    table, out, ids = kernel.instruction.inputs[0], kernel.instruction.outputs[0], _ids(kernel)
    axis = kernel.instruction.attrs["axis"] % len(table.shape)
    before, after = table.shape[:axis], table.shape[axis + 1 :]
    given, made, index = code.ref(table), code.ref(out), code.ref(ids)
    quantized = code.quantized.get(table.buffer)
    with code.scope(ids.shape, "r") as r:
        _row(code, index.at(*r), table.shape[axis])
        with code.loops(before, "m") as m, code.loops(after, "i") as i:
            value = given.at(*m, "j0", *i)
            if quantized is not None:
                value = f"({type_of(out.dtype)}){value} * {quantized.scale(table).at('j0')}"
            code.line(f"{made.at(*m, *r, *i)} = {value};")


def take_back(code: Code, kernel: Kernel) -> None:
    """Append the gradient of a lookup: slices are added to zeros."""
    gradient, out, ids = kernel.instruction.inputs[0], kernel.instruction.outputs[0], _ids(kernel)
    axis = kernel.instruction.attrs["axis"] % len(out.shape)
    given, made = code.ref(gradient), code.ref(out)
    with code.loops(out.shape, "i") as i:
        code.line(f"{made.at(*i)} = {literal(0, out.dtype)};")
    with code.scope(ids.shape, "r") as r:
        _row(code, code.ref(ids).at(*r), out.shape[axis])
        with code.loops(out.shape[:axis], "m") as m, code.loops(out.shape[axis + 1 :], "i") as i:
            code.line(f"{made.at(*m, 'j0', *i)} += {given.at(*m, *r, *i)};")


def take_along(code: Code, kernel: Kernel) -> None:
    """Append a lookup of elements along an axis."""
    x, out, ids = kernel.instruction.inputs[0], kernel.instruction.outputs[0], _ids(kernel)
    axis = kernel.instruction.attrs["axis"] % len(x.shape)
    index, given = code.ref(ids, _broadcast(ids, out.shape)), code.ref(x, _broadcast(x, out.shape, axis))
    with code.scope(out.shape, "i") as i:
        _row(code, index.at(*i), x.shape[axis])
        code.line(f"{code.ref(out).at(*i)} = {given.at(*i[:axis], 'j0', *i[axis + 1 :])};")


def _broadcast(slot: Slot, shape: Shape, but: int = -1) -> list[int]:
    return [
        0 if length == 1 < full and axis != but else stride
        for axis, (length, stride, full) in enumerate(zip(slot.shape, slot.strides, shape, strict=True))
    ]


def equal_rows(code: Code, kernel: Kernel) -> None:
    """Append the gradient of a lookup as rows and places: those of equal ids are added up where the id stands first."""
    gradient, (rows, places) = kernel.instruction.inputs[0], kernel.instruction.outputs
    ids, after = _ids(kernel), rows.shape[1:]
    given, made, where = code.ref(gradient), code.ref(rows), code.ref(places)
    code.line("{")
    code.line("long r9 = 0;")
    with code.scope(ids.shape, "r") as r:
        _row(code, code.ref(ids).at(*r), kernel.instruction.attrs["length"])
        code.line("long k0 = 0;")
        code.line(f"while (k0 < r9 && {where.at('k0')} != j0) k0++;")
        code.line(f"{where.at('r9')} = k0 == r9 ? ({type_of(places.dtype)})j0 : -1;")
        with code.loops(after, "i") as i:
            code.line(f"if (k0 != r9) {made.at('k0', *i)} += {given.at(*r, *i)};")
            code.line(f"{made.at('r9', *i)} = k0 == r9 ? {given.at(*r, *i)} : {literal(0, rows.dtype)};")
        code.line("r9++;")
    code.line("}")


def subtract_rows(code: Code, kernel: Kernel) -> None:
    """Append an update of the rows of a table; it lies where the result does."""
    (_, rows, places), out = kernel.instruction.inputs, kernel.instruction.outputs[0]
    where = code.ref(places)
    with code.loop("r0", places.shape[0]):
        code.line(f"const long j0 = (long){where.at('r0')};")
        code.line("if (j0 < 0) continue;")
        with code.loops(out.shape[1:], "i") as i:
            code.line(f"{code.ref(out).at('j0', *i)} -= {code.ref(rows).at('r0', *i)};")


def loss(code: Code, kernel: Kernel) -> None:
    """Append the cross-entropy of logits, its gradient, or both."""
    instruction = kernel.instruction
    targets = _ids(kernel, "targets")
    parts = _Loss(code, kernel, targets)
    ids, ignored = code.ref(targets), instruction.attrs["ignore_label"]
    with code.block(""):
        code.line("long n0 = 0;")
        with code.loops(targets.shape, "r") as r:
            code.line(f"n0 += {ids.at(*r)} != {ignored};")
        code.line("if (n0 == 0) return 1;")
        if parts.loss is not None:
            code.line(f"{parts.real} s2 = {parts.zero};")
        if parts.gradient is not None:
            code.line(
                f"const {parts.real} w0 = {_number(code, instruction.inputs[1], parts.dtype)} / ({parts.real})n0;"
            )
        with code.scope(targets.shape, "r") as r:
            code.line(f"const long j0 = (long){ids.at(*r)};")
            with code.block(f"if (j0 != {ignored})"):
                parts.row(r)
            if parts.gradient is not None:
                with code.block("else"), code.loop("i0", parts.V):
                    code.line(f"{parts.gradient.at(*r, 'i0')} = {parts.zero};")
        if parts.loss is not None:
            code.line(f"{parts.loss.at(*(0 for _ in parts.loss.steps))} = s2 / ({parts.real})n0;")


class _Loss:
    """The parts of a cross-entropy: its logits, and its gradient or itself where they are wanted."""

    def __init__(self, code: Code, kernel: Kernel, targets: Slot) -> None:
        instruction = kernel.instruction
        name, logits = instruction.operator.name, instruction.inputs[0]
        self._code, self.dtype, self.V = code, logits.dtype, logits.shape[-1]
        self.real, self.zero = type_of(self.dtype), literal(0, self.dtype)
        self._x = _rows_of(code, logits, targets.shape)
        self.loss = None if name == "cross_entropy_back" else code.ref(instruction.outputs[0])
        self.gradient = None
        if name != "cross_entropy":
            self.gradient = _rows_of(code, instruction.outputs[-1], targets.shape)

    def row(self, r: list[object]) -> None:
        """Append what is done for a position r, whose target is j0."""
        code, x, made = self._code, self._x, self.gradient
        code.line(f"if (j0 < 0 || j0 >= {self.V}) return 1;")
        if self.loss is not None:
            code.line(f"const {self.real} p1 = {x.at(*r, 'j0')};")
        code.line(f"{self.real} p0 = {x.at(*r, 0)};")
        with code.loop("k0", self.V):
            code.line(f"p0 = {code.use('maximum', self.dtype)}(p0, {x.at(*r, 'k0')});")
        exp = f"{code.use('exp', self.dtype)}({x.at(*r, 'k0')} - p0)"
        if made is not None:
            with code.loop("k0", self.V):
                code.line(f"{made.at(*r, 'k0')} = {exp};")
            exp = made.at(*r, "k0")
        code.sum_of("k0", self.V, exp, self.dtype)
        if made is not None:
            with code.loop("i0", self.V):
                code.line(f"{made.at(*r, 'i0')} *= w0 / s0;")
            code.line(f"{made.at(*r, 'j0')} -= w0;")
        if self.loss is not None:
            code.line(f"s2 += {code.use('log', self.dtype)}(s0) - (p1 - p0);")


def _rows_of(code: Code, slot: Slot, shape: Shape) -> Ref:
    """Return the rows of an array, along the axes of the targets."""
    if slot.shape[:-1] == shape:
        return code.ref(slot)
    assert len(slot.shape) == 2
    assert slot.shape[0] == math.prod(shape)
    steps, step = [], slot.strides[0]
    for length in reversed(shape):
        steps.append(step)
        step *= length
    return code.ref(slot, [*reversed(steps), slot.strides[-1]])


def _number(code: Code, part: object, dtype: DType) -> str:
    if isinstance(part, Slot):
        return code.ref(part).at(*(0 for _ in part.shape))
    return literal(part, dtype)
