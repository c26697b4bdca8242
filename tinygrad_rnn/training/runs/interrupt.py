"""Signals that end a run after the current update."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from ...exits import interrupted_by

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass
class Interrupt:
    """The signal that has arrived, if any.

    Attributes:
        signal: its number; None: none has arrived.
    """

    signal: int | None = None


@contextmanager
def interruptible() -> Iterator[Interrupt]:
    """Note the first Ctrl-C or SIGTERM instead of ending; the second one raises KeyboardInterrupt.

    Only the main thread receives signals; in other threads nothing changes.
    """
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return

    def note(number: int, frame: FrameType | None) -> None:
        if interrupt.signal is not None:
            raise interrupted_by(number)
        interrupt.signal = number

    before = {number: signal.signal(number, note) for number in _SIGNALS}
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
