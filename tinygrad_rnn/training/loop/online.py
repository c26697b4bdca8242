"""Gradients under a policy that carries credit forward: one step at a time, from one plan."""

from __future__ import annotations

from typing import cast

import numpy as np

from ...compiler.api import Compiled
from ...credit.forward import ForwardPolicy, ForwardRecurrence, Rows
from ...credit.nests import arrays_of
from ...credit.policy import policy_state, restore_policy
from ...credit.update import Past
from ...engine.tensor import Tensor
from ...engine.tree import flatten, map_leaves
from ...nn.cells import State, initial_state
from ...nn.module import Module
from .objective import Batch, Objective
from .parts import Found, Parts, Rng, joined


class Online:
    """The gradient of batches of consecutive steps, with what is carried from each to the next.

    A batch whose state is not the one that the batch before ended with starts a new sequence.

    Args:
        objective: the loss function.
        model: what is trained.
        policy: how credit is carried.
        compile: False: record each step anew.
        executor: of the plan; see `compile`.
    """

    def __init__(
        self, objective: Objective, model: Module, policy: ForwardPolicy, compile: bool, executor: str | None
    ) -> None:
        self._objective, self._model, self._policy = objective, model, policy
        self._carrier = policy.carrier()
        self._rows: Rows | None = None
        self._plan = Compiled(self._step, executor=executor, donate=["carry"])
        self._executor = executor
        self._compiles = compile
        self._carry: object = None
        self.resumable = True  # at no cost
        self._state: State = None

    def hold(self, rows: Rows) -> None:
        """Carry the credit of these rows of each batch, of which other processes hold the others."""
        policy = self._policy.among(rows)
        if policy is self._policy or rows == self._rows:
            return
        self._carrier, self._rows = policy.carrier(), rows
        self._plan = Compiled(self._step, executor=self._executor, donate=["carry"])
        self.restart()

    @property
    def plans(self) -> int:
        """The number of plans that are kept."""
        return len(self._plan.plans)

    @property
    def past(self) -> Past:
        """What is carried, what was found out about the step, and what the policy has drawn."""
        return {
            "carry": arrays_of(self._carry),
            "carrier": self._carrier.state_dict(),
            "policy": policy_state(self._policy),
        }

    def continue_from(self, past: Past, state: State, rng: Rng) -> None:
        """Take the `past` of a run that was stopped, and the state that its last batch ended with."""
        self._carrier.load_state_dict(cast("dict[str, object]", past["carrier"]))
        restore_policy(self._policy, cast("dict[str, object]", past["policy"]))
        self._carry, self._state = past["carry"], state

    def restart(self) -> None:
        """Forget what is carried."""
        self._carry = self._state = None

    def gradients(self, params: dict[str, Tensor], batch: Batch, state: State, rng: Rng) -> Found:
        """Return the gradient of the mean over a batch (N, T, ...), and go on from what the last one carried."""
        if state is None or state is not self._state:
            self.restart()
            if state is None and hasattr(self._model, "initial_state"):
                state = initial_state(self._model, len(flatten(batch)[0]), "TrainStep")
        total: Found | None = None
        carry, self._carry = self._carry, None  # whatever ends this early: the state before goes with no other carry
        arrays = map_leaves(np.asarray, batch)
        for t in range(flatten(arrays)[0].shape[1]):
            inputs = map_leaves(lambda x, t=t: x[:, t : t + 1], arrays)
            # The first step finds out what there is to carry, which has no arrays before it.
            call = self._plan if self._compiles and carry is not None else self._step
            found, carry = call(params, inputs, state, carry, rng)
            found = Found(*found)
            state = found.outcome.state
            total = found if total is None else joined(total, found)
        assert total is not None
        self._carry, self._state = carry, state
        return total

    def _step(
        self, params: dict[str, Tensor], batch: Batch, state: State, carry: object, rng: Rng
    ) -> tuple[Found, object]:
        parts = Parts(self._objective, self._model, rng)
        run = ForwardRecurrence(parts.step, params, self._policy, state, self._carrier, carry)
        updates = [*run.feed(batch)]
        update = updates[0] if updates else run.finish()
        assert update is not None
        return parts.found(update), run.carry
