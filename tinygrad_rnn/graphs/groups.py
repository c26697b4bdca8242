"""Cells, heads and losses, found in a recorded graph: what the unrolled view draws as one box each.

Nobody says where a cell begins: a user's own is any function. What the record tells is enough: a value that another
step reads is a state; the operations that lead to it within its step are its cell; states that depend on each other,
going round, belong to one cell; what is computed from a cell for no later step is a head; a single number that is only
added up on its way to the loss is a loss of its step. Operations outside time (on a whole sequence) are grouped by the
module that they were recorded in.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ..engine.tape import Node
from .components import components, cycles
from .read import Place, Source, Story, Use

MOVING = frozenset(
    [
        "stack",
        "unstack",
        "concatenate",
        "split",
        "reshape",
        "transpose",
        "take_along",
        "getitem",
        "broadcast_to",
        "astype",
        "squeeze",
    ]
)
"""Operations that only move elements."""

_ADDING = frozenset(("add", "subtract", "negative"))
_SCALING = frozenset(("multiply", "divide"))


class Kind(NamedTuple):
    """What groups of different steps have in common: one row of the picture.

    Attributes:
        role: "cell", "layer" (a head, an embedding, ...) or "loss".
        scope: the module that it was recorded in.
        number: tells rows of one role and scope apart.
    """

    role: str
    scope: tuple[str, ...]
    number: int


@dataclass(eq=False)
class Group:
    """Nodes that are drawn as one box.

    Attributes:
        kind: its row.
        step: as recorded; None: on the whole sequence.
        nodes: oldest first.
        states: places of it that later steps read (or would read, in the last step).
    """

    kind: Kind
    step: int | None
    nodes: list[Node] = field(default_factory=list)
    states: list[Place] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Link:
    """An edge between two boxes: all uses of one value in one group.

    Attributes:
        tail: the group that made the value; None for a parameter or a constant.
        place: the value; None: a constant, or freed behind a closed cut.
        head: the group that reads it; None: the total loss `loss`.
        uses: where it is read.
        cuts: cut nodes on the way, the nearest to the reader first.
        loss: for a term of a loss, which.
    """

    tail: Group | None
    place: Place | None
    head: Group | None
    uses: tuple[Use, ...]
    cuts: tuple[Node, ...] = ()
    loss: int | None = None


@dataclass(frozen=True)
class Groups:
    """The groups of a story.

    Attributes:
        groups: oldest first.
        of: node to its group; nodes on the way from a loss to its terms, cuts and leaves are in none.
        links: between groups, and from parameters (a leaf, or what is computed from leaves alone) to groups.
        terms: of each loss, the places that it adds up; itself if it adds up nothing.
        sums: of each loss, the nodes that do so.
        weights: node outside time that is computed from leaves alone, to these leaves.
        constants: group to arrays, or their Specs, that it reads and that no node made.
    """

    groups: tuple[Group, ...]
    of: dict[Node, Group]
    links: tuple[Link, ...]
    terms: tuple[tuple[Place, ...], ...]
    sums: tuple[frozenset[Node], ...]
    weights: dict[Node, tuple[Node, ...]]
    constants: dict[Group, list[tuple[Use, Any]]]


def find_groups(story: Story) -> Groups:
    """Return the groups of a story.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> from tinygrad_rnn.graphs.read import read
    >>> cell = tr.LSTMCell(2, 3, np.random.default_rng(0))
    >>> outputs, _ = tr.unroll(cell, np.ones((1, 4, 2)))
    >>> found = find_groups(read([np.sum(outputs * outputs)]))
    >>> [(group.kind.role, group.step, len(group.states)) for group in found.groups]
    [('cell', 0, 2), ('cell', 1, 2), ('cell', 2, 2), ('cell', 3, 2), ('loss', None, 0)]
    """
    return _Finder(story).result()


class _Finder:
    """Sorts nodes into groups, in a few walks over the graph."""

    def __init__(self, story: Story) -> None:
        self.story = story
        self.inputs: dict[Node, tuple[Source, ...]] = {}
        self.readers: dict[Node, list[Node]] = {}
        for node in story.nodes:
            if node.operation is None or node in story.cuts:
                continue
            found = tuple(self._source(node, number) for number in range(len(node.edges)))
            self.inputs[node] = found
            for source in found:
                if source.place is not None:
                    self.readers.setdefault(source.place[0], []).append(node)
        self.weights = self._find_weights()
        self.sums: list[frozenset[Node]] = []
        self.terms: list[tuple[Place, ...]] = []
        for loss in story.losses:
            added, terms = self._sum_behind(loss)
            self.sums.append(frozenset(added))
            self.terms.append(terms)
        passed = frozenset().union(*self.sums, self.weights)
        used = self._used(passed)
        self.members = [node for node in self.inputs if node not in passed and node in used]
        self.kind: dict[Node, Kind] = {}

    # -- what is looked through ----------------------------------------------------------------------------------------

    def _source(self, node: Node, number: int) -> Source:
        """Return where an input comes from, cuts and stacks that an unstack undoes looked through."""
        source = self.story.source(node, number)
        cuts = source.cuts
        while source.place is not None:
            inner, index = source.place
            edge = inner.edges[0] if inner.name == "unstack" else None
            if edge is not None and edge[0].name == "multiply":  # dropout between two layers
                tracked = [other for other in edge[0].edges if other is not None]
                edge = tracked[0] if len(tracked) == 1 else edge
            if edge is None or edge[0].name != "stack" or edge[0].attrs["axis"] != inner.attrs["axis"]:
                break
            source = self.story.source(edge[0], index)
            cuts += source.cuts
        return source if cuts is source.cuts else source._replace(cuts=cuts)

    def _used(self, passed: frozenset[Node]) -> set[Node]:
        """Return the nodes that the losses reach: a stack that every reader undoes is not drawn."""
        waiting = [place[0] for terms in self.terms for place in terms]
        waiting += [source.place[0] for node in passed for source in self.inputs[node] if source.place is not None]
        found: set[Node] = set()
        while waiting:
            node = waiting.pop()
            if node in found or node not in self.inputs:
                continue
            found.add(node)
            waiting += [source.place[0] for source in self.inputs[node] if source.place is not None]
        return found

    def _find_weights(self) -> dict[Node, tuple[Node, ...]]:
        """Return nodes outside time that are computed from leaves and numbers alone, such as W.T."""
        found: dict[Node, tuple[Node, ...]] = {}
        for node, inputs in self.inputs.items():
            if node.step is not None or any(isinstance(value, np.ndarray) for value in node.attrs.values()):
                continue
            leaves: list[Node] = []
            for source in inputs:
                if source.place is None:
                    if source.constant is None or np.ndim(source.constant):
                        break
                elif source.place[0].operation is None:
                    leaves.append(source.place[0])
                elif source.place[0] in found:
                    leaves += found[source.place[0]]
                else:
                    break
            else:
                if leaves and all(spec.shape for spec in node.specs):
                    found[node] = tuple(dict.fromkeys(leaves))
        return found

    def _sum_behind(self, loss: Place) -> tuple[list[Node], tuple[Place, ...]]:
        """Return the nodes that only add up on the way to a loss, and the places that they add up."""
        added: dict[Node, None] = {}
        terms: dict[Place, None] = {}
        waiting = [loss]
        while waiting:
            place = waiting.pop()
            node = place[0]
            if node in added:
                continue
            if node in self.inputs and self._adds_up(node):
                added[node] = None
                waiting += [source.place for source in reversed(self.inputs[node]) if source.place is not None]
            elif node.operation is not None:
                terms[place] = None
        ordered = sorted(terms, key=lambda place: (self.story.number[place[0]], place[1]))
        return (list(added), tuple(ordered)) if ordered else ([], (loss,))

    def _adds_up(self, node: Node) -> bool:
        sources = [source.place for source in self.inputs[node] if source.place is not None]
        single = all(_size(node, index) == 1 for index in range(len(node.specs)))
        if not all(_size(*place) == 1 for place in sources):
            stack = sources[0][0] if len(sources) == 1 else node
            return node.name in ("sum", "mean") and single and stack.name == "stack" and self._adds_up(stack)
        if node.name == "stack":
            return True
        return single and (
            node.name in _ADDING
            or (node.name in _SCALING and len(sources) == 1 and self.inputs[node][0].place is not None)
            or (node.name == "multiply" and len(sources) == 1)
            or (node.name in MOVING | {"sum", "mean"} and len(sources) == 1)
        )

    # -- rows ----------------------------------------------------------------------------------------------------------

    def result(self) -> Groups:
        states = self._find_states()
        masks = self._reach_of_states(states)
        cell_of_state = self._cells(states, masks)
        self._assign_cells(states, masks, cell_of_state)
        self._assign_losses()
        self._assign_layers()
        groups: dict[Hashable, Group] = {}
        of: dict[Node, Group] = {}
        for node in self.members:
            key = (self.kind[node], node.step)
            group = groups.setdefault(key, Group(self.kind[node], node.step))
            group.nodes.append(node)
            of[node] = group
        for place in states:
            of[place[0]].states.append(place)
        links, constants = self._links(of)
        return Groups(tuple(groups.values()), of, links, tuple(self.terms), tuple(self.sums), self.weights, constants)

    def _find_states(self) -> list[Place]:
        """Return the values that another step reads; in a last step, those at the same spots of the program."""
        spots = self._spots()
        crossing: dict[Place, None] = {}
        for node in self.members:
            for source in self.inputs[node]:
                place = source.place
                if node.step is None or place is None or place[0] not in spots:
                    continue
                if place[0].step != node.step:
                    crossing[place] = None
        last: dict[Hashable, Node] = {}
        for node, spot in spots.items():
            last[spot] = node
        found = dict(crossing)
        for node, index in crossing:
            found.setdefault((last[spots[node]], index))
        for place in list(found):  # where a mask chooses between a new state and the old one, the choice is the state
            readers = self.readers.get(place[0], ())
            if place not in crossing and any(r.name == "where" and (r, 0) in found for r in readers):
                del found[place]
        return sorted(found, key=lambda place: (self.story.number[place[0]], place[1]))

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
        self.spots = spots
        return spots

    def _reach_of_states(self, states: list[Place]) -> dict[Node, int]:
        """Return for each node the set (as bits) of the spots of states that it leads to within its step."""
        self.bits: dict[Hashable, int] = {}
        masks: dict[Node, int] = {}
        for place in states:
            bit = self.bits.setdefault((self.spots[place[0]], place[1]), len(self.bits))
            masks[place[0]] = masks.get(place[0], 0) | 1 << bit
        for node in reversed(self.members):
            mask = masks.get(node, 0)
            if not mask or node.step is None:
                continue
            for source in self.inputs[node]:
                if source.place is not None and source.place[0].step == node.step:
                    masks[source.place[0]] = masks.get(source.place[0], 0) | mask
        return masks

    def _cells(self, states: list[Place], masks: dict[Node, int]) -> dict[int, Kind]:
        """Return for each spot of a state (its bit) the row of its cell."""
        bit_of = {place: self.bits[self.spots[place[0]], place[1]] for place in states}
        depends: dict[int, set[int]] = {bit: set() for bit in bit_of.values()}  # state to states that it is made from
        for node in self.members:
            for source in self.inputs[node]:
                if source.place in bit_of:
                    for bit in _bits(masks.get(node, 0)):
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
        return found

    def _assign_cells(self, states: list[Place], masks: dict[Node, int], cells: dict[int, Kind]) -> None:
        order = {kind: number for number, kind in enumerate(dict.fromkeys(cells.values()))}
        for node in self.members:
            kinds = {cells[bit] for bit in _bits(masks.get(node, 0))}
            own = [kind for kind in kinds if kind.scope == node.scope]
            if own and node.step is not None and not _looks_up(node):
                self.kind[node] = min(own, key=order.__getitem__)

    def _assign_losses(self) -> None:
        counts: dict[Hashable, int] = {}
        for terms in self.terms:
            for node, _ in terms:
                if node in self.kind:
                    continue
                key = (node.step, node.scope)
                kind = Kind("loss", node.scope, counts.get(key, 0))
                counts[key] = kind.number + 1
                self.kind[node] = kind
                waiting = [node]
                while waiting:  # what serves this loss alone, and holds no parameter, is part of it
                    for source in self.inputs[waiting.pop()]:
                        inner = source.place[0] if source.place is not None else node
                        if (
                            inner in self.inputs
                            and inner not in self.kind
                            and not source.cuts
                            and (inner.step, inner.scope) == (node.step, node.scope)
                            and not self._has_weights(inner)
                            and all(self.kind.get(reader) == kind for reader in self.readers[inner])
                        ):
                            self.kind[inner] = kind
                            waiting.append(inner)

    def _assign_layers(self) -> None:
        """Group what is left: within a step and module, what hangs together; outside time likewise, phase by phase."""
        phases = self._phases()
        left = [node for node in self.members if node not in self.kind]
        where = {node: (node.step, node.scope, phases[node] if node.step is None else 0) for node in left}
        pairs = [
            (source.place[0], node)
            for node in left
            for source in self.inputs[node]
            if source.place is not None and where.get(source.place[0]) == where[node]
        ]
        counts: dict[Hashable, int] = {}
        moving: list[list[Node]] = []
        for part in components(left, pairs):
            first = part[0]
            if self._is_plain(part):
                moving.append(part)
                continue
            key = (first.step, first.scope)
            kind = Kind("layer", first.scope, counts.get(key, 0))
            counts[key] = kind.number + 1
            self.kind.update((node, kind) for node in part)
        for part in moving:
            kind_of_neighbour = self._neighbour(part)
            first = part[0]
            key = (first.step, first.scope)
            if kind_of_neighbour is None:
                kind_of_neighbour = Kind("layer", first.scope, counts.get(key, 0))
                counts[key] = kind_of_neighbour.number + 1
            self.kind.update((node, kind_of_neighbour) for node in part)

    def _is_plain(self, part: list[Node]) -> bool:
        """Return whether a part only moves elements, or, within a step, computes without parameters."""
        if part[0].step is None:
            return all(node.name in MOVING or self._scales(node) for node in part)
        return not any(self._has_weights(node) for node in part)

    def _scales(self, node: Node) -> bool:
        """Return whether a node multiplies by a constant, as dropout does."""
        tracked = [source for source in self.inputs[node] if source.place is not None]
        return node.name == "multiply" and len(tracked) == 1 and not self._has_weights(node)

    def _neighbour(self, part: list[Node]) -> Kind | None:
        """Return the row that a plain part is drawn with: what it reads within its step, or what reads it."""
        members, step = set(part), part[0].step
        sources = [source.place[0] for node in part for source in self.inputs[node] if source.place is not None]
        readers = [reader for node in part for reader in self.readers.get(node, ())]
        for node in (*reversed(sources), *readers):
            if node not in members and node.step == step and node in self.kind:
                return self.kind[node]
        return None

    def _phases(self) -> dict[Node, int]:
        """Return how often the way to each node has left time: below a first cell 0, behind its stack 1, ...."""
        phases: dict[Node, int] = {}
        for node in self.inputs:
            phase = 0
            for source in self.inputs[node]:
                if source.place is not None and source.place[0] in phases:
                    inner = source.place[0]
                    leaves_time = node.step is None and inner.step is not None
                    phase = max(phase, phases[inner] + leaves_time)
            phases[node] = phase
        return phases

    def _has_weights(self, node: Node) -> bool:
        return any(
            source.place is not None and (source.place[0].operation is None or source.place[0] in self.weights)
            for source in self.inputs[node]
        )

    # -- links ---------------------------------------------------------------------------------------------------------

    def _links(self, of: dict[Node, Group]) -> tuple[tuple[Link, ...], dict[Group, list[tuple[Use, Any]]]]:
        bundles: dict[tuple[Any, ...], list[Use]] = {}
        constants: dict[Group, list[tuple[Use, Any]]] = {}
        for node in self.members:
            head = of[node]
            for number, source in enumerate(self.inputs[node]):
                tail = of.get(source.place[0]) if source.place is not None else None
                if tail is head:
                    continue
                if source.place is None and not source.cuts:
                    constants.setdefault(head, []).append(((node, number), source.constant))
                    continue
                cuts = tuple(cut.node for cut in source.cuts)
                bundles.setdefault((tail, source.place, head, cuts, None), []).append((node, number))
        for loss, (added, terms) in enumerate(zip(self.sums, map(set, self.terms), strict=True)):
            for node in sorted(added, key=lambda node: node.id):
                for number, source in enumerate(self.inputs[node]):
                    if source.place in terms:
                        cuts = tuple(cut.node for cut in source.cuts)
                        key = (of.get(source.place[0]), source.place, None, cuts, loss)
                        bundles.setdefault(key, []).append((node, number))
        links = (
            Link(tail, place, head, tuple(u), cuts, loss) for (tail, place, head, cuts, loss), u in bundles.items()
        )
        return tuple(links), constants


def _line(key: Any) -> tuple[Any, ...]:
    """Return scope, operation and line of a state's key."""
    spot: tuple[Any, ...] = key[0]
    return spot[:4]


def _size(node: Node, index: int) -> int:
    return int(np.prod(node.specs[index].shape, dtype=int))


def _bits(mask: int) -> Iterable[int]:
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def _looks_up(node: Node) -> bool:
    """Return whether a node is a lookup in a table of parameters: an embedding, not a part of the cell it feeds."""
    edge = node.edges[0] if node.edges else None
    return node.name == "take" and edge is not None and edge[0].operation is None
