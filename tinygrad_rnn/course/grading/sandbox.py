"""A submission graded in a process of its own, with limits on time and memory."""

from __future__ import annotations

import json
import math
import runpy
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from ...errors import ConfigError
from ..exercises.exercise import Lesson
from ..exercises.text import Text
from ..lessons import lesson
from .findings import Finding
from .grade import Grade, described, grade_exercise

_START = 30.0  # seconds that a busy machine may take to start a process

_STOPPED = Text("did not end within {seconds:g} s", "没有在 {seconds:g} 秒内结束")
_MEMORY = Text("needs more than {memory} MB of memory", "需要超过 {memory} MB 的内存")
_DIED = Text("ended the process with code {code}", "使进程以代码 {code} 结束")
_NOT_READ = Text("the file cannot be run: {error} (line {line})", "文件无法运行：{error}（第 {line} 行）")


def grade_file(chosen: Lesson, path: Path, seconds: float = 10.0, memory: int = 2048) -> list[Grade]:
    """Grade a file in a process of its own.

    What the file prints is dropped. Memory is limited where the platform can do that.

    Args:
        chosen: the lesson.
        path: the file, with the functions of the lesson's exercises.
        seconds: of processor time, after which the process is ended; one that waits is given five times as long.
        memory: MB of address space that it may use on top of what it starts with.

    Returns:
        One grade for each exercise. A file that does not run fails in all of them, with the reason; a function that
        does not end, or needs too much memory, fails alone: the exercises after it are graded in another process.

    Raises:
        ConfigError: if there is no such file.
    """
    if not path.is_file():
        raise ConfigError(
            f"lesson: {str(path)!r} is not a file; pass a Python file with your functions, or a folder of them"
        )
    grades: list[Grade] = []
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder, "grades.json")
        while len(grades) < len(chosen.exercises):
            done, stopped = _graded(chosen, len(grades), path, result, seconds, memory)
            grades += done
            if not result.exists():  # the file itself was not read to its end
                return _failed(chosen, stopped)
            grades += _failed(chosen, stopped)[len(grades) :][:1]
    return grades


def _graded(
    chosen: Lesson, first: int, path: Path, result: Path, seconds: float, memory: int
) -> tuple[list[Grade], Text]:
    """Grade the exercises from one on in a process; return the grades that it came to, and what stopped it."""
    result.unlink(missing_ok=True)
    given = [str(part) for part in (chosen.number, first, path.resolve(), result, seconds, memory)]
    command = [sys.executable, "-m", __name__, *given]
    wait = 5 * seconds + _START
    try:
        done = subprocess.run(
            command, cwd=path.parent, stdin=subprocess.DEVNULL, capture_output=True, timeout=wait, check=False
        )
    except subprocess.TimeoutExpired:
        stopped = _STOPPED.filled(seconds=seconds)
    else:
        lack = b"MemoryError" in done.stderr or done.returncode < 0
        stopped = _MEMORY.filled(memory=memory) if lack else _DIED.filled(code=done.returncode)
        if done.returncode == -getattr(signal, "SIGXCPU", 0):
            stopped = _STOPPED.filled(seconds=seconds)
    lines = result.read_text(encoding="utf-8").splitlines() if result.exists() else []
    return [_read(json.loads(line)) for line in lines], stopped


def _failed(chosen: Lesson, what: Text) -> list[Grade]:
    return [Grade(exercise.name, False, None, (Finding("", what),)) for exercise in chosen.exercises]


def _read(part: dict[str, object]) -> Grade:
    """Return a grade from its JSON."""
    findings = tuple(
        Finding(one["output"], Text(*one["what"]), one["step"], one["factor"], one["plain"])
        for one in part["findings"]  # type: ignore[attr-defined]
    )
    case = part["case"]
    texts = {name: Text(*value) if (value := part[name]) else None for name in ("mistake", "hint")}  # type: ignore[misc]
    return Grade(
        str(part["exercise"]),
        bool(part["passed"]),
        tuple(case) if case else None,  # type: ignore[arg-type]
        findings,
        texts["mistake"],
        texts["hint"],
    )


def _limit(seconds: float, megabytes: int) -> None:
    """Let this process use no more time and memory than it has so far, and so much on top of it."""
    try:
        import resource  # not on Windows
    except ImportError:
        return
    pages = Path("/proc/self/statm")
    used = int(pages.read_text().split()[0]) * resource.getpagesize() if pages.exists() else 0
    most = used + megabytes * 1_000_000
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    until = math.ceil(time.process_time() + seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (until, until + 1))


def main(number: str, first: str, path: str, result: str, seconds: str, memory: str) -> None:
    """Grade a file, and write the grades as lines of JSON; called in the process that `grade_file` starts."""
    chosen = lesson(int(number))
    exercises = chosen.exercises[int(first) :]
    _limit(float(seconds), int(memory))
    grades: Iterable[Grade]
    try:
        written = runpy.run_path(path, run_name="submission")
    except MemoryError:
        raise
    except BaseException as error:  # whatever the file does, sys.exit included
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
        line = getattr(error, "lineno", None) or (lines[-1] if lines else None)
        grades = _failed(chosen, _NOT_READ.filled(error=described(error), line=line))[int(first) :]
    else:
        grades = (grade_exercise(exercise, written.get(exercise.name)) for exercise in exercises)
    with Path(result).open("w", encoding="utf-8") as file:
        for grade in grades:  # each is written when it is there: what comes after it may not end
            print(json.dumps(asdict(grade)), file=file, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
