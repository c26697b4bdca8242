"""The command that prepares a corpus which is larger than memory."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from tqdm import tqdm

from ..data.corpus import Corpus, warn_of_few_words
from ..data.pieces import check_file
from ..data.prepare import prepare_corpus
from ..data.prepared import is_prepared, read_prepared
from ..data.text import Level
from ..data.vocabulary import Vocabulary
from ..errors import ConfigError
from ..training.files.lock import folder_taken
from ..training.language.modelfile import load_model
from .printing import row


def prepare(arguments: argparse.Namespace) -> int:
    """Prepare a corpus of texts, or check prepared ones; return 0."""
    if arguments.check:
        return _check(arguments)
    if not arguments.out:
        raise ConfigError("prepare: pass --out FOLDER, the folder to write")
    level, vocabulary = _vocabulary(arguments)
    out = Path(arguments.out)
    with folder_taken(out), _progress(arguments) as on_progress:
        corpus = prepare_corpus(
            arguments.files,
            out,
            level,
            min_count=arguments.min_count,
            vocab_size=arguments.vocab_size or None,
            held_out=arguments.held_out,
            vocabulary=vocabulary,
            force=arguments.force,
            on_progress=on_progress,
        )
    _describe(corpus, out)
    if vocabulary is None:
        warn_of_few_words("prepare", corpus, arguments.min_count)
    return 0


def _vocabulary(arguments: argparse.Namespace) -> tuple[Level, Vocabulary | None]:
    """Return the level, and the vocabulary of the model or the corpus that --vocabulary names."""
    level: Level | None = arguments.level
    if arguments.vocabulary is None:
        return level or "word", None
    if arguments.vocab_size:
        raise ConfigError("prepare: --vocabulary goes without --vocab-size")
    path = arguments.vocabulary
    if is_prepared(path) and not Path(path, "model.npz").exists():
        found = read_prepared("prepare", path)
        vocabulary, own = found.vocabulary(), found.level
    else:
        _, config, vocabulary = load_model(path)
        own = cast(Level, config.level)
    if level not in (None, own):
        raise ConfigError(f"prepare: the vocabulary of {path} is of level {own!r}, not {level!r}; leave out --level")
    return own, vocabulary


def _check(arguments: argparse.Namespace) -> int:
    for folder in arguments.files:
        read_prepared("prepare", folder).check()
        _describe(Corpus.open(folder), Path(folder))
        row("", "nothing is damaged")
    return 0


def _describe(corpus: Corpus, folder: Path) -> None:
    found = read_prepared("prepare", folder)
    row("corpus", f"{folder}, {found.level} level")
    row("", f"{len(corpus):,} tokens, vocabulary {len(corpus.vocabulary):,}, {corpus.unknown_rate:.1%} unknown")
    row("", f"{corpus.ids.nbytes / 1e6:,.1f} MB of {found.dtype}, of {sum(size for _, size in found.sources):,} bytes")


@contextmanager
def _progress(arguments: argparse.Namespace) -> Iterator[Callable[[int, int], None]]:
    """Show the bytes that were read on stderr, if it is a terminal."""
    sizes = [check_file(name) for name in arguments.files]
    with tqdm(
        total=sum(sizes) if all(sizes) else None,
        unit="B",
        unit_scale=True,
        disable=arguments.no_progress or not sys.stderr.isatty(),
    ) as bar:

        def show(done: int, tokens: int) -> None:
            bar.update(done - bar.n)
            bar.set_postfix_str(f"{tokens:,} tokens", refresh=False)

        yield show
