"""Sums, means, extremes, scans and softmax."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import cast

from ...compiler.ir.arrays import DType, Shape
from ...compiler.plans.instructions import Slot
from ...errors import UnsupportedError
from ..checks import setting
from .code import Code
from .literals import is_real, literal, type_of
from .places import Ref
from .schedule import Kernel


class _Split:
    """An array and what is left of it, each with its axes as the reduction needs them: those kept, then the others."""

    def __init__(self, code: Code, kernel: Kernel) -> None:
        instruction = kernel.instruction
        x, self.out = instruction.inputs[0], instruction.outputs[0]
        if not isinstance(x, Slot):
            raise UnsupportedError(f"export: C has no {instruction.operator.name} of a number; write it out")
        axes, n = instruction.attrs["axis"], len(x.shape)
        summed = range(n) if axis_is_all(axes) else [axis % n for axis in ((axes,) if isinstance(axes, int) else axes)]
        self.over = [axis for axis in range(n) if axis in summed and x.shape[axis] != 1]
        kept = [axis for axis in range(n) if axis not in summed]
        same = len(self.out.shape) == n
        steps = [self.out.strides[axis if same else number] for number, axis in enumerate(kept)]
        self.count = math.prod(x.shape[axis] for axis in summed)
        self.empty = 0 in x.shape
        long = [number for number, axis in enumerate(kept) if x.shape[axis] != 1]
        kept, steps = [kept[number] for number in long], [steps[number] for number in long]
        self.rows_first = bool(kept and self.over) and kept[-1] > self.over[-1]
        self.kept_lengths, self.over_lengths = _pick(x.shape, kept), _pick(x.shape, self.over)
        self.x = code.ref(x, [*_pick(x.strides, kept), *_pick(x.strides, self.over)])
        self.made = code.ref(self.out, steps)
        if len(self.over) == 2 and x.strides[self.over[0]] == x.strides[self.over[1]] * x.shape[self.over[1]]:
            first, second = self.over
            self.over_lengths = (x.shape[first] * x.shape[second],)
            self.x = code.ref(x, [*_pick(x.strides, kept), x.strides[second]])


def axis_is_all(axes: object) -> bool:
    """Return whether an attribute `axis` means all axes."""
    return axes is None


def _pick(values: Sequence[int], axes: Sequence[int]) -> Shape:
    return tuple(values[axis] for axis in axes)


def reduce_sum(code: Code, kernel: Kernel) -> None:
    """Append a sum or a mean."""
    x = _Split(code, kernel)
    dtype, factor = x.out.dtype, ""
    if kernel.instruction.operator.name == "mean":
        factor = f" * {literal(1 / x.count if x.count else math.nan, dtype)}"
    if x.empty:
        with code.loops(x.kept_lengths, "i") as kept:
            code.line(f"{x.made.at(*kept)} = {literal(0, dtype)}{factor};")
        return
    if x.rows_first:
        _rows(code, x, lambda total, term: f"{total} + {term}", literal(0, dtype))
        if factor:
            with code.loops(x.kept_lengths, "i") as kept:
                code.line(f"{x.made.at(*kept)} *={factor.removeprefix(' *')};")
        return
    with code.scope(x.kept_lengths, "i") as kept:
        if len(x.over_lengths) == 1:
            code.sum_of("k0", x.over_lengths[0], _term(x, [*kept, "k0"]), dtype)
        else:
            code.line(f"{type_of(dtype)} s0 = {literal(0, dtype)};")
            with code.loops(x.over_lengths, "k") as over:
                code.line(f"s0 += {_term(x, [*kept, *over])};")
        code.line(f"{x.made.at(*kept)} = s0{factor};")


def _term(x: _Split, index: Sequence[object]) -> str:
    text = x.x.at(*index)
    return text if x.x.dtype == x.out.dtype else f"({type_of(x.out.dtype)}){text}"


def _rows(code: Code, x: _Split, join: Callable[[str, str], str], start: str) -> None:
    """Append a reduction over rows: each is joined to the result in turn."""
    with code.loops(x.kept_lengths, "i") as kept:
        code.line(f"{x.made.at(*kept)} = {start or x.x.at(*kept, *(0 for _ in x.over_lengths))};")
    with code.loops(x.over_lengths, "k") as over, code.loops(x.kept_lengths, "i") as kept:
        made = x.made.at(*kept)
        code.line(f"{made} = {join(made, _term(x, [*kept, *over]))};")


def reduce_other(code: Code, kernel: Kernel) -> None:
    """Append a maximum, a minimum or a product."""
    x, name = _Split(code, kernel), kernel.instruction.operator.name
    dtype = x.out.dtype
    if x.empty and name != "prod":
        raise UnsupportedError(f"export: C has no {name} of an array without elements")

    def join(total: str, term: str) -> str:
        if name == "prod":
            return f"{total} * {term}"
        if is_real(dtype):
            return f"{code.use('maximum' if name == 'max' else 'minimum', dtype)}({total}, {term})"
        return f"{total} {'>' if name == 'max' else '<'} {term} ? {total} : {term}"

    start = literal(1, dtype) if name == "prod" else ""
    if x.rows_first:
        _rows(code, x, join, start)
        return
    with code.scope(x.kept_lengths, "i") as kept:
        first = start or _term(x, [*kept, *(0 for _ in x.over_lengths)])
        code.line(f"{type_of(dtype)} s0 = {first};")
        with code.loops(x.over_lengths, "k") as over:
            code.line(f"s0 = {join('s0', _term(x, [*kept, *over]))};")
        code.line(f"{x.made.at(*kept)} = s0;")


def position(code: Code, kernel: Kernel) -> None:
    """Append the position of the first largest or smallest element, along an axis or in all of an array."""
    instruction = kernel.instruction
    x, out, axis = instruction.inputs[0], instruction.outputs[0], setting(instruction, 1, "axis")
    if not isinstance(x, Slot) or 0 in x.shape:
        raise UnsupportedError(f"export: C has no {instruction.operator.name} of an array without elements")
    n = len(x.shape)
    over = list(range(n)) if axis_is_all(axis) else [cast(int, axis) % n]
    kept = [a for a in range(n) if a not in over]
    same = len(out.shape) == n
    given = code.ref(x, [x.strides[a] for a in (*kept, *over)])
    made = code.ref(out, [out.strides[a if same else number] for number, a in enumerate(kept)])
    sign = ">" if instruction.operator.name == "argmax" else "<"
    lengths = _pick(x.shape, over)
    with code.scope(_pick(x.shape, kept), "i") as index:
        code.line(f"{type_of(x.dtype)} p0 = {given.at(*index, *(0 for _ in over))};")
        code.line("long n0 = 0, n1 = 0;")
        with code.loops(lengths, "k") as inner:
            value = given.at(*index, *inner)
            is_nan = f" || ({value} != {value} && p0 == p0)" if is_real(x.dtype) else ""
            code.line(f"if ({value} {sign} p0{is_nan}) {{ p0 = {value}; n0 = n1; }}")
            code.line("n1++;")
        code.line(f"{made.at(*index)} = ({type_of(out.dtype)})n0;")


def log_sum_exp(code: Code, kernel: Kernel) -> None:
    """Append log(sum(exp(x)))."""
    x = _Split(code, kernel)
    with code.scope(x.kept_lengths, "i") as kept:
        _shifted(code, x.x, kept, x.over_lengths, x.out.dtype)
        code.line(f"{x.made.at(*kept)} = p0 + {code.use('log', x.out.dtype)}(s0);")


def _shifted(code: Code, x: Ref, kept: Sequence[object], over_lengths: Shape, dtype: DType) -> None:
    """Append the largest entry, p0, and the sum of exp(x - p0), s0, of a real dtype; x may be whole numbers."""
    real, exp = type_of(dtype), code.use("exp", dtype)
    largest = code.use("maximum", dtype)
    code.line(f"{real} p0 = {x.at(*kept, *(0 for _ in over_lengths))};")
    with code.loops(over_lengths, "k") as over:
        code.line(f"p0 = {largest}(p0, {x.at(*kept, *over)});")
    zero, end = literal(0, dtype), literal(math.inf, dtype)
    code.line(f"if (p0 == {end} || p0 == -{end}) p0 = {zero};")
    code.line(f"{real} s0 = {zero};")
    with code.loops(over_lengths, "k") as over:
        code.line(f"s0 += {exp}({x.at(*kept, *over)} - p0);")


def log_softmax(code: Code, kernel: Kernel) -> None:
    """Append x - logsumexp(x)."""
    x, out = kernel.instruction.inputs[0], kernel.instruction.outputs[0]
    axis, n = kernel.instruction.attrs["axis"], len(out.shape)
    over = range(n) if axis_is_all(axis) else [a % n for a in ((axis,) if isinstance(axis, int) else axis)]
    kept = [a for a in range(n) if a not in over]
    given, made = (code.ref(part, [part.strides[a] for a in (*kept, *over)]) for part in (x, out))
    lengths = _pick(out.shape, list(over))
    with code.scope(_pick(out.shape, kept), "i") as index:
        _shifted(code, given, index, lengths, out.dtype)
        code.line(f"p0 += {code.use('log', out.dtype)}(s0);")
        with code.loops(lengths, "k") as inner:
            code.line(f"{made.at(*index, *inner)} = {given.at(*index, *inner)} - p0;")


def scan(code: Code, kernel: Kernel) -> None:
    """Append a cumulative sum or product."""
    x, out = kernel.instruction.inputs[0], kernel.instruction.outputs[0]
    n = len(out.shape)
    axis = kernel.instruction.attrs["axis"] % n
    kept = [a for a in range(n) if a != axis]
    given, made = (code.ref(part, [part.strides[a] for a in (*kept, axis)]) for part in (x, out))
    is_sum = kernel.instruction.operator.name == "cumsum"
    with code.scope(_pick(out.shape, kept), "i") as index:
        code.line(f"{type_of(out.dtype)} s0 = {literal(0 if is_sum else 1, out.dtype)};")
        with code.loop("k0", out.shape[axis]):
            code.line(f"s0 {'+' if is_sum else '*'}= {given.at(*index, 'k0')};")
            code.line(f"{made.at(*index, 'k0')} = s0;")


def recurrence(code: Code, kernel: Kernel) -> None:
    """Append h[t] = a[t] * h[t - 1] + b[t] along the first axis."""
    a, b = kernel.instruction.inputs
    out = kernel.instruction.outputs[0]
    n = len(out.shape)
    lengths = out.shape[1:]
    refs = [
        code.ref(part, [0] * (n - len(part.shape)) + [0 if m == 1 < full else s for m, s, full in _aligned(part, out)])
        for part in (a, b)
    ]
    made = code.ref(out)
    with code.loop("k0", out.shape[0]), code.loops(lengths, "i") as index:
        before = f"k0 > 0 ? {refs[0].at('k0', *index)} * {made.at('(k0 - 1)', *index)} : {literal(0, out.dtype)}"
        code.line(f"{made.at('k0', *index)} = ({before}) + {refs[1].at('k0', *index)};")


def _aligned(part: Slot, out: Slot) -> list[tuple[int, int, int]]:
    return list(zip(part.shape, part.strides, out.shape[len(out.shape) - len(part.shape) :], strict=True))
