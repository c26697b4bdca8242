"""The format "wasm": one WebAssembly module with the executor and the model, and a JavaScript module that loads it."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

from ...errors import ConfigError
from ...files import write_atomically
from ..program import program_of
from ..source import Source
from .executor import executor
from .image import image_of


def module_of(source: Source, what: str = "wasm") -> bytes:
    """Return a WebAssembly module that holds the executor and, in a custom section, a program.

    It imports nothing and exports its memory and the executor's functions; `runtime.js` knows how to call them.

    Args:
        source: what is exported.
        what: the format, for messages.

    Raises:
        ConfigError: if there is no compiler for it.
        NativeError: if the compiler fails.
        UnsupportedError: if the program has an operation that the executor does not know.
    """
    image = image_of(program_of(source), what)
    code = executor()
    return code + image.section(code)


def runtime() -> str:
    """Return the JavaScript that runs such a module: a class Model, and make(bytes), which returns a promise of one."""
    return files(__package__).joinpath("runtime.js").read_text(encoding="utf-8")


def write_wasm(source: Source, path: Path) -> list[Path]:
    """Write a module, and beside it an ECMAScript module `.mjs` with `load()`, for browsers and Node.

    Args:
        source: what is exported.
        path: of the module; it ends with .wasm.

    Returns:
        The paths of the two files.

    Raises:
        ConfigError: if the path does not end with .wasm.
    """
    if path.suffix != ".wasm":
        raise ConfigError(f"export: the file of --to wasm ends with .wasm, got {str(path)!r}")
    module = module_of(source)
    loader = path.with_suffix(".mjs")
    name = json.dumps(f"./{quote(path.name)}")  # in a string of JavaScript, percent signs alone are special
    export = files(__package__).joinpath("loader.js").read_text(encoding="utf-8")
    write_atomically(path, module)
    write_atomically(loader, runtime() + export.replace("$file", name))
    return [path, loader]
