"""What a metric is: sums that add up over batches, and the value computed from them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple, TypeVar

import numpy as np

from ..engine.tape import Array
from ..engine.tensor import Tensor
from ..errors import ConfigError


class Metric(NamedTuple):
    """The sums of a metric over the elements so far; a nest, so that a compiled function can return it.

    Attributes:
        sums: sums over the elements, shape (K,), float64; the last is their number.
    """

    sums: Array | Tensor

    @property
    def elements(self) -> float:
        """The number of elements."""
        return self._numbers()[-1]

    @property
    def value(self) -> float:
        """The mean of the elements."""
        total, count = self._numbers()
        return total / count if count else math.nan

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.value:.6g} over {self.elements:g} elements)"

    def _numbers(self) -> list[float]:
        return [float(number) for number in (self.sums.data if isinstance(self.sums, Tensor) else self.sums)]


class Perplexity(Metric):
    """The exponential of the mean, which is in nats."""

    @property
    def value(self) -> float:
        """The perplexity; infinity where it is too large for a float."""
        return math.exp(mean) if not (mean := super().value) > 709 else math.inf


class Bits(Metric):
    """The mean in bits, of nats: mean / ln 2."""

    @property
    def value(self) -> float:
        """The bits per element."""
        return super().value / math.log(2)


class RootMean(Metric):
    """The square root of the mean."""

    @property
    def value(self) -> float:
        """The root."""
        return math.sqrt(super().value)


class Determination(Metric):
    """1 - (sum of squared errors) / (sum of squared deviations of the targets from their mean)."""

    @property
    def value(self) -> float:
        """The share of the variance that is explained.

        NaN if the targets do not vary, or so little beside their mean (less than its 200,000th part) that the
        difference of two sums does not tell how much.
        """
        errors, total, squares, count = self._numbers()
        spread = squares - total * total / count if count else 0.0
        return 1 - errors / spread if spread > _RESOLVED * squares else math.nan


_RESOLVED = 2e-11  # of a sum of squares: smaller differences have fewer than five digits
_M = TypeVar("_M", bound=Metric)


def merged(metrics: Iterable[_M]) -> _M:
    """Return one metric of all elements, such as those of the batches of an epoch.

    Args:
        metrics: one or more metrics of one kind.

    Raises:
        ConfigError: if there are none, or they are of several kinds.
    """
    found = list(metrics)
    kinds = {type(metric) for metric in found}
    if len(kinds) != 1:
        names = sorted(kind.__name__ for kind in kinds)
        raise ConfigError(f"merged: expected metrics of one kind, one or more, got {names or 'none'}")
    parts = [metric.sums.data if isinstance(metric.sums, Tensor) else metric.sums for metric in found]
    return type(found[0])(np.sum(parts, axis=0))
