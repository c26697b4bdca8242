"""Metrics of whole sequences: how many edits lead from a prediction to its target."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ..errors import ShapeError
from .metric import Metric


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
