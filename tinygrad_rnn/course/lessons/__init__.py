"""The lessons, one module each."""

from __future__ import annotations

from ...checks import integer
from ...errors import ConfigError
from ..exercises.exercise import Lesson
from . import (
    bptt_by_hand,
    by_the_graph,
    gates_and_credit,
    language_model,
    long_sequences,
    order_of_data,
    recurrent_cell,
    scissors,
    unrolling,
    word_order,
)

LESSONS: tuple[Lesson, ...] = tuple(
    module.LESSON
    for module in (
        word_order,
        recurrent_cell,
        unrolling,
        bptt_by_hand,
        by_the_graph,
        long_sequences,
        scissors,
        order_of_data,
        language_model,
        gates_and_credit,
    )
)
"""In their order."""


def lesson(number: int, function: str = "lesson") -> Lesson:
    """Return a lesson by its number; `function` is what the user called, for messages.

    Raises:
        ConfigError: if there is none.
    """
    number = integer(function, "number", number)
    for one in LESSONS:
        if one.number == number:
            return one
    known = ", ".join(str(one.number) for one in LESSONS)
    raise ConfigError(f"{function}: there is no lesson {number}; there are {known}")
