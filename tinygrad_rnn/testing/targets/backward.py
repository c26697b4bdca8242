"""The backward pass under test, and checks that it is deterministic and writes to no shared memory."""

from __future__ import annotations

import itertools
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ...engine.arrays import frozen_copy
from ...engine.autograd import grad
from ...engine.tape import Array, Node, enable_grad
from ...engine.tensor import Tensor
from ...engine.walk import ancestors, pull_back
from ..oracles import rounding_error

Place = tuple[Node, int]


@dataclass
class BackwardPass:
    """A gradient under test, and the graph that it was taken through."""

    gradients: dict[str, Array]  # by leaf; zeros for a leaf that no gradient reaches
    reached: set[str]  # names of the leaves that the graph leads to
    nodes: list[Node]  # of the graph, newest first
    seeds: list[tuple[Place, Array]] = field(default_factory=list)  # where the pass starts, each with its cotangent
    places: dict[str, Place] = field(default_factory=dict)  # of the leaves that are in the graph
    failures: list[str] = field(default_factory=list)  # forbidden side effects of the pass

    @property
    def cuts(self) -> list[Node]:
        """The cuts that change the cotangent, newest first."""
        return [node for node in self.nodes if node.name == "cut" and node.attrs.get("scale", 1) != 1]

    @property
    def eps(self) -> float:
        """The largest rounding error of the operations; 0 if there are none."""
        return rounding_error(spec.dtype for node in self.nodes if node.operation is not None for spec in node.specs)


def backward_pass(ys: Sequence[Tensor], cotangents: Sequence[Array], leaves: Mapping[str, Tensor]) -> BackwardPass:
    """Return the gradient of sum(cotangent * y), as `grad` gives it, with the failures of the pass."""
    pairs = zip(ys, cotangents, strict=True)
    seeds = [((y.node, y.index), frozen_copy(c, y.dtype)) for y, c in pairs if y.node is not None]
    nodes, places = graph_of((node for (node, _), _ in seeds), leaves)
    zeros = {name: np.zeros(leaf.shape) for name, leaf in leaves.items()}
    found = BackwardPass(zeros, set(places), nodes, seeds, places)
    if not seeds:
        return found
    try:
        found.gradients = grad(list(ys), dict(leaves), cotangent=list(cotangents), allow_unused=True)
        again, changed = _watched(seeds, places)
    except ValueError as error:
        if "read-only" not in str(error):
            raise
        at = traceback.extract_tb(error.__traceback__)[-1]
        found.failures.append(f"cotangent changed: a rule wrote into an array it was given ({at.filename}:{at.lineno})")
        return found
    repeated = {name: again.get(place) for name, place in places.items()}
    found.failures += [*changed, *differing(found.gradients, repeated), *sharing(found.gradients, leaves)]
    return found


def graph_of(ends: Iterable[Node], leaves: Mapping[str, Tensor]) -> tuple[list[Node], dict[str, Place]]:
    """Return the nodes that lead to some ends, newest first, and the leaves that are among them."""
    nodes = ancestors(ends)
    among = set(nodes)
    return nodes, {
        name: (leaf.node, 0) for name, leaf in leaves.items() if leaf.node is not None and leaf.node in among
    }


def _watched(seeds: list[tuple[Place, Array]], places: Mapping[str, Place]) -> tuple[Mapping[Place, Array], list[str]]:
    """Run the pass once more, and check whether a rule writes into its cotangent."""
    carried: list[tuple[Node, Array, Array]] = []

    def observe(node: Node, number: int, value: Array) -> None:
        edge = node.edges[number]
        assert edge is not None
        carried.append((edge[0], value, np.array(value)))

    with enable_grad():
        found = pull_back(seeds, places.values(), observe=observe)
    changed = {
        f"cotangent changed: the rule of {node.name} wrote into the cotangent it was given (recorded at {node.where()})"
        for node, value, before in carried
        if np.asarray(value).tobytes() != before.tobytes()
    }
    return found, sorted(changed)


def differing(first: Mapping[str, Array], second: Mapping[str, Array | None]) -> list[str]:
    """Return a failure for each gradient that is not bitwise the same in a second pass."""
    return [
        f"not repeatable: a second backward pass gave different bits for {name}"
        for name, again in second.items()
        if again is not None and np.asarray(again).tobytes() != first[name].tobytes()
    ]


def sharing(gradients: Mapping[str, Array], leaves: Mapping[str, Tensor]) -> list[str]:
    """Return a failure for each pair of gradients that share memory, and for each that shares it with a leaf."""
    ours = [(f"the gradient of {name}", g) for name, g in gradients.items()]
    values = [(f"the values of {name}", leaf.data) for name, leaf in leaves.items()]
    pairs = [*itertools.combinations(ours, 2), *itertools.product(ours, values)]
    return [f"memory shared: {a} and {b}" for (a, one), (b, other) in pairs if np.may_share_memory(one, other)]
