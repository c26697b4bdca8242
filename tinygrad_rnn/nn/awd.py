"""A language model with dropped weights and dropout everywhere else: AWD-LSTM."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import numpy as np
from numpy.typing import DTypeLike

from ..checks import generator, integer, number
from ..engine.operands import operand
from ..engine.tape import scope
from ..engine.tensor import Operand, Tensor, parameter
from ..errors import ShapeError
from ..ops import cross_entropy, mean, square, take
from .cells import LSTMCell, State, check_parts, drawing
from .module import Module
from .noise import WeightDrop, draw_kept, drop
from .unroll import unroll


class AWDLM(Module):
    """LSTM language model with dropped weights, dropout whose masks are the same at each step, and tied weights.

    P(w_{t+1} | w_1 .. w_t) = softmax(h_t @ E.T + b), h_t the output of the top layer, which has D units; E (V, D) is
    the embedding. With a generator (in training) whole words are dropped from the embedding; entries of each layer's
    recurrent matrix (`WeightDrop`); and units of the inputs, of the outputs, and between the layers, with one mask for
    all steps of a sequence. The loss then has two more terms, alpha * mean(d^2) + beta * mean((h_t - h_{t-1})^2), with
    d the outputs after dropout, h those before it.
    Source: Merity, Keskar and Socher 2018, Regularizing and optimizing LSTM language models.

    Args:
        vocab_size: V.
        embedding_size: D.
        hidden_size: H of all layers but the top one.
        rng: generator that draws the weights.
        layers: number of LSTM layers.
        dropout: probability of dropping a unit of the inputs and of the outputs.
        between: probability of dropping a unit between two layers.
        words: probability of dropping a word.
        weights: probability of dropping an entry of a recurrent matrix.
        alpha, beta: weights of the two terms, 0 or more.
        dtype: dtype of the parameters; float32 by default.

    Raises:
        ConfigError: if a size or a probability is out of range.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> model = tr.AWDLM(10, 4, 6, np.random.default_rng(0))
    >>> logits, state = model(np.array([[1, 2, 3]]))
    >>> logits.shape, len(state)
    ((1, 3, 10), 3)
    """

    def __init__(
        self,
        vocab_size: int,
        embedding_size: int,
        hidden_size: int,
        rng: np.random.Generator,
        *,
        layers: int = 3,
        dropout: float = 0.4,
        between: float = 0.25,
        words: float = 0.1,
        weights: float = 0.5,
        alpha: float = 2.0,
        beta: float = 1.0,
        dtype: DTypeLike = np.float32,
    ) -> None:
        self.vocab_size = integer("AWDLM", "vocab_size", vocab_size)
        D, H = integer("AWDLM", "embedding_size", embedding_size), integer("AWDLM", "hidden_size", hidden_size)
        layers = integer("AWDLM", "layers", layers)
        generator("AWDLM", "rng", rng)
        self.dropout = number("AWDLM", "dropout", dropout, low=0, high=1, below=True)
        self.between = number("AWDLM", "between", between, low=0, high=1, below=True)
        self.words = number("AWDLM", "words", words, low=0, high=1, below=True)
        self.alpha, self.beta = number("AWDLM", "alpha", alpha, low=0), number("AWDLM", "beta", beta, low=0)
        self.embedding = parameter(rng.uniform(-0.1, 0.1, (vocab_size, D)), dtype, "embedding")
        sizes = [D, *[H] * (layers - 1), D]
        self.layers = [WeightDrop(LSTMCell(n, m, rng, dtype), weights) for n, m in pairwise(sizes)]
        self.output = parameter(np.zeros(vocab_size), dtype, "b")

    def initial_state(self, batch_size: int) -> tuple[State, ...]:
        """Return a fresh state: the tuple of the layers' initial states."""
        return tuple(cell.initial_state(batch_size) for cell in self.layers)

    def __call__(
        self, ids: Operand, state: Sequence[State] | None = None, *, rng: np.random.Generator | None = None
    ) -> tuple[Tensor, tuple[State, ...]]:
        """Return the logits (N, T, V) of the token after each position, and the new state.

        Args:
            ids: (N, T) integers in [0, V).
            state: state before the first position; None: `initial_state(N)`.
            rng: generator for dropout; None: nothing is dropped (evaluation).
        """
        logits, after, _, _ = self._read(ids, state, rng)
        return logits, after

    def loss(
        self,
        ids: Operand,
        targets: Operand,
        state: Sequence[State] | None = None,
        *,
        rng: np.random.Generator | None = None,
    ) -> tuple[Tensor, tuple[State, ...]]:
        """Return the mean nats per unmasked position of `targets` (N, T), and the new state; see `__call__`.

        With a generator the loss includes the two terms of regularization.
        """
        logits, state, hs, dropped = self._read(ids, state, rng)
        loss = cross_entropy(logits, targets, -1)
        if rng is not None and self.alpha:
            loss = loss + self.alpha * mean(square(dropped))
        if rng is not None and self.beta and hs.shape[1] > 1:
            loss = loss + self.beta * mean(square(hs[:, 1:] - hs[:, :-1]))
        return loss, state

    def _read(
        self, ids: Operand, state: Sequence[State] | None, rng: np.random.Generator | None
    ) -> tuple[Tensor, tuple[State, ...], Tensor, Tensor]:
        """Return the logits, the new state, and the outputs of the top layer before and after dropout."""
        ids = operand(ids, "AWDLM", "ids")
        if ids.ndim != 2:
            raise ShapeError(f"AWDLM: expected ids of shape (N, T), got {ids.shape}")
        N = ids.shape[0]
        parts = check_parts("AWDLM", self.initial_state(N) if state is None else state, len(self.layers))
        with scope("embedding"):
            table = self.embedding
            if rng is not None:
                table = drop(table, draw_kept(rng, (self.vocab_size, 1), self.words, of_rows=False), self.words)
            inputs = _locked(take(table, ids, axis=0), self.dropout, rng)
        states, hs = [], inputs
        for layer, (cell, part) in enumerate(zip(self.layers, parts, strict=True)):
            with scope(f"layers.{layer}"):
                outputs, new = unroll(drawing(cell, rng, N), inputs, part)
                hs = cast(Tensor, outputs)  # the weights are Tensors
                inputs = _locked(hs, self.between if layer + 1 < len(self.layers) else self.dropout, rng)
            states.append(new)
        with scope("output"):
            logits = inputs @ self.embedding.T + self.output
        return logits, tuple(states), hs, inputs


def _locked(xs: Tensor, p: float, rng: np.random.Generator | None) -> Tensor:
    """Return xs (N, T, D) with dropout, one mask (N, 1, D) for all steps."""
    return xs if rng is None else drop(xs, draw_kept(rng, (xs.shape[0], 1, xs.shape[2]), p), p)
