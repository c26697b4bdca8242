"""Arrays in files that are mapped into memory: read in parts, of which none stays in memory."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from typing import TypeVar

import numpy as np
import numpy.typing as npt

_Scalar = TypeVar("_Scalar", bound=np.generic)

BLOCK = 1 << 20
"""Elements that are read at a time."""


def mapping_of(array: npt.NDArray[np.generic]) -> mmap.mmap | None:
    """Return the mapping of the file that an array is a view of; None: it is in memory, or holds changes of its own.

    >>> mapping_of(np.zeros(3)) is None
    True
    """
    found: object = array
    while isinstance(found, np.ndarray):
        if isinstance(found, np.memmap) and found.mode == "c":  # its pages hold what was written, the file does not
            return None
        found = found.base
    return found if isinstance(found, mmap.mmap) else None


def release(*arrays: npt.NDArray[np.generic]) -> None:
    """Give back the memory of what was read from mapped files; it is read again when it is needed.

    Without it a process seems to hold all of a file that it went through once, until the system needs the memory.
    Arrays in memory are left alone, and so are systems that have no such call.
    """
    for array in arrays:
        mapping = mapping_of(array)
        if mapping is not None and hasattr(mapping, "madvise"):
            mapping.madvise(mmap.MADV_DONTNEED)


def blocks(array: npt.NDArray[_Scalar], size: int = BLOCK) -> Iterator[npt.NDArray[_Scalar]]:
    """Yield the parts of an array one after another, and give back the memory of each.

    >>> [block.tolist() for block in blocks(np.arange(5), 2)]
    [[0, 1], [2, 3], [4]]
    """
    for start in range(0, len(array), size):
        yield array[start : start + size]
        release(array)
