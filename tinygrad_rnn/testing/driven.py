"""A recurrence under a truncation policy: gradient == sum of M * C, with C from steps with untied parameters.

M = policy.mask(T) says how much of the credit C[tau, t], of loss tau to the use of the parameters at step t, counts.
The oracle needs no cut and no backward pass: it walks over the steps one at a time, carries the state by hand, and
moves the parameters at step t by M[tau, t] times the distance; then the slope of loss tau is the sum over t of
M[tau, t] * C[tau, t]. One walk serves every row of M that begins with the row before.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import numpy as np

from ..engine.tape import Array, enable_grad, no_grad, slice_of_a_sequence
from ..engine.tensor import Tensor
from ..engine.tree import flatten, map_leaves
from ..engine.walk import ancestors
from ..errors import ConfigError, GradientError, NonFiniteError
from ..truncation import Full, Policy, bptt
from ..truncation.driver import Step
from ..truncation.nests import arrays_of, floats, steps_of, value_of
from .backward import Found, differing, sharing
from .direct import Target, narrowest
from .oracles import STEP

_FEW = 40  # steps up to which other masks are tried on a wrong gradient


class _Walk(NamedTuple):
    """Rows of a mask that one walk serves.

    Attributes:
        start: first step whose parameters are moved.
        rows: the losses that are read, in order.
        weights: what each step's parameters are moved by, up to the last of the rows.
    """

    start: int
    rows: list[int]
    weights: Array


class _Logged(Policy):
    """A policy that adapts as it goes, with the rows of the mask that its passes carried out."""

    def __init__(self, policy: Policy, T: int) -> None:
        self._policy = policy.start()
        self.every, self.reach = self._policy.every, self._policy.reach
        self.grain, self.recompute = self._policy.grain, self._policy.recompute
        self.rows = np.zeros((T, T))

    def scale(self, edge: int, end: int) -> float:
        return self._policy.scale(edge, end)

    def observe(self, end: int, begin: int, norms: Sequence[tuple[int, float]]) -> None:
        self.rows[begin:end] = copy.deepcopy(self._policy).mask(len(self.rows))[begin:end]
        self._policy.observe(end, begin, norms)


class Driven(Target):
    """A step that a policy carries over a sequence.

    Args:
        title: what is checked.
        step: `step(inputs, state) -> (loss, state)`.
        parameters: name to leaf Tensor.
        inputs: arrays (N, T, ...), or any nesting of them.
        state: before the first step; its floating point parts are leaves too: Tensors that require a gradient, each
            with a name.
        policy: the truncation policy; it is copied for each use, so an adaptive or random one begins the same way.

    Raises:
        ShapeError: if inputs do not agree on N and T.
    """

    def __init__(
        self, title: str, step: Step, parameters: Mapping[str, Tensor], inputs: Any, state: Any, policy: Policy
    ) -> None:
        first = {str(leaf.name): leaf for leaf in floats(state)}
        super().__init__(title, {**parameters, **first})
        self._step, self._parameters, self._inputs, self._state = step, dict(parameters), inputs, state
        self._first, self._policy = first, policy
        self.sizes = {"N": len(flatten(inputs)[0]), "T": steps_of(inputs)}
        self._mask: Array | None = None
        self._walks: list[_Walk] = []
        self._slices: list[Any] = []
        self._states: list[Any] = []
        self._whole = False

    def _plan(self) -> Array:
        """Find the mask, in the precision of the gradient, which some policies look at."""
        M, policy = self._mask_of(self._policy, self.sizes["T"]), self._policy
        self._whole = policy.every is None and policy.grain is None and np.array_equal(M, Full().mask(len(M)))
        self._slices = [self._inputs] if self._whole else self._steps()
        self._walks = _walks(np.ones((1, 1)) if self._whole else M)
        self.runs = sum(walk.rows[-1] - walk.start + 1 for walk in self._walks) / len(self._slices)
        return M

    def _mask_of(self, policy: Policy, T: int) -> Array:
        if type(policy).observe is Policy.observe:
            M = np.asarray(copy.deepcopy(policy).mask(T))
        else:
            logged = _Logged(copy.deepcopy(policy), T)
            with enable_grad():
                bptt(self._step, self._parameters, self._inputs, arrays_of(self._state), logged)
            M = logged.rows
            self.notes.append(
                f"{policy!r} chose its windows from the gradient; the mask is that of the windows it chose"
            )
        if M.shape != (T, T) or np.triu(M, 1).any() or not np.isfinite(M).all():
            raise ConfigError(
                f"check_grads: truncation: {policy!r}.mask({T}) must be a finite lower triangular (T, T) = ({T}, {T}) "
                f"matrix, got shape {M.shape}"
            )
        return M

    def _steps(self) -> list[Any]:
        return [map_leaves(lambda x, t=t: x[:, t : t + 1], self._inputs) for t in range(self.sizes["T"])]

    def _one(self, t: int, state: Any) -> tuple[Any, Any]:
        with ExitStack() as stack:
            if not self._whole:
                stack.enter_context(slice_of_a_sequence())
            loss, state = self._step(self._slices[t], state)
        if loss is not None and np.size(value_of(loss)) != 1:
            raise GradientError(
                "check_grads: with truncation=, step must return the sum of its losses, one element or None, and the "
                f"state; got a loss of shape {np.shape(value_of(loss))}"
            )
        return None if loss is None else np.sum(value_of(loss)), state

    def measure(self) -> None:
        """Walk over the steps once, and keep every state.

        Raises:
            ConfigError: if the policy's mask is not lower triangular (T, T).
            NonFiniteError: if a loss is not finite.
        """
        self._mask = self._plan() if self._mask is None else self._mask
        self._states, losses = [self._state], []
        for t in range(len(self._slices)):
            loss, after = self._one(t, self._states[-1])
            self._states.append(after)
            losses.append(np.asarray(0.0 if loss is None else loss))
            if not np.isfinite(losses[-1]):
                raise NonFiniteError(
                    f"check_grads: the loss at step {t} of {self.title} is {losses[-1]}; check where it is finite"
                )
        self.dtype = narrowest([*losses, *(np.asarray(value_of(h)) for h in floats(after))])
        self.level = float(sum(losses[row] for walk in self._walks for row in walk.rows if row >= walk.start))
        self.size = float(sum(abs(loss) for loss in losses)) * max(1.0, float(np.abs(self._mask).max(initial=0.0)))

    def gradient(self) -> Found:
        """Run the driver twice; the graph is that of the whole sequence."""
        first, second = self._bptt(), self._bptt()
        with enable_grad():
            loss, _ = self._step(self._inputs, self._state)
        nodes = ancestors([loss.node] if isinstance(loss, Tensor) and loss.node is not None else [])
        among = set(nodes)
        reached = {name for name, leaf in self.leaves.items() if leaf.node in among}
        failures = [*differing(first, second), *sharing(first, self.leaves)]
        return Found(first, reached, nodes, failures=failures)

    def _bptt(self) -> dict[str, Array]:
        policy = copy.deepcopy(self._policy)
        update = bptt(self._step, self._parameters, self._inputs, arrays_of(self._state), policy)
        found = dict(update.gradients)
        if update.state_gradient is None:
            found |= {name: np.zeros(leaf.shape) for name, leaf in self._first.items()}
        else:
            found |= dict(zip(self._first, floats(update.state_gradient), strict=True))
        return found

    def along(self, name: str, direction: Array, t: Any) -> Any:
        """Return the sum of the losses, with the leaf moved at each step by its weight in the mask."""
        total: Any = 0.0
        for walk in self._walks:
            losses = self._losses(walk, name, t * direction)
            total = total + sum((losses[row - walk.start] for row in walk.rows if row >= walk.start), start=0.0)
        return total

    def _losses(self, walk: _Walk, name: str, by: Any) -> list[Any]:
        """Return the losses of a walk from its first step to its last row."""
        losses = []
        state = self._states[walk.start]
        for s in range(walk.start, walk.rows[-1] + 1):
            if walk.weights[s]:
                with self.moved(name, walk.weights[s] * by):
                    loss, state = self._one(s, state)
            else:
                loss, state = self._one(s, state)
            losses.append(0.0 if loss is None else loss)
        return losses

    def explain(self, name: str, expected: Array, actual: Array) -> str:
        """Return which other mask would make the gradient under test right."""
        if self.sizes["T"] > _FEW or name in self._first:
            return ""
        sliced = copy.copy(self)
        sliced._slices, sliced._whole = self._steps(), False
        try:
            with no_grad():
                sliced.measure()
        except ConfigError:  # a step that needs the whole sequence at once
            return ""
        assert self._mask is not None
        us = np.random.default_rng(0).standard_normal((2, *actual.shape))
        credits = np.array([sliced._credits(name, u) for u in us])  # (2, T, T)
        claimed = np.array([float(np.sum(actual * u)) for u in us])
        near = 1e-8 * np.abs(credits).sum(axis=(1, 2))
        for M, meaning in self._suspects(self._mask):
            counted = np.where(M != 0, credits, 0) * M  # a credit that does not count may be infinite
            if (np.abs(counted.sum(axis=(1, 2)) - claimed) <= near).all():
                return f"equals the gradient {meaning}"
        return ""

    def _suspects(self, ours: Array) -> Iterator[tuple[Array, str]]:
        """Yield masks that might be what was carried out instead of ours, and what that would mean."""
        T = len(ours)
        if type(self._policy).mask is not Policy.mask:
            yield Policy.mask(copy.deepcopy(self._policy), T), "of the mask that the policy's scale gives, not its mask"
        for k in range(1, T):
            opened, closed = ours.copy(), ours.copy()
            opened[k:, :k] = np.outer(ours[k:, k], ours[k - 1, :k])
            closed[k:, :k] = 0
            yield opened, f"with the cut at edge {k} (before step {k}) open"
            yield closed, f"with edge {k} (before step {k}) cut"
        yield np.eye(T), "with every edge cut: is the state used as x.data?"
        yield Full().mask(T), "of full BPTT: nothing is cut"

    def _credits(self, name: str, direction: Array) -> Array:
        """Return C[tau, t] along a direction, from one walk for each t."""
        T = len(self._slices)
        C = np.zeros((T, T))
        for t in range(T):
            walk = _Walk(t, [T - 1], np.eye(T)[t])
            C[t:, t] = np.imag(self._losses(walk, name, 1j * STEP * direction)) / STEP
        return C


def _walks(M: Array) -> list[_Walk]:
    """Return as few walks as serve every row of a mask."""
    walks: list[_Walk] = []
    for tau, row in enumerate(M):
        if walks and np.array_equal(walks[-1].weights[:tau], row[:tau]):
            walks[-1].rows.append(tau)
            walks[-1] = walks[-1]._replace(weights=row)
        else:
            walks.append(_Walk(0, [tau], row))
    return [walk._replace(start=int(np.flatnonzero(walk.weights)[0])) for walk in walks if walk.weights.any()]
