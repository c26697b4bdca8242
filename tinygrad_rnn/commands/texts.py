"""The texts that the commands read."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, cast

from ..config import TrainConfig
from ..data.batches import OffsetBatches
from ..data.corpus import Corpus, load_corpus, unigram_table
from ..data.mapped import BLOCK, release
from ..data.ngrams import NGrams
from ..data.prepared import is_prepared, read_prepared
from ..data.text import EOS, Level, decode_text, embedded_text, read_bytes, read_text
from ..data.vocabulary import IdArray, Vocabulary
from ..engine.tape import Array
from ..errors import ConfigError, CorpusError
from ..training.loop.objective import Window
from .printing import note

EMBEDDED = "the Python reference that Python carries"
_MOST_COUNTED = 10_000_000


def text_at(path: str, level: Level = "word") -> str | bytes:
    """Return the text of a file, of stdin for "-", or Python's own without a path; at level "byte" its bytes."""
    if path == "-":
        if sys.stdin.isatty():
            note("reading a text from stdin, up to Ctrl-D")
        data = sys.stdin.buffer.read()
        if not data:
            raise CorpusError("stdin is empty: no text was passed there, or another argument has read it already")
        return data if level == "byte" else decode_text("stdin", data)
    if not path:
        return embedded_text().encode() if level == "byte" else embedded_text()
    return read_bytes(path) if level == "byte" else read_text(path)


def called(path: str) -> str:
    """Return what a text is called in what is printed.

    >>> called("poem.txt"), called("-")
    ('poem.txt', 'stdin')
    """
    return {"": EMBEDDED, "-": "stdin"}.get(path, path)


def corpus_at(path: str, level: Level, vocabulary: Vocabulary, max_tokens: int | None = None) -> Corpus:
    """Return a text as a corpus of a vocabulary: the folder of a prepared one, or what `text_at` reads.

    Raises:
        CorpusError: if the folder was prepared with another vocabulary.
    """
    if not is_prepared(path):
        return Corpus.from_text(text_at(path, level), level, vocabulary=vocabulary, max_tokens=max_tokens)
    corpus = Corpus.open(path)
    if corpus.vocabulary != vocabulary or corpus.level != level:
        raise CorpusError(
            f"{path} was prepared with another vocabulary ({corpus.level} level, {len(corpus.vocabulary):,} tokens) "
            f"than the model has ({level} level, {len(vocabulary):,}); prepare the text with --vocabulary MODEL"
        )
    return corpus.first("max_tokens", max_tokens)


def training_texts(config: TrainConfig) -> tuple[Corpus, Corpus]:
    """Return the text to train on and the held-out text of a configuration.

    Raises:
        ConfigError: if the text is a prepared one, with other settings than the configuration's.
    """
    level, most = cast(Level, config.level), config.max_tokens or None
    if is_prepared(config.corpus):
        found = read_prepared("train", config.corpus)
        for name in ("level", "min_count"):
            if getattr(found, name) != getattr(config, name):
                raise ConfigError(
                    f"train: {config.corpus} was prepared with {name} = {getattr(found, name)!r}, not "
                    f"{getattr(config, name)!r}; leave it out, or prepare the text again"
                )
        if not config.valid:
            return load_corpus(found.folder, held_out=config.held_out, max_tokens=most)
        train = Corpus.open(config.corpus).first("train", most)
    elif not config.valid:
        return load_corpus(text_at(config.corpus, level), level, config.min_count, config.held_out, most)
    else:
        train = Corpus.from_text(text_at(config.corpus, level), level, config.min_count, max_tokens=most)
    return train, corpus_at(config.valid, level, train.vocabulary)


def prepared_settings(values: Mapping[str, object]) -> dict[str, object]:
    """Return the settings of a run with those that a prepared text sets, where they are not given."""
    corpus = values.get("corpus")
    if not isinstance(corpus, str) or not is_prepared(corpus):
        return {**values}
    found = read_prepared("train", corpus)
    settings: dict[str, object] = {"level": found.level, "min_count": found.min_count}
    return {**settings, **({"held_out": found.held_out} if found.held_out else {}), **values}


def text_for(arguments: argparse.Namespace, config: TrainConfig, vocabulary: Vocabulary) -> tuple[Corpus, str]:
    """Return the text that a trained model is measured on, and a description of it.

    Raises:
        ConfigError: if no text is named and none can be taken instead, or what is asked for was trained on.
    """
    level = cast(Level, config.level)
    if config.valid and (arguments.held_out or (arguments.corpus is None and not config.corpus)):
        return _valid_text(arguments, config, vocabulary)
    if arguments.corpus is None and config.corpus:
        raise _not_named(arguments.command, config)
    path, name = arguments.corpus or "", called(arguments.corpus or "")
    if not (arguments.held_out or arguments.corpus is None):
        return corpus_at(path, level, vocabulary), name
    first, corpus = corpus_at(path, level, vocabulary, config.max_tokens or None).split(config.held_out)
    # The training part alone made the vocabulary, so the same text makes the same one again.
    if (
        not (is_prepared(path) or level == "byte")
        and Vocabulary.from_tokens(vocabulary.decode(first.ids)) != vocabulary
    ):
        note("this is not the text that the model was trained on, or another version of it")
    return corpus, f"the held-out part of {name}"


def _not_named(command: str, config: TrainConfig) -> ConfigError:
    """Return the error for a command without a text, for a model that was trained on a text of the user's."""
    trained, wanted = repr(config.corpus), "the text to use"
    if config.corpus == "-":
        trained, wanted = "a text from stdin", "- with the same text on stdin again, or another text"
    held_out = "--held-out uses the part at its end that training held out"
    if config.valid:
        alone = "- --held-out" if config.valid == "-" else "--held-out alone"
        held_out = f"{alone} uses {called(config.valid)!r}, which training held out"
    return ConfigError(f"{command}: the model was trained on {trained}; pass {wanted} ({held_out})")


def _valid_text(arguments: argparse.Namespace, config: TrainConfig, vocabulary: Vocabulary) -> tuple[Corpus, str]:
    """Return the text that was held out with `train --valid`; all of the training text was trained on then."""
    if arguments.corpus not in (None, config.valid):
        raise ConfigError(
            f"{arguments.command}: the model was trained with --valid {config.valid}, so no part of "
            f"{arguments.corpus!r} was held out; leave out the text to use {config.valid!r}, or --held-out to use all "
            f"of {arguments.corpus!r}"
        )
    if config.valid == "-" and arguments.corpus is None:
        raise ConfigError(
            f"{arguments.command}: training held out a text from stdin; pass - --held-out with the same text on stdin "
            "again, or a file with it instead"
        )
    corpus = corpus_at(config.valid, cast(Level, config.level), vocabulary)
    return corpus, f"{called(config.valid)}, which training held out"


class Baseline(NamedTuple):
    """An n-gram model to which a model is compared.

    Attributes:
        order: n.
        nats: the function from ids to the nats of each but the first.
    """

    order: int
    nats: Callable[[IdArray], Array]

    def in_parts(self, ids: IdArray) -> Iterator[Array]:
        """Yield the nats of each token of a text but the first, in parts."""
        for start in range(1, len(ids), BLOCK):
            stop = min(start + BLOCK, len(ids))
            part: IdArray = ids[max(0, start - max(1, self.order - 1)) : stop]
            yield self.nats(part)[start - stop :]
            release(ids)

    def mean(self, ids: IdArray) -> float:
        """Return the mean of the nats of each token of a text but the first."""
        return sum(float(nats.sum()) for nats in self.in_parts(ids)) / (len(ids) - 1)


def baselines(
    arguments: argparse.Namespace, config: TrainConfig, vocabulary: Vocabulary, corpus: Corpus
) -> dict[str, Baseline]:
    """Return n-gram models by name: of single tokens, and of several.

    They count the text of `--baseline`, or else the model's training text; {} if that is not there. A text of more than
    ten million tokens is too long for the memory of the second.
    """
    level = cast(Level, config.level)
    if arguments.baseline is not None:
        counted = corpus_at(arguments.baseline, level, vocabulary)
    elif config.corpus == "-":
        note(
            "no baselines: the training text was read from stdin; --baseline FILE counts a file with it, or another one"
        )
        return {}
    elif config.corpus and not Path(config.corpus).exists():
        note(f"no baselines: the training text {config.corpus} is not there; --baseline FILE counts another one")
        return {}
    else:
        try:
            counted = corpus_at(config.corpus, level, vocabulary, config.max_tokens or None)
            if not config.valid:
                counted, _ = counted.split(config.held_out)
        except CorpusError as error:  # the file is another one by now
            note(f"no baselines: {error}; --baseline FILE counts another text")
            return {}
    V, order = len(vocabulary), 6 if level in ("char", "byte") else 3
    table = unigram_table(counted, corpus)
    found = {"unigram": Baseline(1, lambda ids: table[ids[1:]])}
    if len(counted) > _MOST_COUNTED:
        note(
            f"no {order}-gram baseline: it would hold {len(counted):,} tokens in memory; --baseline counts another text"
        )
    else:
        found[f"{order}-gram"] = Baseline(order, NGrams(counted.ids, V, order).nats)
    return found


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
    line_end = "\n" if level in ("char", "byte") else EOS
    return line_end if line_end in vocabulary else vocabulary.tokens[min(1, len(vocabulary) - 1)]
