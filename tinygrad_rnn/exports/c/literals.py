"""Numbers as C writes them, and arrays of them."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from ...compiler.ir.arrays import DType
from ...engine.tape import Array
from ...errors import UnsupportedError

TYPES: dict[str, str] = {
    "float32": "float",
    "float64": "double",
    "int64": "int64_t",
    "int32": "int32_t",
    "int16": "int16_t",
    "int8": "int8_t",
    "uint64": "uint64_t",
    "uint32": "uint32_t",
    "uint16": "uint16_t",
    "uint8": "uint8_t",
    "bool": "uint8_t",
}
"""Types of C by dtype; a truth value is a byte, 0 or 1."""

_WIDTH = 118  # characters of a line


def type_of(dtype: DType) -> str:
    """Return the type of C for a dtype.

    Raises:
        UnsupportedError: if there is none.
    """
    if dtype.name not in TYPES:
        raise UnsupportedError(
            f"export: C has no type for the dtype {dtype}; compute in float32 or float64 (np.astype), or export to a "
            "format that has it"
        )
    return TYPES[dtype.name]


def is_real(dtype: DType) -> bool:
    """Return whether a dtype is float32 or float64."""
    return dtype.name in ("float32", "float64")


def literal(value: object, dtype: DType) -> str:
    """Return a number of a dtype as C writes it, to the last bit.

    >>> literal(0.1, np.dtype(np.float32)), literal(-2, np.dtype(np.float64)), literal(True, np.dtype(bool))
    ('0.1f', '-2.0', '1')
    """
    if not is_real(dtype):
        return _whole(int(np.asarray(value).astype(dtype)), dtype)
    number = float(np.asarray(value).astype(dtype))
    suffix = "f" if dtype == np.float32 else ""
    if math.isnan(number):
        return f"(0.0{suffix} / 0.0{suffix})"
    if math.isinf(number):
        return f"({'-' if number < 0 else ''}1.0{suffix} / 0.0{suffix})"
    text = _shortest(np.float32(number) if suffix else np.float64(number))
    return f"{text}{suffix}"


def _shortest(number: np.floating) -> str:
    """Return the shortest decimal fraction that is read back as the same number."""
    text = str(number)
    return text if "." in text or "e" in text else f"{text}.0"


def _whole(number: int, dtype: DType) -> str:
    if dtype.itemsize < 8:
        return f"{number}u" if number > 2**31 - 1 else f"({number + 1} - 1)" if number == -(2**31) else f"{number}"
    if dtype.kind == "u":
        return f"{number}ull"
    return "(-9223372036854775807ll - 1)" if number == -(2**63) else f"{number}ll"


def array_lines(name: str, array: Array, type_: str) -> list[str]:
    """Return the definition of a constant array, in lines."""
    numbers = [literal(value, array.dtype) for value in np.ravel(array)]
    return [f"static const {type_} {name}[{len(numbers)}] = {{", *_filled(numbers), "};"]


def _filled(words: Iterable[str]) -> list[str]:
    """Return words, separated by commas, in lines of full width."""
    lines, line = [], ""
    for word in words:
        if line and len(line) + len(word) + 2 > _WIDTH:
            lines.append(f"{line},")
            line = ""
        line = f"{line},{word}" if line else f"    {word}"
    return [*lines, line]
