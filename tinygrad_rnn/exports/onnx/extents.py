"""Lengths that are not fixed: an integer of a recording as an expression in N, T and other sizes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

Sizes: TypeAlias = Mapping[str, int]
"""The sizes of one recording, by name."""


@dataclass(frozen=True)
class Extent:
    """A sum of products of sizes, such as 2*N*T + 1.

    Attributes:
        terms: (names of the sizes that are multiplied, the factor) of each; no factor is 0.

    >>> print(Extent(((("N", "T"), 2), ((), 1))))
    2*N*T + 1
    """

    terms: tuple[tuple[tuple[str, ...], int], ...]

    def __str__(self) -> str:
        return " + ".join(map(_in_words, *zip(*self.terms, strict=True)))

    @property
    def names(self) -> frozenset[str]:
        """Names of the sizes that it depends on."""
        return frozenset(name for names, _ in self.terms for name in names)


Length: TypeAlias = int | Extent
"""A length of an axis, or another integer of a graph."""


def apart(one: Length, other: Length) -> int | None:
    """Return the difference of two lengths, if it is the same at all sizes.

    >>> apart(Extent(((("T",), 1), ((), 2))), Extent(((("T",), 1),))), apart(3, Extent(((("T",), 1),)))
    (2, None)
    """
    (first, number), (second, less) = map(_taken_apart, (one, other))
    return number - less if first == second else None


def _taken_apart(length: Length) -> tuple[dict[tuple[str, ...], int], int]:
    terms = {(): length} if isinstance(length, int) else dict(length.terms)
    return {names: factor for names, factor in terms.items() if names}, terms.get((), 0)


Lengths: TypeAlias = tuple[Length, ...]
"""The shape of an array."""


def _in_words(names: tuple[str, ...], factor: int) -> str:
    product = "*".join(names)
    if not product:
        return str(factor)
    return product if factor == 1 else f"{factor}*{product}"


def recordings(names: Sequence[str], least: Sizes, others: Collection[int] = ()) -> list[Sizes]:
    """Return the sizes of the recordings from which `fitted` finds how a number depends on them.

    Two of each size in all combinations, and one more, which must agree with what was found.

    Args:
        names: of the sizes.
        least: smallest values of each.
        others: lengths that none of them should have, so that nothing fits by chance.

    >>> [tuple(sizes.values()) for sizes in recordings(["N", "T"], {"N": 1, "T": 1})]
    [(3, 5), (3, 6), (4, 5), (4, 6), (9, 10)]
    """
    if not names:
        return [{}]
    used = set(others)
    steps: list[list[int]] = []
    for name in names:
        values: list[int] = []
        for start in (max(least[name], 3), max(least[name], 3), 2 * least[name] + 7):  # far enough for a bound to show
            values.append(next(value for value in itertools.count(start) if value not in used))
            used.add(values[-1])
        steps.append(values)
    corners = itertools.product(*(three[:2] for three in steps))
    return [dict(zip(names, values, strict=True)) for values in (*corners, tuple(three[2] for three in steps))]


def fitted(values: Sequence[int], sizes: Sequence[Sizes]) -> Length | None:
    """Return what a number is that had these values in the recordings of `recordings`; None if it is no such sum.

    >>> print(fitted([16, 19, 21, 25, 91], recordings(["N", "T"], {"N": 1, "T": 1})))
    N*T + 1
    """
    if all(value == values[0] for value in values):
        return values[0]
    names = tuple(sizes[0])
    products = [part for count in range(len(names), -1, -1) for part in itertools.combinations(names, count)]
    table = [[math.prod(one[name] for name in part) for part in products] for one in sizes]
    factors = np.linalg.solve(np.array(table[:-1], float), np.array(values[:-1], float))
    whole = [round(factor) for factor in factors.tolist()]
    if any(sum(map(int.__mul__, row, whole)) != value for row, value in zip(table, values, strict=True)):
        return None
    return Extent(tuple((part, factor) for part, factor in zip(products, whole, strict=True) if factor))
