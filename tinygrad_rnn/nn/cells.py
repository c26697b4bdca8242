"""Recurrent cells: parameters, and one step written only in graph operations.

A cell is any callable `cell(x, state) -> (output, state)` with x (N, D) and output (N, H); the state is a Tensor or
any nesting of tuples. These classes have no privileges over a cell of your own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias, TypeVar, cast

import numpy as np
from numpy.typing import DTypeLike

from ..checks import generator, integer, number
from ..engine.operands import operand
from ..engine.tensor import Operand, Tensor, Value, parameter, shape_of, tensor
from ..errors import ConfigError, ShapeError
from ..ops import relu, sigmoid, split, tanh
from .layers import Dropout
from .module import Module

State: TypeAlias = object
"""The state of any cell: a Tensor or array (N, H), or any nesting of tuples, lists and dicts of them."""

Cell: TypeAlias = Callable[..., tuple[Value, State]]
"""A cell. Where its types matter, a cell is a `Callable[[Input, Before], tuple[Output, After]]`."""

Input = TypeVar("Input")
Before = TypeVar("Before")
Output = TypeVar("Output")
After = TypeVar("After")


def check_nonlinearity(function: str, name: str) -> str:
    """Return the name of a nonlinearity, or raise `ConfigError` if it is unknown."""
    if name not in ("tanh", "relu"):
        raise ConfigError(f'{function}: nonlinearity must be "tanh" or "relu", got {name!r}')
    return name


def check_cell(function: str, cell: object) -> None:
    """Raise `ConfigError` if this is not a cell, but a class or a name, for instance."""
    if isinstance(cell, type) or not callable(cell):
        raise ConfigError(
            f"{function}: expected a cell, a callable cell(x, state) -> (output, state), got {cell!r}"
            + ("; make one of the class first" if isinstance(cell, type) else "")
        )


def stepped(cell: Callable[[Input, Before], tuple[Output, After]], x: Input, state: Before) -> tuple[Output, After]:
    """Return `cell(x, state)`.

    Raises:
        ConfigError: if that is not a pair (output, state).
    """
    made = cell(x, state)
    if not isinstance(made, tuple | list) or len(made) != 2:  # a Tensor of two rows would unpack too
        name = getattr(cell, "__name__", type(cell).__name__)
        raise ConfigError(f"{name}: expected a cell to return (output, state), got {in_words(made)}")
    output, new = made
    return output, new


def initial_state(cell: object, batch_size: int, function: str = "unroll") -> State:
    """Return `cell.initial_state(batch_size)`.

    Raises:
        ValueError: if the cell has none.
    """
    initial = getattr(cell, "initial_state", None)
    if initial is None:
        name = getattr(cell, "__name__", type(cell).__name__)
        raise ValueError(f"{function}: the cell {name} has no initial_state(batch_size); pass state=")
    return initial(batch_size)


def check_parts(function: str, state: State, count: int) -> Sequence[State]:
    """Return a state of layers, or raise `ShapeError` if it does not have one part for each of them."""
    if not isinstance(state, tuple | list) or len(state) != count:
        raise ShapeError(
            f"{function}: expected a state of {count} part{'s' * (count != 1)}, one for each layer, got "
            f"{in_words(state)}; start from initial_state(N)"
        )
    return state


def in_words(state: State) -> str:
    """Describe a state for a message: "3 parts", "one of shape (2, 4)"."""
    if isinstance(state, tuple | list | dict):
        return f"{len(state)} part{'s' * (len(state) != 1)}"
    return f"one of shape {state.shape}" if isinstance(state, Tensor | np.ndarray) else f"{type(state).__name__}"


def drawing(cell: Cell, rng: np.random.Generator | None, batch_size: int) -> Cell:
    """Return the cell for one pass over a batch: `cell.with_rng(rng, N)` if there is a generator and the cell draws."""
    with_rng: Callable[[np.random.Generator, int], Cell] | None = getattr(cell, "with_rng", None)
    return cell if rng is None or with_rng is None else with_rng(rng, batch_size)


class GatedCell(Module):
    """Base of the built-in cells, with parameters Wx (D, G*H), Wh (H, G*H), b (G*H,) for G gates.

    Weights start normal with variance 1/D and 1/H, biases at 0. A cell with `dense = False` has no Wh: each of its
    units sees only its own past.
    """

    gates: int = 1
    dense: bool = True

    def __init__(
        self, input_size: int, hidden_size: int, rng: np.random.Generator, dtype: DTypeLike = np.float32
    ) -> None:
        input_size = integer(type(self).__name__, "input_size", input_size)
        hidden_size = integer(type(self).__name__, "hidden_size", hidden_size)
        generator(type(self).__name__, "rng", rng)
        width = self.gates * hidden_size
        self.input_size, self.hidden_size = input_size, hidden_size
        self.Wx = parameter(rng.standard_normal((input_size, width)) / np.sqrt(input_size), dtype, "Wx")
        if self.dense:
            self.Wh = parameter(rng.standard_normal((hidden_size, width)) / np.sqrt(hidden_size), dtype, "Wh")
        self.b = parameter(np.zeros(width), dtype, "b")

    def _zeros(self, batch_size: int) -> Tensor:
        batch_size = integer(f"{type(self).__name__}.initial_state", "batch_size", batch_size, 0)
        return tensor(np.zeros((batch_size, self.hidden_size)), self.Wx.dtype)

    def _inputs(self, given: Operand, *states: Operand) -> tuple[Tensor, ...]:
        """Return x (N, D) and parts of a state (N, H), checked.

        Arrays stay arrays: their products with the parameters, which are Tensors, are Tensors.
        """
        name = type(self).__name__
        x = operand(given, name, "x")
        if x.ndim != 2 or x.shape[1] != self.input_size:
            raise ShapeError(f"{name}: expected x of shape (N, D) = (N, {self.input_size}), got {x.shape}")
        wanted = (x.shape[0], self.hidden_size)
        for h in states:
            shape = "a nesting" if isinstance(h, tuple | dict) else shape_of(h)
            if shape != wanted:
                raise ShapeError(
                    f"{name}: expected a state of shape (N, H) = {wanted}, got {shape}; start from "
                    f"cell.initial_state({wanted[0]})"
                )
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


class RNNCell(GatedCell):
    """The Elman cell: h' = tanh(x @ Wx + h @ Wh + b). Source: Elman 1990, Finding structure in time.

    Args:
        input_size: D.
        hidden_size: H.
        rng: generator that draws the weights.
        dtype: dtype of the parameters; float32 by default.
        nonlinearity: "tanh" or "relu".

    Raises:
        ConfigError: if a size is not an integer of 1 or more, `rng` is not a generator, or the nonlinearity is unknown.
        ShapeError: when called with x not (N, D) or a state not (N, H).

    >>> import numpy as np, tinygrad_rnn as tr
    >>> cell = tr.RNNCell(3, 4, np.random.default_rng(0))
    >>> output, state = cell(np.ones((2, 3), np.float32), cell.initial_state(2))
    >>> output.shape, output.dtype
    ((2, 4), dtype('float32'))
    """

    gates = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        rng: np.random.Generator,
        dtype: DTypeLike = np.float32,
        nonlinearity: Literal["tanh", "relu"] = "tanh",
    ) -> None:
        self.nonlinearity = check_nonlinearity("RNNCell", nonlinearity)
        super().__init__(input_size, hidden_size, rng, dtype)

    def initial_state(self, batch_size: int) -> Tensor:
        """Return zeros (N, H)."""
        return self._zeros(batch_size)

    def __call__(self, x: Operand, state: Operand) -> tuple[Tensor, Tensor]:
        """Return (output, state) of one step; both are h' (N, H)."""
        x, h = self._inputs(x, state)
        sums = x @ self.Wx + self.b + h @ self.Wh
        if self.nonlinearity == "relu":
            h = relu(sums)
            return h, h
        h = tanh(sums)
        return h, h


class LSTMCell(PairCell):
    """Long short-term memory. Source: Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000.

    i, f, o = sigmoid(...), g = tanh(...) of x @ Wx + h @ Wh + b, in this order of columns;
    c' = f * c + i * g,  h' = o * tanh(c').

    PyTorch orders the columns (i, f, g, o) and has two biases, whose sum is b. The forget gate's bias starts at
    `forget_bias`.

    Args:
        input_size: D.
        hidden_size: H.
        rng: generator that draws the weights.
        dtype: dtype of the parameters; float32 by default.
        forget_bias: initial value of the forget gate's part of b. 1 helps on tasks with long gaps (Jozefowicz et al.
            2015); on text, in short runs, 0 learns faster.

    Raises:
        ConfigError: if a size is not an integer of 1 or more, or `rng` is not a generator.
        ShapeError: when called with x not (N, D) or a state part not (N, H).

    >>> import numpy as np, tinygrad_rnn as tr
    >>> cell = tr.LSTMCell(3, 4, np.random.default_rng(0))
    >>> output, (h, c) = cell(np.ones((2, 3), np.float32), cell.initial_state(2))
    >>> output is h, c.shape
    (True, (2, 4))
    """

    gates = 4

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        rng: np.random.Generator,
        dtype: DTypeLike = np.float32,
        forget_bias: float = 0.0,
    ) -> None:
        super().__init__(input_size, hidden_size, rng, dtype)
        forget_bias = number("LSTMCell", "forget_bias", forget_bias)
        self.b.data = np.repeat([0.0, forget_bias, 0.0, 0.0], hidden_size)

    def __call__(self, x: Operand, state: tuple[Operand, Operand]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return (output, state) of one step: h' and (h', c')."""
        x, h, c = self._inputs(x, *self._pair(state))
        sigmoids, candidate = split(x @ self.Wx + self.b + h @ self.Wh, (3 * self.hidden_size,), axis=1)
        i, f, o = split(sigmoid(sigmoids), 3, axis=1)
        c = f * c + i * tanh(candidate)
        h = o * tanh(c)
        return h, (h, c)


class GRUCell(GatedCell):
    """Gated recurrent unit. Source: Cho et al. 2014.

    r, z = sigmoid(...) and the candidate n, in this order of columns; h' = (1 - z) * n + z * h.
    reset="after":  n = tanh(x @ Wx_n + b_n + r * (h @ Wh_n + bh)), with a second bias bh (H,); one product with Wh.
    reset="before": n = tanh(x @ Wx_n + b_n + (r * h) @ Wh_n), as in the paper; no bh.

    With "after", PyTorch's weights map exactly: its columns are (r, z, n) too; b is b_ih + b_hh for r and z, and b_ih
    for n; bh is the part of b_hh for n.

    Args:
        input_size: D.
        hidden_size: H.
        rng: generator that draws the weights.
        dtype: dtype of the parameters; float32 by default.
        reset: whether the reset gate comes before or after the product with Wh.

    Raises:
        ConfigError: if a size is below 1 or `reset` is unknown.
        ShapeError: when called with x not (N, D) or a state not (N, H).

    >>> import numpy as np, tinygrad_rnn as tr
    >>> cell = tr.GRUCell(3, 4, np.random.default_rng(0), reset="before")
    >>> list(cell.parameters())
    ['Wx', 'Wh', 'b']
    """

    gates = 3

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        rng: np.random.Generator,
        dtype: DTypeLike = np.float32,
        reset: Literal["after", "before"] = "after",
    ) -> None:
        if reset not in ("after", "before"):
            raise ConfigError(f'GRUCell: reset must be "after" or "before", got {reset!r}')
        super().__init__(input_size, hidden_size, rng, dtype)
        self.reset = reset
        self.bh = parameter(np.zeros(hidden_size), dtype, "bh") if reset == "after" else None

    def initial_state(self, batch_size: int) -> Tensor:
        """Return zeros (N, H)."""
        return self._zeros(batch_size)

    def __call__(self, x: Operand, state: Operand) -> tuple[Tensor, Tensor]:
        """Return (output, state) of one step; both are h' (N, H)."""
        x, h = self._inputs(x, state)
        at = (2 * self.hidden_size,)
        x_gates, x_candidate = split(x @ self.Wx + self.b, at, axis=1)
        if self.bh is not None:
            h_gates, h_candidate = split(h @ self.Wh, at, axis=1)
            r, z = split(sigmoid(x_gates + h_gates), 2, axis=1)
            n = tanh(x_candidate + r * (h_candidate + self.bh))
        else:
            Wh_gates, Wh_candidate = split(self.Wh, at, axis=1)
            r, z = split(sigmoid(x_gates + h @ Wh_gates), 2, axis=1)
            n = tanh(x_candidate + (r * h) @ Wh_candidate)
        h = n + z * (h - n)
        return h, h


class Stacked(Module):
    """Cells on top of each other, as one cell: each layer's output is the next one's input.

    The state is the tuple of the layers' states.

    Args:
        cells: the layers, bottom first.
        dropout: probability of dropping between the layers, in `stacked.with_rng(rng, N)`, the cell for one pass over a
            batch, which models use when they are given a generator.

    Raises:
        ConfigError: if there is no cell, or dropout is outside [0, 1).

    >>> import numpy as np, tinygrad_rnn as tr
    >>> rng = np.random.default_rng(0)
    >>> cell = tr.Stacked([tr.RNNCell(3, 4, rng), tr.LSTMCell(4, 5, rng)])
    >>> outputs, (h1, (h2, c2)) = tr.unroll(cell, np.ones((2, 6, 3), np.float32))
    >>> outputs.shape
    (2, 6, 5)
    """

    def __init__(self, cells: Sequence[Cell], dropout: float = 0.0) -> None:
        if not isinstance(cells, list | tuple) or not cells:
            raise ConfigError(f"Stacked: expected a list of at least one cell, got {cells!r}")
        for cell in cells:
            check_cell("Stacked", cell)
        self.cells = list(cells)
        self.dropout = Dropout(number("Stacked", "dropout", dropout, low=0, high=1, below=True))

    def initial_state(self, batch_size: int) -> tuple[State, ...]:
        """Return the tuple of the layers' initial states."""
        return tuple(initial_state(cell, batch_size, "Stacked") for cell in self.cells)

    def with_rng(self, rng: np.random.Generator, batch_size: int) -> Cell:
        """Return the cell with dropout drawn from `rng`, for one pass over a batch of N sequences."""
        generator("Stacked.with_rng", "rng", rng)
        cells = [drawing(cell, rng, batch_size) for cell in self.cells]
        return OnePass(self.initial_state, lambda x, state: self._stepped(cells, x, state, rng))

    def __call__(self, x: Operand, state: Sequence[State]) -> tuple[Value, tuple[State, ...]]:
        """Return (output of the top layer, tuple of new states)."""
        return self._stepped(self.cells, x, state, None)

    def _stepped(
        self, cells: list[Cell], x: Operand, state: Sequence[State], rng: np.random.Generator | None
    ) -> tuple[Value, tuple[State, ...]]:
        output: Operand = x
        states = []
        for layer, (cell, part) in enumerate(zip(cells, check_parts("Stacked", state, len(cells)), strict=True)):
            output, new = stepped(cell, self.dropout(output, rng) if layer else output, part)
            states.append(new)
        return cast(Value, output), tuple(states)  # there is at least one layer


class OnePass:
    """The cell with random draws for one pass over a batch; its initial state is that of the cell that it wraps."""

    def __init__(self, initial_state: Callable[[int], State], step: Cell) -> None:
        self._step, self.initial_state = step, initial_state

    def __call__(self, x: Operand, state: State) -> tuple[Value, State]:
        """Return (output, state) of one step."""
        return self._step(x, state)


CELLS = {"rnn": RNNCell, "lstm": LSTMCell, "gru": GRUCell}
"""The built-in cells by the names that models and the command line use."""
