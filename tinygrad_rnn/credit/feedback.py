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
from ..engine.walk import ancestors, pull_back
from .nests import one_for
from .record import Gradients, StepRecord


class Feedback:
    """The random matrices of one sequence, one for each matrix that a learning signal meets, drawn when it first does.

    A matrix (D, V) is replaced by normal numbers of variance 1/D.
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
        names = {edge: name for name, edge in record.edges.items()}
        stop, wanted = record.ends(apart)
        products = {
            (node, 0): names[node.edges[1]]
            for node in ancestors([loss.node])
            if node.name == "matmul" and node.edges[0] is not None and node.edges[1] in names
        }
        tracer = context().tracer
        lift = None if tracer is None else tracer.lift
        waiting: dict[Edge, Value] = {(loss.node, loss.index): one_for(loss)}
        found: dict[Edge, Value] = {}
        while waiting:
            edge = max(waiting, key=lambda edge: edge[0].id)
            cotangent = waiting.pop(edge)
            if edge in products:
                arrived, back = self._product(edge[0], products[edge], cotangent, lift)
                _add(waiting, *back)
            else:
                arrived = pull_back([(edge, cotangent)], [*wanted, *products], lift, stop={*stop, *products})
            for place, value in arrived.items():
                _add(waiting if place in products else found, place, value)
        return record.as_terms(found, stop)

    def _product(
        self, node: Node, name: str, cotangent: Value, lift: Callable[[Array, Edge], Value] | None
    ) -> tuple[dict[Edge, Value], tuple[Edge, Value]]:
        """Return the cotangent of the matrix, which is exact, and that of the rows, through the random matrix."""
        left, right = node.edges
        assert left is not None
        assert right is not None
        shape = right[0].specs[right[1]].shape
        if name not in self._drawn:
            drawn = self._rng.standard_normal(shape) / np.sqrt(shape[0])
            self._drawn[name] = drawn.astype(right[0].specs[right[1]].dtype)
        found = pull_back([((node, 0), cotangent)], [right], lift)
        return found, (left, cotangent @ self._drawn[name].T)


def _add(table: dict[Edge, Value], edge: Edge, value: Value) -> None:
    table[edge] = table[edge] + value if edge in table else value
