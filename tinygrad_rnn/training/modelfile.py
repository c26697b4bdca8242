"""Model files: one .npz with the arrays and a JSON manifest, written so that a crash cannot damage it.

Members: "manifest.npy" (utf-8 bytes of JSON, as uint8) and "parameters/<name>.npy". The manifest holds the format's
name and version, the configuration, the vocabulary, the versions of this library and of NumPy, and a sha256 for each
array. Nothing is pickled, and loading executes nothing.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .. import __version__
from ..config import TrainConfig
from ..data.vocabulary import Vocabulary
from ..engine.tape import Array
from ..errors import ConfigError, ModelFileError
from ..files import read_whole, write_atomically
from ..nn.models import RNNLM
from .build import make_model

FORMAT = "tinygrad_rnn model"
VERSION = 1
MODEL_NAME = "model.npz"
_PREFIX = "parameters/"


class SavedModel(NamedTuple):
    """What a model file holds."""

    model: RNNLM
    config: TrainConfig
    vocabulary: Vocabulary


def save_model(path: str | os.PathLike[str], model: RNNLM, config: TrainConfig, vocabulary: Vocabulary) -> None:
    """Write a model file; the file at `path` is always a whole one, the old or the new.

    Args:
        path: file to write; its folder exists.
        model: what `make_model(config, len(vocabulary))` builds, trained.
        config: of the run.
        vocabulary: V tokens.

    Raises:
        ConfigError: if the model is not of the kind that the configuration describes.
        OSError: if the file cannot be written; what stood there before stands there still.

    >>> config, vocabulary = TrainConfig(hidden_size=4), Vocabulary(["<unk>", "to", "be"])
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "model.npz")
    ...     save_model(path, make_model(config, len(vocabulary)), config, vocabulary)
    ...     load_model(path).vocabulary.tokens
    ('<unk>', 'to', 'be')
    """
    check_describes(config, len(vocabulary), model)
    arrays = {name: parameter.data for name, parameter in model.parameters().items()}
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "tinygrad_rnn": __version__,
        "numpy": np.__version__,
        "config": asdict(config),
        "vocabulary": vocabulary.to_list(),
        "sha256": {name: _digest(array) for name, array in arrays.items()},
    }
    buffer = io.BytesIO()
    np.savez(
        buffer,
        allow_pickle=False,
        manifest=np.frombuffer(json.dumps(manifest).encode(), np.uint8),
        **{_PREFIX + name: array for name, array in arrays.items()},
    )
    write_atomically(path, buffer.getvalue())


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
        {name: (parameter.shape, str(parameter.dtype)) for name, parameter in each.parameters().items()}
        for each in (model, expected)
    )
    if have != want:
        raise ConfigError(
            f"save_model: the configuration with V={vocab_size} describes {expected}, but the model is {model}; "
            "a model file can hold only what make_model(config, V) builds"
        )


def load_model(path: str | os.PathLike[str]) -> SavedModel:
    """Read a model file, check all of it, and build the model.

    Args:
        path: the file, or a folder with a model.npz.

    Returns:
        The model, its configuration and its vocabulary.

    Raises:
        ModelFileError: if there is no such file, it is not a model of this project, it is damaged, or it was written
            by a newer version.

    >>> load_model("poem.txt")
    Traceback (most recent call last):
    tinygrad_rnn.errors.ModelFileError: load_model: 'poem.txt' does not exist; check the path
    """
    file = Path(path, MODEL_NAME) if Path(path).is_dir() else Path(path)
    where = f"load_model: {os.fspath(file)!r}"
    try:
        content = read_whole(file, sys.maxsize, start=b"PK")
    except FileNotFoundError as error:
        raise ModelFileError(f"{where} does not exist; check the path") from error
    except (OSError, ValueError) as error:  # ValueError: a path that holds a NUL character
        if isinstance(error, OSError) and error.errno == errno.EINVAL:
            raise ModelFileError(
                f"{where} is not a model of tinygrad_rnn, or it is damaged: it {error.strerror}"
            ) from error
        raise ModelFileError(f"{where} cannot be read ({error})") from error
    if not zipfile.is_zipfile(io.BytesIO(content)):
        raise ModelFileError(f"{where} is not a model of tinygrad_rnn, or it is damaged (no zip archive)")
    try:
        return _parse(content)
    except ModelFileError as error:
        raise ModelFileError(f"{where} {error}") from error
    except Exception as error:  # zipfile, NumPy, json and the checks raise a dozen classes on damaged bytes
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ModelFileError(f"{where} is not a model of tinygrad_rnn, or it is damaged ({reason})") from error


def _parse(content: bytes) -> SavedModel:
    with zipfile.ZipFile(io.BytesIO(content)) as members:
        held = sum(member.file_size for member in members.infolist())
    if held > len(content):  # arrays are stored as they are; what unpacks to more could fill the memory
        raise ModelFileError("is not a model of tinygrad_rnn, or it is damaged: its members are larger than the file")
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        if not isinstance(archive, np.lib.npyio.NpzFile) or "manifest" not in archive.files:
            raise ModelFileError("is not a model of tinygrad_rnn: it has no manifest")
        manifest: Mapping[str, Any] = json.loads(archive["manifest"].tobytes())
        if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
            raise ModelFileError("is not a model of tinygrad_rnn: its manifest is of another format")
        if type(manifest["version"]) is not int or manifest["version"] > VERSION:
            raise ModelFileError(
                f"has format version {manifest['version']!r}; this tinygrad_rnn {__version__} reads up to {VERSION}: "
                f"use a newer one (it was written by {manifest.get('tinygrad_rnn')!r})"
            )
        digests: Mapping[str, str] = manifest["sha256"]
        config, vocabulary = TrainConfig.from_mapping(manifest["config"]), Vocabulary(manifest["vocabulary"])
        least = len(vocabulary) * config.embedding_width + config.layers * config.hidden_size**2
        if least * np.dtype(config.dtype).itemsize > held:  # before memory for them is asked for
            raise ModelFileError(f"is damaged: its configuration has {least:,} parameters or more, and the file fewer")
        arrays = {name.removeprefix(_PREFIX): archive[name] for name in archive.files if name.startswith(_PREFIX)}
    if arrays.keys() != digests.keys():
        raise ModelFileError(f"is damaged: parameters {sorted(arrays.keys() ^ digests.keys())} are missing or unknown")
    for name, array in arrays.items():
        if _digest(array) != digests[name]:
            raise ModelFileError(f"is damaged: the sha256 of {name} does not fit its values")
    model = make_model(config, len(vocabulary))
    model.load(arrays)
    return SavedModel(model, config, vocabulary)


def _digest(array: Array) -> str:
    shape = f"{array.dtype.str} {array.shape} "
    return hashlib.sha256(shape.encode() + np.ascontiguousarray(array).tobytes()).hexdigest()
