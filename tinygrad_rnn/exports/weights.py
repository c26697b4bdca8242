"""The weights and the configuration of a module as a safetensors file."""

from __future__ import annotations

from pathlib import Path

from ..errors import ConfigError
from ..training.files.modules import save
from ..training.language.modelfile import save_model
from .source import Source


def write_safetensors(source: Source, path: Path) -> list[Path]:
    """Write a module, or a language model with its configuration and vocabulary, which `load` and `load_model` read.

    Raises:
        ConfigError: if the name of the file does not end with .safetensors, or there is no module.
    """
    if path.suffix != ".safetensors":
        raise ConfigError(f"export: a safetensors file is one whose name ends with .safetensors, got {str(path)!r}")
    if source.module is None:
        raise ConfigError("export: safetensors holds the weights of a module; pass a Module, not a function")
    if source.saved is None:
        save(path, source.module)
    else:
        save_model(path, *source.saved)
    return [path]
