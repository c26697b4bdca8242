"""The two-way mapping between tokens (strings) and ids (small integers)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from tinygrad_rnn.checks import integer
from tinygrad_rnn.engine.arrays import check_plain
from tinygrad_rnn.errors import CorpusError, DTypeError, ShapeError

IdArray = npt.NDArray[np.integer]

UNKNOWN = "<unk>"
"""The token that stands for every token outside the vocabulary."""


class Vocabulary:
    """Map tokens to ids 0 .. V-1 and back; immutable.

    The id of a token is its place in `tokens`. `Vocabulary(v.to_list())` equals `v`, so a JSON list of
    strings stores a vocabulary. (The list does not hold a choice of `unknown` other than the default: pass
    the same `unknown` again.)

    Args:
        tokens: V different strings, in the order of their ids.
        unknown: the token that stands for tokens outside the vocabulary. `"<unk>"` has this role if
            `tokens` holds it; without it, or with None, `encode` raises on a token outside the vocabulary.

    Raises:
        CorpusError: if there are no tokens, one is not a string, one appears twice, or an `unknown` of your
            own is not among them.

    >>> vocabulary = Vocabulary(["<unk>", "to", "be"])
    >>> vocabulary.encode(["to", "be", "or"])
    array([1, 2, 0], dtype=uint16)
    >>> vocabulary.decode([2, 1])
    ['be', 'to']
    >>> Vocabulary(vocabulary.to_list()) == vocabulary
    True
    """

    __slots__ = ("_characters", "_ids", "_tokens", "_unknown_id")

    def __init__(self, tokens: Sequence[str], unknown: str | None = UNKNOWN) -> None:
        self._tokens = tuple(_strings("Vocabulary", tokens))
        if not self._tokens:
            raise CorpusError("Vocabulary: tokens is empty; pass one token or more")
        self._ids: dict[str, int] = {}
        for index, token in enumerate(self._tokens):
            first = self._ids.setdefault(token, index)
            if first != index:
                raise CorpusError(
                    f"Vocabulary: tokens[{index}] is {token!r}, the same as tokens[{first}]; "
                    "drop one of the two (Vocabulary.from_tokens builds a vocabulary from running text)"
                )
        if unknown not in (None, UNKNOWN) and unknown not in self._ids:
            raise CorpusError(
                f"Vocabulary: unknown is {unknown!r}, which is not among the {len(self._tokens)} tokens; "
                "add it to tokens or pass unknown=None"
            )
        self._unknown_id = None if unknown is None else self._ids.get(unknown)
        self._characters = all(len(token) == 1 for token in self._tokens if token not in (unknown, UNKNOWN))

    @classmethod
    def from_tokens(cls, tokens: Iterable[str], min_count: int = 1, unknown: str | None = UNKNOWN) -> Vocabulary:
        """Build a vocabulary from running text, most frequent tokens first.

        `unknown`, if any, has id 0. The other ids go by descending count, ties by first appearance, so the
        same text always gives the same ids.

        Args:
            tokens: the running text as tokens.
            min_count: tokens that appear fewer times are left out.
            unknown: the token for everything left out, or None for a vocabulary without one.

        Returns:
            The vocabulary.

        Raises:
            ConfigError: if `min_count` is not an integer of 1 or more.
            CorpusError: if no token appears `min_count` times.

        >>> Vocabulary.from_tokens("a rose is a rose".split()).tokens
        ('<unk>', 'a', 'rose', 'is')
        >>> Vocabulary.from_tokens("a rose is a rose".split(), min_count=2, unknown=None).tokens
        ('a', 'rose')
        """
        min_count = integer("Vocabulary.from_tokens", "min_count", min_count)
        # most_common is documented to keep first-seen order among equal counts.
        counts = Counter(_strings("Vocabulary.from_tokens", tokens)).most_common()
        kept = [token for token, count in counts if count >= min_count]
        if not kept:
            raise CorpusError(
                f"Vocabulary.from_tokens: none of the {len(counts)} different tokens appears "
                f"min_count = {min_count} times or more; pass more text or a lower min_count"
            )
        if unknown is not None:
            kept = [unknown, *(token for token in kept if token != unknown)]
        return cls(kept, unknown)

    @classmethod
    def of_bytes(cls) -> Vocabulary:
        r"""Return the vocabulary of the level "byte": 256 tokens, of which the id is the byte, and none unknown.

        >>> Vocabulary.of_bytes().encode("A\n").tolist()
        [65, 10]
        """
        return cls([chr(byte) for byte in range(256)], unknown=None)

    @property
    def tokens(self) -> tuple[str, ...]:
        """All V tokens in the order of their ids."""
        return self._tokens

    @property
    def unknown_id(self) -> int | None:
        """The id that stands for tokens outside the vocabulary, or None."""
        return self._unknown_id

    @property
    def id_dtype(self) -> np.dtype[np.unsignedinteger]:
        """The smaller of uint16 and uint32 that holds every id: uint16 up to V = 65536."""
        return np.dtype(np.uint16 if len(self) <= 1 << 16 else np.uint32)

    def __len__(self) -> int:
        return len(self._tokens)

    def __contains__(self, token: object) -> bool:
        return token in self._ids

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Vocabulary):
            return NotImplemented
        return self._tokens == other._tokens and self._unknown_id == other._unknown_id

    def __hash__(self) -> int:
        return hash((self._tokens, self._unknown_id))

    def __repr__(self) -> str:
        shown = ", ".join(repr(token) for token in self._tokens[:5])
        return f"Vocabulary({len(self)} tokens: {shown}{', ...' if len(self) > 5 else ''})"

    def to_list(self) -> list[str]:
        """Return the tokens as a list, ready for JSON.

        Returns:
            The V tokens in the order of their ids.

        >>> Vocabulary(["a", "b"]).to_list()
        ['a', 'b']
        """
        return list(self._tokens)

    def encode(self, tokens: Sequence[str]) -> IdArray:
        """Turn tokens into ids.

        Args:
            tokens: T tokens, as `tokenize` cuts them. A text will do where the tokens are its characters: all of
                the vocabulary's but the unknown one have length 1.

        Returns:
            The ids, shape (T,), dtype `id_dtype` (uint16 up to V = 65536, else uint32). A token outside
            the vocabulary gets `unknown_id`.

        Raises:
            CorpusError: if `tokens` is a text and the vocabulary's tokens are words, one is not a string, or one is
                outside the vocabulary and there is no unknown token.

        >>> Vocabulary(["a", "b"]).encode(["b", "a", "b"])
        array([1, 0, 1], dtype=uint16)
        """
        if isinstance(tokens, str) and not self._characters:
            raise CorpusError(
                f"Vocabulary.encode: tokens is the text {tokens[:30]!r}, but this is a vocabulary of words; "
                "cut it into tokens first: encode(tokenize(text, 'word')), or encode([*text]) for its characters"
            )
        given = _strings("Vocabulary.encode", tokens)
        if self._unknown_id is not None:
            return np.array([self._ids.get(token, self._unknown_id) for token in given], self.id_dtype)
        for position, token in enumerate(given):
            if token not in self._ids:
                raise CorpusError(
                    f"Vocabulary.encode: tokens[{position}] is {token!r}, which is not among the {len(self)} "
                    f"tokens of the vocabulary; drop it, or build the vocabulary with unknown={UNKNOWN!r}"
                )
        return np.array([self._ids[token] for token in given], self.id_dtype)

    def decode(self, ids: npt.ArrayLike) -> list[str]:
        """Turn ids into tokens.

        Args:
            ids: T ids in 0 .. V-1, shape (T,), an integer dtype.

        Returns:
            The T tokens.

        Raises:
            DTypeError: if the ids are not integers.
            ShapeError: if the ids are not one-dimensional.
            CorpusError: if an id is outside 0 .. V-1.

        >>> Vocabulary(["a", "b"]).decode([1, 0, 1])
        ['b', 'a', 'b']
        """
        return [self._tokens[i] for i in id_array("Vocabulary.decode", ids, len(self)).tolist()]


def _strings(function: str, tokens: Iterable[str]) -> list[str]:
    if isinstance(tokens, bytes) or not isinstance(tokens, Iterable):
        raise CorpusError(f"{function}: tokens must be a sequence of strings, got {type(tokens).__name__}")
    found = list(tokens)
    for position, token in enumerate(found):
        if not isinstance(token, str):
            raise CorpusError(
                f"{function}: tokens[{position}] is {token!r} ({type(token).__name__}); every token must be a string"
            )
    return found


def id_array(function: str, ids: npt.ArrayLike, vocabulary_size: int | None = None) -> IdArray:
    """Return `ids` as a one-dimensional integer array, with every id below the vocabulary size.

    Args:
        function: name of the function that the user called, for the messages.
        ids: the ids, shape (T,), an integer dtype.
        vocabulary_size: V; None allows every id that an int64 holds.

    Returns:
        The ids as an array, without a copy where they are one already.

    Raises:
        DTypeError: if the ids are not integers.
        ShapeError: if the ids are not one-dimensional.
        CorpusError: if an id is outside 0 .. V-1.

    >>> id_array("f", np.array([1, 0]), 2)
    array([1, 0])
    """
    check_plain(ids, f"{function}: ids")
    array = np.asarray(ids)
    if array.ndim != 1:
        raise ShapeError(f"{function}: ids must have shape (T,), got {array.shape}; pass one row of ids")
    if array.size == 0:  # np.asarray([]) is float64, although there is no id that is not an integer
        return array.astype(np.uint16)
    if not np.issubdtype(array.dtype, np.integer):
        raise DTypeError(f"{function}: ids must have an integer dtype, got {array.dtype}; cast them first")
    most = np.iinfo(np.int64).max if vocabulary_size is None else vocabulary_size - 1
    if array.min() < 0 or array.max() > most:
        position = int(np.argmax((array < 0) | (array > most)))
        last = f"V-1 = {most}" if vocabulary_size is not None else str(most)
        raise CorpusError(
            f"{function}: ids[{position}] is {array[position]}, outside 0 .. {last}; "
            "use the vocabulary that made the ids; a series of numbers must be floats"
        )
    return array
