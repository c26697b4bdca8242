"""Entries of the terms of a Jacobian, picked for blocks of a pattern, and put back at their places in a parameter."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ..engine.tape import Array
from ..engine.tensor import Value
from .elements import flat, picked
from .pattern import Block
from .terms import Diagonal, StepJacobian, Term


def along(term: Term, J: Value, size: int) -> Value | None:
    """Return J (N, m, elements) times a term by which each of `size` units hangs on one element; None if it is not so.

    Returns:
        (N, m, size).
    """
    if not isinstance(term, Diagonal):
        return None
    units = term.units.reshape(-1)
    elements = np.flatnonzero(units >= 0)
    at = np.full(size, -1)
    at[units[elements]] = elements
    if np.count_nonzero(at >= 0) < len(elements):
        return None
    made: Value = picked(J, at) * np.expand_dims(picked(flat(term.values, 1), at), 1)
    return made


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


def entries(term: Term, rows: Array, columns: Array) -> Value | None:
    """Return entries of a term; None if its form has none of them."""
    if isinstance(term, Diagonal) and not ((term.units.reshape(-1)[columns] == rows) & (rows >= 0)).any():
        return None
    return term.entries(rows, columns)


class Grid(NamedTuple):
    """Where a block lies in a matrix (D, U): in `rows` rows, the first of them `first`, and (G, C) columns."""

    first: int
    rows: int
    columns: Array


def grid_of(block: Block, shape: tuple[int, ...]) -> Grid | None:
    """Return the grid of a block of a matrix, in which every group has the same rows; None if it is none."""
    if len(shape) < 2:
        return None
    U, (G, m) = math.prod(shape[1:]), block.elements.shape
    row = block.elements // U
    first, C = int(row[0, 0]), int(np.count_nonzero(row[0] == row[0, 0]))
    columns = block.elements[:, :C] % U
    whole = (first + np.arange(m // C))[:, None] * U + columns[:, None, :]
    return Grid(first, m // C, columns) if np.array_equal(whole.reshape(G, -1), block.elements) else None


LARGE = 1 << 17
"""Numbers of J that a step takes at a time: as many as stay in the cache of a core."""


class Piece(NamedTuple):
    """A block, or as much of it as a step takes at a time."""

    block: Block
    grid: Grid | None


def in_cache(block: Block, shapes: Mapping[str, tuple[int, ...]], N: int) -> list[tuple[Piece, slice | None]]:
    """Return a block of one group in pieces of whole rows of its grid, no more than `LARGE` numbers for N streams.

    Each comes with its elements among those of the block; None for all.
    """
    shape = shapes[block.name]
    grid = grid_of(block, shape)
    rows = block.elements.reshape(block.elements.size if grid is None else grid.rows, -1)
    parts = np.array_split(rows, min(len(rows), -(-N * block.entries // LARGE)))
    ends = np.cumsum([part.size for part in parts])
    blocks = [replace(block, elements=part.reshape(1, -1)) for part in parts]
    return [
        (Piece(own, grid_of(own, shape)), None if len(parts) == 1 else slice(end - own.elements.size, end))
        for own, end in zip(blocks, ends.tolist(), strict=True)
    ]


class Joined:
    """The arrays of a block after a step, joined from pieces along their second axis.

    Arrays are put into their place at once, so that J is there twice and no more; values of a plan are joined there.
    """

    def __init__(self, before: tuple[Value, ...]) -> None:
        self._before, self._arrays = before, list[Array]()
        self._pieces: list[tuple[Value, ...]] = []

    def add(self, piece: tuple[Value, ...], at: slice | None) -> None:
        """Add a piece; `at` None: all."""
        arrays = [part for part in piece if isinstance(part, np.ndarray)]
        if at is None or len(arrays) < len(piece):
            self._pieces.append(piece)
            return
        pairs = zip(self._before, arrays, strict=True)
        self._arrays = self._arrays or [np.empty(old.shape, part.dtype) for old, part in pairs]
        for array, part in zip(self._arrays, arrays, strict=True):
            array[:, at] = part

    def whole(self) -> tuple[Value, ...]:
        """Return the arrays."""
        if self._arrays or len(self._pieces) == 1:
            return tuple(self._arrays) or self._pieces[0]
        return tuple(np.concatenate(parts, axis=1) for parts in zip(*self._pieces, strict=True))


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
