"""The Jacobian of one recorded step, found stream by stream from its graph.

The walk goes back from each part of the state after the step, as `engine.walk` does, but carries derivatives of all
units of that part at once. Through operations on elements they stay a `Diagonal`: one value for each element, and the
unit that it reaches. A product with a matrix, or an operation of which nothing is known, makes them `Dense`. So the
form of every derivative follows from the operations that were recorded, never from values.

A part of the new state may be computed from another one of the same step by operations on elements, as the h of an LSTM
from its c. Such a *link* is kept apart: the derivatives of h are those with c held.

Streams must not meet: row n of every value along the walk belongs to stream n. Where they do (a mean over the batch),
or where it cannot be told, the batch is treated as one stream with N times as many units, which is always right.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np
from numpy.typing import ArrayLike

from ..engine.tape import Array, Edge, Node, context
from ..engine.tensor import Value
from ..engine.walk import Lift, ancestors, lifted, rule_results, useful_nodes
from ..ops import astype
from .elements import fitted_to
from .kinds import ELEMENTWISE, MOVES, ROWWISE, is_ours
from .moves import Moves
from .terms import Dense, Diagonal, Form, Lookup, Outer, StepJacobian, Term, Through, kept_apart, moved, reshaped


class StreamsMeetError(Exception):
    """The walk came to an operation in which rows of the batch are not kept apart, or may not be."""


@dataclass
class Sources:
    """Where a walk ends: edges to the parts of the state before the step, and to the parameters.

    Attributes:
        states: edge to each part.
        parameters: name to edge.
        N: number of streams.
        apart: whether the streams are kept apart; if not, there is one stream with the state of all of them.
    """

    states: Sequence[Edge]
    parameters: Mapping[str, Edge]
    N: int
    apart: bool = True
    places: set[Edge] = field(init=False)

    def __post_init__(self) -> None:
        self.places = {*self.states, *self.parameters.values()}


def step_jacobian(
    after: Sequence[Edge | None],
    states: Sequence[Edge],
    parameters: Mapping[str, Edge],
    N: int,
    moves: Moves,
) -> StepJacobian:
    """Return the Jacobian of a step, with the links between the parts of the new state kept apart.

    Args:
        after: edge to each floating point part of the state after it; None: a constant.
        states: edge to each part before it, a leaf.
        parameters: name to edge to each parameter, a leaf.
        N: number of streams: rows of each part of the state.
        moves: the memory of what operations move where.
    """
    apart = all(edge[0].specs[edge[1]].shape[:1] == (N,) for edge in states)
    try:
        return _found(after, Sources(states, parameters, N, apart), moves)
    except StreamsMeetError:
        return _found(after, Sources(states, parameters, N, apart=False), moves)


def _found(after: Sequence[Edge | None], sources: Sources, moves: Moves) -> StepJacobian:
    streams = sources.N if sources.apart else 1
    sizes = [math.prod(edge[0].specs[edge[1]].shape) // streams for edge in sources.states]
    arrived: list[Mapping[Edge, list[Term]]] = [{} for _ in after]
    links: list[list[list[Diagonal]]] = [[[] for _ in after] for _ in after]
    roots: dict[Edge, int] = {}  # parts that others may be linked to: those computed before them, without links
    for s, edge in sorted(enumerate(after), key=lambda part: part[1][0].id if part[1] else -1):
        if edge is None:
            continue
        walk = _Walk(edge, sizes[s], sources, moves, roots)
        arrived[s] = walk.arrived
        for root, link in walk.links.items():
            links[s][roots[root]].append(link)
        if not walk.links and edge[0].operation is not None:
            roots[edge] = s
    by_state = [[own.get(place, []) for place in sources.states] for own in arrived]
    by_parameter = [{name: own[at] for name, at in sources.parameters.items() if own.get(at)} for own in arrived]
    return StepJacobian(sizes, streams, by_state, by_parameter, links)


class _Walk:
    """The walk back from one part of the state, of K units; `arrived` has the terms at each source.

    It does not go on beyond a root that it reaches by operations on elements alone: `links` has the derivative by that.
    """

    def __init__(self, start: Edge, K: int, sources: Sources, moves: Moves, roots: Container[Edge]) -> None:
        self._K, self._sources, self._moves, self._roots = K, sources, moves, roots
        self.links: dict[Edge, Diagonal] = {}
        self._N = sources.N if sources.apart else 1
        self._streamed: dict[Edge, bool] = {}
        self._forms: dict[Edge, list[Form]] = {}
        self.arrived: dict[Edge, list[Term]] = {}
        tracer = context().tracer
        self._lift: Lift[Value] | None = None if tracer is None else tracer.lift
        spec = start[0].specs[start[1]]
        elements = spec.shape[1:] if sources.apart else spec.shape
        ones: Value = np.ones((self._N, *elements), spec.dtype)
        self._add(start, Diagonal(ones, np.arange(K).reshape(elements)), sources.apart)
        nodes = ancestors([start[0]])
        self._useful = useful_nodes(nodes, sources.places)
        for node in nodes:
            self._visit(node)

    def _visit(self, node: Node) -> None:
        edges = [(node, index) for index in range(len(node.specs))]
        arrived = [self._unless_linked(edge, kept_apart(self._forms.pop(edge, []), self._K)) for edge in edges]
        if not any(arrived):
            return
        if node.operation is None:
            if edges[0] in self._sources.places:
                self.arrived.setdefault(edges[0], []).extend(self._at_leaf(edges[0], form) for form in arrived[0])
            return
        needs = [edge is not None and edge[0] in self._useful for edge in node.edges]
        if any(needs):
            streamed = next(self._streamed[edge] for edge, forms in zip(edges, arrived, strict=True) if forms)
            self._send(node, arrived, needs, streamed)

    def _unless_linked(self, edge: Edge, forms: list[Form]) -> list[Form]:
        """Return [], and keep what came to a root, if each unit hangs on one element of it at most; else the forms."""
        form = forms[0] if len(forms) == 1 else None
        if edge in self._roots and isinstance(form, Diagonal) and self._streamed[edge] == self._sources.apart:
            units = form.units[form.units >= 0]
            if len(np.unique(units)) == len(units):
                self.links[edge] = form
                return []
        return forms

    def _at_leaf(self, edge: Edge, form: Form) -> Term:
        """Return the derivative by a leaf; by all elements of a parameter that was taken for a part of the batch."""
        if edge in self._sources.states:
            if self._streamed[edge] != self._sources.apart:
                self._meet()
            return reshaped(form, _elements(edge, self._sources.apart))
        if not self._streamed[edge]:
            return form
        own = np.eye(self._N, dtype=form.values.dtype)  # row n of it belongs to stream n
        if isinstance(form, Diagonal):
            spread = np.expand_dims(form.values, 1) * own.reshape(self._N, self._N, *(1,) * form.units.ndim)
            return Diagonal(spread, np.broadcast_to(form.units, (self._N, *form.units.shape)))
        values = form.dense(self._K)
        return Dense(np.expand_dims(values, 2) * own.reshape(1, self._N, self._N, *(1,) * (values.ndim - 2)))

    def _add(self, edge: Edge, form: Form, streamed: bool) -> None:
        if self._streamed.setdefault(edge, streamed) != streamed:
            self._meet()
            form = reshaped(form, _elements(edge, self._streamed[edge]))
        self._forms.setdefault(edge, []).append(form)

    def _meet(self) -> None:
        """Raise `StreamsMeetError` unless there is one stream: then its axis is as good as one of the elements."""
        if self._N > 1:
            raise StreamsMeetError

    # -- one operation -------------------------------------------------------------------------------------------

    def _send(self, node: Node, arrived: list[list[Form]], needs: list[bool], streamed: bool) -> None:
        operation = node.operation
        assert operation is not None
        name = operation.name if is_ours(operation) else ""
        if name in ELEMENTWISE or getattr(operation, "elementwise", False):
            for form in arrived[0]:
                self._elementwise(node, form, needs, streamed)
        elif name == "matmul" and self._has_rows(node, streamed):
            for form in arrived[0]:
                self._product(node, form, needs, streamed)
        elif name in MOVES or name == "take":
            self._move(node, arrived, needs, streamed)
        elif name in ("sum", "mean") and streamed and self._keeps_rows(node, needs):
            self._sum(node, [form for form in arrived[0] if isinstance(form, Diagonal)], needs)
            dense: list[Form] = [form for form in arrived[0] if isinstance(form, Dense)]
            if dense:
                self._unknown(node, [dense], needs, streamed)
        else:
            self._unknown(node, arrived, needs, streamed)

    def _elementwise(self, node: Node, form: Form, needs: list[bool], streamed: bool) -> None:
        shape = node.specs[0].shape
        if isinstance(form, Diagonal):
            pairs = zip(node.edges, needs, strict=True)
            over_units = [need and self._is_summed(edge, shape, streamed) for edge, need in pairs]
            if any(over_units):  # the other operands still have one unit for each element
                self._elementwise(node, Dense(form.dense(self._K)), over_units, streamed)
                needs = [need and not over for need, over in zip(needs, over_units, strict=True)]
        results: Iterator[Value | None]
        if getattr(node.operation, "elementwise", False):  # the rule of a user need not take cotangents with more axes
            ones: Value = np.ones(shape, node.specs[0].dtype)
            slopes: Iterator[Value | None] = rule_results(node, [ones], needs, self._lift)
            results = (None if slope is None else form.values * slope for slope in slopes)
        else:
            results = rule_results(node, [form.values], needs, self._lift)
        for edge, value in zip(node.edges, results, strict=True):
            if edge is None or value is None:
                continue
            of_stream = streamed and self._is_streamed(edge, shape)
            elements = _elements(edge, of_stream)
            lead = form.values.shape[: form.values.ndim - (len(shape) - streamed)]
            fitted = fitted_to(value, lead, shape[streamed:], elements)
            if fitted.dtype != edge[0].specs[edge[1]].dtype:
                fitted = astype(fitted, edge[0].specs[edge[1]].dtype)
            made: Form = Dense(fitted)
            if isinstance(form, Diagonal):
                units = form.units if form.units.shape == elements else form.units.reshape(elements)
                if not streamed and (nonzero := support((node, 0))) is not None:
                    units = np.where(nonzero.reshape(elements), units, -1)
                made = Diagonal(fitted, units)
            self._add(edge, made, of_stream)

    def _is_streamed(self, edge: Edge, shape: tuple[int, ...]) -> bool:
        """Return whether an operand of an operation on elements has a row for each stream, as the result has."""
        own = edge[0].specs[edge[1]].shape
        return len(own) == len(shape) and own[0] == self._N == shape[0]

    def _is_summed(self, edge: Edge | None, shape: tuple[int, ...], streamed: bool) -> bool:
        """Return whether an operand is broadcast over units, so that an element of it reaches several."""
        assert edge is not None
        of_stream = streamed and self._is_streamed(edge, shape)
        return math.prod(_elements(edge, of_stream)) != math.prod(shape[streamed:])

    def _sum(self, node: Node, forms: Sequence[Diagonal], needs: list[bool]) -> None:
        """A sum over units: each element of the operand is part of one element of the result, and reaches its unit."""
        edge = node.edges[0]
        assert edge is not None
        shape, axes = edge[0].specs[edge[1]].shape, np.atleast_1d(cast("ArrayLike", node.attrs["axis"]))
        kept = [1 if axis in axes else n for axis, n in enumerate(shape)]
        for form in forms:
            results: list[Value | None] = list(rule_results(node, [form.values], needs, self._lift))
            assert results[0] is not None
            units = np.broadcast_to(form.units.reshape(kept[1:]), shape[1:])
            self._add(edge, Diagonal(results[0], units), streamed=True)

    def _move(self, node: Node, arrived: list[list[Form]], needs: list[bool], streamed: bool) -> None:
        for number, (edge, need) in enumerate(zip(node.edges, needs, strict=True)):
            if edge is None or not need:
                continue
            if streamed and (ids := self._moves.looked_up(node, self._N)) is not None:
                for form in arrived[0]:
                    self._look_up(node, edge, ids, form)
                continue
            alone = [index == number for index in range(len(needs))]
            sources = self._moves.sources(node, number, self._N if streamed else None)
            if sources is None and streamed and self._N == 1:
                self._move(node, _unstreamed(node, arrived), alone, streamed=False)
                continue
            if sources is None:
                self._unknown(node, arrived, alone, streamed)
                continue
            for forms, source in zip(arrived, sources, strict=True):
                for form in forms:
                    if source is not None:
                        self._add(edge, moved(form, source, _elements(edge, streamed)), streamed)

    def _look_up(self, node: Node, edge: Edge, ids: Array, form: Form) -> None:
        """A lookup of one row for each stream in a table that they share."""
        rows = edge[0].specs[edge[1]].shape
        form = reshaped(form, rows[1:])
        if edge in self._sources.parameters.values():
            self.arrived.setdefault(edge, []).append(Lookup(ids, rows[0], form, node.id))
        else:
            self._add(edge, Dense(Lookup(ids, rows[0], form, node.id).dense(self._K)), streamed=False)

    def _has_rows(self, node: Node, streamed: bool) -> bool:
        """Return whether this is a product of rows (N, ..., D) with a matrix (D, U), or with a vector (D,)."""
        ranks = [len(np.shape(part)) for part in node.inputs]  # type: ignore[arg-type]
        by_vector = ranks == [2, 1] and streamed
        return by_vector or (ranks[1] == 2 and ranks[0] >= 2 and (streamed or ranks[0] == 2))

    def _product(self, node: Node, form: Form, needs: list[bool], streamed: bool) -> None:
        left, right = node.edges
        shape = node.specs[0].shape
        a, b = node.inputs if self._lift is None else lifted(node, self._lift)[0]
        if not streamed:
            results: Iterator[Value | None] = rule_results(node, [form.dense(self._K)], needs, self._lift)
            for edge, value in zip(node.edges, results, strict=True):
                if edge is not None and value is not None:
                    self._add(edge, Dense(value), streamed=False)
            return
        if np.shape(a)[0] != self._N:  # type: ignore[arg-type]
            raise StreamsMeetError
        if len(shape) == 1:
            if needs[0] and left is not None:  # dense: a product is none of the operations on elements
                self._add(left, Dense(np.expand_dims(form.dense(self._K), -1) * b), streamed=True)
            if needs[1] and right is not None:
                values: Value = np.expand_dims(form.values, -1) * a
                units = np.broadcast_to(form.units, values.shape[1:]) if isinstance(form, Diagonal) else None
                self._add(right, Dense(values) if units is None else Diagonal(values, units), streamed=False)
            return
        is_row = math.prod(shape[1:-1]) == 1
        if needs[0] and left is not None:
            self._by_rows(left, form, b, (node.id, support(right)), is_row)  # type: ignore[arg-type]
        if needs[1] and right is not None:
            self._by_matrix(right, form, a, is_row, node.id)  # type: ignore[arg-type]

    def _by_rows(self, edge: Edge, form: Form, matrix: Value, product: tuple[int, Array | None], is_row: bool) -> None:
        elements = _elements(edge, streamed=True)
        if is_row and isinstance(form, Diagonal):
            through = Through(reshaped(form, form.units.shape[-1:]), matrix, *product)  # type: ignore[arg-type]  # as form is
            if edge in self._sources.states and len(elements) == 1:
                self.arrived.setdefault(edge, []).append(through)
                return
            made = through.dense(self._K)
        else:
            made = form.dense(self._K) @ np.swapaxes(matrix, 0, 1)
        self._add(edge, reshaped(Dense(made), elements), streamed=True)

    def _by_matrix(self, edge: Edge, form: Form, rows: Value, is_row: bool, product: int) -> None:
        D, U = edge[0].specs[edge[1]].shape
        if not is_row:  # several rows for each stream: their terms add up
            flat_rows = np.reshape(rows, (self._N, -1, D))
            dense = np.reshape(form.dense(self._K), (self._K, self._N, -1, U))
            self._add(edge, Dense(np.swapaxes(flat_rows, 1, 2) @ dense), streamed=False)
            return
        outer = Outer(np.reshape(rows, (self._N, D)), reshaped(form, (U,)), product)
        if edge in self._sources.parameters.values():
            self.arrived.setdefault(edge, []).append(outer)
        elif isinstance(outer.after, Diagonal):
            values = np.expand_dims(outer.rows, 2) * np.expand_dims(outer.after.values, 1)
            self._add(edge, Diagonal(values, np.broadcast_to(outer.after.units, (D, U))), streamed=False)
        else:
            self._add(edge, Dense(outer.dense(self._K)), streamed=False)

    def _unknown(self, node: Node, arrived: list[list[Form]], needs: list[bool], streamed: bool) -> None:
        """An operation of which nothing is known: its rule runs once for each unit."""
        operation = node.operation
        assert operation is not None
        if streamed and not self._keeps_rows(node, needs):
            self._meet()
            streamed = False
        lead = (self._K,) if streamed else (self._K, self._N)
        dense = [
            np.reshape(sum(form.dense(self._K) for form in forms), (math.prod(lead), *spec.shape)) if forms else None
            for forms, spec in zip(arrived, node.specs, strict=True)
        ]
        results = [
            list(rule_results(node, [None if values is None else values[k] for values in dense], needs, self._lift))
            for k in range(math.prod(lead))
        ]
        for edge, values in zip(node.edges, zip(*results, strict=True), strict=True):
            if edge is None or values[0] is None:
                continue
            shape = edge[0].specs[edge[1]].shape
            fitted = [fitted_to(value, (), np.shape(value), shape) for value in values]
            self._add(edge, Dense(np.reshape(np.stack(fitted), (*lead, *shape))), streamed)

    def _keeps_rows(self, node: Node, needs: list[bool]) -> bool:
        """Return whether row n of the result depends on row n of the operands alone."""
        operation = node.operation
        assert operation is not None
        shapes = [edge[0].specs[edge[1]].shape for edge, need in zip(node.edges, needs, strict=True) if need and edge]
        if not is_ours(operation) or any(shape[:1] != (self._N,) for shape in (*shapes, node.specs[0].shape)):
            return False
        if operation.name == "matmul":  # one product for each stream
            return all(len(np.shape(part)) >= 3 for part in node.inputs)  # type: ignore[arg-type]
        axes = node.attrs.get("axis")
        return operation.name in ROWWISE and axes is not None and 0 not in np.atleast_1d(axes)


def _unstreamed(node: Node, arrived: list[list[Form]]) -> list[list[Form]]:
    """Return the forms of a single stream with its axis among those of the elements."""
    return [[reshaped(form, spec.shape) for form in forms] for forms, spec in zip(arrived, node.specs, strict=True)]


def _elements(edge: Edge, streamed: bool) -> tuple[int, ...]:
    """Return the shape of the elements of an edge: without the streams, where it has a row for each."""
    return edge[0].specs[edge[1]].shape[streamed:]


def support(edge: Edge | None) -> Array | None:
    """Return where a matrix can be other than zero, if it is a product with a constant that has zeros; else None."""
    if edge is None or edge[0].name != "multiply" or len(edge[0].specs[0].shape) != 2:
        return None
    constants = [part for part, own in zip(edge[0].inputs, edge[0].edges, strict=True) if own is None]
    masks = [part != 0 for part in constants if isinstance(part, np.ndarray)]
    return np.broadcast_to(masks[0], edge[0].specs[0].shape) if masks else None
