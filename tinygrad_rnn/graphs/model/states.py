"""States and cells: which values are carried from step to step, and which operations make them."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any

from ...engine.tape import Node
from .components import cycles
from .graph import Place
from .web import Kind, Web


class States:
    """The states of a graph.

    Args:
        web: the graph.
        members: the operations that are drawn, oldest first.

    Attributes:
        places: the values that another step reads, or would read in a last step, oldest first.
        masks: operation to the spots of states (as bits) that it leads to within its step.
        cells: spot of a state (its bit) to the row of its cell, lower ones first.
    """

    def __init__(self, web: Web, members: Sequence[Node]) -> None:
        self.web, self.members = web, members
        self.spots = self._spots()
        self.places = self._find()
        self.bits: dict[Hashable, int] = {}
        self.masks = self._reach()
        self.cells = self._cells()

    def cell_of(self, node: Node) -> Kind | None:
        """Return the row of the cell that an operation belongs to, the lowest that it leads to in its module."""
        kinds = [self.cells[bit] for bit in bits_of(self.masks.get(node, 0))]
        own = [kind for kind in kinds if kind.scope == node.scope]
        return min(own, key=self.order.__getitem__, default=None)

    def _spots(self) -> dict[Node, Hashable]:
        """Return where in the program each node was made: the line, and the how-manieth time in its step."""
        seen: dict[Hashable, int] = {}
        spots: dict[Node, Hashable] = {}
        for node in self.members:
            if node.step is None:
                continue
            key = (node.step, node.scope, node.name, id(node.site[0]), node.site[1])  # a code object hashes slowly
            seen[key] = number = seen.get(key, -1) + 1
            spots[node] = (*key[1:], number)
        return spots

    def _find(self) -> list[Place]:
        """Return the values that another step reads; in a last step, those at the same self.spots of the program."""
        crossing: dict[Place, None] = {}
        for node in self.members:
            for source in self.web.inputs[node]:
                place = source.place
                if node.step is None or place is None or place[0] not in self.spots:
                    continue
                if place[0].step != node.step:
                    crossing[place] = None
        last: dict[Hashable, Node] = {}
        for node, spot in self.spots.items():
            last[spot] = node
        found = dict(crossing)
        for node, index in crossing:
            found.setdefault((last[self.spots[node]], index))
        for place in list(found):  # where a mask chooses between a new state and the old one, the choice is the state
            readers = self.web.readers.get(place[0], ())
            if place not in crossing and any(r.name == "where" and (r, 0) in found for r in readers):
                del found[place]
        return sorted(found, key=lambda place: (self.web.graph.number[place[0]], place[1]))

    def _reach(self) -> dict[Node, int]:
        """Return for each node the set (as bits) of the spots of states that it leads to within its step."""
        masks: dict[Node, int] = {}
        for place in self.places:
            bit = self.bits.setdefault((self.spots[place[0]], place[1]), len(self.bits))
            masks[place[0]] = masks.get(place[0], 0) | 1 << bit
        for node in reversed(self.members):
            mask = masks.get(node, 0)
            if not mask or node.step is None:
                continue
            for source in self.web.inputs[node]:
                if source.place is not None and source.place[0].step == node.step:
                    masks[source.place[0]] = masks.get(source.place[0], 0) | mask
        return masks

    def _cells(self) -> dict[int, Kind]:
        """Return for each spot of a state (its bit) the row of its cell."""
        bit_of = {place: self.bits[self.spots[place[0]], place[1]] for place in self.places}
        depends: dict[int, set[int]] = {bit: set() for bit in bit_of.values()}  # state to states that it is made from
        for node in self.members:
            for source in self.web.inputs[node]:
                if source.place in bit_of:
                    for bit in bits_of(self.masks.get(node, 0)):
                        depends[bit].add(bit_of[source.place])
        site = {bit: _line(key) for key, bit in self.bits.items()}
        found: dict[int, Kind] = {}
        rows: dict[tuple[str, ...], list[set[int]]] = {}
        for cycle in cycles(depends):  # those that others are made from come first
            scope = site[cycle[0]][0]
            earlier = rows.setdefault(scope, [])
            sites = {site[bit][1:] for bit in cycle}
            # States that were recorded in one module belong to one cell, but for the same line again: a second layer.
            if scope and earlier and not sites & {site[bit][1:] for bit in earlier[-1]}:
                earlier[-1].update(cycle)
            else:
                earlier.append(set(cycle))
            found.update((bit, Kind("cell", scope, len(earlier) - 1)) for bit in cycle)
        self.order = {kind: number for number, kind in enumerate(dict.fromkeys(found.values()))}
        return found


def _line(key: Any) -> tuple[Any, ...]:
    """Return scope, operation and line of a state's key."""
    spot: tuple[Any, ...] = key[0]
    return spot[:4]


def bits_of(mask: int) -> Iterable[int]:
    """Yield the numbers of the bits that are set."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low
