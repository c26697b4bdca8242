"""Matrix products, arranged so that a compiler turns them into vector instructions without leave to reorder sums.

Where the rows of the matrix lie in one piece, four of them at a time are scaled and added to up to four rows of the
result: each number that is read serves four times. Where its columns do (a transposed matrix), each entry of the result
is a sum in lanes. A matrix in 8 bits is multiplied with rows in 16 bits, in whole numbers: their sums need no order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ...compiler.plans.instructions import Slot
from ...errors import UnsupportedError
from .code import Code
from .literals import literal, type_of
from .places import Ref
from .quantize import largest_whole
from .schedule import Kernel

_ROWS = 4  # of the matrix, and of a, at a time
_TILE = 128  # columns at a time: four rows of both, and those of the result, stay in the nearest cache
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
        self._scales: Ref | None = None
        if matrix.buffer in code.quantized:
            self._b, self._scales = code.quantized[matrix.buffer].columns(matrix)

    def out(self, m: object, n: object) -> str:
        return self._out.at(*self._index, m, n)

    def a(self, m: object, k: object) -> str:
        return self._in_type(self._a, m, k)

    def b(self, k: object, n: object) -> str:
        return self._in_type(self._b, k, n)

    def _in_type(self, operand: Ref, row: object, column: object) -> str:
        text = operand.at(*self._index, row, column)
        return f"({self.type}){text}" if operand.dtype != self.dtype else text

    def row(self, m: object) -> str:
        """Return the address of a row of a, and the step between its elements."""
        return f"&{self._a.at(*self._index, m, 0)}, {self._a.steps[-1]}"

    @property
    def small(self) -> Callable[[object, object], str] | None:
        """Elements of the matrix in 8 bits; None if it is not."""
        return self._b.at if self._scales is not None else None

    def scale(self, n: object) -> str:
        """Return the scale of column n of a matrix in 8 bits."""
        assert self._scales is not None
        return self._scales.at(n)


def _product(code: Code, M: int, N: int, K: int, x: _Operands) -> None:
    if K == 0:
        with code.loops((M, N), "i") as index:
            code.line(f"{x.out(*index)} = {literal(0, x.dtype)};")
    elif x.small is not None:
        for rows in _blocks(code, M):
            _in_whole_numbers(code, rows, N, K, x)
    elif (x.by_columns or N == 1) and K >= _ROWS:
        with code.loops((M,), "m") as (m,), code.loop("i0", N):
            code.sum_of("k0", K, f"{x.a(m, 'k0')} * {x.b('k0', 'i0')}", x.dtype)
            code.line(f"{x.out(m, 'i0')} = s0;")
    elif K * N * x.dtype.itemsize <= _NEAR:
        for rows in _blocks(code, M):
            _by_rows(code, [rows].__iter__, 0, N, K, x)
    elif M == 1 or N <= _TILE:  # the matrix is read once for all rows of a
        _by_rows(code, lambda: _blocks(code, M), 0, N, K, x)
    else:
        with code.loop("n0", N, step=_TILE):
            code.line(f"const long n1 = n0 + {_TILE} < {N} ? n0 + {_TILE} : {N};")
            _by_rows(code, lambda: _blocks(code, M), "n0", "n1", K, x)


def _blocks(code: Code, M: int) -> Iterator[list[object]]:
    """Yield rows of a, up to four at a time, within a loop over those blocks that are full."""
    whole = M - M % _ROWS if M > _ROWS else 0
    if whole:
        with code.loop("m0", whole, step=_ROWS):
            yield ["m0", *(f"(m0 + {row})" for row in range(1, _ROWS))]
    if whole < M:
        yield list(range(whole, M))


def _by_rows(
    code: Code, blocks: Callable[[], Iterator[list[object]]], start: object, end: object, K: int, x: _Operands
) -> None:
    """Append a product by rows of the matrix, from one column to another."""
    first = K % _ROWS or _ROWS
    for rows in blocks():
        with code.block(""):
            _some_rows(code, rows, list(range(first)), True, (start, end), x)
    if first < K:
        with code.loop("k0", K, first, _ROWS):
            for rows in blocks():
                with code.block(""):
                    ks: list[object] = ["k0", *(f"(k0 + {row})" for row in range(1, _ROWS))]
                    _some_rows(code, rows, ks, False, (start, end), x)


def _some_rows(
    code: Code, rows: list[object], ks: list[object], is_first: bool, columns: tuple[object, object], x: _Operands
) -> None:
    """Append the sum of some rows of the matrix, each times an entry of a, to some rows of the result."""
    for r, m in enumerate(rows):
        parts = ", ".join(f"a{r}{number} = {x.a(m, k)}" for number, k in enumerate(ks))
        code.line(f"const {x.type} {parts};")
    with code.loop("i0", columns[1], columns[0]):
        parts = ", ".join(f"w{number} = {x.b(k, 'i0')}" for number, k in enumerate(ks))
        code.line(f"const {x.type} {parts};")
        for r, m in enumerate(rows):
            before = [] if is_first else [x.out(m, "i0")]
            terms = " + ".join([*before, *(f"a{r}{number} * w{number}" for number in range(len(ks)))])
            code.line(f"{x.out(m, 'i0')} = {terms};")


def _in_whole_numbers(code: Code, rows: list[object], N: int, K: int, x: _Operands) -> None:
    """Append the product of some rows of a, in 16 bits, with a matrix in 8 bits."""
    assert x.small is not None
    most = literal(largest_whole(K), x.dtype)
    with code.block(""):
        whole = [code.places.whole(r * K, K) for r in range(len(rows))]
        for r, (m, to) in enumerate(zip(rows, whole, strict=True)):
            code.line(f"const {x.type} u{r} = {code.use('whole', x.dtype)}({x.row(m)}, {K}, {most}, &{to.at(0)});")
        with code.loop("i0", N):
            code.line(f"int32_t {', '.join(f's{r} = 0' for r in range(len(rows)))};")
            with code.loop("k0", K):
                code.line(f"const int32_t w0 = {x.small('k0', 'i0')};")
                for r, to in enumerate(whole):
                    code.line(f"s{r} += {to.at('k0')} * w0;")
            for r, m in enumerate(rows):
                code.line(f"{x.out(m, 'i0')} = ({x.type})s{r} * (u{r} * {x.scale('i0')});")


def _with_axes(slot: Slot, row: bool, column: bool) -> Slot:
    """Return a slot with an axis of length one in the place of its rows, of its columns, or both."""
    shape, strides = [*slot.shape], [*slot.strides]
    for is_missing, place in ((column, len(shape)), (row, len(shape) - (not column))):
        if is_missing:
            shape.insert(place, 1)
            strides.insert(place, 0)
    return Slot(slot.buffer, slot.offset, tuple(shape), tuple(strides), slot.dtype, slot.step_stride)


def _batch_steps(slot: Slot, ndim: int) -> list[int]:
    """Return the steps along the axes of a stack of matrices, broadcast."""
    found = [0 if length == 1 else stride for length, stride in zip(slot.shape[:-2], slot.strides[:-2], strict=True)]
    return [0] * (ndim - len(found)) + found
