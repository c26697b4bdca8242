"""Files of any module: an archive with its arrays, and its class with the arguments that it was made with."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TypedDict, TypeVar, cast, overload

import numpy as np

from ...checks import instance
from ...engine.saved import Saved
from ...engine.tape import Array
from ...errors import ConfigError, ModelFileError, ShapeError
from ...imports import import_object
from ...nn.module import Module
from ...optim import Optimizer
from .archive import LANGUAGE_MODEL, Archive, Kind, model_file, read_archive, write_archive
from .plain import Json, Plain, decoded, encoded

MODULE = Kind("tinygrad_rnn module", 1, "a module of tinygrad_rnn")
_OPTIMIZER = "optimizer"
_M = TypeVar("_M", bound=Module)

_Code = TypedDict("_Code", {"class": str, "args": list[Json], "kwargs": dict[str, Json], "frozen": list[str]})
"""A module in a file: its class as module:Class, its arguments, the names of its frozen parameters."""


def save(
    path: str | os.PathLike[str],
    module: Module,
    *,
    optimizer: Optimizer | None = None,
    arguments: Mapping[str, object] | None = None,
) -> None:
    """Write a module into a file; the file at `path` is always complete, the old one or the new one.

    The file holds the arrays of `module.state_dict()`, the module's class as module:Class, and the arguments that it
    was made with, as JSON. Arguments may be numbers, texts, arrays, dtypes, generators, other modules, classes of
    modules, and lists, tuples and dicts of them. Nothing is pickled.

    Args:
        path: file to write; its folder exists.
        module: any `Module` whose class can be imported.
        optimizer: whose state is written too.
        arguments: of the class, by name, in place of those that the module was made with.

    Raises:
        ConfigError: if the class cannot be imported by its name, an argument cannot be written, or a module that is
            made with the arguments has other arrays.
        OSError: if the file cannot be written; the file that was there before is unchanged.

    >>> import tempfile, tinygrad_rnn as tr
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     tr.save(Path(folder, "cell.npz"), tr.GRUCell(2, 3, np.random.default_rng(0)))
    ...     tr.load(Path(folder, "cell.npz"))
    GRUCell(57 parameters: Wx (2, 9), Wh (3, 9), b (9,), bh (3,))
    """
    instance("save", "module", module, Module)
    arrays: dict[str, Array] = dict(module.state_dict())
    aside: dict[str, Array] = {}
    code = _module_as_json(module, "arguments", aside, arguments)
    _check_made_again(code, aside, module)
    state = None
    if optimizer is not None:
        instance("save", "optimizer", optimizer, Optimizer)
        state = encoded(dict(optimizer.state_dict()), aside, _OPTIMIZER)
    manifest = {"module": code, "optimizer": state, "state": list(arrays)}
    clash = arrays.keys() & aside.keys()
    if clash:
        raise ConfigError(f"save: {sorted(clash)} are names of the file's own; rename these attributes")
    write_archive(path, MODULE, manifest, arrays | aside)


@overload
def load(
    path: str | os.PathLike[str],
    *,
    into: None = None,
    optimizer: Optimizer | None = None,
    strict: bool = True,
    names: Sequence[str] | None = None,
) -> Module: ...


@overload
def load(
    path: str | os.PathLike[str],
    *,
    into: _M,
    optimizer: Optimizer | None = None,
    strict: bool = True,
    names: Sequence[str] | None = None,
) -> _M: ...


def load(
    path: str | os.PathLike[str],
    *,
    into: Module | None = None,
    optimizer: Optimizer | None = None,
    strict: bool = True,
    names: Sequence[str] | None = None,
) -> Module:
    """Read and check a file, and make its module; or load its arrays into a module that exists.

    Without `into` the class that the file names is imported, as `import` does it, and constructed if it is a `Module`:
    load only files from people whose code you would run, or pass `into`, which imports nothing.

    Args:
        path: a file that `save` or `save_model` has written, or a folder with a model.npz.
        into: the module that gets the arrays; None: a new one.
        optimizer: gets the state that was saved with the module.
        strict, names: as in `Module.load`, for a part of the arrays.

    Raises:
        ModelFileError: if there is no such file, it is of another kind, it is damaged, it was written by a newer
            version, or it holds no optimizer.
        ConfigError: if its class cannot be imported, or is not a Module.
        ShapeError: if the arrays do not fit the module.

    >>> load("cell.npz")
    Traceback (most recent call last):
    tinygrad_rnn.errors.ModelFileError: load: 'cell.npz' does not exist; check the path
    """
    archive = read_archive(model_file(path), (MODULE, LANGUAGE_MODEL), "load")
    if into is None:
        if archive.kind is LANGUAGE_MODEL:
            raise ModelFileError(f"load: {os.fspath(path)!r} is a language model with its vocabulary; use load_model")
        into = _made(cast(_Code, archive.manifest["module"]), archive.arrays)
    instance("load", "into", into, Module)
    into.load(weights(archive), strict=strict, names=names)
    if optimizer is not None:
        state = archive.manifest.get("optimizer")
        if state is None:
            raise ModelFileError(f"load: {os.fspath(path)!r} holds no optimizer; save(..., optimizer=...) writes one")
        optimizer.load_state_dict(cast(Mapping[str, Saved], decoded(state, archive.arrays)))
    return into


def weights(archive: Archive) -> dict[str, Array]:
    """Return the arrays of the module in an archive, by name."""
    if archive.kind is LANGUAGE_MODEL:
        return archive.arrays
    return {name: archive.arrays[name] for name in cast(list[str], archive.manifest["state"])}


def _module_as_json(
    module: Module, where: str, arrays: dict[str, Array], arguments: Mapping[str, object] | None = None
) -> _Code:
    """Return the class of a module and its arguments."""
    made = module._made_with
    if arguments is None and made.args is None:
        raise ConfigError(
            f"save: the arguments that this {type(module).__name__} was made with are unknown; pass arguments={{...}}"
        )
    kwargs = dict(made.kwargs or {}) if arguments is None else dict(arguments)
    args = list(made.args or ()) if arguments is None else []
    names = [*inspect.signature(type(module)).parameters]
    given = [(names[n] if n < len(names) else str(n), value) for n, value in enumerate(args)] + [*kwargs.items()]
    values = [encoded(value, arrays, f"{where}.{name}", _special(arrays)) for name, value in given]
    return {
        "class": _name_of(type(module)),
        "args": values[: len(args)],
        "kwargs": dict(zip(kwargs, values[len(args) :], strict=True)),
        "frozen": [name for name, part in module.tensors().items() if part.is_frozen],
    }


def _special(arrays: dict[str, Array]) -> Callable[[object, str], Json]:
    """Return the encoder of the arguments that are not plain values: modules, their classes, dtypes."""

    def written(value: object, where: str) -> Json:
        if isinstance(value, Module):
            return {"module": cast(Json, _module_as_json(value, where, arrays))}
        if isinstance(value, np.dtype):
            return {"dtype": value.str}
        if isinstance(value, type):
            return {"dtype": np.dtype(value).str} if issubclass(value, np.generic) else {"class": _name_of(value)}
        return None

    return written


def _name_of(kind: type) -> str:
    """Return the name module:Class by which a class can be imported.

    Raises:
        ConfigError: if it cannot be imported by its name.
    """
    name = f"{kind.__module__}:{kind.__qualname__}"
    if "<locals>" in kind.__qualname__ or not issubclass(kind, Module):
        raise ConfigError(
            f"save: the class {kind.__qualname__} must be a Module at the top of a Python module, so that loading can "
            "import it; move it there"
        )
    if import_object("save", name) is not kind:
        raise ConfigError(f"save: importing {name} gives another class; give the class a unique name")
    return name


def _class_of(name: str) -> type[Module]:
    found = import_object("load", name)
    if not (isinstance(found, type) and issubclass(found, Module)):
        raise ConfigError(f"load: {name} is not a Module; other classes are not constructed")
    return found


def _made(code: _Code, arrays: Mapping[str, Array]) -> Module:
    """Return the module that JSON describes, with its first weights."""

    def special(kind: str, content: Json) -> Plain:
        if kind == "module":
            return _made(cast(_Code, content), arrays)
        if kind == "class":
            return _class_of(cast(str, content))
        if kind == "dtype":
            return np.dtype(cast(str, content))
        raise ConfigError(f"load: the file holds a {kind}, which this version does not know")

    kind = _class_of(code["class"])
    args = [decoded(part, arrays, special) for part in code["args"]]
    kwargs = {name: decoded(part, arrays, special) for name, part in code["kwargs"].items()}
    try:
        module = kind(*args, **kwargs)
    except Exception as error:  # whatever the user's class raises
        raise ConfigError(
            f"load: {code['class']} could not be made with the arguments in the file: {type(error).__name__}: {error}"
        ) from error
    for name, part in module.tensors().items():
        if name in code["frozen"]:
            part.requires_grad = False
    return module


def _check_made_again(code: _Code, arrays: Mapping[str, Array], module: Module) -> None:
    try:
        again = _made(code, arrays).state_dict()
    except (ConfigError, ShapeError) as error:
        raise ConfigError(f"save: {error}; pass arguments={{...}} that make such a module") from error
    have, want = ({name: array.shape for name, array in each.items()} for each in (module.state_dict(), again))
    if have != want:
        differing = sorted(name for name in have.keys() | want.keys() if have.get(name) != want.get(name))
        raise ConfigError(
            f"save: a {type(module).__name__} made with the same arguments has other arrays ({', '.join(differing)}); "
            "make all of them in __init__, or pass arguments={...}"
        )
