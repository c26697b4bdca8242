"""Functions without a gradient, as nodes: checks, which become nothing, and a few that compute."""

from __future__ import annotations

from functools import partial

import numpy as np

from ...compiler.ir.graph import Call, Value
from ...errors import UnsupportedError
from ..checks import full_name
from .elementwise import ELEMENTWISE
from .reduce import ANSWERS
from .scope import Scope, Writer

_INTEGERS = np.dtype(np.int64)
_PACKAGE = __name__.partition(".")[0]


def _checked(to: Scope, call: Call) -> list[str]:
    """Write a check that returns its operand; what runs the file checks ids itself."""
    return [to.operand(call.inputs[0], call.output.dtype)]


def _backward_order(to: Scope, call: Call) -> list[str]:
    """Write the steps (N, T, 1) of each sequence, reversed within its own length; see `nn.unroll.backward_order`."""
    lengths, steps = to.book.sized.inputs(call)
    column = to.node("Unsqueeze", to.operand(lengths, _INTEGERS), to.integers([1, 2]))
    count = to.node("Range", to.scalar(0), to.operand(steps, _INTEGERS), to.scalar(1))
    t = to.node("Unsqueeze", count, to.integers([0, 2]))
    back = to.node("Sub", to.node("Sub", column, to.scalar(1)), t)
    shape = to.vector(to.shape(call.output))
    return [to.node("Expand", to.node("Where", to.node("Less", t, column), back, t), shape)]


FUNCTIONS: dict[str, Writer] = {
    "nn.layers.Embedding._checked": _checked,
    "ops.index._checked_ids": _checked,
    "ops.index._plain_part": _checked,
    "ops.loss._checked": _checked,
    "ops.masked._numbers_like": _checked,
    "nn.unroll._in_range": _checked,
    "nn.unroll.backward_order": _backward_order,
}
"""Writers of the package's own functions without a gradient, by module and name."""


def write_function(to: Scope, call: Call) -> list[str]:
    """Write a function that is no primitive of the package.

    Raises:
        UnsupportedError: if it is a primitive or a function of the user's, or one that the standard lacks.
    """
    key = call.operator.key
    if isinstance(key, tuple):
        function = key[0].func if isinstance(key[0], partial) else key[0]
        own = full_name(function)
        writer = FUNCTIONS.get(own.removeprefix(f"{_PACKAGE}.")) if own.startswith(f"{_PACKAGE}.") else None
        if writer is None and isinstance(function, np.ufunc):
            writer = ELEMENTWISE.get(call.name)
        if writer is None and getattr(np, call.name, None) is function:
            writer = ANSWERS.get(call.name)
        if writer is not None:
            return [*writer(to, call)]
    where = f" of {'.'.join(call.place[1])}" if call.place[1] else ""
    operands = ", ".join(str(part.shape) for part in call.inputs if isinstance(part, Value))
    raise UnsupportedError(
        f"export: ONNX has no operation for {call.name}{where} (operands of shape {operands}); write it with NumPy "
        "functions, compute it outside and pass the result, or export in another format"
    )
