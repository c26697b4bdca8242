"""The leaves of a target: parameters, and the floating point parts of inputs, each with a name."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ...credit.nests import is_float, value_of
from ...engine.tape import Array
from ...engine.tensor import Tensor
from ...engine.tree import flatten, named_leaves, rebuild
from ...errors import DTypeError, GradientError, NonFiniteError


class Constant(NamedTuple):
    """An input that is not a leaf, with a copy of its initial values."""

    name: str
    array: Array
    copy: Array


class Leaves:
    """Named leaves, each Tensor once, and the constants."""

    def __init__(self) -> None:
        self.named: dict[str, Tensor] = {}
        self.constants: list[Constant] = []

    def add_parameter(self, name: str, parameter: object) -> None:
        """Add a Tensor of a module, or one that the user named.

        Raises:
            GradientError: if it is not a leaf Tensor with requires_grad.
        """
        if not isinstance(parameter, Tensor) or not parameter.requires_grad or not parameter.is_leaf:
            what = f"of shape {parameter.shape}" if isinstance(parameter, Tensor) else f"({type(parameter).__name__})"
            raise GradientError(
                f"check_grads: parameter {name} {what} must be a leaf Tensor with requires_grad; make it with "
                "tensor(..., requires_grad=True)"
            )
        self._add(name, parameter)

    def add_input(self, name: str, nest: object) -> object:
        """Return an input with leaves in place of its floating point parts.

        Raises:
            DTypeError: if a part is complex.
            NonFiniteError: if a part has values that are not finite.
        """
        nest = as_array(nest)
        return rebuild(nest, iter([self._part(path, part) for path, part in named_leaves(name, nest)]))

    def _add(self, name: str, leaf: Tensor) -> Tensor:
        if leaf.dtype.kind == "c":
            raise DTypeError(
                f"check_grads: {name} is complex ({leaf.dtype}); check its real and imaginary parts instead"
            )
        if not np.isfinite(leaf.data).all():
            raise NonFiniteError(f"check_grads: {name}, of shape {leaf.shape}, has values that are not finite")
        if not any(leaf is other for other in self.named.values()):
            self.named[name if name not in self.named else f"input {name}"] = leaf
        return leaf

    def _part(self, path: str, part: object) -> object:
        if isinstance(part, float | np.floating):
            part = np.asarray(part)
        if isinstance(part, Tensor | np.ndarray) and part.dtype.kind in "fc":
            if isinstance(part, Tensor) and part.requires_grad and part.is_leaf:
                return self._add(part.name or path, part)
            return self._add(path, Tensor(value_of(part), requires_grad=True, name=path))
        if isinstance(part, np.ndarray):
            self.constants.append(Constant(path, part, part.copy()))
        return part


def as_array(value: object) -> object:
    """Return a list of Python numbers as an array, and anything else unchanged."""
    is_numbers = isinstance(value, list) and value and all(isinstance(part, int | float) for part in flatten(value))
    return np.asarray(value) if is_numbers else value


def in_float64(name: str, nest: object) -> object:
    """Return a nesting with its floating point parts as named float64 leaves, and the rest unchanged."""
    parts = [
        Tensor(value_of(part), np.float64, requires_grad=True, name=path) if is_float(part) else part
        for path, part in named_leaves(name, nest)
    ]
    return rebuild(nest, iter(parts))
