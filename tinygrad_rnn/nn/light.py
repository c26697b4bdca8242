"""Cells with an elementwise or linear recurrence: each unit sees only its own past, and the loop has no products."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

import numpy as np
from numpy.typing import DTypeLike

from ..checks import number
from ..engine.operands import operand
from ..engine.tensor import Operand, Tensor, Value, parameter
from ..errors import ConfigError, ShapeError
from ..ops import cos, exp, relu, sigmoid, sin, softplus, split, tanh
from .base import GatedCell, PairCell, check_nonlinearity
from .linear_scan import linear_scan


class IndRNNCell(GatedCell):
    """Independently recurrent units: h' = f(x @ Wx + u * h + b), f relu or tanh. Source: Li et al. 2018 (IndRNN).

    The recurrent weights u (H,) start uniform in [0, 1).

    Args:
        input_size: D.
        hidden_size: H.
        rng: generator that draws the weights.
        dtype: dtype of the parameters; float32 by default.
        nonlinearity: "relu" or "tanh".
        bias: whether there is a b.

    Raises:
        ConfigError: if a size is not an integer of 1 or more, `rng` is not a generator, or the nonlinearity is unknown.
        ShapeError: when called with x not (N, D) or a state not (N, H).

    >>> import numpy as np, tinygrad_rnn as tr
    >>> outputs, h = tr.unroll(tr.IndRNNCell(3, 4, np.random.default_rng(0)), np.ones((2, 5, 3)))
    >>> outputs.shape
    (2, 5, 4)
    """

    dense = False

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        rng: np.random.Generator,
        dtype: DTypeLike = np.float32,
        nonlinearity: Literal["relu", "tanh"] = "relu",
        *,
        bias: bool = True,
    ) -> None:
        self.nonlinearity = check_nonlinearity("IndRNNCell", nonlinearity)
        super().__init__(input_size, hidden_size, rng, dtype, bias=bias)
        self.u = parameter(rng.random(self.hidden_size), dtype, "u")

    def initial_state(self, batch_size: int) -> Tensor:
        """Return zeros (N, H)."""
        return self._zeros(batch_size)

    def __call__(self, x: Operand, state: Operand) -> tuple[Tensor, Tensor]:
        """Return (output, state) of one step; both are h' (N, H)."""
        x, state = self._inputs(x, state)
        sums = self._from_input(x) + self.u * state
        if self.nonlinearity == "relu":
            h = relu(sums)
            return h, h
        h = tanh(sums)
        return h, h


class AffineCell(GatedCell, ABC):
    """A cell with h' = a(x) * h + b(x), which processes a whole sequence by a `linear_scan`."""

    dense = False

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

    @abstractmethod
    def affine(self, x: Value) -> tuple[Tensor, Tensor]:
        """Return a and b of h' = a * h + b, both (..., H), for x (..., D)."""

    def initial_state(self, batch_size: int) -> Tensor:
        """Return zeros (N, H)."""
        return self._zeros(batch_size)

    def __call__(self, x: Operand, state: Operand) -> tuple[Tensor, Tensor]:
        """Return (output, state) of one step; both are h' (N, H)."""
        x, state = self._inputs(x, state)
        a, b = self.affine(x)
        h = a * state + b
        return h, h

    def parallel(self, xs: Operand, state: Operand | None = None) -> tuple[Tensor, Tensor]:
        """Return the same as `unroll(cell, xs, state)`, by one `linear_scan`: outputs (N, T, H) and the last state.

        For xs (T, D) they are (T, H) and (H,).
        """
        name = type(self).__name__
        xs = operand(xs, name, "xs")
        if xs.ndim not in (2, 3) or xs.shape[-1] != self.input_size:
            raise ShapeError(f"{name}: expected xs of shape (N, T, D) = (N, T, {self.input_size}), got {xs.shape}")
        a, b = self.affine(xs)
        hs = linear_scan(a, b, state, axis=-2)
        return hs, hs[..., -1, :]


class MinGRUCell(AffineCell):
    """GRU whose gate sees only the input: h' = (1 - z) * h + z * n. Source: Feng et al. 2024, Were RNNs all we needed?

    z = sigmoid(...), n = ... of x @ Wx + b, in this order of columns. `parallel` takes a whole sequence at once.

    Args:
        input_size: D.
        hidden_size: H.
        rng: generator that draws Wx; b starts at 0.
        dtype: dtype of the parameters; float32 by default.
        bias: whether there is a b.

    Raises:
        ConfigError: if a size is not an integer of 1 or more, or `rng` is not a generator.
        ShapeError: when called with x not (N, D) or a state not (N, H).

    >>> import numpy as np, tinygrad_rnn as tr
    >>> cell, xs = tr.MinGRUCell(3, 4, np.random.default_rng(0)), np.ones((2, 5, 3))
    >>> bool(np.allclose(cell.parallel(xs)[0].data, tr.unroll(cell, xs)[0].data))
    True
    """

    gates = 2

    def affine(self, x: Value) -> tuple[Tensor, Tensor]:
        """Return 1 - z and z * n."""
        gate, n = split(self._from_input(x), 2, axis=-1)
        return sigmoid(-gate), sigmoid(gate) * n


class MinLSTMCell(AffineCell):
    """LSTM whose gates see only the input and add up to 1: h' = f / (f + i) * h + i / (f + i) * n.

    f, i = sigmoid(...), n = ... of x @ Wx + b, in this order of columns. `parallel` takes a whole sequence at once.
    Source: Feng et al. 2024, Were RNNs all we needed?

    Args:
        input_size: D.
        hidden_size: H.
        rng: generator that draws Wx; b starts at 0.
        dtype: dtype of the parameters; float32 by default.
        bias: whether there is a b.

    Raises:
        ConfigError: if a size is not an integer of 1 or more, or `rng` is not a generator.
        ShapeError: when called with x not (N, D) or a state not (N, H).

    >>> import numpy as np, tinygrad_rnn as tr
    >>> tr.MinLSTMCell(3, 4, np.random.default_rng(0)).Wx.shape
    (3, 12)
    """

    gates = 3

    def affine(self, x: Value) -> tuple[Tensor, Tensor]:
        """Return f / (f + i) and i / (f + i) * n."""
        gates, n = split(self._from_input(x), (2 * self.hidden_size,), axis=-1)
        f, i = split(softplus(-gates), 2, axis=-1)  # -log f and -log i: the gates themselves may both round to 0
        ratio = f - i
        return sigmoid(-ratio), sigmoid(ratio) * n


class LRUCell(PairCell):
    """Linear recurrent unit: a complex diagonal recurrence between two real maps.

    h' = lambda * h + gamma * (x @ (B_re + i B_im)),  y = Re(h' @ (C_re + i C_im)) + x * d, with
    lambda = exp(-exp(nu) + i exp(theta)), so that |lambda| < 1 whatever is learned. The state is (Re h, Im h).
    Source: Orvieto et al. 2023, Resurrecting recurrent neural networks for long sequences.

    Args:
        input_size: D, also of the outputs.
        hidden_size: H, complex units.
        rng: generator that draws the weights: |lambda| between `radius`, its phase between 0 and `phase`; gamma starts
            at sqrt(1 - |lambda|^2).
        dtype: dtype of the parameters; float32 by default.
        radius: (least, largest) |lambda| at the start.
        phase: largest phase at the start, radians.

    Raises:
        ConfigError: if a size is not an integer of 1 or more, `rng` is not a generator, or a radius is not in [0, 1).
        ShapeError: when called with x not (N, D) or a state part not (N, H).

    >>> import numpy as np, tinygrad_rnn as tr
    >>> outputs, (re, im) = tr.unroll(tr.LRUCell(3, 8, np.random.default_rng(0)), np.ones((2, 5, 3)))
    >>> outputs.shape, re.shape
    ((2, 5, 3), (2, 8))
    """

    gates = 2  # Wx is B_re and B_im side by side
    dense = False

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        rng: np.random.Generator,
        dtype: DTypeLike = np.float32,
        radius: tuple[float, float] = (0.9, 0.999),
        phase: float = 2 * np.pi,
    ) -> None:
        super().__init__(input_size, hidden_size, rng, dtype, bias=False, output_size=input_size)
        low, high = (number("LRUCell", "radius", part, low=0, high=1, below=True) for part in radius)
        if not 0 < low <= high:
            raise ConfigError(f"LRUCell: radius must be (least, largest) in (0, 1), got {radius!r}")
        size = self.hidden_size
        squared = rng.uniform(low**2, high**2, size)
        self.nu = parameter(np.log(-0.5 * np.log(squared)), dtype, "nu")
        turn = number("LRUCell", "phase", phase, low=0)
        self.theta = parameter(np.log(np.maximum(turn * rng.random(size), 1e-8)), dtype, "theta")
        self.gamma = parameter(0.5 * np.log1p(-squared), dtype, "gamma")  # its logarithm
        self.Wx.data = self.Wx.data / np.sqrt(2)
        self.C = parameter(rng.standard_normal((2 * size, self.input_size)) / np.sqrt(size), dtype, "C")
        self.d = parameter(rng.standard_normal(self.input_size), dtype, "d")

    def __call__(self, x: Operand, state: tuple[Operand, Operand]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return (output, state) of one step: y (N, D) and (Re h', Im h')."""
        x, re, im = self._inputs(x, *self._pair(state))
        scale = exp(-exp(self.nu))
        turn_re, turn_im = scale * cos(exp(self.theta)), scale * sin(exp(self.theta))
        gain = exp(self.gamma)
        in_re, in_im = split(x @ self.Wx, 2, axis=-1)
        re, im = turn_re * re - turn_im * im + gain * in_re, turn_re * im + turn_im * re + gain * in_im
        C_re, C_im = split(self.C, 2, axis=0)
        return re @ C_re - im @ C_im + x * self.d, (re, im)
