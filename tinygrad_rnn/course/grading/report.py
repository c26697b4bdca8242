"""Grades in words: for the reader, for a notebook, and as a teacher's table."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from ...tables import text_table
from ..exercises.exercise import Lesson
from ..exercises.text import Language, Text
from .findings import Finding
from .grade import Grade

_RIGHT = Text("right", "正确")
_NOT_YET = Text("not yet", "还不对")
_CASE = Text("case {0} of {1}", "第 {0} 个例子，共 {1} 个")
_LOOKS = Text("looks like: {name}", "看起来是：{name}")
_HINT = Text("hint: {hint}", "提示：{hint}")
_SUM = Text("{right} of {count} exercises are right", "{count} 道练习中有 {right} 道正确")
_FILE = Text("file", "文件")


@dataclass(frozen=True)
class Grades:
    """The grades of a lesson. It prints as text, and as a table in a notebook.

    Attributes:
        lesson: the lesson.
        grades: one for each exercise.
        language: of the text.
    """

    lesson: Lesson
    grades: tuple[Grade, ...]
    language: Language = "en"

    @property
    def passed(self) -> bool:
        """Whether all exercises are right."""
        return all(grade.passed for grade in self.grades)

    def __str__(self) -> str:
        words = self.language
        lines = [f"{self.lesson.number}. {self.lesson.title[words]}"]
        for name, grade in _grouped(self.grades):
            head, *rest = _lines(grade, words)
            lines += [f"  {'+' if grade.passed else '-'} {name}: {head}", *(f"      {line}" for line in rest)]
        lines.append(_SUM.filled(right=sum(grade.passed for grade in self.grades), count=len(self.grades))[words])
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = []
        for grade in self.grades:
            cell = "<br>".join(map(html.escape, _lines(grade, self.language)))
            mark = "&#10003;" if grade.passed else "&#10007;"
            cells = (mark, f"<code>{html.escape(grade.exercise)}</code>", cell)
            rows.append("".join(["<tr>", *(f"<td style='text-align:left'>{part}</td>" for part in cells), "</tr>"]))
        title = html.escape(f"{self.lesson.number}. {self.lesson.title[self.language]}")
        return f"<table><caption style='white-space:nowrap'>{title}</caption>{''.join(rows)}</table>"


def _grouped(grades: Sequence[Grade]) -> Iterator[tuple[str, Grade]]:
    """Yield the names of exercises, and their grade: several names where the file itself has failed."""
    for _, found in groupby(grades, lambda grade: (grade.case is None and grade.findings) or grade.exercise):
        part = list(found)
        yield ", ".join(grade.exercise for grade in part), part[0]


def _lines(grade: Grade, language: Language) -> Iterator[str]:
    """Yield the verdict on an exercise, and what explains it."""
    if grade.passed:
        yield _RIGHT[language]
        return
    place = "" if grade.case is None else f" ({Text(*(part.format(*grade.case) for part in _CASE))[language]})"
    yield _NOT_YET[language] + place
    yield from (_said(finding, language) for finding in grade.findings)
    if grade.mistake is not None:
        yield _LOOKS.filled(name=grade.mistake)[language]
    if grade.hint is not None:
        yield _HINT.filled(hint=grade.hint)[language]


def _said(finding: Finding, language: Language) -> str:
    return f"{finding.output} {finding.what[language]}".lstrip()


def table(lesson: Lesson, submissions: Mapping[str, Sequence[Grade]], language: Language = "en") -> str:
    """Return the teacher's table: a row for each submission, a column for each exercise, and what is wrong in words."""
    names = [exercise.name for exercise in lesson.exercises]
    rows = [[_FILE[language], *names, "="]]
    for file, grades in submissions.items():
        marks = ["+" if grade.passed else "-" for grade in grades]
        rows.append([file, *marks, f"{marks.count('+')}/{len(marks)}"])
    lines = text_table(rows)
    for file, grades in submissions.items():
        for name, grade in _grouped(grades):
            if not grade.passed:
                first = _said(grade.findings[0], language) if grade.findings else _NOT_YET[language]
                why = grade.mistake[language] if grade.mistake is not None else first
                lines.append(f"{file}, {name}: {why}")
    return "\n".join(lines)
