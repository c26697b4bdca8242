"""Types for signatures: numbers, axes, indices."""

from __future__ import annotations

from collections.abc import Sequence
from types import EllipsisType
from typing import Protocol, SupportsIndex, TypeAlias

import numpy as np

from .tape import Array


class Table(Protocol):
    """A table or an array of another library, such as a data frame."""

    def to_numpy(self) -> Array:
        """Return the values."""

    def __array__(self) -> Array: ...


Nested: TypeAlias = "Sequence[complex | Nested]"
"""Lists of Python numbers, nested to any depth."""

Numbers: TypeAlias = "Array | np.generic | complex | Nested | Sequence[Array | np.generic] | Table"
"""What NumPy converts to an array. A Tensor is not among them, so a type checker can tell which of the two an
operation returns."""

Axis: TypeAlias = int | tuple[int, ...] | None
"""The axes of a reduction; None: all."""

IndexPart: TypeAlias = SupportsIndex | slice | EllipsisType | Array | Sequence[int] | None

Index: TypeAlias = IndexPart | tuple[IndexPart, ...]
"""The index in `x[...]`."""
