"""Sums of cotangents in the order in which a loop adds them, before loops are searched for: their order is free.

The engine adds the terms of a cotangent as they arrive. Those of a state are one from its output, which is known before
the walk backward comes to the loop, and those of the step after it. In a loop the latter are carried, and the former is
added to their sum at the step itself. The terms of a sequence of which the function took slices are one for each slice,
each in zeros: in a loop they are stacked.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence

from ...ir.graph import Call, Operator, Value
from ...ir.operators import STACK
from .numbering import Node, Numbering, Operand, Spec, integers_of
from .periods import Run

_TERMS = 8  # of a sum that is put in order

_Term = tuple[Node, int, Node | None]  # (the sum that adds it, number, what makes it)


class _Sums:
    """The sums that the engine made, among nodes.

    Attributes:
        readers: of each of them.
    """

    def __init__(self, numbering: Numbering, nodes: Sequence[Node]) -> None:
        self.readers: dict[Node, list[Node]] = {}
        self.returned = {numbering.of(value) for value in numbering.graph.outputs}
        for node in nodes:
            for maker, _ in node.sources:
                if maker is not None and maker.is_sum:
                    self.readers.setdefault(maker, []).append(node)

    def above(self, node: Node) -> Node | None:
        """Return the sum of the same cotangent that a sum is a term of, and nothing else reads; None: there is none."""
        readers = self.readers.get(node, [])
        if len(readers) != 1 or node.outs[0] in self.returned:
            return None
        (reader,) = readers
        return reader if reader.is_sum and reader.call.cotangent == node.call.cotangent else None

    def terms(self, root: Node) -> Iterator[_Term]:
        """Yield (the sum that adds it, number, what makes it) for each term, from left to right."""
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
        """Let the readers of a sum read what another node makes in its place."""
        for reader in self.readers.get(old, []):
            reader.sources = tuple((new, 0) if maker is old else (maker, index) for maker, index in reader.sources)
        self.readers[new] = self.readers.pop(old, [])


def _add(numbering: Numbering, root: Node, terms: Sequence[Operand], outs: tuple[int, ...] | None) -> Node:
    """Return a node that adds two terms of the cotangent of a sum."""
    call = root.call
    inputs = [numbering.values[number] for number, _ in terms]
    made = Call(call.operator, inputs, {}, [(call.output.shape, call.output.dtype)], call.place)
    made.cotangent = call.cotangent
    return numbering.made(made, terms, outs)


def _operand(term: _Term) -> Operand:
    """Return the number of a term, and what makes it."""
    total, number, _ = term
    return number, total.sources[total.operands.index(number)]


# -- cotangents of states ---------------------------------------------------------------------------------------------


def late_sums(numbering: Numbering, nodes: Sequence[Node], runs: Iterable[Run]) -> list[Node]:
    """Return nodes in which terms from before a run are added last, right before the sum is read."""
    sums = _Sums(numbering, nodes)
    moves = _Moves(numbering, sums)
    for run in runs:
        found = []
        far: dict[Hashable, int] = {}  # of sums alike, the terms that are from long before in one of them, as bits
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
    """Return what reads a sum first, if it is the last addition to it, and read soon."""
    if sums.above(root) is not None:
        return None
    readers = [reader for reader in sums.readers.get(root, []) if reader.place > root.place]
    first = min(readers, key=lambda reader: reader.place, default=None)
    return None if first is None or first.place >= root.place + 2 * period else first


def _long_before(root: Node, terms: list[_Term], period: int) -> int:
    """Return the terms that are from long before, as bits; none of a sum that goes on from step to step."""
    places = {total.place for total, *_ in terms}
    if len(terms) > _TERMS or any(place + period in places for place in places):
        return 0
    far = [maker is None or maker.place < root.place - 2 * period for *_, maker in terms]
    return sum(is_far << number for number, is_far in enumerate(far))


class _Moves:
    """Additions that are done elsewhere; one use.

    Attributes:
        dropped: sums that are not computed where they were.
        instead: what stands in the place of some of them.
        before: what is computed right before a node.
    """

    def __init__(self, numbering: Numbering, sums: _Sums) -> None:
        self.numbering, self.sums = numbering, sums
        self.dropped: set[Node] = set()
        self.instead: dict[Node, Node] = {}
        self.before: dict[Node, list[Node]] = {}

    def put(self, root: Node, reader: Node, terms: list[_Term], far: int) -> None:
        """Add the terms of a sum that are from long before, as bits, last: right before it is read."""
        late = [term for number, term in enumerate(terms) if far >> number & 1]
        near = [term for number, term in enumerate(terms) if not far >> number & 1]
        places = [total.place for total, *_ in near]
        if not near or places != sorted(places):
            return
        self.dropped.update(total for total, *_ in terms)
        if len(terms) == 2:
            self.before.setdefault(reader, []).append(root)
            return
        total = _operand(near[0])
        for place, term in enumerate([*near[1:], *late], 1):
            is_late = place >= len(near)
            pair = (_operand(term), total) if is_late else (total, _operand(term))  # in the order of a sum of two terms
            made = _add(self.numbering, root, pair, root.outs if place == len(terms) - 1 else None)
            if is_late:
                self.before.setdefault(reader, []).append(made)
            else:
                self.instead[term[0]] = made
            total = made.outs[0], (made, 0)
        self.sums.replaced(root, made)

    def applied(self, nodes: Sequence[Node]) -> list[Node]:
        """Return nodes with the additions where they are done now."""
        ordered: list[Node] = []
        for node in nodes:
            ordered += self.before.get(node, ())
            if node not in self.dropped or node in self.instead:
                ordered.append(self.instead.get(node, node))
        return ordered


# -- cotangents of sequences ------------------------------------------------------------------------------------------


def stacked_slices(numbering: Numbering, nodes: Sequence[Node]) -> list[Node]:
    """Return nodes in which the cotangents of slices of an array are stacked, not each put into zeros and added up."""
    sums = _Sums(numbering, nodes)
    dropped: set[Node] = set()
    instead: dict[Node, list[Node]] = {}
    for node in nodes:
        if not node.is_sum or sums.above(node) is not None:
            continue
        terms = list(sums.terms(node))
        groups = _slices(numbering, terms)
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


def _slices(numbering: Numbering, terms: list[_Term]) -> list[tuple[int, _Group]]:
    """Return (which integer of the index goes along an axis, [(integer, cotangent, what puts it into zeros)])."""
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
                    groups.append((hole, [(at, _only(row[at][depth]), row[at][depth]) for at in ids]))
    return groups


def _only(node: Node) -> Operand:
    return node.operands[0], node.sources[0]


def _joined(numbering: Numbering, root: Node, groups: list[tuple[int, _Group]], others: list[Operand]) -> list[Node]:
    """Return nodes that compute a sum whose terms are other values, and slices, which are stacked."""
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
    """Return nodes that stack cotangents of slices, and put the stack into zeros unless it is all there is."""
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
    stack = _made(numbering, STACK, parts_of, {"axis": to}, (whole, inner.dtype), outs if is_all else None)
    if is_all:
        return [stack]
    attrs = {**call.attrs, "index": tuple(parts)}
    spec = call.output.shape, call.output.dtype
    return [stack, _made(numbering, call.operator, [(stack.outs[0], (stack, 0))], attrs, spec, outs)]


def _made(
    numbering: Numbering,
    operator: Operator,
    operands: list[Operand],
    attrs: dict[str, object],
    spec: Spec,
    outs: tuple[int, ...] | None,
) -> Node:
    inputs: list[Value] = [numbering.values[number] for number, _ in operands]
    return numbering.made(Call(operator, inputs, attrs, [spec]), operands, outs)
