"""NumPy functions whose results carry no gradient: piecewise constant ones, and questions about shape.

On Tensors they answer with plain arrays (or numbers), because there is nothing to record.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ..engine.tape import context
from ..engine.tensor import Tensor, implements, without_gradient
from ..engine.tree import map_leaves
from ..errors import ShapeError

_CONSTANT: tuple[Callable[..., Any], ...] = (
    *(np.less, np.less_equal, np.greater, np.greater_equal, np.equal, np.not_equal),
    *(np.isfinite, np.isnan, np.isinf, np.logical_and, np.logical_or, np.logical_not),
    *(np.argmax, np.argmin, np.argsort, np.count_nonzero),
    *(np.allclose, np.isclose, np.array_equal),
    *(np.shape, np.ndim, np.size, np.iscomplexobj, np.isrealobj, np.result_type),
    *(np.zeros_like, np.ones_like, np.full_like, np.empty_like),
    *(np.array_str, np.array_repr, np.array2string),
)


_ABOUT_SHAPE: frozenset[Callable[..., Any]] = frozenset(
    [
        np.shape,
        np.ndim,
        np.size,
        np.iscomplexobj,
        np.isrealobj,
        np.result_type,
        np.zeros_like,
        np.ones_like,
        np.empty_like,
    ]
)


def _on_arrays(function: Callable[..., Any]) -> Callable[..., Any]:
    def constant(*args: Any, **kwargs: Any) -> Any:
        try:
            if context().tracer is not None and function not in _ABOUT_SHAPE:
                return without_gradient(function.__name__, partial(function, **kwargs) if kwargs else function, *args)
            return function(*map_leaves(_data, args), **map_leaves(_data, kwargs))
        except np.exceptions.AxisError as error:
            raise ShapeError(f"{function.__name__}: {error}, of shape {np.shape(args[0])}") from error

    return constant


def _data(value: Any) -> Any:
    return value._data if isinstance(value, Tensor) else value


for _function in _CONSTANT:
    implements(_function)(_on_arrays(_function))
