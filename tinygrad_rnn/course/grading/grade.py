"""Grading: the reader's functions on the cases of an exercise, and which mistake explains what came out."""

from __future__ import annotations

import copy
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from ...engine.tape import Array
from ...engine.tree import flatten
from ..exercises.exercise import Exercise, Lesson, Mistake
from ..exercises.text import Text
from .findings import Finding, arrays_of, differences, same

_RAISED = Text("raises {error} (line {line})", "抛出了 {error}（第 {line} 行）")
_CHANGED = Text("changes its argument {number} in place; work on a copy", "就地修改了第 {number} 个参数；请先复制")
_ABSENT = Text("there is no {name} in the file", "文件中没有 {name}")
_UNWRITTEN = Text("is not written yet", "尚未完成")


@dataclass(frozen=True)
class Grade:
    """How one exercise was solved.

    Attributes:
        exercise: its name.
        passed: whether every case came out right.
        case: number of the first case that did not, from 1, and how many there are; None where none was reached.
        findings: what is wrong there.
        mistake: name of the typical mistake that gives the same numbers in every case; None: none does.
        hint: of that mistake.
    """

    exercise: str
    passed: bool
    case: tuple[int, int] | None = None
    findings: tuple[Finding, ...] = ()
    mistake: Text | None = None
    hint: Text | None = None


def grade_lesson(lesson: Lesson, written: Mapping[str, object]) -> list[Grade]:
    """Grade all exercises of a lesson.

    Args:
        lesson: the lesson.
        written: what the reader wrote, by name: the names of a module.
    """
    return [grade_exercise(exercise, written.get(exercise.name)) for exercise in lesson.exercises]


def grade_exercise(exercise: Exercise, theirs: object) -> Grade:
    """Grade one exercise.

    Each case is computed by the reader's function and by the right one. If they differ, the first case that does says
    which results are wrong, from which step on, and by what factor; and each typical mistake is made on all cases, to
    see whether it gives the same numbers.

    Args:
        exercise: the exercise.
        theirs: the reader's function; None: there is none.
    """
    if not callable(theirs):
        return Grade(exercise.name, False, None, (Finding("", _ABSENT.filled(name=exercise.name)),))
    cases = exercise.drawn()
    found: list[list[Array]] = []
    for number, case in enumerate(cases, 1):
        made = _run(exercise, theirs, case)
        if isinstance(made, Finding):
            return Grade(exercise.name, False, (number, len(cases)), (made,))
        found.append(made)
    expected = [_own(exercise, exercise.solve, case) for case in cases]
    for number, (right, made) in enumerate(zip(expected, found, strict=True), 1):
        if not same(exercise, right, made):
            mistake = _recognized(exercise, cases, found)
            return Grade(
                exercise.name,
                False,
                (number, len(cases)),
                tuple(differences(exercise, right, made)),
                None if mistake is None else mistake.name,
                None if mistake is None else mistake.hint,
            )
    return Grade(exercise.name, True, None)


def _run(exercise: Exercise, theirs: object, case: tuple[object, ...]) -> list[Array] | Finding:
    """Return the results of the reader's function for a case, or what went wrong."""
    given = copy.deepcopy(case)
    call = exercise.call
    try:
        with np.errstate(all="ignore"):
            made = theirs(*given) if call is None else call(theirs, *given)  # type: ignore[operator]
    except NotImplementedError:
        return Finding("", _UNWRITTEN)
    except Exception as error:  # whatever the reader's function raises
        frames = traceback.extract_tb(error.__traceback__)
        text = _RAISED.filled(error=f"{type(error).__name__}: {error}", line=frames[-1].lineno)
        return Finding("", text)
    for number, (before, after) in enumerate(zip(case, given, strict=True), 1):
        if not _is_unchanged(before, after):
            return Finding("", _CHANGED.filled(number=number))
    return arrays_of(exercise, made)


def _is_unchanged(before: object, after: object) -> bool:
    pairs = zip(flatten(before), flatten(after), strict=False)
    return all(np.array_equal(a, b) for a, b in pairs if isinstance(a, np.ndarray))


def _own(exercise: Exercise, solve: object, case: tuple[object, ...]) -> list[Array]:
    """Return the results of the right solution, or of a mistaken one."""
    with np.errstate(all="ignore"):
        made = arrays_of(exercise, solve(*copy.deepcopy(case)))  # type: ignore[operator]
    return cast(list[Array], made)


def _recognized(
    exercise: Exercise, cases: Sequence[tuple[object, ...]], found: Sequence[Sequence[Array]]
) -> Mistake | None:
    """Return the first mistake that gives the same numbers in every case."""
    for mistake in exercise.mistakes:
        if all(_matches(exercise, mistake, case, made) for case, made in zip(cases, found, strict=True)):
            return mistake
    return None


def _matches(exercise: Exercise, mistake: Mistake, case: tuple[object, ...], found: Sequence[Array]) -> bool:
    made = _own(exercise, mistake.solve, case)
    return all(a.shape == b.shape for a, b in zip(made, found, strict=True)) and same(exercise, made, found)
