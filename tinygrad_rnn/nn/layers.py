"""Layers without time: Linear, Embedding, Dropout."""

from __future__ import annotations

from typing import overload

import numpy as np
from numpy.typing import DTypeLike

from ..checks import flag, generator, integer, number
from ..engine.operands import operand, without_gradient
from ..engine.tape import Array, context
from ..engine.tensor import Operand, Tensor, parameter
from ..engine.types import Numbers
from ..errors import DTypeError, ShapeError
from ..ops import expand_dims, matmul, multiply, take, where
from .module import Module

_FEW = 16  # ids


class Linear(Module):
    """Affine map: y = x @ W + b.

    Args:
        input_size: D, length of the last axis of x.
        output_size: length of the last axis of y.
        rng: generator that draws W, normal with variance 1/D; b starts at 0.
        dtype: dtype of the parameters; float32 by default.
        bias: whether there is a b.

    Raises:
        ConfigError: if a size is not an integer of 1 or more, or `rng` is not a generator.
        ShapeError: when called with an x whose last axis is not D long.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> tr.Linear(3, 2, np.random.default_rng(0))(np.ones((4, 5, 3))).shape
    (4, 5, 2)
    """

    def __init__(
        self,
        input_size: int,
        output_size: int,
        rng: np.random.Generator,
        dtype: DTypeLike = np.float32,
        bias: bool = True,
    ) -> None:
        input_size = integer("Linear", "input_size", input_size)
        output_size = integer("Linear", "output_size", output_size)
        generator("Linear", "rng", rng)
        self.W = parameter(rng.standard_normal((input_size, output_size)) / np.sqrt(input_size), dtype, "W")
        self.b = parameter(np.zeros(output_size), dtype, "b") if flag("Linear", "bias", bias) else None

    def __call__(self, x: Operand) -> Tensor:
        """Return x @ W + b for x (..., D)."""
        x = operand(x, "Linear", "x")
        if x.shape[-1:] != self.W.shape[:1]:
            raise ShapeError(f"Linear: expected x of shape (..., D) = (..., {self.W.shape[0]}), got {x.shape}")
        y = matmul(x, self.W)
        return y if self.b is None else y + self.b


class Embedding(Module):
    """Table of vectors: one row of W (V, D) for each id.

    Args:
        vocab_size: V.
        embedding_size: D.
        rng: generator that draws W, normal with standard deviation `scale`.
        dtype: dtype of W; float32 by default.
        scale: standard deviation of the entries at the start.
        padding_id: id whose vector is 0 and gets no gradient; None for no such id.

    Raises:
        ConfigError: if a size is not an integer of 1 or more, `rng` is not a generator, or there is no such padding id.
        IndexError: when called with an id outside [0, V).
        DTypeError: when called with ids that are not integers.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> tr.Embedding(10, 3, np.random.default_rng(0))([[1, 2], [2, 9]]).shape
    (2, 2, 3)
    """

    def __init__(
        self,
        vocab_size: int,
        embedding_size: int,
        rng: np.random.Generator,
        dtype: DTypeLike = np.float32,
        scale: float = 1.0,
        padding_id: int | None = None,
    ) -> None:
        vocab_size = integer("Embedding", "vocab_size", vocab_size)
        embedding_size = integer("Embedding", "embedding_size", embedding_size)
        scale = number("Embedding", "scale", scale, low=0)
        generator("Embedding", "rng", rng)
        self.W = parameter(rng.standard_normal((vocab_size, embedding_size)) * scale, dtype, "W")
        if padding_id is not None:
            padding_id = integer("Embedding", "padding_id", padding_id, 0, vocab_size - 1)
        self.padding_id = padding_id

    def __call__(self, ids: Operand) -> Tensor:
        """Return the rows of integer ids (...), as (..., D)."""
        ids = operand(ids, "Embedding", "ids")
        rows = take(self.W, without_gradient("ids", self._checked, ids), axis=0)
        if self.padding_id is None:
            return rows
        return where(expand_dims(np.not_equal(ids, self.padding_id), -1), rows, 0)

    def _checked(self, given: Array) -> Array:
        if given.dtype.kind not in "iu" and given.size:
            raise DTypeError(f"Embedding: expected integer indices, got dtype {given.dtype} of shape {given.shape}")
        low, high = _ends(given) if given.size else (0, 0)
        if low < 0 or high >= self.W.shape[0]:
            raise IndexError(f"Embedding: ids must lie in [0, V) with V={self.W.shape[0]}, got {low} to {high}")
        return given


def _ends(ids: Array) -> tuple[int, int]:
    """Return the smallest and the largest id. Python compares a few, as in a step of generation, in half the time."""
    if ids.size > _FEW:
        return int(ids.min()), int(ids.max())
    values = ids.ravel().tolist()
    return min(values), max(values)


class Dropout(Module):
    """Zero each element with probability p and divide the others by 1 - p. Source: Srivastava et al. 2014.

    There is no training mode to forget: elements are dropped if, and only if, a generator is passed.

    Args:
        p: probability in [0, 1).

    Raises:
        ConfigError: if p is outside [0, 1).

    >>> import numpy as np, tinygrad_rnn as tr
    >>> drop = tr.Dropout(0.5)
    >>> drop(np.ones(4), np.random.default_rng(3))
    array([2., 0., 0., 0.])
    >>> drop(np.ones(4))
    array([1., 1., 1., 1.])
    """

    def __init__(self, p: float) -> None:
        self.p = number("Dropout", "p", p, low=0, high=1, below=True)

    @overload
    def __call__(self, x: Tensor, rng: np.random.Generator | None = None) -> Tensor: ...
    @overload
    def __call__(self, x: Numbers, rng: np.random.Generator | None = None) -> Array: ...
    def __call__(self, x: Operand, rng: np.random.Generator | None = None) -> Operand:
        """Return x with elements dropped by `rng`; x itself without one."""
        if rng is None or self.p == 0:
            return x
        generator("Dropout", "rng", rng)
        x = operand(x, "Dropout", "x")
        kept = without_gradient("dropout", _kept, rng, x.shape, self.p, repeatable=False)
        return where(kept, multiply(x, 1 / (1 - self.p)), 0)  # dropped elements are 0, even where x is infinite


def _kept(rng: np.random.Generator, shape: tuple[int, ...], p: float) -> Array:
    if context().tracer is not None:  # while it is recorded nobody looks at what is drawn
        return np.broadcast_to(np.True_, shape)
    return rng.random(shape, dtype=np.float32) >= p
