"""Sums over processes that go on while a process computes."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mpi4py import MPI

_PAUSE = 1e-4  # seconds between two questions


class Sum:
    """A sum over all processes that has begun.

    MPI moves it on when it is asked about it, so a thread asks now and then while the caller computes in C.
    """

    def __init__(self, request: MPI.Request | None) -> None:
        self._request = request
        self._error: Exception | None = None
        self._hurry = False
        self._thread = threading.Thread(target=self._ask, daemon=True)
        if request is not None:
            self._thread.start()

    def wait(self) -> None:
        """Wait for the end.

        Raises:
            MPI.Exception: what MPI found on the way.
        """
        if self._request is not None:
            self._hurry = True
            self._thread.join()
        if self._error is not None:
            raise self._error

    def _ask(self) -> None:
        assert self._request is not None
        try:
            while not self._hurry:
                if self._request.Test():
                    return
                time.sleep(_PAUSE)
            self._request.Wait()
        except Exception as error:
            self._error = error
