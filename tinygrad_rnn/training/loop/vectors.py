"""Gradients of one of several processes, in the form in which they are sent: vectors, and rows of tables."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np

from ...compiler.api import Compiled
from ...compiler.plans.plan import Plan
from ...credit.nests import arrays_of
from ...engine.autograd import grad
from ...engine.tape import Array
from ...engine.tensor import Tensor, Value
from ...nn.cells import State
from ...nn.module import Module
from ...ops import astype, cut
from ...parallel.group import Group
from .handover import Link, hand_over, made_before_the_end
from .objective import Batch, Objective, Outcome, size_of
from .parts import Found, Rng
from .tables import Rows, rows_of, sparse_tables

EARLY = "early "
"""How the names of vectors begin that are there before the others."""
_LINE = 64  # bytes of a cache line
Params: TypeAlias = dict[str, Tensor]
Given: TypeAlias = tuple[Params, Batch, State, Rng]
Gradients: TypeAlias = Callable[[Params, Batch, State, Rng], Found]
Flat: TypeAlias = dict[str, Array]
"""Gradients of all parameters, one vector for each dtype that they are summed in."""


class Summed(NamedTuple):
    """Gradients times weight, and the results of the loss function, of one process or summed over all.

    Attributes:
        flat: of all parameters but for tables.
        tables: name to the gradient of a table, as rows.
        outcome: the results of the loss function.
        early: parameters that have vectors of their own, as their gradients are there before the others.
        handed: what `hand_over` returned.
        divided: whether each process has the sums of a part of each vector, its `Group.rows`.
    """

    flat: Flat
    tables: dict[str, Rows]
    outcome: Outcome
    early: Collection[str] = ()
    handed: object = ()
    divided: bool = False


@dataclass(frozen=True)
class Place:
    """Where the gradient of a parameter, or a part of it, lies.

    Attributes:
        vector: the vector.
        start, stop: its first element there, and the one after the last.
        shape: of the parameter; of a part with as many axes.
        first: element of the parameter that it begins with.
    """

    vector: str
    start: int
    stop: int
    shape: tuple[int, ...]
    first: int = 0

    def of(self, flat: Mapping[str, Array]) -> Array:
        """Return the gradient."""
        return flat[self.vector][self.start : self.stop].reshape(self.shape)

    def old(self, parameter: Array) -> Array:
        """Return what it is the gradient of."""
        return parameter.reshape(-1)[self.first : self.first + self.stop - self.start].reshape(self.shape)

    def within(self, span: slice) -> Place | None:
        """Return the part that lies within a span of the vector; None: nothing does.

        >>> Place("float64", 10, 22, (3, 4)).within(slice(16, 30))
        Place(vector='float64', start=16, stop=22, shape=(1, 6), first=6)
        """
        start, stop = max(self.start, span.start), min(self.stop, span.stop)
        if (start, stop) == (self.start, self.stop):
            return self
        shape = (*(1 for _ in self.shape[1:]), stop - start)
        return Place(self.vector, start, stop, shape, start - self.start) if start < stop else None


def places_of(params: Mapping[str, Value], early: Collection[str] = ()) -> dict[str, Place]:
    """Return where the gradients of parameters lie in vectors, one for each dtype; half precision is summed in float32.

    Args:
        params: name to parameter.
        early: those that have vectors of their own, as their gradients are there before the others.

    >>> import tinygrad_rnn as tr
    >>> places_of({"W": tr.tensor(np.zeros((2, 3))), "b": tr.tensor(np.zeros(3))})["b"]
    Place(vector='float64', start=6, stop=9, shape=(3,), first=0)
    """
    ends: dict[str, int] = {}
    found: dict[str, Place] = {}
    for name, p in params.items():
        vector = EARLY * (name in early) + _wide(p.dtype)
        start = ends.get(vector, 0) + _gap(ends.get(vector, 0), p)
        ends[vector] = start + p.size
        found[name] = Place(vector, start, ends[vector], p.shape)
    return found


def flat_of(gradients: Mapping[str, Value], weight: Value | float, early: Collection[str] = ()) -> Flat:
    """Return gradients times a weight as vectors, as `places_of` says: a plan makes them in there.

    >>> flat_of({"W": np.ones((2, 2)), "b": np.zeros(1)}, 3)["float64"].tolist()
    [3.0, 3.0, 3.0, 3.0, 0.0]
    """
    parts: dict[str, list[Value]] = {}
    for g, place in zip(gradients.values(), places_of(gradients, early).values(), strict=True):
        dtype = np.dtype(_wide(g.dtype))
        vector = np.reshape(g if g.dtype == dtype else astype(g, dtype), (-1,))
        before = parts.setdefault(place.vector, [])
        if gap := place.start - sum(part.size for part in before):
            before.append(np.zeros(gap, dtype))
        before.append(
            vector if isinstance(weight, int | float) and weight == 1 else vector * as_factor(weight, vector.dtype)
        )
    return {vector: np.concatenate(those) for vector, those in parts.items()}


def as_factor(weight: Value | float, dtype: np.dtype[np.generic]) -> Value | float:
    """Return a weight that leaves what it is multiplied with in its dtype."""
    return astype(weight, dtype) if isinstance(weight, Tensor | np.ndarray) else float(weight)


class Vectors:
    """Plans that make the gradients of this process, times its weight.

    Args:
        objective: the loss function.
        model: what is trained.
        gradients: returns the gradient of a batch under a policy; None: it is that of the loss.
        executor: of the plans.
        exact: whether they are summed exactly: then tables are sent as rows, and what is there first early.

    Attributes:
        plan: makes all vectors at its end.
        tables: parameters whose gradients are made as rows; None: not looked for yet.
        early: parameters whose gradients are handed over before the end of a plan.
        link: to which they are; None: not looked for yet.
    """

    def __init__(
        self, objective: Objective, model: Module, gradients: Gradients | None, executor: str | None, exact: bool
    ) -> None:
        self._objective, self._model, self._under_policy, self._exact = objective, model, gradients, exact
        self.tables: Collection[str] | None = None if exact else ()
        self.early: Collection[str] = ()
        self.link: Link | None = None
        self.plan = Compiled(self._made, executor=executor)
        self._handing = Compiled(self._handed, executor=executor, beside=self.plan)

    @property
    def plans(self) -> list[Plan]:
        """The plans of updates of one batch: those that hand vectors over, if there are any."""
        return self._handing.plans or self.plan.plans

    def __call__(self, params: Params, batch: Batch, state: State, rng: Rng, link: Link | None) -> Summed:
        """Return the gradients of a batch; those that a link wants are handed to it on the way."""
        return Summed(*(self.plan if link is None else self._handing)(params, batch, state, rng))

    def find_tables(self, group: Group, given: Callable[[], Given]) -> None:
        """Find out which gradients are sent as rows: all processes take those that the first one finds.

        Args:
            group: the processes.
            given: returns what the next call is given.

        Raises:
            Exception: in all processes, what `given` or the loss function raised in the first.
        """

        def look() -> list[str]:
            params, *others = given()
            if not self._is_plain(params):
                return []
            return sparse_tables(lambda *parts: self._weighted(*parts).gradients, (params, *others), group.size)

        self.tables = group.share(group.first(look)) or ()

    def find_link(self, group: Group, flat: Flat, params: Params) -> None:
        """Find out which gradients are there before the last part of the backward pass begins.

        Args:
            group: the processes.
            flat: vectors that the plan has made.
            params: name to parameter.
        """
        self.link = Link(group)
        if len(flat) != 1 or not self._exact or not group.can_add_beside():
            return
        (vector,) = flat.values()
        summed = {name: p for name, p in params.items() if name not in (self.tables or ())}
        size = vector.itemsize
        spans = {name: (size * place.start, size * place.stop) for name, place in places_of(summed).items()}
        self.early = group.share([*made_before_the_end(self.plan.plan, 0, spans)])
        if self.early:
            zeros = flat_of({name: np.zeros(p.shape, p.dtype) for name, p in summed.items()}, 1, self.early)
            self.link.wanted = {name: part for name, part in zeros.items() if name.startswith(EARLY)}

    def _handed(self, params: Params, batch: Batch, state: State, rng: Rng) -> Summed:
        """Return the same as `_made`, and hand over the vectors that are there first."""
        assert self.link is not None
        link, found = self.link, self._made(params, batch, state, rng, self.early)
        return found._replace(handed=[hand_over(found.flat[name], link, name) for name in link.wanted])

    def _made(self, params: Params, batch: Batch, state: State, rng: Rng, early: Collection[str] = ()) -> Summed:
        if self._is_plain(params):
            gradients, outcome = self._weighted(params, batch, state, rng)
            tables = {name: rows_of(gradients.pop(name)) for name in self.tables or ()}
            return Summed(flat_of(gradients, 1.0, early), tables, outcome, early)
        assert self._under_policy is not None
        gradients, outcome = self._under_policy(params, batch, state, rng)
        assert outcome.weight is not None
        return Summed(flat_of(gradients, outcome.weight, early), {}, outcome, early)

    def _is_plain(self, params: Params) -> bool:
        """Return whether gradients are taken of the loss times its weight, and need not be multiplied with it."""
        return self._under_policy is None and all(p.dtype.itemsize >= 4 for p in params.values())

    def _weighted(self, params: Params, batch: Batch, state: State, rng: Rng) -> Found:
        loss, said = self._objective.recorded(self._model, batch, cut(state), rng)
        weight = size_of(batch) if said.weight is None else said.weight
        gradients = grad(loss * as_factor(weight, loss.dtype), params, allow_unused=True)
        return Found(gradients, Outcome(*arrays_of((loss, said.state, said.metrics, weight))))


def _wide(dtype: np.dtype[np.generic]) -> str:
    return str(dtype) if dtype.itemsize >= 4 else "float32"


def _gap(end: int, p: Value) -> int:
    """Return how many elements are left free, so that a matrix begins at a cache line; a bias follows its matrix."""
    return -end % (_LINE // np.dtype(_wide(p.dtype)).itemsize) if p.ndim > 1 else 0
