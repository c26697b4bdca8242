"""The influence J = dh/dtheta of the parameters on the state, kept on a pattern and carried forward.

J[t] = D[t] J[t-1] + I[t],  I = dh[t]/dtheta with h[t-1] held,  D = dh[t]/dh[t-1];  the gradient is delta[t] J[t].

Each stream has a J of its own. It is kept in the blocks of its pattern: groups of elements that reach the same s units.
With few units (1 or 2 for a pattern of one step) there is an array (N, m, G) for each of them, and the product with D
is a sum of products of elements; with many, it is a product of matrices: one array (N, G, m, s), or, where all elements
reach all units of some parts of the state, one (N, m, size) for each of these parts. In (m, G) the elements of a matrix
lie as they do in the matrix, so that nothing has to be moved.

Entries that follow from others by a link are not kept. Their factors are, one for each pair of units and each stream.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from ..engine.tape import Array
from ..engine.tensor import Value
from .entries import along, entries, grid_of, placed
from .pattern import Block
from .terms import Lookup, Outer, StepJacobian, Term, flat, picked

FEW = 4
"""The most units for which a product with D is a sum of products of elements."""

Carried: TypeAlias = list[tuple[Value, ...]]
"""J, a tuple of arrays for each block; last the factors (N, pairs) of what follows from others, if anything does."""

Known: TypeAlias = dict[tuple[object, ...], Value | None]
"""Parts of D that several blocks need; None: there are none."""


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
        self._grids = [grid_of(block, self._shapes[block.name]) for block in self.blocks]
        self._whole = [self._whole_parts(block) for block in self.blocks]
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
    def entries(self) -> int:
        """Number of entries of J, and of factors, that are kept for all streams."""
        return self.N * (sum(block.entries for block in self.blocks) + len(self._pairs))

    def zeros(self, dtypes: Mapping[str, np.dtype[np.floating]]) -> Carried:
        """Return J before the first step."""
        each = [dtypes[block.name] for block in self.blocks]
        each += [np.result_type(*each)] if len(self._pairs) else []
        return [
            tuple(np.zeros(shape, dtype) for shape in shapes) for dtype, shapes in zip(each, self.shapes(), strict=True)
        ]

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
            return sum(terms[1:], start=terms[0])
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

    def advance(self, linked: StepJacobian, whole: Callable[[], StepJacobian], J: Carried) -> Carried:
        """Return J after a step.

        Args:
            linked: its Jacobian, with the links kept apart.
            whole: returns it with the links multiplied out; not called if it is not needed.
            J: before the step.
        """
        known: Known = {}
        factors = self._factors_of(J)
        made: Carried = []
        for number, (block, parts) in enumerate(zip(self.blocks, J, strict=False)):
            if self._whole[number] is not None:
                made.append(self._dense(linked, number, parts, known))
            elif block.units.shape[1] <= FEW:
                made.append(self._few(whole(), number, parts, factors, known))
            else:
                made.append(self._many(whole(), number, parts, factors, known))
        if factors is not None:
            new = self._between(linked.links, *divmod(self._pairs, self._offsets[-1]))
            made.append((factors * 0 if new is None else new,))
        return made

    def gradient(self, delta: Value, J: Carried) -> dict[str, Value]:
        """Return delta J, summed over the streams, for each parameter that J reaches.

        Args:
            delta: cotangent of the state (N, n).
            J: the influence on it.
        """
        found: dict[str, list[Value]] = {}
        blocks: dict[str, list[Block]] = {}
        for number, (block, parts) in enumerate(zip(self.blocks, J, strict=False)):
            total: Value | None = None
            at = picked(delta, block.units)  # (N, G, s)
            if block.following.size:
                factors = picked(J[-1][0], self._factors[number])  # (N, G, d, s)
                at = at + np.squeeze(np.expand_dims(picked(delta, block.following), 2) @ factors, 2)
            for slot, part in enumerate(parts):
                if block.units.shape[1] <= FEW:
                    term = np.expand_dims(at[..., slot], 1) * part
                    term = term[0] if self.N == 1 else np.sum(term, axis=0)
                elif self._whole[number] is None:
                    term = np.swapaxes(np.sum(part @ np.expand_dims(at, 3), axis=0)[..., 0], 0, 1)
                else:
                    start = sum(array.shape[2] for array in parts[:slot])
                    own = np.expand_dims(at[:, 0, start : start + part.shape[2]], 2)
                    term = np.sum(part @ own, axis=0)
                total = term if total is None else total + term
            assert total is not None
            found.setdefault(block.name, []).append(total)
            blocks.setdefault(block.name, []).append(block)
        return {name: placed(found[name], blocks[name], self._shapes[name]) for name in found}

    def _few(
        self, jacobian: StepJacobian, number: int, J: tuple[Value, ...], factors: Value | None, known: Known
    ) -> tuple[Value, ...]:
        made: list[Value] = []
        block = self.blocks[number]
        for slot, units in enumerate(block.units.T):
            total = self._immediate(jacobian, number, units)
            for other, part in enumerate(J):
                factor = self._through(jacobian, number, (units, other), factors, known)
                if factor is not None:
                    term = np.expand_dims(factor, 1) * part
                    total = term if total is None else term + total
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
                    term = entry * picked(factors, at)
                    total = term if total is None else total + term
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
                    term = by_way @ picked(factors, self._factors[number])
                    total = term if total is None else total + term
            known[key] = total
        factor, new = known[key], self._immediate(jacobian, number, block.units)
        moved = J[0] * 0 if factor is None else J[0] @ np.swapaxes(factor, 2, 3)
        return (moved if new is None else moved + new,)

    def _dense(self, linked: StepJacobian, number: int, J: tuple[Value, ...], known: Known) -> tuple[Value, ...]:
        block, parts = self.blocks[number], self._whole[number]
        assert parts is not None
        made: dict[int, Value] = {}
        for s in sorted(parts, key=lambda part: any(linked.links[part])):  # first those that others follow from
            total: Value | None = None
            for r, own in zip(parts, J, strict=True):
                term = self._moved(linked, s, r, own, known)
                if term is not None:
                    total = term if total is None else total + term
            new = self._immediate(linked, number, np.arange(*self._offsets[s : s + 2])[None])
            if new is not None:
                new = np.reshape(new, (self.N, block.elements.shape[1], self.sizes[s]))
                total = new if total is None else total + new
            for r in parts:
                for link in linked.links[s][r]:
                    term = along(link, made[r], self.sizes[s])
                    assert term is not None
                    total = term if total is None else total + term
            made[s] = J[parts.index(s)] * 0 if total is None else total
        return tuple(made[part] for part in parts)

    def _moved(self, linked: StepJacobian, s: int, r: int, J: Value, known: Known) -> Value | None:
        """Return what part s gets of J (N, m, size) of part r."""
        terms, size = linked.states[s][r], self.sizes[s]
        if len(terms) == 1 and (found := along(terms[0], J, size)) is not None:
            return found
        if (s, r) not in known:
            total: Value | None = None
            for term in terms:
                dense = flat(term.dense(size), 2)
                total = dense if total is None else total + dense
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
                    found = entries(term, units, np.maximum(elements, 0))
                    if found is not None:
                        total = found if total is None else total + found
        return total

    def _immediate(self, jacobian: StepJacobian, number: int, units: Array) -> Value | None:
        """Return entries of I; None if there are none.

        Units (G,) give (N, m, G); units (G, s) give (N, G, m, s).
        """
        total: Value | None = None
        block = self.blocks[number]
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
        """Return entries of a term for units (G,) or (G, s); a grid makes them an outer product."""
        few = rows.ndim == 1
        elements = block.elements
        if not isinstance(term, Outer | Lookup) or grid is None:
            if few:
                return entries(term, *np.broadcast_arrays(rows, elements.T))
            return entries(term, *np.broadcast_arrays(rows[:, None, :], elements[:, :, None]))
        left, _ = term.factors()
        D, (G, m) = left.shape[1], elements.shape
        if few:
            after = entries(term.after, *np.broadcast_arrays(rows, grid.T))  # (N, C, G)
            if after is None:
                return None
            spread = np.expand_dims(after, 1) * np.reshape(left, (self.N, D, 1, 1))
            made: Value = np.reshape(spread, (self.N, m, G))
            return made
        after = entries(term.after, *np.broadcast_arrays(rows[:, None, :], grid[:, :, None]))  # (N, G, C, s)
        if after is None:
            return None
        spread = np.expand_dims(after, 2) * np.reshape(left, (self.N, 1, D, 1, 1))
        return np.reshape(spread, (self.N, G, m, rows.shape[1]))

    def _local(self, units: Array, part: int) -> Array:
        """Return numbers within a part of the state; -1 for units of other parts."""
        start, stop = self._offsets[part], self._offsets[part + 1]
        return np.where((units >= start) & (units < stop), units - start, -1)


def _found(keys: Array, values: Value, wanted: Array) -> Value:
    """Return the values (N, keys) of the keys that are wanted, 0 where there is none: (N, *shape of wanted)."""
    order = np.argsort(keys)
    place = order[np.minimum(np.searchsorted(keys, wanted, sorter=order), len(keys) - 1)]
    return picked(values, np.where(keys[place] == wanted, place, -1))
