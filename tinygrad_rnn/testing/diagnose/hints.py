"""Patterns in a wrong gradient: a factor, a transpose, a swapped block, one row."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np

from ...engine.tape import Array

_NEAR = 1e-6  # relative, between two numbers that should be equal

_REASONS = {
    -1.0: "a sign is flipped",
    0.0: "no gradient arrives",
    2.0: "counted twice",
    0.5: "one of two parts is lost",
}


def hint(expected: Array, actual: Array, sizes: Mapping[str, int]) -> str:
    """Describe the difference between two arrays of one shape, or return "".

    >>> hint(np.array([1.0, 3.0]), np.array([-1.0, -3.0]), {})
    'times -1 in every entry: a sign is flipped'
    >>> hint(np.arange(6.0).reshape(2, 3), np.arange(6.0).reshape(2, 3) / 4, {"N": 4})
    'times 0.25 = 1/N in every entry: averaged instead of summed'
    """
    if not (np.isfinite(expected).all() and np.isfinite(actual).all()):
        return ""
    if not actual.any():
        return "0 in every entry: no gradient arrives"
    if not expected.any():
        return "expected 0 in every entry: a gradient arrives where none should"
    near = _NEAR * max(float(np.abs(expected).max()), float(np.abs(actual).max()))
    off = np.abs(actual - expected)
    if off.max() <= 1e-8 * near:
        return "the difference is rounding: rtol and atol ask for more precision than float64 has"
    whole = factor_of(expected, actual)
    if whole is not None:
        looks = _times(whole, "in every entry", sizes)
        if expected.size > 1 or ":" in looks:
            return looks
    moved = _moved(expected, actual, near)
    if moved:
        return moved
    wrong = off > np.maximum(1e-9 * np.abs(expected), 1e-3 * off.max())
    relative = off[wrong] / np.maximum(np.abs(expected[wrong]), near)
    if wrong.mean() > 0.5 and 1e-9 < float(np.median(relative)) < 1e-5:
        return f"relative errors of about {np.median(relative):.0e}: rounding, as if a part were computed in float32"
    where = _where(wrong)
    if not where:
        return ""
    part = factor_of(expected[wrong], actual[wrong]) if wrong.sum() > 1 else None
    return f"wrong {where} only" + (f", {_times(part, 'there', sizes)}" if part is not None else "")


def ratio(expected: float, actual: float, sizes: Mapping[str, int]) -> str:
    """Return a hint based on one entry.

    >>> ratio(1.5, 3.0, {})
    'times 2 there: counted twice'
    """
    if not (np.isfinite(expected) and np.isfinite(actual)) or expected == 0:
        return ""
    return _times(actual / expected, "there", sizes)


def shape_hint(expected: tuple[int, ...], actual: tuple[int, ...], sizes: Mapping[str, int]) -> str:
    """Describe what is wrong with the shape of a gradient.

    >>> shape_hint((3, 4), (4, 3), {})
    'has shape (4, 3): transposed'
    """
    looks = f"has shape {actual}"
    if actual == expected[::-1]:
        return f"{looks}: transposed"
    if len(actual) < len(expected) or (len(actual) == 1 and actual == (sizes.get("N"),)):
        return f"{looks}: summed over the wrong axis"
    return looks


def factor_of(expected: Array, actual: Array) -> float | None:
    """Return the one number that `actual` is times `expected`, or None.

    >>> factor_of(np.array([1.0, 3.0]), np.array([-2.0, -6.0])), factor_of(np.array([1.0, 3.0]), np.array([3.0, 1.0]))
    (-2.0, None)
    """
    scale = float(np.abs(expected).max())
    if scale == 0:
        return None
    e, a = expected / scale, actual / scale
    factor = float(np.sum(e * a) / np.sum(e * e))
    # A factor that differs from 1 by 1e-7 means something only if the rest agrees more closely than that.
    near = min(_NEAR * max(1.0, abs(factor)), 0.01 * abs(factor - 1))
    return factor if bool((np.abs(a - factor * e) <= near).all()) else None


def _times(factor: float, place: str, sizes: Mapping[str, int]) -> str:
    """Return "times", the factor, and the place, with the usual cause of such a factor after a colon."""
    named = {letter: n for letter, n in sizes.items() if n > 1}
    named |= {f"{a} * {b}": n * m for (a, n), (b, m) in combinations(sorted(named.items()), 2)}
    summed = [name for name, n in named.items() if abs(factor - n) <= _NEAR * n]
    inverse = {f"1/({name})" if "*" in name else f"1/{name}": n for name, n in named.items()}
    averaged = [name for name, n in inverse.items() if abs(factor * n - 1) <= _NEAR]
    number = " = ".join([f"{factor:.6g}", *summed, *averaged])
    if abs(factor) <= _NEAR:
        number = "0"
    elif 0 < abs(factor - 1) < 1e-3:
        number = f"1 {'+' if factor > 1 else '-'} {abs(factor - 1):.1e}"
    reasons = [reason for value, reason in _REASONS.items() if abs(factor - value) <= _NEAR]
    reasons += ["averaged instead of summed"] * bool(averaged) + ["summed instead of averaged"] * bool(summed)
    return f"times {number} {place}" + (f": {', or '.join(reasons)}" if reasons else "")


def _moved(expected: Array, actual: Array, near: float) -> str:
    """Return a hint if the right numbers are in the wrong places."""
    if expected.ndim == 2 and min(expected.shape) > 1:
        turned = actual.reshape(expected.shape[::-1]).T
        if np.abs(turned - expected).max() <= near:
            return "transposed"
    for axis in range(expected.ndim):
        order = order_of(np.moveaxis(expected, axis, 0), np.moveaxis(actual, axis, 0), near)
        first = next((k for k, source in enumerate(order) if source != k), None)
        if first is not None:
            here, there = (_slices(expected.ndim, axis, k, k) for k in (first, order[first]))
            return f"right numbers in wrong places: {here} holds what belongs to {there}"
    return ""


def order_of(expected: Array, actual: Array, near: float) -> list[int]:
    """Return which part of `expected` along the first axis each part of `actual` is; [] if they are not the same parts.

    >>> order_of(np.array([1.0, 2.0, 3.0]), np.array([3.0, 1.0, 2.0]), 0.1)
    [2, 0, 1]
    """
    count = len(expected)
    if not 1 < count <= 256:
        return []
    e, a = expected.reshape(count, -1), actual.reshape(count, -1)
    distances = np.abs(a[:, None] - e[None]).max(axis=2)
    order: list[int] = distances.argmin(axis=1).tolist()
    return order if distances.min(axis=1).max() <= near and len(set(order)) == count else []


def _where(wrong: Array) -> str:
    """Return in words where a boolean array is True, or "" if that is nearly everywhere."""
    count = int(wrong.sum())
    if count in (0, wrong.size):
        return ""
    for axis in range(wrong.ndim):
        others = tuple(other for other in range(wrong.ndim) if other != axis)
        places = np.flatnonzero(wrong.any(axis=others))
        first, last = places[0], places[-1]
        if last - first + 1 == len(places) <= max(1, wrong.shape[axis] // 2):
            return f"in {_slices(wrong.ndim, axis, first, last)}"
    return f"in {count} of {wrong.size} entries" if 2 * count <= wrong.size else ""


def _slices(ndim: int, axis: int, first: int, last: int) -> str:
    """Return in words the slices of an array from the first to the last, along an axis."""
    named = {(1, 0): ("entry", "entries"), (2, 0): ("row", "rows"), (2, 1): ("column", "columns")}
    one, several = named.get((ndim, axis), (f"axis {axis}, index", f"axis {axis}, indices"))
    return f"{one} {first}" if first == last else f"{several} {first} to {last}"
