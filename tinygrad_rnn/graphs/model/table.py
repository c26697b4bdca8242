"""The table of the unrolled picture: its rows, from inputs up to losses, and the steps that are shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from ...engine.tape import Array, Kept, Node, Spec
from ...errors import DrawingError
from ...pictures.layout.components import cycles
from .blocks import Block, Blocks, Kind, Link
from .constants import Constants
from .graph import Graph, Place, Use, spec_of_kept
from .names import SiteKey, operand_name

SHOWN = 8  # columns; if there are more steps, the middle ones are left out


@dataclass(eq=False)
class Row:
    """One row of the table.

    Attributes:
        role: "input", "cell", "attention", "layer", "loss", or "wide": one box that spans the sequence.
        level: 0 at the bottom; a row is above all that it reads.
        blocks: time to block.
        inputs: in a row of inputs, time to shape and dtype.
        letter: name of its boxes: "h" for h_1, h_2, ....
        slots: names of the states of a cell.
        backward: whether it reads the sequence from the end.
        offset: from the middle of a column to that of its box.
        y, width, height: of its boxes.
    """

    role: str
    level: int = 0
    blocks: dict[int, Block] = field(default_factory=dict)
    inputs: dict[int, Spec] = field(default_factory=dict)
    letter: str = ""
    slots: list[str] = field(default_factory=list)
    backward: bool = False
    offset: float = 0.0
    y: float = 0.0
    width: float = 0.0
    height: float = 0.0

    @property
    def first(self) -> Block:
        """The block of the step that is computed first."""
        return self.blocks[(max if self.backward else min)(self.blocks)]


class Table:
    """The rows of a picture, the edges between them, and the times.

    Args:
        graph: what was recorded.

    Attributes:
        graph, blocks: what was recorded, and its blocks.
        rows: by level, bottom first.
        row_of: block to its row.
        pairs: (lower row, upper row) connected by edges within a step.
        times: all steps in order, counted from 0; the picture counts from 1.
        starts: (row of a cell, number of a state) to the link or the constant that is its initial state.
        constants: names of arrays that the graph did not compute.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph, self.blocks, self.constants = graph, Blocks(graph), Constants(graph)
        self.times = tuple(sorted({block.step for block in self.blocks.blocks if block.step is not None}))
        self.row_of: dict[Block, Row] = {}
        backward, found = _backward_kinds(self.blocks), dict[Hashable, Row]()
        for block in self.blocks.blocks:
            key, role = (block, "wide") if block.step is None else (block.kind, block.kind.role)
            row = self.row_of[block] = found.setdefault(key, Row(role, backward=key in backward))
            time = self.time(block)
            row.blocks[-1 if time is None else time] = block
        reads: dict[Row, set[Row]] = {row: set() for row in found.values()}
        for link in self.blocks.links:
            if link.tail is not None and link.head is not None and self.ends(link) is None:
                reads[self.row_of[link.head]] |= {self.row_of[link.tail]} - {self.row_of[link.head]}
        _add_inputs(reads, self)
        _set_levels(reads)
        _name(reads, self)
        self.rows = tuple(sorted(reads, key=lambda row: row.level))
        self.pairs = tuple((low, high) for high in self.rows for low in self.rows if low in reads[high])
        self.starts = _starts(self)

    def state(self, place: Place) -> tuple[Row, int] | None:
        """Return the row and the number of a state; None for any other value."""
        block = self.blocks.of.get(place[0])
        return (self.row_of[block], block.states.index(place)) if block is not None and place in block.states else None

    def slot_of(self, block: Block, use: Use) -> int | None:
        """Return the number of the state that a use in a cell reads in all steps but the first; None: no state."""
        for edge in reversed(self.constants.at_spot(use)):
            maker = None if edge.source is None else self.blocks.of.get(edge.source)
            if maker is None or maker.kind != block.kind or maker.step == edge.use[0].step:
                continue
            if edge.place in maker.states:
                return maker.states.index(edge.place)
        return None

    def ends(self, link: Link) -> tuple[int, int] | None:
        """Return the two times that a link connects, the earlier first; None if it does not connect two."""
        times = {time for block in (link.tail, link.head) if block and (time := self.time(block)) is not None}
        return (min(times), max(times)) if len(times) == 2 else None

    def cut_times(self, link: Link, closed: bool = False) -> set[int]:
        """Return the times before which a link between two times is cut; `closed`: only those without any gradient.

        A delayed state is read several steps after its cut, but it is the cut that begins a window, not its reader.
        """
        ends, tail, head = self.ends(link), link.tail, link.head
        if ends is None or tail is None or head is None or tail.step is None or head.step is None:
            return set()
        cuts = [cut for cut in link.cuts if self.graph.cuts[cut].closed or not closed]
        steps = {cut.step if tail.step < (cut.step or 0) <= head.step else self._first_read[cut] for cut in cuts}
        backward = self.row_of[head].backward
        return {self.times[0] + self.times[-1] - step + 1 if backward else step for step in steps if step is not None}

    @cached_property
    def _first_read(self) -> dict[Node, int]:
        """Cut to the first step that reads it."""
        found: dict[Node, int] = {}
        for link in self.blocks.links:
            if link.head is not None and link.head.step is not None:
                found.update((cut, min(found.get(cut, link.head.step), link.head.step)) for cut in link.cuts)
        return found

    def between(self, early: int, late: int) -> tuple[int, ...]:
        """Return the times after one and before another."""
        return self.times[self.times.index(early) + 1 : self.times.index(late)]

    def first_states(self, row: Row) -> list[int]:
        """Return the numbers of the states of a row that have an initial value."""
        return sorted(slot for other, slot in self.starts if other is row)

    def input_id(self, row: Row, time: int) -> str:
        """Return the id of the box of an input."""
        return f"x{[other for other in self.rows if other.role == 'input'].index(row)}_{time + 1}"

    def time(self, block: Block) -> int | None:
        """Return the time of a block in the sequence; None: it spans the sequence."""
        if block.step is None:
            return None
        return self.times[0] + self.times[-1] - block.step if self.row_of[block].backward else block.step


def _backward_kinds(blocks: Blocks) -> set[Kind]:
    """Return the cells that read the sequence from the end: their outputs are reversed afterwards."""
    found: set[Kind] = set()
    members = {node for block in blocks.blocks for node in block.nodes if block.step is None}
    for node in members:
        ids = node.attrs.get("indices") if node.name == "take_along" else None
        edge = node.edges[0] if node.edges else None
        if ids is None or edge is None or edge[0].name != "stack" or ids.ndim < 2:
            continue
        order = np.moveaxis(ids, node.attrs["axis"], 0).reshape(ids.shape[node.attrs["axis"]], -1)
        if len(order) == len(edge[0].edges) and any(_reverses(steps) for steps in order.T):
            found.update(
                blocks.of[source[0]].kind for source in edge[0].edges if source is not None and source[0] in blocks.of
            )
    return {kind for kind in found if kind.role == "cell"}


def _reverses(steps: Array) -> bool:
    """Return whether steps run from the last one of a sequence to its first; those of its padding may follow."""
    return steps[0] > 0 and np.array_equal(steps[: steps[0] + 1], np.arange(steps[0], -1, -1))


def _starts(table: Table) -> dict[tuple[Row, int], Link | Kept]:
    """Return (row, number of a state) to its initial value, among what cells read in their first step."""
    first = {row.first for row in table.row_of.values()}
    starts: dict[tuple[Row, int], Link | Kept] = {}
    for link in table.blocks.links:
        if link.head in first and (link.tail is None or link.tail.step is None):
            slots = {table.slot_of(link.head, use) for use in link.uses}
            starts.update(((table.row_of[link.head], slot), link) for slot in slots if slot is not None)
    for block in (block for block in table.row_of if block in first):
        for edge in table.blocks.constants(block):
            slot = table.slot_of(block, edge.use)
            if slot is not None:
                starts.setdefault((table.row_of[block], slot), edge.constant)
                continue
            for place in table.constants.states_behind(edge.use):  # this constant is computed from their initial values
                state = table.state(place)
                if state is not None:
                    starts.setdefault(state, place[0].specs[place[1]])  # of which only the shape is known
    return {key: start for key, start in starts.items() if key[0].role == "cell"}  # a layer may be read later too


def _inputs(table: Table) -> dict[Row, dict[int, Kept]]:
    """Return row to the inputs that it reads: time to an array, or its Spec."""
    inputs: dict[Row, dict[int, Kept]] = {}
    for block, row in table.row_of.items():
        time = table.time(block)
        if time is None:
            continue
        found = [edge.constant for edge in table.blocks.constants(block) if table.constants.is_input(edge.use)]
        ids = [op.node.attrs.get("indices") for op in block.ops if op.name == "take"]
        for value in (*found, *(array for array in ids if array is not None)):
            inputs.setdefault(row, {}).setdefault(time, value)
    return inputs


def _add_inputs(reads: dict[Row, set[Row]], table: Table) -> None:
    """Add rows of inputs, which the rows above them read; rows that read equal inputs share them."""
    found: list[tuple[Row, dict[int, Kept]]] = []
    for row, values in _inputs(table).items():
        if row.role == "loss" or (reads[row] and not _is_fed(row, table)):
            continue
        like = next((other for other, theirs in found if _same(values, theirs)), None)
        if like is None:
            like = Row("input", letter="x" + "′" * min(len(found), 3))
            like.inputs = {time: spec_of_kept(value) for time, value in values.items()}
            found.append((like, values))
        reads[row].add(like)
    reads.update((row, set()) for row, _ in found)


def _is_fed(row: Row, table: Table) -> bool:
    """Return whether a row certainly reads an input; what it reads beside other rows may be anything."""
    edges = (edge for block in row.blocks.values() for edge in table.blocks.constants(block))
    return any(table.constants.is_input(edge.use, certain=True) for edge in edges)


def _same(values: dict[int, Kept], others: dict[int, Kept]) -> bool:
    """Return whether two cells read the same sequence: the same shapes, and the same numbers where they were kept."""
    if values.keys() != others.keys() or any(spec_of_kept(values[t]) != spec_of_kept(others[t]) for t in values):
        return False
    kept = [(a, others[t]) for t, a in values.items() if not (isinstance(a, Spec) or isinstance(others[t], Spec))]
    return all(np.array_equal(np.asarray(a), np.asarray(b), equal_nan=True) for a, b in kept)


def _set_levels(reads: dict[Row, set[Row]]) -> None:
    """Give each row a level above all that it reads, and all losses of steps that of the highest of them."""
    for cycle in cycles(reads):  # edges within a cycle do not count
        for row in cycle:
            row.level = 1 + max((low.level for low in reads[row] if low not in cycle), default=-1)
    losses = [row for row in reads if row.role == "loss"]
    for row in losses:
        row.level = max(other.level for other in losses)
    lowest = {row: min((high.level for high in reads if row in reads[high]), default=row.level + 1) for row in reads}
    for row in reads:
        if row.role == "input":
            row.level = lowest[row] - 1


_SPARE = "hcsuvwpqmn"
_LETTERS = {"loss": "ℓ", "attention": "a"}


def _name(rows: Iterable[Row], table: Table) -> None:
    """Name the rows: states by the program's own variables, outputs y, lookups e, attentions a, losses ℓ."""
    graph, readers = table.graph, _reader_names(table)
    # Of two layers that the same lines recorded, only one has names: these are for both.
    names = {SiteKey.of(node)[1:]: graph.names[node] for node in graph.nodes if node in graph.names}
    letters: Counter[str] = Counter()
    for row in rows:
        if row.role == "cell":
            states = max((block.states for block in row.blocks.values()), key=len)
            given = (graph.names.get(node) or names.get(SiteKey.of(node)[1:]) for node, _ in states)
            called = [name[index] if name else "" for name, (_, index) in zip(given, states, strict=True)]
            read = [readers.get((row, slot), "") for slot in range(len(states))]
            variables = {name for node, _ in states for name in node.site[0].co_varnames}
            row.slots = _slots([name or other for name, other in zip(called, read, strict=True)], variables)
            row.letter = ", ".join(row.slots) if len(row.slots) <= 2 else row.slots[-1]
        elif row.role != "input":
            block = next(iter(row.blocks.values()))
            letter = _LETTERS.get(block.kind.role, "e" if any(op.name == "take" for op in block.ops) else "y")
            row.letter = letter + "′" * min(letters[letter], 3)
            letters[letter] += 1


def _reader_names(table: Table) -> dict[tuple[Row, int], str]:
    """Return the names of the variables from which later steps read states, as far as all readers agree."""
    found: dict[tuple[Row, int], set[str]] = {}
    for link in table.blocks.links:
        state = None if link.place is None else table.state(link.place)
        if link.place is None or link.head is None or state is None or link.head.step == link.place[0].step:
            continue
        for node, number in link.uses:
            if node.site[0] is link.place[0].site[0]:  # others have names of their own for it
                found.setdefault(state, set()).add(operand_name(node, number))
    return {key: min(names - {""}) for key, names in found.items() if len(names - {""}) == 1}


def _slots(names: Iterable[str], variables: Collection[str]) -> list[str]:
    """Return the names of states: the program's own if they are short and not yet taken, else spare letters.

    Args:
        names: those of the program, "" where there is none.
        variables: of the functions that compute the states; what is called c there must not be another state.
    """
    found: list[str] = []
    for name in names:
        found.append(name if name not in found and len(name) < 8 else "")
    taken = {*found, *(variables if any(found) else ())}
    spare = (letter for letter in [*(x for x in _SPARE if x not in taken), *_SPARE] if letter not in found)
    return [name or next(spare) for name in found]


def shown_times(times: Sequence[int], steps: int | Sequence[int] | None) -> list[int]:
    """Return which times get a column.

    Args:
        times: all, in order.
        steps: how many (the first ones and the last ones), or which, counted from 1; None: all up to eight, else
            1, 2, T-2, T-1, T.

    Raises:
        DrawingError: if a step does not exist.

    >>> shown_times(range(35), None), shown_times(range(35), 3), shown_times(range(35), [1, 7])
    ([0, 1, 32, 33, 34], [0, 33, 34], [0, 6])
    """
    all_times = list(times)
    if steps is None:
        return all_times if len(all_times) <= SHOWN else [*all_times[:2], *all_times[-3:]]
    if isinstance(steps, int):
        if steps >= len(all_times):
            return all_times
        first = (steps - 1) // 2 or (steps > 1)
        return [*all_times[:first], *all_times[len(all_times) - (steps - first) :]]
    wanted = sorted({step - 1 for step in steps})
    missing = [step + 1 for step in wanted if step not in set(all_times)]
    if missing or not wanted:
        known = f"{all_times[0] + 1} to {all_times[-1] + 1}" if all_times else "none, without unroll or at_step(t)"
        raise DrawingError(f"draw: steps must be steps of the graph, counted from 1 ({known}), got {missing or '[]'}")
    return wanted
