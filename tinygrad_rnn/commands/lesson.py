"""The command of the course: tasks, a file to start from, grades, a teacher's table."""

from __future__ import annotations

import argparse
import inspect
import os
import shlex
from pathlib import Path

from ..checks import number
from ..course.exercises.exercise import Lesson
from ..course.exercises.text import Language, Text
from ..course.grading.progress import progress_file, remember, solved
from ..course.grading.report import Grades, table
from ..course.grading.sandbox import NOTEBOOK, failed, grade_files
from ..course.lessons import LESSONS
from ..course.lessons import lesson as lesson_of
from ..errors import ConfigError

_DONE = Text("{right} of {count} solved", "已完成 {right}/{count}")
_WROTE = Text(
    "wrote {path}; write its functions, then: tinygrad-rnn lesson {number} {command}",
    "已写入 {path}；完成其中的函数后运行：tinygrad-rnn lesson {number} {command}",
)
_START = Text(
    "a file to start from: tinygrad-rnn lesson {number} --start my.py",
    "生成起始文件：tinygrad-rnn lesson {number} --start my.py",
)


def lesson(arguments: argparse.Namespace) -> int:
    """List the lessons, show the tasks of one, write a file to start from, or grade; return 1 if an answer is wrong."""
    language = _language(arguments.language)
    number("lesson", "--seconds", arguments.seconds, low=0, above=True)
    if arguments.number is None:
        if arguments.start is not None:
            raise ConfigError(
                "lesson: --start needs the number of a lesson, as in: tinygrad-rnn lesson 4 --start my.py"
            )
        return _list(language)
    chosen = lesson_of(arguments.number)
    if arguments.start is not None:
        return _start(chosen, Path(arguments.start), language)
    if arguments.path is None:
        return _tasks(chosen, language)
    path = Path(arguments.path)
    if path.is_dir():
        return _class(chosen, path, arguments, language)
    (grades,) = grade_files(chosen, [path], arguments.seconds, arguments.memory)
    remember(progress_file(), chosen.number, grades)
    shown = Grades(chosen, tuple(grades), language)
    print(shown)
    return 0 if shown.passed else 1


def _language(given: str | None) -> Language:
    """Return the language that was asked for, or that of the environment."""
    named = given or os.environ.get("LC_ALL") or os.environ.get("LC_MESSAGES") or os.environ.get("LANG") or ""
    return "zh" if named.startswith("zh") else "en"


def _list(language: Language) -> int:
    done = solved(progress_file())
    for one in LESSONS:
        right = len(done.get(one.number, set()) & {exercise.name for exercise in one.exercises})
        state = _DONE.filled(right=right, count=len(one.exercises))[language]
        print(f"{one.number:>2}  {one.title[language]}  ({state})")
    return 0


def _tasks(chosen: Lesson, language: Language) -> int:
    done = solved(progress_file()).get(chosen.number, set())
    print(f"{chosen.number}. {chosen.title[language]}")
    for exercise in chosen.exercises:
        print(f"\n[{'x' if exercise.name in done else ' '}] {exercise.stub.removesuffix(':')}")
        for line in inspect.cleandoc(exercise.task[language]).splitlines():
            print(f"    {line}".rstrip())
    print(f"\n{_START.filled(number=chosen.number)[language]}")
    return 0


def _start(chosen: Lesson, path: Path, language: Language) -> int:
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(chosen.starter(language))
    except FileExistsError:
        raise ConfigError(
            f"lesson: {str(path)!r} exists already; name a new file, so that none of your work is lost"
        ) from None
    print(_WROTE.filled(path=path, command=shlex.quote(str(path)), number=chosen.number)[language])
    return 0


def _class(chosen: Lesson, folder: Path, arguments: argparse.Namespace, language: Language) -> int:
    """Grade every Python file in a folder and below, and print a table; folders such as .venv are left out."""
    inside = {path: path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file()}
    seen = {path: name for path, name in inside.items() if not any(part.startswith(".") for part in name.parts)}
    files = {path: name for path, name in seen.items() if path.suffix in (".py", ".ipynb")}
    if all(path.suffix == ".ipynb" for path in files):
        raise ConfigError(f"lesson: there is no .py file in {str(folder)!r}")
    scripts = [path for path in files if path.suffix == ".py"]
    found = dict(zip(scripts, grade_files(chosen, scripts, arguments.seconds, arguments.memory), strict=True))
    graded = {str(name): found.get(path) or failed(chosen, NOTEBOOK) for path, name in files.items()}
    print(table(chosen, graded, language))
    return 0 if all(grade.passed for grades in graded.values() for grade in grades) else 1
