"""Module: an object that has parameters, with names."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from ..engine.arrays import fitting_copy
from ..engine.tape import Array, is_differentiable
from ..engine.tensor import Tensor
from ..errors import GradientWarning, ShapeError


class Module:
    """Base of everything that holds parameters. It adds names and nothing else: no hidden state, no modes.

    Parameters are the attributes that are Tensors with `requires_grad` (`parameter` makes them), and those of
    attributes that are modules, or lists, tuples and dicts of them, in the order in which they were set.

    A Tensor or a floating point array among the attributes that is no parameter stays what it is, and `parameters`
    says so in a `GradientWarning`, once for a class. If that is meant, name the attribute in `buffers`, or freeze a
    weight: `module.W.requires_grad = False`.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> class Scale(tr.Module):
    ...     buffers = ("mean",)
    ...     def __init__(self):
    ...         self.a = tr.parameter([2.0])
    ...         self.mean = np.array([0.5])
    >>> list(Scale().parameters())
    ['a']
    """

    buffers: ClassVar[tuple[str, ...]] = ()
    """Names of attributes that hold what nothing trains: statistics, masks, a state."""

    def parameters(self) -> dict[str, Tensor]:
        """Return the parameters by name ("layers.0.Wx"), in a fixed order; a shared one once, by its first name."""
        found, untrained = _look_through(self)
        for owner, attribute, what in untrained:
            _warn_of_untrained(owner, attribute, what)
        return found

    def parameter_count(self) -> int:
        """Return the number of elements of all parameters."""
        return sum(parameter.size for parameter in _look_through(self)[0].values())

    def load(self, arrays: Mapping[str, ArrayLike]) -> None:
        """Give every parameter a new array; all or nothing.

        Args:
            arrays: name to array (or Tensor), as `parameters()` names them; converted to each parameter's dtype.

        Raises:
            ShapeError: if a name is missing or unknown, or a shape differs; nothing has been changed then.
            DTypeError: if an array does not fit the dtype of its parameter: complex numbers, strings; likewise.
        """
        called = f"{type(self).__name__}.load"
        if not isinstance(arrays, Mapping):
            raise ShapeError(f"{called}: expected a dict of arrays by name, got a {type(arrays).__name__}")
        parameters = _look_through(self)[0]
        missing, unknown = (
            sorted(parameters.keys() - arrays.keys()),
            sorted(arrays.keys() - parameters.keys()),
        )
        if missing or unknown:
            raise ShapeError(f"{called}: missing parameters {missing}, unknown parameters {unknown}")
        given = {name: part.data if isinstance(part, Tensor) else part for name, part in arrays.items()}
        new = {name: fitting_copy(given[name], p.dtype, f"{called}: {name}") for name, p in parameters.items()}
        for name, parameter in parameters.items():
            if new[name].shape != parameter.shape:
                raise ShapeError(f"{called}: {name} has shape {new[name].shape}, expected {parameter.shape}")
        for name, parameter in parameters.items():
            parameter.data = new[name]

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {parameter.shape}" for name, parameter in _look_through(self)[0].items())
        return f"{type(self).__name__}({self.parameter_count():,} parameters: {shapes})"


Untrained: TypeAlias = tuple["Module", str, str]
"""A module, the name of an attribute, and what that holds."""


def _look_through(module: Module) -> tuple[dict[str, Tensor], list[Untrained]]:
    """Return the parameters of a module by name, and what it holds that is none and is not meant to be."""
    found: dict[str, Tensor] = {}
    untrained: list[Untrained] = []
    seen: set[int] = set()  # a module may know the one that holds it
    waiting: list[tuple[Any, str, Module, str]] = [(module, "", module, "")]
    while waiting:
        value, name, owner, attribute = waiting.pop()
        if isinstance(value, Tensor | np.ndarray):
            if isinstance(value, Tensor) and value.requires_grad and value.is_leaf:
                if id(value) not in seen:
                    seen.add(id(value))
                    found[name] = value
            elif attribute not in type(owner).buffers and (what := _untrained(value)):
                untrained.append((owner, attribute, what))
        elif (parts := _parts(value)) and id(value) not in seen:
            seen.add(id(value))
            for key, part in reversed(parts):
                held_by = (value, key) if isinstance(value, Module) else (owner, attribute)
                waiting.append((part, f"{name}.{key}" if name else str(key), *held_by))
    return found, untrained


def _parts(value: Any) -> list[tuple[Any, Any]]:
    """Return what a container holds, by name or number; of anything else nothing."""
    if isinstance(value, Module):
        value = vars(value)
    if isinstance(value, Mapping):
        return list(value.items())
    return list(enumerate(value)) if isinstance(value, list | tuple) else []


def _untrained(value: Tensor | Array) -> str:
    """Return what a value is, if it looks like a weight that nothing trains; else an empty text."""
    if not is_differentiable(value.dtype):
        return ""
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    if value.node is not None:
        return f"a result of shape {value.shape} (of {value.node.name}), no leaf"
    return "" if value.is_frozen else f"a Tensor of shape {value.shape} without requires_grad"


def _warn_of_untrained(owner: Module, attribute: str, what: str) -> None:
    """Warn once for a class: the place of the warning is its `__init__`, wherever the parameters are asked for."""
    kind = type(owner)
    code = getattr(kind.__init__, "__code__", None)
    file, line = (code.co_filename, code.co_firstlineno) if code else (kind.__module__, 1)
    registry: Any = vars(sys.modules[kind.__module__]).setdefault("__warningregistry__", {})
    warnings.warn_explicit(
        f"{kind.__name__}.{attribute} is {what}: nothing trains it. Make a weight with parameter(...); if it is meant "
        f"to stay, say so in the class: buffers = ({attribute!r},)",
        GradientWarning,
        file,
        line,
        kind.__module__,
        registry,
    )
