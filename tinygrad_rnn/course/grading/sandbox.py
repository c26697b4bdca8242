"""Submissions graded side by side, each in a process of its own, with limits on time and memory."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import runpy
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from ...errors import ConfigError
from ..exercises.exercise import Lesson
from ..exercises.text import Text
from ..lessons import lesson
from .findings import Finding
from .grade import Grade, absent, described, grade_exercise

_START = 30.0  # seconds that a busy machine may take to start a process
_OUT_OF_MEMORY = 86  # code of a process that cannot read the file within its limit

_STOPPED = Text("did not end within {seconds:g} s", "没有在 {seconds:g} 秒内结束")
_MEMORY = Text("needs more than {memory} MB of memory", "需要超过 {memory} MB 的内存")
_DIED = Text("ended the process with code {code}", "使进程以代码 {code} 结束")
_SIGNAL = Text("ended the process by {signal}", "使进程因 {signal} 而结束")
_NOT_READ = Text("the file cannot be run: {error}", "文件无法运行：{error}")
_NOT_UTF8 = Text(
    "the file is not UTF-8, as Python files are: save it as UTF-8",
    "文件不是 UTF-8 编码，而 Python 文件应当是：请存为 UTF-8",
)


NOTEBOOK = Text("is a notebook: save it as a .py file", "是笔记本：请另存为 .py 文件")


def grade_files(chosen: Lesson, paths: Sequence[Path], seconds: float = 10.0, memory: int = 2048) -> list[list[Grade]]:
    """Grade files, as many at once as there are processors, each in a process of its own.

    What a file prints is dropped. It runs in an empty folder, which is removed afterwards, and can import what lies
    beside it. Processes that it starts are ended with it. Memory is limited where the platform can do that. All this is
    against mistakes: it is no protection from a file that means harm.

    Args:
        chosen: the lesson.
        paths: the files, with the functions of the lesson's exercises.
        seconds: of processor time, after which the process is ended; one that waits is given five times as long.
        memory: MB of address space that it may use on top of what it starts with.

    Returns:
        For each file one grade for each exercise. A file that does not run fails in all of them, with the reason; a
        function that does not end, or needs too much memory, fails alone: the exercises after it are graded in another
        process.

    Raises:
        ConfigError: if there is no such file, or it is a notebook.
    """
    for path in paths:
        if not path.is_file():
            raise ConfigError(
                f"lesson: {str(path)!r} is not a file; pass a Python file with your functions, or a folder of them"
            )
        if path.suffix == ".ipynb":
            raise ConfigError(
                f"lesson: {str(path)!r} is a notebook; call tr.grade({chosen.number}, ...) in it, or save it as a .py "
                "file"
            )

    async def all_of_them() -> list[list[Grade]]:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        room = asyncio.Semaphore(cores)
        return await asyncio.gather(*(_grades(chosen, path, seconds, memory, room) for path in paths))

    return asyncio.run(all_of_them())


async def _grades(chosen: Lesson, path: Path, seconds: float, memory: int, room: asyncio.Semaphore) -> list[Grade]:
    grades: list[Grade] = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        while len(grades) < len(chosen.exercises):
            result = Path(folder, f"{len(grades)}.json")
            async with room:
                stopped = await _graded(chosen, len(grades), path, result, seconds, memory)
            if not result.exists():  # the file itself was not read to its end
                return failed(chosen, stopped)
            grades += [_read(json.loads(line)) for line in result.read_text(encoding="utf-8").splitlines()]
            grades += failed(chosen, stopped)[len(grades) :][:1]
    return grades


async def _graded(chosen: Lesson, first: int, path: Path, result: Path, seconds: float, memory: int) -> Text:
    """Grade the exercises from one on in a process, which writes the grades to a file; return what stopped it."""
    given = [str(part) for part in (chosen.number, first, path.resolve(), result, seconds, memory)]
    place = result.with_suffix("")
    place.mkdir()
    began = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        *[sys.executable, "-B", "-m", __name__, *given],  # no __pycache__ beside the reader's files
        cwd=place,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        code = await asyncio.wait_for(process.wait(), 5 * seconds + _START)
    except TimeoutError:
        return _STOPPED.filled(seconds=seconds)
    finally:
        await _end(process)
    if code >= 0:
        return _MEMORY.filled(memory=memory) if code == _OUT_OF_MEMORY else _DIED.filled(code=code)
    name = signal.Signals(-code).name
    if name == "SIGXCPU" or (name == "SIGKILL" and time.monotonic() - began >= seconds):
        return _STOPPED.filled(seconds=seconds)
    # A process without memory is killed by the system, or gives up.
    return _MEMORY.filled(memory=memory) if name in ("SIGKILL", "SIGABRT") else _SIGNAL.filled(signal=name)


async def _end(process: asyncio.subprocess.Process) -> None:
    """End a process, and those that it has started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):  # not on Windows
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
    await process.wait()


def failed(chosen: Lesson, what: Text) -> list[Grade]:
    """Return the grades of a file that cannot be graded, with the reason."""
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
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    until = math.ceil(time.process_time() + seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (until, until + 1))


def main(number: str, first: str, path: str, result: str, seconds: str, memory: str) -> None:
    """Grade a file, and write the grades as lines of JSON; called in the process that `grade_files` starts."""
    chosen = lesson(int(number))
    exercises = chosen.exercises[int(first) :]
    sys.path.insert(0, str(Path(path).parent))
    _limit(float(seconds), int(memory))
    grades: Iterable[Grade]
    try:
        written = runpy.run_path(path, run_name="submission")
    except MemoryError:
        os._exit(_OUT_OF_MEMORY)
    except BaseException as error:  # whatever the file does, sys.exit included
        grades = failed(chosen, _not_read(error, path))[int(first) :]
    else:
        names = {name for name, part in written.items() if getattr(part, "__module__", None) == "submission"}
        own = sorted(names - {exercise.name for exercise in chosen.exercises})
        grades = (
            grade_exercise(exercise, written[exercise.name]) if exercise.name in written else absent(exercise, own)
            for exercise in exercises
        )
    with Path(result).open("w", encoding="utf-8") as file:
        for grade in grades:  # each is written when it is there: what comes after it may not end
            print(json.dumps(asdict(grade)), file=file, flush=True)
    os._exit(0)  # the threads of the file, and what it does at exit, are not waited for


def _not_read(error: BaseException, path: str) -> Text:
    """Return in words why a file cannot be run."""
    if isinstance(error, SyntaxError) and ("codec can't decode" in error.msg or "Non-UTF-8" in error.msg):
        return _NOT_UTF8
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    line = getattr(error, "lineno", None) or (lines[-1] if lines else None)
    return _NOT_READ.filled(error=described(error, line))


if __name__ == "__main__":
    main(*sys.argv[1:])
