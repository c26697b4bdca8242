"""Objects that the user names as "module:Name": a cell, a model, a policy."""

from __future__ import annotations

import importlib
import operator
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import ConfigError


def import_object(command: str, target: str) -> Any:
    """Return the object that "module:Name" names; the name may have dots. The working folder is searched first.

    Args:
        command: the command that was given the name, for the message.
        target: the module and the name in it.

    Raises:
        ConfigError: if there is no such module or name, or importing the module raises an error.

    >>> import_object("check", "tinygrad_rnn:GRUCell").__name__
    'GRUCell'
    >>> import_object("check", "tinygrad_rnn.truncation.parse:Nothing")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    tinygrad_rnn.errors.ConfigError: check: module 'tinygrad_rnn.truncation.parse' has no 'Nothing'; it has: ...
    """
    module_name, colon, name = target.partition(":")
    if not colon:
        raise ConfigError(f"{command}: expected module:Name, such as mycells:LeakyCell, got {target!r}")
    try:
        with working_folder_first():
            module = importlib.import_module(module_name)
    except Exception as error:  # whatever the user's module raises
        raise ConfigError(f"{command}: importing {module_name!r} raised {type(error).__name__}: {error}") from error
    try:
        return operator.attrgetter(name)(module)
    except (AttributeError, ValueError) as error:
        known = ", ".join(key for key, value in vars(module).items() if callable(value) and not key.startswith("_"))
        raise ConfigError(
            f"{command}: module {module_name!r} has no {name!r}; it has: {known or 'nothing callable'}"
        ) from error


@contextmanager
def working_folder_first() -> Iterator[None]:
    """Import modules of the working folder before all others, as `python -m` does."""
    before = sys.path.copy()
    sys.path.insert(0, str(Path.cwd()))
    try:
        yield
    finally:
        sys.path[:] = before
