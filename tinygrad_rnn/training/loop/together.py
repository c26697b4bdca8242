"""An update of one model by several processes: their gradients are summed, and each makes the same update of the sum.

With gradients g_r of the mean loss of process r and weights w_r (unmasked positions, or whatever the loss function
counts), the gradient of the mean over all is sum_r w_r g_r / sum_r w_r.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Protocol, TypeAlias, TypeVar

import numpy as np

from ...compiler.api import Compiled
from ...compiler.plans.plan import Plan
from ...engine.tape import Array
from ...engine.tensor import Tensor, Value
from ...engine.tree import map_leaves
from ...metrics import Metric
from ...nn.draws import RowDraws
from ...ops import astype
from ...optim import Optimizer
from ...optim.clipping import factor_of, norms
from ...parallel.group import Group, ToldError
from ...parallel.shares import Share, share_of
from .handover import Link, made_before_the_end
from .objective import Batch, Mean, Outcome, as_number
from .parts import Rng

Result = TypeVar("Result")
_EARLY = "early "  # how the names of vectors begin that are there before the others
Moments: TypeAlias = dict[str, dict[str, Array]]
Flat: TypeAlias = dict[str, Array]
"""Gradients of all parameters, one vector for each dtype that they are summed in."""


class Summed(NamedTuple):
    """Gradients times weight, and the results of the loss function, of one process or summed over all."""

    flat: Flat
    outcome: Outcome
    handed: object = ()  # what `hand_over` returned


class Reduction(Protocol):
    """How gradients are summed over processes."""

    def __call__(self, group: Group, name: str, vector: Array) -> Array:
        """Return the sum of a vector over all processes; it may be written where the vector lies.

        Args:
            group: the processes.
            name: of the vector, for what is kept of it until the next sum.
            vector: float32 or float64.
        """


@dataclass(frozen=True)
class Place:
    """Where the gradient of a parameter lies: the vector, its first and its last element, its shape."""

    vector: str
    start: int
    stop: int
    shape: tuple[int, ...]


def places_of(params: Mapping[str, Value], early: Collection[str] = ()) -> dict[str, Place]:
    """Return where the gradients of parameters lie in vectors, one for each dtype; half precision is summed in float32.

    Args:
        params: name to parameter.
        early: those that have vectors of their own, as their gradients are there before the others.

    >>> import tinygrad_rnn as tr
    >>> places_of({"W": tr.tensor(np.zeros((2, 3))), "b": tr.tensor(np.zeros(3))})["b"]
    Place(vector='float64', start=6, stop=9, shape=(3,))
    """
    ends: dict[str, int] = {}
    found: dict[str, Place] = {}
    for name, p in params.items():
        vector = _EARLY * (name in early) + _wide(p.dtype)
        start = ends.get(vector, 0)
        ends[vector] = start + p.size
        found[name] = Place(vector, start, ends[vector], p.shape)
    return found


def flat_of(gradients: Mapping[str, Value], weight: Value | float, early: Collection[str] = ()) -> Flat:
    """Return gradients times a weight as vectors, as `places_of` says: a plan makes them in there.

    >>> flat_of({"W": np.ones((2, 2)), "b": np.zeros(1)}, 3)["float64"].tolist()
    [3.0, 3.0, 3.0, 3.0, 0.0]
    """
    parts: dict[str, list[Value]] = {}
    for name, g in gradients.items():
        dtype = _wide(g.dtype)
        wide = g if str(g.dtype) == dtype else astype(g, np.dtype(dtype))
        vector = np.reshape(wide, (-1,))
        parts.setdefault(_EARLY * (name in early) + dtype, []).append(
            vector if isinstance(weight, int | float) and weight == 1 else vector * as_factor(weight, wide.dtype)
        )
    return {vector: np.concatenate(those) for vector, those in parts.items()}


def as_factor(weight: Value | float, dtype: np.dtype[np.generic]) -> Value | float:
    """Return a weight that leaves what it is multiplied with in its dtype."""
    return astype(weight, dtype) if isinstance(weight, Tensor | np.ndarray) else float(weight)


class Together:
    """Sums gradients over processes, and makes the update of the sum.

    Args:
        group: the processes.
        optimizer, clip: of the updates.
        reduce: how gradients are summed; None: exactly.
        executor: of the plan of the update.
        beside: the plan of the gradients, whose results that of the update reads where they lie; None: no plans.
    """

    def __init__(
        self,
        group: Group,
        optimizer: Optimizer,
        clip: float,
        reduce: Reduction | None,
        executor: str | None,
        beside: Compiled[..., object] | None,
    ) -> None:
        self.group = group
        self._optimizer, self._clip, self._reduce = optimizer, clip, reduce
        self.compiled = Compiled(self._changed, executor=executor, beside=beside)
        self._compiles = beside is not None
        self.early: Collection[str] = ()  # parameters whose gradients the plan hands over before its end
        self.link: Link | None = None  # to which it does; None: not looked for yet
        self._rng: tuple[Rng, RowDraws | None, tuple[int, int, int]] = (None, None, (0, 0, 0))

    @property
    def plans(self) -> int:
        """The number of plans that are kept."""
        return len(self.compiled.plans)

    def linked(self, batches: Sequence[Batch]) -> Link | None:
        """Return what vectors are handed to before the end of a plan; None: nothing is, in no process."""
        if self.link is None or not self.link.wanted or len(batches) > 1:
            return None
        return self.link if share_of(batches[0], self.group).total >= self.group.size else None

    @property
    def handing(self) -> tuple[Collection[str], Link]:
        """The parameters whose gradients a plan hands over before its end, and what it hands them to."""
        assert self.link is not None
        return self.early, self.link

    def find_link(self, plan: Plan, flat: Flat, params: Mapping[str, Tensor]) -> None:
        """Find out which gradients are there before the last part of the backward pass begins.

        Args:
            plan: of the gradients.
            flat: its vectors.
            params: name to parameter.
        """
        self.link = Link(self.group)
        if len(flat) > 1 or self._reduce is not None or not self.group.can_add_beside():
            return
        (vector,) = flat.values()
        places, size = places_of(params), vector.itemsize
        spans = {name: (size * place.start, size * place.stop) for name, place in places.items()}
        self.early = self.group.share([*made_before_the_end(plan, 0, spans)])
        if self.early:
            zeros = flat_of({name: np.zeros(p.shape, p.dtype) for name, p in params.items()}, 1, self.early)
            self.link.wanted = {name: part for name, part in zeros.items() if name.startswith(_EARLY)}

    def rng(self, rng: Rng, share: Share) -> Rng:
        """Return the generator that draws for the rows of a share what `rng` would draw for all; the same each time."""
        rows = share.start, share.stop, share.total
        if rng is None or share.stop - share.start == share.total:
            return rng
        if self._rng[0] is not rng or self._rng[2] != rows:
            self._rng = rng, RowDraws(rng, *rows), rows
        return self._rng[1]

    def agreed(self, compute: Callable[[], Result]) -> Result:
        """Return what this process computes, unless there is an error in any.

        Raises:
            Exception: in all processes, if `compute` raised an error in one.
        """
        made: list[Result] = []
        error: Exception | None = None
        try:
            made.append(compute())
        except ToldError as told:
            raise told.error from None
        except Exception as raised:
            error = raised
        self.group.agree(error)
        return made[0]

    def summed(self, compute: Callable[[], Iterable[tuple[Summed, bool]]], link: Link | None = None) -> Summed:
        """Return the sums over all processes of what each computes.

        Args:
            compute: yields those of this process, of each of its batches, and whether it counts.
            link: what the plan hands vectors to; None: it hands over none.

        Raises:
            Exception: in all processes, if `compute` raised an error in one.
        """
        own = self.agreed((lambda: [*compute()]) if link is None else partial(link.kept, lambda: [*compute()]))
        begun: Flat = {} if link is None else link.finished()
        flat: Flat = {}
        for part, counts in own:
            for name, vector in part.flat.items():
                if link is None and (not counts or not part.outcome.weight):
                    vector[...] = 0  # also where nothing was counted, and the mean of it is not a number
                if name in flat:
                    flat[name] += vector
                else:
                    flat[name] = vector
        outcome = self.outcome([(part.outcome, counts) for part, counts in own])
        flat |= begun
        for name, vector in flat.items():
            if name in begun:
                continue
            if self._reduce is None:
                self.group.add(vector)
            else:
                flat[name] = self._reduce(self.group, name, vector)
        return Summed(flat, outcome)

    def changed(
        self, params: dict[str, Tensor], moments: Moments, sums: Summed, rates: object
    ) -> tuple[Array, dict[str, Array], Moments]:
        """Return norms of the gradients, new parameters and new state of the optimizer, from the sums."""
        rates = map_leaves(partial(np.asarray, dtype=np.float64), rates)
        weight = np.asarray(sums.outcome.weight, np.float64)
        if self._compiles:
            return self.compiled(params, moments, sums.flat, weight, rates)
        return self._changed({name: p.data for name, p in params.items()}, moments, sums.flat, weight, rates)

    def _changed(
        self, params: Mapping[str, Value], moments: Moments, flat: Flat, weight: Array, rates: object
    ) -> tuple[Array, dict[str, Array], Moments]:
        early = self.early if any(name.startswith(_EARLY) for name in flat) else ()
        gradients = {
            name: np.reshape(flat[place.vector][place.start : place.stop], place.shape)
            for name, place in places_of(params, early).items()
        }
        lengths = norms("TrainStep", gradients, raises=False) / weight
        factor = 1 / weight
        if (clipped := factor_of(lengths[-1], self._clip)) is not None:
            factor = factor * clipped
        new, moments = self._optimizer.updated(params, gradients, moments, rates, factor)
        return lengths, new, moments

    def outcome(self, own: Sequence[tuple[Outcome, bool]]) -> Outcome:
        """Return the means over all batches and processes, and the state of this process after the last batch."""
        last = own[-1][0]
        totals = sum((_totals(outcome, counts) for outcome, counts in own[1:]), _totals(*own[0]))
        self.group.add(totals)
        weight, loss, *sums = totals.tolist()
        metrics: dict[str, Mean] = {}
        for name, mean in last.metrics.items():
            found = as_number(mean)
            if isinstance(found, Metric):
                size = np.size(found.sums)
                metrics[name], sums = type(found)(np.array(sums[:size])), sums[size:]
            else:
                metrics[name], sums = sums[0] / weight, sums[1:]
        return Outcome(loss / weight, last.state, metrics, weight)


def _totals(outcome: Outcome, counts: bool) -> Array:
    """Return the weight, and the sums of which the means, and the metrics, are made; zeros if it does not count."""
    assert outcome.weight is not None
    weight = float(np.asarray(outcome.weight)) if counts else 0.0
    found = [weight]
    for mean in (outcome.loss, *outcome.metrics.values()):
        value = as_number(mean)
        if isinstance(value, Metric):
            found.extend(float(one) if counts else 0.0 for one in np.asarray(value.sums))
        else:
            found.append(value * weight if weight else 0.0)
    return np.array(found)


def _wide(dtype: np.dtype[np.generic]) -> str:
    return str(dtype) if dtype.itemsize >= 4 else "float32"
