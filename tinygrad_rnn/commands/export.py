"""The command that writes a model for another place."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import ConfigError
from ..exports import FORMATS, source_of_module
from ..nn.module import Module
from ..training.files.archive import LANGUAGE_MODEL, model_file, read_archive
from ..training.files.modules import MODULE, load
from ..training.language.modelfile import SavedModel, load_model
from .printing import describe, row


def export(arguments: argparse.Namespace) -> int:
    """Write a model in another format; return 0."""
    chosen = FORMATS[arguments.to]
    flags = dict.fromkeys(name for other in FORMATS.values() for name in other.options)
    options = {name: getattr(arguments, name) for name in flags if hasattr(arguments, name)}
    for name in options.keys() - set(chosen.options):
        formats = ", ".join(key for key, other in FORMATS.items() if name in other.options)
        raise ConfigError(f"export: --{name.replace('_', '-')} is an option of --to {formats}, not of {arguments.to}")
    model = _read(arguments.model)
    path = Path(arguments.out or model_file(arguments.model).with_suffix(chosen.ending))
    source = source_of_module(model, streams=arguments.streams, steps=arguments.steps)
    written = chosen.write(source, path, **options)
    kind = describe(model.config, model.model) if isinstance(model, SavedModel) else type(model).__name__
    assert source.module is not None
    row("model", f"{kind}, {source.module.parameter_count():,} parameters")
    for file in written:
        row("saved", f"{file}, {file.stat().st_size:,} bytes")
    return 0


def _read(path: str) -> Module | SavedModel:
    """Return what a file of `tr.save` or `tr.save_model`, or of a run, holds.

    Raises:
        ModelFileError: if there is no such file, it is of another kind, or it is damaged.
        ConfigError: if its class cannot be imported.
    """
    if read_archive(model_file(path), (LANGUAGE_MODEL, MODULE), "export").kind is LANGUAGE_MODEL:
        return load_model(path)
    return load(path)
