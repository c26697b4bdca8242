"""Sizes of memory: bytes as a number, or as text with a unit."""

from __future__ import annotations

import re
from fractions import Fraction

from ..checks import integer
from ..errors import ConfigError

UNITS = {"GiB": 2**30, "GB": 10**9, "MiB": 2**20, "MB": 10**6, "KiB": 2**10, "kB": 10**3, "B": 1}
"""Bytes of each unit, larger ones first."""

SIZE = rf"([0-9]{{1,15}}(?:\.[0-9]{{1,9}})? ?(?:{'|'.join(UNITS)}))"
"""The form of a size as text."""


def bytes_of(owner: str, argument: str, size: object) -> int:
    """Return a size in bytes.

    Args:
        owner: whose argument it is, for the message.
        argument: its name, for the message.
        size: an integer of 1 or more, or text such as "64 MB" or "1.5GiB".

    Raises:
        ConfigError: if it is neither, or is less than a byte.

    >>> bytes_of("Checkpointed", "memory", "1.5 KiB"), bytes_of("Checkpointed", "memory", 100)
    (1536, 100)
    """
    if not isinstance(size, str):
        return integer(owner, f'{argument}, if it is no text such as "64 MB",', size)
    found = re.fullmatch(SIZE, size.strip())
    if found is None:
        raise ConfigError(f'{owner}: {argument} must be a number of bytes or a text such as "64 MB", got {size!r}')
    number, unit = re.split(r" ?(?=[A-Za-z])", found[1], maxsplit=1)
    return integer(owner, argument, int(Fraction(number) * UNITS[unit]))


def size_text(size: int) -> str:
    """Return a number of bytes as text, in the largest unit of which it is a multiple.

    >>> size_text(64_000_000), size_text(1536), size_text(100)
    ('64MB', '1536B', '100B')
    """
    unit = next(unit for unit, factor in UNITS.items() if size % factor == 0)
    return f"{size // UNITS[unit]}{unit}"
