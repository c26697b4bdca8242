"""One leaf at a time: its gradient beside the oracle's slopes, and where it is wrong if it is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, NamedTuple

import numpy as np

from ..engine.tape import Array
from .backward import Found
from .direct import Target, weights
from .hints import hint, ratio
from .oracles import Differences, Oracle, Slope, scales
from .report import LeafResult
from .suspects import is_cut
from .tolerance import Tolerance

_EVERY_ENTRY = 3000  # entries of a leaf times operations of one evaluation, up to which "auto" looks at each entry
_LOCATE = 1024  # entries of a wrong leaf that are all looked at, to say what is wrong with it


@dataclass(frozen=True)
class Judge:
    """Compares the gradients of a target with an oracle.

    Attributes:
        target: gives the values.
        found: the gradient under test.
        oracle: finds the slopes.
        tolerance: what is allowed.
        directions: random directions a leaf, where not every entry is looked at.
        full: look at every entry; "auto": where that is quick.
        seed: of the directions.
        allow_unused: whether a leaf that the value does not depend on is allowed.
    """

    target: Target
    found: Found
    oracle: Oracle
    tolerance: Tolerance
    directions: int
    full: bool | Literal["auto"]
    seed: int
    allow_unused: bool

    def results(self) -> list[LeafResult]:
        """Return the result of each leaf."""
        return [self._leaf(number, name) for number, name in enumerate(self.target.leaves)]

    def _leaf(self, number: int, name: str) -> LeafResult:
        g = self.found.gradients[name]
        blank = LeafResult(name, g.shape, 0.0, 0.0, self.oracle.name, 0)
        rng = np.random.default_rng([self.seed, number])
        if name not in self.found.reached:
            return self._unreached(blank, g, rng)
        if g.size == 0:
            return replace(blank, method="", verdict="empty")
        if not np.isfinite(g).all():
            index = _place(int(np.flatnonzero(~np.isfinite(g))[0]), g.shape)
            expected = self._compare(name, np.zeros(g.shape), _unit(g.shape, index)).expected
            why = "the value is finite there: a rule overflows, or divides by 0" if np.isfinite(expected) else ""
            wrong = replace(blank, verdict="not finite", error=np.inf, directions=1, index=index)
            return replace(wrong, expected=expected, actual=float(g[index]), hint=why)
        operations = len(self.found.nodes) * self.target.runs
        every = g.size * operations <= _EVERY_ENTRY if self.full == "auto" else self.full
        found = self._entries(name, g) if every else self._along(name, g, rng, self.directions)
        worst = max(found, key=lambda found: found.excess)
        result = replace(blank, error=worst.error, bound=worst.bound, directions=len(found), every=every)
        return result if worst.ok else self._located(result, g, found if every else None)

    def agrees(self, name: str) -> bool:
        """Return whether the gradient of a leaf is right along two directions."""
        rng = np.random.default_rng(self.seed)
        return all(found.ok for found in self._along(name, self.found.gradients[name], rng, 2))

    def _entries(self, name: str, g: Array) -> list[_Comparison]:
        return [self._compare(name, g, _unit(g.shape, index)) for index in np.ndindex(g.shape)]

    def _along(self, name: str, g: Array, rng: np.random.Generator, directions: int) -> list[_Comparison]:
        return [self._compare(name, g, weights(rng, g.shape)) for _ in range(directions)]

    def _compare(self, name: str, g: Array, u: Array) -> _Comparison:
        """Return how the gradient g compares with the oracle along u."""
        found = self._measured(name, g, u, fine=False)
        if found.ok or not isinstance(self.oracle, Differences):
            return found
        finer = self._measured(name, g, u, fine=True)  # the steps may have been too long for numbers near 0
        return finer if finer.ok else found

    def _measured(self, name: str, g: Array, u: Array, fine: bool) -> _Comparison:
        """Compare along u, entries of each scale by themselves, for a step that fits all would be lost in some."""
        of = scales(self.target.leaves[name]._array.real, fine)
        low = high = slack = bound = total = nearest = 0.0
        for scale in np.unique(of[u != 0]).tolist():
            v = np.where(of == scale, u, 0)
            j, terms = float(np.sum(g * v)), float(np.sum(np.abs(g * v)))
            allowed = self.tolerance.allowed(terms, abs(j), float(np.sum(np.abs(v))), scale)
            length = float(np.sqrt(np.sum(v * v)))
            s = self.oracle.slope(partial(self.target.along, name, v), j, allowed, length, scale)
            low, high, slack = low + s.low, high + s.high, slack + s.slack
            bound, total, nearest = bound + allowed, total + j, nearest + s.nearest(j)
        s = Slope(low, high, slack)
        return _Comparison(s.distance(total), bound + slack, nearest, high > low)

    def _unreached(self, blank: LeafResult, g: Array, rng: np.random.Generator) -> LeafResult:
        result, right = blank, True
        if g.size:
            worst = max(self._along(blank.name, np.zeros(g.shape), rng, 2), key=lambda found: found.excess)
            result, right = replace(blank, error=worst.error, bound=worst.bound, directions=2), worst.ok
        if right and self.allow_unused:
            return replace(result, verdict="unused")
        if right:
            cut = any(is_cut(node) for node in self.found.nodes)
            why = "a cut stands between, or nothing uses it" if cut else "nothing uses it"
            return replace(result, verdict="no gradient", hint=f"{why}; pass allow_unused=True if that is meant")
        lost = "the result depends on it, but the graph does not lead to it: was it used as x.data, or without Tensors?"
        return replace(self._located(result, g, None), verdict="no gradient", hint=lost)

    def _located(self, result: LeafResult, g: Array, found: list[_Comparison] | None) -> LeafResult:
        """Return what is wrong with a leaf: the worst entry, both values, and a hint."""
        name, sizes = result.name, self.target.sizes
        places = list(range(g.size))
        if found is None and g.size > _LOCATE:
            places = [self._search(name, g)]
            found = [self._compare(name, g, _unit(g.shape, _place(places[0], g.shape)))]
        elif found is None:
            found = self._entries(name, g)
        worst = max(range(len(found)), key=lambda k: found[k].excess)
        error, bound, expected, _ = found[worst]
        if not result.every and all(one.ok for one in found) and any(one.kink for one in found):
            # A direction moves several entries over their kinks at once; each of them alone is right.
            return replace(result, error=error, bound=bound)
        index = _place(places[worst], g.shape)
        wrong = replace(result, verdict="wrong", index=index, expected=expected, actual=float(g[index]))
        if len(places) < g.size:
            return replace(wrong, hint=ratio(expected, float(g[index]), sizes))
        whole = np.array([one.expected for one in found]).reshape(g.shape)
        hints = (hint(whole, g, sizes), self.target.explain(name, whole, g))
        return replace(wrong, hint="; ".join(filter(None, hints)))

    def _search(self, name: str, g: Array) -> int:
        """Return a wrong entry of a large leaf: halve, and go on with the half that is further off."""
        places = np.arange(g.size)
        rng = np.random.default_rng(self.seed)
        while len(places) > 1:
            halves, excess = np.array_split(places, 2), []
            for half in halves:
                u = np.zeros(g.size)
                u[half] = weights(rng, half.shape)
                excess.append(self._compare(name, g, u.reshape(g.shape)).excess)
            places = halves[int(np.argmax(excess))]
        return int(places[0])


class _Comparison(NamedTuple):
    """One derivative: how far off it is, what is allowed, the right answer nearest to it, and whether 0 is a kink."""

    error: float
    bound: float
    expected: float
    kink: bool

    @property
    def ok(self) -> bool:
        return self.error <= self.bound

    @property
    def excess(self) -> float:
        """How many times what is allowed the error is."""
        return self.error / self.bound if self.bound else np.inf if self.error else 0.0


def _place(number: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(number, shape))


def _unit(shape: tuple[int, ...], index: tuple[int, ...]) -> Array:
    u = np.zeros(shape)
    u[index] = 1
    return u
