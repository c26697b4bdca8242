"""Which oracle fits a graph: complex step, or differences where an operation is not complex-analytic."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.exceptions import ComplexWarning

from ..engine.tape import Array, Node, no_grad
from ..errors import ConfigError, UnsupportedError
from .backward import Found
from .direct import Target
from .judge import Judge
from .oracles import ComplexStep, Differences, Oracle, OracleError, scales
from .report import LeafResult
from .suspects import is_cut
from .tolerance import Tolerance

Method: TypeAlias = Literal["auto", "complex", "longdouble"]

_COMPARE = frozenset({"relu", "maximum", "minimum", "max", "astype"})
"""Operations that carry the complex step though they are not analytic: NumPy compares complex numbers by their real
parts first. (A conversion does so too, or warns, which is an error here.)"""


class Settings(NamedTuple):
    """The options of `check_grads` that say how leaves are compared; see there."""

    directions: int
    full: bool | Literal["auto"]
    rtol: float
    atol: float
    seed: int
    method: Method
    allow_unused: bool


def compare(target: Target, found: Found, settings: Settings) -> tuple[list[LeafResult], list[str]]:
    """Return the result of each leaf, by the method that fits, and notes on why it was chosen.

    Args:
        target: what is checked, held in float64.
        found: the gradient under test.
        settings: how.

    Raises:
        ConfigError: if differences are asked for where there are cuts.
        UnsupportedError: if complex numbers do not pass, and nothing else will do.
    """
    operations = [node for node in found.nodes if node.operation is not None]
    kinked = sorted({node.name for node in operations if not getattr(node.operation, "analytic", True)})
    cuts = any(is_cut(node) for node in operations)
    narrow = _eps(operations) > np.finfo(np.float64).eps
    method = settings.method
    if method == "longdouble" and cuts:
        raise ConfigError(
            'check_grads: method="longdouble" does not see cuts, which change no value; use method="complex"'
        )
    names = f"{', '.join(kinked)}: not analytic"
    if method == "longdouble" or (method == "auto" and not cuts and (kinked or narrow)):
        reasons = [names] if kinked else []
        reasons += ["a part is computed in a type narrower than float64"] if narrow else []
        return _by_differences(target, found, settings, "; ".join(reasons))
    notes = []
    if kinked:
        why = "four-point differences do not see cuts" if cuts else "as asked"
        exact = "which is exact for them" if set(kinked) <= _COMPARE else "which may say nothing of them"
        notes.append(f"{names}; {why}: complex step from both sides, {exact}")
    try:
        results = _judged(target, found, settings, ComplexStep(target.level, target.size, bool(kinked)), 0.0)
    except (OracleError, TypeError, ValueError, ComplexWarning) as error:
        if method == "complex" or cuts:
            instead = "" if cuts else '; use method="longdouble"'
            raise UnsupportedError(
                f"check_grads: complex numbers do not pass through {target.title}: {error}{instead}"
            ) from error
        return _by_differences(target, found, settings, f"complex numbers do not pass ({error})")
    if method == "complex" or cuts or all(result.ok for result in results):
        return results, notes
    return _second_opinion(target, found, settings, results, notes)


def _second_opinion(
    target: Target, found: Found, settings: Settings, results: list[LeafResult], notes: list[str]
) -> tuple[list[LeafResult], list[str]]:
    """Return what differences say, if they agree with a gradient that the complex step does not agree with.

    An operation that is not analytic, and does not say so, spoils the complex step alone.
    """
    wrong = [result for result in results if result.verdict == "wrong"]
    try:
        with target.held(np.longdouble):
            oracle = Differences(np.longdouble, float(np.finfo(target.dtype).eps), target.size)
            judge = _judge(target, found, settings, oracle, oracle.eps)
            with _computing():
                plausible = all(judge.agrees(result.name) for result in wrong)
    except (TypeError, ValueError):
        plausible = True
    if not wrong or not plausible:
        return results, notes
    second, more = _by_differences(
        target,
        found,
        settings,
        "differences disagree with the complex step and agree with the gradient, so an operation is not "
        "complex-analytic (like abs, norm and var of complex numbers), and should say analytic=False",
    )
    pairs = [(one, other) for one, other in zip(results, second, strict=True) if not one.ok]
    agrees = all(other.ok for other in second) and all(one.error > 10 * other.bound for one, other in pairs)
    return (second, [*notes, *more]) if agrees else (results, notes)


def _by_differences(target: Target, found: Found, settings: Settings, why: str) -> tuple[list[LeafResult], list[str]]:
    try:
        return _differences(target, found, settings, np.dtype(np.longdouble), why)
    except (TypeError, ValueError):  # linear algebra, for one, has no longdouble
        return _differences(target, found, settings, np.dtype(np.float64), why)


def _differences(
    target: Target, found: Found, settings: Settings, dtype: np.dtype[np.floating], why: str
) -> tuple[list[LeafResult], list[str]]:
    with target.held(dtype):
        eps = max(_eps(target.gradient().nodes), float(np.finfo(target.dtype).eps), float(np.finfo(dtype).eps))
        results = _judged(target, found, settings, Differences(dtype, eps, target.size), eps)
    name = "longdouble" if dtype == np.longdouble else dtype.name
    return results, [", ".join(filter(None, (why, f"four-point differences in {name}")))]


def _judged(target: Target, found: Found, settings: Settings, oracle: Oracle, eps: float) -> list[LeafResult]:
    with _computing():
        return _judge(target, found, settings, oracle, eps).results()


def _judge(target: Target, found: Found, settings: Settings, oracle: Oracle, eps: float) -> Judge:
    largest = max(map(_largest, found.gradients.values()), default=0.0)
    # A gradient that is partly computed in a narrow type may be off by its rounding.
    of = {name: scales(leaf._array.real) for name, leaf in target.leaves.items()}
    relative = max((_largest(g * of[name]) for name, g in found.gradients.items()), default=0.0)
    tolerance = Tolerance(settings.rtol, max(settings.atol, 10 * eps), largest, relative)
    return Judge(
        target, found, oracle, tolerance, settings.directions, settings.full, settings.seed, settings.allow_unused
    )


def _largest(g: Array) -> float:
    return float(np.abs(g[np.isfinite(g)]).max(initial=0.0))


@contextmanager
def _computing() -> Iterator[None]:
    """Compute values only; what turns complex numbers into real ones is an error."""
    with no_grad(), warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("error", ComplexWarning)
        yield


def _eps(nodes: Iterable[Node]) -> float:
    """Return the largest rounding error of what the nodes of a graph compute; 0 if there are none."""
    specs = (spec for node in nodes if node.operation is not None for spec in node.specs)
    return max((float(np.finfo(spec.dtype).eps) for spec in specs if spec.dtype.kind == "f"), default=0.0)
