"""The lessons, one module each."""

from __future__ import annotations

from ...errors import ConfigError
from ..exercises.exercise import Lesson
from .bptt_by_hand import LESSON as BPTT_BY_HAND

LESSONS = (BPTT_BY_HAND,)
"""In their order."""


def lesson(number: int) -> Lesson:
    """Return a lesson by its number.

    Raises:
        ConfigError: if there is none.
    """
    for one in LESSONS:
        if one.number == number:
            return one
    known = ", ".join(str(one.number) for one in LESSONS)
    raise ConfigError(f"lesson: there is no lesson {number}; there are {known}")
