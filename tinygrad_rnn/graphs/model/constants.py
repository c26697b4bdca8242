"""Names of the arrays that a step reads but did not compute: its input x, constants, masks, and other data.

Only the arrays themselves tell them apart. If the sequence is known, x is what equals its slice. Otherwise x is what
differs from step to step, first of all what is multiplied with weights; if nothing differs, the best guess.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np

from ...engine.tape import Node
from .graph import Edge, Graph, Place, Use
from .names import spots_of

_Group = list[Edge]
"""What the nodes at one spot read as their input of one number, one for each step."""


class Constants:
    """The names of the constants of a graph.

    Args:
        graph: what was recorded.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> from tinygrad_rnn.graphs.model.graph import read
    >>> W, h = tr.tensor(np.ones((2, 2)), requires_grad=True), 0.0
    >>> for t in range(3):
    ...     with tr.at_step(t):
    ...         h = np.tanh(np.full((1, 2), t) @ W + h) * np.array([1.0, 2.0])
    >>> graph = read([np.sum(h)])
    >>> constants = Constants(graph)
    >>> edges = [edge for node in graph.nodes for edge in graph.edges(node)]
    >>> [constants.name(edge) for edge in edges if edge.source is None and edge.spec.ndim][-2:]
    ['x', 'const']
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def name(self, edge: Edge) -> str:
        """Return "x" for the input of a step, "mask" for booleans, "const" for what is equal in all steps, or "data".

        What only the first step reads, because the initial state is a constant, has the name that it has later.
        """
        if edge.use in self._ranks:
            return "x"
        later = self.later(edge.use)
        if later is not None and later.source is not None:
            return self.graph.name(later.source, later.output) or ("s" if self.starts(edge.use) else "data")
        if edge.use[0].step is None and edge.use[0].name == "matmul":  # the input of a layer without time
            return "x"
        if edge.spec.dtype.kind == "b":
            return "mask"
        return "const" if self.is_fixed(edge.use) else "data"

    def is_fixed(self, use: Use) -> bool:
        """Return whether a use reads the same numbers in each step, and is not the input."""
        group = self.at_spot(use)
        return bool(group) and use not in self._ranks and _known(group) and not _differs(group)

    def is_input(self, use: Use, certain: bool = False) -> bool:
        """Return whether a use reads the input of its step; `certain`: it is no guess."""
        return use in self._ranks and (not certain or self._ranks[use] <= 1)

    def later(self, use: Use) -> Edge | None:
        """Return the edge at the same spot of a later step, if that reads no constant; else None."""
        edges = self.at_spot(use)
        return next((edge for edge in edges if edge.source is not None and edge.source.step is not None), None)

    def at_spot(self, use: Use) -> list[Edge]:
        """Return the edges at the spot of a use, one for each step that has it; [] outside time."""
        node, number = use
        return [] if node.step is None else self._groups[self._spots[node], number]

    def states_behind(self, use: Use) -> set[Place]:
        """Return the states from which later steps compute what a use reads as a constant in the first step."""
        later = self.later(use)
        if later is None:
            return set()
        step = later.use[0].step
        found: set[Place] = set()
        seen: set[Node] = set()
        waiting = [later]
        while waiting:
            edge = waiting.pop()
            source = edge.source
            if source is None or source.operation is None or source in seen:
                continue
            if source.step != step:
                found.add((source, edge.output))
                continue
            seen.add(source)
            waiting += self.graph.edges(source)
        return found

    def starts(self, use: Use) -> bool:
        """Return whether a use reads an initial state: later steps read there what the step before has computed."""
        later = self.later(use)
        return later is not None and later.source is not None and later.source.step != later.use[0].step

    @cached_property
    def _spots(self) -> Mapping[Node, object]:
        return spots_of(node for node in self.graph.nodes if node.step is not None)

    @cached_property
    def _groups(self) -> Mapping[object, _Group]:
        found: dict[object, _Group] = {}
        for node, spot in self._spots.items():
            for number, edge in enumerate(self.graph.edges(node)):
                found.setdefault((spot, number), []).append(edge)
        return found

    @cached_property
    def _ranks(self) -> Mapping[Use, int]:
        """Use of an input of a step to how certain it is: 0 is that of the sequence, 5 a guess."""
        groups = [
            group
            for group in self._groups.values()
            if all(edge.source is None and not edge.cuts and edge.spec.ndim for edge in group)
        ]
        ranks = [(rank, group) for group in groups if (rank := self._rank(group)) is not None]
        best = min((rank for rank, _ in ranks), default=0)
        chosen = [(rank, group) for rank, group in ranks if rank <= max(best, 1 if best else 0)]
        return {edge.use: rank for rank, group in chosen for edge in group}

    def _rank(self, group: _Group) -> int | None:
        """Return how likely an array is the input of the steps, 0 for certain; None if it is not."""
        first = group[0]
        node, number = first.use
        if self._is_slice(group):
            return 0
        if first.spec.dtype.kind == "b":
            return None
        factor = node.name == "matmul" and number == 0
        if _known(group) and _differs(group):
            return 1 if factor else None if self._has_inputs else 2
        if self._has_inputs or first.spec.ndim < 2:
            return None
        if not _known(group):
            return 3
        if self.graph.sequence is not None and np.ptp(self.graph.sequence, axis=1).any():
            return None  # the sequence differs from step to step, and this array does not
        return 4 if factor else 5 if first.spec.shape[:1] == node.specs[0].shape[:1] else None

    @cached_property
    def _has_inputs(self) -> bool:
        """Whether the steps read ids, or slices of a recorded sequence."""
        return any(
            edge.use[0].name == "take" or (edge.source is not None and edge.source.name == "unstack")
            for group in self._groups.values()
            for edge in group
        )

    def _is_slice(self, group: _Group) -> bool:
        """Return whether each step reads its slice of the sequence, as far as the arrays were kept."""
        xs = self.graph.sequence
        if xs is None:
            return False
        steps = [(edge, edge.use[0].step) for edge in group]
        slices = [(edge, xs[:, step]) for edge, step in steps if step is not None and step < xs.shape[1]]
        return len(slices) == len(group) and all(
            edge.spec == (x.shape, x.dtype)
            and (
                not isinstance(edge.constant, np.ndarray)
                or np.array_equal(edge.constant, x, equal_nan=x.dtype.kind in "fc")
            )
            for edge, x in slices
        )


def _known(group: _Group) -> bool:
    """Return whether the arrays were kept."""
    return all(isinstance(edge.constant, np.ndarray) for edge in group)


def _differs(group: _Group) -> bool:
    """Return whether the arrays of two steps differ."""
    first, *others = (np.asarray(edge.constant) for edge in group)
    return any(first.shape != array.shape or first.tobytes() != array.tobytes() for array in others)
