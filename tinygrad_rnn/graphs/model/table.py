"""The unrolled picture as a table: which rows there are, from inputs up to losses, and which steps are shown."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...engine.tape import Node, Spec, spec_of
from ...errors import DrawingError
from .components import cycles
from .graph import Graph
from .groups import Group, Groups, Link
from .web import Kind

SHOWN = 8  # columns; of more steps the middle ones are left out


@dataclass(eq=False)
class Row:
    """One row of the table.

    Attributes:
        key: a Kind; for a box on the whole sequence its Group; for inputs ("input", number).
        role: "input", "cell", "layer", "loss" or "wide".
        level: 0 at the bottom; a row stands above all that it reads.
        groups: time to group.
        inputs: of a row of inputs, time to shape and dtype.
        letter: what its boxes are called: "h" for h_1, h_2, ....
        slots: of a cell, the names of its states.
        backward: whether it reads the sequence from the end.
        offset: how far its boxes stand from the middle of their column.
        y, width, height: of its boxes.
    """

    key: Hashable
    role: str
    level: int = 0
    groups: dict[int, Group] = field(default_factory=dict)
    inputs: dict[int, Spec] = field(default_factory=dict)
    letter: str = ""
    slots: list[str] = field(default_factory=list)
    backward: bool = False
    offset: float = 0.0
    y: float = 0.0
    width: float = 0.0
    height: float = 0.0

    @property
    def group(self) -> Group:
        """The only group of a wide row."""
        return self.groups[-1]


@dataclass(frozen=True)
class Table:
    """Rows, what connects them, and times.

    Attributes:
        rows: by level, bottom first.
        row_of: group to its row.
        pairs: (lower row, upper row) that are joined by edges within a step.
        times: all steps in order, counted from 0; the picture counts from 1.
        starts: links and constants that give a cell its first state: (row, number of the state) to the link, or None
            for a constant.
        first: what the initial states are numbered: 0 for a sequence from its start.
    """

    rows: tuple[Row, ...]
    row_of: dict[Group, Row]
    pairs: tuple[tuple[Row, Row], ...]
    times: tuple[int, ...]
    starts: dict[tuple[Row, int], Link | Any]

    def time(self, group: Group) -> int | None:
        """Return when a group stands in the sequence; None: it spans the sequence."""
        if group.step is None:
            return None
        return self.times[0] + self.times[-1] - group.step if self.row_of[group].backward else group.step


def make_table(graph: Graph, groups: Groups) -> Table:
    """Return the rows of a picture."""
    times = tuple(sorted({group.step for group in groups.groups if group.step is not None}))
    backward = _backward_kinds(groups, times)
    rows: dict[Hashable, Row] = {}
    row_of: dict[Group, Row] = {}
    for group in groups.groups:
        if group.step is None:
            row = rows[group] = Row(group, "wide", groups={-1: group})
        else:
            row = rows.setdefault(group.kind, Row(group.kind, group.kind.role, backward=group.kind in backward))
            time = times[0] + times[-1] - group.step if row.backward else group.step
            row.groups[time] = group
        row_of[group] = row
    table = Table((), row_of, (), times, {})
    starts, inputs = _starts(groups, table)
    reads = _reads(groups, table)
    _add_inputs(inputs, reads, rows, table)
    for row in rows.values():
        reads.setdefault(row, set())
    _set_levels(reads, graph)
    _name(list(rows.values()), groups, graph)
    ordered = sorted(rows.values(), key=lambda row: row.level)
    pairs = tuple((low, high) for high in ordered for low in ordered if low in reads[high])
    return Table(tuple(ordered), row_of, pairs, times, starts)


def _backward_kinds(groups: Groups, times: Sequence[int]) -> set[Kind]:
    """Return the cells whose outputs are put into reverse order: they read from the end."""
    found: set[Kind] = set()
    members = {node for group in groups.groups for node in group.nodes if group.step is None}
    for node in members:
        ids = node.attrs.get("indices") if node.name == "take_along" else None
        edge = node.edges[0] if node.edges else None
        if ids is None or edge is None or edge[0].name != "stack" or ids.ndim < 2 or not len(times):
            continue
        order = np.moveaxis(ids, node.attrs["axis"], 0).reshape(ids.shape[node.attrs["axis"]], -1)
        if (order[0] == order.max()).any() and order.max() > 0:
            found.update(
                groups.of[source[0]].kind for source in edge[0].edges if source is not None and source[0] in groups.of
            )
    return {kind for kind in found if kind.role == "cell"}


def _reads(groups: Groups, table: Table) -> dict[Row, set[Row]]:
    """Return row to the rows that it reads within a step."""
    reads: dict[Row, set[Row]] = {}
    for link in groups.links:
        if link.tail is None or link.head is None:
            continue
        low, high = table.row_of[link.tail], table.row_of[link.head]
        times = table.time(link.tail), table.time(link.head)
        if low is not high and (None in times or times[0] == times[1]):
            reads.setdefault(high, set()).add(low)
    return reads


def _starts(groups: Groups, table: Table) -> tuple[dict[tuple[Row, int], Link | Any], dict[Row, dict[int, Any]]]:
    """Part what cells read in their first step into first states and inputs."""
    carried: dict[tuple[Kind, Hashable], int] = {}  # where in the program a cell reads which of its states
    spots: dict[Node, Hashable] = {}
    for group in groups.groups:
        seen: dict[Hashable, int] = {}
        for node in group.nodes:
            key = (node.name, id(node.site[0]), node.site[1])
            seen[key] = seen.get(key, -1) + 1
            spots[node] = (key, seen[key])
    for link in groups.links:
        if link.tail is None or link.head is None or link.place not in link.tail.states:
            continue
        if link.tail.kind == link.head.kind and link.tail.step != link.head.step:
            for node, number in link.uses:
                carried[link.head.kind, (spots[node], number)] = link.tail.states.index(link.place)
    first = {row.groups[(max if row.backward else min)(row.groups)] for row in set(table.row_of.values())}
    starts: dict[tuple[Row, int], Link | Any] = {}
    for link in groups.links:
        head = link.head
        outer = link.tail is None or link.tail.step is None
        if head is None or head.kind.role != "cell" or not outer or head not in first:
            continue
        for node, number in link.uses:
            slot = carried.get((head.kind, (spots[node], number)))
            if slot is not None:
                starts[table.row_of[head], slot] = link
    inputs: dict[Row, dict[int, Any]] = {}
    for group, constants in groups.constants.items():
        row, time = table.row_of[group], table.time(group)
        for (node, number), value in constants:
            slot = carried.get((group.kind, (spots[node], number)))
            if slot is not None and group in first:
                starts.setdefault((row, slot), value)
            elif time is not None and not _is_number(value):
                inputs.setdefault(row, {}).setdefault(time, value)
    for group in groups.groups:
        for node in group.nodes:
            ids = node.attrs.get("indices") if node.name == "take" else None
            if ids is not None and group.step is not None:
                time = table.time(group)
                assert time is not None
                inputs.setdefault(table.row_of[group], {}).setdefault(time, ids)
    return starts, inputs


def _is_number(value: Any) -> bool:
    return (
        value is None
        or (isinstance(value, Spec) and not value.shape)
        or (np.ndim(value) == 0 and not isinstance(value, Spec))
    )


def _add_inputs(
    inputs: dict[Row, dict[int, Any]], reads: dict[Row, set[Row]], rows: dict[Hashable, Row], table: Table
) -> None:
    """Add rows of inputs below the rows that read nothing else; rows that read the like share them."""
    found: list[tuple[Row, dict[int, Any]]] = []
    for row, values in inputs.items():
        if reads.get(row) or row.role == "loss":
            continue
        like = next((other for other, theirs in found if _same(values, theirs)), None)
        if like is None:
            like = Row(("input", len(found)), "input", letter="x")
            like.inputs = {time: _spec(value) for time, value in values.items()}
            found.append((like, values))
        reads.setdefault(row, set()).add(like)
    for number, (row, _) in enumerate(found):
        row.letter = "x" + "′" * min(number, 3)
        rows[row.key] = row


def _spec(value: Any) -> Spec:
    return value if isinstance(value, Spec) else spec_of(np.asarray(value))


def _same(values: dict[int, Any], others: dict[int, Any]) -> bool:
    """Return whether two cells read the same sequence: the same shapes, and the same numbers where they were kept."""
    if values.keys() != others.keys() or any(_spec(values[t]) != _spec(others[t]) for t in values):
        return False
    pairs = ((values[t], others[t]) for t in values)
    return all(isinstance(a, Spec) or isinstance(b, Spec) or np.array_equal(a, b, equal_nan=True) for a, b in pairs)


def _set_levels(reads: dict[Row, set[Row]], graph: Graph) -> None:
    """Give each row a level above all that it reads, and the losses of steps the same, highest one."""
    for row in list(reads):
        for low in reads[row]:
            if low not in reads and low.role == "input":
                reads.setdefault(low, set())
    for cycle in cycles(reads):  # rows that read each other are taken as they come
        for row in cycle:
            row.level = 1 + max((low.level for low in reads[row] if low not in cycle), default=-1)
    losses = [row for row in reads if row.role == "loss"]
    for row in losses:
        row.level = max(other.level for other in losses)
    lowest = {row: min((high.level for high in reads if row in reads[high]), default=row.level + 1) for row in reads}
    for row in reads:
        if row.role == "input":
            row.level = lowest[row] - 1


def _name(rows: Iterable[Row], groups: Groups, graph: Graph) -> None:
    """Name the rows: states by the program's own variables, outputs y, lookups e, losses ℓ."""
    names = graph.names
    # Of two layers whose lines are the same, one has the names.
    by_line = {(id(node.site[0]), node.site[1], node.name): names[node.id] for node in graph.nodes if node.id in names}
    letters: dict[str, int] = {}
    for row in rows:
        if row.role == "input":
            continue
        group = max(row.groups.values(), key=lambda group: len(group.states))
        if row.role == "cell":
            row.slots = []
            for node, index in group.states:
                name = by_line.get((id(node.site[0]), node.site[1], node.name), ("",) * (index + 1))[index]
                row.slots.append(name if name and name not in row.slots and len(name) < 8 else "")
            spare = iter("hcsuvwpqmn")
            for number, name in enumerate(row.slots):
                if not name:
                    row.slots[number] = next(letter for letter in spare if letter not in row.slots)
            row.letter = ", ".join(row.slots) if len(row.slots) <= 2 else row.slots[-1]
            continue
        kind = group.kind.role
        letter = "ℓ" if kind == "loss" else "e" if any(node.name == "take" for node in group.nodes) else "y"
        letters[letter] = count = letters.get(letter, 0) + 1
        row.letter = letter + "′" * min(count - 1, 3)


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
        if steps < 1:
            raise DrawingError(f"draw: steps must be 1 or more, or a list of steps counted from 1, got {steps}")
        if steps >= len(all_times):
            return all_times
        first = (steps - 1) // 2 or (steps > 1)
        return [*all_times[:first], *all_times[len(all_times) - (steps - first) :]]
    wanted = sorted({int(step) - 1 for step in steps})
    missing = [step + 1 for step in wanted if step not in set(all_times)]
    if missing or not wanted:
        raise DrawingError(
            f"draw: steps {missing or '[]'} are not in the graph, which has the steps {all_times[0] + 1} to "
            f"{all_times[-1] + 1}"
        )
    return wanted
