"""Texts in pieces: files, compressed ones, pipes and stdin, read one after another in bounded memory."""

from __future__ import annotations

import gzip
import hashlib
import os
import stat
import sys
import zlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from ..errors import CorpusError
from .text import Level, cut_into_tokens, decode_part

SIZE = 1 << 20
"""Bytes that are read at a time."""

_LONGEST = 1 << 22  # bytes without a place to cut
_TAIL = 1 << 16  # bytes before a position by which its text is known again
_BLANKS = b" \n\t\r\x0b\x0c"
# Signs that are a token of their own, and at which no rule of lower case looks past: unlike ' . : ^ ` and <unk>'s.
_SIGNS = b',;()[]{}"/=+*&%$#@!?|~\\-'


@dataclass(frozen=True)
class Position:
    """A place in files of text, from which they can be read on.

    Attributes:
        file: number of the file.
        offset: bytes of it that were read, unpacked.
        blank: whether only white space came since the last line end, or since the start.
        tail: sha256 of up to 64 KiB before it.
    """

    file: int = 0
    offset: int = 0
    blank: bool = True
    tail: str = ""


class Piece(NamedTuple):
    """A piece of text, cut where no token goes on.

    Attributes:
        text: the text; bytes at level "byte".
        size: bytes of it in the file, unpacked.
        after: the position after it.
    """

    text: str | bytes
    size: int
    after: Position

    def tokens(self, level: Level) -> list[str]:
        """Return its tokens, at any level but "byte"."""
        return cut_into_tokens(cast(str, self.text), level)


def pieces(files: Sequence[str], level: Level, start: Position | None = None, size: int = SIZE) -> Iterator[Piece]:
    r"""Yield the text of files, in order, as one text.

    The tokens of the pieces are those of the whole text. Where a file does not end with a line end one is put before
    the next file, except at level "byte". As in `read_text`, a byte order mark at the start of a file is dropped, and
    CRLF and CR become LF.

    Args:
        files: their paths; "-" is stdin; one that ends with .gz is unpacked.
        level: "word", "char", "byte" or "token".
        start: where an earlier reading stopped.
        size: bytes to read at a time.

    Raises:
        CorpusError: if a file cannot be read, is not utf-8, holds a NUL byte, or is not the one that was read until
            `start`; or, at the levels "word" and "token", if there are more than 4 MiB without a place to cut.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "poem.txt")
    ...     _ = path.write_text("to be\r\nor not\r\n")
    ...     [piece.text for piece in pieces([str(path)], "word", size=8)]
    ['to be\n', 'or not\n', '']
    """
    start = start or Position()
    for number in range(start.file, len(files)):
        at = start if number == start.file else Position(number, 0, start.blank)
        with _opened(files[number]) as file:
            for piece in _File(files[number], file, level, last=number == len(files) - 1).pieces(at, size):
                start = replace(start, blank=piece.after.blank)
                yield piece


@dataclass
class _File:
    """A file that is being read."""

    name: str
    file: BinaryIO
    level: Level
    last: bool

    def pieces(self, start: Position, size: int) -> Iterator[Piece]:
        tail = self._found(start)
        offset, blank, rest = start.offset, start.blank, b""
        while data := self._read(size):
            rest += data
            cut = _place(rest, self.level)
            if not cut and len(rest) > _LONGEST:
                raise CorpusError(
                    f"{self._where} holds more than {_LONGEST >> 20} MiB without white space, from byte offset "
                    f"{offset} on; is it a text of words? The levels 'char' and 'byte' take any text"
                )
            part, rest = rest[:cut], rest[cut:]
            text, blank = self._text(part, offset, blank)
            offset, tail = offset + len(part), (tail + part)[-_TAIL:]
            yield Piece(text, len(part), Position(start.file, offset, blank, hashlib.sha256(tail).hexdigest()))
        tail += rest
        ends = self.last or self.level == "byte" or tail[-1:] in (b"\n", b"\r", b"")
        text, blank = self._text(rest if ends else rest + b"\n", offset, blank)
        yield Piece(text, len(rest), Position(start.file + 1, 0, blank))

    @property
    def _where(self) -> str:
        return f"prepare: {'stdin' if self.name == '-' else repr(self.name)}"

    def _text(self, part: bytes, offset: int, blank: bool) -> tuple[str | bytes, bool]:
        """Return the text of a part, and whether only white space came since its last line end."""
        if self.level == "byte":
            return part, blank
        text = decode_part(self._where, part, offset)
        if offset == 0:
            text = text.removeprefix("\ufeff")
        if self.level == "word" and blank:  # a line end takes the blank lines after it
            text = text.lstrip()
        return text, (blank if not text else "\n" in text[len(text.rstrip()) :])

    def _read(self, size: int) -> bytes:
        try:
            return self.file.read(size)
        except (OSError, EOFError, zlib.error) as error:
            raise CorpusError(f"{self._where} cannot be read to its end: {error}; is it damaged?") from error

    def _found(self, start: Position) -> bytes:
        """Go to a position; return the bytes before it."""
        if not start.offset:
            return b""
        tail = b""
        if self.file.seekable() and self.name != "-" and not self.name.endswith(".gz"):
            self.file.seek(max(0, start.offset - _TAIL))
            tail = self._read(min(start.offset, _TAIL))
        else:
            left = start.offset
            while left and (data := self._read(min(SIZE, left))):
                left, tail = left - len(data), (tail + data)[-_TAIL:]
        if hashlib.sha256(tail).hexdigest() != start.tail:
            raise CorpusError(
                f"{self._where} is not the text that was read before: it differs before byte offset {start.offset}; "
                "--force begins anew"
            )
        return tail


def _place(text: bytes, level: Level) -> int:
    """Return after how many bytes a text may be cut, as late as possible; 0: nowhere."""
    if level == "byte":
        return len(text)
    if level == "char":
        end = next((back for back in range(1, min(4, len(text)) + 1) if text[-back] & 0xC0 != 0x80), 0)  # a first byte
        first = text[-end] if end else 0
        whole = 1 + (first >= 0xC0) + (first >= 0xE0) + (first >= 0xF0)
        cut = len(text) - end if end and end < whole else len(text)
    else:
        cut = 1 + max(text.rfind(blank) for blank in _BLANKS)
        if not cut and level == "word":
            cut = 1 + max(text.rfind(sign) for sign in _SIGNS)
    return cut - text[:cut].endswith(b"\r")  # a line feed may follow it


def _opened(name: str) -> AbstractContextManager[BinaryIO]:
    """Open a file of text."""
    if name == "-":
        return nullcontext(sys.stdin.buffer)
    check_file(name)
    try:
        return cast(BinaryIO, gzip.open(name)) if name.endswith(".gz") else Path(name).open("rb")
    except OSError as error:
        raise CorpusError(f"prepare: {name!r} cannot be read: {error.strerror}") from error


def check_file(name: str) -> int:
    """Return the bytes of a file; 0 if only reading tells.

    Raises:
        CorpusError: if it is missing, a folder or a device, or may not be read.
    """
    if name == "-":
        return 0
    if "\0" in name:
        raise CorpusError(f"prepare: {name!r} cannot be read: a path holds no NUL character")
    try:
        status = Path(name).stat()
    except OSError as error:
        raise CorpusError(f"prepare: {name!r} cannot be read: {error.strerror}; check the path") from error
    if stat.S_ISDIR(status.st_mode):
        raise CorpusError(f"prepare: {name!r} is a folder; pass the text files in it")
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISFIFO(status.st_mode)):
        raise CorpusError(f"prepare: {name!r} is a device or the like; pass a text file, or - for stdin")
    if not os.access(name, os.R_OK):
        raise CorpusError(f"prepare: {name!r} cannot be read: {os.strerror(13)}")
    return status.st_size if stat.S_ISREG(status.st_mode) and not name.endswith(".gz") else 0
