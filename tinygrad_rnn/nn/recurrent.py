"""Layers of cells over whole sequences, in one direction or in both, and a model made of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, cast

import numpy as np
from numpy.typing import DTypeLike

from ..checks import flag, integer
from ..engine.operands import operand
from ..engine.tape import scope
from ..engine.tensor import Operand, Tensor, Value
from ..errors import ShapeError
from ..ops import concatenate, expand_dims, reshape, take_along_axis
from .base import with_batch_axis, without_batch_axis
from .cells import Cell, State, check_parts, drawing, initial_state, output_size
from .layers import Dropout, Linear
from .models import make_cell
from .module import Module
from .unroll import bidirectional, unroll


class RecurrentLayers(Module):
    """Layers of cells, each of which reads all outputs of the one below: (outputs, states) = layers(xs, states).

    If bidirectional, each layer has two cells whose outputs are concatenated, and the next layer reads both.

    Args:
        cell: "rnn", "lstm", "gru", or a class or function that makes a cell, as in `RNNLM`.
        input_size: D.
        hidden_size: H of each cell.
        rng: generator that draws the weights.
        layers: number of layers.
        bidirectional: whether each layer reads in both directions.
        dropout: probability of dropping between layers; see `Dropout`.
        dtype: dtype of the parameters; float32 by default.
        options: further arguments of each cell, such as `bias=False`, `proj_size=8` or `nonlinearity="relu"`.

    Attributes:
        input_size: D.
        output_size: length of the last axis of the outputs.

    Raises:
        ConfigError: if a size, a probability or a name is out of range.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> layers = tr.RecurrentLayers("gru", 3, 4, np.random.default_rng(0), layers=2, bidirectional=True)
    >>> outputs, states = layers(np.ones((2, 5, 3), np.float32), lengths=np.array([5, 2]))
    >>> outputs.shape, len(states)
    ((2, 5, 8), 2)
    """

    time_axis: ClassVar[bool] = True
    """It reads sequences (N, T, D), not single steps as a cell does; `Stepper`, `draw` and `check_grads` ask."""

    def __init__(
        self,
        cell: str | Cell | Callable[..., Cell],
        input_size: int,
        hidden_size: int,
        rng: np.random.Generator,
        *,
        layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        dtype: DTypeLike = np.float32,
        **options: object,
    ) -> None:
        name = "RecurrentLayers"
        input_size, hidden_size = integer(name, "input_size", input_size), integer(name, "hidden_size", hidden_size)
        layers, self.bidirectional = integer(name, "layers", layers), flag(name, "bidirectional", bidirectional)
        directions = 1 + self.bidirectional
        single = layers * directions == 1
        self.layers: list[list[Cell]] = []
        self.input_size: int = input_size
        self.output_size: int = input_size
        for _ in range(layers):
            size = self.output_size
            cells = [make_cell(name, cell, size, hidden_size, rng, dtype, single, **options) for _ in range(directions)]
            self.output_size = sum(output_size(cell, hidden_size) for cell in cells)
            self.layers.append(cells)
        self.dropout = Dropout(dropout)

    def initial_state(self, batch_size: int) -> tuple[State, ...]:
        """Return the tuple of the layers' states; if bidirectional, each is a pair."""
        states = [tuple(initial_state(cell, batch_size) for cell in cells) for cells in self.layers]
        return tuple(states) if self.bidirectional else tuple(state for (state,) in states)

    def __call__(
        self,
        xs: Operand,
        state: State = None,
        *,
        lengths: Operand | None = None,
        cut_every: int | None = None,
        rng: np.random.Generator | None = None,
    ) -> tuple[Value, tuple[State, ...]]:
        """Return outputs (N, T, H), or (N, T, 2H), of the top layer, and the states of all.

        Args:
            xs: (N, T, D); or one sequence (T, D), as in `unroll`.
            state: a state like that of `initial_state`; None: the initial state.
            lengths: (N,) true lengths, as in `unroll`.
            cut_every: steps between cuts, as in `unroll`.
            rng: generator for dropout, and for cells that draw; None: no draws (evaluation).

        Raises:
            ShapeError, DTypeError, ConfigError: as `unroll`.
        """
        xs = operand(xs, "RecurrentLayers", "xs")
        if xs.ndim == 2:
            start = with_batch_axis(state)
            batch, after = self(expand_dims(xs, 0), start, lengths=lengths, cut_every=cut_every, rng=rng)
            return batch[0], cast("tuple[State, ...]", without_batch_axis(after))
        if xs.ndim != 3:
            raise ShapeError(f"RecurrentLayers: expected xs of shape (N, T, D) with T >= 1, got {xs.shape}")
        parts = None if state is None else check_parts("RecurrentLayers", state, len(self.layers))
        states: list[State] = []
        new: State
        hs: Value = xs
        for number, cells in enumerate(self.layers):
            before = None if parts is None else parts[number]
            with scope(f"layers.{number}"):
                if number:
                    hs = self.dropout(hs, rng)
                forward, *backward = [drawing(cell, rng, len(hs)) for cell in cells]
                if backward:
                    both = (None, None) if before is None else cast(tuple[State, State], before)
                    hs, new = bidirectional(forward, backward[0], hs, both, cut_every, lengths)
                else:
                    hs, new = unroll(forward, hs, before, cut_every, lengths)
            states.append(new)
        return hs, tuple(states)


class SequenceModel(Module):
    """Recurrent layers and a linear layer: an output for each step of a sequence, or one for the whole sequence.

    y_t = h_t @ W + b, where h_t (N, H) is the output of the top layer. With `last`, y = h @ W + b for the h at each
    sequence's last step; of a cell that reads backward, at the first step, which it reads last.

    Args:
        cell: "rnn", "lstm", "gru", or a class or function that makes a cell, as in `RNNLM`.
        input_size: D.
        hidden_size: H of each cell.
        output_size: length of the last axis of the outputs.
        rng: generator that draws the weights.
        last: whether there is one output for the whole sequence.
        layers, bidirectional: as in `RecurrentLayers`.
        dropout: probability of dropping, between layers and before the linear layer.
        dtype: dtype of the parameters; float32 by default.
        options: further arguments of each cell.

    Raises:
        ConfigError: if a size, a probability or a name is out of range.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> xs, rng = np.ones((2, 5, 3), np.float32), np.random.default_rng(0)
    >>> tr.SequenceModel("gru", 3, 4, 7, rng)(xs).shape, tr.SequenceModel("gru", 3, 4, 7, rng, last=True)(xs).shape
    ((2, 5, 7), (2, 7))
    """

    def __init__(
        self,
        cell: str | Cell | Callable[..., Cell],
        input_size: int,
        hidden_size: int,
        output_size: int,
        rng: np.random.Generator,
        *,
        last: bool = False,
        layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        dtype: DTypeLike = np.float32,
        **options: object,
    ) -> None:
        self.last = flag("SequenceModel", "last", last)
        self.layers = RecurrentLayers(
            cell,
            input_size,
            hidden_size,
            rng,
            layers=layers,
            bidirectional=bidirectional,
            dropout=dropout,
            dtype=dtype,
            **options,
        )
        self.input_size = self.layers.input_size
        self.dropout = Dropout(dropout)
        self.output = Linear(self.layers.output_size, output_size, rng, dtype)

    def __call__(
        self, xs: Operand, *, lengths: Operand | None = None, rng: np.random.Generator | None = None
    ) -> Tensor:
        """Return the outputs (N, T, output_size), or (N, output_size) with `last`.

        Args:
            xs: (N, T, D); or one sequence (T, D), whose outputs have no axis N.
            lengths: (N,) true lengths, as in `unroll`. After its length a sequence's outputs are b.
            rng: generator for dropout; None: nothing is dropped (evaluation).

        Raises:
            ShapeError, DTypeError: as `unroll`.
        """
        xs = operand(xs, "SequenceModel", "xs")
        if xs.ndim == 2:
            return self(expand_dims(xs, 0), lengths=lengths, rng=rng)[0]
        hs, _ = self.layers(xs, lengths=lengths, rng=rng)
        return self.output(self.dropout(self._at_last(hs, lengths) if self.last else hs, rng))

    def _at_last(self, hs: Value, lengths: Operand | None) -> Value:
        """Return the outputs (N, H), or (N, 2H), of the steps that were read last."""
        if lengths is None:
            found = hs[:, -1]
        else:
            steps = reshape(operand(lengths, "SequenceModel", "lengths"), (-1, 1, 1)) - 1
            found = take_along_axis(hs, steps, axis=1)[:, 0]
        if not self.layers.bidirectional:
            return found
        half = hs.shape[2] // 2
        return concatenate([found[:, :half], hs[:, 0, half:]], axis=1)
