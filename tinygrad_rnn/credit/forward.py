"""Credit that is carried forward: no past is kept, and memory does not grow with the length of a stream.

A `ForwardPolicy` holds, after each step, what the past steps did to the state: the influence of the parameters on it,
exact or not, in a form of its own. The next step's loss meets it in the cotangent of the state, so a gradient is there
after every step. The parameters that do not reach the state (those of an output layer) get their exact gradient.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Generic, Protocol, Self, TypeVar, cast

import numpy as np

from ..engine.tape import Array, slice_of_a_sequence
from ..engine.tensor import Tensor, Value
from ..engine.tree import map_leaves
from ..errors import ConfigError
from ..ops import astype
from .moves import Moves
from .nests import (
    added,
    arrays_of,
    check_kept,
    edge_to,
    first_state,
    fresh_leaf,
    loss_and_state,
    number_of,
    steps_of,
    value_of,
)
from .policy import Policy, policy_state, restore_policy
from .record import Gradients, StepRecord
from .update import Past, Step, Update

Carry = TypeVar("Carry")


class Carrier(ABC, Generic[Carry]):
    """What a policy carries from step to step, in one sequence of a batch.

    `carry` is a nesting of arrays, None before the first step of a sequence. A carrier itself remembers no values, only
    what it found out about the step: which units its parameters reach, or the random matrices of the feedback.
    """

    @abstractmethod
    def advance(self, record: StepRecord, carry: Carry | None) -> tuple[Gradients, Carry]:
        """Return the gradient of the step's loss, and what is carried on."""

    def state_dict(self) -> dict[str, object]:
        """Return what it has found out: arrays, numbers and generators, in any nesting. None by default."""
        return {}

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Take what `state_dict` of a carrier of the same policy returned."""


class Rows(Protocol):
    """The rows of a batch that a step has, where other processes have the others."""

    def draws(self, rng: np.random.Generator) -> np.random.Generator:
        """Return what draws for these rows what `rng` would draw for all, and leaves it in the same state."""

    def total(self, values: Sequence[Value]) -> list[Value]:
        """Return the sums of values over all processes, the same bits in each."""


class ForwardPolicy(Policy):
    """Base of the policies that carry credit forward.

    Attributes:
        every: steps between updates; None: one at the end of the sequence.
        exact: whether the gradient, or its mean over the draws, is that of full BPTT while the parameters stay.
    """

    every: int | None = 1
    grain: int | None = 1
    exact: bool = True

    @abstractmethod
    def carrier(self) -> Carrier[Any]:
        """Return a carrier for a new sequence."""

    def among(self, rows: Rows) -> Self:
        """Return the policy for some rows of a batch; by default itself, as each row's credit is its own."""
        return self

    def scale(self, edge: int, end: int) -> float:
        """Return 1: every use of the parameters gets its credit.

        Raises:
            ConfigError: if the policy has no mask, because what it leaves out is not a matter of steps.
        """
        if not self.exact:
            raise ConfigError(
                f"{self!r} has no mask over steps: it leaves out entries of the influence, at every distance; "
                "truncation_report compares its gradient with the full one"
            )
        return 1.0

    def mask(self, T: int) -> Array:
        """Return ones on and below the diagonal (T, T): the mean over draws for a policy that draws.

        Raises:
            ConfigError: if the policy has no mask.
        """
        self.scale(1, 1)
        return np.tril(np.ones((T, T)))


class ForwardRecurrence:
    """A recurrence under a `ForwardPolicy`; used as `Recurrence` is, which makes it.

    Args:
        step, parameters, policy, state: as in `Recurrence`.
        carrier: of the policy, to go on with what it has found about the step; None: a new one.
        carry: what was carried up to the state; None: nothing, a sequence starts.
        past: of the recurrence that this one continues; then nothing else is carried.
    """

    alive_steps = 0

    def __init__(
        self,
        step: Step,
        parameters: Mapping[str, Tensor],
        policy: ForwardPolicy,
        state: object,
        carrier: Carrier[Any] | None = None,
        carry: object = None,
        past: Past | None = None,
    ) -> None:
        self._step, self._policy = step, policy
        self._parameters = dict(parameters)
        self.state = first_state("Recurrence", state, parameters)
        self._carrier, self._moves = policy.carrier() if carrier is None else carrier, Moves()
        self.carry = carry
        self._sums: dict[str, Array] = {}
        self._losses: list[float] = []
        self._now = self._begin = 0  # steps so far, and those before the last update
        if past is not None:
            self._now, self._losses = cast(int, past["now"]), [*cast("list[float]", past["losses"])]
            self._begin = cast(int, past.get("begin", self._now - len(self._losses)))
            self._sums = {name: np.array(g) for name, g in cast("dict[str, Array]", past["sums"]).items()}
            self.carry = past["carry"]
            self._carrier.load_state_dict(cast("Mapping[str, object]", past["carrier"]))
            restore_policy(policy, cast("Mapping[str, object]", past["policy"]))

    @property
    def past(self) -> Past:
        """What a recurrence that continues this one needs, besides the state."""
        return {
            "now": self._now,
            "begin": self._begin,
            "losses": [*self._losses],
            "sums": {name: np.array(g) for name, g in self._sums.items()},
            "carry": arrays_of(self.carry),
            "carrier": self._carrier.state_dict(),
            "policy": policy_state(self._policy),
        }

    def feed(self, inputs: object) -> Iterator[Update]:
        """Run the next steps, and yield an update after each `every` of them."""
        for t in range(steps_of(inputs)):
            self._advance(map_leaves(lambda x, t=t: x[:, t : t + 1], inputs))
            self._now += 1
            if self._policy.every is not None and self._now % self._policy.every == 0:
                yield self._update()

    def finish(self) -> Update | None:
        """Return the update of the steps since the last; None if there are none."""
        return self._update() if self._begin < self._now else None

    def _advance(self, inputs: object) -> None:
        before = map_leaves(fresh_leaf, self.state)
        with slice_of_a_sequence():
            loss, after = loss_and_state(self._step(inputs, before), "Recurrence")
        check_kept(f"Recurrence: {self._policy!r}", before, after)
        if loss is not None:
            self._losses.append(number_of(loss))
        record = StepRecord(loss, before, after, self._parameters, self._moves)
        if record.has_units:
            gradients, self.carry = self._carrier.advance(record, map_leaves(value_of, self.carry))
        else:  # nothing reaches a later step
            gradients, _, _ = record.loss_terms()
        for name, value in gradients.items():
            gradient = value_of(like(value, self._parameters[name]))
            edge = edge_to(self._parameters[name])
            if name in self._sums:
                self._sums[name] = added(self._sums[name], gradient, edge)
            else:
                self._sums[name] = np.array(gradient) if isinstance(gradient, np.ndarray) else gradient
        self.state = arrays_of(after)

    def _update(self) -> Update:
        gradients = {
            name: self._sums[name] if name in self._sums else np.zeros(p.shape, p.dtype)
            for name, p in self._parameters.items()
        }
        losses, self._losses, self._sums, self._begin = self._losses, [], {}, self._now
        return Update(self._now, losses, gradients, self.state, None)


def joined(parts: Sequence[Value], N: int) -> Value:
    """Return parts of a state, or their cotangents, as one array (N, n)."""
    flat: list[Value] = [np.reshape(part, (N, -1)) for part in parts]
    made: Value = np.concatenate(flat, axis=1) if len(flat) > 1 else flat[0]
    return made


def like(value: Value, other: Value) -> Value:
    """Return a value in the dtype of another: float32 times a float64 scalar stays what it was."""
    return value if value.dtype == other.dtype else astype(value, other.dtype)


def summed(*terms: Gradients) -> Gradients:
    """Return the sum of gradients, each of some of the parameters."""
    total: Gradients = {}
    for term in terms:
        for name, value in term.items():
            total[name] = total[name] + value if name in total else value
    return total


def is_zero(parts: Sequence[Value]) -> bool:
    """Return whether all parts are arrays of zeros, as they are where no cotangent arrives."""
    return all(isinstance(part, np.ndarray) and not part.any() for part in parts)
