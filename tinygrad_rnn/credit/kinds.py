"""Kinds of operations, by how an element of the result depends on elements of the operands.

ELEMENTWISE: each element of the result on the same element of each operand, with broadcasting.
MOVES: each element of the result is an element of an operand.
ROWWISE: with `axis` not the first, each row of the result on the same row of the operand.

`matmul` and `take` (a lookup) have rules of their own; of other operations nothing is known.
"""

from __future__ import annotations

from types import ModuleType

from ..engine.primitive import Primitive
from ..engine.tape import Operation
from ..ops import elementwise, exponents, logistic, rounding, shape, trigonometry, truncate


def _names(*modules: ModuleType) -> frozenset[str]:
    """Return the names of the primitives that these modules define."""
    return frozenset(
        made.name
        for module in modules
        for made in vars(module).values()
        if isinstance(made, Primitive) and made.__module__ == module.__name__
    )


ELEMENTWISE = _names(elementwise, exponents, logistic, rounding, trigonometry, truncate) | {"broadcast_to"}
MOVES = (_names(shape) | {"getitem"}) - {"broadcast_to"}
ROWWISE = frozenset({"sum", "mean", "max", "min", "logsumexp", "log_softmax", "cumsum", "cumprod", "prod"})


def is_ours(operation: Operation) -> bool:
    """Return whether this is a primitive of this package: a user's own may have the same name."""
    return isinstance(operation, Primitive) and operation.__module__.startswith(f"{__package__.rpartition('.')[0]}.")
