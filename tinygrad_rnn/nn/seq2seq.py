"""Sequence-to-sequence models: an encoder, a decoder, and attention between them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from ..checks import flag, generator, integer
from ..engine.operands import operand, without_gradient
from ..engine.tape import Array, scope
from ..engine.tensor import Operand, Tensor, Value
from ..errors import ConfigError, ShapeError
from ..ops import broadcast_to, concatenate, cross_entropy, expand_dims, reshape, take_along_axis
from .attention import AdditiveAttention, DotAttention
from .base import batch_of_one
from .cells import Cell, State, drawing, output_size
from .layers import Dropout, Embedding, Linear
from .models import make_cell
from .module import Module
from .unroll import backward_order, unroll


class Encoded(NamedTuple):
    """The result of an encoder.

    Attributes:
        keys: (N, T, H), the outputs at each step.
        mask: (N, T) booleans, True for steps that belong to a source; None: all.
        last: (N, H), the output at each source's last step.
        state: the cell's state after each source's last step.
    """

    keys: Value
    mask: Value | None
    last: Value
    state: State


class Seq2Seq(Module):
    """An encoder that reads a source, and a decoder that predicts a target from its last state, token by token.

    P(y_{t+1} | y_1 .. y_t, x) = softmax([h_t, c_t] @ W + b): h_t is the output of the decoder's cell, which reads y_t,
    and c_t, with attention, is the mean of the encoder's outputs that h_t attends to.
    Sources: Sutskever, Vinyals and Le 2014; peek: Cho et al. 2014; attention: see `DotAttention`, `AdditiveAttention`.

    Args:
        source_size: V of the sources.
        target_size: V of the targets.
        embedding_size: D of both embeddings.
        hidden_size: H of both cells.
        rng: generator that draws the weights.
        cell: "rnn", "lstm", "gru", or a function that makes a cell, as in `RNNLM`; encoder and decoder have one each.
        attention: "dot", "additive", or None.
        peek: whether the decoder sees the encoder's last output at each step, next to y_t and to h_t.
        reverse: whether the encoder reads each source from its end to its start, which helps without attention.
        dropout: probability of dropping, after the embeddings and before the output.
        dtype: dtype of the parameters; float32 by default.
        options: further arguments of both cells, such as `bias=False`, `proj_size=8` or `nonlinearity="relu"`.

    Raises:
        ConfigError: if a size, a probability or a name is out of range.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> model = tr.Seq2Seq(10, 12, 8, 16, np.random.default_rng(0), attention="dot")
    >>> loss = model.loss([[3, 4, 5]], [[1, 6, 7, 2]])  # 1 begins a target, 2 ends it
    >>> loss.shape, model([[3, 4, 5]], [[1, 6]]).shape
    ((), (1, 2, 12))
    """

    def __init__(
        self,
        source_size: int,
        target_size: int,
        embedding_size: int,
        hidden_size: int,
        rng: np.random.Generator,
        *,
        cell: str | Cell | Callable[..., Cell] = "lstm",
        attention: Literal["dot", "additive"] | None = None,
        peek: bool = False,
        reverse: bool = False,
        dropout: float = 0.0,
        dtype: DTypeLike = np.float32,
        **options: object,
    ) -> None:
        source_size = integer("Seq2Seq", "source_size", source_size)
        self.target_size = integer("Seq2Seq", "target_size", target_size)
        D, H = integer("Seq2Seq", "embedding_size", embedding_size), integer("Seq2Seq", "hidden_size", hidden_size)
        generator("Seq2Seq", "rng", rng)
        if attention not in (None, "dot", "additive"):
            raise ConfigError(f'Seq2Seq: attention must be "dot", "additive" or None, got {attention!r}')
        self.peek, self.reverse = flag("Seq2Seq", "peek", peek), flag("Seq2Seq", "reverse", reverse)
        self.source_embedding = Embedding(source_size, D, rng, dtype)
        self.encoder = make_cell("Seq2Seq", cell, D, H, rng, dtype, single=False, **options)
        encoded = output_size(self.encoder, H)
        self.target_embedding = Embedding(self.target_size, D, rng, dtype)
        self.decoder = make_cell("Seq2Seq", cell, D + encoded * self.peek, H, rng, dtype, single=False, **options)
        decoded = output_size(self.decoder, H)
        made = {None: None, "dot": DotAttention(), "additive": AdditiveAttention(decoded, encoded, H, rng, dtype)}
        self.attention = made[attention]
        self.dropout = Dropout(dropout)
        width = decoded + encoded * (self.peek + (attention is not None))
        self.output = Linear(width, self.target_size, rng, dtype)

    def encode(
        self, sources: Operand, lengths: Operand | None = None, rng: np.random.Generator | None = None
    ) -> Encoded:
        """Return the encoding of sources (N, T) of true `lengths` (N,); `rng` draws the dropout."""
        sources = operand(sources, "Seq2Seq", "sources")
        if sources.ndim != 2 or not sources.shape[1]:
            hint = batch_of_one("sources", sources, 1)
            raise ShapeError(f"Seq2Seq: expected sources of shape (N, T) with T >= 1, got {sources.shape}{hint}")
        N, T = sources.shape
        ends = np.full(N, T) if lengths is None else operand(lengths, "Seq2Seq", "lengths")
        with scope("encoder"):
            xs = self.dropout(self.source_embedding(sources), rng)
            if self.reverse:
                xs = take_along_axis(xs, without_gradient("order", backward_order, ends, T), axis=1)
            keys, state = unroll(drawing(self.encoder, rng, N), xs, lengths=lengths)
            mask = None if lengths is None else np.arange(T) < reshape(ends, (-1, 1))
            last = take_along_axis(keys, reshape(ends, (-1, 1, 1)) - 1, axis=1)[:, 0]
        return Encoded(keys, mask, last, state)

    def decode(
        self, inputs: Operand, state: State, encoded: Encoded, rng: np.random.Generator | None = None
    ) -> tuple[Tensor, State]:
        """Return the logits (N, T, V) of the tokens after inputs (N, T), and the state of the decoder's cell."""
        with scope("decoder"):
            xs = self.dropout(self.target_embedding(inputs), rng)
            last = broadcast_to(expand_dims(encoded.last, 1), (*xs.shape[:2], encoded.last.shape[-1]))
            cell = drawing(self.decoder, rng, xs.shape[0])
            hs: Value
            hs, state = unroll(cell, concatenate([xs, last], axis=-1) if self.peek else xs, state)
            parts = [hs]
            if self.attention is not None:
                parts.append(self.attention(hs, encoded.keys, encoded.mask)[0])
            if self.peek:
                parts.append(last)
            outputs = parts[0] if len(parts) == 1 else concatenate(parts, axis=-1)
            return self.output(self.dropout(outputs, rng)), state

    def step(self, ids: Operand, state: State, encoded: Encoded) -> tuple[Tensor, State]:
        """Return the logits (N, V) of the tokens after ids (N,), and the state of the decoder's cell."""
        logits, state = self.decode(expand_dims(operand(ids, "Seq2Seq", "ids"), 1), state, encoded)
        return logits[:, 0], state

    def __call__(
        self,
        sources: Operand,
        inputs: Operand,
        *,
        lengths: Operand | None = None,
        rng: np.random.Generator | None = None,
    ) -> Tensor:
        """Return the logits of the token after each position, given the true tokens before it (teacher forcing).

        Args:
            sources: (N, S) ids in [0, source_size).
            inputs: (N, T) ids in [0, target_size), beginning with the start token.
            lengths: (N,) true lengths of the sources; None: all S.
            rng: generator for dropout; None: nothing is dropped (evaluation).

        Returns:
            logits (N, T, V).
        """
        inputs = operand(inputs, "Seq2Seq", "inputs")
        if inputs.ndim != 2 or not inputs.shape[1]:
            hint = batch_of_one("inputs", inputs, 1)
            raise ShapeError(f"Seq2Seq: expected inputs of shape (N, T) with T >= 1, got {inputs.shape}{hint}")
        encoded = self.encode(sources, lengths, rng)
        return self.decode(inputs, encoded.state, encoded, rng)[0]

    def loss(
        self,
        sources: Operand,
        targets: Operand,
        *,
        lengths: Operand | None = None,
        rng: np.random.Generator | None = None,
        ignore_label: int = -1,
    ) -> Tensor:
        """Return the mean nats per token of targets (N, T), each predicted from those before it.

        The first column of `targets` holds the start token and is not predicted; `ignore_label` fills the rows after
        their ends.
        """
        targets = operand(targets, "Seq2Seq", "targets")
        if targets.ndim != 2 or targets.shape[1] < 2:
            hint = batch_of_one("targets", targets, 1)
            raise ShapeError(f"Seq2Seq: expected targets of shape (N, T) with T >= 2, got {targets.shape}{hint}")
        inputs = without_gradient("inputs", _inputs, targets[:, :-1], ignore_label)
        return cross_entropy(self(sources, inputs, lengths=lengths, rng=rng), targets[:, 1:], ignore_label)


def _inputs(ids: Array, ignore_label: int) -> Array:
    """Return ids with a valid id in place of ignored ones: what follows those is ignored too."""
    return np.where(ids == ignore_label, 0, ids)
