"""Elementwise operators as expressions of C."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from ...compiler.ir.arrays import DType
from ...compiler.ir.table import TRUTH
from ...compiler.plans.instructions import Slot
from ...errors import UnsupportedError
from .functions import function_name
from .literals import is_real, literal, type_of

_INFIX = {
    "add": "+",
    "subtract": "-",
    "multiply": "*",
    "divide": "/",
    "less": "<",
    "less_equal": "<=",
    "greater": ">",
    "greater_equal": ">=",
    "equal": "==",
    "not_equal": "!=",
    "logical_and": "&&",
    "logical_or": "||",
}
_LIBM = {
    **{name: name for name in ("sin", "cos", "tan", "sinh", "cosh", "expm1", "log2", "log10", "exp2", "cbrt")},
    **{name: name for name in ("floor", "ceil", "trunc", "rint", "hypot", "fmod")},
    **{f"arc{name}": f"a{name}" for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh", "tan2")},
    "power": "pow",
}
"""Functions of math.h; a program that calls one is linked with libm."""

_LOGICAL = ("logical_and", "logical_or", "logical_not")
_COPIES = ("copy", "contiguous", "astype", "reshape")
_WHOLE: dict[str, str] = {  # of whole numbers; 0 where NumPy divides by 0, rounded down where C rounds towards 0
    "remainder": "{1} == 0 ? 0 : {0} % {1} + ({0} % {1} != 0 && ({0} < 0) != ({1} < 0) ? {1} : 0)",
    "floor_divide": "{1} == 0 ? 0 : {0} / {1} - ({0} % {1} != 0 && ({0} < 0) != ({1} < 0))",
    "sign": "({0} > 0) - ({0} < 0)",
}
_UNSIGNED = {"remainder": "{1} == 0 ? 0 : {0} % {1}", "floor_divide": "{1} == 0 ? 0 : {0} / {1}"}
_ON_WHOLE_NUMBERS = {*_INFIX, *_LOGICAL, *_COPIES, *_WHOLE}
_ON_WHOLE_NUMBERS |= {"negative", "where", "isnan", "isfinite", "maximum", "minimum"}
_LARGEST_POWER = 4

NAMES = frozenset(
    {*_INFIX, *_LIBM, *_LOGICAL, *_COPIES, "negative", "where", "isnan", "isfinite", "relu", "sigmoid", "tanh", "exp"}
    | {"log", "log1p", "sqrt", "sign", "softplus", "sigmoid_slope", "logaddexp", "remainder", "floor_divide"}
    | {"maximum", "minimum", "sigmoid_tail", "tail_sigmoid", "tail_slope"}
)
"""Names of the operators that have an expression."""

Use = Callable[[str, DType], str]
"""Takes note of a function of this package, or of math.h if its name starts with "LIBM_", and returns its name in C."""


@lru_cache(maxsize=256)
def computed_in(name: str, out: DType, dtypes: tuple[DType, ...]) -> DType:
    """Return the dtype in which an operator computes: that of its result, or of what it compares."""
    if name in TRUTH and dtypes:
        return np.result_type(*dtypes)
    return out


def expression(name: str, out: DType, inputs: tuple[object, ...], operands: tuple[str, ...], use: Use) -> str:
    """Return the value of an element of a result.

    Args:
        name: of the operator.
        out: dtype of the result.
        inputs: slots and numbers.
        operands: the element of each, as an expression of its own type; for a number anything.
        use: takes note of a function.

    Raises:
        UnsupportedError: if the operator has no expression for the dtype.
    """
    parts = inputs[1:] if name == "where" else inputs
    dtype = computed_in(name, out, tuple(part.dtype for part in parts if isinstance(part, Slot)))
    if not is_real(dtype) and name not in _ON_WHOLE_NUMBERS:
        raise UnsupportedError(
            f"export: C has no {name} of {dtype}; convert its operands to float32 with np.astype before"
        )
    texts = [_operand(part, text, dtype) for part, text in zip(inputs, operands, strict=True)]
    if name == "where":
        condition = operands[0] if isinstance(inputs[0], Slot) else str(int(bool(inputs[0])))
        return f"{condition} ? {texts[1]} : {texts[2]}"
    made = _expression(name, dtype, inputs, texts, use)
    return f"({type_of(out)})({made})" if dtype != out or (dtype.itemsize < 4 and name not in _COPIES) else made


def _operand(part: object, text: str, dtype: DType) -> str:
    """Return an operand in the dtype in which is computed."""
    if not isinstance(part, Slot):
        return _signed(literal(part, dtype))
    if dtype.kind == "b" != part.dtype.kind:
        return f"({text} != 0)"
    return text if part.dtype == dtype else f"({type_of(dtype)}){text}"


def _signed(text: str) -> str:
    return f"({text})" if text.startswith("-") else text


def _expression(name: str, dtype: DType, inputs: tuple[object, ...], texts: list[str], use: Use) -> str:
    if name in _COPIES:
        return texts[0]
    if name in _INFIX:
        return f"{texts[0]} {_INFIX[name]} {texts[1]}"
    if name in _WHOLE and not is_real(dtype):
        return (_UNSIGNED if dtype.kind == "u" and name in _UNSIGNED else _WHOLE)[name].format(*texts)
    if name in _FORMS:
        return _FORMS[name](dtype, texts, use)
    if name == "power":
        return _power(dtype, inputs, texts, use)
    if function_name(name, "f32") is not None and is_real(dtype):
        return f"{use(name, dtype)}({', '.join(texts)})"
    return f"{use(f'LIBM_{_LIBM[name]}', dtype)}({', '.join(texts)})"


def _power(dtype: DType, inputs: tuple[object, ...], texts: list[str], use: Use) -> str:
    """Return a power; a small whole one as products."""
    exponent, x = inputs[1], texts[0]
    if not isinstance(exponent, Slot):
        number = float(exponent)  # type: ignore[arg-type]
        if number == 0.5:
            return f"{use('sqrt', dtype)}({x})"
        if number.is_integer() and 1 <= number <= _LARGEST_POWER:
            return " * ".join([x] * int(number))
    return f"{use('LIBM_pow', dtype)}({x}, {texts[1]})"


def _larger(sign: str) -> Callable[[DType, list[str], Use], str]:
    def form(dtype: DType, texts: list[str], use: Use) -> str:
        if is_real(dtype):
            return f"{use('maximum' if sign == '>' else 'minimum', dtype)}({texts[0]}, {texts[1]})"
        return f"{texts[0]} {sign} {texts[1]} ? {texts[0]} : {texts[1]}"

    return form


def _tail(dtype: DType, x: list[str], use: Use) -> str:
    """Return sigmoid(x), or sigmoid(x) - 1 if x > 0, which is never 0."""
    sigmoid, least = use("sigmoid", dtype), literal(np.finfo(f"f{dtype.itemsize}").tiny, dtype)
    return f"{x[0]} > 0 ? -{use('maximum', dtype)}({sigmoid}(-({x[0]})), {least}) : {sigmoid}({x[0]})"


_FORMS: dict[str, Callable[[DType, list[str], Use], str]] = {
    "negative": lambda dtype, x, use: f"-{x[0]}",
    "logical_not": lambda dtype, x, use: f"!{x[0]}",
    "isnan": lambda dtype, x, use: f"{x[0]} != {x[0]}",
    "isfinite": lambda dtype, x, use: f"{x[0]} - {x[0]} == 0",
    "softplus": lambda dtype, x, use: f"{use('logaddexp', dtype)}({x[0]}, {literal(0, dtype)})",
    "sigmoid_slope": lambda dtype, x, use: f"{x[0]} / ({literal(1, dtype)} + {use('exp', dtype)}({x[1]}))",
    "sigmoid_tail": _tail,
    "tail_sigmoid": lambda dtype, x, use: f"{x[0]} < 0 ? {literal(1, dtype)} + {x[0]} : {x[0]}",
    "tail_slope": lambda dtype, x, use: f"({x[0]} < 0 ? -({x[0]}) : {x[0]}) - {x[0]} * {x[0]}",
    "maximum": _larger(">"),
    "minimum": _larger("<"),
}
