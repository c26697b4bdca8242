"""A recurrence under a truncation policy: gradient == sum of M * C, with C from steps with untied parameters.

M = policy.mask(T) says how much the credit C[tau, t], from loss tau to the use of the parameters at step t, counts.
The oracle needs neither a cut nor a backward pass: it runs the steps one at a time, carries the state by hand, and
moves the parameters at step t by M[tau, t] times the distance; the slope of loss tau is then the sum over t of M[tau,
t] * C[tau, t]. One walk serves every row of M that begins with the previous row.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from ...credit.forward import ForwardPolicy
from ...credit.nests import arrays_of, floats, is_float, loss_and_state, steps_of, value_of
from ...credit.sampled import Sampled
from ...credit.update import Step, Update
from ...engine.tape import Array, enable_grad, no_grad, slice_of_a_sequence
from ...engine.tensor import Tensor
from ...engine.tree import flatten, map_leaves
from ...errors import ConfigError, NonFiniteError
from ...truncation import Full, Policy, bptt, started
from ..oracles import Scalar, rounding_error
from .backward import BackwardPass, differing, graph_of, sharing
from .base import Evaluation, Target, arrays_in, holding


class Recurrence:
    """A step(inputs, state) -> (loss, state) that a policy carries over a sequence, and the policy's mask.

    Floating point parts of the first state are leaves too: Tensors that require a gradient, each with a name; or else
    arrays, under a policy that carries credit forward and so has no gradient of the first state. The policy is copied
    for each use, so that an adaptive or random one always starts in the same way.
    """

    def __init__(
        self, step: Step, parameters: Mapping[str, Tensor], inputs: object, state: object, policy: Policy
    ) -> None:
        self.step, self.parameters, self.inputs, self.state, self.policy = step, parameters, inputs, state, policy
        self.first_state = {str(leaf.name): leaf for leaf in floats(state) if isinstance(leaf, Tensor)}
        self.leaves = {**parameters, **self.first_state}
        self.sizes = {"N": len(flatten(inputs)[0]), "T": steps_of(inputs)}
        self.adapts = type(policy).observe is not Policy.observe
        self.mask = self._mask(self.sizes["T"])
        full = np.array_equal(self.mask, Full().mask(self.sizes["T"]))
        self.whole = full and policy.every is None and policy.grain is None
        """Whether the policy does not split the sequence, so that a step may need all of it at once."""

    def update(self, policy: Policy) -> Update:
        """Return the driver's update for the whole sequence."""
        return bptt(self.step, self.parameters, self.inputs, arrays_of(self.state), policy)

    def _mask(self, T: int) -> Array:
        """Return the mask, in the precision of the gradient, which some policies observe."""
        policy = self.policy
        if isinstance(policy, Sampled) or (isinstance(policy, ForwardPolicy) and not policy.exact):
            raise ConfigError(
                f"check_grads: truncation: the gradient of {policy!r} is an estimate of the full one, so there is no "
                "exact value to compare it with; truncation_report shows its bias and its deviation over draws"
            )
        policy = started(copy.deepcopy(policy)) if self.adapts else copy.deepcopy(policy)
        M = np.zeros((T, T)) if self.adapts else np.asarray(policy.mask(T))
        if self.adapts:

            def logged(end: int, begin: int, norms: Sequence[tuple[int, float]]) -> None:
                M[begin:end] = copy.deepcopy(policy).mask(T)[begin:end]
                type(policy).observe(policy, end, begin, norms)

            object.__setattr__(policy, "observe", logged)  # the rows of the mask that each pass carries out
            with holding(self.leaves, arrays_in(np.float64, self.leaves), recorded=True), enable_grad():
                self.update(policy)
        faults = {"entries above the diagonal": np.triu(M, 1).any(), "entries not finite": not np.isfinite(M).all()}
        got = [f"shape {M.shape}"] if M.shape != (T, T) else [fault for fault, found in faults.items() if found]
        if got:
            raise ConfigError(
                f"check_grads: truncation: {policy!r}.mask({T}) must be a finite lower triangular (T, T) = ({T}, {T}) "
                f"matrix, got {' and '.join(got)}"
            )
        return M


class TruncatedEvaluation(Evaluation):
    """The losses and states of each step; `whole` runs the sequence as one step, if nothing is cut."""

    def __init__(self, recurrence: Recurrence, whole: bool, target: Target, dtype: DTypeLike) -> None:
        self.target, self.recurrence = target, recurrence
        self.arrays = arrays_in(dtype, target.leaves)
        self._whole = whole
        steps = [slice(None)] if whole else [slice(t, t + 1) for t in range(recurrence.sizes["T"])]
        self._slices = [map_leaves(lambda x, step=step: x[:, step], recurrence.inputs) for step in steps]
        self._walks = list(_walks(np.ones((1, 1)) if whole else recurrence.mask))
        self.runs = sum(len(walk.weights) - walk.start for walk in self._walks) / len(self._slices)
        self._states, losses = [recurrence.state], []
        with holding(target.leaves, self.arrays), no_grad():
            for t in range(len(self._slices)):
                loss, after = self._step(t, self._states[-1])
                self._states.append(after)
                losses.append(np.asarray(loss))
                if not np.isfinite(losses[-1]):
                    raise NonFiniteError(
                        f"check_grads: the loss at step {t} of {target.title} is {losses[-1]}; check where it is finite"
                    )
        self.eps = rounding_error(part.dtype for part in (*losses, *floats(after)))
        self.value = float(sum(sum(losses[walk.read : len(walk.weights)]) for walk in self._walks))
        largest = float(np.abs(recurrence.mask).max(initial=0.0))
        self.size = float(sum(abs(loss) for loss in losses)) * max(1.0, largest)

    def gradient(self) -> BackwardPass:
        """Run the driver twice; the graph covers the whole sequence."""
        leaves, recurrence = self.target.leaves, self.recurrence
        with holding(leaves, self.arrays, recorded=True):
            first, second = self._bptt(), self._bptt()
            with enable_grad():
                loss, _ = recurrence.step(recurrence.inputs, recurrence.state)
            ends = [loss.node] if isinstance(loss, Tensor) and loss.node is not None else []
            nodes, places = graph_of(ends, leaves)
            failures = [*differing(first, second), *sharing(first, leaves)]
        return BackwardPass(first, set(places), nodes, places=places, failures=failures)

    def along(self, name: str, direction: Array, t: Scalar) -> Scalar:
        """Return the sum of the losses, with the leaf moved at each step by its weight in the mask."""
        return sum(loss for walk in self._walks for loss in self._losses(walk, name, t * direction))

    def credits(self, name: str, directions: Array, h: float) -> Array:
        """Return C[tau, t] along K directions, (K, T, T), by complex steps of h, from one walk for each t."""
        T = len(self._slices)
        C = np.zeros((len(directions), T, T))
        for k, direction in enumerate(directions):
            for t in range(T):
                C[k, t:, t] = np.imag(self._losses(_Walk(t, t, np.eye(T)[t]), name, 1j * h * direction)) / h
        return C

    def _bptt(self) -> dict[str, Array]:
        update, parts = self.recurrence.update(copy.deepcopy(self.recurrence.policy)), floats(self.recurrence.state)
        first = floats(update.state_gradient) or [np.zeros(part.shape) for part in parts]
        found = {str(part.name): g for part, g in zip(parts, first, strict=True) if isinstance(part, Tensor)}
        return {**update.gradients, **found}

    def _losses(self, walk: _Walk, name: str, by: Array) -> list[Scalar]:
        """Return the losses that a walk reads."""
        losses, leaves, state = [], self.target.leaves, self._states[walk.start]
        with holding(leaves, self.arrays), no_grad():
            for s, weight in enumerate(walk.weights[walk.start :], walk.start):
                moved = {name: np.asarray(self.arrays[name] + weight * by)} if weight else {}
                with holding(leaves, moved):
                    loss, state = self._step(s, state)
                losses.append(loss)
        return losses[walk.read - walk.start :]

    def _step(self, t: int, state: object) -> tuple[Scalar, object]:
        """Return the loss of a step as a number, and the state; before it parts are Tensors, as under the policy."""
        before = map_leaves(lambda part: Tensor(value_of(part)) if is_float(part) else part, state)
        with nullcontext() if self._whole else slice_of_a_sequence():
            loss, state = loss_and_state(self.recurrence.step(self._slices[t], before), "check_grads")
        return 0.0 if loss is None else np.sum(value_of(loss)), arrays_of(state)


class _Walk(NamedTuple):
    """The rows of a mask that one walk serves."""

    start: int  # the first step whose parameters are moved
    read: int  # the first loss that is read
    weights: Array  # factors by which each step's parameters are moved, up to the last loss


def _walks(M: Array) -> Iterator[_Walk]:
    """Yield the fewest walks that serve every row of a mask."""
    ends = [tau for tau in range(1, len(M)) if not np.array_equal(M[tau, :tau], M[tau - 1, :tau])]
    for begin, end in pairwise([0, *ends, len(M)]):
        if M[end - 1].any():
            start = int(np.flatnonzero(M[end - 1])[0])
            yield _Walk(start, max(begin, start), M[end - 1, :end])
