"""Files of language models: an archive with the parameters, the configuration and the vocabulary."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from typing import NamedTuple, cast

import numpy as np

from ...config import TrainConfig
from ...data.vocabulary import Vocabulary
from ...engine.tape import Array
from ...errors import ConfigError, ModelFileError
from ...nn.models import RNNLM
from ...nn.module import Module
from ..files.archive import LANGUAGE_MODEL, Archive, damaged, model_file, read_archive, write_archive
from ..files.modules import MODULE, weights
from .build import make_model


class SavedModel(NamedTuple):
    """The content of a model file."""

    model: RNNLM
    config: TrainConfig
    vocabulary: Vocabulary


def save_model(path: str | os.PathLike[str], model: RNNLM, config: TrainConfig, vocabulary: Vocabulary) -> None:
    """Write a model file; the file at `path` is always complete, the old one or the new one.

    Args:
        path: file to write; its folder exists.
        model: what `make_model(config, len(vocabulary))` builds, trained.
        config: of the run.
        vocabulary: V tokens.

    Raises:
        ConfigError: if the model is not of the kind that the configuration describes.
        OSError: if the file cannot be written; the file that was there before is unchanged.

    >>> from pathlib import Path
    >>> config, vocabulary = TrainConfig(hidden_size=4), Vocabulary(["<unk>", "to", "be"])
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "model.npz")
    ...     save_model(path, make_model(config, len(vocabulary)), config, vocabulary)
    ...     load_model(path).vocabulary.tokens
    ('<unk>', 'to', 'be')
    """
    check_describes(config, len(vocabulary), model)
    manifest = {"config": asdict(config), "vocabulary": vocabulary.to_list()}
    write_archive(path, LANGUAGE_MODEL, manifest, model.state_dict())


def check_describes(config: TrainConfig, vocab_size: int, model: RNNLM) -> None:
    """Check that a configuration describes a model, so that its file can be loaded again.

    Args:
        config: of the run.
        vocab_size: V.
        model: to be saved.

    Raises:
        ConfigError: if names, shapes or dtypes of the parameters differ from `make_model(config, vocab_size)`.

    >>> check_describes(TrainConfig(hidden_size=4), 10, make_model(TrainConfig(hidden_size=4), 10))
    """
    expected = make_model(config, vocab_size)
    have, want = (
        {name: (array.shape, str(array.dtype)) for name, array in each.state_dict().items()}
        for each in (model, expected)
    )
    if have != want:
        raise ConfigError(
            f"save_model: the configuration with V={vocab_size} describes {expected}, but the model is {model}; "
            "a model file can hold only what make_model(config, V) builds; tr.save takes any Module"
        )


def load_model(path: str | os.PathLike[str]) -> SavedModel:
    """Read a model file, check all of it, and build the model.

    If the model uses a cell or a function of the user's, the file names it as module:Name, and the module is imported.

    Args:
        path: the file, or a folder with a model.npz.

    Returns:
        The model, its configuration and its vocabulary.

    Raises:
        ModelFileError: if there is no such file, it is not a model of this project, it is damaged, or it was written
            by a newer version.
        ConfigError: if a module that it names cannot be imported.

    >>> load_model("poem.txt")
    Traceback (most recent call last):
    tinygrad_rnn.errors.ModelFileError: load_model: 'poem.txt' does not exist; check the path
    """
    file = model_file(path)
    archive = read_archive(file, LANGUAGE_MODEL, "load_model")
    where = f"load_model: {os.fspath(file)!r}"
    try:
        config = TrainConfig.from_mapping(cast(Mapping[str, object], archive.manifest["config"]))
        vocabulary = Vocabulary(cast(list[str], archive.manifest["vocabulary"]))
        _check_size(where, archive, config, len(vocabulary))
    except ModelFileError:
        raise
    except Exception as error:  # whatever a damaged manifest makes of it
        raise damaged(where, LANGUAGE_MODEL.noun, error) from error
    model = make_model(config, len(vocabulary))
    try:
        model.load(archive.arrays)
    except (ValueError, TypeError) as error:
        raise damaged(where, LANGUAGE_MODEL.noun, error) from error
    return SavedModel(model, config, vocabulary)


def _check_size(where: str, archive: Archive, config: TrainConfig, vocab_size: int) -> None:
    """Check that the file can hold what its configuration describes, before memory for it is allocated."""
    if config.model or ":" in config.cell:
        return  # made by the user's code, of any size
    held = sum(array.nbytes for array in archive.arrays.values())
    least = vocab_size * config.embedding_width + config.layers * config.hidden_size**2
    if least * np.dtype(config.dtype).itemsize > held:
        raise ModelFileError(
            f"{where} is damaged: its configuration has {least:,} parameters or more, and the file has fewer"
        )


def init_from(path: str | os.PathLike[str], model: Module, vocabulary: Vocabulary) -> list[str]:
    """Load the weights of a file whose names and shapes agree; return the names that keep their fresh weights.

    If the file's model has another vocabulary, the weights of each token go to the same token.

    Args:
        path: a file of `save` or `save_model`, or a folder with a model.npz.
        model: the language model that gets the weights.
        vocabulary: of the model.

    Raises:
        ModelFileError: as `load`; or if no array in the file fits.
    """
    archive = read_archive(model_file(path), (MODULE, LANGUAGE_MODEL), "init")
    own, found = model.state_dict(), weights(archive)
    if archive.kind is LANGUAGE_MODEL:
        old = Vocabulary(cast(list[str], archive.manifest["vocabulary"]))
        if old != vocabulary:
            found = {name: _by_token(name, array, own.get(name), old, vocabulary) for name, array in found.items()}
    fitting = {name: array for name, array in found.items() if name in own and array.shape == own[name].shape}
    if not fitting:
        raise ModelFileError(f"init: {os.fspath(path)!r} holds no array with a name and shape of this model")
    model.load(fitting, strict=False)
    return [name for name in own if name not in fitting]


def _by_token(name: str, array: Array, own: Array | None, old: Vocabulary, new: Vocabulary) -> Array:
    """Return an array rearranged for the tokens of another vocabulary; tokens that it lacks keep their own values."""
    axes = [axis for axis, length in enumerate(array.shape) if length == len(old)]
    if own is None or own.ndim != array.ndim or not axes or not name.startswith(("embedding", "output", "b")):
        return array
    axis = axes[0] if name.startswith("embedding") else axes[-1]
    common = [token for token in new.tokens if token in old]
    found = np.moveaxis(own.copy(), axis, 0)
    if found.shape[0] != len(new) or found.shape[1:] != np.moveaxis(array, axis, 0).shape[1:]:
        return array
    found[new.encode(common)] = np.moveaxis(array, axis, 0)[old.encode(common)]
    return np.moveaxis(found, 0, axis)
