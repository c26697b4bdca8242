"""Random feedback: the walk back from a loss, with fixed random matrices in place of those of the forward pass.

Source: Lillicrap et al. 2016, Random synaptic feedback weights support error backpropagation for deep learning.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import cast

import numpy as np

from ..engine.tape import Array, Edge, Node, context
from ..engine.tensor import Tensor, Value
from ..engine.walk import Lift, ancestors, pull_back, rule_results
from .kinds import ELEMENTWISE, MOVES
from .nests import one_for
from .record import Gradients, StepRecord


class Feedback:
    """The random matrices of one sequence, one for each matrix that a learning signal meets, drawn when it first does.

    A matrix (D, V), or a vector (D,), that multiplies rows of D is replaced by normal numbers of variance 1/D.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._drawn: dict[str, Array] = {}

    def state_dict(self) -> dict[str, object]:
        """Return the matrices by name, and the generator that draws further ones."""
        return {"drawn": dict(self._drawn), "rng": copy.deepcopy(self._rng)}

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Take what `state_dict` returned."""
        self._drawn = dict(cast("dict[str, Array]", state["drawn"]))
        self._rng.bit_generator.state = cast(np.random.Generator, state["rng"]).bit_generator.state

    def bound(self, record: StepRecord) -> Callable[..., tuple[Gradients, list[Value], list[Value]]]:
        """Return `loss_terms` of a record with random feedback."""
        return lambda apart=None: self._loss_terms(record, apart)

    def _loss_terms(
        self, record: StepRecord, apart: Sequence[int] | None
    ) -> tuple[Gradients, list[Value], list[Value]]:
        loss = record.loss
        if not isinstance(loss, Tensor) or loss.node is None:
            return record.loss_terms(apart)
        stop, wanted = record.ends(apart)
        products = _products(loss.node, {edge: name for name, edge in record.edges.items()})
        tracer = context().tracer
        lift = None if tracer is None else tracer.lift
        waiting: dict[Edge, Value] = {(loss.node, loss.index): one_for(loss)}
        found: dict[Edge, Value] = {}
        while waiting:
            edge = max(waiting, key=lambda edge: edge[0].id)
            cotangent = waiting.pop(edge)
            if edge in products:
                arrived, back = self._product(edge[0], *products[edge], cotangent, lift)
                _add(waiting, *back)
            else:
                arrived = pull_back([(edge, cotangent)], [*wanted, *products], lift, stop={*stop, *products})
            for place, value in arrived.items():
                _add(waiting if place in products else found, place, value)
        return record.as_terms(found, stop)

    def _product(
        self, node: Node, side: int, name: str, cotangent: Value, lift: Lift[Value] | None
    ) -> tuple[dict[Edge, Value], tuple[Edge, Value]]:
        """Return the cotangent of the matrix, which is exact, and that of the other side, through the random matrix."""
        matrix, other = node.edges[side], node.edges[1 - side]
        assert matrix is not None
        assert other is not None
        spec = matrix[0].specs[matrix[1]]
        if name not in self._drawn:
            inner = spec.shape[-2:][0] if side else spec.shape[-1]
            self._drawn[name] = (self._rng.standard_normal(spec.shape) / np.sqrt(inner)).astype(spec.dtype)
        found = pull_back([((node, 0), cotangent)], [matrix], lift)
        random = copy.copy(node)
        random.inputs = tuple(self._drawn[name] if place == side else part for place, part in enumerate(node.inputs))
        random.edges = tuple(None if place == side else edge for place, edge in enumerate(node.edges))
        back: Sequence[Value | None] = list(rule_results(random, [cotangent], [side == 1, side == 0], lift, fit=True))
        value = back[1 - side]
        assert value is not None
        return found, (other, value)


def _products(end: Node, names: Mapping[Edge, str]) -> dict[Edge, tuple[int, str]]:
    """Return the products with a matrix on the way to `end`: which side it is on, and its name.

    A matrix is a parameter, or what operations on elements or moves of elements make of parameters and constants, such
    as W.T or W * mask.
    """
    matrices, found = dict(names), dict[Edge, tuple[int, str]]()
    for node in reversed(ancestors([end])):
        edges = [edge for edge in node.edges if edge is not None]
        if node.name == "matmul" and len(edges) == 2:
            sides = [side for side in (1, 0) if edges[side] in matrices]
            if sides:
                found[node, 0] = sides[0], matrices[edges[sides[0]]]
        elif node.name in ELEMENTWISE | MOVES and edges and all(edge in matrices for edge in edges):
            made = f"{node.name}({', '.join(matrices[edge] for edge in edges)}) {node.attrs}"
            matrices |= {(node, index): f"{made}[{index}]" for index in range(len(node.specs))}
    return found


def _add(table: dict[Edge, Value], edge: Edge, value: Value) -> None:
    table[edge] = table[edge] + value if edge in table else value
