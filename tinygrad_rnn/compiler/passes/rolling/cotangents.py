"""Sums of cotangents, brought into the order in which a loop adds them before loops are searched for.

Their order is free: the engine adds the terms of a cotangent as they arrive. A state has a term from its use as output,
which is computed before the backward pass reaches the loop, and terms from the next step. In a loop the latter are
carried, and the former is added to their sum at the step itself. A sequence that the function slices has a term for
each slice, padded with zeros; in a loop these are stacked.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence

from ...ir.operators import STACK
from .numbering import Node, Numbering, Operand, integers_of
from .periods import Run

_TERMS = 8  # most terms of a sum that is reordered

_Term = tuple[Node, int, Node | None]  # (the sum that adds it, value number, the node that computes it)


class _Sums:
    """The sums that the engine made, among nodes.

    Attributes:
        readers: for each sum, the nodes that read it.
        returned: value numbers that the graph returns.
    """

    def __init__(self, numbering: Numbering, nodes: Sequence[Node]) -> None:
        self.readers: dict[Node, list[Node]] = {}
        self.returned = {numbering.of(value) for value in numbering.graph.outputs}
        for node in nodes:
            for maker, _ in node.sources:
                if maker is not None and maker.is_sum:
                    self.readers.setdefault(maker, []).append(node)

    def above(self, node: Node) -> Node | None:
        """Return the only reader of a sum if that adds up the same cotangent, else None."""
        readers = self.readers.get(node, [])
        if len(readers) != 1 or node.outs[0] in self.returned:
            return None
        (reader,) = readers
        return reader if reader.is_sum and reader.call.cotangent == node.call.cotangent else None

    def terms(self, root: Node) -> Iterator[_Term]:
        """Yield (the sum that adds it, value number, the node that computes it) for each term, from left to right."""
        waiting: list[tuple[Node, int]] = [(root, 1), (root, 0)]
        while waiting:
            total, which = waiting.pop()
            maker, _ = total.sources[which]
            inside = maker is not None and maker.is_sum and self.above(maker) is total
            if inside and maker is not None:
                waiting += [(maker, 1), (maker, 0)]
            else:
                yield total, total.operands[which], maker

    def replaced(self, old: Node, new: Node) -> None:
        """Let the readers of a sum read the result of another node instead."""
        for reader in self.readers.get(old, []):
            reader.sources = tuple((new, 0) if maker is old else (maker, index) for maker, index in reader.sources)
        self.readers[new] = self.readers.pop(old, [])


def _add(numbering: Numbering, root: Node, terms: Sequence[Operand], outs: tuple[int, ...] | None) -> Node:
    """Return a node that adds two terms of the cotangent of a sum."""
    made = numbering.made(root.call.operator, terms, {}, root.call.output.spec, outs)
    made.call.place, made.call.cotangent, made.is_sum = root.call.place, root.call.cotangent, True
    return made


def _operand(term: _Term) -> Operand:
    """Return the value number of a term, and its source."""
    total, number, _ = term
    return number, total.sources[total.operands.index(number)]


# -- cotangents of states ---------------------------------------------------------------------------------------------


def late_sums(numbering: Numbering, nodes: Sequence[Node], runs: Iterable[Run]) -> list[Node]:
    """Return the nodes, with terms from before a run added last, right before the sum is read."""
    sums = _Sums(numbering, nodes)
    moves = _Moves(numbering, sums)
    for run in runs:
        found = []
        far: dict[Hashable, int] = {}  # for each kind of sum, the terms that are from long before in any, as bits
        for node in nodes[max(0, run.start - run.period) : run.end + run.period]:
            if node.is_sum and node not in moves.dropped and (reader := _read_at(sums, node, run.period)) is not None:
                terms = list(sums.terms(node))
                key = node.role, *(-1 if maker is None else maker.role for *_, maker in terms)
                found.append((node, reader, terms, key))
                far[key] = far.get(key, 0) | _long_before(node, terms, run.period)
        for node, reader, terms, key in found:
            if far[key]:
                moves.put(node, reader, terms, far[key])
    return moves.applied(nodes)


def _read_at(sums: _Sums, root: Node, period: int) -> Node | None:
    """Return the first reader of a complete sum, if it comes within two periods; else None."""
    if sums.above(root) is not None:
        return None
    readers = [reader for reader in sums.readers.get(root, []) if reader.place > root.place]
    first = min(readers, key=lambda reader: reader.place, default=None)
    return None if first is None or first.place >= root.place + 2 * period else first


def _long_before(root: Node, terms: list[_Term], period: int) -> int:
    """Return as bits the terms computed more than two periods before; 0 for a sum that is carried over steps."""
    places = {total.place for total, *_ in terms}
    if len(terms) > _TERMS or any(place + period in places for place in places):
        return 0
    far = [maker is None or maker.place < root.place - 2 * period for *_, maker in terms]
    return sum(is_far << number for number, is_far in enumerate(far))


class _Moves:
    """Additions that move to other places; one use.

    Attributes:
        dropped: additions that leave their places.
        instead: the additions that replace some of them there.
        before: for a node, the additions to insert right before it.
    """

    def __init__(self, numbering: Numbering, sums: _Sums) -> None:
        self.numbering, self.sums = numbering, sums
        self.dropped: set[Node] = set()
        self.instead: dict[Node, Node] = {}
        self.before: dict[Node, list[Node]] = {}

    def put(self, root: Node, reader: Node, terms: list[_Term], far: int) -> None:
        """Add the terms of a sum that are from long before (`far`, as bits) last, right before it is read."""
        late = [term for number, term in enumerate(terms) if far >> number & 1]
        near = [term for number, term in enumerate(terms) if not far >> number & 1]
        places = [total.place for total, *_ in near]
        if not near or places != sorted(places):
            return
        self.dropped.update(total for total, *_ in terms)
        if len(terms) == 2:  # one addition, which moves as it is
            self.before.setdefault(reader, []).append(root)
            return
        total = _operand(near[0])
        for place, term in enumerate([*near[1:], *late], 1):
            is_late = place >= len(near)
            pair = (_operand(term), total) if is_late else (total, _operand(term))  # as in sums of two
            made = _add(self.numbering, root, pair, root.outs if place == len(terms) - 1 else None)
            if is_late:
                self.before.setdefault(reader, []).append(made)
            else:
                self.instead[term[0]] = made
            total = made.outs[0], (made, 0)
        self.sums.replaced(root, made)

    def applied(self, nodes: Sequence[Node]) -> list[Node]:
        """Return the nodes with the additions moved."""
        ordered: list[Node] = []
        for node in nodes:
            ordered += self.before.get(node, ())
            if node not in self.dropped or node in self.instead:
                ordered.append(self.instead.get(node, node))
        return ordered


# -- cotangents of sequences ------------------------------------------------------------------------------------------


def stacked_slices(numbering: Numbering, nodes: Sequence[Node]) -> list[Node]:
    """Return the nodes with cotangents of slices of an array stacked, instead of padded with zeros and added up."""
    sums = _Sums(numbering, nodes)
    dropped: set[Node] = set()
    instead: dict[Node, list[Node]] = {}
    for node in nodes:
        if not node.is_sum or sums.above(node) is not None:
            continue
        terms = list(sums.terms(node))
        groups = _slices(terms)
        if not groups:
            continue
        taken = {maker for _, group in groups for *_, maker in group}
        dropped |= taken | {total for total, *_ in terms}
        others = [_operand(term) for term in terms if term[2] not in taken]
        instead[node] = _joined(numbering, node, groups, others)
        sums.replaced(node, instead[node][-1])
    if not instead:
        return list(nodes)
    for node in dropped:
        node.place = -1
    return [new for node in nodes for new in (instead.get(node, []) if node in dropped else [node])]


_Group = list[tuple[int, Operand, Node]]
"""Cotangents of consecutive slices: (position of the slice, its cotangent, the node that scatters that into zeros)."""


def _slices(terms: list[_Term]) -> list[tuple[int, _Group]]:
    """Return (number of the integer in the index that varies, group) for each group among terms.

    A slice that was taken twice has two terms: they belong to different groups.
    """
    found: dict[Hashable, list[tuple[tuple[int, ...], Node]]] = {}
    for _, _, maker in terms:
        if maker is None or maker.call.name != "scatter":
            continue
        ints = integers_of(maker.call.attrs["index"], maker.call.attrs["shape"])
        if ints is not None:
            key = ints[1], maker.call.output.shape, maker.call.output.dtype
            found.setdefault(key, []).append((ints[0], maker))
    groups = []
    for members in found.values():
        hole = max(range(len(members[0][0])), key=lambda k: len({ints[k] for ints, _ in members}))
        rows: dict[Hashable, dict[int, list[Node]]] = {}
        for numbers, maker in members:
            rest = *numbers[:hole], *numbers[hole + 1 :]
            rows.setdefault(rest, {}).setdefault(numbers[hole], []).append(maker)
        for row in rows.values():
            for depth in range(max(map(len, row.values()))):
                ids = sorted(at for at, makers in row.items() if len(makers) > depth)
                if len(ids) > 2 and ids == list(range(ids[0], ids[0] + len(ids))):
                    nodes = [row[at][depth] for at in ids]
                    operands = [(node.operands[0], node.sources[0]) for node in nodes]
                    groups.append((hole, list(zip(ids, operands, nodes, strict=True))))
    return groups


def _joined(numbering: Numbering, root: Node, groups: list[tuple[int, _Group]], others: list[Operand]) -> list[Node]:
    """Return nodes that compute a sum of stacked slices and other terms."""
    made: list[Node] = []
    terms = list(others)
    for hole, group in groups:
        made += _stack(numbering, hole, group, root.outs if len(groups) == 1 and not others else None)
        terms.append((made[-1].outs[0], (made[-1], 0)))
    total = terms[0]
    for place, term in enumerate(terms[1:], 1):
        made.append(_add(numbering, root, (total, term), root.outs if place == len(terms) - 1 else None))
        total = made[-1].outs[0], (made[-1], 0)
    return made


def _stack(numbering: Numbering, hole: int, group: _Group, outs: tuple[int, ...] | None) -> list[Node]:
    """Return nodes that stack cotangents of slices, and scatter the stack into zeros unless it is the whole array."""
    call = group[0][2].call
    index, shape = call.attrs["index"], call.attrs["shape"]
    parts = list(index) if type(index) is tuple else [index]
    axis = [n for n, part in enumerate(parts) if type(part) is int][hole]
    parts[axis] = slice(group[0][0], group[0][0] + len(group))
    to = sum(type(part) is slice for part in parts[:axis])
    inner = call.inputs[0]
    whole = (*inner.shape[:to], len(group), *inner.shape[to:])
    is_all = whole == shape and all(part == slice(None) for part in parts[:axis] + parts[axis + 1 :])
    parts_of = [operand for _, operand, _ in group]
    stack = numbering.made(STACK, parts_of, {"axis": to}, (whole, inner.dtype), outs if is_all else None)
    if is_all:
        return [stack]
    attrs = {**call.attrs, "index": tuple(parts)}
    return [stack, numbering.made(call.operator, [(stack.outs[0], (stack, 0))], attrs, call.output.spec, outs)]
