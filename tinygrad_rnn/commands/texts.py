"""The texts that the commands read."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import cast

from ..config import TrainConfig
from ..data.batches import OffsetBatches
from ..data.corpus import Corpus, load_corpus, unigram_token_nats
from ..data.ngrams import NGrams
from ..data.text import EOS, Level, decode_text, embedded_text, read_text
from ..data.vocabulary import Vocabulary
from ..engine.tape import Array
from ..errors import ConfigError, CorpusError
from ..training.loop.objective import Window
from .printing import note

EMBEDDED = "the Python reference that Python carries"


def text_at(path: str) -> str:
    """Return the text of a file, of stdin for "-", or Python's own without a path."""
    if path == "-":
        return decode_text("stdin", sys.stdin.buffer.read())
    return read_text(path) if path else embedded_text()


def training_texts(config: TrainConfig) -> tuple[Corpus, Corpus]:
    """Return the text to train on and the held-out text of a configuration."""
    level, text, most = cast(Level, config.level), text_at(config.corpus), config.max_tokens or None
    if not config.valid:
        return load_corpus(text, level, config.min_count, config.held_out, most)
    train = Corpus.from_text(text, level, config.min_count, max_tokens=most)
    return train, Corpus.from_text(text_at(config.valid), level, vocabulary=train.vocabulary)


def text_for(arguments: argparse.Namespace, config: TrainConfig, vocabulary: Vocabulary) -> tuple[Corpus, str]:
    """Return the text that a trained model is measured on, and a description of it."""
    level = cast(Level, config.level)
    if arguments.corpus is None and config.corpus:
        raise ConfigError(
            f"{arguments.command}: the model was trained on {config.corpus!r}; pass the text to use "
            "(--held-out uses the part at its end that training held out)"
        )
    text, name = text_at(arguments.corpus or ""), arguments.corpus or EMBEDDED
    if not (arguments.held_out or arguments.corpus is None):
        return Corpus.from_text(text, level, vocabulary=vocabulary), name
    corpus = Corpus.from_text(text, level, vocabulary=vocabulary, max_tokens=config.max_tokens or None)
    first, corpus = corpus.split(config.held_out)
    # The training part alone made the vocabulary, so the same text makes the same one again.
    if Vocabulary.from_tokens(vocabulary.decode(first.ids), 1) != vocabulary:
        note("this is not the text that the model was trained on, or another version of it")
    return corpus, f"the held-out part of {name}"


def baselines(
    arguments: argparse.Namespace, config: TrainConfig, vocabulary: Vocabulary, corpus: Corpus
) -> dict[str, Array]:
    """Return name to nats of each token of a text but the first, by n-gram models: of single tokens, and of several.

    They count the text of `--baseline`, or else the model's training text; {} if that is not there.
    """
    level = cast(Level, config.level)
    if arguments.baseline is not None:
        counted = Corpus.from_text(text_at(arguments.baseline), level, vocabulary=vocabulary)
    elif config.corpus and not Path(config.corpus).is_file():
        note(f"no baselines: the training text {config.corpus} is not there; --baseline FILE counts another one")
        return {}
    else:
        try:
            most = config.max_tokens or None
            counted = Corpus.from_text(text_at(config.corpus), level, vocabulary=vocabulary, max_tokens=most)
            if not config.valid:
                counted, _ = counted.split(config.held_out)
        except CorpusError as error:  # the file is another one by now
            note(f"no baselines: {error}; --baseline FILE counts another text")
            return {}
    V, order = len(vocabulary), 6 if level == "char" else 3
    return {
        "unigram": unigram_token_nats(counted, corpus)[1:],
        f"{order}-gram": NGrams(counted.ids, V, order).nats(corpus.ids),
    }


def first_window(command: str, corpus: Corpus, described: str, N: int, T: int) -> Window:
    """Return the first ids and targets (N, T) of a text."""
    if len(corpus) < N * T + 1:
        raise CorpusError(
            f"{command}: --batch-size {N} streams of --steps {T} need {N * T + 1} tokens, and {described} has "
            f"{len(corpus)}; lower one of them"
        )
    return next(iter(OffsetBatches(corpus.ids[: N * T + 1], N, T)))


def line_start(vocabulary: Vocabulary, level: Level) -> str:
    """Return the token that ends a line, after which the next one begins."""
    line_end = "\n" if level == "char" else EOS
    return line_end if line_end in vocabulary else vocabulary.tokens[min(1, len(vocabulary) - 1)]
