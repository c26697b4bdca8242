"""N-gram language models, the baselines that a recurrent one has to beat."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..checks import integer
from ..engine.tape import Array
from ..errors import CorpusError
from .vocabulary import id_array


class NGrams:
    """The interpolated Kneser-Ney model of a text: the probability of a token after the n - 1 tokens before it.

    With c the counts of the n-grams of the text, and h' the context h without its first token,

        p_n(w | h) = max(c(h w) - d_n, 0) / c(h .) + d_n * |{v: c(h v) > 0}| / c(h .) * p_{n-1}(w | h').

    Below the highest order c(h w) is the number of different tokens before h w, and p_0 = 1 / V. The discount d_n is
    n_1 / (n_1 + 2 n_2), with n_i the number of n-grams of count i (1/2 if n_1 is 0). After a context that the text does
    not have, p_n is p_{n-1}. Sources: Kneser and Ney 1995, Improved backing-off for m-gram language modeling; Chen and
    Goodman 1999, An empirical study of smoothing techniques for language modeling.

    Args:
        ids: the text, (M,) integers in [0, V), one or more.
        vocab_size: V.
        order: n, 1 or more.

    Raises:
        ConfigError: if V or n is out of range.
        CorpusError: if the text is empty or an id is outside [0, V).
        ShapeError, DTypeError: if `ids` is not a one-dimensional integer array.

    >>> import numpy as np
    >>> model = NGrams(np.array([0, 1, 0, 1, 0, 2]), vocab_size=4, order=2)
    >>> model.probabilities([0]).round(3)  # after 0: 1 twice, 2 once
    array([0.033, 0.633, 0.3  , 0.033])
    """

    def __init__(self, ids: npt.ArrayLike, vocab_size: int, order: int = 3) -> None:
        self.vocab_size = integer("NGrams", "vocab_size", vocab_size)
        self.order = integer("NGrams", "order", order)
        text = self._checked("NGrams", ids)
        if not len(text):
            raise CorpusError("NGrams: the text is empty; pass one token or more")
        # Keys of the n-grams of each length, sorted: (number of the first n - 1 tokens' n-gram) * V + last token.
        self._keys: list[Array] = []
        self._counts: list[Array] = []
        self._totals: list[Array] = []
        self._types: list[Array] = []
        self._discounts: list[float] = []
        numbers, firsts = self._count(text)
        for n in range(1, self.order + 1):
            keys, counts = self._keys[n - 1], self._counts[n - 1]
            if n < self.order:  # how many different tokens there are before each
                counts = np.bincount(numbers[n - 1][firsts[n]], minlength=len(keys))
            contexts = 1 if n == 1 else len(self._keys[n - 2])
            before = keys // self.vocab_size
            once, twice = np.count_nonzero(counts == 1), np.count_nonzero(counts == 2)
            self._counts[n - 1] = counts
            self._totals.append(np.bincount(before, weights=counts, minlength=contexts))
            self._types.append(np.bincount(before, weights=counts > 0, minlength=contexts))
            self._discounts.append(once / (once + 2 * twice) if once else 0.5)

    def nats(self, ids: npt.ArrayLike) -> Array:
        """Return the nats of each token of a text but the first, given those before it: (len(ids) - 1,) float64.

        Raises:
            CorpusError, ShapeError, DTypeError: as for the text of the model.

        >>> import numpy as np
        >>> float(NGrams(np.array([0, 1, 0, 1]), 2, order=1).nats(np.array([1, 0]))[0].round(4))  # ln 2
        0.6931
        """
        text = self._checked("NGrams.nats", ids)
        contexts = [np.zeros(len(text), np.int64)]
        for n in range(1, self.order):
            numbers = self._number(n, contexts[-1], text)
            contexts.append(np.concatenate([[-1], numbers[:-1]]))
        nats: Array = -np.log(self._probabilities(contexts, text)[1:])
        return nats

    def probabilities(self, context: Sequence[int]) -> Array:
        """Return the probability of each token after a context: (V,) float64, with sum 1.

        Args:
            context: ids, of which the last n - 1 count.
        """
        known, words = [np.zeros(1, np.int64)], self._checked("NGrams.probabilities", list(context))
        for n in range(1, min(self.order - 1, len(words)) + 1):
            number = np.zeros(1, np.int64)
            for place, word in enumerate(words[len(words) - n :]):
                number = self._number(place + 1, number, np.array([word]))
            known.append(number)
        known += [np.array([-1])] * (self.order - len(known))
        V = self.vocab_size
        return self._probabilities([np.repeat(number, V) for number in known], np.arange(V))

    def _checked(self, function: str, ids: npt.ArrayLike) -> npt.NDArray[np.int64]:
        return id_array(function, ids, self.vocab_size).astype(np.int64)

    def _count(self, text: npt.NDArray[np.int64]) -> tuple[list[Array], list[Array]]:
        """Count the n-grams of each length.

        Returns:
            For each length, the number of the n-gram that ends at each token (-1 at the first ones); and the place of
            the end of each n-gram's first occurrence.
        """
        numbers, firsts = [], []
        before = np.zeros(len(text), np.int64)
        for n in range(1, self.order + 1):
            place = np.flatnonzero(before >= 0)
            ends = before[place] * self.vocab_size + text[place]
            keys, first, number, counts = np.unique(ends, True, True, True)  # with first places, numbers and counts
            self._keys.append(keys)
            self._counts.append(counts)
            numbers.append(np.full(len(text), -1))
            numbers[-1][place] = number
            firsts.append(place[first])
            before = np.concatenate([[-1], numbers[n - 1][:-1]])
        return numbers, firsts

    def _number(self, n: int, context: Array, word: Array) -> Array:
        """Return the numbers of n-grams, from those of their contexts and their last tokens; -1: not in the text."""
        keys = self._keys[n - 1]
        if not len(keys):
            return np.full(len(word), -1)
        wanted = context * self.vocab_size + word
        place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        return np.where((context >= 0) & (keys[place] == wanted), place, -1)

    def _probabilities(self, contexts: list[Array], word: Array) -> Array:
        """Return the probabilities of tokens, from the numbers of their contexts of each length."""
        p = np.full(len(word), 1 / self.vocab_size)
        for n, context in enumerate(contexts, start=1):
            number = self._number(n, context, word)
            known = np.flatnonzero(context >= 0)
            known = known[self._totals[n - 1][context[known]] > 0]
            at, discount = context[known], self._discounts[n - 1]
            count = np.where(number[known] < 0, 0, self._counts[n - 1][number[known]])
            left = np.maximum(count - discount, 0) + discount * self._types[n - 1][at] * p[known]
            p[known] = left / self._totals[n - 1][at]
        return p
