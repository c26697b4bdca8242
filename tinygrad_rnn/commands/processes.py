"""A command of several processes: the first one speaks, and an error of one ends all."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from ..exits import status_of
from ..launch import launched
from ..parallel.group import Group, world

_PATIENCE = 3.0  # seconds within which the others end too, or meet the same error if it is the same for all


@contextmanager
def of_this_run() -> Iterator[Group]:
    """Yield the processes that `mpiexec` has launched, or this one alone. Only the first of them prints.

    An error that all processes meet is raised in the first, and ends the others without a word. One that a single
    process meets would leave the others waiting for it: it is printed, and ends them.
    """
    if launched() == 1:
        yield Group()
        return
    group = world()
    try:
        streams = _FirstOnly(sys.stdout, group), _FirstOnly(sys.stderr, group)
        with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
            yield group
        group.all_arrive(_PATIENCE)  # one that ends while others are in the last collective is taken for dead
    except BaseException as error:
        if not group.all_arrive(_PATIENCE):
            text = " ".join(f"{type(error).__name__}: {error}".split())
            print(f"tinygrad-rnn: error: process {group.rank} of {group.size}: {text}", file=sys.stderr, flush=True)
            group.abort(status_of(error))
        if not group.is_first:
            raise SystemExit(status_of(error)) from error
        raise


class _FirstOnly(io.TextIOBase):
    """A stream that prints what the first process writes."""

    def __init__(self, stream: TextIO, group: Group) -> None:
        self._stream, self._group = stream, group

    def write(self, text: str) -> int:
        """Write a text, if this is the first process now."""
        return self._stream.write(text) if self._group.is_first else len(text)

    def flush(self) -> None:
        """Hand on what is held back."""
        self._stream.flush()

    def isatty(self) -> bool:
        """Return whether it is a terminal, and the first process."""
        return self._group.is_first and self._stream.isatty()

    def fileno(self) -> int:
        """Return the number of the stream's file."""
        return self._stream.fileno()
