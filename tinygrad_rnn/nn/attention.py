"""Attention of queries to a sequence: weights of its steps, and their weighted mean."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from ..checks import generator, integer, number
from ..engine.operands import operand
from ..engine.tape import scope
from ..engine.tensor import Operand, Value, parameter, shape_of
from ..errors import DTypeError, ShapeError
from ..ops import expand_dims, matmul, softmax, swapaxes, tanh, where
from .base import batch_of_one
from .module import Module


class DotAttention(Module):
    """Attention by products: weights = softmax(scale * query . keys), context = weights @ keys.

    Source: Luong, Pham and Manning 2015 (dot); with scale = 1/sqrt(D) that of Vaswani et al. 2017.

    Args:
        scale: factor by which the products are multiplied.

    Raises:
        ConfigError: if `scale` is not a finite number.
        ShapeError: when called with arguments that do not fit each other.
        DTypeError: when called with a mask that is not boolean.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> context, weights = tr.DotAttention()(np.ones((1, 2)), np.array([[[1.0, 0.0], [3.0, 0.0]]]))
    >>> weights.round(2), context.round(2)
    (array([[0.12, 0.88]]), array([[2.76, 0.  ]]))
    """

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = number("DotAttention", "scale", scale)

    def __call__(self, query: Operand, keys: Operand, mask: Operand | None = None) -> tuple[Value, Value]:
        """Return the context and the weights for one query per sequence, or for Q queries.

        Args:
            query: (N, D) or (N, Q, D).
            keys: (N, T, D), a sequence of vectors; they are the values, too.
            mask: (N, T) booleans, True for steps that count; None: all. A sequence in which no step counts has weights
                0.

        Returns:
            context (N, D) or (N, Q, D), and weights (N, T) or (N, Q, T), which add up to 1.
        """
        query, keys, single = _checked("DotAttention", query, keys)
        with scope("attention"):
            products = matmul(query, swapaxes(keys, 1, 2))
            scores = products if self.scale == 1 else products * self.scale
            return _weighed("DotAttention", scores, keys, mask, single)


class AdditiveAttention(Module):
    """Attention by a small network: weights = softmax(tanh(query @ Wq + keys @ Wk) @ v), context = weights @ keys.

    Source: Bahdanau, Cho and Bengio 2015.

    Args:
        query_size: D of the queries.
        key_size: D of the keys.
        hidden_size: H of the network.
        rng: generator that draws the weights, normal with variance 1/D, 1/D and 1/H.
        dtype: dtype of the parameters; float32 by default.

    Raises:
        ConfigError: if a size is not an integer of 1 or more, or `rng` is not a generator.
        ShapeError: when called with arguments that do not fit each other or the sizes.
        DTypeError: when called with a mask that is not boolean.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> attend = tr.AdditiveAttention(3, 4, 5, np.random.default_rng(0))
    >>> context, weights = attend(np.ones((2, 3)), np.ones((2, 6, 4)))
    >>> context.shape, weights.shape
    ((2, 4), (2, 6))
    """

    def __init__(
        self,
        query_size: int,
        key_size: int,
        hidden_size: int,
        rng: np.random.Generator,
        dtype: DTypeLike = np.float32,
    ) -> None:
        name = "AdditiveAttention"
        query_size, key_size = integer(name, "query_size", query_size), integer(name, "key_size", key_size)
        hidden_size = integer(name, "hidden_size", hidden_size)
        generator(name, "rng", rng)
        self.Wq = parameter(rng.standard_normal((query_size, hidden_size)) / np.sqrt(query_size), dtype, "Wq")
        self.Wk = parameter(rng.standard_normal((key_size, hidden_size)) / np.sqrt(key_size), dtype, "Wk")
        self.v = parameter(rng.standard_normal(hidden_size) / np.sqrt(hidden_size), dtype, "v")

    def __call__(self, query: Operand, keys: Operand, mask: Operand | None = None) -> tuple[Value, Value]:
        """Return the context and the weights; see `DotAttention.__call__`; here keys may have a different D."""
        query, keys, single = _checked("AdditiveAttention", query, keys, (len(self.Wq), len(self.Wk)))
        with scope("attention"):
            hidden = tanh(expand_dims(query @ self.Wq, 2) + expand_dims(keys @ self.Wk, 1))  # (N, Q, T, H)
            return _weighed("AdditiveAttention", hidden @ self.v, keys, mask, single)


def _checked(
    function: str, query: Operand, keys: Operand, sizes: tuple[int, int] | None = None
) -> tuple[Value, Value, bool]:
    """Return queries (N, Q, D), keys (N, T, D), and whether there was one query for each sequence."""
    query, keys = operand(query, function, "query"), operand(keys, function, "keys")
    if keys.ndim != 3:
        raise ShapeError(
            f"{function}: expected keys of shape (N, T, D), got {keys.shape}{batch_of_one('keys', keys, 2)}"
        )
    single = query.ndim == 2
    N, D = keys.shape[0], keys.shape[2] if sizes is None else sizes[0]
    if query.ndim not in (2, 3) or query.shape[0] != N or query.shape[-1] != D:
        raise ShapeError(
            f"{function}: expected a query of shape (N, D) = ({N}, {D}) or (N, Q, D) for keys of shape {keys.shape}, "
            f"got {query.shape}"
        )
    if sizes is not None and keys.shape[2] != sizes[1]:
        raise ShapeError(f"{function}: expected keys of shape (N, T, {sizes[1]}), got {keys.shape}")
    return expand_dims(query, 1) if single else query, keys, single


def _weighed(function: str, scores: Value, keys: Value, mask: Operand | None, single: bool) -> tuple[Value, Value]:
    """Return the context and the weights of scores (N, Q, T)."""
    if mask is None:
        weights = softmax(scores, axis=-1)
    else:
        counts = expand_dims(_mask(function, mask, shape_of(keys)[:2]), 1)  # (N, 1, T)
        lowest = np.finfo(scores.dtype).min
        weights = where(counts, softmax(where(counts, scores, lowest), axis=-1), 0)
    context = matmul(weights, keys)
    return (context[:, 0], weights[:, 0]) if single else (context, weights)


def _mask(function: str, mask: Operand, shape: tuple[int, ...]) -> Value:
    found = operand(mask, function, "mask")
    if found.dtype != np.bool_:
        raise DTypeError(f"{function}: expected a mask of truth values, got dtype {found.dtype}")
    if found.shape != shape:
        raise ShapeError(f"{function}: expected a mask of shape (N, T) = {shape}, got {found.shape}")
    return found
