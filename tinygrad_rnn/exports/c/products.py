"""Matrix products, arranged so that a compiler turns them into vector instructions without leave to reorder sums.

where the rows of the matrix lie in one piece, four of them at a time are scaled and added to the result. Where its
columns do (a transposed matrix), each entry of the result is a sum in lanes.
"""

from __future__ import annotations

from collections.abc import Callable

from ...compiler.ir.arrays import Shape
from ...compiler.plans.instructions import Slot
from ...errors import UnsupportedError
from .code import Code
from .literals import literal, type_of
from .places import Ref
from .schedule import Kernel

_ROWS = 4  # of the matrix at a time
_NEAR = 1 << 15  # bytes of a matrix that stays in the nearest cache, so that it may be read for each row of a


def matmul(code: Code, kernel: Kernel) -> None:
    """Append a @ b, of stacks of matrices or vectors as NumPy has it."""
    a, b, out = kernel.instruction.inputs[0], kernel.instruction.inputs[1], kernel.instruction.outputs[0]
    if not (isinstance(a, Slot) and isinstance(b, Slot)):
        raise UnsupportedError("export: C has no product of a matrix and a number; multiply with *")
    K = a.shape[-1]
    is_row, is_column = len(a.shape) == 1, len(b.shape) == 1
    left, right = _with_axes(a, is_row, False), _with_axes(b, False, is_column)
    made = _with_axes(out, is_row, is_column)
    batch = made.shape[:-2]

    def stack(slot: Slot) -> Ref:
        return code.ref(slot, [*_batch_steps(slot, len(batch)), *slot.strides[-2:]])

    with code.loops(batch, "b") as index:
        _product(
            code,
            made.shape[-2],
            made.shape[-1],
            K,
            _Operands(code, stack(made), stack(left), stack(right), right, tuple(index)),
        )


class _Operands:
    """The operands of one product of two matrices, as text."""

    def __init__(self, code: Code, out: Ref, a: Ref, b: Ref, matrix: Slot, index: tuple[object, ...]) -> None:
        self._out, self._a, self._b, self._index, self.dtype = out, a, b, index, out.dtype
        self.type = type_of(out.dtype)
        self.by_columns = abs(b.steps[-1]) != 1 and abs(b.steps[-2]) == 1
        self._int8 = matrix.buffer in code.quantized
        self._scale: Callable[[object], str] | None = None
        if self._int8:
            assert matrix.buffer.constant is not None
            C = matrix.buffer.constant.shape[1]
            axis, base, start = code.quantized[matrix.buffer]
            first = matrix.offset // matrix.dtype.itemsize
            self._scale = Ref(base, out.dtype, start + (first % C if axis else first // C), (1,)).at

    def out(self, m: object, n: object) -> str:
        return self._out.at(*self._index, m, n)

    def a(self, m: object, k: object) -> str:
        return self._in_type(self._a, m, k)

    def b(self, k: object, n: object) -> str:
        return self._in_type(self._b, k, n)

    def _in_type(self, operand: Ref, row: object, column: object) -> str:
        text = operand.at(*self._index, row, column)
        is_small = operand is self._b and self._int8
        return f"({self.type}){text}" if is_small or operand.dtype != self.dtype else text

    def scaled(self, n: object) -> str:
        """Return the factor of column n, with a sign before it; nothing if there is none."""
        return f" * {self._scale(n)}" if self._scale else ""

    @property
    def is_scaled(self) -> bool:
        return self._scale is not None


def _product(code: Code, M: int, N: int, K: int, x: _Operands) -> None:
    if K == 0:
        with code.loops((M, N), "i") as index:
            code.line(f"{x.out(*index)} = {literal(0, x.dtype)};")
    elif (x.by_columns or N == 1) and K >= _ROWS:
        with code.loops((M,), "m") as (m,), code.loop("i0", N):
            code.sum_of("k0", K, f"{x.a(m, 'k0')} * {x.b('k0', 'i0')}", x.dtype)
            code.line(f"{x.out(m, 'i0')} = s0{x.scaled('i0')};")
    elif K * N * x.dtype.itemsize > _NEAR:  # the matrix is read once for all rows of a
        _by_rows(code, (M,), (), N, K, x)
    else:
        with code.loops((M,), "m") as (m,):
            _by_rows(code, (), (m,), N, K, x)


def _by_rows(code: Code, inner: Shape, outer: tuple[object, ...], N: int, K: int, x: _Operands) -> None:
    """Append a product by rows of the matrix; the row of a and of the result is `outer`, or runs within: `inner`."""
    first = K % _ROWS or _ROWS
    with code.scope(inner, "m") as m:
        _some_rows(code, N, x, (*outer, *m)[0], list(range(first)), "=", x.is_scaled and first == K)
    if first == K:
        return
    with code.loop("k0", K, first, _ROWS), code.loops(inner, "m") as m:
        rows: list[object] = [f"k0 + {row}" if row else "k0" for row in range(_ROWS)]
        _some_rows(code, N, x, (*outer, *m)[0], rows, "+=", False)
    if x.is_scaled:
        with code.loops((*inner, N), "i") as index:
            code.line(f"{x.out(*outer, *index)} *= {x.scaled(index[-1]).removeprefix(' * ')};")


def _some_rows(code: Code, N: int, x: _Operands, m: object, rows: list[object], sign: str, scale: bool) -> None:
    """Append the sum of some rows of the matrix, each times an entry of a, to a row of the result."""
    for number, k in enumerate(rows):
        code.line(f"const {x.type} a{number} = {x.a(m, _in_brackets(k))};")
    with code.loop("i0", N):
        terms = " + ".join(f"a{number} * {x.b(_in_brackets(k), 'i0')}" for number, k in enumerate(rows))
        value = f"({terms}){x.scaled('i0')}" if scale else terms
        code.line(f"{x.out(m, 'i0')} {sign} {value};")


def _in_brackets(index: object) -> object:
    return f"({index})" if isinstance(index, str) and " " in index else index


def _with_axes(slot: Slot, row: bool, column: bool) -> Slot:
    """Return a slot with an axis of length one in the place of its rows, of its columns, or both."""
    shape, strides = [*slot.shape], [*slot.strides]
    for is_missing, place in ((column, len(shape)), (row, len(shape) - (not column))):
        if is_missing:
            shape.insert(place, 1)
            strides.insert(place, 0)
    return Slot(slot.buffer, slot.offset, tuple(shape), tuple(strides), slot.dtype, slot.turn)


def _batch_steps(slot: Slot, ndim: int) -> list[int]:
    """Return the steps along the axes of a stack of matrices, broadcast."""
    found = [0 if length == 1 else stride for length, stride in zip(slot.shape[:-2], slot.strides[:-2], strict=True)]
    return [0] * (ndim - len(found)) + found
