"""From sources to targets with an encoder and a decoder: greedy decoding, sampling, and beam search."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...checks import flag, generator, integer, number
from ...data.arrays import pad_sequences
from ...engine.tape import Array
from ...engine.tensor import Value
from ...engine.tree import map_leaves
from ...errors import ConfigError
from ...nn.cells import State
from .replayed import Replayed

Ids = NDArray[np.int64]


class Encoded(Protocol):
    """What an encoder makes of sources: a nesting of arrays, with the state that the decoder starts from."""

    @property
    def state(self) -> State:
        """The decoder's first state."""


class EncoderDecoder(Protocol):
    """A model with `encode(sources, lengths) -> encoded` and `step(ids, state, encoded) -> (logits, state)`."""

    @property
    def encode(self) -> Callable[..., Encoded]:
        """The function from sources to what the decoder reads."""

    @property
    def step(self) -> Callable[..., tuple[Value, State]]:
        """The function of one step of the decoder."""


def decode(
    model: EncoderDecoder,
    sources: ArrayLike | Sequence[ArrayLike],
    *,
    start: int,
    stop: int,
    length: int,
    lengths: ArrayLike | None = None,
    beam: int = 1,
    penalty: float = 0.0,
    temperature: float = 0.0,
    rng: np.random.Generator | None = None,
    forbidden: Sequence[int] = (),
    compiled: bool = True,
) -> list[Ids]:
    """Return a target for each source, by a model with `encode` and `step` such as a `Seq2Seq`.

    With `beam` = 1 and temperature 0 each token is the likeliest after those before it. With `temperature` it is drawn
    from softmax(logits / temperature). With `beam` = k the k likeliest beginnings of a target (hypotheses) are kept
    at each token, and the complete one of the largest log-probability / length ** penalty is returned, its length in
    tokens with `stop`: a penalty of 0 favours short targets; Wu et al. 2016 use 0.6 to 1.

    Args:
        model: has encode(sources, lengths) -> encoded with a `state`, and step(ids (N,), state, encoded) -> (logits
            (N, V), state); each part of `encoded` and of the state has N first.
        sources: (N, S) ids; or a list of N arrays (S_n,), which are padded, with their lengths.
        start: id that the decoder reads first.
        stop: id that ends a target.
        length: most tokens of a target, without `stop`.
        lengths: (N,) true lengths of the sources; None: all S, or those of the arrays in a list.
        beam: beginnings that are kept.
        penalty: exponent of the length by which log-probabilities are divided, in a beam search.
        temperature: 0, or more with `rng` and beam = 1.
        rng: draws the tokens.
        forbidden: ids that are never chosen.
        compiled: False: run the model operation by operation.

    Returns:
        N arrays of ids, each without `start` and `stop`; int64.

    Raises:
        ConfigError: if a setting is out of range, or a temperature has no generator or more than one beam.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> model = tr.Seq2Seq(10, 12, 8, 16, np.random.default_rng(0), attention="dot")
    >>> [len(ids) <= 4 for ids in tr.decode(model, [[3, 4, 5], [6, 7, 8]], start=1, stop=2, length=4, beam=3)]
    [True, True]
    """
    length, beam = integer("decode", "length", length, low=0), integer("decode", "beam", beam)
    temperature = number("decode", "temperature", temperature, low=0)
    penalty = number("decode", "penalty", penalty, low=0)
    if temperature:
        rng = generator("decode", "rng", rng)
        if beam > 1:
            raise ConfigError(f"decode: a beam search draws nothing: beam={beam} needs temperature=0")
    flag("decode", "compiled", compiled)
    encode = Replayed("decode", model.encode, compiled=compiled)
    step = Replayed("decode", model.step, compiled=compiled)
    ids, ends = _padded(sources, lengths)
    N = len(ids)
    encoded = encode(ids, ends)
    encoded = map_leaves(partial(_rows, np.repeat(np.arange(N), beam)), encoded)
    search = _Search(N, beam, start, stop, tuple(forbidden), temperature, rng)
    state = encoded.state
    for _ in range(length):
        logits, state = step(search.last, state, encoded)
        order = search.take(np.array(logits, np.float64))
        if search.done:
            break
        if beam > 1:
            state = map_leaves(partial(_rows, order), state)
    return search.best(penalty)


def _padded(sources: ArrayLike | Sequence[ArrayLike], lengths: ArrayLike | None) -> tuple[Array, Array | None]:
    """Return sources (N, S) and their lengths; arrays of different lengths are padded."""
    if lengths is None and isinstance(sources, list | tuple):
        rows = [np.asarray(source) for source in sources]
        if len({row.shape for row in rows if row.ndim == 1}) > 1:
            return pad_sequences(rows)
    return np.asarray(sources), None if lengths is None else np.asarray(lengths)


def _rows(order: NDArray[np.intp], part: object) -> object:
    return part[order] if isinstance(part, np.ndarray) else part


class _Search:
    """The hypotheses of N sources, `beam` for each, with their log-probabilities.

    Attributes:
        last: (N * beam,) the tokens that the decoder reads next.
    """

    def __init__(
        self,
        N: int,
        beam: int,
        start: int,
        stop: int,
        forbidden: tuple[int, ...],
        temperature: float,
        rng: np.random.Generator | None,
    ) -> None:
        self._beam, self._stop, self._forbidden = beam, stop, list(forbidden)
        self._temperature, self._rng = temperature, rng
        self.last = np.full(N * beam, start, np.int64)
        self._ids = np.empty((N * beam, 0), np.int64)
        self._ended = np.zeros(N * beam, bool)
        self._lengths = np.zeros(N * beam)
        self._scores = np.where(np.arange(N * beam) % beam == 0, 0.0, -np.inf)  # at first all of a source are one

    @property
    def done(self) -> bool:
        return bool(self._ended.all())

    def take(self, logits: Array) -> NDArray[np.intp]:
        """Continue by one token; return the rows that the new beginnings continue."""
        V = logits.shape[1]
        logits[:, self._forbidden] = -np.inf
        top = logits.max(axis=1, keepdims=True)
        logs = logits - top - np.log(np.exp(logits - top).sum(axis=1, keepdims=True))
        if self._rng is not None and self._temperature:
            noise = self._rng.gumbel(size=logs.shape)  # the largest of log p + noise is drawn from p
            chosen = (logs / self._temperature + noise).argmax(axis=1)
            order = np.arange(len(logs))
        else:
            logs[self._ended] = -np.inf
            logs[self._ended, self._stop] = 0.0  # what has ended stays as it is
            totals = (self._scores[:, None] + logs).reshape(-1, self._beam * V)
            best = np.argsort(-totals, axis=1, kind="stable")[:, : self._beam]
            self._scores = np.take_along_axis(totals, best, axis=1).ravel()
            order = (best // V + np.arange(len(best))[:, None] * self._beam).ravel()
            chosen = (best % V).ravel()
        ended = self._ended[order]
        self.last = np.where(ended, self._stop, chosen)
        self._ids = np.concatenate([self._ids[order], self.last[:, None]], axis=1)
        self._lengths = self._lengths[order] + ~ended
        self._ended = ended | (self.last == self._stop)
        return order

    def best(self, penalty: float) -> list[Ids]:
        """Return the best target of each source."""
        worth = self._scores / np.maximum(self._lengths, 1) ** penalty
        shape = (-1, self._beam)
        complete = np.where(self._ended, worth, -np.inf).reshape(shape)
        worth = np.where(np.isfinite(complete).any(axis=1, keepdims=True), complete, worth.reshape(shape))
        rows = worth.argmax(axis=1) + np.arange(len(worth)) * self._beam
        return [self._cut(ids) for ids in self._ids[rows]]

    def _cut(self, ids: Ids) -> Ids:
        ends = np.flatnonzero(ids == self._stop)
        return ids[: ends[0]] if len(ends) else ids
