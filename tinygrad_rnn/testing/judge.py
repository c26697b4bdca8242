"""The choice of an oracle, the comparison of each leaf's gradient with its slopes, and the location of errors."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from operator import attrgetter
from typing import Literal, NamedTuple, TypeAlias, get_args

import numpy as np
from numpy.exceptions import ComplexWarning

from ..checks import flag, integer, number
from ..engine.tape import Array, no_grad
from ..errors import ConfigError, UnsupportedError
from ..truncation import Policy
from .diagnose.causes import explained
from .diagnose.hints import ratio, shape_hint
from .oracles import STEP, ComplexStep, Differences, OracleError, Slope, Wide, four_point_slope, rounding_error, scales
from .report import LeafResult
from .targets.backward import BackwardPass
from .targets.base import Evaluation, weights

_COMPARE = frozenset({"relu", "maximum", "minimum", "max", "astype"})
"""Operations that carry the complex step although they are not analytic: NumPy compares complex numbers by their real
parts first. (A conversion does so too, or warns, which is an error here.)"""

_REFUSED = (TypeError, ValueError)  # the errors by which a function rejects numbers of a type
_EVERY_ENTRY = 3000  # entries of a leaf times operations of one evaluation, up to which "auto" compares every entry
_LOCATE = 1024  # up to this many entries of a wrong leaf are all compared, to diagnose the error

Method: TypeAlias = Literal["auto", "complex", "longdouble"]


@dataclass(frozen=True)
class Options:
    """The options of `check_grads`, or those that another check shares with it."""

    seed: int
    directions: int = 3
    full: bool | Literal["auto"] = "auto"
    rtol: float = 1e-10
    atol: float = 1e-13
    method: Method = "auto"
    order: int = 1
    truncation: Policy | str | None = None
    allow_unused: bool = False
    function: str = "check_grads"  # what the user called, for messages

    def __post_init__(self) -> None:
        for name, low, high in (("seed", 0, None), ("directions", 1, None), ("order", 1, 2)):
            integer(self.function, name, getattr(self, name), low, high)
        number(self.function, "rtol", self.rtol, low=0)
        number(self.function, "atol", self.atol, low=0)
        flag(self.function, "allow_unused", self.allow_unused)
        for name, known in {"full": (True, False, "auto"), "method": get_args(Method)}.items():
            if repr(value := getattr(self, name)) not in map(repr, known):
                raise ConfigError(f"check_grads: {name} must be one of {', '.join(map(repr, known))}, got {value!r}")
        if self.order == 2 and self.truncation is not None:
            raise ConfigError("check_grads: truncation= records no gradient; for order=2 use unroll with cut_every=")

    @property
    def written(self) -> list[str]:
        """The options that differ from their defaults, and the seed, as arguments of a call."""
        usual = Options(self.seed)
        changed = {name: value for name, value in vars(self).items() if value != getattr(usual, name)}
        return [f"{name}={value!r}" for name, value in {**changed, "seed": self.seed}.items()]


class Tolerance(NamedTuple):
    """How far a gradient may be from its oracle, along one direction u of one leaf; the rule is that of `check_grads`.

    Its second term is needed where units saturate: there the rule's own 1 - y * y cancels. Each leaf is judged
    separately, because the others would dilute a fault in one.

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


Judged = tuple[list[LeafResult], list[str]]


def judged(evaluation: Evaluation, found: BackwardPass, options: Options) -> Judged:
    """Return the result of each leaf by the method that suits a target in float64, and notes on why it was chosen."""
    kinked = sorted({node.name for node in found.nodes if not getattr(node.operation, "analytic", True)})
    method, cuts = options.method, bool(found.cuts)
    narrow = found.eps > rounding_error([np.float64])
    names = f"{', '.join(kinked)}: not analytic"
    if method == "longdouble" and cuts:
        raise ConfigError(
            'check_grads: method="longdouble" does not see cuts, which change no value; use method="complex"'
        )
    if method == "longdouble" or (method == "auto" and not cuts and (kinked or narrow)):
        reasons = [names] if kinked else []
        reasons += ["a part is computed in a type narrower than float64"] if narrow else []
        return _by_differences(evaluation, found, options, "; ".join(reasons))
    notes = []
    if kinked:
        why = "four-point differences do not see cuts" if cuts else "as asked"
        exact = "which is exact for them" if set(kinked) <= _COMPARE else "which may say nothing about them"
        notes.append(f"{names}; {why}: complex step from both sides, {exact}")
    try:
        with _computing():
            oracle = ComplexStep(evaluation.value, evaluation.size, bool(kinked))
            results = Judge(evaluation, found, oracle, options).results()
    except (OracleError, *_REFUSED, ComplexWarning) as error:
        if method == "complex" or cuts:
            instead = "" if cuts else '; use method="longdouble"'
            raise UnsupportedError(
                f"check_grads: complex numbers do not pass through {evaluation.target.title}: {error}{instead}"
            ) from error
        return _by_differences(evaluation, found, options, f"complex numbers do not pass ({error})")
    if method == "complex" or cuts or all(result.ok for result in results):
        return results, notes
    return _second_opinion(evaluation, found, options, results) or (results, notes)


def _second_opinion(
    evaluation: Evaluation, found: BackwardPass, options: Options, results: list[LeafResult]
) -> Judged | None:
    """Return the result by differences if it agrees with the gradient where the complex step does not.

    An operation that is not analytic, and not declared as such, spoils only the complex step.
    """
    wrong = [result.name for result in results if result.verdict == "wrong"]
    if not wrong or any(_confirmed(evaluation, name, options.seed) for name in wrong):
        return None
    why = (
        "differences disagree with the complex step and agree with the gradient, so an operation is not "
        "complex-analytic (like abs, norm and var of complex numbers), and should say analytic=False"
    )
    second, notes = _by_differences(evaluation, found, options, why)
    pairs = [(one, other) for one, other in zip(results, second, strict=True) if not one.ok]
    agrees = all(other.ok for other in second) and all(one.error > 10 * other.bound for one, other in pairs)
    return (second, notes) if agrees else None


def _confirmed(evaluation: Evaluation, name: str, seed: int) -> bool:
    """Return whether one quick difference along a random direction agrees with the complex step."""
    u = weights(np.random.default_rng(seed), evaluation.arrays[name].shape)
    h = 1e-3 / max(1.0, float(np.linalg.norm(u)))
    try:
        with _computing():
            exact = float(evaluation.along(name, u, 1j * STEP).imag) / STEP
            wide = evaluation.target.evaluate(np.longdouble)
            slope = float(four_point_slope(partial(wide.along, name, u), np.longdouble(h)))
    except _REFUSED:
        return False
    return abs(slope - exact) <= 1e-6 * abs(exact)


def _by_differences(evaluation: Evaluation, found: BackwardPass, options: Options, why: str) -> Judged:
    """Return the results in the widest type that everything computes in, with a bound for the parts that do not."""

    def judged_in(dtype: Wide) -> Judged:
        with _computing():
            wide = evaluation.target.evaluate(dtype)
            eps = max(wide.gradient().eps, wide.eps, rounding_error([dtype]))
            oracle = Differences(dtype, eps, wide.size)
            results = Judge(wide, found, oracle, options, eps).results()
        return results, [", ".join(filter(None, (why, f"four-point differences in {oracle.dtype.__name__}")))]

    try:
        return judged_in(np.longdouble)
    except _REFUSED:  # linear algebra, for example, has no longdouble
        return judged_in(np.float64)


@contextmanager
def _computing() -> Iterator[None]:
    """Compute only values; a conversion of complex numbers to real ones is an error."""
    with no_grad(), warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("error", ComplexWarning)
        yield


@dataclass(frozen=True)
class Judge:
    """Compares the gradients of a target with an oracle."""

    evaluation: Evaluation
    found: BackwardPass
    oracle: ComplexStep | Differences
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
        blank, is_reached = LeafResult(name, shape, 0.0, 0.0, self.oracle.name, 0), name in self.found.reached
        if g.shape != shape:
            sizes = self.evaluation.target.sizes
            return replace(blank, verdict="wrong", error=np.inf, hint=shape_hint(shape, g.shape, sizes))
        if g.size == 0:
            return replace(blank, method="", verdict="empty") if is_reached else self._unreached(blank, is_right=True)
        if not np.isfinite(g).all():
            return self._not_finite(blank, g)
        full, operations = self.options.full, len(self.found.nodes) * self.evaluation.runs
        every = is_reached and (g.size * operations <= _EVERY_ENTRY if full == "auto" else full)
        rng, count = np.random.default_rng([self.options.seed, number]), self.options.directions if is_reached else 2
        along = (weights(rng, shape) for _ in range(count))
        found = self._entries(name, g, range(g.size)) if every else [self._compare(name, g, u) for u in along]
        worst = max(found, key=attrgetter("excess"))
        result = replace(blank, error=worst.error, bound=worst.bound, directions=len(found), every=every)
        if not worst.ok:
            result = self._located(result, g, found if every else None)
        return result if is_reached else self._unreached(result, worst.ok)

    def _entries(self, name: str, g: Array, places: Iterable[int]) -> list[_Comparison]:
        """Compare single entries, given by their numbers."""
        units = ((np.arange(g.size) == place).reshape(g.shape).astype(np.float64) for place in places)
        return [self._compare(name, g, u) for u in units]

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
        parts = []
        for scale in np.unique(of[u != 0]).tolist():
            v = np.where(of == scale, u, 0)
            j, terms = float(np.sum(g * v)), float(np.sum(np.abs(g * v)))
            allowed = self.tolerance.allowed(terms, abs(j), float(np.sum(np.abs(v))), scale)
            along, length = partial(self.evaluation.along, name, v), float(np.linalg.norm(v))
            s = self.oracle.slope(along, j, allowed, length, scale)
            parts.append((*s, allowed, j, s.nearest(j)))
        low, high, slack, bound, total, nearest = map(sum, zip(*parts, strict=True))
        return _Comparison(Slope(low, high).distance(total), bound + slack, nearest, high > low)

    def _not_finite(self, blank: LeafResult, g: Array) -> LeafResult:
        place = int(np.flatnonzero(~np.isfinite(g))[0])
        (found,) = self._entries(blank.name, np.zeros(g.shape), [place])
        why = "the value is finite there: a rule overflows, or divides by 0" if np.isfinite(found.expected) else ""
        wrong = replace(blank, error=np.inf, directions=1, hint=why)
        return _at(wrong, "not finite", g, place, found.expected)

    def _unreached(self, result: LeafResult, is_right: bool) -> LeafResult:
        if is_right and self.options.allow_unused:
            return replace(result, verdict="unused")
        why = "a cut stands between, or nothing uses it" if self.found.cuts else "nothing uses it"
        unused = f"{why}; pass allow_unused=True if that is meant"
        lost = "the result depends on it, but the graph does not lead to it: was it used as x.data, or without Tensors?"
        return replace(result, verdict="no gradient", hint=unused if is_right else lost)

    def _located(self, result: LeafResult, g: Array, found: list[_Comparison] | None) -> LeafResult:
        """Return the error of a leaf: the worst entry, both values, and a hint."""
        name, sizes = result.name, self.evaluation.target.sizes
        places: Sequence[int] = range(g.size)
        if found is None:
            places = places if g.size <= _LOCATE else [self._search(name, g)]
            found = self._entries(name, g, places)
        worst = max(range(len(found)), key=lambda k: found[k].excess)
        error, bound, expected, _ = found[worst]
        if not result.every and all(one.ok for one in found) and any(one.kink for one in found):
            # A direction moves several entries across their kinks at once, although each is right by itself.
            return replace(result, error=error, bound=bound)
        wrong = _at(result, "wrong", g, places[worst], expected)
        if len(places) < g.size:
            return replace(wrong, hint=ratio(expected, float(g.flat[places[worst]]), sizes))
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


def _at(result: LeafResult, verdict: str, g: Array, place: int, expected: float) -> LeafResult:
    """Return the result with the worst entry of a gradient, by its number."""
    index = tuple(map(int, np.unravel_index(place, g.shape)))
    return replace(result, verdict=verdict, index=index, expected=expected, actual=float(g[index]))
