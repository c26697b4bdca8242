"""Shape inference: shapes and dtypes of the results of an operation, without computing large arrays.

Recording a function needs only shapes and dtypes, and so does a pass that adds calls to a graph: both call `specs_of`,
which has a rule for each operation. A rule has the signature of its operation; an operand is anything with a shape and
a dtype (an array, a value of a graph) or a Python number. A rule need not explain what is wrong with its arguments: if
it raises, the operation itself is called on abstract arrays, and raises the error that users know.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache
from operator import index as whole
from typing import Protocol, TypeGuard, cast

import numpy as np

from .arrays import Compute, DType, Shape, abstract_array
from .table import ELEMENTWISE

Spec = tuple[Shape, DType]
"""Shape and dtype of a value."""

Specs = list[Spec]
"""Shape and dtype of each output."""

Axes = int | Sequence[int] | None

_WEAK = (bool, int, float, complex)  # numbers that take the dtype of the array they are combined with
_PACKAGE = __name__.partition(".")[0]
_BITS = 62  # a Python integer of at most so many bits fits int64


class Abstract(Protocol):
    """Anything with a shape and a dtype: an array, a Tensor, a value of a graph."""

    @property
    def shape(self) -> Shape: ...  # noqa: D102

    @property
    def dtype(self) -> DType: ...  # noqa: D102


def specs_of(key: object, compute: Compute, parts: Sequence[object], attrs: dict[str, object]) -> Specs | None:
    """Return shape and dtype of each output of an operation; None if no rule applies.

    Args:
        key: the key of its operator, or the name of a primitive; see `Operator`.
        compute: the operation on arrays.
        parts: operands: anything with `shape` and `dtype`, and Python numbers.
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


# -- dtypes -----------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def _dtype(compute: Compute, *kinds: Hashable, **attrs: int) -> DType:
    """Return the dtype of an operation's result, computed on one element of each dtype or type of number."""
    ones = [np.ones((1, 1), kind) if isinstance(kind, np.dtype) else cast("type[int]", kind)(1) for kind in kinds]
    with np.errstate(all="ignore"):
        return np.asarray(compute(*ones, **attrs)).dtype


@lru_cache(maxsize=4096)
def _promoted(*dtypes: DType) -> DType:
    return np.result_type(*dtypes)


def _strong(part: Abstract | complex) -> DType:
    """Return the dtype of an operand as an array; that of a number is NumPy's default."""
    return np.asarray(part).dtype if isinstance(part, int | float | complex) else part.dtype


def _shape(part: Abstract | complex) -> Shape:
    """Return the shape of an operand as an array; that of a number is ()."""
    return () if isinstance(part, int | float | complex) else part.shape


def _check_whole(number: int, kinds: Sequence[object]) -> None:
    """Raise OverflowError for an integer that may not fit the dtype it is combined with: NumPy then decides."""
    narrow = any(isinstance(kind, np.dtype) and kind.kind not in "fc" for kind in kinds)
    if not 0 <= number < 128 if narrow else number.bit_length() > _BITS:
        raise OverflowError


# -- rules ------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def _broadcast(*shapes: Shape) -> Shape:
    return np.broadcast_shapes(*shapes)


def _elementwise(compute: Compute, *parts: Abstract) -> Specs:
    shapes: list[Shape] = []
    kinds: list[Hashable] = []
    for part in parts:
        kind: Hashable = type(part)
        if kind in _WEAK:
            kinds.append(kind)
        else:
            shapes.append(part.shape)
            kinds.append(part.dtype)
    if int in kinds:
        for part in parts:
            if isinstance(part, int) and not isinstance(part, bool):
                _check_whole(part, kinds)
    return [(shapes[0] if len(shapes) == 1 else _broadcast(*shapes), _dtype(compute, *kinds))]


def _astype(_: Compute, x: Abstract, *, dtype: np.typing.DTypeLike) -> Specs:
    made = np.dtype(dtype)
    if x.dtype.kind == "c" and made.kind != "c":
        raise ValueError  # the operation itself warns
    return [(x.shape, made)]


def _rounded(compute: Compute, x: Abstract, *, decimals: int = 0) -> Specs:
    return [_element_of(x.shape, _dtype(compute, x.dtype, decimals=whole(decimals)))]


def _slope(compute: Compute, y: Abstract, x: Abstract) -> Specs:
    if y.shape != x.shape:
        raise ValueError
    return [(x.shape, _dtype(compute, y.dtype, x.dtype))]


def _unchanged(_: Compute, x: Abstract, *, scale: float) -> Specs:
    return [(x.shape, x.dtype)]


def _matmul(_: Compute, a: Abstract, b: Abstract) -> Specs:
    left, right = a.shape, b.shape
    if not left or not right or left[-1] != right[-2 if len(right) > 1 else 0]:
        raise ValueError
    lead = _broadcast(left[:-2], right[:-2])
    rows, columns = left[-2:-1], right[-1:] if len(right) > 1 else ()
    return [((*lead, *rows, *columns), _promoted(a.dtype, b.dtype))]


def _solved(_: Compute, a: Abstract, *b: Abstract) -> Specs:
    shape, right = a.shape, b[0].shape if b else a.shape
    if len(shape) < 2 or shape[-1] != shape[-2] or not right or right[-2 if len(right) > 1 else 0] != shape[-1]:
        raise ValueError
    dtype = _promoted(a.dtype, (*b, a)[0].dtype)
    if dtype.kind not in "fc":
        raise ValueError  # whole numbers become floating point: the operation itself says how
    return [((*_broadcast(shape[:-2], right[:-2]), *right[-2:]), dtype)]


def _axes(axis: Axes, ndim: int) -> tuple[int, ...]:
    axes = tuple(range(ndim)) if axis is None else (axis,) if isinstance(axis, int) else axis
    if not all(-ndim <= place < ndim for place in axes):
        raise ValueError
    return tuple(place % ndim for place in axes)


def _reduced(compute: Compute, x: Abstract, *, axis: Axes = None, keepdims: bool = False) -> Specs:
    axes = _axes(axis, len(x.shape))
    if 0 in x.shape or len(set(axes)) != len(axes):
        raise ValueError  # an empty array may have no result: the operation itself raises
    if keepdims:
        shape = tuple(1 if place in axes else n for place, n in enumerate(x.shape))
    else:
        shape = tuple(n for place, n in enumerate(x.shape) if place not in axes)
    return [_element_of(shape, _dtype(compute, x.dtype, axis=0))]


def _logsumexp(compute: Compute, x: Abstract, *, axis: Axes = None, keepdims: bool = False) -> Specs:
    ((shape, _),) = _reduced(compute, x, axis=axis, keepdims=keepdims)
    return [(shape, x.dtype if x.dtype.kind in "fc" else np.dtype(np.float64))]


def _along(compute: Compute, x: Abstract, *, axis: int) -> Specs:
    _axes(axis, len(x.shape))
    return [(x.shape, _dtype(compute, x.dtype, axis=0))]


def _view(compute: Compute, x: Abstract, **attrs: object) -> Specs:
    """Call the operation itself: on an abstract array it returns views, which cost nothing."""
    made = compute(abstract_array(x.shape, x.dtype), **attrs)
    parts = made if isinstance(made, tuple | list) else (made,)
    return [(part.shape, part.dtype) for part in parts]


def _transpose(_: Compute, x: Abstract, *, axes: Sequence[int] | None) -> Specs:
    order = range(len(x.shape))[::-1] if axes is None else axes
    if sorted(order) != list(range(len(x.shape))):
        raise ValueError
    return [(tuple([x.shape[axis] for axis in order]), x.dtype)]


def _broadcast_to(_: Compute, x: Abstract, *, shape: int | Sequence[int]) -> Specs:
    wanted = (whole(shape),) if isinstance(shape, int | np.integer) else tuple(map(whole, shape))
    if _broadcast(x.shape, wanted) != wanted:
        raise ValueError
    return [(wanted, x.dtype)]


def _element_of(shape: Shape, dtype: DType) -> tuple[Shape, DType]:
    """Return shape and dtype of a selection from an array: NumPy returns single elements in native byte order."""
    return shape, dtype if shape else dtype.newbyteorder("=")


def _with(shape: Shape, axis: int, *lengths: int) -> Shape:
    """Return a shape with one axis replaced by axes of these lengths, if any."""
    if not 0 <= axis < len(shape):
        raise ValueError
    return (*shape[:axis], *lengths, *shape[axis + 1 :])


def _concatenate(_: Compute, *parts: Abstract, axis: int = 0) -> Specs:
    first = parts[0].shape
    others = _with(first, axis)
    if any(_with(part.shape, axis) != others for part in parts):
        raise ValueError
    length = sum(part.shape[axis] for part in parts)
    return [(_with(first, axis, length), _promoted(*{part.dtype for part in parts}))]


def _stack(_: Compute, *parts: Abstract, axis: int = 0) -> Specs:
    shapes = set(map(_shape, parts))
    (shape,) = shapes
    if not 0 <= axis <= len(shape):
        raise ValueError
    return [((*shape[:axis], len(parts), *shape[axis:]), _promoted(*set(map(_strong, parts))))]


def _unstack(_: Compute, x: Abstract, *, axis: int = 0) -> Specs:
    return [_element_of(_with(x.shape, axis), x.dtype)] * x.shape[axis]


def _is_array(part: object) -> TypeGuard[Abstract]:
    return hasattr(part, "dtype") and not isinstance(part, np.generic)


def _check_ids(ids: Abstract, length: int) -> None:
    """Raise IndexError for ids that are not integers, or known to be out of range."""
    if ids.dtype.kind not in "iu" or (
        isinstance(ids, np.ndarray) and ids.size and not -length <= ids.min() <= ids.max() < length
    ):
        raise IndexError


def _getitem(_: Compute, x: Abstract, *, index: Abstract) -> Specs:
    parts = index if isinstance(index, tuple) else (index,)
    arrays = [part for part in parts if _is_array(part)]
    if not arrays:
        view = abstract_array(x.shape, x.dtype)[cast("tuple[slice, ...]", index)]
        return [_element_of(view.shape, x.dtype)]
    if len(arrays) < len(parts) or len(parts) > len(x.shape):
        raise IndexError  # arrays and slices together: no rule
    for ids, length in zip(arrays, x.shape, strict=False):
        _check_ids(ids, length)
    return [_element_of((*_broadcast(*(ids.shape for ids in arrays)), *x.shape[len(arrays) :]), x.dtype)]


def _take(_: Compute, x: Abstract, *, indices: Abstract, axis: int) -> Specs:
    shape = _with(x.shape, axis, *indices.shape)
    _check_ids(indices, x.shape[axis])
    return [_element_of(shape, x.dtype)]


def _take_along(_: Compute, x: Abstract, *, indices: Abstract, axis: int) -> Specs:
    if _with(indices.shape, axis) != _with(x.shape, axis):
        raise ValueError
    _check_ids(indices, x.shape[axis])
    return [(indices.shape, x.dtype)]


def _put_back(_: Compute, g: Abstract, *, shape: Shape, **_attrs: object) -> Specs:
    return [(shape, g.dtype)]


def _cross_entropy(_: Compute, logits: Abstract, *, targets: Abstract, ignore_label: object) -> Specs:
    if 0 in logits.shape or targets.shape != logits.shape[:-1]:
        raise ValueError
    return [((), logits.dtype)]


def _cross_entropy_back(compute: Compute, logits: Abstract, g: Abstract | complex, **attrs: Abstract) -> Specs:
    if _shape(g) or _strong(g).kind == "c":
        raise ValueError
    _cross_entropy(compute, logits, **attrs)
    return [(logits.shape, logits.dtype)]


def _recurrence(_: Compute, *parts: Abstract | complex) -> Specs:
    shape = _broadcast(*map(_shape, parts))
    if not shape:
        raise IndexError  # there is no first axis
    return [(shape, np.result_type(*(p if isinstance(p, int | float | complex) else p.dtype for p in parts)))]


def _norms(_: Compute, *gs: object, function: str, names: tuple[str, ...]) -> Specs:
    return [((len(gs) + 1,), np.dtype(np.float64))]


_RULES: dict[object, Callable[..., Specs]] = {
    **dict.fromkeys(ELEMENTWISE, _elementwise),
    **dict.fromkeys(("sum", "mean", "max", "min", "prod"), _reduced),
    **dict.fromkeys(("reshape", "split"), _view),
    **dict.fromkeys(("log_softmax", "cumsum", "cumprod"), _along),
    **dict.fromkeys(("scatter", "take_back", "take_along_back"), _put_back),
    "logsumexp": _logsumexp,
    "astype": _astype,
    "sigmoid_slope": _slope,
    "round": _rounded,
    "cut": _unchanged,
    "matmul": _matmul,
    **dict.fromkeys(("solve", "inv"), _solved),
    "transpose": _transpose,
    "broadcast_to": _broadcast_to,
    "concatenate": _concatenate,
    "stack": _stack,
    "unstack": _unstack,
    "getitem": _getitem,
    "take": _take,
    "take_along": _take_along,
    "linear_recurrence": _recurrence,
    "cross_entropy": _cross_entropy,
    "cross_entropy_back": _cross_entropy_back,
    f"{_PACKAGE}.optim.clipping.norms": _norms,
}
"""By the key of the operator; for a primitive outside of `ops`, by its name."""
