"""Reading of text files, and conversion of text to tokens and back."""

from __future__ import annotations

import errno
import gzip
import io
import os
import re
import zlib
from collections.abc import Sequence
from typing import Literal, get_args

from tinygrad_rnn.checks import instance, integer
from tinygrad_rnn.data.vocabulary import UNKNOWN
from tinygrad_rnn.errors import ConfigError, CorpusError
from tinygrad_rnn.files import read_whole

Level = Literal["word", "char", "byte", "token"]
"""The kind of token: a word, a character, a byte, or what white space separates."""

EOS = "<eos>"
"""The token for a line end, except at the character level."""

# One alternative a kind of token: line end with the blank lines after it, <unk>, word, any other sign.
_WORD = re.compile(rf"\n\s*|{UNKNOWN}|\w+(?:['\u2019]\w+)*|[^\w\s]")
_RULE = re.compile(r"[-=*~+|^\s]{4,}")  # a ruled line, without content
_SPACE_BEFORE = re.compile("[ ](?=[,.;:!?)\\]}'\u2019])")
_SPACE_AFTER = re.compile(r"(?<=[(\[{])[ ]")


_MOST = 1 << 28  # bytes; the tokens of such a text take about ten times as much


def read_text(path: str | os.PathLike[str], max_bytes: int = _MOST) -> str:
    r"""Read a utf-8 text file strictly.

    A byte order mark at the start is dropped, and CRLF and a lone CR become LF. A file with a NUL byte is
    rejected: it is a binary file, or utf-16 that happens to be valid utf-8. One whose name ends with .gz is unpacked.

    Args:
        path: the file.
        max_bytes: the most that it may hold, packed and unpacked. A larger file is refused before it is read.

    Returns:
        Its text, at least one character.

    Raises:
        CorpusError: if the file is missing, a folder, a device or pipe, too large, unreadable, damaged or empty,
            holds a NUL byte, or is not utf-8. The last two name the byte offset, counted from 0.
        ConfigError: if `max_bytes` is not an integer of 1 or more.

    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "poem.txt")
    ...     _ = path.write_bytes(b"\xef\xbb\xbfto be\r\nor not\r\n")
    ...     read_text(path)
    'to be\nor not\n'
    """
    where = f"read_text: {os.fspath(path)!r}"
    return decode_text(where, _read(path, where, integer("read_text", "max_bytes", max_bytes)))


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Return the bytes of a file, unpacked if its name ends with .gz, for the level "byte".

    Raises:
        CorpusError: if the file is missing, a folder, a device or pipe, too large, unreadable, damaged or empty.
    """
    where = f"read_bytes: {os.fspath(path)!r}"
    data = _read(path, where, _MOST)
    if not data:
        raise CorpusError(f"{where} is empty; pass a file that holds something")
    return data


def _read(path: str | os.PathLike[str], where: str, most: int) -> bytes:
    if "\0" in os.fsdecode(path):
        raise CorpusError(f"{where} cannot be read: a path holds no NUL character")
    try:
        data = read_whole(path, most)
    except FileNotFoundError as error:
        raise CorpusError(f"{where} does not exist; check the path") from error
    except IsADirectoryError as error:
        raise CorpusError(f"{where} is a folder; pass a text file in it") from error
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise CorpusError(
                f"{where} {error.strerror}; `tinygrad-rnn prepare` makes a corpus of it that is read in parts, or pass "
                "a larger max_bytes"
            ) from error
        if error.errno == errno.EINVAL:
            raise CorpusError(f"{where} {error.strerror}; pass a text file") from error
        raise CorpusError(f"{where} cannot be read: {error.strerror}; pass a text file") from error
    return _unpacked(data, where, most) if os.fsdecode(path).endswith(".gz") else data


def _unpacked(packed: bytes, where: str, most: int) -> bytes:
    try:
        data = gzip.GzipFile(fileobj=io.BytesIO(packed)).read(most + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise CorpusError(f"{where} cannot be read to its end: {error}; is it damaged?") from error
    if len(data) > most:
        raise CorpusError(
            f"{where} holds more than {most:,} bytes when it is unpacked; `tinygrad-rnn prepare` makes a corpus of it "
            "that is read in parts, or pass a larger max_bytes"
        )
    return data


def decode_text(where: str, data: bytes) -> str:
    r"""Return the text that bytes of a file hold, as `read_text` does.

    Args:
        where: what was read, for messages.
        data: the bytes.

    Raises:
        CorpusError: if they are not a text: not utf-8, with a NUL byte, or empty.

    >>> decode_text("stdin", b"to be\r\n")
    'to be\n'
    """
    text = decode_part(where, data).removeprefix("\ufeff")
    if not text:
        raise CorpusError(f"{where} is empty; pass a file that holds text")
    return text


def decode_part(where: str, data: bytes, offset: int = 0) -> str:
    r"""Return the text of a part of a file, with "\n" as its line end.

    Args:
        where: what was read, for messages.
        data: the bytes; they do not end inside a character, or between "\r" and "\n".
        offset: of the first byte in the file, for messages.

    Raises:
        CorpusError: if they are not utf-8, or there is a NUL byte.

    >>> decode_part("stdin", b"a\rb\r\n")
    'a\nb\n'
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        packed = data.startswith(b"\x1f\x8b") and not offset
        hint = "; it is a gzip file: give it a name that ends with .gz, or unpack it" if packed else ""
        raise CorpusError(
            f"{where} is not utf-8 at byte offset {offset + error.start} ({error.reason}); save the file as utf-8{hint}"
        ) from error
    if b"\0" in data:
        raise CorpusError(
            f"{where} holds a NUL byte at byte offset {offset + data.index(0)}: a binary file, or utf-16; "
            "pass a text file, saved as utf-8"
        )
    return text.replace("\r\n", "\n").replace("\r", "\n")


def embedded_text() -> str:
    """Return the Python language reference that ships with CPython, about 448 000 characters of English.

    The text is `pydoc_data.topics`, its topics in the order of their names with a newline between two. Lines that
    only rule a heading or a table (-----, =====, +---+) are left out, because they are trivial to predict and would
    flatter the perplexity. The text is the same on every machine with the same Python version, and differs a little
    between versions.

    Returns:
        The text.

    Raises:
        CorpusError: if this Python was packaged without `pydoc_data`.

    >>> "assert" in embedded_text()
    True
    """
    try:
        # Imported here, not above: it is half a megabyte that only this function needs.
        from pydoc_data.topics import topics
    except ImportError as error:
        raise CorpusError(
            "embedded_text: this Python was packaged without pydoc_data, which holds the text; "
            "pass a corpus file of your own"
        ) from error
    lines = "\n".join(topics[name] for name in sorted(topics)).split("\n")
    return "\n".join(line for line in lines if not (line.strip() and _RULE.fullmatch(line)))


def check_level(function: str, level: str) -> None:
    """Raise unless `level` is "word", "char", "byte" or "token".

    Args:
        function: name of the function that the user called, for the message.
        level: what the user passed.

    Raises:
        ConfigError: if it is anything else.

    >>> check_level("tokenize", "word")
    """
    if level not in get_args(Level):
        raise ConfigError(f"{function}: level must be 'word', 'char', 'byte' or 'token', got {level!r}")


def tokenize(text: str | bytes, level: Level) -> list[str]:
    r"""Cut text into tokens.

    "char": the characters themselves; the line end is "\n".

    "byte": the bytes of the text in utf-8, or those that are given; byte b is the token chr(b).

    "word": the text in lower case, cut into words and signs.
    A word is a run of letters, digits and underscores; an apostrophe between two of them belongs to the
    word ("don't" is one token), any other apostrophe is a sign. Every other character that is not white
    space is a token of its own, combining marks included. A line end becomes "<eos>", blank lines are
    dropped, and a last line without a line end gets no "<eos>", so a prompt can stop in mid-sentence.
    "<unk>" in the text, as the Penn Treebank files have it, stays one token.

    "token": the text is already cut into tokens, with white space between them, as the files of the Penn Treebank and
    of WikiText are; they are taken as they are. Each line end becomes "<eos>", that of a blank line too.

    Args:
        text: the text, with "\n" as its line end; bytes only at level "byte".
        level: "word", "char", "byte" or "token".

    Returns:
        The tokens.

    Raises:
        ConfigError: if `level` is none of them.

    >>> tokenize("Don't panic!\n\nSee (42).\n", "word")
    ["don't", 'panic', '!', '<eos>', 'see', '(', '42', ')', '.', '<eos>']
    >>> tokenize("Hi\n", "char")
    ['H', 'i', '\n']
    >>> tokenize(" he did n't <unk>\n = U.S. =\n", "token")
    ['he', 'did', "n't", '<unk>', '<eos>', '=', 'U.S.', '=', '<eos>']
    """
    check_level("tokenize", level)
    if level == "byte" and isinstance(text, bytes):
        return list(text.decode("latin-1"))
    text = instance("tokenize", "text", text, str)
    if level == "byte":
        return list(text.encode().decode("latin-1"))
    # lstrip drops blank lines at the start; the pattern of a line end takes those that follow it.
    return cut_into_tokens(text.lstrip() if level == "word" else text, level)


def cut_into_tokens(text: str, level: Level) -> list[str]:
    r"""Cut a part of a text, before which no line ends, at any level but "byte"; see `tokenize`.

    >>> cut_into_tokens("\n\nNo", "word")
    ['<eos>', 'no']
    """
    if level == "char":
        return list(text)
    if level == "token":
        first, *lines = (line.split() for line in text.split("\n"))
        return [*first, *(token for line in lines for token in (EOS, *line))]
    found = _WORD.findall(text.lower())
    return [EOS if token[0] == "\n" else token for token in found]


def detokenize(tokens: Sequence[str], level: Level) -> str:
    r"""Join tokens into readable text.

    "char" is the exact inverse of `tokenize`, and "byte" that of utf-8 (other bytes become U+FFFD). "word" puts a space
    between two tokens, except around a line end, before , . ; : ! ? ) ] } ' and after ( [ {, so
    `tokenize(detokenize(tokens))` gives the tokens back if they came from `tokenize`. "token" puts a space between two
    tokens, except around a line end.

    Args:
        tokens: the tokens.
        level: "word", "char", "byte" or "token".

    Returns:
        The text.

    Raises:
        ConfigError: if `level` is none of them.

    >>> detokenize(["see", "(", "42", ")", ".", "<eos>", "bye"], "word")
    'see (42).\nbye'
    >>> detokenize(["H", "i", "\n"], "char")
    'Hi\n'
    """
    check_level("detokenize", level)
    if level in ("char", "byte"):
        text = "".join(tokens)
        return text if level == "char" else text.encode("latin-1", "replace").decode(errors="replace")
    text = " ".join("\n" if token == EOS else token for token in tokens)
    text = re.sub(r" ?\n ?", "\n", text)
    if level == "token":
        return text
    return _SPACE_AFTER.sub("", _SPACE_BEFORE.sub("", text))
