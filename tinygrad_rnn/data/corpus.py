"""A text as an array of ids, split in order into a training part and a held-out part."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from tinygrad_rnn.checks import integer, number
from tinygrad_rnn.data.text import Level, check_level, tokenize
from tinygrad_rnn.data.vocabulary import UNKNOWN, IdArray, Vocabulary, id_array
from tinygrad_rnn.engine.tape import Array
from tinygrad_rnn.errors import CorpusError


@dataclass(frozen=True, eq=False)
class Corpus:
    r"""Hold a text as ids, with the vocabulary that made them.

    Args:
        ids: the ids of the text, shape (T,), an integer dtype. The corpus keeps a read-only copy in the
            vocabulary's `id_dtype`.
        vocabulary: V tokens.
        level: "word", "char" or "token".

    Raises:
        CorpusError: if there are no ids, or one is outside 0 .. V-1.
        ConfigError, ShapeError, DTypeError: if `level` or `ids` is of the wrong kind.

    >>> corpus = Corpus.from_text("the cat sat\nthe cat ran\n", "word")
    >>> len(corpus), len(corpus.vocabulary)
    (8, 6)
    >>> corpus.ids
    array([1, 2, 4, 3, 1, 2, 5, 3], dtype=uint16)
    """

    ids: IdArray
    vocabulary: Vocabulary
    level: Level

    def __post_init__(self) -> None:
        check_level("Corpus", self.level)
        checked = id_array("Corpus", self.ids, len(self.vocabulary))
        if checked.size == 0:
            raise CorpusError("Corpus: ids is empty; pass one id or more")
        ids = checked.astype(self.vocabulary.id_dtype)
        ids.setflags(write=False)
        object.__setattr__(self, "ids", ids)

    @classmethod
    def from_text(
        cls,
        text: str,
        level: Level,
        min_count: int = 1,
        vocabulary: Vocabulary | None = None,
        max_tokens: int | None = None,
    ) -> Corpus:
        """Tokenize and encode a text.

        Without a `vocabulary`, one is built from the whole text. To train and validate, use `load_corpus`:
        it builds the vocabulary from the training part alone.

        Args:
            text: the text.
            level: "word", "char" or "token".
            min_count: tokens that appear fewer times become "<unk>"; not used if `vocabulary` is given.
            vocabulary: the vocabulary to encode with, such as that of a trained model.
            max_tokens: keep this many tokens from the start; None keeps all.

        Returns:
            The corpus.

        Raises:
            CorpusError: if the text holds no tokens, none appears `min_count` times, or `vocabulary` lacks
                both a token of the text and an unknown token.
            ConfigError: if `level`, `min_count` or `max_tokens` is out of range.

        Warns:
            UserWarning: if every token of the text is unknown.

        >>> Corpus.from_text("abracadabra", "char").vocabulary
        Vocabulary(6 tokens: '<unk>', 'a', 'b', 'r', 'c', ...)
        """
        tokens = _tokens("Corpus.from_text", text, level, max_tokens)
        if vocabulary is None:
            vocabulary = Vocabulary.from_tokens(tokens, min_count)
        corpus = cls(vocabulary.encode(tokens), vocabulary, level)
        if corpus.unknown_rate == 1:
            warnings.warn(
                f"Corpus.from_text: no token of the text is in the vocabulary ({vocabulary!r}); is the level {level!r} "
                "that of the vocabulary?",
                stacklevel=2,
            )
        return corpus

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def unknown_rate(self) -> float:
        """The share of the tokens that are the unknown token, 0 to 1."""
        if self.vocabulary.unknown_id is None:
            return 0.0
        return float(np.mean(self.ids == self.vocabulary.unknown_id))

    def split(self, held_out: float = 0.1) -> tuple[Corpus, Corpus]:
        """Split off the end of the corpus; both parts keep the vocabulary.

        Nothing is shuffled: the order of the tokens is what a recurrent network learns. If the vocabulary
        was built from this corpus it has seen the held-out part; `load_corpus` avoids that.

        Args:
            held_out: the share to hold out, between 0 and 1; the count is rounded to the nearest token.

        Returns:
            The first part and the held-out part.

        Raises:
            ConfigError: if `held_out` is not between 0 and 1.
            CorpusError: if the corpus is too short to leave a token in each part.

        >>> train, valid = Corpus.from_text("abcdefghij", "char").split(held_out=0.2)
        >>> valid.vocabulary.decode(valid.ids)
        ['i', 'j']
        """
        cut = _cut("Corpus.split", len(self), held_out)
        first, last = self.ids[:cut], self.ids[cut:]
        return Corpus(first, self.vocabulary, self.level), Corpus(last, self.vocabulary, self.level)


def load_corpus(
    text: str,
    level: Level,
    min_count: int = 1,
    held_out: float = 0.1,
    max_tokens: int | None = None,
) -> tuple[Corpus, Corpus]:
    """Make a training and a held-out corpus whose vocabulary comes from the training part alone.

    The text is cut in order: the last `held_out` of its tokens are held out. A token that only the held-out
    part has becomes "<unk>" there; see `unknown_rate`.

    Args:
        text: the text, such as `read_text` or `embedded_text` returns.
        level: "word", "char" or "token".
        min_count: tokens that appear fewer times in the training part become "<unk>".
        held_out: the share to hold out, between 0 and 1; the count is rounded to the nearest token.
        max_tokens: use this many tokens from the start of the text; None uses all.

    Returns:
        The training part and the held-out part.

    Raises:
        CorpusError: if the text is too short, or no token of the training part appears `min_count` times.
        ConfigError: if `level`, `min_count`, `held_out` or `max_tokens` is out of range.

    Warns:
        UserWarning: if words are so few, or so many of them unknown, that the text is hardly one of words.

    >>> train, valid = load_corpus("a b a b a b c a", "word", held_out=0.25)
    >>> train.vocabulary.tokens, valid.ids.tolist(), valid.unknown_rate
    (('<unk>', 'a', 'b'), [0, 1], 0.5)
    """
    tokens = _tokens("load_corpus", text, level, max_tokens)
    cut = _cut("load_corpus", len(tokens), held_out)
    vocabulary = Vocabulary.from_tokens(tokens[:cut], min_count)
    ids = vocabulary.encode(tokens)
    train = Corpus(ids[:cut], vocabulary, level)
    if level == "word" and (train.unknown_rate > 0.4 or 100 * len(vocabulary) ** 2 < len(train)):
        warnings.warn(
            f"load_corpus: {len(vocabulary)} words are very few for a text of {len(train):,} words, of which "
            f"{train.unknown_rate:.0%} are {UNKNOWN}; is it a text of words? min_count = {min_count}; a text without "
            "spaces wants level 'char'",
            stacklevel=2,
        )
    return train, Corpus(ids[cut:], vocabulary, level)


def unigram_nats(train: Corpus, held_out: Corpus) -> float:
    """Return the loss of guessing each held-out token from its training frequency alone.

    The baseline that any language model has to beat; its exp is the unigram perplexity. With c(w) the count
    of w in the training part and n its length, add-one (Laplace) smoothing gives

        p(w) = (c(w) + 1) / (n + V),    loss = -mean over the held-out tokens of ln p(w)

    (Jurafsky and Martin, Speech and Language Processing, chapter 3).

    Args:
        train: the training part.
        held_out: the held-out part, with the same vocabulary.

    Returns:
        The mean loss in nats per token.

    Raises:
        CorpusError: if the two vocabularies differ.

    >>> train, valid = load_corpus("a b a b a b c a", "word", held_out=0.25)
    >>> round(unigram_nats(train, valid), 4)  # -(ln 1/9 + ln 4/9) / 2
    1.5041
    """
    return float(unigram_token_nats(train, held_out).mean())


def unigram_token_nats(train: Corpus, held_out: Corpus) -> Array:
    """Return the nats of each token of a held-out part, by `unigram_nats`: (len(held_out),) float64."""
    if train.vocabulary != held_out.vocabulary:
        raise CorpusError(
            f"unigram_nats: train has {train.vocabulary!r} but held_out has {held_out.vocabulary!r}; "
            "encode both with one vocabulary (load_corpus does)"
        )
    size = len(train.vocabulary)
    counts = np.bincount(train.ids, minlength=size) + 1
    nats: Array = -np.log(counts / (len(train) + size))[held_out.ids]
    return nats


def _tokens(function: str, text: str, level: Level, max_tokens: int | None) -> list[str]:
    tokens = tokenize(text, level)
    if not tokens:
        raise CorpusError(f"{function}: the text holds no tokens at level {level!r}; pass more text")
    return tokens if max_tokens is None else tokens[: integer(function, "max_tokens", max_tokens)]


def _cut(function: str, length: int, held_out: float) -> int:
    held_out = number(function, "held_out", held_out, low=0, high=1, above=True, below=True)
    cut = length - round(length * held_out)
    if not 0 < cut < length:
        raise CorpusError(
            f"{function}: {length} tokens leave one part empty with held_out = {held_out}; "
            "pass more text or another held_out"
        )
    return cut
