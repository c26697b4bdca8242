"""Grading: the reader's functions on the cases of an exercise, and which mistake explains what came out."""

from __future__ import annotations

import copy
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from ...engine.tape import Array
from ...engine.tree import flatten
from ..exercises.exercise import Exercise, Mistake
from ..exercises.text import Text
from .findings import Finding, arrays_of, differences, over_cases, same, wrong_results
from .terms import terms

_RAISED = Text("raises {error}", "抛出了 {error}")
_LINE = Text("{error} (line {line})", "{error}（第 {line} 行）")
_WITH = Text("{raised}, for {shapes}", "{raised}，参数为 {shapes}")
_ASKS = Text("asks for input; all that it needs is in its arguments", "在等待输入；它需要的一切都在参数里")
_CHANGED = Text("changes {name} in place; work on a copy", "就地修改了 {name}；请先复制")
_FICKLE = Text(
    "gives something else when it is called again with the same arguments: what does it keep, or draw at random?",
    "用同样的参数再次调用时结果不同：它保留了什么，还是用了随机数？",
)
_ABSENT = Text("there is no {name} in the file", "文件中没有 {name}")
_OTHERS = Text("{absent}, which has {names}", "{absent}，有的是 {names}")
_NO_FUNCTION = Text("is {got}, expected a function", "是 {got}，应当是函数")
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


def grade_exercise(exercise: Exercise, theirs: object) -> Grade:
    """Grade one exercise.

    Each case is computed by the reader's function and by the right one. If they differ, the first case that does says
    which results are wrong, from which step on, and by what factor; and each typical mistake is made on all cases, to
    see whether it gives the same numbers.

    Args:
        exercise: the exercise.
        theirs: the reader's function.
    """
    if not callable(theirs):
        return Grade(exercise.name, False, None, (Finding("", _NO_FUNCTION.filled(got=type(theirs).__name__)),))
    cases = exercise.drawn()
    found: list[list[Array]] = []
    for number, case in enumerate(cases, 1):
        made = _run(exercise, theirs, case)
        if isinstance(made, Finding):
            return Grade(exercise.name, False, (number, len(cases)), (made,))
        found.append(made)
    expected = [_own(exercise, exercise.solve, case) for case in cases]
    wrong = [n for n, pair in enumerate(zip(expected, found, strict=True)) if not same(exercise, *pair)]
    if not wrong:
        return Grade(exercise.name, True, None)
    again = _run(exercise, theirs, cases[wrong[0]])
    if isinstance(again, Finding) or not all(map(_alike, found[wrong[0]], again)):
        return Grade(exercise.name, False, (wrong[0] + 1, len(cases)), (Finding("", _FICKLE),))
    mistake = _recognized(exercise, cases, found)
    number, findings = wrong[0], _compared(exercise, wrong, expected, found)
    if mistake is None and not all(finding.plain for finding in findings):
        for place in dict.fromkeys((wrong[0], wrong[-1])):  # the simplest; the largest, in which terms differ more
            simplest = None if place == wrong[0] else cases[wrong[0]]
            if more := _terms(exercise, theirs, cases[place], expected[place], found[place], simplest):
                number, findings = place, differences(exercise, expected[place], found[place]) + more
                break
    return Grade(
        exercise.name,
        False,
        (number + 1, len(cases)),
        tuple(findings),
        None if mistake is None else mistake.name,
        None if mistake is None else mistake.hint,
    )


def absent(exercise: Exercise, names: Sequence[str]) -> Grade:
    """Return the grade of an exercise that a file does not have; these names of it belong to no exercise."""
    what = _ABSENT.filled(name=exercise.name)
    if names:
        what = _OTHERS.filled(absent=what, names=", ".join(names))
    return Grade(exercise.name, False, None, (Finding("", what),))


def _compared(
    exercise: Exercise, wrong: list[int], expected: list[list[Array]], found: list[list[Array]]
) -> list[Finding]:
    """Return what is wrong in the first wrong case, each finding with what becomes of its factor in the others."""
    findings = []
    for finding in differences(exercise, expected[wrong[0]], found[wrong[0]]):
        for number, output in enumerate(exercise.outputs):
            if output.name == finding.output:
                cases = [case for case in wrong if number in wrong_results(exercise, expected[case], found[case])]
                finding = over_cases(
                    finding, [(case + 1, expected[case][number], found[case][number]) for case in cases]
                )
        findings.append(finding)
    return findings


def _alike(one: Array, other: Array) -> bool:
    return one.shape == other.shape and np.allclose(one, other, equal_nan=True)


def _terms(
    exercise: Exercise,
    theirs: object,
    case: tuple[object, ...],
    expected: list[Array],
    found: list[Array],
    simplest: tuple[object, ...] | None,
) -> list[Finding]:
    """Return which terms are wrong in the first two wrong results."""

    def call(moved: tuple[object, ...]) -> list[Array] | None:
        made = _run(exercise, theirs, moved)
        return None if isinstance(made, Finding) else made

    wrong = wrong_results(exercise, expected, found)[:2]
    return terms(exercise, case, lambda moved: _own(exercise, exercise.solve, moved), call, wrong, simplest)


def _run(exercise: Exercise, theirs: object, case: tuple[object, ...]) -> list[Array] | Finding:
    """Return the results of the reader's function for a case, or what went wrong."""
    given = copy.deepcopy(case)
    call = exercise.call
    try:
        with np.errstate(all="ignore"):
            made = theirs(*given) if call is None else call(theirs, *given)  # type: ignore[operator]
    except NotImplementedError:
        return Finding("", _UNWRITTEN)
    except EOFError:  # of input(), where nobody can type
        return Finding("", _ASKS)
    except Exception as error:  # whatever the reader's function raises
        named = zip(exercise.arguments, case, strict=True)
        shapes = ", ".join(f"{name} {part.shape}" for name, part in named if isinstance(part, np.ndarray))
        raised = _RAISED.filled(error=described(error, _line(error, theirs)))
        return Finding("", _WITH.filled(raised=raised, shapes=shapes) if shapes else raised)
    for name, before, after in zip(exercise.arguments, case, given, strict=True):
        if not _is_unchanged(before, after):
            return Finding("", _CHANGED.filled(name=name))
    return arrays_of(exercise, made)


def described(error: BaseException, line: int | None) -> Text:
    """Return an error in words, with its line, and without the file, which is the reader's own."""
    message = error.msg if isinstance(error, SyntaxError) else str(error)
    named = f"{type(error).__name__}: {message}" if message else type(error).__name__
    return Text(named, named) if line is None else _LINE.filled(error=named, line=line)


def _line(error: BaseException, theirs: object) -> int | None:
    """Return the line at which the reader's own code was when an error was raised, in a library perhaps.

    One that is raised by the call itself, of a function with other arguments, is at the line of its `def`.
    """
    code = getattr(getattr(theirs, "__init__", None) if isinstance(theirs, type) else theirs, "__code__", None)
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == getattr(code, "co_filename", None)]
    return lines[-1] if lines else getattr(code, "co_firstlineno", None)


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
