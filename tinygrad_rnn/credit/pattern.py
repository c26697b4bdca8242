"""The pattern of the influence J = dh/dtheta: which entries can be other than zero, from the form of the Jacobian.

After one step it is that of I, the immediate influence of the parameters on the state; with each further step the
pattern spreads along D, from state to state, until it stops growing. Elements of a parameter with one pattern are kept
together: all rows of a matrix W that enters as x @ W, for instance. So a pattern is small even where J is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..engine.tape import Array
from .jacobian import StepJacobian


@dataclass(frozen=True)
class Block:
    """G groups of m elements of a parameter, each of which reaches s units.

    Attributes:
        name: the parameter's.
        units: (G, s) units of the whole state that the elements of each group reach.
        elements: (G, m) flat numbers of the elements in the parameter.
    """

    name: str
    units: Array
    elements: Array

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


def state_pattern(jacobian: StepJacobian) -> Array:
    """Return the pattern of D, booleans (n, n): which units before the step reach which units after it."""
    rows = []
    for size, row in zip(jacobian.sizes, jacobian.states, strict=True):
        blocks = [np.zeros((size, width), bool) for width in jacobian.sizes]
        for block, terms in zip(blocks, row, strict=True):
            for term in terms:
                block |= np.broadcast_to(term.pattern(size).reshape(size, -1), block.shape)
        rows.append(np.concatenate(blocks, axis=1))
    return np.concatenate(rows)


def spread_pattern(immediate: Pattern, through: Array, steps: int | None) -> Pattern:
    """Return the pattern of what parameters reach within some steps; `steps` None: however many.

    M[1] = pattern of I;  M[k + 1] = M[1] or pattern of D @ M[k].
    """
    return {name: _spread(first, through, steps) for name, first in immediate.items()}


def _spread(first: Array, through: Array, steps: int | None) -> Array:
    known, count = first.reshape(len(first), -1), 1
    while steps is None or count < steps:
        wider = known | (through @ known)
        if (wider == known).all():
            break
        known, count = wider, count + 1
    return known.reshape(first.shape)


def blocks_of(pattern: Pattern, shapes: Mapping[str, tuple[int, ...]]) -> list[Block]:
    """Return the blocks in which J is kept: elements that reach the same units are a group, and equal sizes a block."""
    found: list[Block] = []
    for name, reached in pattern.items():
        columns = reached.reshape(len(reached), -1)
        group_of = np.arange(columns.shape[1]).reshape(reached.shape[1:])
        sets, which = np.unique(columns, axis=1, return_inverse=True)
        set_of = np.broadcast_to(which.reshape(-1)[group_of], shapes[name]).reshape(-1)
        order = np.argsort(set_of, kind="stable")
        members = np.split(order, np.cumsum(np.bincount(set_of, minlength=sets.shape[1]))[:-1])
        alike: dict[tuple[int, int], list[tuple[Array, Array]]] = {}
        for column, elements in zip(sets.T, members, strict=True):
            units = np.flatnonzero(column)
            if len(units):
                alike.setdefault((len(units), len(elements)), []).append((units, elements))
        for groups in alike.values():
            groups.sort(key=lambda group: int(group[1][0]))
            found.append(Block(name, np.stack([one[0] for one in groups]), np.stack([one[1] for one in groups])))
    return found
