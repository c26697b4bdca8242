"""NumPy functions whose results carry no gradient: piecewise constant ones, and functions of shapes.

On Tensors they return plain arrays (or numbers), because there is nothing to record.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from ..engine.operands import without_gradient
from ..engine.table import Function, implements
from ..engine.tape import context
from ..engine.tensor import Tensor
from ..engine.tree import map_leaves
from ..errors import DTypeError, ShapeError, TraceError, UnsupportedError

_CONSTANT: tuple[Function, ...] = (
    *(np.less, np.less_equal, np.greater, np.greater_equal, np.equal, np.not_equal),
    *(np.isfinite, np.isnan, np.isinf, np.isneginf, np.isposinf, np.iscomplex, np.isreal, np.signbit, np.isin),
    *(np.logical_and, np.logical_or, np.logical_not, np.logical_xor),
    *(np.bitwise_and, np.bitwise_or, np.bitwise_xor, np.invert, np.left_shift, np.right_shift, np.bitwise_count),
    *(np.gcd, np.lcm),
    *(np.argmax, np.argmin, np.nanargmax, np.nanargmin, np.argsort, np.argpartition, np.lexsort, np.count_nonzero),
    *(np.any, np.all),
    *(np.searchsorted, np.digitize, np.bincount, np.ravel_multi_index, np.unravel_index, np.ix_),
    *(np.nonzero, np.flatnonzero, np.argwhere, np.diag_indices_from, np.tril_indices_from, np.triu_indices_from),
    *(np.allclose, np.isclose, np.array_equal, np.array_equiv, np.shares_memory, np.may_share_memory),
    *(np.can_cast, np.common_type, np.min_scalar_type),
    *(np.shape, np.ndim, np.size, np.iscomplexobj, np.isrealobj, np.result_type),
    *(np.zeros_like, np.ones_like, np.full_like, np.empty_like),
    *(np.array_str, np.array_repr, np.array2string),
)


_ABOUT_SHAPE: frozenset[Function] = frozenset(
    [
        *(np.shape, np.ndim, np.size, np.iscomplexobj, np.isrealobj),
        *(np.result_type, np.can_cast, np.common_type, np.min_scalar_type, np.shares_memory, np.may_share_memory),
        *(np.zeros_like, np.ones_like, np.empty_like),
        *(np.diag_indices_from, np.tril_indices_from, np.triu_indices_from),
    ]
)
"""Those that depend on shapes and dtypes alone, so that a plan may keep their result."""

_SHAPED_BY_VALUES: frozenset[Function] = frozenset(
    [np.nonzero, np.flatnonzero, np.argwhere, np.bincount, np.unravel_index, np.ix_]
)
"""Those whose result has a length that depends on values, or several parts, which a plan cannot hold."""


_PASSED_ON: dict[Function, tuple[str, str]] = {
    np.full_like: ("fill_value", "fill_value * np.ones_like(a)"),
    np.bincount: ("weights", "one_hot(x).T @ weights"),
}
"""The second argument of those whose result would need its gradient, and what to write instead."""


def _refuse_gradient(function: Function, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
    name, instead = _PASSED_ON[function]
    part = args[1] if len(args) > 1 else kwargs.get(name)
    if isinstance(part, Tensor) and part._may_need_gradient():
        raise UnsupportedError(
            f"{function.__name__}: the gradient of {name}, a recorded Tensor of shape {part.shape}, would be lost; "
            f"write {instead}, or pass its .data if no gradient is wanted"
        )


def _on_arrays(function: Function) -> Function:
    def constant(*args: object, **kwargs: object) -> object:
        if function in _PASSED_ON:
            _refuse_gradient(function, args, kwargs)
        if context().tracer is not None and function in _SHAPED_BY_VALUES:
            raise TraceError(
                f"{function.__name__}: compile() cannot record a result whose length depends on values; use where(), "
                "or compute it outside and pass it as an argument"
            )
        try:
            if context().tracer is not None and function not in _ABOUT_SHAPE:
                return without_gradient(function.__name__, partial(function, **kwargs) if kwargs else function, *args)
            return function(*map_leaves(_data, args), **map_leaves(_data, kwargs))
        except np.exceptions.AxisError as error:
            raise ShapeError(f"{function.__name__}: {error}, of shape {' and '.join(_shapes(args))}") from error
        except TypeError as error:
            if "integer" not in str(error) or isinstance(error, DTypeError):
                raise
            raise DTypeError(f"{function.__name__}: {error} (arguments of shape {', '.join(_shapes(args))})") from error

    return constant


def _shapes(args: tuple[object, ...]) -> list[str]:
    return [str(part.shape) for part in args if isinstance(part, Tensor | np.ndarray)]


def _data(value: object) -> object:
    return value._array if isinstance(value, Tensor) else value


ANSWERS = frozenset(implements(function)(_on_arrays(function)) for function in _CONSTANT)
"""What implements them on Tensors."""
