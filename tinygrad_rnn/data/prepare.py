"""Preparation of a corpus that is larger than memory: one pass over its text, which can be killed and goes on."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from .. import __version__
from ..checks import integer, number
from ..errors import ConfigError, CorpusError, warn
from ..files import write_atomically
from .corpus import Corpus, cut_of
from .counting import count_vocabulary
from .pieces import SIZE, Position, check_file, pieces
from .prepared import IDS, NAME, VOCABULARY, WORK, Prepared
from .runs import Run, Writer
from .text import Level, check_level
from .vocabulary import Vocabulary

MOST_TOKENS = 1 << 19
"""Different tokens in memory at a time, and the largest vocabulary."""

_PROGRESS = "progress.json"
_EVERY = 1 << 26  # bytes of text between two points from which a preparation goes on


def prepare_corpus(
    files: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    level: Level = "word",
    *,
    min_count: int = 1,
    vocab_size: int | None = None,
    held_out: float = 0.1,
    vocabulary: Vocabulary | None = None,
    force: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
    most_tokens: int = MOST_TOKENS,
    every: int = _EVERY,
) -> Corpus:
    r"""Make a corpus of texts of any size, in one pass over them and bounded memory.

    Tokens and vocabulary are exactly those that `load_corpus` makes of the whole text in memory: all counts are exact,
    and the vocabulary is that of the training part alone. Memory holds a table of `most_tokens` different tokens; when
    it is full it goes to a file, and the tables are sorted and merged at the end. The ids are of the smallest of uint8,
    uint16 and uint32 that holds V. Meanwhile the folder holds the text as numbers of up to 4 bytes a token as well.

    A preparation that was killed goes on, when it is called in the same way again, from the last of the points that it
    writes to the disk. The folder is a corpus once it is finished, and only then. One that fails before its first
    point, or because no corpus can be made of what was read, leaves nothing behind.

    Args:
        files: of text, utf-8 (any bytes at level "byte"), read in order as one text, with a line end between two. "-"
            is stdin; one whose name ends with .gz is unpacked; a pipe will do.
        out: the folder to write; made if needed.
        level: "word", "char", "byte" or "token".
        min_count: tokens that appear fewer times in the training part become "<unk>".
        vocab_size: V, of the most frequent tokens, "<unk>" included; None: all, up to `most_tokens`.
        held_out: the share of tokens at the end that the vocabulary does not see, as `split` holds it out; 0: none.
        vocabulary: the vocabulary to encode with, such as that of a trained model; None: one is made of the text.
        force: replace a corpus, or an unfinished preparation of something else, in the folder.
        on_progress: called now and then with the bytes read and the tokens found so far.
        most_tokens: different tokens in memory; some 200 bytes each.
        every: bytes of text between two points from which a preparation goes on.

    Returns:
        The corpus.

    Raises:
        CorpusError: if a file cannot be read, or is not utf-8; there are no tokens, or none appears `min_count` times;
            or, going on, a text is not the one that was read before.
        ConfigError: if an argument is out of range, or the folder holds something else.
        OSError: if a file cannot be written.

    Warns:
        UserWarning: if the vocabulary would be larger than `most_tokens`.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "poem.txt").write_text("to be or not to be\n" * 20)
    ...     corpus = prepare_corpus([Path(folder, "poem.txt")], Path(folder, "poem"), vocab_size=4)
    ...     corpus.vocabulary.tokens, len(corpus), sorted(path.name for path in Path(folder, "poem").iterdir())
    (('<unk>', 'to', 'be', 'or'), 140, ['corpus.json', 'ids.npy', 'vocabulary.json'])
    """
    work = _Work(
        Path(out),
        _Settings(
            files=_names(files),
            level=level,
            min_count=integer("prepare", "min_count", min_count),
            vocab_size=0 if vocab_size is None else integer("prepare", "vocab_size", vocab_size, 2, most_tokens),
            held_out=number("prepare", "held_out", held_out, low=0, high=1, below=True),
            vocabulary="" if vocabulary is None else _digest(vocabulary),
        ),
        integer("prepare", "most_tokens", most_tokens, low=2),
        integer("prepare", "every", every),
    )
    if level == "byte" and vocabulary not in (None, Vocabulary.of_bytes()):
        raise ConfigError(f"prepare: level 'byte' needs the vocabulary of bytes, got {vocabulary!r}")
    try:
        work.begin(force)
        if not work.done:
            work.make(vocabulary, on_progress)
        work.clean()
    except OSError as error:
        error.filename = error.filename or os.fspath(out)  # a full disk is an error without a name
        raise
    return Corpus.open(out)


@dataclass(frozen=True)
class _Settings:
    """What the result of a preparation depends on."""

    files: list[str]
    level: Level
    min_count: int
    vocab_size: int
    held_out: float
    vocabulary: str

    def __post_init__(self) -> None:
        check_level("prepare", self.level)


@dataclass
class _Work:
    """A preparation: its files in a folder of the corpus, and how far it is."""

    out: Path
    settings: _Settings
    most_tokens: int
    every: int
    position: Position = field(default_factory=Position)
    sizes: list[int] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    done: bool = False  # the corpus is there, and what it was made of may be removed
    saved: bool = False  # there is a point to go on from
    created: list[Path] = field(default_factory=list)  # folders that were not there before, the innermost first

    @property
    def folder(self) -> Path:
        return self.out / WORK

    def begin(self, force: bool) -> None:
        """Make the folder, or read how far an earlier call came."""
        others = {path.name for path in self.out.glob("[!.]*")} - {NAME, IDS, VOCABULARY, WORK}
        if others:
            raise ConfigError(f"prepare: {self.out} holds other files ({min(others)}); choose a folder of its own")
        for file in self.settings.files:
            check_file(file)
        if not force and self._goes_on():
            return
        if (self.out / NAME).exists() and not force:
            raise ConfigError(
                f"prepare: {self.out} is a corpus already; choose another folder, or replace it with --force"
            )
        if self.folder.is_dir():
            shutil.rmtree(self.folder)
        self.created = [path for path in (self.out, *self.out.parents) if not path.exists()]
        self.folder.mkdir(parents=True)
        self._save()

    def make(self, given: Vocabulary | None, on_progress: Callable[[int, int], None] | None) -> None:
        """Read the texts and finish the corpus; if that fails, leave only what another call can go on from."""
        ended = False
        try:
            self.read(on_progress)
            ended = True
            self.finish(given)
        except BaseException as error:
            if not self.saved or (ended and isinstance(error, CorpusError | ConfigError)):
                self._discard()
            raise

    def _discard(self) -> None:
        """Remove what was begun."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):  # what others have put there stays
            for path in self.created:
                path.rmdir()

    def _goes_on(self) -> bool:
        """Read how far an earlier call came; return whether there was one."""
        try:
            found = json.loads((self.folder / _PROGRESS).read_bytes())
        except FileNotFoundError:
            return False
        if found["settings"] != asdict(self.settings):
            raise ConfigError(
                f"prepare: {self.out} holds an unfinished preparation of other files or settings; pass the same again, "
                "choose another folder, or begin anew with --force"
            )
        self.position, self.sizes = Position(**found["position"]), found["sizes"]
        self.saved = self.position != Position()
        self.runs, self.done = [Run(**run) for run in found["runs"]], found.get("done", False)
        return True

    def _save(self) -> None:
        """Write how far it is; all that the runs say is on the disk."""
        names = ("settings", "position", "sizes", "runs", "done")
        values = {name: value for name, value in asdict(self).items() if name in names}
        write_atomically(self.folder / _PROGRESS, json.dumps(values))
        self.saved = self.position != Position()

    def read(self, on_progress: Callable[[int, int], None] | None) -> None:
        """Read the texts to their end, and write their runs."""
        writer = Writer(self.folder, self.settings.level, self.most_tokens, self.runs)
        tokens, unsaved = sum(run.length for run in self.runs), 0
        self.sizes += [0] * (len(self.settings.files) - len(self.sizes))
        with closing(writer):
            for piece in pieces(self.settings.files, self.settings.level, self.position, min(SIZE, self.every)):
                tokens += writer.add(piece)
                self.sizes[self.position.file] += piece.size
                self.position, unsaved = piece.after, unsaved + piece.size
                if on_progress is not None:
                    on_progress(sum(self.sizes), tokens)
                if unsaved >= self.every:
                    writer.flush()
                    self.runs, unsaved = writer.runs, 0
                    self._save()
        self.runs = writer.runs
        self._save()

    def finish(self, given: Vocabulary | None) -> None:
        """Make the vocabulary, and the corpus of the runs; all of it is made again if it is killed."""
        settings, tokens = self.settings, sum(run.length for run in self.runs)
        if not tokens:
            raise CorpusError(f"prepare: the texts hold no tokens at level {settings.level!r}; pass more text")
        given = Vocabulary.of_bytes() if settings.level == "byte" else given
        cut = 0 if given else cut_of("prepare", tokens, settings.held_out) if settings.held_out else tokens
        vocabulary = given or self._vocabulary(cut)
        content = json.dumps(vocabulary.to_list(), ensure_ascii=False).encode()
        (self.folder / VOCABULARY).write_bytes(content)
        V = len(vocabulary)
        dtype = np.dtype("uint8" if V <= 1 << 8 else "uint16" if V <= 1 << 16 else "uint32")
        digests = {IDS: self._write_ids(vocabulary, dtype, tokens), VOCABULARY: hashlib.sha256(content).hexdigest()}
        (self.out / NAME).unlink(missing_ok=True)  # of the corpus that this one replaces
        for name in (IDS, VOCABULARY):
            (self.folder / name).replace(self.out / name)
        sources = [*zip(settings.files, self.sizes, strict=True)]
        Prepared(
            self.out,
            settings.level,
            tokens=tokens,
            training_tokens=cut,
            held_out=settings.held_out,
            min_count=settings.min_count,
            vocab_size=V,
            dtype=dtype.name,
            sources=sources,
            sha256=digests,
        ).write(__version__)
        self.done = True
        self._save()

    def clean(self) -> None:
        """Remove what the corpus was made of; last of all how far it is, so that this too can be killed and goes on."""
        for path in self.folder.iterdir():
            if path.name != _PROGRESS:
                path.unlink()
        shutil.rmtree(self.folder)

    def _vocabulary(self, training_tokens: int) -> Vocabulary:
        size = self.settings.vocab_size or self.most_tokens
        found = count_vocabulary(self.folder, self.runs, training_tokens, self.settings.min_count, size)
        if len(found) == size and not self.settings.vocab_size:
            warn(
                f"prepare: the vocabulary is limited to the {size:,} most frequent tokens, since it is held in memory; "
                "a higher min_count or a vocab_size makes it smaller",
            )
        return found

    def _write_ids(self, vocabulary: Vocabulary, dtype: np.dtype[np.unsignedinteger], tokens: int) -> str:
        """Write the ids of all runs as an array of NumPy; return the digest of the file."""
        digest = hashlib.sha256()
        with (self.folder / IDS).open("wb") as file:
            header = {"descr": dtype.newbyteorder("<").str, "fortran_order": False, "shape": (tokens,)}
            np.lib.format.write_array_header_1_0(file, header)
            file.flush()
            digest.update((self.folder / IDS).read_bytes())
            for run in self.runs:
                table = vocabulary.encode(run.table(self.folder)).astype(dtype)
                for block in run.blocks(self.folder):
                    part = table[block].tobytes()
                    digest.update(part)
                    file.write(part)
            file.flush()
            os.fsync(file.fileno())
        return digest.hexdigest()


def _names(files: Sequence[str | os.PathLike[str]]) -> list[str]:
    if isinstance(files, str | os.PathLike) or not files:
        raise ConfigError(f"prepare: files must be a list of one path or more, got {files!r}")
    names = [os.fspath(file) for file in files]
    if names.count("-") > 1:
        raise ConfigError("prepare: files has '-' more than once; stdin can be read once")
    return names


def _digest(vocabulary: Vocabulary) -> str:
    tokens = vocabulary.to_list()
    if Vocabulary(tokens) != vocabulary:
        raise ConfigError(f"prepare: the unknown token of a vocabulary must be '<unk>', or none, for {vocabulary!r}")
    return hashlib.sha256(json.dumps(tokens).encode()).hexdigest()
