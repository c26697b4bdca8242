"""`export`: one entry for all formats."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from ..errors import ConfigError
from ..nn.module import Module
from ..training.language.modelfile import SavedModel
from .formats import FORMATS
from .source import source_of_function, source_of_module


def export(
    what: Module | SavedModel | Callable[..., object],
    path: str | os.PathLike[str],
    *args: object,
    to: str | None = None,
    carry: Sequence[str] = (),
    streams: int = 1,
    steps: int | None = None,
    **options: object,
) -> list[Path]:
    """Write a model's step, or any function that compiles, in a format that runs without this package.

    Args:
        what: a model or a cell, of which one step `(x, state) -> (y, state)` is exported; what `load_model` returns;
            or a function, or what `compile` made of one, whose parameters are the inputs, and what it uses beside them
            the weights.
        path: the file to write; some formats write others beside it.
        args: example arguments, which give the shapes and dtypes. A module needs none: they are an x, and a state.
        to: the format, a name of `FORMATS`; None: the one with the suffix of `path`.
        carry: names of the arguments of a function that it returns anew, as its last results, or one alone: its state.
        streams: N, for a module without an example.
        steps: T of a window of steps, for a module without an example; None: one step, without a time axis.
        options: of the format.

    Returns:
        The files that were written.

    Raises:
        ConfigError: if there is no such format or option, the format's extra is not installed, or arguments do not fit.
        TraceError, UnsupportedError: if the function cannot be recorded, or the format has no such operation.
        OSError: if a file cannot be written; the files that were there before are unchanged.
    """
    path = Path(path)
    name = _named(path) if to is None else to
    if name not in FORMATS:
        raise ConfigError(f"export: to must be one of {', '.join(FORMATS)}, got {name!r}")
    chosen = FORMATS[name]
    for option in options.keys() - set(chosen.options):
        takes = f"takes {', '.join(chosen.options)}" if chosen.options else "takes none"
        raise ConfigError(f"export: {option!r} is not an option of {name}, which {takes}")
    if not isinstance(what, Module | SavedModel):
        return chosen.write(source_of_function(what, args, carry), path, **options)
    if len(args) > 2:
        raise ConfigError(f"export: a module takes an example x and a state, got {len(args)} arguments")
    return chosen.write(source_of_module(what, *args, streams=streams, steps=steps), path, **options)


def _named(path: Path) -> str:
    """Return the format that a suffix means."""
    for name, chosen in FORMATS.items():
        if path.suffix == chosen.ending:
            return name
    known = ", ".join(f"{chosen.ending} ({name})" for name, chosen in FORMATS.items())
    raise ConfigError(f"export: {path.name!r} has none of the suffixes {known}; pass to= with the name of a format")
