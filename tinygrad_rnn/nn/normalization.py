"""Layer normalization."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from ..checks import integer, number
from ..engine.operands import operand
from ..engine.tensor import Operand, Tensor, parameter, shape_of
from ..errors import ShapeError
from ..ops import mean, multiply, sqrt, square
from .module import Module


class LayerNorm(Module):
    """Normalization over the last axis: y = g * (x - mean(x)) / sqrt(var(x) + eps) + b.

    Source: Ba, Kiros and Hinton 2016, Layer normalization.

    Args:
        size: D, length of the last axis; g (D,) starts at 1, b (D,) at 0.
        eps: added to the variance.
        dtype: dtype of the parameters; float32 by default.

    Raises:
        ConfigError: if `size` is not an integer of 1 or more, or `eps` is negative.
        ShapeError: when called with an x whose last axis is not D long.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> y = tr.LayerNorm(4)(np.array([[1.0, 2.0, 3.0, 4.0]]))
    >>> y.data.round(2)
    array([[-1.34, -0.45,  0.45,  1.34]])
    """

    def __init__(self, size: int, eps: float = 1e-5, dtype: DTypeLike = np.float32) -> None:
        size = integer("LayerNorm", "size", size)
        self.eps = number("LayerNorm", "eps", eps, low=0)
        self.g = parameter(np.ones(size), dtype, "g")
        self.b = parameter(np.zeros(size), dtype, "b")

    def __call__(self, x: Operand) -> Tensor:
        """Return x (..., D), normalized."""
        x = operand(x, "LayerNorm", "x")
        if shape_of(x)[-1:] != self.g.shape:
            raise ShapeError(f"LayerNorm: expected x of shape (..., D) = (..., {self.g.size}), got {shape_of(x)}")
        centred = x - mean(x, axis=-1, keepdims=True)
        deviation = sqrt(mean(square(centred), axis=-1, keepdims=True) + self.eps)
        return multiply(centred / deviation, self.g) + self.b
