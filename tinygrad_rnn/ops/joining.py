"""NumPy's other functions that join and split arrays, derived from `concatenate` and `split`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias, overload

import numpy as np
from numpy.typing import DTypeLike

from ..engine.signatures import binary, joining, splitting
from ..engine.table import implements
from ..engine.tape import Array
from ..engine.tensor import Operand, Tensor, Value, shape_of
from ..engine.types import Numbers
from ..errors import ShapeError
from .axes import one
from .shape import broadcast_to, concatenate, ravel, reshape, split


def _with_axes(
    arrays: Sequence[Operand], shaped: Callable[[tuple[int, ...]], tuple[int, ...]]
) -> Value | tuple[Value, ...]:
    """Return each array with the shape that `shaped` derives from its own; one array alone, several as a tuple."""
    made = tuple(reshape(a, shaped(shape_of(a))) for a in arrays)
    return made[0] if len(made) == 1 else made


@overload
def atleast_1d(x: Tensor, /) -> Tensor: ...
@overload
def atleast_1d(x: Numbers, /) -> Array: ...
@overload
def atleast_1d(x: Operand, y: Operand, /, *others: Operand) -> tuple[Value, ...]: ...
@implements(np.atleast_1d)
def atleast_1d(*arrays: Operand) -> Value | tuple[Value, ...]:
    """Return each array with at least one axis: () becomes (1,)."""
    return _with_axes(arrays, lambda shape: shape or (1,))


@overload
def atleast_2d(x: Tensor, /) -> Tensor: ...
@overload
def atleast_2d(x: Numbers, /) -> Array: ...
@overload
def atleast_2d(x: Operand, y: Operand, /, *others: Operand) -> tuple[Value, ...]: ...
@implements(np.atleast_2d)
def atleast_2d(*arrays: Operand) -> Value | tuple[Value, ...]:
    """Return each array with at least two axes: (n,) becomes (1, n)."""
    return _with_axes(arrays, lambda shape: (1,) * (2 - len(shape)) + shape)


@overload
def atleast_3d(x: Tensor, /) -> Tensor: ...
@overload
def atleast_3d(x: Numbers, /) -> Array: ...
@overload
def atleast_3d(x: Operand, y: Operand, /, *others: Operand) -> tuple[Value, ...]: ...
@implements(np.atleast_3d)
def atleast_3d(*arrays: Operand) -> Value | tuple[Value, ...]:
    """Return each array with at least three axes: (n,) becomes (1, n, 1), and (m, n) becomes (m, n, 1)."""
    return _with_axes(arrays, _three)


def _three(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*((1,) * (2 - len(shape))), *shape, 1) if len(shape) < 3 else shape


@joining(np.hstack)
def hstack(tup: Sequence[Operand], *, dtype: DTypeLike | None = None) -> Value:
    """Return the arrays joined along axis 1, or along the only axis of arrays with one."""
    parts = [atleast_1d(part) for part in tup]
    return concatenate(parts, axis=0 if parts and len(shape_of(parts[0])) == 1 else 1, dtype=dtype)


@joining(np.vstack)
def vstack(tup: Sequence[Operand], *, dtype: DTypeLike | None = None) -> Value:
    """Return the arrays joined along axis 0, arrays of one axis as rows."""
    return concatenate([atleast_2d(part) for part in tup], axis=0, dtype=dtype)


@joining(np.dstack)
def dstack(tup: Sequence[Operand]) -> Value:
    """Return the arrays joined along axis 2, with that axis inserted if they have fewer."""
    return concatenate([atleast_3d(part) for part in tup], axis=2)


@joining(np.column_stack)
def column_stack(tup: Sequence[Operand]) -> Value:
    """Return the arrays joined along axis 1, arrays of one axis as columns."""
    columns = [reshape(part, (*shape_of(part), 1)[-2:]) if len(shape_of(part)) < 2 else part for part in tup]
    return concatenate([reshape(part, (1, 1)) if shape_of(part) == (1,) else part for part in columns], axis=1)


@binary(np.append)
def append(arr: Operand, values: Operand, axis: int | None = None) -> Value:
    """Return `values` joined to the end of `arr` along `axis` (None: both as one axis)."""
    if axis is None:
        return concatenate([ravel(arr), ravel(values)], axis=0)
    return concatenate([arr, values], axis=axis)


Blocks: TypeAlias = "Operand | list[Blocks]"


@implements(np.block)
def block(arrays: Blocks) -> Value:
    """Return the array that nested lists of blocks make: the innermost lists are joined along the last axis.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> tr.block([[np.eye(2), np.zeros((2, 1))], [np.ones((1, 3))]])
    array([[1., 0., 0.],
           [0., 1., 0.],
           [1., 1., 1.]])
    """
    depth = _depth(arrays)
    ndim = max(depth, _most_axes(arrays))

    def joined(part: Blocks, level: int) -> Value:
        if isinstance(part, list):
            return concatenate([joined(inner, level + 1) for inner in part], axis=ndim - depth + level)
        shape = shape_of(part)
        return reshape(part, (1,) * (ndim - len(shape)) + shape)

    return joined(arrays, 0)


def _depth(part: Blocks) -> int:
    if not isinstance(part, list):
        return 0
    depths = {_depth(inner) for inner in part}
    if len(depths) != 1:
        raise ShapeError(f"block: every list must be nested equally deep and hold something, got depths {depths}")
    return 1 + depths.pop()


def _most_axes(part: Blocks) -> int:
    return max(map(_most_axes, part)) if isinstance(part, list) else len(shape_of(part))


@splitting(np.array_split)
def array_split(ary: Operand, indices_or_sections: int | Sequence[int] | Array, axis: int = 0) -> tuple[Value, ...]:
    """Return `ary` split along `axis` into sections whose lengths differ by at most one, or at the given indices."""
    if isinstance(indices_or_sections, Sequence) or np.ndim(indices_or_sections):
        return split(ary, indices_or_sections, axis=axis)
    sections = int(indices_or_sections)
    if sections < 1:
        raise ShapeError(f"array_split: the number of sections must be at least 1, got {sections}")
    length, longer = divmod(shape_of(ary)[one("array_split", axis, shape_of(ary))], sections)
    ends = np.cumsum([length + (number < longer) for number in range(sections)])
    return split(ary, tuple(int(end) for end in ends[:-1]), axis=axis)


@splitting(np.hsplit)
def hsplit(ary: Operand, indices_or_sections: int | Sequence[int] | Array) -> tuple[Value, ...]:
    """Return `ary` split along axis 1, or along the only axis of an array with one."""
    return split(ary, indices_or_sections, axis=min(1, len(shape_of(ary)) - 1))


@splitting(np.vsplit)
def vsplit(ary: Operand, indices_or_sections: int | Sequence[int] | Array) -> tuple[Value, ...]:
    """Return `ary`, with at least two axes, split along axis 0."""
    need_axes("vsplit", ary, 2)
    return split(ary, indices_or_sections, axis=0)


@splitting(np.dsplit)
def dsplit(ary: Operand, indices_or_sections: int | Sequence[int] | Array) -> tuple[Value, ...]:
    """Return `ary`, with at least three axes, split along axis 2."""
    need_axes("dsplit", ary, 3)
    return split(ary, indices_or_sections, axis=2)


def need_axes(function: str, a: Operand, count: int) -> None:
    """Raise a ShapeError if `a` has fewer axes than `count`."""
    if len(shape_of(a)) < count:
        raise ShapeError(f"{function}: expected at least {count} axes, got shape {shape_of(a)}")


@implements(np.broadcast_arrays)
def broadcast_arrays(*args: Operand) -> tuple[Value, ...]:
    """Return the arrays in the shape that they broadcast to, as a tuple."""
    try:
        shape = np.broadcast_shapes(*map(shape_of, args))
    except ValueError as error:
        raise ShapeError(f"broadcast_arrays: {error}") from error
    return tuple(broadcast_to(part, shape) for part in args)
