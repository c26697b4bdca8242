"""Language models: a recurrent one, and CBOW, the starting point of the textbook chapter."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Literal, cast

import numpy as np
from numpy.typing import DTypeLike

from ..checks import flag, generator, integer
from ..engine.operands import operand
from ..engine.tape import scope
from ..engine.tensor import Operand, Tensor, Value, parameter
from ..errors import ConfigError, ShapeError
from ..ops import cross_entropy, expand_dims, reshape
from .base import batch_of_one, with_batch_axis, without_batch_axis
from .cells import CELLS, Cell, State, check_cell, check_parts, drawing, initial_state, output_size
from .layers import Dropout, Embedding, Linear
from .module import Module
from .unroll import unroll


class RNNLM(Module):
    """Recurrent language model: embedding, recurrent layers, logits over the vocabulary.

    P(w_{t+1} | w_1 .. w_t) = softmax(h_t @ W + b), h_t the output of the top layer.
    Sources: Mikolov et al. 2010; dropout between layers after Zaremba et al. 2014; tied weights after Press and
    Wolf 2017.

    Args:
        vocab_size: V.
        embedding_size: D.
        hidden_size: H of every layer.
        rng: generator that draws the weights.
        cell: "rnn", "lstm" or "gru"; or a class or function `f(input_size, hidden_size, rng)` that makes a cell (it is
            passed `dtype` too if it takes that); or, for one layer, an existing cell.
        layers: number of recurrent layers.
        dropout: probability of dropping, after the embedding, between layers and before the output.
        tied: use the embedding's table for the output too (needs D == H).
        embedding_scale: standard deviation of the embedding's entries at the start; None: 1, or 1/sqrt(D) if tied
            (the output's logits would start far too large). The chapter uses 0.01, which learns more slowly.
        dtype: dtype of the parameters; float32 by default.
        options: further arguments of each cell, such as `bias=False`, `proj_size=8` or `nonlinearity="relu"`.

    Raises:
        ConfigError: if a size, a probability or a name is out of range.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> model = tr.RNNLM(10, 8, 8, np.random.default_rng(0), cell="gru", tied=True)
    >>> logits, state = model(np.array([[1, 2, 3]]))
    >>> logits.shape
    (1, 3, 10)
    """

    def __init__(
        self,
        vocab_size: int,
        embedding_size: int,
        hidden_size: int,
        rng: np.random.Generator,
        *,
        cell: str | Cell | Callable[..., Cell] = "rnn",
        layers: int = 1,
        dropout: float = 0.0,
        tied: bool = False,
        embedding_scale: float | None = None,
        dtype: DTypeLike = np.float32,
        **options: object,
    ) -> None:
        vocab_size = integer("RNNLM", "vocab_size", vocab_size)
        embedding_size = integer("RNNLM", "embedding_size", embedding_size)
        hidden_size = integer("RNNLM", "hidden_size", hidden_size)
        layers = integer("RNNLM", "layers", layers)
        generator("RNNLM", "rng", rng)
        self.vocab_size = vocab_size
        self.tied = flag("RNNLM", "tied", tied)
        if embedding_scale is None:
            embedding_scale = embedding_size**-0.5 if tied else 1.0
        self.embedding = Embedding(vocab_size, embedding_size, rng, dtype, embedding_scale)
        self.layers: list[Cell] = []
        size = embedding_size
        for _ in range(layers):
            made = make_cell("RNNLM", cell, size, hidden_size, rng, dtype, layers == 1, **options)
            self.layers.append(made)
            size = output_size(made, hidden_size)
        if tied and embedding_size != size:
            raise ConfigError(
                f"RNNLM: tied weights need embedding_size == hidden_size, got {embedding_size} and {size} "
                "(the size of a cell's outputs)"
            )
        self.dropout = Dropout(dropout)
        self.output = parameter(np.zeros(vocab_size), dtype, "b") if tied else Linear(size, vocab_size, rng, dtype)

    def initial_state(self, batch_size: int) -> tuple[State, ...]:
        """Return a fresh state: the tuple of the layers' initial states."""
        return tuple(initial_state(cell, batch_size) for cell in self.layers)

    def __call__(
        self,
        ids: Operand,
        state: Sequence[State] | None = None,
        *,
        rng: np.random.Generator | None = None,
        cut_every: int | None = None,
        lengths: Operand | None = None,
    ) -> tuple[Tensor, tuple[State, ...]]:
        """Return the logits of the token after each position, and the new state.

        Args:
            ids: (N, T) integers in [0, V); or one sequence (T,), whose logits are (T, V), and whose states have no
                axis N either.
            state: state before the first position; None: `initial_state(N)`.
            rng: generator for dropout; None: nothing is dropped (evaluation).
            cut_every: steps between cuts, as in `unroll`.
            lengths: (N,) true lengths, as in `unroll`.

        Returns:
            logits (N, T, V) and the state after the last position.
        """
        ids = operand(ids, "RNNLM", "ids")
        if ids.ndim == 1:
            start = None if state is None else check_parts("RNNLM", with_batch_axis(state), len(self.layers))
            batch, after = self(expand_dims(ids, 0), start, rng=rng, cut_every=cut_every, lengths=lengths)
            return batch[0], cast("tuple[State, ...]", without_batch_axis(after))
        if ids.ndim != 2:
            raise ShapeError(f"RNNLM: expected ids of shape (N, T), got {ids.shape}")
        if state is None:
            state = self.initial_state(ids.shape[0])
        parts = check_parts("RNNLM", state, len(self.layers))
        with scope("embedding"):
            hs: Value = self.dropout(self.embedding(ids), rng)
        states = []
        for number, (cell, part) in enumerate(zip(self.layers, parts, strict=True)):
            with scope(f"layers.{number}"):
                hs, new = unroll(drawing(cell, rng, hs.shape[0]), hs, part, cut_every, lengths)
                hs = self.dropout(hs, rng)
            states.append(new)
        with scope("output"):
            logits = hs @ self.embedding.W.T + self.output if isinstance(self.output, Tensor) else self.output(hs)
        return cast(Tensor, logits), tuple(states)  # an array times a Tensor is one

    def loss(
        self,
        ids: Operand,
        targets: Operand,
        state: Sequence[State] | None = None,
        *,
        rng: np.random.Generator | None = None,
        cut_every: int | None = None,
        lengths: Operand | None = None,
        ignore_label: int = -1,
    ) -> tuple[Tensor, tuple[State, ...]]:
        """Return the mean nats per unmasked position of `targets` (N, T), and the new state; see `__call__`."""
        logits, state = self(ids, state, rng=rng, cut_every=cut_every, lengths=lengths)
        return cross_entropy(logits, targets, ignore_label), state


def make_cell(
    function: str,
    cell: object,
    input_size: int,
    hidden_size: int,
    rng: np.random.Generator,
    dtype: DTypeLike,
    single: bool,
    **options: object,
) -> Cell:
    """Return a cell made from a name, a class or a function; or an existing cell, if a `single` one is needed.

    Raises:
        ConfigError: if there is no such name, it is not callable, an existing cell is needed twice or given options, or
            the cell does not take an option.
    """
    if hasattr(cell, "initial_state") and not isinstance(cell, type):
        if not single:
            raise ConfigError(f"{function}: an existing cell serves one layer; pass its class for several layers")
        if options:
            raise ConfigError(f"{function}: an existing cell takes no {', '.join(options)}; make the cell with them")
        return cast(Cell, cell)
    if isinstance(cell, str):
        if cell not in CELLS:
            raise ConfigError(f"{function}: cell must be one of {', '.join(CELLS)}, or a callable; got {cell!r}")
        cell = CELLS[cell]
    if not callable(cell):
        raise ConfigError(f"{function}: cell must be a name or a callable, got {type(cell).__name__}")
    factory: Callable[..., Cell] = cell
    signature = inspect.signature(factory)
    if "dtype" in signature.parameters:
        options = {"dtype": dtype, **options}
    try:
        signature.bind(input_size, hidden_size, rng, **options)
    except TypeError as error:
        name = getattr(factory, "__name__", type(factory).__name__)
        raise ConfigError(f"{function}: {name}: {error}; it takes {', '.join(signature.parameters)}") from error
    made = factory(input_size, hidden_size, rng, **options)
    check_cell(f"{function}: {getattr(factory, '__name__', cell)}", made)
    return made


class CBOW(Module):
    """Continuous bag of words as a language model: the next word from the `window` words before it.

    combine="sum":    logits = (sum over the window of the word vectors) @ W + b: the order of the words is lost.
    combine="concat": logits = (the word vectors side by side) @ W + b: W grows with the window.
    Sources: Mikolov et al. 2013 (CBOW); Bengio et al. 2003 (concatenation).

    Args:
        vocab_size: V.
        embedding_size: D.
        window: C, the number of words before the predicted one.
        rng: generator that draws the weights.
        combine: "sum" or "concat".
        dtype: dtype of the parameters; float32 by default.

    Raises:
        ConfigError: if a size is below 1 or `combine` is unknown.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> model = tr.CBOW(10, 4, 2, np.random.default_rng(0))
    >>> bool(np.array_equal(model([[1, 2]]).data, model([[2, 1]]).data))
    True
    """

    def __init__(
        self,
        vocab_size: int,
        embedding_size: int,
        window: int,
        rng: np.random.Generator,
        *,
        combine: Literal["sum", "concat"] = "sum",
        dtype: DTypeLike = np.float32,
    ) -> None:
        if combine not in ("sum", "concat"):
            raise ConfigError(f'CBOW: combine must be "sum" or "concat", got {combine!r}')
        self.window, self.combine = integer("CBOW", "window", window), combine
        self.embedding = Embedding(vocab_size, embedding_size, rng, dtype, scale=0.01)
        width = embedding_size if combine == "sum" else window * embedding_size
        self.output = Linear(width, vocab_size, rng, dtype)

    def __call__(self, contexts: Operand) -> Tensor:
        """Return the logits (N, V) of the word after each context (N, C) of ids."""
        contexts = operand(contexts, "CBOW", "contexts")
        shape = contexts.shape
        if len(shape) != 2 or shape[1] != self.window:
            raise ShapeError(
                f"CBOW: expected contexts of shape (N, C) = (N, {self.window}), got {shape}"
                + batch_of_one("contexts", contexts, 1)
            )
        vectors = self.embedding(contexts)
        if self.combine == "sum":
            return self.output(vectors.sum(axis=1))
        return self.output(reshape(vectors, (shape[0], -1)))

    def loss(self, contexts: Operand, targets: Operand) -> Tensor:
        """Return the mean nats per word of `targets` (N,)."""
        return cross_entropy(self(contexts), targets)
