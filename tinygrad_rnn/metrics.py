"""Metrics: sums over the unmasked elements, which add up over batches, and the value computed from them.

Each takes arrays or Tensors, has no gradient, and (except for those of texts) can be used in a function that `compile`
records. The value over no elements is NaN.

    >>> import numpy as np
    >>> batches = [([1.0, 2.0], [1.0, 4.0]), ([3.0], [0.0])]
    >>> found = merged([rmse(np.array(y), np.array(t)) for y, t in batches])
    >>> round(found.value, 6)  # sqrt((0 + 4 + 9) / 3)
    2.081666
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from .engine.operands import without_gradient
from .engine.tape import Array, no_grad
from .engine.tensor import Operand, Tensor, shape_of
from .errors import ConfigError, DTypeError, ShapeError
from .ops import astype, cross_entropy, stack
from .ops.masked import kept_of


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

    def _numbers(self) -> list[float]:
        array = self.sums.data if isinstance(self.sums, Tensor) else self.sums
        return [float(number) for number in array]


class Perplexity(Metric):
    """The exponential of the mean, which is in nats."""

    @property
    def value(self) -> float:
        """The perplexity; infinity where it is too large for a float."""
        mean = super().value
        return math.exp(mean) if not mean > 709 else math.inf


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
        """The share of the variance that is explained; NaN if the targets do not vary."""
        errors, total, squares, count = self._numbers()
        spread = squares - total * total / count if count else 0.0
        return 1 - errors / spread if spread > 0 else math.nan


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


def accuracy(predictions: Operand, targets: Operand, mask: Operand | None = None, ignore_label: int = -1) -> Metric:
    """Return the share of positions whose target is predicted correctly.

    Args:
        predictions: ids (...), or logits (..., V), of which the largest counts (the first, if several are equal).
        targets: (...) ids, or `ignore_label` at positions that do not count.
        mask: booleans, True where a position counts, of shape (...) or of its first axes.
        ignore_label: target of positions that do not count.

    Raises:
        ShapeError, DTypeError: if targets, predictions and mask do not fit.

    >>> accuracy([[0.1, 0.9], [0.2, 0.8], [3.0, 0.0]], [1, 0, -1]).value
    0.5
    """
    shape = shape_of(targets)
    kept = kept_of("accuracy", mask, shape, False)

    def sums(given: Operand, targets: Operand, kept: Array | None) -> Array:
        found, ids = np.asarray(given), np.asarray(targets)
        if found.ndim == ids.ndim + 1 and found.shape[:-1] == shape:
            found = np.argmax(found, axis=-1)
        if found.shape != shape:
            raise ShapeError(
                f"accuracy: expected predictions of shape {shape} or {(*shape, 'V')}, for targets of shape {shape}, "
                f"got {np.shape(given)}"
            )
        if ids.dtype.kind not in "iu" or found.dtype.kind not in "iu":
            raise DTypeError(f"accuracy: expected integer targets and ids or logits, got {ids.dtype} and {found.dtype}")
        counted = ids != ignore_label if kept is None else (ids != ignore_label) & kept
        return np.array([np.count_nonzero((found == ids) & counted), np.count_nonzero(counted)], np.float64)

    return Metric(without_gradient("accuracy", sums, predictions, targets, kept))


def nats(logits: Operand, targets: Operand, mask: Operand | None = None, ignore_label: int = -1) -> Metric:
    """Return the mean negative log-likelihood of the targets, in nats per position; see `cross_entropy`."""
    return Metric(_nats(logits, targets, mask, ignore_label))


def perplexity(logits: Operand, targets: Operand, mask: Operand | None = None, ignore_label: int = -1) -> Perplexity:
    """Return exp of the mean negative log-likelihood; see `cross_entropy`.

    >>> import numpy as np
    >>> round(perplexity(np.zeros((2, 3, 4)), np.ones((2, 3), int)).value, 6)
    4.0
    """
    return Perplexity(_nats(logits, targets, mask, ignore_label))


def bits(logits: Operand, targets: Operand, mask: Operand | None = None, ignore_label: int = -1) -> Bits:
    """Return the mean negative log-likelihood in bits per position (per character, where these are characters)."""
    return Bits(_nats(logits, targets, mask, ignore_label))


def mae(predictions: Operand, targets: Operand, mask: Operand | None = None) -> Metric:
    """Return the mean absolute error; arguments as for `rmse`."""
    return Metric(_errors("mae", predictions, targets, mask, lambda y, t: np.stack([np.abs(y - t), np.ones_like(t)])))


def rmse(predictions: Operand, targets: Operand, mask: Operand | None = None) -> RootMean:
    """Return the root of the mean squared error.

    Args:
        predictions: any shape, real.
        targets: of that shape.
        mask: booleans, True where an element counts, of that shape or of its first axes.

    Raises:
        ShapeError, DTypeError: if they do not fit.
    """
    return RootMean(
        _errors("rmse", predictions, targets, mask, lambda y, t: np.stack([np.square(y - t), np.ones_like(t)]))
    )


def r2(predictions: Operand, targets: Operand, mask: Operand | None = None) -> Determination:
    """Return the coefficient of determination: 1 is perfect, 0 is as good as the mean of the targets.

    >>> import numpy as np
    >>> r2(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 4.5])).value.__round__(6)
    0.653846
    """
    return Determination(
        _errors(
            "r2",
            predictions,
            targets,
            mask,
            lambda y, t: np.stack([np.square(y - t), t, np.square(t), np.ones_like(t)]),
        )
    )


def edit_distance(predictions: Iterable[Sequence[object]], targets: Iterable[Sequence[object]]) -> Metric:
    """Return the mean number of insertions, deletions and substitutions from a prediction to its target.

    Source: Levenshtein 1966.

    Args:
        predictions: N sequences, such as texts or lists of ids, each of its own length.
        targets: N sequences.

    Raises:
        ShapeError: if their numbers differ.

    >>> edit_distance(["kitten", "same"], ["sitting", "same"]).value
    1.5
    """
    distances = [_distance(ours, theirs) for ours, theirs in _pairs("edit_distance", predictions, targets)]
    return Metric(np.array([sum(distances), len(distances)], np.float64))


def error_rate(predictions: Iterable[Sequence[object]], targets: Iterable[Sequence[object]]) -> Metric:
    """Return the edit distance per element of the targets: the word, character or label error rate.

    >>> round(error_rate(["kitten", "same"], ["sitting", "same"]).value, 4)  # 3 / 11
    0.2727
    """
    pairs = _pairs("error_rate", predictions, targets)
    distances = sum(_distance(ours, theirs) for ours, theirs in pairs)
    return Metric(np.array([distances, sum(len(theirs) for _, theirs in pairs)], np.float64))


def _nats(logits: Operand, targets: Operand, mask: Operand | None, ignore_label: int) -> Array | Tensor:
    kept = kept_of("nats", mask, shape_of(targets), False)
    with no_grad():
        total = cross_entropy(logits, targets, ignore_label, mask=kept, reduction="sum")

    def counted(targets: Operand, kept: Array | None) -> Array:
        there = np.asarray(targets) != ignore_label
        return np.asarray(np.count_nonzero(there if kept is None else there & kept), np.float64)

    found: Array | Tensor = stack([astype(total, np.float64), without_gradient("count", counted, targets, kept)])
    return found


def _errors(
    function: str, predictions: Operand, targets: Operand, mask: Operand | None, terms: Callable[[Array, Array], Array]
) -> Array | Tensor:
    """Return the sums of terms (K, ...) of the predictions and targets that count."""
    kept = kept_of(function, mask, shape_of(targets), False)

    def sums(predictions: Operand, targets: Operand, kept: Array | None) -> Array:
        y, t = np.asarray(predictions), np.asarray(targets)
        if y.dtype.kind not in "biuf" or t.dtype.kind not in "biuf":
            raise DTypeError(f"{function}: expected real predictions and targets, got {y.dtype} and {t.dtype}")
        if y.shape != t.shape:
            raise ShapeError(f"{function}: expected predictions of shape {t.shape}, that of targets, got {y.shape}")
        if kept is not None:
            y, t = y[kept], t[kept]
        found: Array = terms(y.astype(np.float64), t.astype(np.float64))
        return np.asarray(found.reshape(len(found), -1).sum(axis=1))

    found: Array | Tensor = without_gradient(function, sums, predictions, targets, kept)
    return found


def _pairs(
    function: str, predictions: Iterable[Sequence[object]], targets: Iterable[Sequence[object]]
) -> list[tuple[Sequence[object], Sequence[object]]]:
    ours, theirs = list(predictions), list(targets)
    if len(ours) != len(theirs):
        raise ShapeError(f"{function}: expected as many predictions as targets, got {len(ours)} and {len(theirs)}")
    return list(zip(ours, theirs, strict=True))


def _distance(ours: Sequence[object], theirs: Sequence[object]) -> int:
    """Return the edit distance, row by row of the table of prefixes."""
    row = list(range(len(theirs) + 1))
    for i, mine in enumerate(ours, start=1):
        before, row = row, [i]
        for j, other in enumerate(theirs):
            row.append(min(before[j] + bool(mine != other), before[j + 1] + 1, row[j] + 1))
    return row[-1]
