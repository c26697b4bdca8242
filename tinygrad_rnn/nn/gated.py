"""Variants of the LSTM: with peepholes, with coupled gates, with layer normalization."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from ..engine.tensor import Operand, Tensor, parameter
from ..ops import sigmoid, split, tanh
from .base import PairCell
from .normalization import LayerNorm


class PeepholeLSTMCell(PairCell):
    """LSTM whose gates see the memory: i and f see c, o sees c'. Source: Gers and Schmidhuber 2000.

    i, f = sigmoid(... + c * p_i), sigmoid(... + c * p_f), g = tanh(...), c' = f * c + i * g,
    o = sigmoid(... + c' * p_o), h' = o * tanh(c'); ... is x @ Wx + h @ Wh + b, its columns in the order (i, f, o, g).

    Args:
        input_size: D.
        hidden_size: H.
        rng: generator that draws Wx and Wh; the peepholes p (3, H), for i, f and o, start at 0.
        dtype: dtype of the parameters; float32 by default.
        bias: whether there is a b.

    Raises:
        ConfigError: if a size is not an integer of 1 or more, or `rng` is not a generator.
        ShapeError: when called with x not (N, D) or a state part not (N, H).

    >>> import numpy as np, tinygrad_rnn as tr
    >>> outputs, (h, c) = tr.unroll(tr.PeepholeLSTMCell(3, 4, np.random.default_rng(0)), np.ones((2, 5, 3)))
    >>> outputs.shape
    (2, 5, 4)
    """

    gates = 4

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        rng: np.random.Generator,
        dtype: DTypeLike = np.float32,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(input_size, hidden_size, rng, dtype, bias=bias)
        self.p = parameter(np.zeros((3, hidden_size)), dtype, "p")

    def __call__(self, x: Operand, state: tuple[Operand, Operand]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return (output, state) of one step: h' and (h', c')."""
        x, h, c = self._inputs(x, *self._pair(state))
        i, f, o, g = split(self._from_input(x) + h @ self.Wh, 4, axis=-1)
        c_new = sigmoid(f + c * self.p[1]) * c + sigmoid(i + c * self.p[0]) * tanh(g)
        h = sigmoid(o + c_new * self.p[2]) * tanh(c_new)
        return h, (h, c_new)


class CoupledLSTMCell(PairCell):
    """LSTM that forgets as much as it takes in: c' = f * c + (1 - f) * g, h' = o * tanh(c').

    f, o = sigmoid(...), g = tanh(...) of x @ Wx + h @ Wh + b, in this order of columns: three quarters of an LSTM's
    parameters. Source: Greff et al. 2017, LSTM: a search space odyssey (CIFG).

    Args:
        input_size: D.
        hidden_size: H.
        rng: generator that draws the weights.
        dtype: dtype of the parameters; float32 by default.
        bias: whether there is a b.

    Raises:
        ConfigError: if a size is not an integer of 1 or more, or `rng` is not a generator.
        ShapeError: when called with x not (N, D) or a state part not (N, H).

    >>> import numpy as np, tinygrad_rnn as tr
    >>> tr.CoupledLSTMCell(3, 4, np.random.default_rng(0)).Wx.shape
    (3, 12)
    """

    gates = 3

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        rng: np.random.Generator,
        dtype: DTypeLike = np.float32,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(input_size, hidden_size, rng, dtype, bias=bias)

    def __call__(self, x: Operand, state: tuple[Operand, Operand]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return (output, state) of one step: h' and (h', c')."""
        x, h, c = self._inputs(x, *self._pair(state))
        gates, candidate = split(self._from_input(x) + h @ self.Wh, (2 * self.hidden_size,), axis=-1)
        f, o = split(sigmoid(gates), 2, axis=-1)
        g = tanh(candidate)
        c = g + f * (c - g)
        h = o * tanh(c)
        return h, (h, c)


class LayerNormLSTMCell(PairCell):
    """LSTM with layer normalization of both products and of the memory.

    i, f, o = sigmoid(...), g = tanh(...) of LN(x @ Wx) + LN(h @ Wh) + b, in this order of columns;
    c' = f * c + i * g,  h' = o * tanh(LN(c')).
    Source: Ba, Kiros and Hinton 2016, Layer normalization, equations 20 to 22.

    Args:
        input_size: D.
        hidden_size: H.
        rng: generator that draws the weights.
        dtype: dtype of the parameters; float32 by default.
        bias: whether there is a b.

    Raises:
        ConfigError: if a size is not an integer of 1 or more, or `rng` is not a generator.
        ShapeError: when called with x not (N, D) or a state part not (N, H).

    >>> import numpy as np, tinygrad_rnn as tr
    >>> list(tr.LayerNormLSTMCell(3, 4, np.random.default_rng(0)).parameters())[3:5]
    ['x_norm.g', 'x_norm.b']
    """

    gates = 4

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        rng: np.random.Generator,
        dtype: DTypeLike = np.float32,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(input_size, hidden_size, rng, dtype, bias=bias)
        self.x_norm = LayerNorm(4 * hidden_size, dtype=dtype)
        self.h_norm = LayerNorm(4 * hidden_size, dtype=dtype)
        self.c_norm = LayerNorm(hidden_size, dtype=dtype)

    def __call__(self, x: Operand, state: tuple[Operand, Operand]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return (output, state) of one step: h' and (h', c')."""
        x, h, c = self._inputs(x, *self._pair(state))
        sums = self.x_norm(x @ self.Wx) + self.h_norm(h @ self.Wh)
        if self.b is not None:
            sums = sums + self.b
        sigmoids, candidate = split(sums, (3 * self.hidden_size,), axis=-1)
        i, f, o = split(sigmoid(sigmoids), 3, axis=-1)
        c = f * c + i * tanh(candidate)
        h = o * tanh(self.c_norm(c))
        return h, (h, c)
