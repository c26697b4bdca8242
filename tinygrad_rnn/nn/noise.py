"""Noise in the recurrence, as wrappers of any cell: zoneout, and dropout with one mask for all steps."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TypeGuard, cast, overload

import numpy as np

from ..checks import generator, number, texts
from ..engine.operands import without_gradient
from ..engine.tape import Array
from ..engine.tensor import Operand, Tensor, Value
from ..engine.tree import flatten, map_leaves, rebuild
from ..errors import ConfigError
from ..ops import multiply, where
from .cells import Cell, OnePass, State, check_cell, copy_sizes, drawing, initial_state, stepped
from .draws import whole
from .module import Module


class Zoneout(Module):
    """A cell in which, at each step, each element of the state keeps its old value with probability p.

    state' = m * state + (1 - m) * cell(x, state), m drawn from Bernoulli(p); without a generator (evaluation) m = p.
    Source: Krueger et al. 2017, Zoneout: regularizing RNNs by randomly preserving hidden activations.

    `zoneout.with_rng(rng, N)` is the cell with draws for one pass over a batch; models use it when they are given a
    generator. The output is that of the cell itself, or, if that is a part of its state, the corresponding part of the
    new state.

    Args:
        cell: any cell.
        p: probability in [0, 1).

    Raises:
        ConfigError: if p is outside [0, 1), or `cell` is not a cell.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> rng = np.random.default_rng(0)
    >>> cell, xs = tr.Zoneout(tr.GRUCell(3, 4, rng), 0.1), np.ones((2, 5, 3), np.float32)
    >>> outputs, state = tr.unroll(cell.with_rng(rng, 2), xs)
    >>> outputs.shape
    (2, 5, 4)
    """

    def __init__(self, cell: Cell, p: float) -> None:
        check_cell("Zoneout", cell)
        self.cell = cell
        copy_sizes(self, cell, cell)
        self.p = number("Zoneout", "p", p, low=0, high=1, below=True)

    def initial_state(self, batch_size: int) -> State:
        """Return the initial state of the cell."""
        return initial_state(self.cell, batch_size)

    def __call__(self, x: Operand, state: State) -> tuple[Value, State]:
        """Return (output, state) of one step without draws, with the mean of m."""
        return self._stepped(self.cell, x, state, None)

    def with_rng(self, rng: np.random.Generator, batch_size: int) -> Cell:
        """Return the cell that draws from `rng`, for one pass over a batch of N sequences."""
        generator("Zoneout.with_rng", "rng", rng)
        cell = drawing(self.cell, rng, batch_size)
        return OnePass(self.initial_state, lambda x, state: self._stepped(cell, x, state, rng))

    def _stepped(self, cell: Cell, x: Operand, state: State, rng: np.random.Generator | None) -> tuple[Value, State]:
        output, new = stepped(cell, x, state)

        def choose(after: object, before: Value) -> object:
            if not _is_real(after):
                return after
            if rng is None:
                return after + self.p * (before - after)
            stays = without_gradient("zoneout", _drawn, rng, after.shape, self.p, repeatable=False)
            return where(stays, before, after)

        kept = map_leaves(choose, new, state)
        pairs = zip(flatten(new), flatten(kept), strict=True)
        return next((part for made, part in pairs if made is output), output), kept


class VariationalDropout(Module):
    """A cell in which the same units of input and state are dropped at each step of a sequence.

    x and h are multiplied by masks that are drawn once for each sequence: 0 with probability p, else 1 / (1 - p); h is
    the first part of the state, so that an LSTM's memory is kept. Source: Gal and Ghahramani 2016, A theoretically
    grounded application of dropout in recurrent neural networks.

    `dropout.with_rng(rng, N)` is the cell with draws for one pass over a batch; models use it when they are given a
    generator. Without one (evaluation) nothing is dropped.

    Args:
        cell: a cell with an `input_size` and an `initial_state`.
        inputs: p of the inputs, in [0, 1).
        states: p of the state, in [0, 1).

    Raises:
        ConfigError: if a p is outside [0, 1), or `cell` is not a cell with an `input_size`.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> rng = np.random.default_rng(0)
    >>> cell = tr.VariationalDropout(tr.LSTMCell(3, 4, rng), inputs=0.2, states=0.3)
    >>> outputs, state = tr.unroll(cell.with_rng(rng, 2), np.ones((2, 5, 3), np.float32))
    >>> outputs.shape
    (2, 5, 4)
    """

    def __init__(self, cell: Cell, inputs: float = 0.0, states: float = 0.0) -> None:
        check_cell("VariationalDropout", cell)
        if not hasattr(cell, "input_size"):
            raise ConfigError(f"VariationalDropout: {type(cell).__name__} has no input_size: set it to D")
        self.cell = cell
        copy_sizes(self, cell, cell)
        self.inputs = number("VariationalDropout", "inputs", inputs, low=0, high=1, below=True)
        self.states = number("VariationalDropout", "states", states, low=0, high=1, below=True)

    def initial_state(self, batch_size: int) -> State:
        """Return the initial state of the cell."""
        return initial_state(self.cell, batch_size)

    def __call__(self, x: Operand, state: State) -> tuple[Value, State]:
        """Return (output, state) of one step, without draws."""
        return stepped(self.cell, x, state)

    def with_rng(self, rng: np.random.Generator, batch_size: int) -> Cell:
        """Return the cell with masks drawn from `rng` now, for one pass over a batch of N sequences."""
        generator("VariationalDropout.with_rng", "rng", rng)
        cell = drawing(self.cell, rng, batch_size)
        width = flatten(self.initial_state(batch_size))[0].shape
        x_kept = draw_kept(rng, (batch_size, self.cell.input_size), self.inputs)
        h_kept = draw_kept(rng, width, self.states)

        def step(x: Operand, state: State) -> tuple[Value, State]:
            parts = flatten(state)
            parts[0] = drop(parts[0], h_kept, self.states)
            return stepped(cell, drop(x, x_kept, self.inputs), rebuild(state, iter(parts)))

        return OnePass(self.initial_state, step)


class WeightDrop(Module):
    """A cell in which entries of its recurrent matrices are dropped: the same ones at each step of a pass.

    W becomes m * W / (1 - p), with m drawn from Bernoulli(1 - p) once for a pass over a batch. Sources: Wan et al.
    2013, Regularization of neural networks using DropConnect; Merity, Keskar and Socher 2018, Regularizing and
    optimizing LSTM language models.

    `dropped.with_rng(rng, N)` is the cell with draws for one pass over a batch; models use it when they are given a
    generator. Without one (evaluation) nothing is dropped.

    Args:
        cell: a cell, a `Module` with the weights as attributes.
        p: probability in [0, 1).
        names: attributes of the cell, the weights that are dropped from; or one alone. Those of a module in the cell
            are named as in `parameters()`: "inner.Wh".

    Raises:
        ConfigError: if p is outside [0, 1), `cell` is not a cell, or has no parameter of such a name.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> rng = np.random.default_rng(0)
    >>> cell = tr.WeightDrop(tr.LSTMCell(3, 4, rng), 0.5)
    >>> outputs, state = tr.unroll(cell.with_rng(rng, 2), np.ones((2, 5, 3), np.float32))
    >>> outputs.shape
    (2, 5, 4)
    """

    def __init__(self, cell: Cell, p: float, names: Sequence[str] = ("Wh",)) -> None:
        check_cell("WeightDrop", cell)
        self.cell = cell
        copy_sizes(self, cell, cell)
        self.p = number("WeightDrop", "p", p, low=0, high=1, below=True)
        self.names = texts("WeightDrop", "names", names)
        for name in self.names:
            if not isinstance(_attribute(cell, name), Tensor):
                known = list(cell.parameters()) if isinstance(cell, Module) else "none, as it is no Module"
                raise ConfigError(
                    f"WeightDrop: names: {type(cell).__name__} has no attribute {name!r} that is a parameter; its "
                    f"parameters are {known}"
                )

    def initial_state(self, batch_size: int) -> State:
        """Return the initial state of the cell."""
        return initial_state(self.cell, batch_size)

    def __call__(self, x: Operand, state: State) -> tuple[Value, State]:
        """Return (output, state) of one step, without draws."""
        return stepped(self.cell, x, state)

    def with_rng(self, rng: np.random.Generator, batch_size: int) -> Cell:
        """Return the cell with weights dropped now, by draws from `rng`, for one pass over a batch of N sequences."""
        generator("WeightDrop.with_rng", "rng", rng)
        cell = self.cell
        for name in self.names:
            W = cast(Tensor, _attribute(cell, name))
            cell = _with_attribute(cell, name, drop(W, draw_kept(rng, W.shape, self.p, of_rows=False), self.p))
        return OnePass(self.initial_state, drawing(cell, rng, batch_size))


def _attribute(owner: object, path: str) -> object:
    """Return `owner.a.b` for the path "a.b"; None if there is none."""
    for name in path.split("."):
        owner = getattr(owner, name, None)
    return owner


def _with_attribute(owner: Cell, path: str, value: object) -> Cell:
    """Return a copy of a cell in which the attribute at a path has another value."""
    name, _, rest = path.partition(".")
    made = copy.copy(owner)
    setattr(made, name, _with_attribute(getattr(owner, name), rest, value) if rest else value)
    return made


def _is_real(part: object) -> TypeGuard[Value]:
    return isinstance(part, Tensor | np.ndarray) and part.dtype.kind in "fc"


def draw_kept(rng: np.random.Generator, shape: tuple[int, ...], p: float, of_rows: bool = True) -> Value | None:
    """Return a mask, True with probability 1 - p; None if p is 0.

    `of_rows` says whether the first axis is that of the sequences of a batch, of which a process may hold some.
    """
    return (
        without_gradient("dropout", _drawn if of_rows else _shared, rng, shape, 1 - p, repeatable=False) if p else None
    )


def _drawn(rng: np.random.Generator, shape: tuple[int, ...], p: float) -> Array:
    return np.asarray(rng.random(shape, dtype=np.float32) < p)


def _shared(rng: np.random.Generator, shape: tuple[int, ...], p: float) -> Array:
    return _drawn(whole(rng), shape, p)


@overload
def drop(x: Tensor, kept: Value | None, p: float) -> Tensor: ...
@overload
def drop(x: Operand, kept: Value | None, p: float) -> Operand: ...
def drop(x: Operand, kept: Value | None, p: float) -> Operand:
    """Return x / (1 - p) where the mask is True, else 0; x without a mask."""
    return x if kept is None else where(kept, multiply(x, 1 / (1 - p)), 0)
