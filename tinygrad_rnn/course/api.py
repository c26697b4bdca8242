"""`grade`: the functions of a notebook, or of a program, graded."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import ConfigError
from .exercises.text import LANGUAGES, Language
from .grading.grade import grade_exercise
from .grading.report import Grades
from .lessons import lesson


def grade(number: int, *functions: Callable[..., object], language: Language = "en") -> Grades:
    """Grade exercises of a lesson, as `tinygrad-rnn lesson` does for a file.

    A wrong answer is compared with the right one on several cases. What is said is which result is wrong, from which
    step on and by what factor; where a typical mistake gives the same numbers, its name and a hint; and else which
    argument's share in the result is missing, wrong or multiplied, and at which step.

    Args:
        number: of the lesson, from 1.
        functions: your functions or classes; their names say which exercises they solve.
        language: "en" or "zh", of what is said.

    Returns:
        The grades; in a notebook they show as a table.

    Raises:
        ConfigError: if there is no such lesson, it has no exercise of that name, or no function is passed.

    >>> def forward(w, h0, xs):
    ...     hs = []
    ...     for x in xs:
    ...         hs.append(w * h0 + x)
    ...     return hs
    >>> print(grade(4, forward))  # doctest: +ELLIPSIS
    4. Backpropagation through time by hand
      - forward: not yet (case 1 of 5)
          hs is wrong in 5 of 6 entries, from step 1 on: [1] is 1, expected 5
          looks like: each step starts from h0
          hint: ...
    0 of 1 exercises are right
    """
    chosen = lesson(number, "grade")
    if language not in LANGUAGES:
        raise ConfigError(f"grade: language must be one of {', '.join(LANGUAGES)}, got {language!r}")
    exercises = {exercise.name: exercise for exercise in chosen.exercises}
    if not functions:
        raise ConfigError(f"grade: expected functions of lesson {number}, got none; it has: {', '.join(exercises)}")
    grades = []
    for function in functions:
        name = getattr(function, "__name__", str(function))
        if name not in exercises:
            raise ConfigError(f"grade: lesson {number} has no exercise {name!r}; it has: {', '.join(exercises)}")
        grades.append(grade_exercise(exercises[name], function))
    return Grades(chosen, tuple(grades), language)
