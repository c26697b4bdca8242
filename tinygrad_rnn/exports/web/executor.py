"""The native executor as WebAssembly: compiled on first use, then taken from the cache folder."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import tinygrad_rnn.compiler.native as native

from ...compiler.native.build import cache_folder
from ...compiler.native.numbers import header
from ...errors import ConfigError, NativeError
from ...files import write_atomically

MAGIC = b"\0asm\1\0\0\0"
"""How a WebAssembly module starts: "\\0asm", version 1."""

_SOURCE = Path(native.__file__).parent / "source"
_EXPORTS = ("tinygrad_rnn_replay", "tinygrad_rnn_scratch", "__heap_base")
_FLAGS = (
    *("-target", "wasm32-wasi", "-mexec-model=reactor", "-msimd128", "-O3", "-s", "-std=gnu11"),
    *("-fno-math-errno", "-fno-trapping-math", "-fopenmp-simd", "-Wno-pass-failed"),
    *(f"-Wl,--export={name}" for name in _EXPORTS),
)
_TIMEOUT = 600.0  # seconds; the first time the compiler makes its C library too


@cache
def executor() -> bytes:
    """Return the executor as a WebAssembly module that imports nothing, compiling it if it is not in the cache.

    Raises:
        ConfigError: if there is no Zig, whose C compiler makes it.
        NativeError: if the compiler fails.
    """
    compiler = _compiler()
    sources = sorted(path for path in _SOURCE.iterdir() if path.suffix in (".c", ".h"))
    parts = [(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in sources]
    key = hashlib.sha256(repr((parts, header(), _FLAGS, compiler)).encode()).hexdigest()
    path = cache_folder() / f"executor-{key}.wasm"
    if path.is_file() and (made := path.read_bytes()).startswith(MAGIC):
        return made
    made = _compiled(compiler[:-1])
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(path, made)
    except OSError:  # a folder that cannot be written to: it is compiled again next time
        pass
    return made


def _compiler() -> tuple[str, ...]:
    """Return the command of the compiler, and, as its last part, what tells its version."""
    if importlib.util.find_spec("ziglang") is not None:
        return sys.executable, "-m", "ziglang", "cc", importlib.metadata.version("ziglang")
    if found := shutil.which("zig"):
        status = Path(found).stat()
        return found, "cc", f"{os.path.realpath(found)} {status.st_size} {status.st_mtime_ns}"
    raise ConfigError(
        "export: WebAssembly is compiled by Zig, which is not there; pip install tinygrad_rnn[native], or put zig on "
        "the path"
    )


def _compiled(command: Sequence[str]) -> bytes:
    with tempfile.TemporaryDirectory(prefix="tinygrad_rnn-") as folder:
        Path(folder, "operations.h").write_text(header(), encoding="utf-8")
        made = Path(folder, "executor.wasm")
        arguments = [*command, *_FLAGS, f"-I{folder}", str(_SOURCE / "alone.c"), "-o", str(made)]
        try:
            done = subprocess.run(
                arguments, cwd=folder, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NativeError(f"export: the compiler of WebAssembly did not finish: {error}") from None
        if done.returncode or not made.is_file():
            last = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
            raise NativeError(
                f"export: {' '.join(command)} did not compile the executor (exit status {done.returncode}):\n{last}"
            )
        return made.read_bytes()
