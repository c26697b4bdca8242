"""How a command ends: its exit status, and the signals that end it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from .errors import (
    ConfigError,
    CorpusError,
    DrawingError,
    ModelFileError,
    NativeError,
    TraceError,
    UnsupportedError,
)

FAILED, BAD_INPUT = 1, 2
PIPE_CLOSED = 141  # 128 + SIGPIPE, as a shell reports it
INPUT_ERRORS = (
    ConfigError,
    CorpusError,
    DrawingError,
    MemoryError,
    ModelFileError,
    NativeError,
    OSError,
    TraceError,
    UnsupportedError,
)
"""What a user can help: a command says it in one line."""


class TerminatedError(KeyboardInterrupt):
    """SIGTERM: another program asks this one to end, as its user does with Ctrl-C."""


def status_of(error: BaseException) -> int:
    """Return the exit status of a command that ends with an error.

    >>> [status_of(error) for error in (ConfigError(), ArithmeticError(), KeyboardInterrupt(), TerminatedError())]
    [2, 1, 130, 143]
    """
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    if isinstance(error, KeyboardInterrupt):
        return 128 + (signal.SIGTERM if isinstance(error, TerminatedError) else signal.SIGINT)
    if isinstance(error, BrokenPipeError):
        return PIPE_CLOSED
    return BAD_INPUT if isinstance(error, INPUT_ERRORS) else FAILED


def interrupted_by(number: int) -> KeyboardInterrupt:
    """Return the exception that SIGINT or SIGTERM raises."""
    return TerminatedError() if number == signal.SIGTERM else KeyboardInterrupt()


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM raise `TerminatedError`, as Ctrl-C raises KeyboardInterrupt, so that files are left whole.

    Only the main thread receives signals; a handler of the program that calls this is left as it is.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        raise interrupted_by(number)

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
