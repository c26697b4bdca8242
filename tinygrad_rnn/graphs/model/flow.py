"""The flow of the gradient: the magnitude of the cotangent on each edge of a graph.

A magnitude is the Euclidean norm of a cotangent, sqrt(sum of its squares), in units of the loss per unit of the value.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

import numpy as np

from ...engine.tape import Array, Node
from ...engine.walk import Observer, ancestors, pull_back
from .graph import Graph, Pass, Place, Use

VANISHED = 1e-7
"""A magnitude below this fraction of the largest one in the picture counts as vanished."""

_K = TypeVar("_K", bound=Hashable)


def norm(value: Array) -> float:
    """Return sqrt(sum(|x|**2)), computed in float64; nan or inf if an element is not finite.

    >>> norm(np.array([3.0, 4.0], np.float32))
    5.0
    """
    wide = np.ravel(value).astype(np.complex128 if np.iscomplexobj(value) else np.float64)
    with np.errstate(all="ignore"):
        return float(np.linalg.norm(wide))


@dataclass(frozen=True)
class Flow:
    """A graph with the magnitudes of the gradient of its losses, which are unknown in `Flow(graph)`.

    Attributes:
        graph: the recorded graph.
        losses: the places at which the gradient starts, each with a cotangent of ones.
        terms: use to the norm of the cotangent that comes back from that use alone; without those that no gradient
            passes.
        totals: place to the norm of its total cotangent, the sum over its uses; without those where none arrives.

    >>> import tinygrad_rnn as tr
    >>> from tinygrad_rnn.graphs.model.graph import read
    >>> w = tr.tensor(3.0, requires_grad=True)
    >>> loss = w * 2.0 + w
    >>> flow = flow_of(read([loss]))
    >>> flow.totals.get((w.node, 0)), sorted(flow.terms.values())
    (3.0, [1.0, 1.0, 2.0])
    """

    graph: Graph
    losses: tuple[Place, ...] = ()
    terms: Mapping[Use, float] = field(default_factory=dict)
    totals: Mapping[Place, float] = field(default_factory=dict)

    @property
    def measured(self) -> bool:
        """Whether the gradient is known."""
        return bool(self.losses)

    @cached_property
    def largest(self) -> float:
        """The largest finite magnitude of all edges; 0 if there is none."""
        return max((m for m in self.terms.values() if math.isfinite(m)), default=0.0)

    def warning(self, magnitude: float | None) -> str:
        """Return "not finite" or "vanished" for such a magnitude, "" for any other."""
        if magnitude is None:
            return ""
        if not math.isfinite(magnitude):
            return "not finite"
        return "vanished" if magnitude < VANISHED * self.largest else ""

    def joint(self, bundles: Mapping[_K, Sequence[Use]]) -> dict[_K, float]:
        """Return, for each bundle of uses, the norm of the *sum* of the cotangents that come back from them.

        A GRU reads its state three times: the gradient of the state edge is the norm of the sum of three terms. If any
        bundle has several uses, this costs one more backward pass. Bundles without a gradient are omitted.

        Args:
            bundles: any key to uses of values of one shape.
        """
        known = {key: [use for use in uses if use in self.terms] for key, uses in bundles.items()}
        found = {key: self.terms[uses[0]] for key, uses in known.items() if len(uses) == 1}
        left = {key: len(uses) for key, uses in known.items() if len(uses) > 1}
        members: dict[Use, list[_K]] = {}
        for key in left:
            for use in known[key]:
                members.setdefault(use, []).append(key)
        sums: dict[_K, Array] = {}

        def observe(node: Node, number: int, cotangent: Array) -> None:
            for key in members.get((node, number), ()):
                sums[key] = cotangent if key not in sums else sums[key] + cotangent
                left[key] -= 1
                if not left[key]:  # complete: its array can go
                    found[key] = norm(sums.pop(key))

        if left:
            _walk(self.graph, self.losses, observe)
        return found


def flow_of(graph: Graph, losses: Iterable[Place] | None = None) -> Flow:
    """Return the flow of the gradient of some losses (None: all of the graph); several losses are summed.

    Raises:
        GradientError: if the graph was consumed by an earlier backward().
    """
    starts = tuple(graph.losses if losses is None else losses)
    terms: dict[Use, float] = {}
    left = {place: len(uses) for place, uses in graph.uses.items()}
    sums: dict[Place, Array] = {place: np.ones(place[0].specs[place[1]].shape) for place in starts}
    totals = {place: norm(value) for place, value in sums.items()}

    def observe(node: Node, number: int, cotangent: Array) -> None:
        terms[node, number] = norm(cotangent)
        place = node.edges[number]
        assert place is not None
        sums[place] = cotangent if place not in sums else sums[place] + cotangent
        left[place] -= 1
        if not left[place]:
            totals[place] = norm(sums.pop(place))
        if node.operation is not None:  # the walk has passed this node, so the cotangents of its outputs are complete
            for index in range(len(node.specs)):
                if (node, index) in sums:
                    totals[node, index] = norm(sums.pop((node, index)))

    _walk(graph, starts, observe)
    totals.update((place, norm(value)) for place, value in sums.items())
    if graph.credit is not None:  # the part of it that is carried forward flows back along no edge
        gradients = graph.credit.gradients
        totals.update(((p.node, 0), norm(gradients[p.name])) for p in graph.parameters if p.name in gradients)
    return Flow(graph, starts, terms, totals)


def _walk(graph: Graph, starts: tuple[Place, ...], observe: Observer[Array]) -> None:
    """Call `observe` with the cotangent of each edge, summed over the passes of the graph if there are several."""
    if not graph.passes or starts != graph.losses:
        _pull(starts, observe)
        return
    found, own = dict[Use, Array](), dict[Use, Array]()
    _pull(starts, lambda node, number, cotangent: own.update({(node, number): cotangent}))
    for one in graph.passes:

        def add(node: Node, number: int, cotangent: Array, one: Pass = one) -> None:
            use = one.node.get(node, node), number
            found[use] = found[use] + cotangent if use in found else cotangent

        _pull(one.seeds, add)
    below = set(ancestors(one.node[node] for one in graph.passes for node, _ in one.seeds))
    found.update((use, value) for use, value in own.items() if use[0] not in below)  # the sum of losses
    for node, number in sorted(found, key=lambda use: (-use[0].id, use[1])):
        observe(node, number, found[node, number])


def _pull(starts: Iterable[Place], observe: Observer[Array]) -> None:
    seeds = [((node, index), np.ones(node.specs[index].shape, node.specs[index].dtype)) for node, index in starts]
    with np.errstate(all="ignore"):  # a gradient that is not finite is drawn, with a mark
        pull_back(seeds, observe=observe)
