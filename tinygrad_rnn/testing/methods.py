"""The choice of the oracle: the complex step, or differences where an operation is not complex-analytic."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
from numpy.exceptions import ComplexWarning
from numpy.typing import DTypeLike

from ..engine.tape import no_grad
from ..errors import ConfigError, UnsupportedError
from .judge import Judge, Options
from .oracles import STEP, ComplexStep, Differences, OracleError, dtype_name, four_point_slope
from .report import LeafResult
from .targets.backward import BackwardPass
from .targets.base import Evaluation, weights

_COMPARE = frozenset({"relu", "maximum", "minimum", "max", "astype"})
"""Operations that carry the complex step although they are not analytic: NumPy compares complex numbers by their real
parts first. (A conversion does so too, or warns, which is an error here.)"""

_REFUSED = (TypeError, ValueError)  # the errors by which a function rejects numbers of a type

Judged = tuple[list[LeafResult], list[str]]
"""The result of each leaf, and notes on why the method was chosen."""


def judged(evaluation: Evaluation, found: BackwardPass, options: Options) -> Judged:
    """Return the result of each leaf by the method that suits a target in float64, and notes on why it was chosen.

    Raises:
        ConfigError: if differences are asked for where there are cuts.
        UnsupportedError: if complex numbers do not pass, and no other method applies.
    """
    operations = [node for node in found.nodes if node.operation is not None]
    kinked = sorted({node.name for node in operations if not getattr(node.operation, "analytic", True)})
    method, cuts = options.method, bool(found.cuts)
    narrow = found.eps > np.finfo(np.float64).eps
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

    An operation that is not analytic but not declared so spoils only the complex step.
    """
    wrong = [result.name for result in results if result.verdict == "wrong"]
    if not wrong or any(_confirmed(evaluation, name, options.seed) for name in wrong):
        return None
    second, notes = _by_differences(
        evaluation,
        found,
        options,
        "differences disagree with the complex step and agree with the gradient, so an operation is not "
        "complex-analytic (like abs, norm and var of complex numbers), and should say analytic=False",
    )
    pairs = [(one, other) for one, other in zip(results, second, strict=True) if not one.ok]
    agrees = all(other.ok for other in second) and all(one.error > 10 * other.bound for one, other in pairs)
    return (second, notes) if agrees else None


def _confirmed(evaluation: Evaluation, name: str, seed: int) -> bool:
    """Return whether one quick difference along a random direction agrees with the complex step."""
    u = weights(np.random.default_rng(seed), evaluation.arrays[name].shape)
    h = 1e-3 / max(1.0, float(np.sqrt(np.sum(u * u))))
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

    def judged_in(dtype: DTypeLike) -> Judged:
        with _computing():
            wide = evaluation.target.evaluate(dtype)
            eps = max(wide.gradient().eps, float(np.finfo(wide.dtype).eps), float(np.finfo(dtype).eps))
            results = Judge(wide, found, Differences(dtype, eps, wide.size), options, eps).results()
        return results, [", ".join(filter(None, (why, f"four-point differences in {dtype_name(dtype)}")))]

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
