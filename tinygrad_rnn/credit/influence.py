"""The influence J = dh/dtheta of the parameters on the state, kept on a pattern and carried forward.

J[t] = D[t] J[t-1] + I[t],  I = dh[t]/dtheta with h[t-1] held,  D = dh[t]/dh[t-1];  the gradient is delta[t] J[t].

Each stream has a J of its own. It is kept in the blocks of its pattern: groups of elements that reach the same s units.
With few units (1 or 2 for a pattern of one step) there is an array (N, m, G) for each of them, and the product with D
is a sum of products of elements; with many, it is a product of matrices: one array (N, G, m, s), or, where all elements
reach all units of some parts of the state, one (N, m, size) for each of these parts. In (m, G) the elements of a matrix
lie as they do in the matrix, so that nothing has to be moved. A step takes blocks that reach whole parts in pieces, so
that what it does with one of them it does in cache, and J goes through memory once.

Entries that follow from others by a link are not kept. Their factors are, one for each pair of units and each stream.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias, cast

import numpy as np

from ..engine.tape import Array, DType
from ..engine.tensor import Value
from .elements import added, flat, picked
from .entries import Joined, Piece, along, entries, grid_of, in_cache, placed
from .pattern import Block
from .terms import Diagonal, Lookup, Outer, StepJacobian, Term

FEW = 4
"""The most units for which a product with D is a sum of products of elements."""

Carried: TypeAlias = list[tuple[Value, ...]]
"""J, a tuple of arrays for each block; last the factors (N, pairs) of what follows from others, if anything does."""

Known: TypeAlias = dict[tuple[object, ...], Value | None]
"""Parts of D and I that several blocks need; None: there are none."""


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
        self._whole = [self._whole_parts(block) for block in self.blocks]
        self._pieces = [
            [(Piece(block, grid_of(block, shapes[block.name])), None)] if whole is None else in_cache(block, shapes, N)
            for block, whole in zip(self.blocks, self._whole, strict=True)
        ]
        codes = [self._codes(block) for block in self.blocks]
        pairs = [code[block.causes] for code, block in zip(codes, self.blocks, strict=True)]
        self._pairs = np.unique(np.concatenate([np.zeros(0, int), *pairs]))
        self._factors = [
            np.where(block.causes, np.searchsorted(self._pairs, code), -1)
            for code, block in zip(codes, self.blocks, strict=True)
        ]

    def _whole_parts(self, block: Block) -> list[int] | None:
        """Return the parts of the state that a block reaches, if all its elements reach all units of these."""
        units = block.units[0]
        parts = [part for part, start in enumerate(self._offsets[:-1]) if start in units and self.sizes[part]]
        whole = np.concatenate([np.arange(*self._offsets[part : part + 2]) for part in parts] or [units[:0]])
        is_plain = len(block.units) == 1 and not block.following.size and len(units) > FEW
        return parts if is_plain and np.array_equal(units, whole) else None

    def _codes(self, block: Block) -> Array:
        """Return a number for each pair of a unit that follows and one that is kept, (G, d, s)."""
        found: Array = block.following[:, :, None] * self._offsets[-1] + block.units[:, None, :]
        return found

    @property
    def factors(self) -> int:
        """Number of factors, by which entries follow from others, for each stream."""
        return len(self._pairs)

    @property
    def numbers(self) -> int:
        """Number of entries of J, and of factors, that are kept for all streams."""
        return self.N * (sum(block.entries for block in self.blocks) + self.factors)

    def nbytes(self, dtypes: Mapping[str, DType]) -> int:
        """Return the bytes that they take, for parameters of these dtypes."""
        return sum(math.prod(shape) * dtype.itemsize for dtype, shapes in self._arrays(dtypes) for shape in shapes)

    def zeros(self, dtypes: Mapping[str, DType]) -> Carried:
        """Return J before the first step."""
        return [tuple(np.zeros(shape, dtype) for shape in shapes) for dtype, shapes in self._arrays(dtypes)]

    def _arrays(self, dtypes: Mapping[str, DType]) -> list[tuple[DType, list[tuple[int, ...]]]]:
        """Return the dtypes and shapes of the arrays of J."""
        each = [dtypes[block.name] for block in self.blocks]
        each += [np.result_type(*each)] if self.factors else []
        return list(zip(each, self.shapes(), strict=True))

    def shapes(self) -> list[list[tuple[int, ...]]]:
        """Return the shapes of the arrays of J."""
        made: list[list[tuple[int, ...]]] = []
        for block, whole in zip(self.blocks, self._whole, strict=True):
            (G, s), m = block.units.shape, block.elements.shape[1]
            if s <= FEW:
                made.append([(self.N, m, G)] * s)
            else:
                made.append([(self.N, G, m, s)] if whole is None else [(self.N, m, self.sizes[r]) for r in whole])
        return made + ([[(self.N, len(self._pairs))]] if len(self._pairs) else [])

    def taken_over(self, known: Influence, J: Carried, zeros: Carried) -> Carried:
        """Return J, which was kept on the pattern `known`, on this one; `zeros` where it had no entry."""
        made: Carried = []
        all_of = known._all_entries(J)
        for block, empty in zip(self.blocks, zeros, strict=False):
            if block.name not in all_of:
                made.append(empty)
                continue
            keys, values = all_of[block.name]
            made.append(tuple(_found(keys, values, wanted) for wanted in self._keys(block, block.units)))
        if len(self._pairs):
            factors = known._factors_of(J)
            made.append(zeros[-1] if factors is None else (_found(known._pairs, factors, self._pairs),))
        return made

    def _all_entries(self, J: Carried) -> dict[str, tuple[Array, Value]]:
        """Return, by parameter, the key of each entry, and all of them (N, entries), also those that follow."""
        keys: dict[str, list[Array]] = {}
        values: dict[str, list[Value]] = {}
        for number, (block, parts) in enumerate(zip(self.blocks, J, strict=False)):
            own, arrays = self._keys(block, block.units), list(parts)
            for slot in range(block.following.shape[1]):
                own += self._keys(block, block.following[:, slot : slot + 1])
                arrays.append(self._followed(number, slot, J))
            keys.setdefault(block.name, []).extend(key.reshape(-1) for key in own)
            values.setdefault(block.name, []).extend(flat(array, 1) for array in arrays)
        return {name: (np.concatenate(keys[name]), np.concatenate(values[name], axis=1)) for name in keys}

    def _followed(self, number: int, slot: int, J: Carried) -> Value:
        """Return entries that follow from those kept, in the order of the arrays of the block."""
        parts, factors, at = J[number], self._factors_of(J), self._factors[number][:, slot]
        assert factors is not None
        if self.blocks[number].units.shape[1] <= FEW:
            terms = [np.expand_dims(picked(factors, own), 1) * part for own, part in zip(at.T, parts, strict=True)]
            return _total(terms)
        many: Value = parts[0] @ np.expand_dims(picked(factors, at), 3)
        return many

    def _factors_of(self, J: Carried) -> Value | None:
        return J[-1][0] if len(self._pairs) else None

    def _keys(self, block: Block, units: Array) -> list[Array]:
        """Return a number for each entry of units (G, s), the same in every pattern, like the arrays of J."""
        P = math.prod(self._shapes[block.name])
        found = units[:, None, :] * P + block.elements[:, :, None]  # (G, m, s)
        if block.units.shape[1] <= FEW:
            return list(found.transpose(2, 1, 0))
        number = next(number for number, own in enumerate(self.blocks) if own is block)
        whole = self._whole[number]
        if whole is None or units is not block.units:
            return [found]
        return np.split(found[0], np.cumsum([self.sizes[part] for part in whole])[:-1], axis=1)

    # -- a step --------------------------------------------------------------------------------------------------

    def advance(self, jacobian: StepJacobian, J: Carried, delta: Value | None) -> tuple[Carried, dict[str, Value]]:
        """Return J after a step, and delta J of it, as `gradient` does; nothing without a delta.

        Args:
            jacobian: of the step.
            J: before it.
            delta: cotangent of the state after it (N, n); None: zero.
        """
        known: Known = {}
        before, after = self._factors_of(J), None
        if before is not None:
            after = self._between(jacobian.links, *divmod(self._pairs, self._offsets[-1]))
            after = before * 0 if after is None else after
        made: Carried = []
        terms: list[Value] = []
        for number, (block, parts) in enumerate(zip(self.blocks, J, strict=False)):
            new, met = Joined(parts), list[Value]()
            for piece, at in self._pieces[number]:
                own = parts if at is None else tuple(part[:, at] for part in parts)
                if self._whole[number] is not None:
                    step = self._dense(jacobian, number, piece, own, known)
                elif block.units.shape[1] <= FEW:
                    step = self._few(jacobian.whole, number, own, before, known)
                else:
                    step = self._many(jacobian.whole, number, own, before, known)
                if delta is not None:  # now, while it is in cache
                    met.append(self._met(delta, number, step, after))
                new.add(step, at)
            made.append(new.whole())
            terms += met if len(met) <= 1 else [np.concatenate(met)]
        return made if after is None else [*made, (after,)], self._placed(terms)

    def gradient(self, delta: Value, J: Carried) -> dict[str, Value]:
        """Return delta J, summed over the streams, for each parameter that J reaches.

        Args:
            delta: cotangent of the state (N, n).
            J: the influence on it.
        """
        factors = self._factors_of(J)
        return self._placed([self._met(delta, number, J[number], factors) for number in range(len(self.blocks))])

    def _met(self, delta: Value, number: int, J: tuple[Value, ...], factors: Value | None) -> Value:
        """Return delta J of a block."""
        block, whole = self.blocks[number], self._whole[number]
        if whole is not None:
            pairs = [(part, delta[:, slice(*self._offsets[r : r + 2])]) for r, part in zip(whole, J, strict=True)]
            return _total([np.sum(part @ np.expand_dims(own, 2), axis=0) for part, own in pairs])
        at = picked(delta, block.units)  # (N, G, s)
        if block.following.size:
            by = picked(cast(Value, factors), self._factors[number])  # (N, G, d, s)
            at = at + np.squeeze(np.expand_dims(picked(delta, block.following), 2) @ by, 2)
        if block.units.shape[1] > FEW:
            many: Value = np.swapaxes(np.sum(J[0] @ np.expand_dims(at, 3), axis=0)[..., 0], 0, 1)
            return many
        terms = [np.expand_dims(at[..., slot], 1) * part for slot, part in enumerate(J)]
        return _total([term[0] if self.N == 1 else np.sum(term, axis=0) for term in terms])

    def _placed(self, terms: Sequence[Value]) -> dict[str, Value]:
        """Return elements (m, G) of each block, where there are any, at their places in the parameters."""
        found: dict[str, list[Value]] = {}
        blocks: dict[str, list[Block]] = {}
        for block, term in zip(self.blocks, terms, strict=False):
            found.setdefault(block.name, []).append(term)
            blocks.setdefault(block.name, []).append(block)
        return {name: placed(found[name], blocks[name], self._shapes[name]) for name in found}

    def _few(
        self, jacobian: StepJacobian, number: int, J: tuple[Value, ...], factors: Value | None, known: Known
    ) -> tuple[Value, ...]:
        made: list[Value] = []
        block = self.blocks[number]
        for slot, units in enumerate(block.units.T):
            total = self._immediate(jacobian, self._pieces[number][0][0], units, known)
            for other, part in enumerate(J):
                factor = self._through(jacobian, number, (units, other), factors, known)
                total = added(None if factor is None else np.expand_dims(factor, 1) * part, total)
            made.append(J[slot] * 0 if total is None else total)
        return tuple(made)

    def _through(
        self,
        jacobian: StepJacobian,
        number: int,
        pair: tuple[Array, int],
        factors: Value | None,
        known: Known,
    ) -> Value | None:
        """Return by what an entry of units (G,) hangs on that of a slot: D, and D by way of what follows from it."""
        block, (units, other) = self.blocks[number], pair
        through = self._factors[number][:, :, other]
        key = tuple(part.tobytes() for part in (units, block.units[:, other], block.following, through))
        if key not in known:
            total = self._between(jacobian.states, units, block.units[:, other])
            for following, at in zip(block.following.T, through.T, strict=True):
                entry = self._between(jacobian.states, units, following) if (at >= 0).any() else None
                if entry is not None and factors is not None:
                    total = added(total, entry * picked(factors, at))
            known[key] = total
        return known[key]

    def _many(
        self, jacobian: StepJacobian, number: int, J: tuple[Value, ...], factors: Value | None, known: Known
    ) -> tuple[Value, ...]:
        block = self.blocks[number]
        # (1, 16) and (2, 8) have the same bytes
        key = (block.units.shape, block.units.tobytes(), block.following.tobytes(), self._factors[number].tobytes())
        if key not in known:
            rows = block.units[:, :, None]
            total = self._between(jacobian.states, rows, block.units[:, None, :])
            if block.following.size and factors is not None:
                by_way = self._between(jacobian.states, rows, block.following[:, None, :])
                if by_way is not None:
                    total = added(total, by_way @ picked(factors, self._factors[number]))
            known[key] = total
        factor, new = known[key], self._immediate(jacobian, self._pieces[number][0][0], block.units, known)
        moved = J[0] * 0 if factor is None else J[0] @ np.swapaxes(factor, 2, 3)
        return (cast(Value, added(moved, new)),)

    def _dense(
        self, jacobian: StepJacobian, number: int, piece: Piece, J: tuple[Value, ...], known: Known
    ) -> tuple[Value, ...]:
        parts = self._whole[number]
        assert parts is not None
        made: dict[int, Value] = {}
        for s in sorted(parts, key=lambda part: any(jacobian.links[part])):  # first those that others follow from
            new = self._immediate(jacobian, piece, np.arange(*self._offsets[s : s + 2])[None], known)
            total: Value | None = None if new is None else np.reshape(new, (self.N, -1, self.sizes[s]))
            for r in parts:
                for link in jacobian.links[s][r]:
                    total = added(along(link, made[r], self.sizes[s]), total)
            # last the products: the executor adds what is there while a tile of them is in registers
            for r, own in sorted(zip(parts, J, strict=True), key=lambda pair: not _on_elements(jacobian, s, pair[0])):
                total = added(self._moved(jacobian, s, r, own, known), total)
            made[s] = J[parts.index(s)] * 0 if total is None else total
        return tuple(made[part] for part in parts)

    def _moved(self, jacobian: StepJacobian, s: int, r: int, J: Value, known: Known) -> Value | None:
        """Return what part s gets of J (N, m, size) of part r."""
        terms, size = jacobian.states[s][r], self.sizes[s]
        if len(terms) == 1 and (found := along(terms[0], J, size)) is not None:
            return found
        if (s, r) not in known:
            total: Value | None = None
            for term in terms:
                total = added(total, flat(term.dense(size), 2))
            known[s, r] = None if total is None else np.swapaxes(np.swapaxes(total, 0, 1), 1, 2)
        D = known[s, r]
        return None if D is None else J @ D

    def _between(self, table: Sequence[Sequence[Sequence[Term]]], rows: Array, columns: Array) -> Value | None:
        """Return entries of D, or of the links, (N, *shape of the two together); None if there are none."""
        rows, columns = np.broadcast_arrays(rows, columns)
        total: Value | None = None
        for s, row in enumerate(table):
            for r, terms in enumerate(row):
                units, elements = self._local(rows, s), self._local(columns, r)
                units = np.where(elements >= 0, units, -1)
                if not (units >= 0).any():
                    continue
                for term in terms:
                    total = added(total, entries(term, units, np.maximum(elements, 0)))
        return total

    def _immediate(self, jacobian: StepJacobian, piece: Piece, units: Array, known: Known) -> Value | None:
        """Return entries of I; None if there are none.

        Units (G,) give (N, m, G); units (G, s) give (N, G, m, s).
        """
        total: Value | None = None
        for s, terms in enumerate(jacobian.parameters):
            rows = self._local(units, s)
            if not (rows >= 0).any():
                continue
            for term in terms.get(piece.block.name, []):
                total = added(total, self._of_block(term, rows, piece, known))
        return total

    def _of_block(self, term: Term, rows: Array, piece: Piece, known: Known) -> Value | None:
        """Return entries of a term for units (G,) or (G, s); a grid makes them an outer product."""
        few, elements, grid = rows.ndim == 1, piece.block.elements, piece.grid
        if not isinstance(term, Outer | Lookup) or grid is None:
            return entries(term, *((rows, elements.T) if few else (rows[:, None, :], elements[:, :, None])))
        key = (id(term), rows.shape, rows.tobytes(), grid.columns.tobytes())
        if key not in known:
            at = (rows, grid.columns.T) if few else (rows[:, None, :], grid.columns[:, :, None])
            known[key] = entries(term.after, *at)  # (N, C, G) or (N, G, C, s)
        after = known[key]
        if after is None:
            return None
        left = term.factors()[0][:, grid.first : grid.first + grid.rows]
        axis = 1 if few else 2
        spread = np.expand_dims(after, axis) * np.reshape(left, (self.N, *(1,) * (axis - 1), grid.rows, 1, 1))
        made: Value = np.reshape(
            spread, (self.N, *elements.T.shape) if few else (self.N, *elements.shape, rows.shape[1])
        )
        return made

    def _local(self, units: Array, part: int) -> Array:
        """Return numbers within a part of the state; -1 for units of other parts."""
        start, stop = self._offsets[part], self._offsets[part + 1]
        return np.where((units >= start) & (units < stop), units - start, -1)


def _on_elements(jacobian: StepJacobian, s: int, r: int) -> bool:
    return all(isinstance(term, Diagonal) for term in jacobian.states[s][r])


def _total(terms: Sequence[Value]) -> Value:
    return sum(terms[1:], start=terms[0])


def _found(keys: Array, values: Value, wanted: Array) -> Value:
    """Return the values (N, keys) of the keys that are wanted, 0 where there is none: (N, *shape of wanted)."""
    order = np.argsort(keys)
    place = order[np.minimum(np.searchsorted(keys, wanted, sorter=order), len(keys) - 1)]
    return picked(values, np.where(keys[place] == wanted, place, -1))
