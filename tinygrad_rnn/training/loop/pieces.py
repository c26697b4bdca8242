"""Which batches an update is made from under a truncation policy, and whether such updates can be compiled."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from ...credit.forward import ForwardPolicy
from ...credit.policy import Policy
from ...engine.operands import without_gradient
from ...engine.tape import Array, context
from ...engine.tensor import Value
from ...engine.tree import flatten, map_leaves, named_leaves
from ...errors import ShapeError
from ...nn.draws import RowDraws
from ...ops import astype
from ...parallel.group import Group
from ...parallel.shares import Share
from ...truncation import parse_policy
from ...truncation.driver import decides
from .objective import Batch


def resized(batches: Iterable[Batch], steps: int) -> Iterator[Batch]:
    """Yield the same sequences in pieces of `steps` steps; the last may be shorter. Rows of them are resized alike."""
    rest: Batch = None
    share: Share | None = None
    for given in batches:
        share = given if isinstance(given, Share) else None
        batch = given if share is None else share.batch
        for name, part in named_leaves("batch", batch):
            if len(shape := np.shape(part)) < 2:
                raise ShapeError(
                    f"Trainer: policy: it cuts each array of a batch along its axis T, so expected arrays (N, T, ...), "
                    f"got {name} of shape {shape}; for sequences of different lengths train without a policy, and cut "
                    "in the loss: unroll(..., cut_every=n, lengths=batch.lengths)"
                )
        whole = batch if rest is None else map_leaves(_side_by_side, rest, batch)
        length = int(np.shape(flatten(whole)[0])[1])
        for start in range(0, length - steps + 1, steps):
            yield _as_given(share, _steps_of(whole, start, start + steps))
        rest = _steps_of(whole, length // steps * steps, length) if length % steps else None
    if rest is not None:
        yield _as_given(share, rest)


def _steps_of(batch: Batch, begin: int, end: int) -> Batch:
    return map_leaves(lambda array: np.asarray(array)[:, begin:end], batch)


def _side_by_side(left: Array, right: Array) -> Array:
    return np.concatenate([left, right], axis=1)


def _as_given(share: Share | None, batch: Batch) -> Batch:
    return batch if share is None else share.of(batch)


def is_compilable(policy: Policy | str | None, draws: bool = False) -> bool:
    """Return whether updates under a policy can be compiled: each pass ends where the one before began.

    They cannot where windows overlap (parameters are updated between the passes over one step), where cuts differ from
    pass to pass, are drawn or follow from norms, where the number of states to keep follows from the bytes of a
    recorded step, where a recomputation would have to repeat dropout's draws, and where credit is carried
    forward (then the gradient of one step is compiled, and the update is not).

    Args:
        policy: a truncation policy, its text, or None.
        draws: whether the model draws (dropout).

    >>> import tinygrad_rnn as tr
    >>> [is_compilable(policy) for policy in (None, tr.Chunked(5), tr.Decay(0.9, every=5), tr.Windowed(5, 1))]
    [True, True, True, False]
    """
    if policy is None:
        return True
    policy = parse_policy(policy, argument="is_compilable: policy")
    if isinstance(policy, ForwardPolicy) or decides(policy) or policy.budget is not None:
        return False
    if policy.recompute and draws:
        return False
    if policy.every is None:
        return True  # it acts inside each window
    every, first = policy.every, policy.factors(policy.every)
    passes = [[policy.factor(begin + t, begin + every) for t in range(every)] for begin in (every, 2 * every)]
    return all(factors == [0.0, *first[1:]] for factors in passes)


class AgreedPolicy(Policy):
    """A truncation policy that several processes follow alike: norms that it observes are of all rows of a batch.

    Args:
        policy: any but one that carries credit forward.
        group: the processes.
    """

    def __init__(self, policy: Policy, group: Group) -> None:
        self._policy, self._group = policy, group
        self.every, self.reach, self.grain = policy.every, policy.reach, policy.grain
        self.recompute, self.states, self.budget = policy.recompute, policy.states, policy.budget

    def __repr__(self) -> str:
        return repr(self._policy)

    def scale(self, edge: int, end: int) -> float:
        """Return the scale of the policy."""
        return self._policy.scale(edge, end)

    def start(self) -> Policy:
        """Return this policy, as the policy that it follows draws nothing."""
        return self

    def observe(self, end: int, begin: int, norms: Sequence[tuple[int, float]]) -> None:
        """Hand on the norms over all rows."""
        squares = np.array([norm * norm for _, norm in norms])
        self._group.add_amid(squares)
        found = [(edge, math.sqrt(square)) for (edge, _), square in zip(norms, squares, strict=True)]
        self._policy.observe(end, begin, found)


def agreed_policy(policy: Policy | None, group: Group) -> Policy | None:
    """Return the policy that each of several processes follows, so that all of them cut at the same edges."""
    observes = policy is not None and type(policy).observe is not Policy.observe
    return AgreedPolicy(policy, group) if observes and policy is not None and group.size > 1 else policy


class HeldRows:
    """The rows of each batch that a process holds, for a policy whose credit is of all rows together.

    Args:
        share: which they are.
        group: the processes.
    """

    def __init__(self, share: Share, group: Group) -> None:
        self._share, self._group = share.of(None), group

    def __eq__(self, other: object) -> bool:
        return isinstance(other, HeldRows) and (self._share, self._group) == (other._share, other._group)

    __hash__ = None  # type: ignore[assignment]

    def draws(self, rng: np.random.Generator) -> np.random.Generator:
        """Return what draws for these rows what `rng` would draw for all."""
        return RowDraws(rng, self._share.start, self._share.stop, self._share.total)

    def total(self, values: Sequence[Value]) -> list[Value]:
        """Return the sums of values over all processes, sent as one vector; rows that do not count add nothing."""
        dtype = np.result_type(np.float32, *(value.dtype for value in values))
        parts: list[Value] = [np.reshape(astype(value, dtype), (-1,)) for value in values]
        whole = without_gradient("sum over processes", self._sum, np.concatenate(parts), repeatable=False)
        ends = np.cumsum([part.size for part in parts])
        return [
            astype(np.reshape(whole[end - value.size : end], value.shape), value.dtype)
            for end, value in zip(ends.tolist(), values, strict=True)
        ]

    def _sum(self, vector: Array) -> Array:
        found = np.array(vector) if self._share.counts else np.zeros_like(vector)
        if context().tracer is None:  # otherwise it is being recorded
            self._group.add_amid(found)
        return found
