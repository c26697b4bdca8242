"""How far back the credit of a policy reaches that carries the influence forward, exactly or on a pattern."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property

import numpy as np

from ..engine.tape import Array, slice_of_a_sequence
from ..engine.tensor import Tensor, Value
from ..engine.tree import map_leaves
from ..errors import ConfigError
from .forward import ForwardPolicy
from .moves import Moves
from .nests import arrays_of, check_kept, fresh_leaf, leaves_of, loss_and_state, steps_of, value_of
from .patterned import RTRL, EProp, SnAp
from .record import Gradients, StepRecord
from .terms import Lookup, Outer, StepJacobian, Term, Through
from .update import Step


class _Muted(StepRecord):
    """A record in which the parameters are constants: what was carried before goes on, and nothing is added."""

    @cached_property
    def jacobian(self) -> StepJacobian:
        found = super().jacobian
        quiet = [{name: [_zeroed(term) for term in terms] for name, terms in row.items()} for row in found.parameters]
        return replace(found, parameters=quiet)

    def loss_terms(self, apart: object = None) -> tuple[Gradients, list[Value], list[Value]]:
        _, deltas, past = super().loss_terms(apart)  # type: ignore[arg-type]
        return {}, deltas, past


def _zeroed(term: Term) -> Term:
    if isinstance(term, Outer):
        return replace(term, rows=term.rows * 0)
    if isinstance(term, Lookup):
        return replace(term, after=_zeroed(term.after))  # type: ignore[arg-type]
    return term if isinstance(term, Through) else replace(term, values=term.values * 0)


def forward_profile(
    step: Step, parameters: Mapping[str, Tensor], inputs: object, state: object, policy: ForwardPolicy
) -> list[dict[str, Array]]:
    """Return G_0, ..., G_{T-1}: the parts of a policy's gradient that come from k steps back.

    What a policy carries is linear in what each step adds to it, so each step's part is carried on by itself: T^2 / 2
    steps. For `RTRL` these are the parts of the full gradient.

    Args:
        step, parameters, inputs, state: as in `credit_profile`.
        policy: `RTRL`, `SnAp`, `EProp` or `RFLO`.

    Raises:
        ConfigError: if it is another policy.
        ShapeError, GradientError: as `Recurrence`.
    """
    if not isinstance(policy, RTRL | SnAp | EProp):
        raise ConfigError(f"credit_profile: {policy!r} draws what it carries; expected RTRL, SnAp, EProp or RFLO")
    T, named, moves = steps_of(inputs), leaves_of(parameters, "credit_profile"), Moves()
    records: list[tuple[StepRecord, StepRecord]] = []
    for t in range(T):
        before = map_leaves(fresh_leaf, arrays_of(state))
        with slice_of_a_sequence():
            here = map_leaves(lambda x, t=t: x[:, t : t + 1], inputs)
            loss, state = loss_and_state(step(here, before), "credit_profile")
        check_kept(f"credit_profile: {policy!r}", before, state)
        records.append((StepRecord(loss, before, state, named, moves), _Muted(loss, before, state, named, moves)))
    parts = [{name: np.zeros(p.shape, p.dtype) for name, p in named.items()} for _ in range(T)]
    carrier = policy.carrier()
    for start in range(T):
        carry = None
        for t in range(start, T):
            gradients, carry = carrier.advance(records[t][t > start], carry)
            for name, value in gradients.items():
                parts[t - start][name] = parts[t - start][name] + value_of(value)
    return parts
