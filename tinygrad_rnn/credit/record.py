"""One step as it was recorded: its loss, the state before and after it, and products with its Jacobian."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TypeAlias

import numpy as np

from ..engine.autograd import grad
from ..engine.primitive import Primitive
from ..engine.tape import Edge, context
from ..engine.tensor import Operand, Tensor, Value, shape_of
from ..engine.walk import ancestors, pull_back
from .jacobian import step_jacobian
from .kinds import is_ours
from .moves import Moves
from .nests import edge_to, floats, one_for
from .terms import StepJacobian

Gradients: TypeAlias = dict[str, Value]


class StepRecord:
    """A step of a recurrence, recorded from leaves that hold the state before it.

    Args:
        loss: the sum of its losses, one element; None: none.
        before: the state before the step, leaves of the graph.
        after: the state after it.
        parameters: name to leaf.
        moves: the memory of what operations move where.
    """

    def __init__(
        self, loss: Operand | None, before: object, after: object, parameters: Mapping[str, Tensor], moves: Moves
    ) -> None:
        self.loss, self.parameters, self._moves = loss, dict(parameters), moves
        self._before: list[Tensor] = floats(before)
        self._after: list[Value] = floats(after)

    @property
    def streams(self) -> int:
        """Number of streams: rows of the first part of the state."""
        shape = shape_of(self._before[0]) if self._before else (1,)
        return shape[0] if shape else 1

    @property
    def has_units(self) -> bool:
        """Whether the state has a number that carries a gradient."""
        return any(0 not in part.shape for part in self._before)

    @cached_property
    def edges(self) -> dict[str, Edge]:
        """Name of each parameter to the edge to it."""
        return {name: edge_to(parameter) for name, parameter in self.parameters.items()}

    @cached_property
    def reaching(self) -> list[str]:
        """Names of the parameters that reach the state after the step."""
        edges = [edge for edge in map(_edge, self._after) if edge is not None]
        seen = set(ancestors(edge[0] for edge in edges))
        return [name for name, (node, _) in self.edges.items() if node in seen]

    @property
    def unknown(self) -> list[str]:
        """Names of the user's operations on the way to the state after the step that are not said to be elementwise."""
        nodes = ancestors(edge[0] for edge in map(_edge, self._after) if edge is not None)
        own = (node.operation for node in nodes if isinstance(node.operation, Primitive))
        return sorted({made.name for made in own if not (is_ours(made) or made.elementwise)})

    @cached_property
    def jacobian(self) -> StepJacobian:
        """The derivatives of the state after the step, with links between its parts kept apart."""
        before, after = [edge_to(part) for part in self._before], [_edge(part) for part in self._after]
        return step_jacobian(after, before, self.edges, self.streams, self._moves)

    def zeros(self) -> list[Value]:
        """Return zeros like the parts of the state."""
        made: list[Value] = [np.zeros(part.shape, part.dtype) for part in self._before]
        return made

    def loss_terms(self, apart: Sequence[int] | None = None) -> tuple[Gradients, list[Value], list[Value]]:
        """Return the gradient of the step's own loss in three parts, which do not overlap.

        Args:
            apart: numbers of the parts of the state after the step that end the walk; None: all. Others are walked
                through.

        Returns:
            The gradient of the parameters with the state after the step held (those of the head), the cotangents of
            the state after it, and those of the state before it that do not pass through the state after it.
        """
        stop, wanted = self.ends(apart)
        found: dict[Edge, Value] = {}
        if isinstance(self.loss, Tensor) and self.loss.node is not None:
            tracer = context().tracer
            seeds = [((self.loss.node, self.loss.index), one_for(self.loss))]
            found = pull_back(seeds, wanted, None if tracer is None else tracer.lift, stop=stop)
        return self.as_terms(found, stop)

    def ends(self, apart: Sequence[int] | None) -> tuple[set[Edge], list[Edge]]:
        """Return the edges that end the walk of `loss_terms`, and those of which it returns the cotangents."""
        after = [_edge(part) for part in self._after]
        stop = {edge for number, edge in enumerate(after) if edge and (apart is None or number in apart)}
        return stop, [*self.edges.values(), *stop, *map(edge_to, self._before)]

    def as_terms(self, found: Mapping[Edge, Value], stop: set[Edge]) -> tuple[Gradients, list[Value], list[Value]]:
        """Return the cotangents that arrived at the ends as the three parts of `loss_terms`."""
        direct = {name: found[edge] for name, edge in self.edges.items() if edge in found and edge not in stop}
        deltas, past = self.zeros(), self.zeros()
        left = {edge: value for edge, value in found.items() if edge in stop}
        for number, part in enumerate(self._after):
            edge = _edge(part)
            if edge in left:  # a Tensor that is two parts of the state counts as the first
                deltas[number] = left.pop(edge)
        for number, part in enumerate(self._before):
            edge = edge_to(part)
            if edge not in stop and edge in found:  # a part that is handed on as it is counts as one after the step
                past[number] = found[edge]
        return direct, deltas, past

    def pull(self, cotangents: Sequence[Value]) -> Gradients:
        """Return the cotangents of the parameters for cotangents of the state after the step, the state before held."""
        tracer = context().tracer
        seeds = [
            ((part.node, part.index), cotangent)
            for part, cotangent in zip(self._after, cotangents, strict=True)
            if isinstance(part, Tensor) and part.node is not None
        ]
        found = pull_back(seeds, self.edges.values(), None if tracer is None else tracer.lift)
        zeros: Gradients = {name: np.zeros(p.shape, p.dtype) for name, p in self.parameters.items()}
        return {name: found.get(edge, zeros[name]) for name, edge in self.edges.items()}

    def push(self, states: Sequence[Value], parameters: Mapping[str, Value] | None = None) -> list[Value]:
        """Return the tangents of the state after the step.

        J^T u is linear in u, so its derivative by u in the direction v is J v. Source: Townsend 2017.

        Args:
            states: tangents of the state before it.
            parameters: tangents of the parameters; None: zero.
        """
        directions = [*states, *(() if parameters is None else (parameters[name] for name in self.parameters))]
        sources = [*self._before, *(() if parameters is None else self.parameters.values())]
        recorded = [part for part in self._after if isinstance(part, Tensor) and part.node is not None]
        tangents: dict[int, Value] = {}
        if recorded:
            seeds = [_leaf(part) for part in recorded]
            pulled: list[Value] = grad(recorded, sources, cotangent=seeds, create_graph=True, allow_unused=True)
            pairs = [
                (part, direction)
                for part, direction in zip(pulled, directions, strict=True)
                if isinstance(part, Tensor) and part.node is not None
            ]
            if pairs:
                ys, weights = zip(*pairs, strict=True)
                made: Sequence[Value] = grad(list(ys), seeds, cotangent=list(weights), allow_unused=True)
                tangents = {id(part): tangent for part, tangent in zip(recorded, made, strict=True)}
        return [tangents.get(id(part), zero) for part, zero in zip(self._after, self.zeros(), strict=True)]


def _edge(part: Value) -> Edge | None:
    return (part.node, part.index) if isinstance(part, Tensor) and part.node is not None else None


def _leaf(part: Tensor) -> Tensor:
    """Return zeros like a Tensor, as a leaf."""
    tracer = context().tracer
    zeros = np.zeros(part.shape, part.dtype)
    if tracer is None:
        return Tensor(zeros, requires_grad=True)
    made = tracer.alone(zeros, is_leaf=True)
    assert isinstance(made, Tensor)
    return made
