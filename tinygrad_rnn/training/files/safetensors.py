"""Archives as .safetensors files: arrays under their own names, the manifest as metadata."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Mapping
from typing import cast

import numpy as np

from ...engine.tape import Array
from ...errors import ConfigError, ModelFileError
from .plain import Json

ENDING = ".safetensors"
_KEY = "tinygrad_rnn"  # of the metadata
_DIGEST = "manifest_sha256"
_LENGTH = 8  # bytes before the header, which say how long it is


def is_safetensors(path: object) -> bool:
    """Return whether a path is to hold safetensors: its ending decides.

    >>> is_safetensors("model.safetensors"), is_safetensors("model.npz")
    (True, False)
    """
    return str(path).lower().endswith(ENDING)


def native(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Return the arrays in this machine's byte order: the format has one of its own, and keeps none of theirs."""
    return {name: np.asarray(array, array.dtype.newbyteorder("=")) for name, array in arrays.items()}


def packed(manifest: Mapping[str, object], arrays: Mapping[str, Array]) -> bytes:
    """Return the content of a file: the same bytes for the same manifest and arrays.

    Args:
        manifest: JSON, kept in the metadata under "tinygrad_rnn", with a sha256 of its own.
        arrays: by name.

    Raises:
        ConfigError: if the library is missing, or a dtype has no place in the format.
    """
    _need_library()
    from safetensors import SafetensorError
    from safetensors.numpy import save

    text = json.dumps(manifest)
    metadata = {_KEY: json.dumps({**manifest, _DIGEST: hashlib.sha256(text.encode()).hexdigest()})}
    # The library writes the memory of an array as it lies there: of a transpose, in the wrong order.
    contiguous = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    try:
        content: bytes = save(contiguous, metadata)
    except (SafetensorError, ValueError) as error:
        dtypes = ", ".join(sorted({str(array.dtype) for array in arrays.values()}))
        raise ConfigError(f"safetensors cannot hold these arrays, of {dtypes} ({error}); save an .npz file") from error
    return content


def unpacked(content: bytes) -> tuple[dict[str, Json], dict[str, Array]]:
    """Return the manifest and the arrays of a file.

    Raises:
        ConfigError: if the library is missing.
        ModelFileError: if the file is another program's, or its manifest is damaged.
        Exception: whatever the library raises on damaged bytes.
    """
    _need_library()
    from safetensors.numpy import load

    arrays = {name: np.array(array) for name, array in load(content).items()}  # the library's are read-only
    header = content[_LENGTH : _LENGTH + int.from_bytes(content[:_LENGTH], "little")]
    text = json.loads(header).get("__metadata__", {}).get(_KEY)
    if text is None:
        raise ModelFileError(
            "has no metadata of tinygrad_rnn: it is another program's, or damaged; "
            "safetensors.numpy.load_file returns its arrays, and from_torch renames those of PyTorch"
        )
    whole = cast(dict[str, Json], json.loads(text))
    manifest = {name: value for name, value in whole.items() if name != _DIGEST}
    found = hashlib.sha256(json.dumps(manifest).encode()).hexdigest()
    if whole.get(_DIGEST) != found or json.dumps({**manifest, _DIGEST: found}) != text:
        raise ModelFileError("is damaged: the sha256 of its metadata does not fit")
    return manifest, arrays


def _need_library() -> None:
    if importlib.util.find_spec("safetensors") is None:
        raise ConfigError('safetensors files need the library: pip install "tinygrad_rnn[safetensors]"')
