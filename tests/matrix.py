"""Run the tests under other BLAS kernels, CPU levels, thread counts, Pythons and NumPys, and print a table.

`make test-matrix` runs every row, `make test-matrix ARGS="haswell plain"` some, `ARGS=--list` says what they are. A row
changes few things from what this machine does by itself. One that this machine cannot run is skipped, with a reason.
Every test runs under another Python or NumPy; drawings, the reading of corpora, pages and commands are left out of the
other rows, which change arithmetic alone.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from tinygrad_rnn.compiler.native.cpu import levels, processor

ROOT = Path(__file__).parent.parent
ENVIRONMENTS = ROOT / ".venv-matrix"
PYTEST = ("-m", "pytest", "--numprocesses", "auto", "--maxprocesses", "8", "--dist", "worksteal")
NO_ARITHMETIC = tuple(
    f"--ignore=tests/{path}"
    for path in (
        *("graphs", "data", "test_structure.py", "test_types.py", "test_docs.py", "test_examples.py", "test_jobs.py"),
        *(
            "test_cli.py",
            "test_cli_runs.py",
            "test_cli_start.py",
            "test_config.py",
            "test_files.py",
            "test_numpy_page.py",
        ),
        *("training/test_lock.py", "training/test_killed.py", "training/test_modelfile.py", "training/test_writers.py"),
        *("training/test_ready_configs.py", "test_cli_check.py", "truncation/test_report.py"),
        *("compiler/test_native_build.py", "compiler/test_native_cpu.py"),  # they choose levels themselves
        *("compiler/test_picture.py", "compiler/test_new_length.py"),  # drawings, and which records a new length gets
    )
)
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
THIS_PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
# Kernels of OpenBLAS, and the level or the flag of a CPU that can run them.
KERNELS = {
    "Prescott": "pni",
    "Nehalem": "sse4_2",
    "Sandybridge": "avx",
    "Haswell": "x86-64-v3",
    "SkylakeX": "x86-64-v4",
}
# What OpenBLAS calls a kernel once it runs, where that is not the name by which it is chosen.
CALLED = {"Prescott": "Katmai"}

# Prints the versions, the BLAS kernel, and what the native library was built for.
PROBE = """
import json, sys, numpy, threadpoolctl
from tinygrad_rnn.compiler.native.build import available, library
kernels = [one.get("architecture") for one in threadpoolctl.threadpool_info() if one["user_api"] == "blas"]
flags = library().flags if available() else ()
native = [flag.partition("=")[2] for flag in flags if flag.startswith(("-march=", "-mcpu="))]
there = {"Python": sys.version.split()[0], "NumPy": numpy.__version__, "BLAS": kernels[:1], "native": native[-1:]}
print(json.dumps({name: "".join(value) or "none" for name, value in there.items()}))
"""


class Skip(Exception):
    """This machine cannot run a row."""


@dataclass(frozen=True)
class Row:
    """What a run changes: None leaves a thing as it is.

    Attributes:
        name: by which it is asked for.
        kernel: of OpenBLAS.
        level: of x86-64, for the native library.
        threads: of BLAS and of the native executor.
        python: major.minor.
        numpy: a version.
    """

    name: str
    kernel: str | None = None
    level: str | None = None
    threads: int = 1
    python: str | None = None
    numpy: str | None = None

    @property
    def changes(self) -> str:
        """Everything that differs from a plain run, in words."""
        parts = {"OpenBLAS": self.kernel, "native": self.level, "Python": self.python, "NumPy": self.numpy}
        words = [f"{name} {value}" for name, value in parts.items() if value]
        return ", ".join([*words, f"{self.threads} threads"] if self.threads != 1 else words) or "nothing"


@dataclass(frozen=True)
class Outcome:
    """A line of the table."""

    row: Row
    said: str
    seconds: float
    ok: bool


def rows() -> list[Row]:
    """Return the matrix: kernels and levels against each other, threads, Pythons, the oldest NumPy."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    oldest = next(one.partition(">=")[2] for one in project["dependencies"] if one.startswith("numpy>="))
    return [
        Row("own"),
        Row("two-threads", threads=2),
        Row("plain", kernel="Prescott", level="x86-64"),
        Row("nehalem", kernel="Nehalem"),
        Row("sandybridge", kernel="Sandybridge"),
        Row("haswell", kernel="Haswell", level="x86-64-v3"),
        Row("haswell-two-threads", kernel="Haswell", level="x86-64-v3", threads=2),
        Row("avx512", kernel="SkylakeX", level="x86-64-v4"),
        *(Row(f"python{one}", python=one) for one in PYTHONS if one != THIS_PYTHON),
        Row("oldest-numpy", numpy=oldest if oldest.count(".") == 2 else f"{oldest}.0"),
    ]


def has_kernel(kernel: str) -> bool:
    """Return whether this CPU has the instructions of a kernel; OpenBLAS does not look where one is named."""
    return KERNELS[kernel] in (*levels(), *processor().split())


def environment(row: Row) -> dict[str, str]:
    """Return the environment variables of a row's processes.

    Raises:
        Skip: if this CPU does not have the instructions.
    """
    if row.kernel and not has_kernel(row.kernel):
        raise Skip(f"this CPU does not have the instructions of the kernel {row.kernel}")
    if row.level and row.level not in levels():
        raise Skip(f"this CPU does not have {row.level}")
    settings = {"OPENBLAS_CORETYPE": row.kernel, "TINYGRAD_RNN_CPU": row.level, "PYTHONDONTWRITEBYTECODE": None}
    kept = {name: value for name, value in os.environ.items() if name not in settings}
    kept["OPENBLAS_NUM_THREADS"] = str(row.threads)
    return kept | {name: value for name, value in settings.items() if value}


def find_python(version: str) -> str:
    """Return the path of an interpreter: one on the path, or one that pyenv or uv keeps.

    Raises:
        Skip: if there is none.
    """
    kept = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob(f"versions/{version}.*/bin/python")
    found = [shutil.which(f"python{version}"), *map(str, sorted(kept))]
    if uv := shutil.which("uv"):
        asked = subprocess.run([uv, "python", "find", "--no-python-downloads", version], capture_output=True, text=True)
        found.append(asked.stdout.strip())
    for path in filter(None, found):  # a shim on the path may lead nowhere
        if subprocess.run([path, "-c", "import venv, ensurepip"], capture_output=True).returncode == 0:
            return path
    raise Skip(f"no Python {version} on this machine")


def python_of(row: Row) -> str:
    """Return the interpreter of a row, in an environment of its own if Python or NumPy is another one.

    Raises:
        Skip: if there is no such Python.
    """
    if row.python is None and row.numpy is None:
        return sys.executable
    base = sys.executable if row.python is None else find_python(row.python)
    folder = ENVIRONMENTS / row.name
    stamp = folder / ".installed"
    lock = ROOT / "requirements.lock"
    if not stamp.is_file() or stamp.stat().st_mtime < lock.stat().st_mtime:
        python = str(folder / "bin" / "python")
        pip = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        for command in (
            (base, "-m", "venv", "--clear", str(folder)),
            (*pip, "--no-compile", "--require-hashes", "-r", str(lock)),
            (*pip, "--no-deps", "--no-build-isolation", "-e", str(ROOT)),
            *([(*pip, f"numpy=={row.numpy}")] if row.numpy else []),
        ):
            subprocess.run(command, check=True)
        stamp.touch()
    return str(folder / "bin" / "python")


def run(row: Row, folders: Sequence[str] = ()) -> Outcome:
    """Run a row's tests, or those of some folders, their output included, and return its line."""
    started = time.perf_counter()
    try:
        python, settings = python_of(row), environment(row)
        probe = subprocess.run([python, "-c", PROBE], env=settings, stdout=subprocess.PIPE, check=True)
        there = json.loads(probe.stdout)
        if row.kernel and there["BLAS"] != CALLED.get(row.kernel, row.kernel):
            raise Skip(f"the BLAS of this NumPy runs its kernel {there['BLAS']} in place of {row.kernel}")
    except Skip as reason:
        return Outcome(row, f"skipped: {reason}", 0.0, True)
    except subprocess.CalledProcessError as error:
        return Outcome(row, f"could not start: {error}", time.perf_counter() - started, False)
    ran = ", ".join(f"{name} {value}" for name, value in there.items())
    print(f"\n{row.name}: {ran}", flush=True)
    report = ENVIRONMENTS / f"{row.name}.xml"
    report.unlink(missing_ok=True)
    part = () if row.python or row.numpy else NO_ARITHMETIC
    part += tuple(f"tests/{folder}" for folder in folders)
    done = subprocess.run([python, *PYTEST, f"--junitxml={report}", *part], env=settings, cwd=ROOT)
    seconds = time.perf_counter() - started
    if not report.is_file():
        return Outcome(row, f"pytest ended with status {done.returncode} and no report", seconds, False)
    suite = ElementTree.parse(report).getroot().find("testsuite")
    assert suite is not None
    count = {name: int(suite.attrib[name]) for name in ("tests", "failures", "errors", "skipped")}
    failed = count["failures"] + count["errors"]
    said = f"{count['tests'] - failed - count['skipped']} passed, {failed} failed, {count['skipped']} skipped"
    return Outcome(row, f"{said} ({ran})", seconds, done.returncode == 0)


def table(outcomes: list[Outcome]) -> Iterator[str]:
    """Yield a line for each row."""
    wide = max(len(outcome.row.name) for outcome in outcomes)
    changes = max(len(outcome.row.changes) for outcome in outcomes)
    for one in outcomes:
        mark = "ok  " if one.ok else "FAIL"
        yield f"{mark} {one.row.name:{wide}}  {one.row.changes:{changes}}  {one.seconds:5.0f} s  {one.said}"


def main() -> int:
    """Run the rows that are asked for; 1 if one fails."""
    known = {row.name: row for row in rows()}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help="all, if none is named")
    parser.add_argument("--list", action="store_true", help="print the rows, and run none")
    parser.add_argument(
        "--part", nargs="+", default=(), metavar="FOLDER", help="only the tests in these folders of tests/"
    )
    asked = parser.parse_args()
    if unknown := [name for name in asked.rows if name not in known]:
        parser.error(f"no row {unknown[0]}; there are {', '.join(known)}")
    chosen = [known[name] for name in asked.rows] or list(known.values())
    if asked.list:
        print(*(f"{row.name:20} {row.changes}" for row in chosen), sep="\n")
        return 0
    ENVIRONMENTS.mkdir(exist_ok=True)
    outcomes = [run(row, asked.part) for row in chosen]
    print("", *table(outcomes), sep="\n")
    return 0 if all(outcome.ok for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
