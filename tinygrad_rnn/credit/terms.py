"""Terms of the Jacobian of one recorded step, each in the form that it comes in.

A term is the derivative of the K units of one part of the state after a step with respect to one source: a part of the
state before it, or a parameter. Values have the axis of the streams, N, before the axes of the source's elements.
Elements are numbered flat; where entries are asked for, a unit below 0 has none. All of it is written in NumPy's
functions on values, so a plan can record it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce

import numpy as np

from ..engine.tape import Array, DType
from ..engine.tensor import Value
from .elements import added, flat, picked


def chained(one: Array, two: Array) -> Array:
    """Return the product of two boolean matrices, as one of numbers: BLAS knows no booleans."""
    rows, inner = np.flatnonzero(one.any(axis=1)), np.flatnonzero(one.any(axis=0))
    found = np.zeros((one.shape[0], two.shape[1]), bool)
    found[rows] = one[np.ix_(rows, inner)].astype(np.float32) @ two[inner].astype(np.float32) > 0
    return found


@dataclass(frozen=True)
class Diagonal:
    """Each element reaches one unit at most.

    Attributes:
        values: (N, *elements), 0 where no unit is reached.
        units: (*elements) integers, the unit that each element reaches; -1: none.
    """

    values: Value
    units: Array

    @property
    def dtype(self) -> DType:
        """Dtype of the derivatives."""
        return self.values.dtype

    def dense(self, K: int) -> Value:
        """Return all derivatives, (K, N, *elements)."""
        reached = self.units == np.arange(K).reshape(K, *(1,) * self.units.ndim)
        made: Value = np.expand_dims(self.values, 0) * np.expand_dims(reached.astype(self.values.dtype), 1)
        return made

    def pattern(self, K: int) -> Array:
        """Return which derivatives can be other than zero, booleans (K, *elements)."""
        found: Array = self.units == np.arange(K).reshape(K, *(1,) * self.units.ndim)
        return found

    def entries(self, rows: Array, columns: Array) -> Value:
        """Return the derivatives of units `rows` by elements `columns`, which are broadcast: (N, *shape)."""
        reached = (self.units.reshape(-1)[columns] == rows) & (rows >= 0)
        if columns.size * 2 < reached.size:  # each of them once, and zeros for the units that it does not reach
            made: Value = picked(flat(self.values, 1), columns) * reached.astype(self.values.dtype)
            return made
        return picked(flat(self.values, 1), np.where(reached, columns, -1))


@dataclass(frozen=True)
class Dense:
    """Each element may reach every unit: values (K, N, *elements)."""

    values: Value

    @property
    def dtype(self) -> DType:
        """Dtype of the derivatives."""
        return self.values.dtype

    def dense(self, K: int) -> Value:
        """Return all derivatives, (K, N, *elements)."""
        return self.values

    def pattern(self, K: int) -> Array:
        """Return which derivatives can be other than zero: all, as one entry for all elements."""
        return np.ones((K, *(1,) * (self.values.ndim - 2)), bool)

    def entries(self, rows: Array, columns: Array) -> Value:
        """Return the derivatives of units `rows` by elements `columns`, which are broadcast: (N, *shape)."""
        K, N = self.values.shape[:2]
        table = np.reshape(np.swapaxes(flat(self.values, 2), 0, 1), (N, -1))
        return picked(table, np.where(rows >= 0, rows * (table.shape[1] // K) + columns, -1))


@dataclass(frozen=True)
class Through:
    """Elements reach the units through a product with a matrix that all streams share: rows @ matrix, then `after`.

    Attributes:
        after: the derivative by the product, elements (U,).
        matrix: (D, U); the D rows are the elements of the source.
        node: number of the product in the graph.
        support: (D, U) booleans, where the matrix can be other than zero; None: everywhere.
    """

    after: Diagonal
    matrix: Value
    node: int
    support: Array | None = None

    @property
    def dtype(self) -> DType:
        """Dtype of the derivatives."""
        return self.after.dtype

    def dense(self, K: int) -> Value:
        """Return all derivatives, (K, N, D)."""
        total: Value | None = None
        for columns in self._columns(K).T:  # (K,): for each unit one of the columns that reach it
            factor = np.expand_dims(np.swapaxes(picked(self.after.values, columns), 0, 1), 2)  # (K, N, 1)
            total = added(total, factor * np.expand_dims(np.swapaxes(picked(self.matrix, columns), 0, 1), 1))
        assert total is not None
        return total

    def pattern(self, K: int) -> Array:
        """Return which derivatives can be other than zero, booleans (K, D)."""
        if self.support is None:
            return np.broadcast_to(self.after.pattern(K).any(axis=1, keepdims=True), (K, self.matrix.shape[0]))
        return chained(self.after.pattern(K), self.support.T)

    def entries(self, rows: Array, columns: Array) -> Value:
        """Return the derivatives of units `rows` by elements `columns`, which are broadcast: (N, *shape)."""
        U = self.matrix.shape[1]
        total: Value | None = None
        for reaching in self._columns(int(rows.max(initial=0)) + 1).T:
            at = np.where(rows >= 0, reaching[rows], -1)
            if total is not None and (at < 0).all():
                continue
            weight = picked(flat(self.matrix, 0), np.where(at >= 0, columns * U + at, -1))
            total = added(total, picked(self.after.values, at) * weight)
        assert total is not None
        return total

    def _columns(self, K: int) -> Array:
        """Return (K, r) columns of the matrix, those that reach each unit, filled with -1."""
        reaching = np.flatnonzero((self.after.units >= 0) & (self.after.units < K))
        reaching = reaching[np.argsort(self.after.units[reaching], kind="stable")]
        units = self.after.units[reaching]
        counts = np.bincount(units, minlength=K)
        made = np.full((K, max(1, int(counts.max(initial=0)))), -1)
        made[units, np.arange(len(units)) - (np.cumsum(counts) - counts)[units]] = reaching
        return made


@dataclass(frozen=True)
class Outer:
    """A parameter W (D, U) that enters as rows @ W, with a derivative by the product.

    Attributes:
        rows: (N, D).
        after: the derivative by the product, elements (U,).
        node: number of the product in the graph.
    """

    rows: Value
    after: Diagonal | Dense
    node: int

    @property
    def dtype(self) -> DType:
        """Dtype of the derivatives."""
        return self.after.dtype

    def dense(self, K: int) -> Value:
        """Return all derivatives, (K, N, D, U)."""
        made: Value = np.expand_dims(self.rows, (0, 3)) * np.expand_dims(self.after.dense(K), 2)
        return made

    def pattern(self, K: int) -> Array:
        """Return which derivatives can be other than zero, booleans (K, 1, U): the same for all rows of W."""
        return np.expand_dims(self.after.pattern(K), 1)

    def entries(self, rows: Array, columns: Array) -> Value:
        """Return the derivatives of units `rows` by elements `columns`, which are broadcast: (N, *shape)."""
        left, U = self.factors()
        return self.after.entries(rows, columns % U) * picked(left, columns // U)

    def factors(self) -> tuple[Value, int]:
        """Return x (N, D) and U: element d * U + u has the derivative x[:, d] * after[u]."""
        return self.rows, self.after.values.shape[-1]


@dataclass(frozen=True)
class Lookup:
    """A parameter W (V, ...) of which each stream takes one row.

    Attributes:
        ids: (N,) rows that are taken.
        V: number of rows.
        after: the derivative by the row that was taken.
        node: number of the lookup in the graph.
    """

    ids: Value
    V: int
    after: Diagonal | Dense
    node: int

    @property
    def dtype(self) -> DType:
        """Dtype of the derivatives."""
        return self.after.dtype

    @cached_property
    def _taken(self) -> Value:
        hot: Value = np.astype(np.expand_dims(self.ids, 1) == np.arange(self.V), self.after.values.dtype)
        return hot

    def dense(self, K: int) -> Value:
        """Return all derivatives, (K, N, V, *row)."""
        after = self.after.dense(K)
        taken = np.reshape(self._taken, (1, *self._taken.shape, *(1,) * (after.ndim - 2)))
        made: Value = np.expand_dims(after, 2) * taken
        return made

    def pattern(self, K: int) -> Array:
        """Return which derivatives can be other than zero, booleans (K, 1, *row): the same for all rows of W."""
        return np.expand_dims(self.after.pattern(K), 1)

    def entries(self, rows: Array, columns: Array) -> Value:
        """Return the derivatives of units `rows` by elements `columns`, which are broadcast: (N, *shape)."""
        left, size = self.factors()
        return self.after.entries(rows, columns % size) * picked(left, columns // size)

    def factors(self) -> tuple[Value, int]:
        """Return x (N, V) and R: element v * R + r has the derivative x[:, v] * after[r]."""
        return self._taken, math.prod(self.after.values.shape[1 if isinstance(self.after, Diagonal) else 2 :])


Form = Diagonal | Dense
Term = Form | Through | Outer | Lookup


@dataclass
class StepJacobian:
    """The derivatives of the state after a step.

    Attributes:
        sizes: number of units of each part of the state, for one stream.
        N: number of streams.
        states: terms[s][r]: part s after the step by part r before it.
        parameters: terms[s][name]: part s by a parameter.
        links: terms[s][r]: part s after the step by part r after it, which `states` and `parameters` of s hold; no part
            has links to one that has links itself. Empty where they are multiplied out.
    """

    sizes: list[int]
    N: int
    states: list[list[list[Term]]]
    parameters: list[dict[str, list[Term]]]
    links: list[list[list[Diagonal]]]

    @property
    def whole(self) -> StepJacobian:
        """The same derivatives without links: what a part has by way of another is multiplied out."""
        return self._multiplied_out if any(map(any, self.links)) else self  # never kept in itself: it is to be freed

    @cached_property
    def _multiplied_out(self) -> StepJacobian:
        states = [[[*terms] for terms in row] for row in self.states]
        parameters = [{name: [*terms] for name, terms in row.items()} for row in self.parameters]
        for s, r in np.ndindex(len(self.sizes), len(self.sizes)):
            for link in self.links[s][r]:
                for own, further in zip(states[s], self.states[r], strict=True):
                    own += [_by_way(link, term, self.sizes[s]) for term in further]
                for name, further in self.parameters[r].items():
                    parameters[s].setdefault(name, []).extend(_by_way(link, term, self.sizes[s]) for term in further)
        states = [[_merged(terms, K) for terms in row] for K, row in zip(self.sizes, states, strict=True)]
        return replace(
            self, states=states, parameters=parameters, links=[[[] for _ in row] for row in self.links]
        ).added

    @property
    def added(self) -> StepJacobian:
        """The same derivatives, with those by a parameter that come from one product, lookup or leaf added up."""
        rows = zip(self.sizes, self.parameters, strict=True)
        parameters = [{name: _merged(terms, K) for name, terms in row.items()} for K, row in rows]
        return replace(self, parameters=parameters)


def _by_way(link: Diagonal, term: Term, K: int) -> Term:
    """Return the derivative of the K units of a part that is linked to the part of which `term` is a derivative."""
    if isinstance(term, Through | Outer | Lookup):
        return replace(term, after=_by_way(link, term.after, K))  # type: ignore[arg-type]  # a form gives one of its kind
    factors, units = flat(link.values, 1), link.units.reshape(-1)
    if isinstance(term, Diagonal):
        return Diagonal(term.values * picked(factors, term.units), np.where(term.units >= 0, units[term.units], -1))
    source = np.full(K, -1)
    source[units[units >= 0]] = np.flatnonzero(units >= 0)
    each = np.reshape(np.swapaxes(picked(factors, source), 0, 1), (K, -1, *(1,) * (term.values.ndim - 2)))
    return Dense(np.take(term.values, np.maximum(source, 0), axis=0) * each)


def _merged(terms: list[Term], K: int) -> list[Term]:
    """Return terms with those of one product, lookup or leaf added up."""
    found: dict[object, Term] = {}
    for term in terms:
        way: object = (type(term), term.node) if isinstance(term, Through | Outer | Lookup) else Form
        known = found.get(way)
        if isinstance(term, Form) and isinstance(known, Form):
            found[way] = added_forms(known, term, K)
        elif isinstance(term, Through | Outer | Lookup) and isinstance(known, Through | Outer | Lookup):
            after = added_forms(known.after, term.after, K)
            apart = isinstance(term, Through) and isinstance(after, Dense)
            found[id(term) if apart else way] = term if apart else replace(known, after=after)  # type: ignore[arg-type]
        else:
            found[way] = term
    return list(found.values())


def added_forms(a: Form, b: Form, K: int) -> Form:
    """Return the sum of derivatives of K units by the same elements."""
    if isinstance(a, Diagonal) and isinstance(b, Diagonal) and _agree(a, b):
        return Diagonal(a.values + b.values, np.maximum(a.units, b.units))
    return Dense(a.dense(K) + b.dense(K))


def _agree(a: Diagonal, b: Diagonal) -> bool:
    """Return whether no element reaches one unit by `a`, and another by `b`."""
    x, y = a.units, b.units
    return x is y or bool(((x == y) | (x < 0) | (y < 0)).all())


_APART = 4
"""The most diagonals that are kept apart: a step that moves units repeatedly would double them each time."""


def kept_apart(forms: Sequence[Form], K: int) -> list[Form]:
    """Return the sum of derivatives of K units by the same elements as few diagonals, and one dense form at most."""
    found: list[Form] = []
    for form in forms:
        for place, known in enumerate(found):
            if (
                isinstance(form, Dense)
                if isinstance(known, Dense)
                else isinstance(form, Diagonal) and _agree(known, form)
            ):
                found[place] = added_forms(known, form, K)
                break
        else:
            found.append(form)
    return found if len(found) <= _APART else [reduce(lambda a, b: added_forms(a, b, K), found)]


def reshaped(form: Form, elements: tuple[int, ...]) -> Form:
    """Return the derivative by elements in another shape."""
    lead = 1 if isinstance(form, Diagonal) else 2
    if form.values.shape[lead:] == elements:
        return form
    values: Value = np.reshape(form.values, (*form.values.shape[:lead], *elements))
    return Diagonal(values, form.units.reshape(elements)) if isinstance(form, Diagonal) else Dense(values)


def moved(form: Form, source: Array, elements: tuple[int, ...]) -> Form:
    """Return the derivative by elements that were moved: `source` has the number of each after the move, or -1."""
    values = flat(form.values, 1 if isinstance(form, Diagonal) else 2)
    at = source.reshape(-1)
    made: Value = np.reshape(picked(values, at), (*values.shape[:-1], *elements))
    if isinstance(form, Dense):
        return Dense(made)
    units = np.where(at >= 0, form.units.reshape(-1)[at], -1)
    return Diagonal(made, units.reshape(elements))
