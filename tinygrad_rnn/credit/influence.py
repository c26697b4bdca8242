"""The influence J = dh/dtheta of the parameters on the state, kept on a pattern and carried forward.

J[t] = D[t] J[t-1] + I[t],  I = dh[t]/dtheta with h[t-1] held,  D = dh[t]/dh[t-1];  the gradient is delta[t] J[t].

Each stream has a J of its own. It is kept in the blocks of its pattern: groups of elements that reach the same s units.
With few units (1 or 2 for a pattern of one step) there is an array (N, m, G) for each of them, and the product with D
is a sum of products of elements; with many, one array (N, G, s, m), and it is a product of matrices. In (m, G) the
elements of a matrix lie as they do in the matrix, so that nothing has to be moved.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np

from ..engine.tape import Array
from ..engine.tensor import Value
from .jacobian import StepJacobian
from .pattern import Block
from .terms import Diagonal, Lookup, Outer, Term, flat, picked

FEW = 4
"""The most units for which a product with D is a sum of products of elements."""

Carried: TypeAlias = list[tuple[Value, ...]]
"""J, a tuple for each block: s arrays (N, m, G), or one (N, G, s, m)."""

Entries: TypeAlias = dict[tuple[bytes, ...], Value | None]
"""Entries of D that several blocks need, by their units: all pairs of one set, or of two; None: there are none."""


class Influence:
    """J on a pattern: its start, its step, and its product with the cotangent of the state.

    Args:
        blocks: of the pattern.
        shapes: name of each parameter to its shape.
        sizes: number of units of each part of the state.
        N: number of streams.
    """

    def __init__(
        self, blocks: Sequence[Block], shapes: Mapping[str, tuple[int, ...]], sizes: Sequence[int], N: int
    ) -> None:
        self.blocks, self._shapes, self.sizes, self.N = list(blocks), dict(shapes), list(sizes), N
        self._offsets = np.cumsum([0, *sizes])
        self._grids = [_grid(block, self._shapes[block.name]) for block in self.blocks]

    @property
    def entries(self) -> int:
        """Number of entries of J that are kept, for all streams."""
        return self.N * sum(block.entries for block in self.blocks)

    def zeros(self, dtypes: Mapping[str, np.dtype[np.floating]]) -> Carried:
        """Return J before the first step."""
        return [
            tuple(np.zeros(shape, dtypes[block.name]) for shape in shapes)
            for block, shapes in zip(self.blocks, self.shapes(), strict=True)
        ]

    def shapes(self) -> list[list[tuple[int, ...]]]:
        """Return the shapes of the arrays of J."""
        made: list[list[tuple[int, ...]]] = []
        for block in self.blocks:
            (G, s), m = block.units.shape, block.elements.shape[1]
            made.append([(self.N, m, G)] * s if s <= FEW else [(self.N, G, s, m)])
        return made

    def taken_over(self, known: Influence, J: Carried, zeros: Carried) -> Carried:
        """Return J, which was kept on the pattern `known`, on this one; `zeros` where it had no entry."""
        made: Carried = []
        for block, empty in zip(self.blocks, zeros, strict=True):
            old = [(own, parts) for own, parts in zip(known.blocks, J, strict=True) if own.name == block.name]
            if not old:
                made.append(empty)
                continue
            keys = np.concatenate([key.reshape(-1) for own, _ in old for key in known.keys(own)])
            values: Value = np.concatenate([flat(part, 1) for _, parts in old for part in parts], axis=1)
            order = np.argsort(keys)
            new: list[Value] = []
            for key in self.keys(block):
                place = order[np.minimum(np.searchsorted(keys, key, sorter=order), len(keys) - 1)]
                new.append(picked(values, np.where(keys[place] == key, place, -1)))
            made.append(tuple(new))
        return made

    def keys(self, block: Block) -> list[Array]:
        """Return a number for each entry of a block, the same in every pattern, like the arrays of its J."""
        P = math.prod(self._shapes[block.name])
        found = block.units[:, :, None] * P + block.elements[:, None, :]
        return list(found.transpose(1, 2, 0)) if block.units.shape[1] <= FEW else [found]

    def advance(self, jacobian: StepJacobian, J: Carried) -> Carried:
        """Return J after a step."""
        known: Entries = {}
        return [
            (self._few if block.units.shape[1] <= FEW else self._many)(jacobian, number, block, parts, known)
            for number, (block, parts) in enumerate(zip(self.blocks, J, strict=True))
        ]

    def gradient(self, delta: Value, J: Carried) -> dict[str, Value]:
        """Return delta J, summed over the streams, for each parameter that J reaches.

        Args:
            delta: cotangent of the state (N, n).
            J: the influence on it.
        """
        found: dict[str, list[Value]] = {}
        blocks: dict[str, list[Block]] = {}
        for block, parts in zip(self.blocks, J, strict=True):
            if block.units.shape[1] <= FEW:
                total: Value | None = None
                for units, part in zip(block.units.T, parts, strict=True):
                    term = np.expand_dims(picked(delta, units), 1) * part
                    term = term[0] if self.N == 1 else np.sum(term, axis=0)
                    total = term if total is None else total + term
            else:
                at = np.expand_dims(picked(delta, block.units), 2)  # (N, G, 1, s)
                total = np.swapaxes(np.reshape(np.sum(at @ parts[0], axis=0), block.elements.shape), 0, 1)
            assert total is not None
            found.setdefault(block.name, []).append(total)
            blocks.setdefault(block.name, []).append(block)
        return {name: placed(found[name], blocks[name], self._shapes[name]) for name in found}

    def _few(
        self, jacobian: StepJacobian, number: int, block: Block, J: tuple[Value, ...], known: Entries
    ) -> tuple[Value, ...]:
        made: list[Value] = []
        for slot, units in enumerate(block.units.T):
            total = self._immediate(jacobian, number, block, units)
            for others, part in zip(block.units.T, J, strict=True):
                key = (units.tobytes(), others.tobytes())
                if key not in known:
                    known[key] = self._between(jacobian, units, others)
                factor = known[key]
                if factor is not None:
                    term = np.expand_dims(factor, 1) * part
                    total = term if total is None else term + total
            made.append(J[slot] * 0 if total is None else total)
        return tuple(made)

    def _many(
        self, jacobian: StepJacobian, number: int, block: Block, J: tuple[Value, ...], known: Entries
    ) -> tuple[Value, ...]:
        key = (str(block.units.shape).encode(), block.units.tobytes(), b"")  # (1, 16) and (2, 8) have the same bytes
        if key not in known:
            if len(block.units) == 1 and block.units.shape[1] == self._offsets[-1]:
                known[key] = np.expand_dims(whole_state_jacobian(jacobian), 1)
            else:
                known[key] = self._between(jacobian, block.units[:, :, None], block.units[:, None, :])
        factor, new = known[key], self._immediate(jacobian, number, block, block.units.T)
        moved = J[0] * 0 if factor is None else factor @ J[0]
        return (moved if new is None else moved + new,)

    def _between(self, jacobian: StepJacobian, rows: Array, columns: Array) -> Value | None:
        """Return entries of D, (N, *shape of the two together); None if there are none."""
        rows, columns = np.broadcast_arrays(rows, columns)
        total: Value | None = None
        for s, row in enumerate(jacobian.states):
            for r, terms in enumerate(row):
                units, elements = self._local(rows, s), self._local(columns, r)
                units = np.where(elements >= 0, units, -1)
                if not (units >= 0).any():
                    continue
                for term in terms:
                    found = _entries(term, units, np.maximum(elements, 0))
                    if found is not None:
                        total = found if total is None else total + found
        return total

    def _immediate(self, jacobian: StepJacobian, number: int, block: Block, units: Array) -> Value | None:
        """Return entries of I; None if there are none.

        Units (G,) give (N, m, G); units (s, G) give (N, G, s, m).
        """
        total: Value | None = None
        for s, terms in enumerate(jacobian.parameters):
            rows = self._local(units, s)
            if not (rows >= 0).any():
                continue
            for term in terms.get(block.name, []):
                found = self._of_block(term, rows, block, self._grids[number])
                if found is not None:
                    total = found if total is None else total + found
        return total

    def _of_block(self, term: Term, rows: Array, block: Block, grid: Array | None) -> Value | None:
        """Return entries of a term for units (G,) or (s, G); a grid makes them an outer product."""
        few = rows.ndim == 1
        elements = block.elements
        if not isinstance(term, Outer | Lookup) or grid is None:
            if few:
                return _entries(term, *np.broadcast_arrays(rows, elements.T))
            return _entries(term, *np.broadcast_arrays(rows.T[:, :, None], elements[:, None, :]))
        left, _ = term.factors()
        D, m = left.shape[1], elements.shape[1]
        if few:
            after = _entries(term.after, *np.broadcast_arrays(rows, grid.T))  # (N, C, G)
            if after is None:
                return None
            spread = np.expand_dims(after, 1) * np.reshape(left, (self.N, D, 1, 1))
            made: Value = np.reshape(spread, (self.N, m, len(elements)))
            return made
        after = _entries(term.after, *np.broadcast_arrays(rows.T[:, :, None], grid[:, None, :]))  # (N, G, s, C)
        if after is None:
            return None
        spread = np.expand_dims(after, 3) * np.reshape(left, (self.N, 1, 1, D, 1))
        return np.reshape(spread, (self.N, len(elements), rows.shape[0], m))

    def _local(self, units: Array, part: int) -> Array:
        """Return numbers within a part of the state; -1 for units of other parts."""
        start, stop = self._offsets[part], self._offsets[part + 1]
        return np.where((units >= start) & (units < stop), units - start, -1)


def whole_state_jacobian(jacobian: StepJacobian) -> Value:
    """Return D as one array (N, n, n), in the dtype of its terms."""
    kinds = {term.dtype for row in jacobian.states for terms in row for term in terms}
    dtype = np.result_type(*kinds) if kinds else np.dtype(np.float32)
    rows = []
    for size, row in zip(jacobian.sizes, jacobian.states, strict=True):
        blocks: list[Value] = []
        for width, terms in zip(jacobian.sizes, row, strict=True):
            total: Value = np.zeros((size, jacobian.N, width), dtype)
            for number, term in enumerate(terms):
                dense = flat(term.dense(size), 2)
                total = total + dense if number else dense
            blocks.append(np.swapaxes(total, 0, 1))
        rows.append(np.concatenate(blocks, axis=2) if len(blocks) > 1 else blocks[0])
    made: Value = np.concatenate(rows, axis=1) if len(rows) > 1 else rows[0]
    return made


def _entries(term: Term, rows: Array, columns: Array) -> Value | None:
    """Return entries of a term; None if its form has none of them."""
    if isinstance(term, Diagonal) and not ((term.units.reshape(-1)[columns] == rows) & (rows >= 0)).any():
        return None
    return term.entries(rows, columns)


def _grid(block: Block, shape: tuple[int, ...]) -> Array | None:
    """Return (G, C) columns if every group has whole columns of a matrix: elements d * U + u for all d, for C u's."""
    if len(shape) < 2:
        return None
    U = math.prod(shape[1:])
    G, m = block.elements.shape
    if m % shape[0]:
        return None
    columns = block.elements[:, : m // shape[0]]
    whole = (np.arange(shape[0])[:, None] * U + columns[:, None, :]).reshape(G, m)
    return columns if (columns < U).all() and np.array_equal(whole, block.elements) else None


def placed(parts: list[Value], blocks: Sequence[Block], shape: tuple[int, ...]) -> Value:
    """Return elements (m, G) of each block at their places in a parameter, 0 elsewhere."""
    slabs = [_slabs(block, shape) for block in blocks]
    size = math.prod(shape)
    if all(starts is not None for starts in slabs) and sum(block.elements.size for block in blocks) == size:
        rows = shape[0] if len(shape) > 1 else 1
        pieces: list[tuple[int, Value]] = []
        for part, block, starts in zip(parts, blocks, slabs, strict=True):
            assert starts is not None
            slab = np.reshape(part, (rows, len(starts), len(block.elements)))
            if np.array_equal(starts, np.arange(len(starts)) * len(block.elements)):
                pieces.append((0, np.reshape(slab, (rows, -1))))
            else:
                pieces += [(int(start), slab[:, number]) for number, start in enumerate(starts)]
        ordered = [piece for _, piece in sorted(pieces, key=lambda pair: pair[0])]
        whole: Value = np.concatenate(ordered, axis=1) if len(ordered) > 1 else ordered[0]
        return np.reshape(whole, shape)
    numbers = np.concatenate([block.elements.T.reshape(-1) for block in blocks])
    place = np.full(size, -1)
    place[numbers] = np.arange(len(numbers))
    flats: list[Value] = [np.reshape(part, (-1,)) for part in parts]
    made: Value = np.reshape(picked(np.concatenate(flats) if len(flats) > 1 else flats[0], place), shape)
    return made


def _slabs(block: Block, shape: tuple[int, ...]) -> Array | None:
    """Return the starts (C,) of runs of G columns that a block holds in all rows of a parameter; None if not such."""
    rows = shape[0] if len(shape) > 1 else 1
    U, (G, m) = math.prod(shape) // max(rows, 1), block.elements.shape
    if m % max(rows, 1):
        return None
    starts: Array = block.elements[0, : m // rows]
    held = np.arange(rows)[:, None, None] * U + starts[:, None] + np.arange(G)
    return starts if np.array_equal(held.reshape(m, G), block.elements.T) else None
