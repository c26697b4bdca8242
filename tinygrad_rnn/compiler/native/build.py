"""The C library of the native executor: compiled on first use, then loaded from a cache folder.

The file name carries a hash of everything that the machine code depends on: sources, flags, compiler, CPU. So a file
that exists is up to date, and no compiler is started. A library is code that runs with the user's rights: it is loaded
only from a folder that nobody else can write to.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import hashlib
import importlib.util
import os
import platform
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import NativeError
from .cpu import processor, target
from .numbers import header

_SOURCE = Path(__file__).parent / "source"
_UNIT = "replay.c"  # the translation unit; it includes the other files
_HEADER = "operations.h"  # generated for each build; see `header`
_COMPILERS = ("gcc",) if sys.platform == "win32" else ("cc", "gcc", "clang")
_FLAGS = (
    *("-O3", "-std=gnu11", "-fPIC", "-shared", "-pthread"),
    # errno and floating point traps, which nothing here reads, would keep loops from being vectorized.
    *("-fno-math-errno", "-fno-trapping-math", "-fopenmp-simd"),
)
# Alternatives: the first flag of each that the compiler accepts is used.
_NATIVE = ("-march=native", "-mcpu=native")
_WIDE = ("-mprefer-vector-width=512",)
_LIBRARIES = ("-lm",)
# A loop that is vectorized, so that an assembler that does not know the CPU's instructions fails too.
_PROBE = "void probe(float *x) { for (int i = 0; i < 64; i++) x[i] += x[i]; }\n"
_NOTE = "tinygrad_rnn_built_with"  # a string in the library: the compiler, a line break, the flags
_ENVIRONMENT = (
    *("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "SDKROOT", "DEVELOPER_DIR"),
    *("SYSTEMROOT", "TEMP", "TMP", "LOCALAPPDATA", "USERPROFILE"),  # Windows
)
_TIMEOUT = 240.0  # seconds for one run of a compiler: Zig first compiles parts of the C standard library
_ABANDONED = 3600.0  # seconds after which an unfinished build is taken to be left by a process that was killed
_LAST_LINES = 20  # of the compiler's output, in an error
_INSTEAD = 'Plans run without it under executor="auto" or "numpy".'


@dataclass(frozen=True)
class Library:
    """The C library, loaded.

    Attributes:
        path: the file.
        compiler: the compiler that made it: the first line of its --version.
        flags: what it was compiled with, with the optional flags that the compiler accepted.
        functions: the C functions, by name.
    """

    path: Path
    compiler: str
    flags: tuple[str, ...]
    functions: ctypes.CDLL


def library() -> Library:
    """Return the library, compiling it if this machine has not done so before.

    The environment is read at the first call, and the outcome is kept for the process. `CC` names a compiler, with
    arguments if need be; otherwise cc, gcc and clang are looked for, and then the compiler that the extra [native]
    brings. `TINYGRAD_RNN_CPU` names a level of x86-64 to compile for in place of this CPU. The library is kept in the
    folder `tinygrad_rnn` within `TINYGRAD_RNN_CACHE`, `XDG_CACHE_HOME` or the user's cache folder, whichever comes
    first; that folder may be deleted at any time. Where it cannot be written to, a temporary one serves until the
    process ends.

    Raises:
        NativeError: if there is no compiler, it fails, the library does not load, or the folder is not safe; the
            message says why, and what to do.
        ConfigError: if `TINYGRAD_RNN_CPU` names no level, or one that this CPU does not have.

    >>> built = library() if available() else None
    >>> built is None or built.path.name.startswith("replay-")
    True
    """
    outcome = _outcome()
    if isinstance(outcome, str):
        raise NativeError(outcome)
    return outcome


def available() -> bool:
    """Return whether the library can be used; the first call may compile it. If not, `library()` says why.

    >>> available() == available()
    True
    """
    return isinstance(_outcome(), Library)


@functools.cache
def _outcome() -> Library | str:
    """Return the library, or the message of the error."""
    cpu = target()
    try:
        compiler = find_compiler()
        try:
            return load(build(_SOURCE, cache_folder(), compiler, cpu))
        except OSError:
            private = Path(tempfile.mkdtemp(prefix="tinygrad_rnn-"))
            atexit.register(shutil.rmtree, private, ignore_errors=True)
            return load(build(_SOURCE, private, compiler, cpu))
    except NativeError as error:
        return str(error)
    except OSError as error:
        return (
            f"native: neither the cache folder nor the temporary folder can be written to ({error}); set "
            f"TINYGRAD_RNN_CACHE to a folder that can. {_INSTEAD}"
        )


def find_compiler() -> tuple[str, ...]:
    """Return the command of the C compiler: its path, and the arguments given in `CC`.

    Raises:
        NativeError: if there is none, or `CC` names one that is not found.

    >>> command = find_compiler() if available() else ("cc",)
    >>> len(command) >= 1
    True
    """
    named = os.environ.get("CC", "")
    try:
        words = shlex.split(named)
    except ValueError as error:
        raise NativeError(f"native: CC={named!r} is not a command line: {error}. {_INSTEAD}") from None
    for name in words[:1] or _COMPILERS:
        if found := shutil.which(name):
            return (str(Path(found).absolute()), *words[1:])  # it runs in another folder
    if words:
        raise NativeError(f"native: CC={named!r} names a compiler that was not found; correct or unset it. {_INSTEAD}")
    if (carried := _carried_compiler()) is not None:
        return (str(carried), "cc")
    raise NativeError(
        f"native: no C compiler on the path (looked for {', '.join(_COMPILERS)}); install gcc or clang, or pip install "
        f'"tinygrad_rnn[native]", which brings one, or name one in the environment variable CC. {_INSTEAD}'
    )


def _carried_compiler() -> Path | None:
    """Return the path of Zig, the C compiler of the extra [native]; None if it is not installed."""
    spec = importlib.util.find_spec("ziglang")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        program = Path(folder, "zig.exe" if sys.platform == "win32" else "zig")
        if program.is_file():
            return program
    return None


def cache_folder() -> Path:
    """Return the folder that libraries are kept in; it need not exist yet.

    Raises:
        OSError: if there is no home folder.

    >>> cache_folder().name
    'tinygrad_rnn'
    """
    if named := os.environ.get("TINYGRAD_RNN_CACHE"):
        return Path(named).absolute() / "tinygrad_rnn"
    shared = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if shared.is_absolute():  # the standard says that a relative one is to be ignored
        return shared / "tinygrad_rnn"
    if sys.platform == "win32" and (local := os.environ.get("LOCALAPPDATA")):
        return Path(local).absolute() / "tinygrad_rnn"
    try:
        home = Path.home()
    except RuntimeError as error:
        raise OSError(str(error)) from None
    return home / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "tinygrad_rnn"


def build(source: Path, cache: Path, compiler: Sequence[str], cpu: str = "native") -> Path:
    """Return the file of the library, compiled if it is not in the cache yet.

    It is compiled under a temporary name and renamed, so that builds may be killed or run at the same time.

    Args:
        source: folder with replay.c and what it includes.
        cache: folder for libraries, made if it is not there.
        compiler: path of the compiler, and arguments that come first.
        cpu: "native", or a level of x86-64.

    Raises:
        NativeError: if sources are missing, the compiler fails, or others can write to the cache.
        OSError: if the cache cannot be written to.

    >>> build(Path("nowhere"), Path("nowhere"), ["cc"])  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    tinygrad_rnn.errors.NativeError: native: nowhere/replay.c is missing; install the package anew...
    """
    if not (source / _UNIT).is_file():
        raise NativeError(f"native: {source / _UNIT} is missing; install the package anew. {_INSTEAD}")
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    cache = cache.resolve()  # so that the folder that is checked is the one that is used, even if a link changes
    if not _is_private(cache):
        raise NativeError(
            f"native: {cache} belongs to another user, or others can write to it, so nothing is loaded from there; run "
            f"`chmod go-w` on it, delete it, or set TINYGRAD_RNN_CACHE to another folder. {_INSTEAD}"
        )
    path = cache / f"replay-{_key(source, compiler, cpu)}{'.dll' if sys.platform == 'win32' else '.so'}"
    if path.is_file() and not path.is_symlink() and _is_private(path):
        return path
    for left in cache.glob("building-*"):
        with contextlib.suppress(FileNotFoundError):  # another process may remove it at the same time
            if time.time() - left.stat().st_mtime > _ABANDONED:
                shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="building-", dir=cache, ignore_cleanup_errors=True) as folder:
        made = _compile(source, Path(folder), compiler, cpu)
        made.chmod(0o700)  # whatever the umask is
        with made.open("r+b") as file:  # Windows syncs only files that are open for writing
            os.fsync(file.fileno())  # or, after a power failure, the name could exist without the bytes
        made.replace(path)
    return path


def load(path: Path) -> Library:
    """Return a library that `build` made, loaded.

    Raises:
        NativeError: if it does not load.

    >>> load(Path("nowhere.so"))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    tinygrad_rnn.errors.NativeError: native: nowhere.so does not load...
    """
    try:
        functions = ctypes.CDLL(str(path))
        note = ctypes.string_at(ctypes.addressof(ctypes.c_char.in_dll(functions, _NOTE))).decode()
    except (OSError, ValueError) as error:
        raise NativeError(
            f"native: {path} does not load ({error}); delete it, so that it is built anew, or, if programs must not be "
            f"run from its folder, set TINYGRAD_RNN_CACHE to another one. {_INSTEAD}"
        ) from None
    compiler, flags = note.split("\n")
    return Library(path, compiler, tuple(shlex.split(flags)), functions)


def _is_private(path: Path) -> bool:
    """Return whether a file or folder belongs to this user, and nobody else can write to it."""
    if sys.platform == "win32":  # where access control lists, not modes, keep others out of a user's folders
        return True
    status = path.stat()
    return status.st_uid == os.geteuid() and not status.st_mode & 0o022


def _key(source: Path, compiler: Sequence[str], cpu: str) -> str:
    """Return a hash of everything that the machine code depends on. No process is started."""
    files = sorted(path for path in source.iterdir() if path.suffix in (".c", ".h"))
    parts = (
        [(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in files],
        (_FLAGS, _NATIVE, _WIDE, _LIBRARIES, _NOTE, header()),
        (platform.machine(), processor(), cpu),
        [_identity(word) for word in compiler],
    )
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _identity(word: str) -> tuple[str | int, ...]:
    """Return path, size and time of the program that a word of a command names, or the word if it names none.

    All words of the command count, as in `CC="ccache gcc"`.
    """
    found = shutil.which(word)
    if found is None:
        return (word,)
    status = Path(found).stat()
    return word, os.path.realpath(found), status.st_size, status.st_mtime_ns


def _compile(source: Path, workplace: Path, compiler: Sequence[str], cpu: str) -> Path:
    """Compile the library in an empty folder; return the file."""
    note, made = workplace / "note.c", workplace / "replay.so"
    flags = [*_FLAGS]
    # A level is passed even if the compiler accepts neither spelling, so that it fails; -march=native is optional.
    level = (f"-march={cpu}", f"-march={cpu.replace('-', '_')}")
    for wanted in (_NATIVE, _WIDE) if cpu == "native" else (level, _WIDE):
        tried = (flag for flag in wanted if _takes(compiler, [*flags, flag], workplace))
        flags += [flag] if (flag := next(tried, wanted[0] if wanted is level else "")) else []
    status, said = _run([*compiler, "--version"], workplace)
    version = said.splitlines()[0] if status == 0 and said else compiler[0]
    text = f"{version}\n{shlex.join([*compiler[1:], *flags, *_LIBRARIES])}\0".encode()
    note.write_text(f"const unsigned char {_NOTE}[] = {{{', '.join(map(str, text))}}};\n", encoding="utf-8")
    (workplace / _HEADER).write_text(header(), encoding="utf-8")
    files = [f"-I{workplace}", str(source.resolve() / _UNIT), str(note)]
    command = [*compiler, *flags, *files, "-o", str(made), *_LIBRARIES]
    made.unlink(missing_ok=True)  # `_takes` left one here
    status, said = _run(command, workplace)
    if status or not made.is_file():
        last = "\n".join(said.splitlines()[-_LAST_LINES:])
        raise NativeError(
            f"native: {shlex.join(compiler)} did not compile {source / _UNIT} (exit status {status}):\n{last}\n"
            f"Name another compiler in the environment variable CC, or report this. {_INSTEAD}"
        )
    return made


def _takes(compiler: Sequence[str], flags: list[str], workplace: Path) -> bool:
    """Return whether a compiler accepts the flags."""
    probe = workplace / "probe.c"
    probe.write_text(_PROBE, encoding="utf-8")
    return _run([*compiler, *flags, str(probe), "-o", str(workplace / "replay.so")], workplace)[0] == 0


def _run(command: list[str], workplace: Path) -> tuple[int, str]:
    """Return exit status and output of a command; if it takes too long, kill it with all processes that it started."""
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ} | {"LC_ALL": "C"}
    # Zig's caches go into the temporary folder.
    environment |= {"ZIG_GLOBAL_CACHE_DIR": str(workplace / "zig"), "ZIG_LOCAL_CACHE_DIR": str(workplace / "zig")}
    try:
        with subprocess.Popen(
            command,
            cwd=workplace,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            process_group=None if sys.platform == "win32" else 0,
        ) as process:
            try:
                said = process.communicate(timeout=_TIMEOUT)[0]
            except BaseException:  # kill the whole group: cc starts the compiler proper as another process
                if sys.platform == "win32":
                    process.kill()
                else:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
                raise
    except subprocess.TimeoutExpired:
        raise NativeError(f"native: {command[0]} did not end within {_TIMEOUT:g} seconds. {_INSTEAD}") from None
    except OSError as error:
        raise NativeError(f"native: {command[0]} cannot be started: {error}. {_INSTEAD}") from None
    return process.returncode, said
