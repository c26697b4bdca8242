"""What the built-in cells share: parameters, and checks of inputs and states."""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import DTypeLike

from ..checks import flag, generator, integer
from ..engine.operands import operand
from ..engine.tensor import Operand, Tensor, Value, parameter, shape_of, tensor
from ..engine.tree import map_leaves
from ..errors import ConfigError, ShapeError
from ..ops import expand_dims, getitem, matmul
from .module import Module


def check_nonlinearity(function: str, name: str) -> str:
    """Return the name of a nonlinearity, or raise `ConfigError` if it is unknown."""
    if name not in ("tanh", "relu"):
        raise ConfigError(f'{function}: nonlinearity must be "tanh" or "relu", got {name!r}')
    return name


def in_words(state: object) -> str:
    """Describe a state for a message: "3 parts", "one of shape (2, 4)"."""
    if isinstance(state, tuple | list | dict):
        return f"{len(state)} part{'s' * (len(state) != 1)}"
    return f"one of shape {state.shape}" if isinstance(state, Tensor | np.ndarray) else f"{type(state).__name__}"


def batch_of_one(name: str, given: Value, ndim: int) -> str:
    """Return the end of a message: how to add the axis N, if an argument has the `ndim` axes of one sequence."""
    return f"; for one sequence alone, add the axis N: {name}[None]" if given.ndim == ndim else ""


def with_batch_axis(state: object) -> object:
    """Return the state of one sequence, its arrays (H,), as that of a batch of one, (1, H); None stays None."""
    return map_leaves(lambda part: expand_dims(part, 0) if isinstance(part, Tensor | np.ndarray) else part, state)


def without_batch_axis(state: object) -> object:
    """Return the state of a batch of one as that of one sequence."""
    return map_leaves(lambda part: getitem(part, 0) if isinstance(part, Tensor | np.ndarray) else part, state)


class GatedCell(Module):
    """Base of the built-in cells, with parameters Wx (D, G*H), Wh (H, G*H), b (G*H,) for G gates.

    Weights start normal with variance 1/D and 1/H, biases at 0. A cell with `dense = False` has no Wh: each of its
    units sees only its own past.

    Attributes:
        input_size: D.
        hidden_size: H.
        output_size: length of the last axis of the output; H, unless the cell says otherwise.
    """

    gates: int = 1
    dense: bool = True

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        rng: np.random.Generator,
        dtype: DTypeLike = np.float32,
        *,
        bias: bool = True,
        output_size: int | None = None,
    ) -> None:
        name = type(self).__name__
        input_size = integer(name, "input_size", input_size)
        hidden_size = integer(name, "hidden_size", hidden_size)
        generator(name, "rng", rng)
        width = self.gates * hidden_size
        self.input_size, self.hidden_size = input_size, hidden_size
        self.output_size = size = hidden_size if output_size is None else output_size
        self.Wx = parameter(rng.standard_normal((input_size, width)) / np.sqrt(input_size), dtype, "Wx")
        if self.dense:
            self.Wh = parameter(rng.standard_normal((size, width)) / np.sqrt(size), dtype, "Wh")
        self.b = parameter(np.zeros(width), dtype, "b") if flag(name, "bias", bias) else None

    def _zeros(self, batch_size: int, size: int | None = None) -> Tensor:
        """Return zeros (N, H), or (N, size)."""
        batch_size = integer(f"{type(self).__name__}.initial_state", "batch_size", batch_size, 0)
        return tensor(np.zeros((batch_size, self.hidden_size if size is None else size)), self.Wx.dtype)

    def _from_input(self, x: Value) -> Tensor:
        """Return x @ Wx + b, or x @ Wx without a bias."""
        product = matmul(x, self.Wx)
        return product if self.b is None else product + self.b

    def _inputs(self, given: Operand, *states: Operand, sizes: tuple[int, ...] = ()) -> tuple[Tensor, ...]:
        """Return x (N, D) and parts of a state (N, H), or of `sizes`, checked; or all of them without the axis N.

        Arrays stay arrays: their products with the parameters, which are Tensors, are Tensors.
        """
        name = type(self).__name__
        x = operand(given, name, "x")
        if x.ndim not in (1, 2) or x.shape[-1] != self.input_size:
            raise ShapeError(f"{name}: expected x of shape (N, D) = (N, {self.input_size}), got {x.shape}")
        for h, size in zip(states, sizes or (self.hidden_size,) * len(states), strict=True):
            wanted = (*x.shape[:-1], size)
            shape = "a nesting" if isinstance(h, tuple | dict) else shape_of(h)
            if shape != wanted:
                start = f"start from cell.initial_state({wanted[0]})"
                if x.ndim == 1:
                    start = f"x of shape {x.shape} has no axis N, which x[None] adds"
                letters = "(N, H)" if x.ndim == 2 else "(H,)"
                raise ShapeError(f"{name}: expected a state of shape {letters} = {wanted}, got {shape}; {start}")
        parts = (x, *[operand(h, name, "state") for h in states])
        return cast("tuple[Tensor, ...]", parts)


class PairCell(GatedCell):
    """A gated cell whose state is a pair (h, c), as an LSTM's is."""

    def initial_state(self, batch_size: int) -> tuple[Tensor, Tensor]:
        """Return (h, c), zeros (N, H) each."""
        return self._zeros(batch_size), self._zeros(batch_size)

    def _pair(self, state: tuple[Operand, Operand]) -> tuple[Operand, Operand]:
        """Return (h, c), or raise `ShapeError` if the state is not a pair."""
        if not isinstance(state, tuple | list) or len(state) != 2:
            raise ShapeError(
                f"{type(self).__name__}: expected a state (h, c), two parts of shape (N, H) = (N, {self.hidden_size}), "
                f"got {in_words(state)}; start from cell.initial_state(N)"
            )
        h, c = state
        return h, c
