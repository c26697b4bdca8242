"""Random numbers for some rows of a batch: what a process draws is what one process draws for the same rows."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ..engine.tape import Array
from ..errors import ShapeError

Size: TypeAlias = int | tuple[int, ...] | None


class RowDraws(np.random.Generator):
    """A generator of which each draw of shape (n, ...) is rows start to stop of one draw of shape (N, ...).

    So several processes that each hold some rows of a batch, and a generator of the same state, drop what one process
    would drop in the whole batch, and their generators stay in the same state. A first axis of k * n, as of (n, T)
    rows in one axis, is taken from k * N. Draws without an axis of sequences, such as those for a weight, come from
    `whole`.

    Args:
        whole: the generator, which goes on.
        start, stop, total: the rows, and N.

    >>> rng, same = np.random.default_rng(0), np.random.default_rng(0)
    >>> RowDraws(rng, 1, 3, 4).random((2, 5)).tolist() == same.random((4, 5))[1:3].tolist()
    True
    >>> rng.random() == same.random()
    True
    """

    def __init__(self, whole: np.random.Generator, start: int, stop: int, total: int) -> None:
        super().__init__(whole.bit_generator)
        self.whole = whole
        self.start, self.stop, self.total = start, stop, total

    def __deepcopy__(self, memo: dict[int, object]) -> RowDraws:
        """Return a generator of the same rows with a state of its own."""
        bits = type(self.bit_generator)()
        bits.state = self.bit_generator.state
        return RowDraws(np.random.Generator(bits), self.start, self.stop, self.total)

    def random(  # type: ignore[override]  # arrays alone
        self, size: Size = None, dtype: npt.DTypeLike = np.float64, out: None = None
    ) -> Array:
        """Return uniform numbers in [0, 1) for these rows."""
        return self._rows(self.whole.random(self._all(size, "random"), np.dtype(dtype).type))  # type: ignore[arg-type]

    def standard_normal(  # type: ignore[override]
        self, size: Size = None, dtype: npt.DTypeLike = np.float64, out: None = None
    ) -> Array:
        """Return normal numbers for these rows."""
        kind = np.dtype(dtype).type
        return self._rows(self.whole.standard_normal(self._all(size, "standard_normal"), kind))  # type: ignore[arg-type]

    def normal(  # type: ignore[override]
        self, loc: float | Array = 0.0, scale: float | Array = 1.0, size: Size = None
    ) -> Array:
        """Return normal numbers for these rows."""
        return self._rows(self.whole.normal(loc, scale, self._all(size, "normal")))

    def uniform(  # type: ignore[override]
        self, low: float | Array = 0.0, high: float | Array = 1.0, size: Size = None
    ) -> Array:
        """Return uniform numbers for these rows."""
        return self._rows(self.whole.uniform(low, high, self._all(size, "uniform")))

    def integers(  # type: ignore[override]
        self, low: int, high: int | None = None, size: Size = None, dtype: npt.DTypeLike = np.int64
    ) -> Array:
        """Return integers in [low, high) for these rows."""
        return self._rows(self.whole.integers(low, high, self._all(size, "integers"), np.dtype(dtype).type))

    def _all(self, size: Size, name: str) -> tuple[int, ...]:
        """Return the shape of a draw for all rows."""
        shape = (int(size),) if isinstance(size, int | np.integer) else tuple(size or ())
        rows = self.stop - self.start
        if not shape or shape[0] % rows:
            raise ShapeError(
                f"RowDraws.{name}: a process that holds rows {self.start} to {self.stop} of N={self.total} draws "
                f"arrays ({rows}, ...), got size {size!r}; draw what is not of a sequence from rng.whole"
            )
        return shape[0] // rows * self.total, *shape[1:]

    def _rows(self, drawn: Array) -> Array:
        each = len(drawn) // self.total
        return drawn[self.start * each : self.stop * each]


def whole(rng: np.random.Generator) -> np.random.Generator:
    """Return the generator for draws that all rows of a batch share, such as those for a weight.

    >>> rng = np.random.default_rng(0)
    >>> whole(RowDraws(rng, 0, 1, 2)) is rng is whole(rng)
    True
    """
    return rng.whole if isinstance(rng, RowDraws) else rng
