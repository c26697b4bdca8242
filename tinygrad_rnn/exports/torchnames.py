"""Names of values and of dtypes in code for PyTorch."""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike


def dtype_of(dtype: DTypeLike) -> str:
    """Return the name of a dtype in PyTorch.

    >>> dtype_of(np.float32), dtype_of(bool)
    ('torch.float32', 'torch.bool')
    """
    return f"torch.{np.dtype(dtype).name}"


class Names:
    """Identifiers for names that users chose: no two the same, no keyword, and none that the code uses itself.

    >>> names = Names(["self"])
    >>> [names.new(name) for name in ("layers.0.Wx", "layers_0_Wx", '";drop', "int", "self", "2", "")]
    ['layers_0_Wx', 'layers_0_Wx_2', 'drop', 'int_2', 'self_2', 'x2', 'x']
    """

    def __init__(self, reserved: Sequence[str] = ()) -> None:
        self._taken = {*reserved, *keyword.kwlist, *dir(builtins), "torch", "nn", "t"}
        self._count = 0

    def new(self, name: str) -> str:
        """Return an identifier that was not returned before, as near to a name as can be."""
        base = re.sub(r"[^0-9a-zA-Z_]+", "_", name).strip("_")
        base = f"x{base}" if not base or base[0].isdigit() else base
        found, count = base, 1
        while found in self._taken:
            count += 1
            found = f"{base}_{count}"
        self._taken.add(found)
        return found

    def result(self) -> str:
        """Return an identifier for the result of a call."""
        self._count += 1
        return self.new(f"v{self._count}")
