"""Recurrent cells: parameters, and one step written only in graph operations.

A cell is any callable `cell(x, state) -> (output, state)` with x (N, D) and output (N, H); the state is a Tensor or
any nesting of tuples. These classes have no privileges over a cell of your own. They also take x (D,) with a state
(H,), one sequence without the axis N.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias, TypeVar, cast

import numpy as np
from numpy.typing import DTypeLike

from ..checks import generator, integer, number
from ..engine.operands import as_value
from ..engine.tensor import Operand, Tensor, Value, parameter
from ..engine.tree import flatten, map_leaves
from ..errors import ConfigError, ShapeError
from ..ops import relu, sigmoid, split, tanh
from .base import GatedCell, PairCell, check_nonlinearity, in_words
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


def check_cell(function: str, cell: object) -> None:
    """Raise `ConfigError` if this is not a cell, but a class, a name or a layer of cells, for instance."""
    check_callable(function, cell)
    if getattr(cell, "time_axis", False) is True:
        name = type(cell).__name__
        raise ConfigError(
            f"{function}: expected a cell, which takes one step, got {name}, which reads whole sequences; call it "
            "itself: outputs, states = layers(xs, states)"
        )


def check_callable(function: str, cell: object) -> None:
    """Raise `ConfigError` if this cannot be called as cell(x, state)."""
    if isinstance(cell, type) or not callable(cell):
        raise ConfigError(
            f"{function}: expected a cell, a callable cell(x, state) -> (output, state), got {cell!r}"
            + ("; make one of the class first" if isinstance(cell, type) else "")
        )


def axes_of_a_step(cell: object, x: object) -> int:
    """Return how many axes x has at one step of a cell: 2, (N, D); or 1, ids (N,), if it says `time_axis = False`."""
    if getattr(cell, "time_axis", None) is not False:
        return 2
    return 1 if as_value(cast(Operand, x)).dtype.kind in "iu" else 2


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
    """Return `cell.initial_state(batch_size)`, or raise `ConfigError` if the cell has none."""
    initial = getattr(cell, "initial_state", None)
    if initial is None:
        name = getattr(cell, "__name__", type(cell).__name__)
        raise ConfigError(f"{function}: the cell {name} has no initial_state(batch_size); pass state=")
    return initial(batch_size)


def check_parts(function: str, state: State, count: int) -> Sequence[State]:
    """Return a state of layers, or raise `ShapeError` if it does not have one part for each of them."""
    if not isinstance(state, tuple | list) or len(state) != count:
        raise ShapeError(
            f"{function}: expected a state of {count} part{'s' * (count != 1)}, one for each layer, got "
            f"{in_words(state)}; start from initial_state(N)"
        )
    return state


def output_size(cell: object, hidden_size: int) -> int:
    """Return the length of the last axis of a cell's output: its attribute `output_size`, or H if it has none."""
    return int(getattr(cell, "output_size", hidden_size))


def copy_sizes(module: Module, first: Cell, last: Cell) -> None:
    """Give a cell that is made of others the `input_size` of the first and the `output_size` of the last, if any."""
    for name, cell in (("input_size", first), ("output_size", last)):
        if hasattr(cell, name):
            setattr(module, name, getattr(cell, name))


def drawing(cell: Cell, rng: np.random.Generator | None, batch_size: int) -> Cell:
    """Return the cell for one pass over a batch: `cell.with_rng(rng, N)` if there is a generator and the cell draws.

    A module of the user's draws if one of its attributes does, or an element of a list, tuple or dict there: then it is
    a copy, with those for one pass in it.
    """
    with_rng: Callable[[np.random.Generator, int], Cell] | None = getattr(cell, "with_rng", None)
    if rng is None or with_rng is not None or not isinstance(cell, Module):
        return cell if rng is None or with_rng is None else with_rng(rng, batch_size)
    parts = {
        name: map_leaves(lambda part: drawing(part, rng, batch_size) if isinstance(part, Module) else part, held)
        for name, held in vars(cell).items()
        if isinstance(held, Module | list | tuple | dict)
    }
    drawn = {name for name, held in parts.items() if _differ(held, vars(cell)[name])}
    if not drawn:
        return cell
    made = copy.copy(cell)
    vars(made).update({name: parts[name] for name in drawn})
    return made


def _differ(nest: object, other: object) -> bool:
    return any(a is not b for a, b in zip(flatten(nest), flatten(other), strict=True))


class RNNCell(GatedCell):
    """The Elman cell: h' = tanh(x @ Wx + h @ Wh + b). Source: Elman 1990, Finding structure in time.

    Args:
        input_size: D.
        hidden_size: H.
        rng: generator that draws the weights.
        dtype: dtype of the parameters; float32 by default.
        nonlinearity: "tanh" or "relu".
        bias: whether there is a b.

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
        *,
        bias: bool = True,
    ) -> None:
        self.nonlinearity = check_nonlinearity("RNNCell", nonlinearity)
        super().__init__(input_size, hidden_size, rng, dtype, bias=bias)

    def initial_state(self, batch_size: int) -> Tensor:
        """Return zeros (N, H)."""
        return self._zeros(batch_size)

    def __call__(self, x: Operand, state: Operand) -> tuple[Tensor, Tensor]:
        """Return (output, state) of one step; both are h' (N, H)."""
        x, h = self._inputs(x, state)
        sums = self._from_input(x) + h @ self.Wh
        if self.nonlinearity == "relu":
            h = relu(sums)
            return h, h
        h = tanh(sums)
        return h, h


class LSTMCell(PairCell):
    """Long short-term memory. Source: Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000.

    i, f, o = sigmoid(...), g = tanh(...) of x @ Wx + h @ Wh + b, in this order of columns;
    c' = f * c + i * g,  h' = o * tanh(c').

    With a projection h' = (o * tanh(c')) @ Wp, Wp (H, P), and Wh is (P, 4H): the output and h are (N, P), c is (N, H).
    Source: Sak, Senior and Beaufays 2014, Long short-term memory based recurrent neural network architectures.

    PyTorch orders the columns (i, f, g, o) and has two biases, whose sum is b; its weight_hr is the transpose of Wp.
    The forget gate's bias starts at `forget_bias`.

    Args:
        input_size: D.
        hidden_size: H.
        rng: generator that draws the weights.
        dtype: dtype of the parameters; float32 by default.
        forget_bias: initial value of the forget gate's part of b. 1 helps on tasks with long gaps (Jozefowicz et al.
            2015); on text, in short runs, 0 learns faster.
        bias: whether there is a b.
        proj_size: P, the size of the projection; None: no projection.

    Raises:
        ConfigError: if a size is not an integer of 1 or more, `rng` is not a generator, or there is a forget bias, but
            no bias.
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
        *,
        bias: bool = True,
        proj_size: int | None = None,
    ) -> None:
        size = None if proj_size is None else integer("LSTMCell", "proj_size", proj_size)
        super().__init__(input_size, hidden_size, rng, dtype, bias=bias, output_size=size)
        forget_bias = number("LSTMCell", "forget_bias", forget_bias)
        if self.b is not None:
            self.b.data = np.repeat([0.0, forget_bias, 0.0, 0.0], hidden_size)
        elif forget_bias:
            raise ConfigError(f"LSTMCell: forget_bias needs a bias, got forget_bias={forget_bias} and bias=False")
        self.Wp = None
        if size is not None:
            self.Wp = parameter(rng.standard_normal((hidden_size, size)) / np.sqrt(hidden_size), dtype, "Wp")

    def initial_state(self, batch_size: int) -> tuple[Tensor, Tensor]:
        """Return (h, c), zeros (N, H) each, or (N, P) and (N, H)."""
        return self._zeros(batch_size, self.output_size), self._zeros(batch_size)

    def __call__(self, x: Operand, state: tuple[Operand, Operand]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return (output, state) of one step: h' and (h', c')."""
        x, h, c = self._inputs(x, *self._pair(state), sizes=(self.output_size, self.hidden_size))
        sigmoids, candidate = split(self._from_input(x) + h @ self.Wh, (3 * self.hidden_size,), axis=-1)
        i, f, o = split(sigmoid(sigmoids), 3, axis=-1)
        c = f * c + i * tanh(candidate)
        h = o * tanh(c)
        if self.Wp is not None:
            h = h @ self.Wp
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
        bias: whether there are b and bh.

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
        *,
        bias: bool = True,
    ) -> None:
        if reset not in ("after", "before"):
            raise ConfigError(f'GRUCell: reset must be "after" or "before", got {reset!r}')
        super().__init__(input_size, hidden_size, rng, dtype, bias=bias)
        self.reset = reset
        self.bh = parameter(np.zeros(hidden_size), dtype, "bh") if bias and reset == "after" else None

    def initial_state(self, batch_size: int) -> Tensor:
        """Return zeros (N, H)."""
        return self._zeros(batch_size)

    def __call__(self, x: Operand, state: Operand) -> tuple[Tensor, Tensor]:
        """Return (output, state) of one step; both are h' (N, H)."""
        x, h = self._inputs(x, state)
        at = (2 * self.hidden_size,)
        x_gates, x_candidate = split(self._from_input(x), at, axis=-1)
        if self.reset == "after":
            h_gates, h_candidate = split(h @ self.Wh, at, axis=-1)
            r, z = split(sigmoid(x_gates + h_gates), 2, axis=-1)
            if self.bh is not None:
                n = tanh(x_candidate + r * (h_candidate + self.bh))
            else:
                n = tanh(x_candidate + r * h_candidate)
        else:
            Wh_gates, Wh_candidate = split(self.Wh, at, axis=-1)
            r, z = split(sigmoid(x_gates + h @ Wh_gates), 2, axis=-1)
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
        copy_sizes(self, cells[0], cells[-1])

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
