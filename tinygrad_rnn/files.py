"""User files: read only if they are regular files, and written completely or not at all.

A full disk or a killed process leaves the old file unchanged.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def read_whole(path: str | os.PathLike[str], most: int, start: bytes = b"") -> bytes:
    """Return the content of a regular file; one that may never end or wait for a writer is refused before it is read.

    Args:
        path: the file.
        most: largest number of bytes in it.
        start: bytes that it must start with.

    Raises:
        OSError: if there is no such file, it is a folder, a device or a pipe, holds more than `most` bytes, starts
            with something else, or cannot be read; `strerror` says which.
        ValueError: if the path holds a NUL character.

    >>> read_whole("/dev/zero", most=100)
    Traceback (most recent call last):
    OSError: [Errno 22] is not a regular file, but a device, a pipe or the like: '/dev/zero'
    """
    # A pipe is opened without waiting for its writer.
    number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(number, "rb") as file:
        status = os.fstat(number)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "is not a regular file, but a device, a pipe or the like", os.fspath(path))
        if status.st_size > most:
            raise OSError(errno.EFBIG, f"holds {status.st_size:,} bytes, more than {most:,}", os.fspath(path))
        begin = file.read(len(start))
        if begin != start:
            raise OSError(errno.EINVAL, f"starts with {begin!r}, not with {start!r}", os.fspath(path))
        return begin + file.read()


def write_atomically(path: str | os.PathLike[str], content: bytes | str) -> None:
    """Replace a file: its name refers to the old content or to the new, even if the process is killed.

    The new content is written to a temporary file in the same folder, synced to disk, and renamed. A link stays a link,
    and a file keeps its permissions. Anything else, such as /dev/stdout or a pipe, is written to directly.

    Args:
        path: the file; its folder exists.
        content: new content; text is encoded as UTF-8.

    Raises:
        OSError: if it cannot be written; the temporary file is removed and the old file unchanged. If its folder does
            not exist, `strerror` says so.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_atomically(Path(folder, "a.txt"), b"one")
    ...     [(file.name, file.read_bytes()) for file in Path(folder).iterdir()]
    [('a.txt', b'one')]
    """
    data = content.encode() if isinstance(content, str) else content
    target = Path(os.path.realpath(path))
    try:
        mode: int | None = target.stat().st_mode
    except FileNotFoundError:
        mode = None
    if not target.parent.is_dir():
        raise FileNotFoundError(
            errno.ENOENT, f"there is no folder {str(target.parent)!r}; make it first", os.fspath(path)
        )
    if mode is not None and not stat.S_ISREG(mode):
        target.write_bytes(data)  # for a folder: the error that says so
        return
    part = target.with_name(f".{target.name[:40]}.{os.urandom(8).hex()}.part")  # a long name stays within the limit
    try:
        with part.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if mode is not None:
            part.chmod(stat.S_IMODE(mode))
        part.replace(target)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename = os.fspath(path)  # a full disk is an error without a name
        raise
    if os.name == "posix":  # elsewhere a folder cannot be opened
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def append_whole(path: str | os.PathLike[str], text: str) -> None:
    """Append all of a text to a file or nothing; create the file if needed. Readers that follow the file see it grow.

    Args:
        path: the file; its folder exists.
        text: encoded as UTF-8.

    Raises:
        OSError: if it cannot be written; the file is unchanged.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     append_whole(Path(folder, "a.txt"), "one")
    ...     append_whole(Path(folder, "a.txt"), "two")
    ...     Path(folder, "a.txt").read_text()
    'onetwo'
    """
    with Path(path).open("ab", buffering=0) as file:
        before = file.tell()
        try:
            written = file.write(text.encode())
            if written < len(text.encode()):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(file.fileno())
        except BaseException as error:
            file.truncate(before)
            if isinstance(error, OSError):
                error.filename = os.fspath(path)
            raise


def new_figure(function: str, width: float, height: float) -> Figure:
    """Return an empty white matplotlib figure that needs no display, its size in inches.

    Raises:
        ImportError: if matplotlib, the extra tinygrad_rnn[plot], is not there; the message begins with `function`.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            f'{function}: matplotlib is not installed; get it with pip install "tinygrad_rnn[plot]"'
        ) from error
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def write_figure(path: str | os.PathLike[str], figure: Figure, dpi: int) -> None:
    """Replace a file by a matplotlib figure, as `write_atomically` does.

    Args:
        path: the file; its ending chooses the format, PNG if it has none.
        figure: a `matplotlib.figure.Figure`.
        dpi: dots per inch.

    Raises:
        ValueError: if matplotlib has no such format (the message lists them); nothing was written. OSError: if it
        cannot be written; the old file is unchanged.
    """
    target = Path(path)
    buffer = io.BytesIO()
    figure.savefig(buffer, format=target.suffix[1:].lower() or "png", dpi=dpi)
    write_atomically(target, buffer.getvalue())
