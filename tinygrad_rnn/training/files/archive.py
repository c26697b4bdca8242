"""Archives: arrays and a JSON manifest in one file, written so that a crash cannot damage it.

The manifest holds the format's name and version, the versions of this library and of NumPy, and a sha256 for each
array. A path that ends with .safetensors is a file of that format, with the manifest as metadata; any other is an .npz:
"manifest.npy" (utf-8 bytes of JSON, as uint8) and a member for each array. Nothing is pickled, and reading executes
nothing.
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
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, cast

import numpy as np

from ... import __version__
from ...data.mapped import blocks
from ...engine.tape import Array
from ...errors import ConfigError, ModelFileError
from ...files import read_whole, write_atomically
from .plain import Json
from .safetensors import is_safetensors, native, packed, unpacked

Manifest: TypeAlias = dict[str, Json]


@dataclass(frozen=True)
class Kind:
    """A kind of archive.

    Attributes:
        format: its name in the manifest.
        version: of the format; older ones can be read.
        noun: for messages, with an article.
        prefix: of the arrays' members in an .npz.
    """

    format: str
    version: int
    noun: str
    prefix: str = "arrays/"


LANGUAGE_MODEL = Kind("tinygrad_rnn model", 1, "a model of tinygrad_rnn", prefix="parameters/")
MODEL_NAME = "model.npz"


def write_archive(
    path: str | os.PathLike[str], kind: Kind, manifest: Mapping[str, object], arrays: Mapping[str, Array]
) -> None:
    """Write an archive; the file at `path` is always complete, the old one or the new one.

    Args:
        path: file to write; its folder exists. Its ending decides between .safetensors and .npz.
        kind: the kind of archive.
        manifest: everything that the reader needs in addition to the arrays; JSON.
        arrays: by name.

    Raises:
        OSError: if the file cannot be written; the file that was there before is unchanged.
        ConfigError: if the library for .safetensors is missing, or the format has no place for a dtype.
    """
    arrays = native(arrays) if is_safetensors(path) else arrays
    whole = {
        "format": kind.format,
        "version": kind.version,
        "tinygrad_rnn": __version__,
        "numpy": np.__version__,
        **manifest,
        "sha256": {name: digest(array) for name, array in arrays.items()},
    }
    if is_safetensors(path):
        write_atomically(path, packed(whole, arrays))
        return
    buffer = io.BytesIO()
    # Contiguous first: an array that is a transpose is written in the order of its memory by some readers' rules.
    members = {kind.prefix + name: np.asarray(array, order="C") for name, array in arrays.items()}
    np.savez(buffer, allow_pickle=False, manifest=np.frombuffer(json.dumps(whole).encode(), np.uint8), **members)
    write_atomically(path, buffer.getvalue())


def read_archive(path: str | os.PathLike[str], kinds: Kind | tuple[Kind, ...], function: str) -> Archive:
    """Return the manifest and the arrays of an archive, all checked.

    Args:
        path: the file.
        kinds: the kinds of archive that are accepted.
        function: the function that the user called, for messages.

    Raises:
        ModelFileError: if there is no such file, it is of another kind, it is damaged, or it was written by a newer
            version.
        ConfigError: if the library for .safetensors is missing.
    """
    kinds = kinds if isinstance(kinds, tuple) else (kinds,)
    where, noun = f"{function}: {os.fspath(path)!r}", kinds[0].noun
    unzipped = not is_safetensors(path)
    try:
        content = read_whole(path, sys.maxsize, start=b"PK" if unzipped else b"")
    except FileNotFoundError as error:
        raise ModelFileError(f"{where} does not exist; check the path") from error
    except (OSError, ValueError) as error:  # ValueError: a path that holds a NUL character
        if isinstance(error, OSError) and error.errno == errno.EINVAL:
            raise ModelFileError(f"{where} is not {noun}, or it is damaged: it {error.strerror}") from error
        raise ModelFileError(f"{where} cannot be read ({error})") from error
    if unzipped and not zipfile.is_zipfile(io.BytesIO(content)):
        raise ModelFileError(f"{where} is not {noun}, or it is damaged (no zip archive)")
    try:
        return _checked(*(_unzipped(content, kinds) if unzipped else unpacked(content)), kinds)
    except ConfigError:
        raise
    except ModelFileError as error:
        raise ModelFileError(f"{where} {error}") from error
    except Exception as error:  # zipfile, NumPy, json and the checks raise a dozen classes on damaged bytes
        raise damaged(where, noun, error) from error


@dataclass(frozen=True)
class Archive:
    """The content of an archive.

    Attributes:
        kind: the kind of archive.
        manifest: the whole manifest.
        arrays: by name.
    """

    kind: Kind
    manifest: Manifest
    arrays: dict[str, Array]


def damaged(where: str, noun: str, error: Exception) -> ModelFileError:
    """Return the error for an archive whose content raised another error."""
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    return ModelFileError(f"{where} is not {noun}, or it is damaged ({reason})")


def digest(array: Array) -> str:
    """Return the sha256 of an array: of its dtype, shape and values.

    >>> digest(np.zeros(2)) == digest(np.zeros(2)), digest(np.zeros(2)) == digest(np.zeros((2, 1)))
    (True, False)
    """
    shape = f"{array.dtype.str} {array.shape} "
    found = hashlib.sha256(shape.encode())
    if array.size:
        for block in blocks(np.ascontiguousarray(array).reshape(-1).view(np.uint8)):
            found.update(block.data)
    return found.hexdigest()


def _unzipped(content: bytes, kinds: tuple[Kind, ...]) -> tuple[Manifest, dict[str, Array]]:
    noun = kinds[0].noun
    with zipfile.ZipFile(io.BytesIO(content)) as members:
        held = sum(member.file_size for member in members.infolist())
    if held > len(content):  # arrays are stored uncompressed; a member that unpacks to more could fill the memory
        raise ModelFileError(f"is not {noun}, or it is damaged: its members are larger than the file")
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        if not isinstance(archive, np.lib.npyio.NpzFile) or "manifest" not in archive.files:
            raise ModelFileError(f"is not {noun}: it has no manifest")
        manifest: Manifest = json.loads(archive["manifest"].tobytes())
        prefix = _kind_of(manifest, kinds).prefix
        return manifest, {name.removeprefix(prefix): archive[name] for name in archive.files if name.startswith(prefix)}


def _checked(manifest: Manifest, arrays: dict[str, Array], kinds: tuple[Kind, ...]) -> Archive:
    kind = _kind_of(manifest, kinds)
    digests = cast(Mapping[str, str], manifest["sha256"])
    if arrays.keys() != digests.keys():
        raise ModelFileError(f"is damaged: parameters {sorted(arrays.keys() ^ digests.keys())} are missing or unknown")
    for name, array in arrays.items():
        if digest(array) != digests[name]:
            raise ModelFileError(f"is damaged: the sha256 of {name} does not fit its values")
    return Archive(kind, manifest, arrays)


def _kind_of(manifest: Manifest, kinds: tuple[Kind, ...]) -> Kind:
    found = [kind for kind in kinds if isinstance(manifest, dict) and manifest.get("format") == kind.format]
    if not found:
        raise ModelFileError(f"is not {kinds[0].noun}: its manifest is of another format")
    if type(manifest["version"]) is not int or manifest["version"] > found[0].version:
        raise ModelFileError(
            f"has format version {manifest['version']!r}; this tinygrad_rnn {__version__} reads up to "
            f"{found[0].version}: use a newer one (it was written by {manifest.get('tinygrad_rnn')!r})"
        )
    return found[0]


def model_file(path: str | os.PathLike[str]) -> Path:
    """Return the file that a path means: the path itself, or model.npz in a folder.

    >>> model_file("poem.npz").as_posix()
    'poem.npz'
    """
    return Path(path, MODEL_NAME) if Path(path).is_dir() else Path(path)
