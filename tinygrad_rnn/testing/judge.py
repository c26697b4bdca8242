"""The comparison of one leaf's gradient with the oracle's slopes, and the location of errors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from ..checks import integer, number
from ..engine.tape import Array
from ..errors import ConfigError
from ..truncation import Policy
from .diagnose.explain import explained
from .diagnose.hints import ratio, shape_hint
from .oracles import Differences, Oracle, Slope, scales
from .report import LeafResult
from .targets.backward import BackwardPass
from .targets.base import Evaluation, weights

_EVERY_ENTRY = 3000  # entries of a leaf times operations of one evaluation, up to which "auto" compares every entry
_LOCATE = 1024  # up to this many entries of a wrong leaf are all compared, to diagnose the error

Method: TypeAlias = Literal["auto", "complex", "longdouble"]


@dataclass(frozen=True)
class Options:
    """The options of `check_grads`; see there.

    Raises:
        ConfigError: if one is out of range.
    """

    seed: int
    directions: int = 3
    full: bool | Literal["auto"] = "auto"
    rtol: float = 1e-10
    atol: float = 1e-13
    method: Method = "auto"
    order: int = 1
    truncation: Policy | str | None = None
    allow_unused: bool = False

    def __post_init__(self) -> None:
        integer("check_grads", "directions", self.directions)
        number("check_grads", "rtol", self.rtol, low=0)
        number("check_grads", "atol", self.atol, low=0)
        for name, known in (
            ("full", (True, False, "auto")),
            ("method", ("auto", "complex", "longdouble")),
            ("order", (1, 2)),
        ):
            if (value := getattr(self, name)) not in known:
                raise ConfigError(f"check_grads: {name} must be one of {', '.join(map(repr, known))}, got {value!r}")
        if self.order == 2 and self.truncation is not None:
            raise ConfigError(
                "check_grads: order=2 is for gradients that can be recorded; a policy's gradient cannot: use unroll "
                "with cut_every= instead of truncation="
            )

    @property
    def written(self) -> list[str]:
        """The options that differ from their defaults, and the seed, as arguments of a call."""
        usual = Options(self.seed)
        changed = {name: value for name, value in vars(self).items() if value != getattr(usual, name)}
        return [f"{name}={value!r}" for name, value in {**changed, "seed": self.seed}.items()]


class Tolerance(NamedTuple):
    """How far a gradient may be from its oracle, along one direction u of one leaf.

    |j - s| <= rtol * (|s|_1 + |j|) + atol * max(Gmax, 1) * |u|_1

    j is the gradient under test times u, s the oracle's slope, |s|_1 the sum of the absolute terms of j, and Gmax the
    largest entry of the gradient over all leaves. The second term is needed where units saturate: there the rule's own
    1 - y * y cancels. Each leaf is judged separately, because the others would dilute a fault in one.

    A variable s * z with a scale s far from 1 has a gradient in z of s times its own, and is judged by that if it is
    stricter: `relative` is the largest entry of a gradient times the scale of its variable.

    >>> Tolerance(1e-10, 1e-13, largest=2.0).allowed(terms=3.0, slope=1.0, spread=5.0)
    4.01e-10
    """

    rtol: float
    atol: float
    largest: float  # Gmax
    relative: float = 0.0

    def allowed(self, terms: float, slope: float, spread: float, scale: float = 1.0) -> float:
        """Return the largest allowed |j - s|, for |s|_1, |j|, |u|_1, and the scale of the variables that u moves."""
        level = max(self.largest, 1.0)
        if scale != 1:
            level = min(level, max(self.relative, 1.0) / scale)
        return self.rtol * (terms + slope) + self.atol * level * spread


@dataclass(frozen=True)
class Judge:
    """Compares the gradients of a target with an oracle."""

    evaluation: Evaluation
    found: BackwardPass
    oracle: Oracle
    options: Options
    eps: float = 0.0  # rounding error of the narrowest type that the oracle computes in; 0 means that of float64

    @cached_property
    def tolerance(self) -> Tolerance:
        """How far a gradient may be from the oracle."""
        gradients, arrays = self.found.gradients, self.evaluation.arrays
        largest = max(map(largest_entry, gradients.values()), default=0.0)
        fitting = {name: g for name, g in gradients.items() if g.shape == arrays[name].shape}
        relative = max((largest_entry(g * scales(arrays[name])) for name, g in fitting.items()), default=0.0)
        # A gradient that is partly computed in a narrow type may be off by its rounding.
        atol = max(self.options.atol, 10 * self.eps)
        return Tolerance(self.options.rtol, atol, largest, relative)

    def results(self) -> list[LeafResult]:
        """Return the result of each leaf."""
        return [self._leaf(number, name) for number, name in enumerate(self.found.gradients)]

    def _leaf(self, number: int, name: str) -> LeafResult:
        g, shape = self.found.gradients[name], self.evaluation.arrays[name].shape
        blank = LeafResult(name, shape, 0.0, 0.0, self.oracle.name, 0)
        rng = np.random.default_rng([self.options.seed, number])
        if name not in self.found.reached:
            return self._unreached(blank, g, rng)
        if g.shape != shape:
            looks = shape_hint(shape, g.shape, self.evaluation.target.sizes)
            return replace(blank, verdict="wrong", error=np.inf, hint=looks)
        if g.size == 0:
            return replace(blank, method="", verdict="empty")
        if not np.isfinite(g).all():
            return self._not_finite(blank, g)
        full, operations = self.options.full, len(self.found.nodes) * self.evaluation.runs
        every = g.size * operations <= _EVERY_ENTRY if full == "auto" else full
        found = self._entries(name, g) if every else self._along(name, g, rng, self.options.directions)
        worst = max(found, key=lambda found: found.excess)
        result = replace(blank, error=worst.error, bound=worst.bound, directions=len(found), every=every)
        return result if worst.ok else self._located(result, g, found if every else None)

    def _entries(self, name: str, g: Array) -> list[_Comparison]:
        return [self._compare(name, g, _unit(g.shape, index)) for index in np.ndindex(g.shape)]

    def _along(self, name: str, g: Array, rng: np.random.Generator, directions: int) -> list[_Comparison]:
        return [self._compare(name, g, weights(rng, g.shape)) for _ in range(directions)]

    def _compare(self, name: str, g: Array, u: Array) -> _Comparison:
        """Return how the gradient g compares with the oracle along u."""
        found = self._measured(name, g, u, fine=False)
        if found.ok or not isinstance(self.oracle, Differences):
            return found
        finer = self._measured(name, g, u, fine=True)  # the steps may be too long for numbers near 0
        return finer if finer.ok else found

    def _measured(self, name: str, g: Array, u: Array, fine: bool) -> _Comparison:
        """Compare along u, separately for entries of each scale: in some of them a common step would be lost."""
        of = scales(self.evaluation.arrays[name], fine)
        low = high = slack = bound = total = nearest = 0.0
        for scale in np.unique(of[u != 0]).tolist():
            v = np.where(of == scale, u, 0)
            j, terms = float(np.sum(g * v)), float(np.sum(np.abs(g * v)))
            allowed = self.tolerance.allowed(terms, abs(j), float(np.sum(np.abs(v))), scale)
            length = float(np.sqrt(np.sum(v * v)))
            s = self.oracle.slope(partial(self.evaluation.along, name, v), j, allowed, length, scale)
            low, high, slack = low + s.low, high + s.high, slack + s.slack
            bound, total, nearest = bound + allowed, total + j, nearest + s.nearest(j)
        s = Slope(low, high, slack)
        return _Comparison(s.distance(total), bound + slack, nearest, high > low)

    def _not_finite(self, blank: LeafResult, g: Array) -> LeafResult:
        index = _place(int(np.flatnonzero(~np.isfinite(g))[0]), g.shape)
        expected = self._compare(blank.name, np.zeros(g.shape), _unit(g.shape, index)).expected
        why = "the value is finite there: a rule overflows, or divides by 0" if np.isfinite(expected) else ""
        wrong = replace(blank, verdict="not finite", error=np.inf, directions=1, index=index)
        return replace(wrong, expected=expected, actual=float(g[index]), hint=why)

    def _unreached(self, blank: LeafResult, g: Array, rng: np.random.Generator) -> LeafResult:
        result, right = blank, True
        if g.size:
            worst = max(self._along(blank.name, np.zeros(g.shape), rng, 2), key=lambda found: found.excess)
            result, right = replace(blank, error=worst.error, bound=worst.bound, directions=2), worst.ok
        if right and self.options.allow_unused:
            return replace(result, verdict="unused")
        if right:
            why = "a cut stands between, or nothing uses it" if self.found.cuts else "nothing uses it"
            return replace(result, verdict="no gradient", hint=f"{why}; pass allow_unused=True if that is meant")
        lost = "the result depends on it, but the graph does not lead to it: was it used as x.data, or without Tensors?"
        return replace(self._located(result, g, None), verdict="no gradient", hint=lost)

    def _located(self, result: LeafResult, g: Array, found: list[_Comparison] | None) -> LeafResult:
        """Return the error of a leaf: the worst entry, both values, and a hint."""
        name, sizes = result.name, self.evaluation.target.sizes
        places = list(range(g.size))
        if found is None and g.size > _LOCATE:
            places = [self._search(name, g)]
            found = [self._compare(name, g, _unit(g.shape, _place(places[0], g.shape)))]
        elif found is None:
            found = self._entries(name, g)
        worst = max(range(len(found)), key=lambda k: found[k].excess)
        error, bound, expected, _ = found[worst]
        if not result.every and all(one.ok for one in found) and any(one.kink for one in found):
            # A direction moves several entries across their kinks at once, although each is right by itself.
            return replace(result, error=error, bound=bound)
        index = _place(places[worst], g.shape)
        wrong = replace(result, verdict="wrong", index=index, expected=expected, actual=float(g[index]))
        if len(places) < g.size:
            return replace(wrong, hint=ratio(expected, float(g[index]), sizes))
        whole = np.array([one.expected for one in found]).reshape(g.shape)
        return replace(wrong, hint=explained(self.evaluation, name, whole, g))

    def _search(self, name: str, g: Array) -> int:
        """Return a wrong entry of a large leaf by bisection, following the half with the larger error."""
        places = np.arange(g.size)
        rng = np.random.default_rng(self.options.seed)
        while len(places) > 1:
            halves, excess = np.array_split(places, 2), []
            for half in halves:
                u = np.zeros(g.size)
                u[half] = weights(rng, half.shape)
                excess.append(self._compare(name, g, u.reshape(g.shape)).excess)
            places = halves[int(np.argmax(excess))]
        return int(places[0])


class _Comparison(NamedTuple):
    """The comparison of one derivative: error, bound, the nearest right answer, and whether 0 is a kink."""

    error: float
    bound: float
    expected: float
    kink: bool

    @property
    def ok(self) -> bool:
        return self.error <= self.bound

    @property
    def excess(self) -> float:
        """The error as a multiple of the bound."""
        return self.error / self.bound if self.bound else np.inf if self.error else 0.0


def largest_entry(g: Array) -> float:
    """Return the largest absolute value of the finite entries; 0 if there are none."""
    return float(np.abs(g[np.isfinite(g)]).max(initial=0.0))


def _place(number: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(number, shape))


def _unit(shape: tuple[int, ...], index: tuple[int, ...]) -> Array:
    u = np.zeros(shape)
    u[index] = 1
    return u
