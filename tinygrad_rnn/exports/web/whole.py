"""Whole numbers and truth values as floating-point numbers, the only ones that the C library computes with.

A whole number is computed as a float64, exact up to 2^53, and becomes an int64 again, as ids and results are. A truth
value that is computed with counts as 0 or 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ... import ops
from ...compiler.ir.arrays import DType
from ...compiler.ir.editing import in_bodies
from ...compiler.ir.graph import Call, Graph, Operator, Rewriter, Value
from ...compiler.ir.operators import ADD, CONTIGUOUS, MULTIPLY, operator_of
from ...compiler.ir.table import TRUTH
from ...compiler.native.numbers import NATIVE
from ...compiler.passes.common import Operands, rewrite
from ..checks import full_name

ASTYPE, WHERE = operator_of(ops.elementwise.astype), operator_of(ops.where)
EQUAL, NOT_EQUAL, GREATER, LESS = (
    Operator(name, getattr(np, name), True) for name in ("equal", "not_equal", "greater", "less")
)
_REDUCED = frozenset(["sum", "mean", "max", "min", "prod", "cumsum", "cumprod", "logsumexp", "log_softmax"])
_COMPUTED = (NATIVE - {"copy"}) | _REDUCED | {"stack", "concatenate"}
_POSITIONS = frozenset(["numpy.argmax", "numpy.argmin"])
_LOGICAL = frozenset(["logical_and", "logical_or", "logical_not"])
_DIVISIONS = frozenset(["floor_divide", "remainder"])
_SINGLE, _DOUBLE, _WHOLE, _TRUTH = map(np.dtype, (np.float32, np.float64, np.int64, np.bool_))


def with_real_numbers(graph: Graph) -> Graph:
    """Return a graph in which whole numbers and truth values are computed as real numbers."""
    return in_bodies(lambda part: rewrite(part, _Rule()), graph)


class _Rule:
    """Replaces the calls of one graph.

    `real` holds the real numbers that whole ones were made of, so that what follows reads them without a way back.
    """

    def __init__(self) -> None:
        self.real: dict[Value, Value] = {}

    def __call__(self, call: Call, inputs: Operands, new: Rewriter) -> Sequence[Value] | None:
        if len(call.outputs) != 1 or not all(_is_known(value) for value in (call.output, *_values(inputs))):
            return None
        name = full_name(call.operator.compute)
        if name in _POSITIONS and inputs[0].dtype.kind != "f":
            inputs = [self.number(new, inputs[0]), *inputs[1:]]
            return [new.call(call.operator, inputs, call.attrs, [call.output.spec]).output]
        if call.operator.key != call.name:
            return None
        if call.name == "astype":
            return self._converted(call, inputs[0], new)
        if call.name in _LOGICAL:
            return [self._logical(call.name, new, inputs)]
        if call.name in ("isnan", "isfinite"):
            return self._tested(call, inputs[0], new)
        return self._computed(call, inputs, new) if call.name in _COMPUTED else None

    def number(self, new: Rewriter, part: object, dtype: DType = _DOUBLE) -> object:
        """Return an operand as real numbers of a dtype."""
        if isinstance(part, bool | np.bool_):
            return float(part)
        if not isinstance(part, Value) or part.dtype == dtype:
            return part
        part = self.real.get(part, part)
        if part.dtype == dtype:
            return part
        if part.dtype == _TRUTH:
            one = Value((), dtype, constant=np.ones((), dtype))  # of this dtype, as the result is then
            return new.call(WHERE, [part, one, 0.0]).output
        if part.dtype == _WHOLE:  # which may be a view: the library converts what lies in one piece
            part = new.call(CONTIGUOUS, [part]).output
        return new.call(ASTYPE, [part], {"dtype": dtype}).output

    def truth(self, new: Rewriter, part: object) -> Value:
        """Return an operand as truth values."""
        if isinstance(part, Value) and part.dtype == _TRUTH:
            return part
        if not isinstance(part, Value):
            return Value((), _TRUTH, constant=np.array(bool(part)))
        return new.call(NOT_EQUAL, [self.number(new, part), 0.0]).output

    def _given(self, new: Rewriter, real: Value, dtype: DType) -> Value:
        """Return what was computed as real numbers in the dtype that it has in NumPy."""
        if dtype == _TRUTH:
            return self.truth(new, real)
        if dtype != _WHOLE:
            return real
        whole = new.call(ASTYPE, [real], {"dtype": _WHOLE}).output
        self.real[whole] = real
        return whole

    def _computed(self, call: Call, inputs: Operands, new: Rewriter) -> list[Value] | None:
        out, first = call.output, int(call.name == "where")
        parts = inputs[first:]
        working = out.dtype if out.dtype.kind == "f" else _common(parts)
        tests = call.name in TRUTH
        known = not first or (isinstance(inputs[0], Value) and inputs[0].dtype == _TRUTH)
        if known and {value.dtype for value in _values(parts)} <= {working} and (tests or out.dtype == working):
            return None
        numbers = [self.number(new, part, working) for part in parts]
        if first:
            numbers.insert(0, self.truth(new, inputs[0]))
        spec = (out.shape, _TRUTH if tests else working)
        made = new.call(call.operator, numbers, call.attrs, [spec]).output
        if call.name in _DIVISIONS and out.dtype.kind != "f" and isinstance(numbers[1], Value):
            none = new.call(EQUAL, [numbers[1], 0.0]).output  # NumPy's whole numbers by 0 are 0
            made = new.call(WHERE, [none, 0.0, made], specs=[made.spec]).output
        return [self._given(new, made, out.dtype)]

    def _converted(self, call: Call, x: Value, new: Rewriter) -> list[Value] | None:
        to = call.output.dtype
        if x.dtype.kind == to.kind == "f":
            return None
        if to == _TRUTH:
            return [self.truth(new, x)]
        real = self.number(new, x, to if to.kind == "f" else _DOUBLE)
        assert isinstance(real, Value)
        return [real if to.kind == "f" else self._given(new, real, to)]

    def _tested(self, call: Call, x: Value, new: Rewriter) -> list[Value]:
        real = self.number(new, x)
        if call.name == "isnan":
            return [new.call(NOT_EQUAL, [real, real]).output]
        return [new.call(EQUAL, [new.call(MULTIPLY, [real, 0.0]).output, 0.0]).output]

    def _logical(self, name: str, new: Rewriter, inputs: Operands) -> Value:
        """Return whether all, one or none are true, from their product, sum or value as numbers 0 and 1."""
        numbers = [self.number(new, self.truth(new, part), _SINGLE) for part in inputs]
        if name == "logical_not":
            return new.call(EQUAL, [*numbers, 0.0]).output
        joined = new.call(MULTIPLY if name == "logical_and" else ADD, numbers).output
        return new.call(GREATER, [joined, 0.0]).output


def _values(parts: Sequence[object]) -> list[Value]:
    return [part for part in parts if isinstance(part, Value)]


def _is_known(value: Value) -> bool:
    return value.dtype in (_SINGLE, _DOUBLE, _WHOLE, _TRUTH)


def _common(parts: Sequence[object]) -> DType:
    """Return the dtype in which whole numbers, truth values and real numbers are computed together."""
    dtypes = {value.dtype for value in _values(parts)}
    return _SINGLE if dtypes <= {_SINGLE, _TRUTH} else _DOUBLE
