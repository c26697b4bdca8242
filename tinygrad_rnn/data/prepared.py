"""Prepared corpora: folders with the ids of a text in a file that is mapped into memory, and their vocabulary.

corpus.json says what the text was and how it was prepared, vocabulary.json is the list of tokens, and ids.npy an array
of NumPy. corpus.json is written last and completely, with the sha256 of the others: a folder that has it is finished.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import cast, get_args

import numpy as np

from ..errors import CorpusError
from ..files import read_whole, write_atomically
from .text import Level
from .vocabulary import IdArray, Vocabulary

FORMAT, VERSION = "tinygrad_rnn corpus", 1
NAME, VOCABULARY, IDS, WORK = "corpus.json", "vocabulary.json", "ids.npy", "preparing"
_MOST = 1 << 30  # bytes of a vocabulary


@dataclass(frozen=True)
class Prepared:
    """What corpus.json of a prepared corpus says.

    Attributes:
        folder: where it is.
        level: "word", "char", "byte" or "token".
        tokens: T, in all.
        training_tokens: those at the start that the vocabulary was made of; 0: it was given, or is that of bytes.
        held_out: the share at the end that the vocabulary was not made of.
        min_count: tokens rarer than this are unknown.
        vocab_size: V.
        dtype: of the ids.
        sources: name and bytes of each file of text, in order.
        sha256: digests of ids.npy and vocabulary.json.
    """

    folder: Path
    level: Level
    tokens: int
    training_tokens: int
    held_out: float
    min_count: int
    vocab_size: int
    dtype: str
    sources: list[tuple[str, int]] = field(default_factory=list)
    sha256: dict[str, str] = field(default_factory=dict)

    def write(self, version: str) -> None:
        """Write corpus.json, with which the folder is finished.

        Args:
            version: of this library.
        """
        values = {name: value for name, value in asdict(self).items() if name != "folder"}
        whole = {"format": FORMAT, "version": VERSION, "tinygrad_rnn": version, **values}
        write_atomically(self.folder / NAME, json.dumps(whole, indent=1) + "\n")

    def ids(self) -> IdArray:
        """Return the ids, mapped from their file; (T,).

        Raises:
            CorpusError: if the file is missing, or is not of the size or the dtype that corpus.json says.
        """
        path = self.folder / IDS
        try:
            found = np.load(path, mmap_mode="r", allow_pickle=False)
            size = path.stat().st_size
        except (OSError, ValueError, EOFError) as error:
            raise _damaged(path, str(error)) from error
        if not isinstance(found, np.memmap) or found.shape != (self.tokens,) or found.dtype != self.dtype:
            raise _damaged(path, f"expected {self.tokens:,} ids of {self.dtype}, got {found.shape} of {found.dtype}")
        if size != found.offset + found.nbytes:
            raise _damaged(path, f"expected {found.offset + found.nbytes:,} bytes, got {size:,}")
        return found

    def vocabulary(self) -> Vocabulary:
        """Return the vocabulary.

        Raises:
            CorpusError: if its file is missing, or is not the one that was written.
        """
        path = self.folder / VOCABULARY
        try:
            content = read_whole(path, _MOST)
        except OSError as error:
            raise _damaged(path, str(error)) from error
        if hashlib.sha256(content).hexdigest() != self.sha256.get(VOCABULARY):
            raise _damaged(path, "its sha256 does not fit")
        return Vocabulary(json.loads(content))

    def check(self) -> None:
        """Read all of it, and compare the digests.

        Raises:
            CorpusError: if a file is damaged; the message names it.
        """
        self.vocabulary()
        self.ids()
        if file_digest(self.folder / IDS) != self.sha256.get(IDS):
            raise _damaged(self.folder / IDS, "its sha256 does not fit its content")


def is_prepared(path: str | os.PathLike[str]) -> bool:
    """Return whether a path means a prepared corpus: a folder, as opposed to a file of text.

    >>> is_prepared("poem.txt")
    False
    """
    return os.path.isdir(os.fspath(path))  # noqa: PTH112 (a Path of an empty text is the current folder)


def read_prepared(function: str, folder: str | os.PathLike[str]) -> Prepared:
    """Return what corpus.json of a folder says.

    Args:
        function: what the user called, for messages.
        folder: of the corpus.

    Raises:
        CorpusError: if it is no prepared corpus, is not finished, damaged, or of a newer version.
    """
    path = Path(folder)
    where = f"{function}: {os.fspath(folder)!r}"
    try:
        values = json.loads(read_whole(path / NAME, 1 << 24))
    except FileNotFoundError as error:
        if (path / WORK).is_dir():
            raise CorpusError(
                f"{where} is not prepared to its end; run the same `tinygrad-rnn prepare` again"
            ) from error
        raise CorpusError(
            f"{where} is not a prepared corpus: it has no {NAME}; pass a text file, or a folder that `tinygrad-rnn "
            "prepare` made"
        ) from error
    except (OSError, ValueError) as error:
        raise _damaged(path / NAME, str(error)) from error
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise CorpusError(f"{where} is not a prepared corpus: its {NAME} is of another format")
    if type(values.get("version")) is not int or values["version"] > VERSION:
        raise CorpusError(
            f"{where} has format version {values.get('version')!r}, and this tinygrad_rnn reads up to {VERSION}: use a "
            f"newer one (it was written by {values.get('tinygrad_rnn')!r})"
        )
    return _parsed(path, values)


def _parsed(path: Path, values: Mapping[str, object]) -> Prepared:
    kinds = {"tokens": int, "training_tokens": int, "min_count": int, "vocab_size": int, "held_out": (int, float)}
    kinds |= {"level": str, "dtype": str, "sources": list, "sha256": dict}
    for name, kind in kinds.items():
        if not isinstance(values.get(name), cast(type, kind)):
            raise _damaged(path / NAME, f"{name} is {values.get(name)!r}")
    if values["level"] not in get_args(Level) or values["dtype"] not in ("uint8", "uint16", "uint32"):
        raise _damaged(path / NAME, f"level is {values['level']!r} and dtype {values['dtype']!r}")
    chosen = {name: values[name] for name in kinds}
    return Prepared(path, **chosen)  # type: ignore[arg-type]  # each was checked above


def file_digest(path: Path) -> str:
    """Return the sha256 of a file, of which only a part is in memory at a time."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _damaged(path: Path, reason: str) -> CorpusError:
    return CorpusError(f"{os.fspath(path)!r} is damaged ({' '.join(reason.split())}); prepare the corpus again")
