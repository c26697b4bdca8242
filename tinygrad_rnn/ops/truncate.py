"""The graph cut, which truncates backpropagation through time."""

from __future__ import annotations

import math
import weakref
from typing import TypeVar

import numpy as np

from ..engine.arrays import delivered
from ..engine.operands import check_nest
from ..engine.primitive import Cotangents, primitive
from ..engine.tape import Array, Node, context
from ..engine.tensor import Tensor, Value, wrap
from ..engine.tree import map_leaves
from ..errors import GradientError

Nest = TypeVar("Nest")


@primitive()
def _cut(h: Array, /, scale: float, *, out: Array | None = None) -> Array:
    if np.iscomplexobj(h):
        # Complex step carries the tangent in the imaginary part: the cut scales it, as it scales the cotangent.
        scaled = np.real(h) + 1j * (np.imag(h) * scale if scale else np.zeros_like(np.imag(h)))
        return delivered(np.asarray(scaled, np.asarray(h).dtype), out)
    return delivered(np.asarray(h), out)


@_cut.rule()
def _(g: Value, y: Value, h: Value, *, scale: float) -> Cotangents:
    return (g * scale,)


def cut(h: Nest, scale: float = 0.0) -> Nest:
    """Return h unchanged going forward; going backward the cotangent is multiplied by `scale`.

    y = h,  cotangent(h) = scale * cotangent(y).

    With `scale=0`, the scissors of truncated BPTT, the edge is not walked at all (0 * inf never becomes nan) and the
    result holds no strong reference to its past, which is freed as soon as nothing else needs it. The result is a
    node of its own in the graph: `grad(loss, cut_h)` is the cotangent that arrives at the cut. Nothing that exists
    is changed, so a cut under one loss leaves the gradient of another loss alone.

    On complex arrays (complex-step checks) the imaginary part, the tangent, is scaled likewise.

    Args:
        h: a Tensor, an array, or any nesting of tuples, lists, dicts and dataclasses of them: every component is cut.
        scale: what remains of the cotangent; any finite real number.

    Returns:
        The same nesting, values unchanged.

    Raises:
        GradientError: if `scale` is not a finite real number.
        DTypeError: if a part is an object that is neither an array nor a number.

    >>> import tinygrad_rnn as tr
    >>> h = tr.tensor(3.0, requires_grad=True)
    >>> tr.grad(tr.cut(h, scale=0.5) * h, h)
    array(4.5)
    """
    if isinstance(scale, bool) or not isinstance(scale, int | float | np.number) or not math.isfinite(scale):
        raise GradientError(f"cut: scale must be a finite real number, got {scale!r}")
    check_nest(h, "cut", "h")
    made: Nest = map_leaves(lambda part: _cut_one(part, float(scale)), h)
    return made


def _cut_one(h: object, scale: float) -> object:
    if not isinstance(h, Tensor | np.ndarray) or h.dtype.kind not in "fc":
        return h
    if scale != 0 or not isinstance(h, Tensor):
        return _cut(h, scale=scale)
    forward: Array = _cut.forward(h._array, scale=scale)
    how = context()
    if h.node is None or not how.recording:
        return _traced(h, scale, wrap(forward))
    node = Node(_cut, (), (), None, h.node.specs[h.index : h.index + 1], {"scale": scale})
    node.past = weakref.ref(h.node)
    if how.watcher is not None:
        how.watcher(node, (forward,))
    return _traced(h, scale, wrap(forward, node))


def _traced(h: Tensor, scale: float, result: Tensor) -> Tensor:
    tracer = context().tracer
    if tracer is not None:
        tracer.record(_cut, (h,), {"scale": scale}, (result,))
    return result
