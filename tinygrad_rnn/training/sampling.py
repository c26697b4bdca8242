"""Drawing tokens from logits, for many streams at once."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..compiler.memory import own_memory
from ..data.vocabulary import Vocabulary
from ..engine.tape import Array
from ..errors import ConfigError, NonFiniteError

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
        rngs: one generator for all rows, or one for each.
        banned: id that is never drawn; None: none.

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
    ) -> None:
        self._vocabulary, self._V = vocabulary, len(vocabulary)
        self._temperature, self._banned, self._rngs = temperature, banned, rngs
        self._top_k = top_k if 0 < top_k < self._V else 0
        self._width: int = 2 ** round(math.log2(self._V) / 2)  # of a block: about as many as there are blocks
        self._ones, self._weights = np.ones(self._width), np.empty((0, 0))

    def __call__(self, logits: Array) -> NDArray[np.int64]:
        """Return the tokens (N,) drawn from logits (N, V).

        Raises:
            ConfigError: if there are not V logits for each stream.
            NonFiniteError: if they are no distribution: one is NaN or +inf, or all that may be drawn are -inf.
        """
        if logits.shape[1] != self._V:
            raise other_size(logits.shape[1], self._vocabulary)
        x = self._room(len(logits))
        x[:, : self._V], x[:, self._V :] = logits, -np.inf
        others = []
        if self._banned is not None:
            others = x[:, self._banned].tolist()
            x[:, self._banned] = -np.inf
        top = x.max(axis=1)
        if not all(-np.inf < best < np.inf for best in top.tolist()) or not all(other < np.inf for other in others):
            self._refuse(logits)
        if self._temperature == 0:
            best: NDArray[np.int64] = x.argmax(axis=1)
            return best
        if self._top_k:
            self._keep_likeliest(x[:, : self._V])
        with np.errstate(all="ignore"):  # a tiny temperature sends all but the largest to -inf, as it should
            x -= top[:, None]
            if self._temperature != 1:
                x /= self._temperature
            np.exp(x, out=x)
        return self._draw(self._uniform(len(logits)))

    def _room(self, N: int) -> Array:
        """Return memory for N rows of weights, in whole blocks."""
        if len(self._weights) != N:
            columns = -(-self._V // self._width) * self._width
            self._weights = own_memory(8 * N * columns).view(np.float64).reshape(N, columns)
        return self._weights

    def _uniform(self, N: int) -> list[float]:
        if len(self._rngs) == 1:
            return self._rngs[0].random(N).tolist()  # type: ignore[no-any-return]
        return [rng.random() for rng in self._rngs]

    def _keep_likeliest(self, x: Array) -> None:
        """Set all but the `top_k` largest of each row to -inf."""
        least = np.partition(x, -self._top_k, axis=1)[:, -self._top_k]
        kept = x >= least[:, None]
        for row in np.flatnonzero(kept.sum(axis=1) > self._top_k):  # of equals the first ones
            equal = np.flatnonzero(x[row] == least[row])
            kept[row, equal[len(equal) - (np.count_nonzero(kept[row]) - self._top_k) :]] = False
        x[~kept] = -np.inf

    def _draw(self, uniform: list[float]) -> NDArray[np.int64]:
        if self._V <= _FEW:
            found = [_by_choice(row[: self._V], u) for row, u in zip(self._weights, uniform, strict=True)]
            return np.array(found, np.int64)
        blocks = self._weights.reshape(len(uniform), -1, self._width)
        ends = (blocks @ self._ones).cumsum(axis=1)  # of the blocks
        if len(uniform) >= _MANY:
            return self._find_all(np.array(uniform), blocks, ends)
        return np.array([self._find(*row) for row in zip(uniform, blocks, ends, strict=True)], np.int64)

    def _find_all(self, u: Array, blocks: Array, ends: Array) -> NDArray[np.int64]:
        """Return what `_find` returns, for all rows."""
        rows, total = np.arange(len(u)), ends[:, -1]
        goal = (u * total)[:, None]
        number = np.minimum((ends <= goal).sum(axis=1), ends.shape[1] - 1)
        before = np.where(number > 0, ends[rows, number - 1], 0.0)
        inside = blocks[rows, number].cumsum(axis=1) + before[:, None]
        place = (inside <= goal).sum(axis=1)
        ids: NDArray[np.int64] = number * self._width + place
        near = np.minimum(np.abs(inside - goal).min(axis=1), goal[:, 0] - before)
        for row in np.flatnonzero((place == self._width) | (near <= _SLACK * self._V * _EPSILON * total)):
            ids[row] = _by_choice(blocks[row].reshape(-1)[: self._V], u[row])
        return ids

    def _find(self, u: float, blocks: Array, ends: Array) -> int:
        """Return the id that u falls on, of weights (blocks, width) with cumulated sums of blocks."""
        total: float = ends.item(-1)
        goal = u * total
        number = int(ends.searchsorted(goal, side="right"))
        if number < len(ends):
            inside = blocks[number].cumsum()
            before = ends.item(number - 1) if number else 0.0
            inside += before
            place = int(inside.searchsorted(goal, side="right"))
            if place < self._width:
                low, high = inside.item(place - 1) if place else before, inside.item(place)
                if min(goal - low, high - goal) > _SLACK * self._V * _EPSILON * total:
                    return number * self._width + place
        return _by_choice(blocks.reshape(-1)[: self._V], u)

    def _refuse(self, logits: Array) -> None:
        for number, row in enumerate(logits):
            stream = "" if len(logits) == 1 else f" for prompt {number}"
            bad = np.flatnonzero(np.isnan(row) | (row == np.inf))
            if len(bad):
                raise NonFiniteError(
                    f"generate: the model's logits are no distribution{stream}: {len(bad)} of {len(row)} are NaN or "
                    f"+inf, the first that of {self._vocabulary.tokens[bad[0]]!r}; it holds weights that are not "
                    "finite, or its state has overflowed"
                )
            allowed = row if self._banned is None else np.delete(row, self._banned)
            if (allowed == -np.inf).all():
                raise NonFiniteError(
                    f"generate: the model's logits are no distribution{stream}: all that may be drawn are -inf"
                )


def other_size(size: int, vocabulary: Vocabulary) -> ConfigError:
    """Return the error for a model whose logits are not those of a vocabulary."""
    return ConfigError(
        f"generate: the model has logits for {size} tokens, but the vocabulary has V={len(vocabulary)}; pass the "
        "vocabulary that the model was trained with"
    )


def _by_choice(weights: Array, u: float) -> int:
    """Return the id that `np.random.Generator.choice` takes for a uniform number u."""
    ends = (weights / weights.sum()).cumsum()
    ends /= ends[-1]
    return int(ends.searchsorted(u, side="right"))
