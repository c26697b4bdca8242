"""Abstract evaluation: shapes and dtypes of what an operation makes, worked out without computing anything large.

While a function is recorded only shapes and dtypes matter, and so they do when a pass puts calls into a graph: both ask
`specs_of`. A rule knows an operation by the key of its operator. It takes what has a shape and a dtype (arrays, values
of a graph) and Python numbers, and the attributes by name, as the operation does. It need not find faults: where it
cannot follow, it raises, and then the operation itself is called on hollow arrays and raises the error that users know.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from operator import index as whole
from typing import Any

import numpy as np

from ...engine.tape import Array
from .table import ELEMENTWISE

Shape = tuple[int, ...]
Specs = list[tuple[Shape, np.dtype[Any]]]
"""Shape and dtype of each output."""

Compute = Callable[..., Any]

_WEAK = (bool, int, float, complex)  # take the dtype of the array that they meet
_PACKAGE = __name__.partition(".")[0]
_BITS = 62  # of a whole number that fits what NumPy makes of it


def specs_of(key: Any, compute: Compute, parts: Sequence[Any], attrs: dict[str, Any]) -> Specs | None:
    """Return shape and dtype of each output of an operation; None if no rule can say.

    Args:
        key: of its operator, or the operator's name if that is a primitive's; see `Operator`.
        compute: the operation on arrays.
        parts: operands: whatever has `shape` and `dtype`, and Python numbers.
        attrs: attributes; ids among them may be arrays, or have a shape and a dtype only.

    >>> import numpy as np
    >>> specs_of("matmul", np.matmul, [np.ones((20, 2, 3)), np.ones((3, 4))], {})
    [((20, 2, 4), dtype('float64'))]
    """
    rule = _RULES.get(key)
    if rule is None:
        return None
    try:
        return rule(compute, *parts, **attrs)
    except (ValueError, IndexError, TypeError, AttributeError, OverflowError):
        return None


def hollow(shape: Shape, dtype: np.dtype[Any]) -> Array:
    """Return a read-only array of ones that takes the memory of one element.

    >>> import numpy as np
    >>> hollow((1000, 1000), np.dtype(np.float32)).strides
    (0, 0)
    """
    return spread(_one(dtype), shape)


def spread(one: Array, shape: Shape) -> Array:
    """Return a 0-d array, repeated to a shape without a copy: what `np.broadcast_to` does, at a tenth of its time."""
    return np.ndarray(shape, one.dtype, one, 0, (0,) * len(shape))


def of_one(compute: Compute, parts: Sequence[Any], shape: Shape) -> Array | None:
    """Return an elementwise result of arrays that each hold one element many times; None if one of them does not.

    It is computed once, and repeated to `shape`.
    """
    ones = [_element(part) if isinstance(part, np.ndarray) else part for part in parts]
    return None if any(part is None for part in ones) else _repeated(compute(*ones), shape)


def counted(key: Any, x: Any, made: tuple[Shape, np.dtype[Any]]) -> Array | None:
    """Return the sum, the largest or the smallest of elements that are all one, in the shape and dtype that is made.

    None if they are not.
    """
    one = _element(x) if isinstance(x, np.ndarray) and key in ("sum", "max", "min") else None
    if one is None:
        return None
    shape, dtype = made
    count = x.size // math.prod(shape) if key == "sum" else 1
    return _repeated(np.asarray(one, dtype) * np.asarray(count, dtype), shape)


def _element(array: Array) -> Any:
    """Return the element that an array holds in all places, None if there are more."""
    if not array.size or any(n != 1 and stride for n, stride in zip(array.shape, array.strides, strict=True)):
        return None
    return array[(0,) * array.ndim]


def _repeated(element: Any, shape: Shape) -> Array:
    one = np.array(element)
    one.flags.writeable = False
    return spread(one, shape)


@lru_cache(maxsize=64)
def _one(dtype: np.dtype[Any]) -> Array:
    one = np.ones((), dtype)
    one.flags.writeable = False  # or a node would keep a copy of the whole
    return one


# -- dtypes -----------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def _dtype(compute: Compute, *kinds: Any, **attrs: Any) -> np.dtype[Any]:
    """Return the dtype that an operation gives, of one element of each dtype, and 1 of each type of number."""
    ones = [np.ones((1, 1), kind) if isinstance(kind, np.dtype) else kind(1) for kind in kinds]
    with np.errstate(all="ignore"):
        return np.asarray(compute(*ones, **attrs)).dtype


@lru_cache(maxsize=4096)
def _promoted(*dtypes: np.dtype[Any]) -> np.dtype[Any]:
    return np.result_type(*dtypes)


def _strong(part: Any) -> np.dtype[Any]:
    """Return the dtype of an operand that becomes an array, numbers too."""
    return np.asarray(part).dtype if type(part) in _WEAK else part.dtype


def _check_whole(number: int, kinds: Sequence[Any]) -> None:
    """Refuse a whole number that may not fit what it meets: NumPy says so."""
    narrow = any(isinstance(kind, np.dtype) and kind.kind not in "fc" for kind in kinds)
    if not 0 <= number < 128 if narrow else number.bit_length() > _BITS:
        raise OverflowError


# -- rules ------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def _broadcast(*shapes: Shape) -> Shape:
    return np.broadcast_shapes(*shapes)


def _elementwise(compute: Compute, *parts: Any) -> Specs:
    shapes: list[Shape] = []
    kinds: list[Any] = []
    for part in parts:
        kind = type(part)
        if kind in _WEAK:
            kinds.append(kind)
        else:
            shapes.append(part.shape)
            kinds.append(part.dtype)
    if int in kinds:
        for part in parts:
            if type(part) is int:
                _check_whole(part, kinds)
    return [(shapes[0] if len(shapes) == 1 else _broadcast(*shapes), _dtype(compute, *kinds))]


def _astype(_: Compute, x: Any, *, dtype: Any) -> Specs:
    made = np.dtype(dtype)
    if x.dtype.kind == "c" and made.kind != "c":
        raise ValueError  # NumPy warns
    return [(x.shape, made)]


def _rounded(compute: Compute, x: Any, *, decimals: int = 0) -> Specs:
    return [_element_of(x.shape, _dtype(compute, x.dtype, decimals=whole(decimals)))]


def _slope(compute: Compute, y: Any, x: Any) -> Specs:
    if y.shape != x.shape:
        raise ValueError
    return [(x.shape, _dtype(compute, y.dtype, x.dtype))]


def _unchanged(_: Compute, x: Any, *, scale: float) -> Specs:
    return [(x.shape, x.dtype)]


def _matmul(_: Compute, a: Any, b: Any) -> Specs:
    left, right = a.shape, b.shape
    if not left or not right or left[-1] != right[-2 if len(right) > 1 else 0]:
        raise ValueError
    lead = _broadcast(left[:-2], right[:-2])
    rows, columns = left[-2:-1], right[-1:] if len(right) > 1 else ()
    return [((*lead, *rows, *columns), _promoted(a.dtype, b.dtype))]


def _axes(axis: Any, ndim: int) -> tuple[int, ...]:
    axes = tuple(range(ndim)) if axis is None else (axis,) if isinstance(axis, int) else axis
    if not all(-ndim <= place < ndim for place in axes):
        raise ValueError
    return tuple(place % ndim for place in axes)


def _reduced(compute: Compute, x: Any, *, axis: Any = None, keepdims: bool = False) -> Specs:
    axes = _axes(axis, len(x.shape))
    if 0 in x.shape or len(set(axes)) != len(axes):
        raise ValueError  # there is no largest of nothing
    if keepdims:
        shape = tuple(1 if place in axes else n for place, n in enumerate(x.shape))
    else:
        shape = tuple(n for place, n in enumerate(x.shape) if place not in axes)
    return [_element_of(shape, _dtype(compute, x.dtype, axis=0))]


def _logsumexp(compute: Compute, x: Any, *, axis: Any = None, keepdims: bool = False) -> Specs:
    ((shape, _),) = _reduced(compute, x, axis=axis, keepdims=keepdims)
    return [(shape, x.dtype)]


def _along(compute: Compute, x: Any, *, axis: Any) -> Specs:
    _axes(axis, len(x.shape))
    return [(x.shape, _dtype(compute, x.dtype, axis=0))]


def _reshape(_: Compute, x: Any, *, shape: Any) -> Specs:
    wanted = (whole(shape),) if isinstance(shape, int | np.integer) else tuple(map(whole, shape))
    if math.prod(wanted) != math.prod(x.shape) or min(wanted, default=0) < 0:
        wanted = hollow(x.shape, x.dtype).reshape(wanted).shape
    return [(wanted, x.dtype)]


def _transpose(_: Compute, x: Any, *, axes: Sequence[int] | None = None) -> Specs:
    if axes is None:
        return [(x.shape[::-1], x.dtype)]
    if sorted(axes) != list(range(len(x.shape))):
        raise ValueError
    return [(tuple(x.shape[axis] for axis in axes), x.dtype)]


def _broadcast_to(_: Compute, x: Any, *, shape: Any) -> Specs:
    wanted = (whole(shape),) if isinstance(shape, int | np.integer) else tuple(map(whole, shape))
    if _broadcast(x.shape, wanted) != wanted:
        raise ValueError
    return [(wanted, x.dtype)]


def _element_of(shape: Shape, dtype: np.dtype[Any]) -> tuple[Shape, np.dtype[Any]]:
    """Return shape and dtype of what is taken from an array: a single element has the byte order of the machine."""
    return shape, dtype if shape else dtype.newbyteorder("=")


def _with(shape: Shape, axis: int, *lengths: int) -> Shape:
    """Return a shape with other axes, or none, in place of one."""
    if not 0 <= axis < len(shape):
        raise ValueError
    return (*shape[:axis], *lengths, *shape[axis + 1 :])


def _concatenate(_: Compute, *parts: Any, axis: int = 0) -> Specs:
    first = parts[0].shape
    others = _with(first, axis)
    if any(_with(part.shape, axis) != others for part in parts):
        raise ValueError
    length = sum(part.shape[axis] for part in parts)
    return [(_with(first, axis, length), _promoted(*{part.dtype for part in parts}))]


def _stack(_: Compute, *parts: Any, axis: int = 0) -> Specs:
    shapes = {() if type(part) in _WEAK else part.shape for part in parts}
    (shape,) = shapes
    if not 0 <= axis <= len(shape):
        raise ValueError
    return [((*shape[:axis], len(parts), *shape[axis:]), _promoted(*set(map(_strong, parts))))]


def _split(_: Compute, x: Any, *, indices_or_sections: Any, axis: int = 0) -> Specs:
    length = x.shape[axis]
    if isinstance(indices_or_sections, int):
        part, rest = divmod(length, indices_or_sections)
        if rest:
            raise ValueError
        lengths = [part] * indices_or_sections
    else:
        ends = [*indices_or_sections, length]
        starts = [0, *indices_or_sections]
        pairs = zip(starts, ends, strict=True)
        lengths = [len(range(*slice(start, end).indices(length))) for start, end in pairs]
    return [(_with(x.shape, axis, part), x.dtype) for part in lengths]


def _unstack(_: Compute, x: Any, *, axis: int = 0) -> Specs:
    return [_element_of(_with(x.shape, axis), x.dtype)] * x.shape[axis]


def _is_array(part: Any) -> bool:
    return hasattr(part, "dtype") and not isinstance(part, np.generic)


def _check_ids(ids: Any, length: int) -> None:
    """Refuse ids that are out of range, where they are known."""
    if ids.dtype.kind not in "iu" or (
        isinstance(ids, np.ndarray) and ids.size and not -length <= ids.min() <= ids.max() < length
    ):
        raise IndexError


def _getitem(_: Compute, x: Any, *, index: Any) -> Specs:
    parts = index if isinstance(index, tuple) else (index,)
    if not any(map(_is_array, parts)):
        return [_element_of(hollow(x.shape, x.dtype)[index].shape, x.dtype)]  # a view
    if not all(map(_is_array, parts)) or len(parts) > len(x.shape):
        raise IndexError  # arrays among slices
    for ids, length in zip(parts, x.shape, strict=False):
        _check_ids(ids, length)
    return [_element_of((*_broadcast(*(ids.shape for ids in parts)), *x.shape[len(parts) :]), x.dtype)]


def _take(_: Compute, x: Any, *, indices: Any, axis: int) -> Specs:
    shape = _with(x.shape, axis, *indices.shape)
    _check_ids(indices, x.shape[axis])
    return [_element_of(shape, x.dtype)]


def _take_along(_: Compute, x: Any, *, indices: Any, axis: int) -> Specs:
    if _with(indices.shape, axis) != _with(x.shape, axis):
        raise ValueError
    _check_ids(indices, x.shape[axis])
    return [(indices.shape, x.dtype)]


def _put_back(_: Compute, g: Any, *, shape: Shape, index: Any = None, indices: Any = None, axis: int = 0) -> Specs:
    return [(shape, g.dtype)]


def _cross_entropy(_: Compute, logits: Any, *, targets: Any, ignore_label: int) -> Specs:
    if 0 in logits.shape or targets.shape != logits.shape[:-1]:
        raise ValueError
    return [((), logits.dtype)]


def _cross_entropy_back(_: Compute, logits: Any, g: Any, *, targets: Any, ignore_label: int) -> Specs:
    if 0 in logits.shape or targets.shape != logits.shape[:-1] or getattr(g, "shape", ()) or _strong(g).kind == "c":
        raise ValueError
    return [(logits.shape, logits.dtype)]


def _recurrence(_: Compute, *parts: Any) -> Specs:
    shape = _broadcast(*(getattr(part, "shape", ()) for part in parts))
    if not shape:
        raise IndexError  # it has no first axis
    return [(shape, np.result_type(*(getattr(part, "dtype", part) for part in parts)))]


def _norms(_: Compute, *gs: Any, function: str, names: tuple[str, ...]) -> Specs:
    return [((len(gs) + 1,), np.dtype(np.float64))]


_RULES: dict[Any, Callable[..., Specs]] = {
    **dict.fromkeys(ELEMENTWISE, _elementwise),
    **dict.fromkeys(("sum", "mean", "max", "min", "prod"), _reduced),
    **dict.fromkeys(("log_softmax", "cumsum", "cumprod"), _along),
    **dict.fromkeys(("scatter", "take_back", "take_along_back"), _put_back),
    "logsumexp": _logsumexp,
    "astype": _astype,
    "sigmoid_slope": _slope,
    "round": _rounded,
    "cut": _unchanged,
    "matmul": _matmul,
    "reshape": _reshape,
    "transpose": _transpose,
    "broadcast_to": _broadcast_to,
    "concatenate": _concatenate,
    "stack": _stack,
    "split": _split,
    "unstack": _unstack,
    "getitem": _getitem,
    "take": _take,
    "take_along": _take_along,
    "linear_recurrence": _recurrence,
    "cross_entropy": _cross_entropy,
    "cross_entropy_back": _cross_entropy_back,
    f"{_PACKAGE}.optim.clipping.norms": _norms,
}
"""By the key of the operator; of a primitive that is none of `ops`, by its name."""
