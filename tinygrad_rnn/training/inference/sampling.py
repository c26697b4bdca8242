"""Drawing tokens from logits, for many streams at once."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...compiler.plans.memory import own_memory
from ...data.vocabulary import Vocabulary
from ...engine.tape import Array
from ...errors import ConfigError, NonFiniteError

_FEW = 512  # tokens, whose weights are not worth a second level
_MANY = 6  # rows that are searched at once, not one by one
_EPSILON = 2.0**-52
_SLACK = 4.0  # roundings for each token by which two ways to add up weights may differ


class Sampler:
    """Draws one token for each row of logits, from softmax(logits / temperature), in float64.

    One number u is drawn for each row, in the order of the rows, and the token is the first one whose cumulated
    probability exceeds u: what `rng.choice(V, p=probabilities)` draws, with the same ids for the same generator. The
    weights are added up in blocks, which is several times as fast for large V; where u is so near the end of a
    token's share that rounding could decide otherwise, they are added up as `choice` does it.

    Args:
        vocabulary: V tokens.
        temperature: 0 takes the most likely token without a draw.
        top_k: how many of the most likely tokens may be drawn, of equals those with the lowest ids; 0: all.
        rngs: one generator for all rows, or one for each; none at temperature 0.
        banned: id that is never drawn; None: none.
        top_p: probability that those which may be drawn have together, the likeliest first; 1: all.

    >>> sampler = Sampler(Vocabulary(["a", "b"]), 1.0, 0, [np.random.default_rng(0)], None)
    >>> sampler(np.log([[0.9, 0.1], [0.1, 0.9]]))
    array([0, 1])
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        temperature: float,
        top_k: int,
        rngs: Sequence[np.random.Generator],
        banned: int | None,
        top_p: float = 1.0,
    ) -> None:
        self._vocabulary, self._V = vocabulary, len(vocabulary)
        self._temperature, self._banned, self._rngs = temperature, banned, rngs
        self._top_k = top_k if 0 < top_k < self._V else 0
        self._top_p = top_p
        self._width: int = 2 ** round(math.log2(self._V) / 2)  # of a block: about as many as there are blocks
        self._columns = -(-self._V // self._width) * self._width
        self._ones = np.ones(self._width)
        self._rows = self._room(0)
        row = self._room(1)[0]  # views of it are made once: a step of one stream is short
        row[:] = 0
        self._row, self._blocks = row[: self._V], row.reshape(-1, self._width)

    def __call__(self, logits: Array) -> NDArray[np.int64]:
        """Return the tokens (N,) drawn from logits (N, V).

        Raises:
            ConfigError: if there are not V logits for each stream.
            NonFiniteError: if they do not define a distribution: one is NaN or +inf, or all that may be drawn are -inf.
        """
        N = len(logits)
        if logits.shape[1] != self._V:
            raise other_size(logits.shape[1], self._vocabulary)
        if N >= _MANY:
            return self._many(logits)
        rngs: Sequence[np.random.Generator | None] = self._rngs or [None]
        rngs = [*rngs] * N if len(rngs) == 1 else rngs
        return np.array([self._one(logits, n, rng) for n, rng in enumerate(rngs)], np.int64)

    # -- row by row ---------------------------------------------------------------------------------------------------

    def _one(self, logits: Array, number: int, rng: np.random.Generator | None) -> int:
        x, banned = self._row, self._banned
        x[:] = logits[number]
        aside = -np.inf
        if banned is not None:
            aside, x[banned] = x.item(banned), -np.inf
        likeliest = int(x.argmax())  # the first NaN, if there is one
        top = x.item(likeliest)
        if not -np.inf < top < np.inf or not aside < np.inf:
            self._refuse(logits)
        if self._temperature == 0 or rng is None:
            return likeliest
        if self._top_k:
            self._keep_likeliest(x[None])
        with np.errstate(all="ignore"):  # a tiny temperature sends all but the largest to -inf, as it should
            x -= top
            if self._temperature != 1:
                x /= self._temperature
            np.exp(x, out=x)
        if self._top_p < 1:
            self._keep_nucleus(x[None])
        u: float = rng.random()
        return _by_choice(x, u) if self._V <= _FEW else self._find(u)

    def _find(self, u: float) -> int:
        """Return the id in whose share u lies."""
        ends = self._blocks.dot(self._ones).cumsum()
        total: float = ends.item(-1)
        goal = u * total
        number = int(ends.searchsorted(goal, side="right"))
        if number < len(ends):
            before = ends.item(number - 1) if number else 0.0
            inside = self._blocks[number].cumsum()
            inside += before
            place = int(inside.searchsorted(goal, side="right"))
            if place < self._width:
                low, high = inside.item(place - 1) if place else before, inside.item(place)
                if min(goal - low, high - goal) > _SLACK * self._V * _EPSILON * total:
                    return number * self._width + place
        return _by_choice(self._row, u)

    # -- all rows at once ---------------------------------------------------------------------------------------------

    def _many(self, logits: Array) -> NDArray[np.int64]:
        N, V = logits.shape
        if len(self._rows) != N:
            self._rows = self._room(N)
        x = self._rows
        x[:, :V], x[:, V:] = logits, -np.inf
        aside = []
        if self._banned is not None:
            aside = x[:, self._banned].tolist()
            x[:, self._banned] = -np.inf
        top = x.max(axis=1)
        if not all(-np.inf < one < np.inf for one in top.tolist()) or not all(one < np.inf for one in aside):
            self._refuse(logits)
        if self._temperature == 0 or not self._rngs:
            likeliest: NDArray[np.int64] = x.argmax(axis=1)
            return likeliest
        if self._top_k:
            self._keep_likeliest(x[:, :V])
        with np.errstate(all="ignore"):  # as above
            x -= top[:, None]
            if self._temperature != 1:
                x /= self._temperature
            np.exp(x, out=x)
        if self._top_p < 1:
            self._keep_nucleus(x[:, :V])
        one = len(self._rngs) == 1
        u = np.asarray(self._rngs[0].random(N) if one else [rng.random() for rng in self._rngs])
        return self._find_all(u)

    def _find_all(self, u: Array) -> NDArray[np.int64]:
        """Return the ids in whose shares the numbers u lie, one in each row."""
        blocks, rows = self._rows.reshape(len(u), -1, self._width), np.arange(len(u))
        ends = (blocks @ self._ones).cumsum(axis=1)
        total = ends[:, -1]
        goal = (u * total)[:, None]
        number = np.minimum((ends <= goal).sum(axis=1), ends.shape[1] - 1)
        before = np.where(number > 0, ends[rows, number - 1], 0.0)
        inside = blocks[rows, number].cumsum(axis=1) + before[:, None]
        place = (inside <= goal).sum(axis=1)
        ids: NDArray[np.int64] = number * self._width + place
        near = np.minimum(np.abs(inside - goal).min(axis=1), goal[:, 0] - before)
        for row in np.flatnonzero((place == self._width) | (near <= _SLACK * self._V * _EPSILON * total)):
            ids[row] = _by_choice(self._rows[row, : self._V], u[row])
        return ids

    # -- both ---------------------------------------------------------------------------------------------------------

    def _room(self, N: int) -> Array:
        """Return memory for N rows of weights, in whole blocks, aligned to a cache line."""
        return own_memory(8 * N * self._columns).view(np.float64).reshape(N, self._columns)

    def _keep_likeliest(self, x: Array) -> None:
        """Set all but the `top_k` largest of each row to -inf."""
        least = np.partition(x, -self._top_k, axis=1)[:, -self._top_k]
        kept = x >= least[:, None]
        for row in np.flatnonzero(kept.sum(axis=1) > self._top_k):  # of equals the first ones
            equal = np.flatnonzero(x[row] == least[row])
            kept[row, equal[len(equal) - (np.count_nonzero(kept[row]) - self._top_k) :]] = False
        x[~kept] = -np.inf

    def _keep_nucleus(self, weights: Array) -> None:
        """Set to 0 all but the fewest weights of each row, the largest first, whose share is `top_p` or more."""
        order = np.argsort(-weights, axis=1, kind="stable")
        falling = np.take_along_axis(weights, order, axis=1)
        before = falling.cumsum(axis=1) - falling
        falling[before >= self._top_p * falling.sum(axis=1, keepdims=True)] = 0
        np.put_along_axis(weights, order, falling, axis=1)

    def _refuse(self, logits: Array) -> None:
        """Return the error for the first row of logits that does not define a distribution."""
        for number, row in enumerate(logits):
            stream = "" if len(logits) == 1 else f" for prompt {number}"
            bad = np.flatnonzero(np.isnan(row) | (row == np.inf))
            if len(bad):
                raise NonFiniteError(
                    f"generate: the model's logits do not define a distribution{stream}: {len(bad)} of {len(row)} are "
                    f"NaN or +inf, the first that of {self._vocabulary.tokens[bad[0]]!r}; it holds weights that are "
                    "not finite, or its state has overflowed"
                )
            allowed = row if self._banned is None else np.delete(row, self._banned)
            if (allowed == -np.inf).all():
                raise NonFiniteError(
                    f"generate: the model's logits do not define a distribution{stream}: all that may be drawn are -inf"
                )


def other_size(size: int, vocabulary: Vocabulary) -> ConfigError:
    """Return the error for a model that has not one logit for each token of a vocabulary."""
    return ConfigError(
        f"generate: the model has logits for {size} tokens, but the vocabulary has V={len(vocabulary)}; pass the "
        "vocabulary that the model was trained with"
    )


def _by_choice(weights: Array, u: float) -> int:
    """Return the id that `np.random.Generator.choice` takes for a uniform number u."""
    ends = (weights / weights.sum()).cumsum()
    ends /= ends[-1]
    return int(ends.searchsorted(u, side="right"))
