"""A text as an array of ids, split in order into a training part and a held-out part."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from tinygrad_rnn.checks import integer, number
from tinygrad_rnn.data.mapped import blocks, mapping_of
from tinygrad_rnn.data.prepared import read_prepared
from tinygrad_rnn.data.text import Level, check_level, tokenize
from tinygrad_rnn.data.vocabulary import UNKNOWN, IdArray, Vocabulary, id_array
from tinygrad_rnn.engine.tape import Array
from tinygrad_rnn.errors import ConfigError, CorpusError

from ..errors import warn


@dataclass(frozen=True, eq=False)
class Corpus:
    r"""Hold a text as ids, with the vocabulary that made them.

    Args:
        ids: the ids of the text, shape (T,), an integer dtype. The corpus keeps a read-only copy in the
            vocabulary's `id_dtype`. Unsigned ids in a file that is mapped into memory stay there, and are neither
            copied nor checked; `Corpus.open` gives those of a folder that `prepare_corpus` made.
        vocabulary: V tokens.
        level: "word", "char", "byte" or "token".

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
        if mapping_of(self.ids) is not None and self.ids.ndim == 1 and self.ids.dtype.kind == "u" and len(self.ids):
            return
        checked = id_array("Corpus", self.ids, len(self.vocabulary))
        if checked.size == 0:
            raise CorpusError("Corpus: ids is empty; pass one id or more")
        ids = checked.astype(self.vocabulary.id_dtype)
        ids.setflags(write=False)
        object.__setattr__(self, "ids", ids)

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> Corpus:
        """Open a folder that `prepare_corpus` or `tinygrad-rnn prepare` made; its ids stay in their file.

        Args:
            folder: it holds corpus.json, vocabulary.json and ids.npy, whose sizes are checked, and the digest of the
                vocabulary. `tinygrad-rnn prepare --check` checks that of the ids too.

        Raises:
            CorpusError: if it is no such folder, is not finished, damaged, or of a newer version.

        >>> import tempfile
        >>> from pathlib import Path
        >>> from tinygrad_rnn.data import prepare_corpus
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "poem.txt").write_text("to be or not to be")
        ...     _ = prepare_corpus([Path(folder, "poem.txt")], Path(folder, "poem"), "word", min_count=1, held_out=0)
        ...     corpus = Corpus.open(Path(folder, "poem"))
        ...     corpus.ids.tolist(), corpus.ids.dtype.name
        ([1, 2, 3, 4, 1, 2], 'uint8')
        """
        found = read_prepared("Corpus.open", folder)
        return cls(found.ids(), found.vocabulary(), found.level)

    @classmethod
    def from_text(
        cls,
        text: str | bytes,
        level: Level,
        min_count: int = 1,
        vocabulary: Vocabulary | None = None,
        max_tokens: int | None = None,
    ) -> Corpus:
        """Tokenize and encode a text.

        Without a `vocabulary`, one is built from the whole text. To train and validate, use `load_corpus`:
        it builds the vocabulary from the training part alone.

        Args:
            text: the text; bytes only at level "byte".
            level: "word", "char", "byte" or "token".
            min_count: tokens that appear fewer times become "<unk>"; not used if `vocabulary` is given, nor at level
                "byte", where it is `Vocabulary.of_bytes()`.
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
            vocabulary = _vocabulary(tokens, level, min_count)
        corpus = cls(vocabulary.encode(tokens), vocabulary, level)
        if corpus.unknown_rate == 1:
            warn(
                f"Corpus.from_text: no token of the text is in the vocabulary ({vocabulary!r}); is the level {level!r} "
                "that of the vocabulary?",
            )
        return corpus

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def counts(self) -> npt.NDArray[np.int64]:
        """How often each token of the vocabulary appears: (V,)."""
        V = len(self.vocabulary)
        found = np.zeros(V, np.int64)
        for block in blocks(self.ids):
            counts = np.bincount(block, minlength=V)
            if len(counts) > V:
                raise CorpusError(
                    f"Corpus: the file of the ids is damaged: it holds the id {len(counts) - 1}, outside 0 .. V-1 = "
                    f"{V - 1}; prepare it again"
                )
            found += counts
        return found

    @property
    def unknown_rate(self) -> float:
        """The share of the tokens that are the unknown token, 0 to 1."""
        if self.vocabulary.unknown_id is None:
            return 0.0
        return float(self.counts[self.vocabulary.unknown_id] / len(self))

    def first(self, function: str, max_tokens: int | None) -> Corpus:
        """Return the corpus of the first tokens; None: all.

        Raises:
            ConfigError: if `max_tokens` is out of range; the message names the function.
        """
        if max_tokens is None:
            return self
        return Corpus(self.ids[: integer(function, "max_tokens", max_tokens)], self.vocabulary, self.level)

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
        cut = cut_of("Corpus.split", len(self), held_out)
        first, last = self.ids[:cut], self.ids[cut:]
        return Corpus(first, self.vocabulary, self.level), Corpus(last, self.vocabulary, self.level)


def load_corpus(
    text: str | bytes | os.PathLike[str],
    level: Level | None = None,
    min_count: int = 1,
    held_out: float = 0.1,
    max_tokens: int | None = None,
) -> tuple[Corpus, Corpus]:
    """Make a training and a held-out corpus whose vocabulary comes from the training part alone.

    The text is cut in order: the last `held_out` of its tokens are held out. A token that only the held-out
    part has becomes "<unk>" there; see `unknown_rate`.

    Args:
        text: the text, such as `read_text` or `embedded_text` returns; bytes only at level "byte". Or the path (a
            `Path`) of a folder that `prepare_corpus` made: its ids stay in their file, and the vocabulary is the one
            that it was prepared with.
        level: "word", "char", "byte" or "token"; None: that of the prepared folder.
        min_count: tokens that appear fewer times in the training part become "<unk>"; not used at level "byte" and for
            a prepared folder.
        held_out: the share to hold out, between 0 and 1; the count is rounded to the nearest token.
        max_tokens: use this many tokens from the start of the text; None uses all.

    Returns:
        The training part and the held-out part.

    Raises:
        CorpusError: if the text is too short, no token of the training part appears `min_count` times, or the folder
            is not a prepared one, or damaged.
        ConfigError: if `level`, `min_count`, `held_out` or `max_tokens` is out of range, or `level` is not that of the
            prepared folder.

    Warns:
        UserWarning: if words are so few, or so many of them unknown, that the text is hardly one of words.

    >>> train, valid = load_corpus("a b a b a b c a", "word", held_out=0.25)
    >>> train.vocabulary.tokens, valid.ids.tolist(), valid.unknown_rate
    (('<unk>', 'a', 'b'), [0, 1], 0.5)
    """
    if not isinstance(text, str | bytes):
        corpus = Corpus.open(text)
        if level not in (None, corpus.level):
            raise ConfigError(f"load_corpus: {os.fspath(text)} was prepared at level {corpus.level!r}, not {level!r}")
        return corpus.first("load_corpus", max_tokens).split(held_out)
    if level is None:
        raise ConfigError("load_corpus: level must be 'word', 'char', 'byte' or 'token' for a text, got None")
    tokens = _tokens("load_corpus", text, level, max_tokens)
    cut = cut_of("load_corpus", len(tokens), held_out)
    vocabulary = _vocabulary(tokens[:cut], level, min_count)
    ids = vocabulary.encode(tokens)
    train = Corpus(ids[:cut], vocabulary, level)
    warn_of_few_words("load_corpus", train, min_count)
    return train, Corpus(ids[cut:], vocabulary, level)


def warn_of_few_words(function: str, train: Corpus, min_count: int) -> None:
    """Warn if words are so few, or so many of them unknown, that the text is hardly one of words."""
    V = len(train.vocabulary)
    if train.level == "word" and (train.unknown_rate > 0.4 or len(train) > 100 * V**2):
        warn(
            f"{function}: {V} words are very few for a text of {len(train):,} words, of which "
            f"{train.unknown_rate:.0%} are {UNKNOWN}; is it a text of words? min_count = {min_count}; a text without "
            "spaces wants level 'char'",
        )


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
    return float(unigram_table(train, held_out) @ held_out.counts / len(held_out))


def unigram_table(train: Corpus, held_out: Corpus) -> Array:
    """Return the nats of each token of the vocabulary, by `unigram_nats`: (V,) float64.

    Raises:
        CorpusError: if the two vocabularies differ.
    """
    if train.vocabulary != held_out.vocabulary:
        raise CorpusError(
            f"unigram_nats: train has {train.vocabulary!r} but held_out has {held_out.vocabulary!r}; "
            "encode both with one vocabulary (load_corpus does)"
        )
    nats: Array = -np.log((train.counts + 1) / (len(train) + len(train.vocabulary)))
    return nats


def _vocabulary(tokens: list[str], level: Level, min_count: int) -> Vocabulary:
    return Vocabulary.of_bytes() if level == "byte" else Vocabulary.from_tokens(tokens, min_count)


def _tokens(function: str, text: str | bytes, level: Level, max_tokens: int | None) -> list[str]:
    tokens = tokenize(text, level)
    if not tokens:
        raise CorpusError(f"{function}: the text holds no tokens at level {level!r}; pass more text")
    return tokens if max_tokens is None else tokens[: integer(function, "max_tokens", max_tokens)]


def cut_of(function: str, length: int, held_out: float) -> int:
    """Return the length of the training part of a text; see `load_corpus`.

    >>> cut_of("f", 10, 0.25)
    8
    """
    held_out = number(function, "held_out", held_out, low=0, high=1, above=True, below=True)
    cut = length - round(length * held_out)
    if not 0 < cut < length:
        raise CorpusError(
            f"{function}: {length} tokens leave one part empty with held_out = {held_out}; "
            "pass more text or another held_out"
        )
    return cut
