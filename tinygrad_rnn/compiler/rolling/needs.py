"""What of a graph with loops is needed: calls, loops, and of each loop what it must hand on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from ..ir.graph import Graph
from ..ir.table import VIEWS
from .families import Families, Results
from .loop import Family, Inner, Past, Read, Rolled, Same, Slice
from .numbering import ZERO, Node

Join = list[tuple[Family | None, int, int, int]]
"""What a stack joins, in order: (family, first index, step, count), or (None, number of a value, 0, 1)."""


@dataclass
class OfLoop:
    """What is needed of a loop, in the order in which it was found out.

    Attributes:
        slots: that are computed.
        carried: (slot, index, lag) of values that are carried.
        sliced: slices that are read.
        same: numbers of what is the same at each step.
        results: (slot, index, lag) of what is wanted of each step.
    """

    slots: dict[int, None] = field(default_factory=dict)
    carried: dict[tuple[int, int, int], None] = field(default_factory=dict)
    sliced: dict[Slice, None] = field(default_factory=dict)
    same: dict[int, None] = field(default_factory=dict)
    results: dict[tuple[int, int, int], None] = field(default_factory=dict)


class Needs:
    """Finds out what the results of a graph need.

    Attributes:
        nodes: calls that are needed outside of loops.
        loops: for each loop that is needed, what of it.
        joins: of stacks, what they join where that is known better than one by one.
        single: of a result of a loop, (loop, slot, index), the steps that are read one by one.
        drawn: nodes and loops that draw from a generator, in the order of the draws.
    """

    def __init__(self, graph: Graph, families: Families, nodes: list[Node]) -> None:
        self.families, self.numbering = families, families.numbering
        self.nodes: dict[Node, None] = {}
        self.loops: dict[Rolled, OfLoop] = {}
        self.joins: dict[Node, Join] = {}
        self.single: dict[tuple[Rolled, int, int], set[int]] = {}
        self.drawn: list[Node | Rolled] = []
        self._seen: set[int] = set()
        self._alone: dict[tuple[Rolled, int, int], int] = {}
        self._waiting: list[tuple[Callable[..., None], tuple[object, ...]]] = []
        self._line = nodes
        for node in nodes:
            if not node.call.operator.pure:
                self._draw(node)
        for value in graph.outputs:
            self._number(self.numbering.of(value))
        while self._waiting or self._alone:
            if not self._waiting:
                self._outside_or_not(*self._alone.popitem())
            while self._waiting:
                function, arguments = self._waiting.pop()
                function(*arguments)

    def items(self) -> list[Node | Rolled]:
        """Return the nodes and the loops that are needed: a loop where its last step was, then nodes in their order."""
        places: dict[Rolled, int] = {}
        for loop, slot, *_ in self.families.home.values():
            if loop in self.loops:
                places.setdefault(loop, loop.nodes[slot].place)
        return sorted([*self.nodes, *places], key=lambda item: places[item] if isinstance(item, Rolled) else item.place)

    def inputs(self, item: Node | Rolled) -> tuple[list[int], list[Family]]:
        """Return the numbers and the families that a node or a loop reads."""
        if isinstance(item, Rolled):
            need = self.loops[item]
            init = [item.init[key] for key in need.carried if item.init[key] != ZERO]
            return [*init, *need.same], [read.family for read in need.sliced]
        join = self.joins.get(item)
        if join is None:
            return list(item.operands), []
        alone = [start for family, start, *_ in join if family is None]
        return alone, [family for family, *_ in join if family is not None]

    def _draw(self, node: Node) -> None:
        home = self.families.home.get(node.outs[0])
        if home is None:
            self.drawn.append(node)
            self._later(self._node, node)
            return
        loop, slot, *_ = home
        if not self.drawn or self.drawn[-1] is not loop:
            self.drawn.append(loop)
        self._later(self._slot, loop, slot)

    def _later(self, function: Callable[..., None], *arguments: object) -> None:
        self._waiting.append((function, arguments))

    def _number(self, number: int) -> None:
        if number in self._seen:
            return
        self._seen.add(number)
        home = self.families.home.get(number)
        if home is None:
            made = self.numbering.pulled(number)
            if made is not None:
                self._later(self._node, made[0])
            return
        loop, slot, index, step = home
        if step == loop.steps - 1 and (slot, index) in loop.lags:
            self._later(self._past, loop, slot, index, 1)
        else:
            steps = self.single.setdefault((loop, slot, index), set())
            steps.add(step)
            if len(steps) == 1 and not self._is_wanted(loop, slot, index):
                self._alone[loop, slot, index] = number
            else:
                self._alone.pop((loop, slot, index), None)
                self._later(self._result, loop, slot, index, 0)

    def _outside_or_not(self, result: tuple[Rolled, int, int], number: int) -> None:
        """Compute what is wanted of one step only outside of the loop, if that does not need the loop."""
        loop, slot, index = result
        made = self.numbering.pulled(number)
        assert made is not None
        homes = [self.families.home.get(operand) for operand in made[0].operands]
        is_free = made[0].call.operator.pure and all(home is None or home[0] is not loop for home in homes)
        if self._is_wanted(loop, slot, index) or not is_free:
            self._result(loop, slot, index, 0)
            return
        for out in made[0].outs:
            self.families.home.pop(out, None)
        self._node(made[0])

    def _node(self, node: Node) -> None:
        if node in self.nodes:
            return
        self.nodes[node] = None
        if node.call.name in ("stack", "concatenate"):
            join = join_of(self.families, node)
            if join is not None:
                self.joins[node] = join
        numbers, some = self.inputs(node)
        self._all(numbers)
        for family in some:
            self._family(family)

    def _all(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            self._later(self._number, number)

    def _family(self, family: Family) -> None:
        if isinstance(family, Results):
            self._later(self._result, family.loop, family.slot, family.index, family.lag)
        else:
            self._all(family.base)

    def _is_wanted(self, loop: Rolled, slot: int, index: int) -> bool:
        """Return whether a result of each step is wanted."""
        return loop in self.loops and (slot, index, 0) in self.loops[loop].results

    def _of(self, loop: Rolled) -> OfLoop:
        return self.loops.setdefault(loop, OfLoop())

    def _result(self, loop: Rolled, slot: int, index: int, lag: int) -> None:
        self._of(loop).results[slot, index, lag] = None
        self._value(loop, slot, index, lag)

    def _value(self, loop: Rolled, slot: int, index: int, lag: int) -> None:
        if lag:
            self._past(loop, slot, index, lag)
        elif slot not in loop.stands:
            self._slot(loop, slot)
        else:
            stand = loop.stands[slot]
            self._read(loop, Same(loop.nodes[slot].outs[index]) if isinstance(stand, Same) else stand)

    def _slot(self, loop: Rolled, slot: int) -> None:
        need = self._of(loop)
        if slot not in need.slots:
            need.slots[slot] = None
            for read in loop.reads[slot]:
                self._later(self._read, loop, read)

    def _read(self, loop: Rolled, read: Read) -> None:
        need = self._of(loop)
        if isinstance(read, Same):
            need.same[read.number] = None
            self._later(self._number, read.number)
        elif isinstance(read, Inner):
            self._later(self._slot, loop, read.slot)
        elif isinstance(read, Past):
            self._past(loop, *read)
        elif (base := looked_through(self.families, read))[1] is not None:
            self._read(loop, base[0])
        else:
            need.sliced[read] = None
            self._family(read.family)

    def _past(self, loop: Rolled, slot: int, index: int, lag: int) -> None:
        need = self._of(loop)
        for back in range(1, lag + 1):
            if (slot, index, back) not in need.carried:
                need.carried[slot, index, back] = None
                self._later(self._number, loop.init[slot, index, back])
        self._later(self._value, loop, slot, index, 0)


def looked_through(families: Families, read: Slice) -> tuple[Read, tuple[Node, int] | None]:
    """Return (what a view of another loop's looks at, (the view, which of its results)), or (the slice, None).

    So the other loop returns one array for all views of it.
    """
    family = read.family
    if not isinstance(family, Results) or family.lag or family.slot in family.loop.stands:
        return read, None
    loop, node = family.loop, family.loop.nodes[family.slot]
    if node.call.name not in VIEWS or len(node.operands) != 1:
        return read, None
    (base,) = loop.reads[family.slot]
    view = node, family.index
    if isinstance(base, Same):
        return base, view
    if isinstance(base, Slice):  # element start + step * m at the step m that is taken, at the time t
        start, step = base.start, base.step
        if loop.reverse:
            start, step = start + step * (loop.steps - 1), -step
        return Slice(base.family, start + step * read.start, step * read.step), view
    lag = base.lag if isinstance(base, Past) else 0
    return read._replace(family=families.results(loop, base.slot, base.out, lag)), view


def join_of(families: Families, node: Node) -> Join | None:
    """Return what a node joins, as elements of families; None if it is best to join them one by one."""
    outputs = {families.numbering.spec(number) for number in node.operands}
    if len(outputs) != 1 or len(node.operands) < 2:
        return None
    join: Join = []
    at = 0
    while at < len(node.operands):
        best: tuple[Family | None, int, int, int] = (None, node.operands[at], 0, 1)
        for family, start, step in _starting(families, node.operands[at : at + 2]):
            count = 2
            while at + count < len(node.operands) and family.element(start + count * step) == node.operands[at + count]:
                count += 1
            if count > best[3]:
                best = family, start, step, count
        join.append(best)
        at += best[3]
    whole = len(join) == 1 if node.call.name == "concatenate" else 3 * len(join) <= len(node.operands) + 2
    return join if whole and join[0][3] + join[-1][3] > 2 else None


def _starting(families: Families, numbers: tuple[int, ...]) -> Iterable[tuple[Family, int, int]]:
    """Yield (family, index, step) of each family that two values are in."""
    if len(numbers) == 2:
        second = dict(families.of(numbers[1]))
        for family, index in families.of(numbers[0]):
            if family in second and second[family] != index:
                yield family, index, second[family] - index
