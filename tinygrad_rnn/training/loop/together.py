"""An update of one model by several processes: of the sum of their gradients, by each alike or of a part by each.

With gradients g_r of the mean loss of process r and weights w_r (unmasked positions, or whatever the loss function
counts), the gradient of the mean over all is sum_r w_r g_r / sum_r w_r.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Protocol, TypeAlias, TypeVar

import numpy as np

from ...compiler.api import Compiled
from ...compiler.plans.plan import Plan
from ...engine.operands import without_gradient
from ...engine.tape import Array, context
from ...engine.tensor import Tensor, is_held
from ...engine.tree import map_leaves
from ...metrics import Metric
from ...nn.draws import RowDraws
from ...optim import Optimizer
from ...optim.clipping import factor_of, norms
from ...parallel.group import Group, ToldError, in_parts
from ...parallel.shares import Share, share_of
from .handover import Link
from .objective import Batch, Mean, Outcome, as_number
from .parts import Rng
from .tables import Rows
from .vectors import Flat, Place, Summed, Vectors, places_of

Result = TypeVar("Result")
Moments: TypeAlias = dict[str, dict[str, Array]]
Changes: TypeAlias = tuple[Array, dict[str, Array], Moments]
"""Norms of the gradients, new parameters, new state of the optimizer."""


class _NotFiniteError(Exception):
    """Norms of gradients, of which one is not finite."""

    def __init__(self, lengths: Array) -> None:
        super().__init__("a norm of gradients is not finite")
        self.lengths = lengths


class Reduction(Protocol):
    """How gradients are summed over processes."""

    def __call__(self, group: Group, name: str, vector: Array) -> Array:
        """Return the sum of a vector over all processes; it may be written where the vector lies.

        Args:
            group: the processes.
            name: of the vector, for what is kept of it until the next sum.
            vector: float32 or float64.
        """


class Together:
    """Sums gradients over processes, and makes the update of the sum.

    Args:
        group: the processes.
        optimizer, clip: of the updates.
        reduce: how gradients are summed; None: exactly.
        executor: of the plan of the update.
        vectors: plans of the gradients, whose results that of the update reads where they lie; None: no plans.
    """

    def __init__(
        self,
        group: Group,
        optimizer: Optimizer,
        clip: float,
        reduce: Reduction | None,
        executor: str | None,
        vectors: Vectors | None,
    ) -> None:
        self.group = group
        self._optimizer, self._clip, self._reduce = optimizer, clip, reduce
        self.vectors = vectors
        beside = None if vectors is None else vectors.plan
        self.compiled = Compiled(self._changed, executor=executor, donate=("gradients", "tables"), beside=beside)
        self._laid_out: tuple[object, tuple[dict[str, Place], dict[str, Place]]] = (None, ({}, {}))
        self._rng: tuple[Rng, RowDraws | None, tuple[int, int, int]] = (None, None, (0, 0, 0))

    @property
    def plans(self) -> list[Plan]:
        """The plans of an update of one batch: those of its gradients, and of the rest."""
        return [*(() if self.vectors is None else self.vectors.plans), *self.compiled.plans]

    def linked(self, batches: Sequence[Batch]) -> Link | None:
        """Return what vectors are handed to before the end of a plan; None: nothing is, in no process."""
        link = None if self.vectors is None else self.vectors.link
        if link is None or not link.wanted or len(batches) > 1:
            return None
        return link if share_of(batches[0], self.group).total >= self.group.size else None

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

    def summed(
        self, compute: Callable[[], Iterable[tuple[Summed, bool]]], link: Link | None = None, divides: bool = False
    ) -> Summed:
        """Return the sums over all processes of what each computes.

        Args:
            compute: yields those of this process, of each of its batches, and whether it counts.
            link: what the plan hands vectors to; None: it hands over none.
            divides: whether each process needs a part of the sums alone.

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
            if self._reduce is not None:
                flat[name] = self._reduce(self.group, name, vector)
            elif divides:
                self.group.add_own(vector)
            else:
                self.group.add(vector)
        return Summed(flat, self._gathered(own), outcome, own[0][0].early, divided=divides)

    def _gathered(self, own: Sequence[tuple[Summed, bool]]) -> dict[str, Rows]:
        """Return the rows of tables that all processes have found; those of batches that do not count are left out."""
        found: dict[str, Rows] = {}
        for name in own[0][0].tables:
            parts = [part.tables[name] for part, counts in own if counts and part.outcome.weight]
            rows, ids = own[0][0].tables[name]
            if len(parts) != 1:
                rows = np.concatenate([rows[:0], *(part.rows for part in parts)])
                ids = np.concatenate([ids[:0], *(part.ids for part in parts)])
            found[name] = Rows(self.group.joined(rows), self.group.joined(ids))
        return found

    def changed(self, params: dict[str, Tensor], moments: Moments, sums: Summed, rates: object) -> Changes:
        """Return norms of the gradients, new parameters and new state of the optimizer, from the sums."""
        if not math.isfinite(float(sums.outcome.loss)):  # an error says so
            return np.full(len(params) + 1, np.nan), {}, moments
        rates = map_leaves(partial(np.asarray, dtype=np.float64), rates)
        weight = np.asarray(sums.outcome.weight, np.float64)
        flat, tables = sums.flat, {name: self._own(params[name]) for name in sums.tables}
        places, parts = self._layout(params, sums)
        given = {name: part.old(params[name].data) for name, part in parts.items()}
        gradients = {name: part.of(flat) for name, part in parts.items()}
        kept = {name: moments[name] for name in (*parts, *tables)}
        how = (*params,), sums.divided
        try:
            if self.vectors is None:
                return self._changed(how, given, tables, kept, gradients, sums.tables, weight, rates)
            for vector in flat.values():
                self.compiled.memories.may_write_over(vector)
            lengths, new, kept = self.compiled(how, given, tables, kept, gradients, sums.tables, weight, rates)
        except _NotFiniteError as error:  # all say so
            return error.lengths, {}, moments
        if sums.divided:
            for name, gradient in gradients.items():
                if not np.may_share_memory(gradient, new[name]):  # small ones are copies
                    gradient[...] = new[name]
            for vector in flat.values():
                self.group.collect_own(vector)
            new |= {name: place.of(flat) for name, place in places.items()}
        return lengths, new, moments | kept

    def divides(self, params: Mapping[str, Tensor], link: Link | None) -> bool:
        """Return whether each process makes the update of a part of all parameters, and they collect the parts."""
        if self.vectors is None or self._reduce is not None or link is not None or not self._optimizer.divisible:
            return False
        summed = [p for name, p in params.items() if name not in (self.vectors.tables or ())]
        large = in_parts(sum(p.size * p.dtype.itemsize for p in summed), self.group.size)
        return large and all(p.dtype.itemsize >= 4 for p in summed)

    def _layout(self, params: Mapping[str, Tensor], sums: Summed) -> tuple[dict[str, Place], dict[str, Place]]:
        """Return where gradients lie in vectors, and which parts of them this process makes updates of."""
        key = (*sums.early, *sums.tables), sums.divided, *((name, p.shape, p.dtype) for name, p in params.items())
        if self._laid_out[0] != key:
            places = places_of({name: p for name, p in params.items() if name not in sums.tables}, sums.early)
            spans = {name: self.group.rows(len(vector)) for name, vector in sums.flat.items()}
            found = {
                name: place.within(spans[place.vector]) if sums.divided else place for name, place in places.items()
            }
            self._laid_out = key, (places, {name: part for name, part in found.items() if part is not None})
        return self._laid_out[1]

    def _own(self, table: Tensor) -> Array:
        """Return a table that an update may write over: a copy, unless nobody else sees it."""
        held = is_held(table) or not self.compiled.memories.is_alone(table.data)
        return np.array(table.data) if held else table.data

    def _changed(
        self,
        how: tuple[tuple[str, ...], bool],
        params: Mapping[str, Array],
        tables: Mapping[str, Array],
        moments: Moments,
        gradients: Mapping[str, Array],
        rows: Mapping[str, Rows],
        weight: Array,
        rates: object,
    ) -> Changes:
        """Return norms of the gradients, new parameters and new state of the optimizer.

        Args:
            how: names of all parameters, and whether these are parts of them that the other processes do not have.
            params, gradients: or parts of them.
            tables, rows: what is sent as rows.
            moments: state of the optimizer.
            weight: that the gradients are divided by.
            rates: of the optimizer.

        Raises:
            _NotFiniteError: if a norm is not finite; then nothing has been written over.
        """
        dense = {name: found.dense(tables[name].shape) for name, found in rows.items()}
        lengths = norms("TrainStep", {**gradients, **dense}, raises=False) / weight
        names = *gradients, *dense
        lengths = without_gradient("norms", self._all_norms, lengths, names, (*dense,), *how, repeatable=False)
        factor = 1 / weight
        if (clipped := factor_of(lengths[-1], self._clip)) is not None:
            factor = factor * clipped
        new, moments = self._optimizer.updated({**params, **tables}, {**gradients, **dense}, moments, rates, factor)
        return lengths, new, moments

    def _all_norms(
        self, lengths: Array, names: tuple[str, ...], whole: tuple[str, ...], wanted: tuple[str, ...], divided: bool
    ) -> Array:
        """Return the norms of the gradients of all parameters, and of all together.

        Args:
            lengths: those of this process, and of all of them together.
            names: of them.
            whole: those that are not of a part.
            wanted: names of all parameters.
            divided: whether there are parts that other processes have.

        Raises:
            _NotFiniteError: if one is not finite.
        """
        if context().tracer is not None:  # it is being recorded
            return np.ones(len(wanted) + 1)
        found = dict.fromkeys(wanted, 0.0) | dict(zip(names, lengths.tolist(), strict=False))
        if divided:
            parts = [name for name in wanted if name not in whole]
            of_all = self.group.collect(np.array([found[name] for name in parts]))
            found |= dict(zip(parts, np.hypot.reduce(of_all, axis=0).tolist(), strict=True))
        made = np.array([*found.values(), math.hypot(*found.values())])
        if not np.isfinite(made).all():
            raise _NotFiniteError(made)
        return made

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
