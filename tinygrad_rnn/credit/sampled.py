"""Policies that carry a random sketch of the influence: UORO, Kronecker factors, forward gradients.

Each is unbiased: its mean over the draws is the gradient of full BPTT, while the parameters stay.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self, TypeAlias

import numpy as np

from ..checks import integer
from ..engine.operands import without_gradient
from ..engine.tape import Array, DType
from ..engine.tensor import Value
from ..errors import ConfigError
from .elements import flat
from .entries import whole_state_jacobian
from .forward import Carrier, ForwardPolicy, Rows, is_zero, joined, like, summed
from .memory import check_memory
from .policy import set_steps
from .record import Gradients, StepRecord
from .terms import Dense, Diagonal, Lookup, Outer, StepJacobian, Term, Through

RankOne: TypeAlias = tuple[list[Value], Gradients]
"""Numbers like the state, and like the parameters."""

Factors: TypeAlias = dict[str, tuple[Value, Value]]
"""Name of a parameter to the two Kronecker factors of the influence."""

_TINY = 1e-7  # keeps the ratios of norms finite; any positive ratio leaves the mean as it is


@dataclass(frozen=True)
class Sampled(ForwardPolicy):
    """Base of the policies that draw.

    Attributes:
        rng: generator or seed of the draws. Each sequence continues to draw from it.
        every: steps between updates; None: one at the end.
    """

    rng: int | np.random.Generator = 0
    every: int | None = 1

    def __post_init__(self) -> None:
        set_steps(self, "every")
        if not isinstance(self.rng, np.random.Generator):
            name = type(self).__name__
            object.__setattr__(self, "rng", integer(name, "rng, if it is no numpy Generator,", self.rng, 0))
        object.__setattr__(self, "_generator", np.random.default_rng(self.rng))

    def signs(self, shape: tuple[int, ...], dtype: DType) -> Array:
        """Return random signs, -1 and 1; the first axis is N."""
        return without_gradient("signs", _signs, self.__dict__["_generator"], shape, dtype, repeatable=False)

    def normal(self, shape: tuple[int, ...], dtype: DType) -> Array:
        """Return normal numbers of variance 1."""
        return without_gradient("normal", _normal, self.__dict__["_generator"], shape, dtype, repeatable=False)

    def total(self, values: Sequence[Value]) -> list[Value]:
        """Return sums over the rows of a batch, of those that this process has, as sums over all of its rows."""
        rows: Rows | None = self.__dict__.get("_rows")
        return [*values] if rows is None else rows.total(values)

    def _drawn_among(self, rows: Rows) -> Self:
        """Return a policy that draws for these rows, from the generator of this one."""
        made = copy.copy(self)
        made.__dict__.update(_rows=rows, _generator=rows.draws(self.__dict__["_generator"]))
        return made


@dataclass(frozen=True)
class UORO(Sampled):
    """Unbiased online recurrent optimization: the influence as one product of two vectors.

    s = r0 * D s + r1 * nu,  w = w / r0 + (nu^T I) / r1,  gradient = (delta . s) w, with nu random signs,
    r0 = sqrt(|w| / |D s|), r1 = sqrt(|nu^T I| / |nu|). Source: Tallec and Ollivier 2018, Unbiased online recurrent
    optimization.

    Bias: none while the parameters stay. Variance: large, and it grows with the state and the time over which credit
    lasts; small learning rates make up for it. The streams of a batch share one w: memory N * n + P, a step costs one
    product with the Jacobian from each side.

    Args:
        rng: generator or seed of the signs.
        every: steps between updates; None: one at the end.

    >>> import tinygrad_rnn as tr
    >>> tr.UORO(rng=7)
    UORO(rng=7, every=1)
    """

    def among(self, rows: Rows) -> Self:
        """Return the policy for some rows of a batch: w is that of all, so P numbers are summed at each step."""
        return self._drawn_among(rows)

    def carrier(self) -> Carrier[RankOne]:
        """Return a carrier for a new sequence."""
        return _RankOne(self)


class _RankOne(Carrier[RankOne]):
    def __init__(self, policy: Sampled) -> None:
        self._policy = policy

    def advance(self, record: StepRecord, carry: RankOne | None) -> tuple[Gradients, RankOne]:
        zeros = record.zeros()
        nu = [self._policy.signs(zero.shape, zero.dtype) for zero in zeros]
        immediate = record.pull(nu)
        if carry is None:
            carry = (zeros, {name: value * 0 for name, value in immediate.items()})
        state, weights = carry
        moved = record.push(state)
        reached = [immediate[name] for name in record.reaching]  # the others are zero
        *reached, moved_squares, nu_squares = self._policy.total([*reached, _squares(moved), _squares(nu)])
        immediate |= dict(zip(record.reaching, reached, strict=True))
        r0 = _ratio(_norm(list(weights.values())), np.sqrt(moved_squares))
        r1 = _ratio(_norm(list(immediate.values())), np.sqrt(nu_squares))
        new = [like(r0 * a + r1 * b, zero) for a, b, zero in zip(moved, nu, zeros, strict=True)]
        weight = {name: like(weights[name] / r0 + immediate[name] / r1, weights[name]) for name in immediate}
        direct, deltas, past = record.loss_terms()
        terms = [direct]
        for cotangents, tangents, factors in ((deltas, new, weight), (past, state, weights)):
            if not is_zero(cotangents):
                along = _inner(cotangents, tangents)
                terms.append({name: like(along * factor, factor) for name, factor in factors.items()})
        return summed(*terms), (new, weight)


@dataclass(frozen=True)
class ForwardGradient(Sampled):
    """The derivative of the state in a random direction of the parameters, times that direction.

    u[t] = D u[t-1] + I v,  gradient = (delta . u) v, with v normal, drawn once for a sequence. It is the forward
    gradient (grad . v) v of what goes through the state; the rest of a step is differentiated exactly. Source: Baydin
    et al. 2022, Gradients without backpropagation.

    Bias: none while the parameters stay. Variance: about P times the squared norm of the gradient, the largest of all
    these policies; it is here to compare. Memory N * n + P, a step costs one product with the Jacobian.

    Args:
        rng: generator or seed of the directions.
        every: steps between updates; None: one at the end.

    >>> import tinygrad_rnn as tr
    >>> tr.ForwardGradient(rng=7)
    ForwardGradient(rng=7, every=1)
    """

    def carrier(self) -> Carrier[RankOne]:
        """Return a carrier for a new sequence."""
        return _Direction(self)


class _Direction(Carrier[RankOne]):
    def __init__(self, policy: Sampled) -> None:
        self._policy = policy

    def advance(self, record: StepRecord, carry: RankOne | None) -> tuple[Gradients, RankOne]:
        if carry is None:
            drawn: Gradients = {name: self._policy.normal(p.shape, p.dtype) for name, p in record.parameters.items()}
            carry = (record.zeros(), drawn)
        state, direction = carry
        after = record.push(state, direction)
        direct, deltas, past = record.loss_terms()
        terms = [direct]
        for cotangents, tangents in ((deltas, after), (past, state)):
            if not is_zero(cotangents):
                along = _inner(cotangents, tangents)
                reached = {name: direction[name] for name in record.reaching}
                terms.append({name: like(along * v, v) for name, v in reached.items()})
        return summed(*terms), (after, direction)


@dataclass(frozen=True)
class KroneckerFactored(Sampled):
    """KF-RTRL: the influence of each matrix as a Kronecker product.

    For a parameter that enters as z = a @ W:  J = u (x) A,  u = r0 * u + c r1 * a,  A = D A / r0 + c B / r1, with
    B = dh/dz, a random sign c for each stream, r0 = sqrt(|D A| / |u|), r1 = sqrt(|B| / |a|). Source: Mujika et al.
    2018, Approximating real-time recurrent learning with random Kronecker factors.

    Bias: none while the parameters stay. Variance: smaller than UORO's by about n. Memory for each stream n * U + D for
    each matrix (D, U), a step n^2 * U.

    Args:
        rng: generator or seed of the signs.
        every: steps between updates; None: one at the end.

    Raises:
        ConfigError: on the first step, if a parameter reaches the state other than as one product; it is named.

    >>> import tinygrad_rnn as tr
    >>> tr.KroneckerFactored(rng=7)
    KroneckerFactored(rng=7, every=1)
    """

    def among(self, rows: Rows) -> Self:
        """Return the policy for some rows of a batch, which have signs of their own."""
        return self._drawn_among(rows)

    def carrier(self) -> Carrier[Factors]:
        """Return a carrier for a new sequence."""
        return _Kronecker(self)


class _Kronecker(Carrier[Factors]):
    def __init__(self, policy: Sampled) -> None:
        self._policy = policy

    def advance(self, record: StepRecord, carry: Factors | None) -> tuple[Gradients, Factors]:
        jacobian = record.jacobian.whole.added
        entering = {
            name: _entering(name, jacobian)
            for name in record.parameters
            if any(name in row for row in jacobian.parameters)
        }
        D = whole_state_jacobian(jacobian)
        if carry is None:
            size = sum(part.size * part.dtype.itemsize for pair in entering.values() for part in pair)
            check_memory(self._policy, size, "Kronecker factors")
            carry = {name: (a * 0, B * 0) for name, (a, B) in entering.items()}
        new = {name: self._stepped(D, a, B, *carry[name]) for name, (a, B) in entering.items()}
        direct, deltas, past = record.loss_terms()
        terms = [direct]
        for cotangents, factors in ((deltas, new), (past, carry)):
            if not is_zero(cotangents):
                delta = np.expand_dims(joined(cotangents, jacobian.N), 1)
                made = {name: np.swapaxes(u, 0, 1) @ np.squeeze(delta @ A, 1) for name, (u, A) in factors.items()}
                terms.append({name: np.reshape(g, record.parameters[name].shape) for name, g in made.items()})
        return summed(*terms), new

    def _stepped(self, D: Value, a: Value, B: Value, u: Value, A: Value) -> tuple[Value, Value]:
        """Return u (N, D) and A (N, n, U) after a step."""
        moved = D @ A
        c = self._policy.signs((a.shape[0], 1), a.dtype)
        r0 = _ratio(_norm_by_stream(moved), _norm_by_stream(u))
        r1 = _ratio(_norm_by_stream(B), _norm_by_stream(a))
        return like(r0 * u + c * r1 * a, a), like(moved / r0[:, :, None] + B * (c / r1)[:, :, None], B)


def _entering(name: str, jacobian: StepJacobian) -> tuple[Value, Value]:
    """Return a (N, D) and B (N, n, U) of a parameter that enters as a @ W; a vector enters as ones @ b."""
    left: Value | None = None
    rows: list[Value | None] = []
    entered = {getattr(term, "node", None) for terms in jacobian.parameters for term in terms.get(name, [])}
    for size, terms in zip(jacobian.sizes, jacobian.parameters, strict=True):
        own = terms.get(name, [])
        sides = _sides(own[0], jacobian.N) if len(own) == 1 else None
        if own and (sides is None or len(entered) > 1):
            raise ConfigError(
                f"KroneckerFactored: parameter {name!r} does not enter the state as one product x @ W; use UORO or RTRL"
            )
        if sides is None:
            rows.append(None)
            continue
        left, after = sides
        rows.append(np.swapaxes(flat(after.dense(size), 2), 0, 1))
    assert left is not None
    width = next(row.shape[2] for row in rows if row is not None)
    filled = [
        np.zeros((jacobian.N, size, width), left.dtype) if row is None else row
        for size, row in zip(jacobian.sizes, rows, strict=True)
    ]
    made: Value = np.concatenate(filled, axis=1)
    return left, made


def _sides(term: Term, N: int) -> tuple[Value, Diagonal | Dense] | None:
    """Return the rows with which a parameter is multiplied, and the derivative by the product, or None."""
    if isinstance(term, Outer | Lookup):
        return term.factors()[0], term.after
    if isinstance(term, Through):
        return None
    axes = term.units.ndim if isinstance(term, Diagonal) else term.values.ndim - 2
    return (np.ones((N, 1), term.values.dtype), term) if axes <= 1 else None


def _signs(rng: np.random.Generator, shape: tuple[int, ...], dtype: DType) -> Array:
    return (2 * rng.integers(0, 2, shape) - 1).astype(dtype)


def _normal(rng: np.random.Generator, shape: tuple[int, ...], dtype: DType) -> Array:
    return rng.standard_normal(shape).astype(dtype)


def _squares(parts: Sequence[Value]) -> Value:
    total: Value = sum(np.sum(part * part) for part in parts)
    return total


def _norm(parts: Sequence[Value]) -> Value:
    made: Value = np.sqrt(_squares(parts))
    return made


def _norm_by_stream(part: Value) -> Value:
    squares = np.sum(np.reshape(part * part, (part.shape[0], -1)), axis=1, keepdims=True)
    made: Value = np.sqrt(squares)
    return made


def _ratio(a: Value, b: Value) -> Value:
    made: Value = np.sqrt((a + _TINY) / (b + _TINY))
    return made


def _inner(a: Sequence[Value], b: Sequence[Value]) -> Value:
    total: Value = sum(np.sum(x * y) for x, y in zip(a, b, strict=True))
    return total
