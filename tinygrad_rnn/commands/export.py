"""The command that writes a model for another place."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ..config import TrainConfig
from ..data.vocabulary import Vocabulary
from ..errors import ConfigError
from ..nn.module import Module
from ..training.files.archive import LANGUAGE_MODEL, model_file, read_archive
from ..training.files.modules import MODULE, load, save
from ..training.language.modelfile import load_model, save_model
from .printing import describe, row


class Source(NamedTuple):
    """What a model file holds: any module, or a language model with its configuration and vocabulary."""

    model: Module
    config: TrainConfig | None
    vocabulary: Vocabulary | None


@dataclass(frozen=True)
class Format:
    """A format of the command.

    Attributes:
        ending: of the file, where no path is given.
        write: called with the source, the path and the options that were given; returns the files it has written.
        options: names of the options of the command, beside the path, that `write` takes as keyword arguments.
    """

    ending: str
    write: Callable[..., Sequence[Path]]
    options: tuple[str, ...] = ()


def export(arguments: argparse.Namespace) -> int:
    """Write a model in another format; return 0."""
    chosen = FORMATS[arguments.to]
    options = {name: getattr(arguments, name) for name in _options() if hasattr(arguments, name)}
    for name in options.keys() - set(chosen.options):
        formats = ", ".join(key for key, other in FORMATS.items() if name in other.options)
        raise ConfigError(f"export: --{name.replace('_', '-')} is an option of --to {formats}, not of {arguments.to}")
    source = read_source(arguments.model)
    path = Path(arguments.out or model_file(arguments.model).with_suffix(chosen.ending))
    written = chosen.write(source, path, **options)
    kind = type(source.model).__name__ if source.config is None else describe(source.config)
    row("model", f"{kind}, {source.model.parameter_count():,} parameters")
    for file in written:
        row("saved", f"{file}, {file.stat().st_size:,} bytes")
    return 0


def read_source(path: str) -> Source:
    """Return what a file of `tr.save` or `tr.save_model`, or of a run, holds.

    Raises:
        ModelFileError: if there is no such file, it is of another kind, or it is damaged.
        ConfigError: if its class cannot be imported.
    """
    if read_archive(model_file(path), (LANGUAGE_MODEL, MODULE), "export").kind is LANGUAGE_MODEL:
        return Source(*load_model(path))
    return Source(load(path), None, None)


def _options() -> list[str]:
    return [name for chosen in FORMATS.values() for name in chosen.options]


def _safetensors(source: Source, path: Path) -> Sequence[Path]:
    if path.suffix != ".safetensors":
        raise ConfigError(f"export: a safetensors file is one whose name ends with .safetensors, got {str(path)!r}")
    if source.config is None or source.vocabulary is None:
        save(path, source.model)
    else:
        save_model(path, source.model, source.config, source.vocabulary)
    return [path]


FORMATS = {
    "safetensors": Format(".safetensors", _safetensors),
}
"""The formats of `--to`, by name; `cli.EXPORTS` describes each in a line, and has the parser of their options."""
