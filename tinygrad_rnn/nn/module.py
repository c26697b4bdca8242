"""Module: an object that has parameters, with names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from numpy.typing import ArrayLike

from ..engine.arrays import fitting_copy
from ..engine.tensor import Tensor
from ..errors import ShapeError


class Module:
    """Base of everything that holds parameters. It adds names and nothing else: no hidden state, no modes.

    Parameters are the attributes that are Tensors with `requires_grad`, and those of attributes that are modules, or
    lists, tuples and dicts of them, in the order in which they were set.

    >>> import tinygrad_rnn as tr
    >>> class Scale(tr.Module):
    ...     def __init__(self):
    ...         self.a = tr.tensor([2.0], requires_grad=True)
    >>> list(Scale().parameters())
    ['a']
    """

    def parameters(self) -> dict[str, Tensor]:
        """Return the parameters by name ("layers.0.Wx"), in a fixed order; a shared one once, by its first name."""
        found: dict[str, Tensor] = {}
        seen: set[int] = set()
        for name, parameter in _named(vars(self), ""):
            if id(parameter) not in seen:
                seen.add(id(parameter))
                found[name] = parameter
        return found

    def parameter_count(self) -> int:
        """Return the number of elements of all parameters."""
        return sum(parameter.size for parameter in self.parameters().values())

    def load(self, arrays: Mapping[str, ArrayLike]) -> None:
        """Give every parameter a new array; all or nothing.

        Args:
            arrays: name to array, as `parameters()` names them; converted to each parameter's dtype.

        Raises:
            ShapeError: if a name is missing or unknown, or a shape differs; nothing has been changed then.
            DTypeError: if an array does not fit the dtype of its parameter: complex numbers, strings; likewise.
        """
        called = f"{type(self).__name__}.load"
        parameters = self.parameters()
        missing, unknown = (
            sorted(parameters.keys() - arrays.keys()),
            sorted(arrays.keys() - parameters.keys()),
        )
        if missing or unknown:
            raise ShapeError(f"{called}: missing parameters {missing}, unknown parameters {unknown}")
        new = {name: fitting_copy(arrays[name], p.dtype, f"{called}: {name}") for name, p in parameters.items()}
        for name, parameter in parameters.items():
            if new[name].shape != parameter.shape:
                raise ShapeError(f"{called}: {name} has shape {new[name].shape}, expected {parameter.shape}")
        for name, parameter in parameters.items():
            parameter.data = new[name]

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {parameter.shape}" for name, parameter in self.parameters().items())
        return f"{type(self).__name__}({self.parameter_count():,} parameters: {shapes})"


def _named(value: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        if value.requires_grad and value.is_leaf:
            yield name, value
        return
    if isinstance(value, Module):
        value = vars(value)
    if isinstance(value, Mapping):
        parts = value.items()
    elif isinstance(value, list | tuple):
        parts = dict(enumerate(value)).items()
    else:
        return
    for key, part in parts:
        yield from _named(part, f"{name}.{key}" if name else str(key))
