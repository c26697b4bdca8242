"""Elementwise operations as nodes."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ...compiler.ir.arrays import DType
from ...compiler.ir.graph import Call, Value
from ...compiler.ir.table import TRUTH
from .scope import Scope, Writer

_FLOAT = np.dtype(np.float64)

PLAIN = {
    "add": "Add",
    "subtract": "Sub",
    "multiply": "Mul",
    "divide": "Div",
    "power": "Pow",
    "maximum": "Max",
    "minimum": "Min",
    "negative": "Neg",
    "sqrt": "Sqrt",
    "exp": "Exp",
    "log": "Log",
    "tanh": "Tanh",
    "sigmoid": "Sigmoid",
    "relu": "Relu",
    "softplus": "Softplus",
    "floor": "Floor",
    "ceil": "Ceil",
    "rint": "Round",
    "sign": "Sign",
    "sin": "Sin",
    "cos": "Cos",
    "tan": "Tan",
    "arcsin": "Asin",
    "arccos": "Acos",
    "arctan": "Atan",
    "sinh": "Sinh",
    "cosh": "Cosh",
    "arcsinh": "Asinh",
    "arccosh": "Acosh",
    "arctanh": "Atanh",
    "less": "Less",
    "less_equal": "LessOrEqual",
    "greater": "Greater",
    "greater_equal": "GreaterOrEqual",
    "equal": "Equal",
    "logical_and": "And",
    "logical_or": "Or",
    "logical_xor": "Xor",
    "logical_not": "Not",
    "isnan": "IsNaN",
    "isinf": "IsInf",
}
"""Operators that are one node, by name."""

_LOGICAL = frozenset(["logical_and", "logical_or", "logical_xor", "logical_not"])


def common(call: Call, parts: tuple[object, ...]) -> DType:
    """Return the dtype in which operands meet: numbers take that of the arrays, which are promoted."""
    if call.name in _LOGICAL:
        return np.dtype(bool)
    dtypes = {part.dtype for part in parts if isinstance(part, Value)}
    if call.name in TRUTH or call.output.dtype == bool:
        return np.result_type(*dtypes) if dtypes else _FLOAT
    return call.output.dtype


def _operands(to: Scope, call: Call) -> list[str]:
    parts = to.book.sized.inputs(call)
    dtype = common(call, parts)
    return [to.operand(part, dtype) for part in parts]


def _plain(kind: str) -> Writer:
    def write(to: Scope, call: Call) -> list[str]:
        if call.output.dtype == _FLOAT and call.name in WIDE:
            return [WIDE[call.name](to, _FLOAT, *_operands(to, call))]
        return [to.node(kind, *_operands(to, call))]

    return write


def _composed(make: Callable[..., str]) -> Writer:
    """Return the writer of an operation that takes several nodes: `make(scope, dtype, *operands)`."""

    def write(to: Scope, call: Call) -> list[str]:
        return [make(to, call.output.dtype, *_operands(to, call))]

    return write


def _not_equal(to: Scope, dtype: DType, a: str, b: str) -> str:
    return to.node("Not", to.node("Equal", a, b))


def _isfinite(to: Scope, dtype: DType, x: str) -> str:
    return to.node("Not", to.node("Or", to.node("IsInf", x), to.node("IsNaN", x)))


def _trunc(to: Scope, dtype: DType, x: str) -> str:
    return to.node("Mul", to.node("Sign", x), to.node("Floor", to.node("Abs", x)))


def _log1p(to: Scope, dtype: DType, x: str) -> str:
    """Write log(1 + x) to full precision: with u = 1 + x rounded it is log(u) * x / (u - 1). Source: Kahan."""
    one = to.constant(1, dtype)
    u = to.node("Add", x, one)
    log = to.node("Log", u)
    ratio = to.node("Mul", log, to.node("Div", x, to.node("Sub", u, one)))
    large = to.node("Where", to.node("Equal", u, x), log, ratio)  # infinity is one of those
    return to.node("Where", to.node("Equal", u, one), x, large)


def _expm1(to: Scope, dtype: DType, x: str) -> str:
    """Write exp(x) - 1 to full precision: with u = exp(x) rounded it is (u - 1) * x / log(u). Source: Kahan."""
    one = to.constant(1, dtype)
    u = to.node("Exp", x)
    less = to.node("Sub", u, one)
    ratio = to.node("Mul", less, to.node("Div", x, to.node("Log", u)))
    ends = to.node("Or", to.node("Greater", to.node("Abs", x), one), to.node("IsNaN", ratio))
    return to.node("Where", to.node("Equal", u, one), x, to.node("Where", ends, less, ratio))


def _scaled_log(base: float) -> Callable[..., str]:
    return lambda to, dtype, x: to.node("Mul", to.node("Log", x), to.constant(1 / math.log(base), dtype))


def _exp2(to: Scope, dtype: DType, x: str) -> str:
    return to.node("Pow", to.constant(2, dtype), x)


def _cbrt(to: Scope, dtype: DType, x: str) -> str:
    root = to.node("Pow", to.node("Abs", x), to.constant(1 / 3, dtype))
    return to.node("Mul", to.node("Sign", x), root)


def _hypot(to: Scope, dtype: DType, a: str, b: str) -> str:
    """Write m * sqrt(1 + (n / m)^2) with m and n the larger and the smaller magnitude: m^2 may be no number."""
    one, magnitudes = to.constant(1, dtype), [to.node("Abs", a), to.node("Abs", b)]
    m, n = to.node("Max", *magnitudes), to.node("Min", *magnitudes)
    ratio = to.node("Where", to.node("Equal", m, n), one, to.node("Div", n, m))
    return to.node("Mul", m, to.node("Sqrt", to.node("Add", one, to.node("Mul", ratio, ratio))))


def _logaddexp(to: Scope, dtype: DType, a: str, b: str) -> str:
    apart = to.node("Neg", to.node("Abs", to.node("Sub", a, b)))
    apart = to.node("Where", to.node("Equal", a, b), to.constant(0, dtype), apart)  # of two infinities too
    return to.node("Add", to.node("Max", a, b), _log1p(to, dtype, to.node("Exp", apart)))


def _divided(to: Scope, dtype: DType, a: str, b: str) -> tuple[str, str, str]:
    """Write what a quotient towards 0 leaves, whether its sign is not that of b, and the quotient of the rest."""
    zero, left = to.constant(0, dtype), to.node("Mod", a, b, fmod=1)
    signs = to.node("Xor", to.node("Less", left, zero), to.node("Less", b, zero))
    other = to.node("And", to.node("Not", to.node("Equal", left, zero)), signs)
    return left, other, to.node("Div", to.node("Sub", a, left), b)


def _floor_divide(to: Scope, dtype: DType, a: str, b: str) -> str:
    """Write the floor of the exact quotient, as NumPy does: the floor of a rounded one may be 1 more."""
    if dtype.kind != "f":
        return to.node("Div", to.node("Sub", a, to.node("Mod", a, b)), b)  # Div alone rounds towards 0
    _, other, quotient = _divided(to, dtype, a, b)
    less = to.node("Where", other, to.constant(1, dtype), to.constant(0, dtype))
    whole = to.node("Sub", to.node("Round", quotient), less)
    return to.node("Where", to.node("Equal", b, to.constant(0, dtype)), to.node("Div", a, b), whole)


def _remainder(to: Scope, dtype: DType, a: str, b: str) -> str:
    if dtype.kind != "f":
        return to.node("Mod", a, b)
    left, other, _ = _divided(to, dtype, a, b)
    return to.node("Where", other, to.node("Add", left, b), left)


def _fmod(to: Scope, dtype: DType, a: str, b: str) -> str:
    return to.node("Mod", a, b, fmod=1)


def _tan(to: Scope, dtype: DType, x: str) -> str:
    return to.node("Div", to.node("Sin", x), to.node("Cos", x))


def _softplus(to: Scope, dtype: DType, x: str) -> str:
    return _logaddexp(to, dtype, x, to.constant(0, dtype))


def _sinh(to: Scope, dtype: DType, x: str) -> str:
    """Write (u + u / (u + 1)) / 2 with u = exp(|x|) - 1, and the sign of x."""
    u = _expm1(to, dtype, to.node("Abs", x))
    one = to.constant(1, dtype)
    ratio = to.node("Div", u, to.node("Add", u, one))
    both = to.node("Add", u, to.node("Where", to.node("Greater", u, to.constant(1e18, dtype)), one, ratio))
    return to.node("Mul", to.node("Sign", x), to.node("Mul", both, to.constant(0.5, dtype)))


def _cosh(to: Scope, dtype: DType, x: str) -> str:
    both = to.node("Add", to.node("Exp", x), to.node("Exp", to.node("Neg", x)))
    return to.node("Mul", both, to.constant(0.5, dtype))


def _arcsinh(to: Scope, dtype: DType, x: str) -> str:
    """Write log(1 + |x| + x^2 / (1 + sqrt(x^2 + 1))), log(2 |x|) where x^2 may be no number, and the sign of x."""
    one, square, size = to.constant(1, dtype), to.node("Mul", x, x), to.node("Abs", x)
    root = to.node("Sqrt", to.node("Add", square, one))
    less = to.node("Add", size, to.node("Div", square, to.node("Add", root, one)))
    return to.node("Mul", to.node("Sign", x), _or_log_of_twice(to, dtype, size, _log1p(to, dtype, less)))


def _or_log_of_twice(to: Scope, dtype: DType, x: str, inverse: str) -> str:
    twice = to.node("Add", to.node("Log", x), to.constant(math.log(2), dtype))
    return to.node("Where", to.node("Greater", x, to.constant(1e9, dtype)), twice, inverse)


def _arccosh(to: Scope, dtype: DType, x: str) -> str:
    """Write log(1 + t + sqrt(2 t + t^2)) with t = x - 1, and log(2 x) where t^2 may be no number."""
    t = to.node("Sub", x, to.constant(1, dtype))
    root = to.node("Mul", to.node("Sqrt", t), to.node("Sqrt", to.node("Add", t, to.constant(2, dtype))))
    return _or_log_of_twice(to, dtype, x, _log1p(to, dtype, to.node("Add", t, root)))


def _arctanh(to: Scope, dtype: DType, x: str) -> str:
    """Write log(1 + 2 x / (1 - x)) / 2."""
    ratio = to.node("Div", to.node("Add", x, x), to.node("Sub", to.constant(1, dtype), x))
    return to.node("Mul", _log1p(to, dtype, ratio), to.constant(0.5, dtype))


def _arctan(to: Scope, dtype: DType, x: str) -> str:
    """Write y + d - d^3 / 3 for |x| or, above 1, its inverse: y is right to float32, and d = tan(arctan(x) - y)."""
    one, size, narrow = to.constant(1, dtype), to.node("Abs", x), np.dtype(np.float32)
    above = to.node("Greater", size, one)
    z = to.node("Where", above, to.node("Div", one, size), size)
    y = to.cast(to.node("Atan", to.cast(z, dtype, narrow)), narrow, dtype)
    t = _tan(to, dtype, y)
    d = to.node("Div", to.node("Sub", z, t), to.node("Add", one, to.node("Mul", z, t)))
    cube = to.node("Div", to.node("Mul", d, to.node("Mul", d, d)), to.constant(3, dtype))
    y = to.node("Add", y, to.node("Sub", d, cube))
    whole = to.node("Where", above, to.node("Sub", to.constant(math.pi / 2, dtype), y), y)
    return to.node("Where", to.node("Less", x, to.constant(0, dtype)), to.node("Neg", whole), whole)


def _arcsin(to: Scope, dtype: DType, x: str) -> str:
    """Write arctan(x / sqrt((1 - x) (1 + x)))."""
    one = to.constant(1, dtype)
    square = to.node("Mul", to.node("Sub", one, x), to.node("Add", one, x))
    return _arctan(to, dtype, to.node("Div", x, to.node("Sqrt", square)))


def _arccos(to: Scope, dtype: DType, x: str) -> str:
    """Write 2 arctan(sqrt((1 - x) / (1 + x)))."""
    one = to.constant(1, dtype)
    ratio = to.node("Div", to.node("Sub", one, x), to.node("Add", one, x))
    return to.node("Mul", to.constant(2, dtype), _arctan(to, dtype, to.node("Sqrt", ratio)))


WIDE: dict[str, Callable[..., str]] = {
    "arcsin": _arcsin,
    "arccos": _arccos,
    "arctan": _arctan,
    "tan": _tan,
    "softplus": _softplus,
    "sinh": _sinh,
    "cosh": _cosh,
    "arcsinh": _arcsinh,
    "arccosh": _arccosh,
    "arctanh": _arctanh,
}
"""Functions that ONNX Runtime has in float32 alone, composed of others for float64."""


def _sigmoid_slope(to: Scope, dtype: DType, y: str, x: str) -> str:
    return to.node("Mul", y, to.node("Sigmoid", to.node("Neg", x)))


def _where(to: Scope, call: Call) -> list[str]:
    condition, *branches = to.book.sized.inputs(call)
    names = [to.operand(part, call.output.dtype) for part in branches]
    return [to.node("Where", to.operand(condition, np.dtype(bool)), *names)]


def _astype(to: Scope, call: Call) -> list[str]:
    return [to.operand(call.inputs[0], call.output.dtype)]


ELEMENTWISE: dict[str, Writer] = {
    **{name: _plain(kind) for name, kind in PLAIN.items()},
    "not_equal": _composed(_not_equal),
    "isfinite": _composed(_isfinite),
    "trunc": _composed(_trunc),
    "log1p": _composed(_log1p),
    "expm1": _composed(_expm1),
    "log2": _composed(_scaled_log(2)),
    "log10": _composed(_scaled_log(10)),
    "exp2": _composed(_exp2),
    "cbrt": _composed(_cbrt),
    "hypot": _composed(_hypot),
    "logaddexp": _composed(_logaddexp),
    "floor_divide": _composed(_floor_divide),
    "remainder": _composed(_remainder),
    "fmod": _composed(_fmod),
    "sigmoid_slope": _composed(_sigmoid_slope),
    "where": _where,
    "astype": _astype,
}
"""Writers of elementwise operations, by name of the operator."""
