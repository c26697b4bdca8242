"""Gradients under a policy whose passes overlap: each may go back into the batches before."""

from __future__ import annotations

from functools import reduce
from typing import NamedTuple, cast

from ...credit.update import Past
from ...engine.tensor import Tensor
from ...errors import ModelFileError, warn
from ...nn.cells import State
from ...nn.module import Module
from ...parallel.group import Group
from ...truncation import Policy, Recurrence
from .guards import parameters_of
from .objective import Batch, Objective
from .online import Online
from .parts import Found, Parts, Rng, joined


class Overlapping:
    """The gradient of batches of consecutive steps, with the part of their graph that later passes go back to.

    A batch whose state or generator is not the one that the batch before ended with starts a new sequence.

    Args:
        objective: the loss function.
        model: what is trained.
        policy: how far passes go back.
    """

    plans = 0

    def __init__(self, objective: Objective, model: Module, policy: Policy) -> None:
        self._objective, self._model, self._policy = objective, model, policy
        self._open: _Open | None = None
        self._state: State = None
        self.resumable = False

    @property
    def past(self) -> Past:
        """The steps that are held, and where the passes are.

        Raises:
            ConfigError: unless `resumable` was set before the sequence began.
        """
        return {"run": None if self._open is None else self._open.recurrence.past}

    def continue_from(self, past: Past, state: State, rng: Rng) -> None:
        """Take the `past` of a run that was stopped, and the state and the generator after its last batch."""
        run = cast("Past | None", past["run"])
        if run is None:
            return
        said = self._begin(parameters_of("TrainStep", self._model), state, rng, run)
        if self._policy.recompute:
            held = cast("dict[str, list[Past]]", run["segments"])
            said.cover(segment["inputs"] for segment in held["segments"])

    def restart(self) -> None:
        """Forget what is held."""
        self._open = self._state = None

    def gradients(self, params: dict[str, Tensor], batch: Batch, state: State, rng: Rng) -> Found:
        """Return the gradient of the mean over a batch; the passes may go back into the batches before.

        They run where the policy says, and at the end of the batch, so that the update covers all of it.
        """
        if self._open is None or self._state is not state or self._open.said.rng is not rng:
            self._begin(params, state, rng)
        assert self._open is not None
        said, recurrence = self._open
        passes = [said.found(update) for update in recurrence.feed(batch)]
        if (last := recurrence.finish()) is not None:
            passes.append(said.found(last))
        found = reduce(joined, passes)
        self._state = found.outcome.state
        if not recurrence.alive_steps:
            said.uncover()
        return found

    def _begin(self, params: dict[str, Tensor], state: State, rng: Rng, past: Past | None = None) -> Parts:
        said = Parts(self._objective, self._model, rng, self._policy.recompute)
        run = Recurrence(said.step, params, self._policy, state, rng, resumable=self.resumable, past=past)
        said.forget()  # what was recorded again has been counted before
        self._open, self._state = _Open(said, run), state
        return said


def past_of(held: Overlapping | Online | None, policy: Policy | None, group: Group) -> Past | None:
    """Return what processes hold of the batches before, each in its part, with the kind of the policy.

    Returns:
        In the first process; None in the others, or where nothing is ever held.
    """
    if held is None:
        return None
    parts = group.gather_first(held.past)
    return None if parts is None else {"kind": type(policy).__name__, "parts": parts}


def part_of(past: Past | None, held: Overlapping | Online | None, policy: Policy | None, group: Group) -> Past | None:
    """Return what this process goes on from, its part of what `past_of` returned; None: there is nothing.

    Raises:
        ModelFileError: if it is of another policy.

    Warns:
        UserWarning: if another number of processes held it: the credit of the steps so far is lost.
    """
    if past is None:
        return None
    kind = type(policy).__name__
    if held is None or past["kind"] != kind:
        raise ModelFileError(
            f"resume: the run was trained under the policy {past['kind']}, and the policy is {kind} now; construct the "
            "Trainer like that of the run"
        )
    parts = cast("list[Past]", past.get("parts", [past]))  # files of one process once had no parts
    if len(parts) == group.size:
        return parts[group.rank]
    carried = [name for name in ("run", "carry") if parts[0].get(name) is not None]
    if carried and group.is_first:
        warn(
            f"resume: the past that {policy!r} goes back to was divided among {len(parts)} processes, and there are "
            f"{group.size} now; no credit goes to the steps before this checkpoint",
        )
    return parts[0] | dict.fromkeys(carried)


class _Open(NamedTuple):
    """A sequence whose passes overlap, so that part of its graph is kept from batch to batch."""

    said: Parts
    recurrence: Recurrence
