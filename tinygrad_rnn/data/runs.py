"""Runs: the stretches of a text whose tokens are numbered by a table of their own, in files.

A run numbers its tokens in the order of their first appearance. It ends where its table would not fit into the width of
its numbers (1, 2 or 4 bytes), or into memory. Tables of tokens and numbers are written to files as they grow.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import numpy.typing as npt

from .mapped import BLOCK
from .pieces import Piece
from .text import Level

Numbers = npt.NDArray[np.unsignedinteger]


class Table(Protocol):
    """The tokens of a run and their numbers."""

    def __len__(self) -> int:
        """Return how many tokens there are."""

    def numbers(self, piece: Piece, level: Level) -> Numbers:
        """Return the numbers of a piece of text; tokens that are new get the next ones."""

    def newest(self, count: int) -> list[str]:
        """Return the last tokens, in order."""

    def restore(self, tokens: list[str]) -> None:
        """Take the tokens of an earlier table, which this one goes on with; it is empty."""


class _Tokens(dict[str, int]):
    """A table that gives a token that it lacks the next number."""

    def __missing__(self, token: str) -> int:
        self[token] = number = len(self)
        return number

    def numbers(self, piece: Piece, level: Level) -> Numbers:
        tokens = piece.tokens(level)
        return np.fromiter(map(self.__getitem__, tokens), np.uint32, len(tokens))

    def newest(self, count: int) -> list[str]:
        return [*islice(reversed(self), count)][::-1]

    def restore(self, tokens: list[str]) -> None:
        self.update(zip(tokens, range(len(tokens)), strict=True))


class _Characters:
    """A table of characters, by their code points."""

    def __init__(self) -> None:
        self._found: list[str] = []
        self._numbers = np.full(0x110000, -1, np.int32)

    def __len__(self) -> int:
        return len(self._found)

    def numbers(self, piece: Piece, level: Level) -> Numbers:
        codes = np.frombuffer(cast(str, piece.text).encode("utf-32-le"), "<u4")
        missing, first = np.unique(codes[self._numbers[codes] < 0], return_index=True)
        self.restore([chr(code) for code in missing[np.argsort(first)]])
        found: Numbers = self._numbers[codes].astype(np.uint32)
        return found

    def newest(self, count: int) -> list[str]:
        return self._found[len(self) - count :]

    def restore(self, tokens: list[str]) -> None:
        self._numbers[[ord(token) for token in tokens]] = np.arange(len(self), len(self) + len(tokens))
        self._found += tokens


class _Bytes:
    """A table in which the number of a byte is the byte."""

    def __len__(self) -> int:
        return 256

    def numbers(self, piece: Piece, level: Level) -> Numbers:
        return np.frombuffer(cast(bytes, piece.text), np.uint8)

    def newest(self, count: int) -> list[str]:
        return [chr(byte) for byte in range(256 - count, 256)]

    def restore(self, tokens: list[str]) -> None:
        """It has all of them."""


def _table(level: Level) -> Table:
    kinds: dict[str, type[_Tokens | _Characters | _Bytes]] = {"char": _Characters, "byte": _Bytes}
    return kinds.get(level, _Tokens)()


@dataclass
class Run:
    """A run, as it lies in its two files.

    Attributes:
        number: of the run.
        width: bytes of a number.
        length: tokens of text.
        tokens: different ones.
        table_bytes: of the file of the table.
    """

    number: int
    width: int = 1
    length: int = 0
    tokens: int = 0
    table_bytes: int = 0

    def ids_at(self, folder: Path) -> Path:
        """Return the file of the numbers of its text."""
        return folder / f"run-{self.number:05d}.ids"

    def table_at(self, folder: Path) -> Path:
        """Return the file of its tokens, one JSON string a line, in the order of their numbers."""
        return folder / f"run-{self.number:05d}.tokens"

    def table(self, folder: Path) -> list[str]:
        """Return its tokens in the order of their numbers."""
        with self.table_at(folder).open("rb") as file:
            return cast(list[str], json.loads(b"[" + b",".join(islice(file, self.tokens)) + b"]"))

    def blocks(self, folder: Path, most: int | None = None) -> Iterator[Numbers]:
        """Yield the numbers of its first tokens of text, in parts."""
        left = self.length if most is None else min(most, self.length)
        with self.ids_at(folder).open("rb") as file:
            while left > 0:
                found: Numbers = np.fromfile(file, f"<u{self.width}", min(left, BLOCK))
                left -= len(found)
                yield found


class Writer:
    """Write the runs of a text; `runs` is what they are once `flush` was called.

    Args:
        folder: for the files; it exists.
        level: "word", "char", "byte" or "token".
        most: different tokens of a run in memory.
        runs: of an earlier preparation, which this one goes on with: what was written after them is cut off.
    """

    def __init__(self, folder: Path, level: Level, most: int, runs: list[Run]) -> None:
        self._folder, self._level, self._most = folder, level, most
        self.runs = runs or [Run(0)]
        self._table = _table(level)
        for path in folder.glob("run-*"):
            if path.stem > f"run-{self.runs[-1].number:05d}":
                path.unlink()
        self._open()
        if self._run.tokens:
            self._table.restore(self._run.table(folder))

    @property
    def _run(self) -> Run:
        return self.runs[-1]

    def _open(self) -> None:
        paths = self._run.ids_at(self._folder), self._run.table_at(self._folder)
        for path, size in zip(paths, (self._run.length * self._run.width, self._run.table_bytes), strict=True):
            path.touch()
            os.truncate(path, size)
        self._ids, self._tokens = (path.open("ab") for path in paths)

    def add(self, piece: Piece) -> int:
        """Write a piece of text; return how many tokens it has."""
        while True:
            before = self._run.tokens
            found = self._table.numbers(piece, self._level)
            fits = len(self._table) <= 1 << 8 * self._run.width
            if fits and (len(self._table) <= self._most or not before):
                break
            self._next(self._run.width if fits else min(4, 2 * self._run.width))
        new = self._table.newest(len(self._table) - before)
        lines = "".join(json.dumps(token, ensure_ascii=False) + "\n" for token in new).encode()
        self._ids.write(found.astype(f"<u{self._run.width}").tobytes())
        self._tokens.write(lines)
        self._run.length += len(found)
        self._run.tokens += len(new)
        self._run.table_bytes += len(lines)
        return len(found)

    def _next(self, width: int) -> None:
        """Begin another run, of which the table is empty, in place of the last one if that is empty too."""
        self.close()
        last = self.runs.pop()
        self.runs += [last, Run(last.number + 1, width)] if last.length else [Run(last.number, width)]
        self._table = _table(self._level)
        self._open()

    def flush(self) -> None:
        """Write all of it to the disk."""
        for file in (self._ids, self._tokens):
            file.flush()
            os.fsync(file.fileno())

    def close(self) -> None:
        """Write all of it, and close the files."""
        with self._ids, self._tokens:  # closed on a full disk too
            self.flush()
