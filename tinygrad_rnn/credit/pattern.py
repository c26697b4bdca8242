"""The pattern of the influence J = dh/dtheta: which entries can be other than zero, from the form of the Jacobian.

After one step it is that of I, the immediate influence of the parameters on the state; with each further step the
pattern spreads along D, from state to state, until it stops growing. Elements of a parameter with one pattern are kept
together: all rows of a matrix W that enters as x @ W, for instance. So a pattern is small even where J is not.

Along a link, from one part of the new state to another (an LSTM's c to its h), entries need not be kept. If an element
reaches a unit of h through c alone, the entry follows from that of c, times one factor for all elements.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..engine.tape import Array
from .terms import StepJacobian, Term, chained


@dataclass(frozen=True)
class Block:
    """G groups of m elements of a parameter, each of which reaches s units.

    Attributes:
        name: the parameter's.
        units: (G, s) units of the whole state that the elements of each group reach.
        elements: (G, m) flat numbers of the elements in the parameter.
        following: (G, d) units whose entries are not kept, as they follow from those that are.
        causes: (G, d, s) booleans, from which of them.
    """

    name: str
    units: Array
    elements: Array
    following: Array
    causes: Array

    @property
    def entries(self) -> int:
        """Number of entries of J that are kept for each stream."""
        return int(self.units.size * self.elements.shape[1])


Pattern = dict[str, Array]
"""Name of a parameter to booleans (n, ...), the axes after the first broadcast to the parameter's shape."""


def immediate_pattern(jacobian: StepJacobian, shapes: Mapping[str, tuple[int, ...]]) -> Pattern:
    """Return the pattern of I: which units of the new state a parameter reaches within the step.

    Args:
        jacobian: of a recorded step.
        shapes: name of each parameter to its shape.
    """
    found: Pattern = {}
    for name, shape in shapes.items():
        rows = []
        for size, terms in zip(jacobian.sizes, jacobian.parameters, strict=True):
            total = np.zeros((size, *(1,) * len(shape)), bool)
            for term in terms.get(name, []):
                own = term.pattern(size)
                total = total | own.reshape(size, *(1,) * (len(shape) + 1 - own.ndim), *own.shape[1:])
            rows.append(total)
        width = np.broadcast_shapes(*(part.shape[1:] for part in rows))
        found[name] = np.concatenate([np.broadcast_to(part, (len(part), *width)) for part in rows])
    return found


def unit_pattern(sizes: Sequence[int], table: Sequence[Sequence[Sequence[Term]]]) -> Array:
    """Return which units reach which, booleans (n, n), columns to rows: the pattern of D, or of the links.

    Args:
        sizes: number of units of each part of the state.
        table: `states` or `links` of a `StepJacobian`.
    """
    rows = []
    for size, row in zip(sizes, table, strict=True):
        blocks = [np.zeros((size, width), bool) for width in sizes]
        for block, terms in zip(blocks, row, strict=True):
            for term in terms:
                block |= np.broadcast_to(term.pattern(size).reshape(size, -1), block.shape)
        rows.append(np.concatenate(blocks, axis=1))
    return np.concatenate(rows)


@dataclass(frozen=True)
class StepPattern:
    """What a step reaches, from the form of its Jacobian.

    Attributes:
        immediate: pattern of I.
        through: (n, n) booleans, the pattern of D.
        links: (n, n) booleans, from which units of the new state others of it follow, at every step.
        shapes: name of each parameter to its shape.
    """

    immediate: Pattern
    through: Array
    links: Array
    shapes: dict[str, tuple[int, ...]]

    @classmethod
    def of(cls, jacobian: StepJacobian, shapes: Mapping[str, tuple[int, ...]]) -> StepPattern:
        """Return the pattern of a step, whose links are kept apart."""
        sizes = jacobian.sizes
        through, links = unit_pattern(sizes, jacobian.states), unit_pattern(sizes, jacobian.links)
        return cls(immediate_pattern(jacobian, shapes), through, links, dict(shapes))

    def joined(self, other: StepPattern) -> StepPattern:
        """Return the pattern of two steps, what either reaches; the other one itself where that has it all."""
        links = self.links & other.links
        one, two = self._with(links), other._with(links)
        immediate = {name: part | two.immediate[name] for name, part in one.immediate.items()}
        through = one.through | two.through
        pairs = [(part, other.immediate[name]) for name, part in immediate.items()]
        pairs += [(through, other.through), (links, other.links)]
        if all((np.broadcast_to(old, new.shape) == new).all() for new, old in pairs):
            return other
        return StepPattern(immediate, through, links, self.shapes)

    def _with(self, links: Array) -> StepPattern:
        """Return the pattern with some of its links, and the others multiplied out."""
        out = self.links & ~links
        immediate = {
            name: part | chained(out, part.reshape(len(part), -1)).reshape(part.shape)
            for name, part in self.immediate.items()
        }
        return StepPattern(immediate, self.through | chained(out, self.through), links, self.shapes)

    def spread(self, steps: int | None) -> Pattern:
        """Return the pattern of what is kept of J after some steps; `steps` None: however many.

        M[1] = pattern of I;  M[k + 1] = M[1] or pattern of D @ (M[k] and what follows from it).
        """
        return {name: self._spread(first, steps) for name, first in self.immediate.items()}

    def _spread(self, first: Array, steps: int | None) -> Array:
        # Elements that reach the same units at first do so later: one column stands for all of them.
        start, column_of = _distinct(first.reshape(len(first), -1))
        known, count = start, 1
        while steps is None or count < steps:
            wider = start | known | chained(self.through, known | chained(self.links, known))
            if (wider == known).all():
                break
            known, count = wider, count + 1
        return known[:, column_of].reshape(first.shape)

    def following(self, kept: Array) -> Array:
        """Return which entries (n, ...) are not kept, but follow from those that are."""
        return chained(self.links, kept.reshape(len(kept), -1)).reshape(kept.shape) & ~kept

    def blocks(self, steps: int | None) -> list[Block]:
        """Return the blocks in which J is kept: elements that reach the same units are a group, equal sizes a block."""
        return [block for name, kept in self.spread(steps).items() for block in self._blocks(name, kept)]

    def _blocks(self, name: str, kept: Array) -> list[Block]:
        sets, which = _distinct(kept.reshape(len(kept), -1))
        set_of = np.broadcast_to(which.reshape(kept.shape[1:]), self.shapes[name]).reshape(-1)
        order = np.argsort(set_of, kind="stable")
        members = np.split(order, np.cumsum(np.bincount(set_of, minlength=sets.shape[1]))[:-1])
        alike: dict[tuple[int, int, int], list[tuple[Array, Array, Array]]] = {}
        for column, after, elements in zip(sets.T, self.following(sets).T, members, strict=True):
            units, following = np.flatnonzero(column), np.flatnonzero(after)
            if len(units):
                alike.setdefault((len(units), len(following), len(elements)), []).append((units, following, elements))
        found: list[Block] = []
        for groups in alike.values():
            groups.sort(key=lambda group: int(group[2][0]))
            units, following, elements = map(np.stack, zip(*groups, strict=True))
            causes = self.links[following[:, :, None], units[:, None, :]]
            found.append(Block(name, units, elements, following, causes))
        return found


def _distinct(columns: Array) -> tuple[Array, Array]:
    """Return the distinct columns of booleans (n, k), in lexicographic order, and which of them each column is.

    As `np.unique` with an axis, which compares columns entry by entry and takes minutes for those of a large state.
    """
    keys = [column.tobytes() for column in np.ascontiguousarray(np.packbits(columns, axis=0).T)]
    first: dict[bytes, int] = {}
    for place, key in enumerate(keys):
        first.setdefault(key, place)
    number = {key: place for place, key in enumerate(sorted(first))}
    return columns[:, [first[key] for key in number]], np.array([number[key] for key in keys], int)
