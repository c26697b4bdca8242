"""Standardization: a network's inputs get mean 0 and deviation 1, and its outputs are converted back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import DTypeLike

from ..checks import integer
from ..engine.arrays import as_numbers
from ..engine.operands import as_value
from ..engine.tape import Array
from ..engine.tensor import Operand, Tensor, Value, shape_of
from ..errors import DTypeError, ShapeError, warn
from .module import Module


class Standardize(Module):
    """Subtract the mean and divide by the deviation of each feature: (x - mean) / deviation.

    As an attribute of a model it is saved with the model. It is not trained.

    Args:
        features: D, the length of the last axis: 3 for a table (T, 3); 1 also converts arrays without that axis.
        dtype: dtype of both, that of the model.

    Attributes:
        mean: (D,), 0 at first.
        deviation: (D,), 1 at first.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> scale = tr.Standardize(1).fit([1.0, 3.0])
    >>> scale(np.array([1.0, 3.0, 4.0])).tolist(), scale.inverse(np.array([0.0])).tolist()
    ([-1.0, 1.0, 2.0], [2.0])
    """

    buffers = ("mean", "deviation")

    def __init__(self, features: int = 1, dtype: DTypeLike = np.float32) -> None:
        self.mean: Array = np.zeros(integer("Standardize", "features", features), dtype)
        self.deviation: Array = np.ones_like(self.mean)

    def fit(self, values: Operand) -> Standardize:
        """Compute the mean and the deviation of each feature, and return this module.

        Args:
            values: training data (..., D); also (T,) if D = 1; or a list of such arrays, as sequences of different
                lengths are. NaN is a missing value. A feature that does not vary is divided by 1.

        Raises:
            ShapeError: if the last axis is not D, or a feature has no values.
            DTypeError: if they are not real numbers.

        Warns:
            RuntimeWarning: if the dtype is too coarse for the deviation of a feature, as its mean is so large.
        """
        D = len(self.mean)
        parts = cast("Sequence[Operand]", values) if isinstance(values, list | tuple) else ()
        listed = any(isinstance(part, np.ndarray | Tensor) for part in parts)
        rows = np.concatenate([self._rows(part) for part in (parts if listed else [values])])
        known = np.isfinite(rows)
        counts = known.sum(axis=0)
        if not counts.all():
            raise ShapeError(f"Standardize.fit: feature {int(counts.argmin())} of {D} has no finite values")
        mean = np.where(known, rows, 0).sum(axis=0) / counts
        deviation = np.sqrt(np.square(np.where(known, rows, mean) - mean).sum(axis=0) / counts)
        low, high = np.where(known, rows, np.inf).min(axis=0), np.where(known, rows, -np.inf).max(axis=0)
        deviation = np.where(low < high, deviation, 0)  # the mean of equal numbers is off by a rounding
        self._warn_if_coarse(mean, deviation)
        self.mean = mean.astype(self.mean.dtype)
        self.deviation = np.where(deviation > 0, deviation, 1).astype(self.mean.dtype)
        return self

    def __call__(self, x: Operand) -> Value:
        """Return (x - mean) / deviation.

        Args:
            x: (..., D), or any shape where D = 1.

        Raises:
            ShapeError: if the last axis is not D.
        """
        self._check("Standardize", shape_of(x))
        values = as_value(x)  # whole numbers less a float32 would be float64
        values = values if values.dtype.kind in "fc" else values.astype(self.mean.dtype)
        return (values - self._over(self.mean)) / self._over(self.deviation)

    def inverse(self, y: Operand) -> Value:
        """Return y * deviation + mean: numbers in the units of the data."""
        self._check("Standardize.inverse", shape_of(y))
        return as_value(y) * self._over(self.deviation) + self._over(self.mean)

    def _warn_if_coarse(self, mean: Array, deviation: Array) -> None:
        """Warn where a step from one number to the next, at the mean, is more than a hundredth of the deviation."""
        dtype = self.mean.dtype
        coarse = np.flatnonzero((np.abs(mean) * np.finfo(dtype).eps > 0.01 * deviation) & (deviation > 0))
        if len(coarse):
            k = int(coarse[0])
            warn(
                f"Standardize.fit: the mean of feature {k}, {mean[k]:.6g}, is too large for {dtype} beside its "
                f"deviation, {deviation[k]:.3g}; subtract a constant from the data first, as from seconds since 1970",
                RuntimeWarning,
            )

    def _rows(self, values: Operand) -> Array:
        array = as_numbers(values, "Standardize.fit: values")
        if array.dtype.kind not in "biuf":
            raise DTypeError(f"Standardize.fit: expected real values, got dtype {array.dtype}")
        self._check("Standardize.fit", array.shape, columns=array.ndim > 1)
        return array.reshape(-1, len(self.mean)).astype(np.float64)

    def _over(self, statistic: Array) -> Array:
        return statistic.reshape(()) if len(statistic) == 1 else statistic

    def _check(self, where: str, shape: tuple[int, ...], columns: bool = False) -> None:
        D = len(self.mean)
        if (D > 1 or columns) and shape[-1:] != (D,):
            hint = f"; Standardize({shape[-1]}) is for as many columns, values[..., None] are of one" if columns else ""
            raise ShapeError(f"{where}: expected (..., D) with D = {D}, got {shape}{hint}")
