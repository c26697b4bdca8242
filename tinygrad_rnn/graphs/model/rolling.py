"""Do the steps of a recurrence match? Then one of them stands for all, and a delay z^-1 for the edges between them.

Two steps match if they record the same operations in the same order: name, attributes, shapes, modules, and wiring.
The first step may start from a constant, and the last need not carry its state on: these are borders. So are operations
behind the last step alone, such as an output layer that reads the last state only; they stand outside the loop.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from ...engine.tape import Node
from .graph import Edge, Graph
from .operations import Operation


class Unlike(NamedTuple):
    """Why a graph cannot be rolled.

    Attributes:
        step: the step that differs; None if it is not about one step.
        reason: a sentence, with steps counted from 1, as pictures do.
    """

    step: int | None
    reason: str


class Link(NamedTuple):
    """One input of an operation of the step that stands for all.

    Attributes:
        kind: where it comes from: the same step, an earlier one, outside time, a leaf, or a constant.
        source: id of the operation (of the template, or outside) or leaf; -1 for a constant.
        output: which of its outputs.
        lag: steps back; 0 unless kind is "back".
        edges: its edge in each step, None where a border has none.
    """

    kind: Literal["here", "back", "outside", "leaf", "constant"]
    source: int
    output: int
    lag: int
    edges: tuple[Edge | None, ...]


@dataclass(frozen=True)
class Rolling:
    """A recurrence as one step.

    Attributes:
        steps: the steps that match.
        template: the operations of the step that stands for all, oldest first.
        copies: id of a template operation to its copy in each step (None where a border lacks it).
        links: id of a template operation to its inputs.
        outside: operations outside time, oldest first.
        home: id of an operation of any step to the id of its template op.
    """

    steps: tuple[int, ...]
    template: tuple[Operation, ...]
    copies: dict[int, tuple[Operation | None, ...]]
    links: dict[int, tuple[Link, ...]]
    outside: tuple[Operation, ...]
    home: dict[int, int]

    def states(self) -> dict[tuple[int, int, int], tuple[Link, ...]]:
        """Return what is carried from step to step: (template operation, output, lag) to the links that read it."""
        found: dict[tuple[int, int, int], list[Link]] = {}
        for links in self.links.values():
            for link in links:
                if link.kind == "back":
                    found.setdefault((link.source, link.output, link.lag), []).append(link)
        return {key: tuple(found[key]) for key in sorted(found)}


def roll(graph: Graph, ops: Sequence[Operation]) -> Rolling | Unlike:
    """Return the recurrence as one step, or why it is not one.

    Args:
        graph: what was recorded.
        ops: its operations, oldest first.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> from tinygrad_rnn.graphs.model.graph import read
    >>> from tinygrad_rnn.graphs.model.operations import operations_of
    >>> cell = tr.RNNCell(2, 3, np.random.default_rng(0))
    >>> outputs, h = tr.unroll(cell, np.ones((1, 6, 2)))
    >>> graph = read([outputs.sum()])
    >>> rolling = roll(graph, operations_of(graph))
    >>> len(rolling.steps), [op.name for op in rolling.template], [op.name for op in rolling.outside]
    (6, ['matmul', 'matmul', 'add', 'tanh'], ['stack', 'sum'])
    """
    groups: dict[int, list[Operation]] = {}
    for op in ops:
        if op.step is not None:
            groups.setdefault(op.step, []).append(op)
    steps = sorted(groups)
    if len(steps) < 2:
        what = "no operation has a time step" if not steps else f"there is one step only, t = {steps[0] + 1}"
        return Unlike(None, f"{what}: record steps with unroll, or inside at_step(t)")
    reference = steps[max(1, len(steps) - 2)]
    template = groups[reference]
    where = {op.id: step for step in steps for op in groups[step]}
    final = {node.id for node, _ in graph.losses}
    late = _extras(template, groups[steps[-1]], reference)
    outside = [op for op in ops if op.step is None or op.id in late]
    read = {edge.source.id for op in outside for edge in op.inputs if edge.source is not None} | final

    copies: dict[int, dict[int, Operation]] = {op.id: {} for op in template}
    home: dict[int, int] = {}
    for step in steps:
        own = [op for op in groups[step] if op.id not in late]
        wanted = template
        if len(own) < len(template) and step == steps[0]:
            lacking = _without_input(template, where)
            wanted = [op for op in template if op.id not in lacking]
        elif len(own) < len(template) and step == steps[-1]:
            now = _needed_now(template, read)
            wanted = [op for op in template if op.id in now]
        for number in range(max(len(own), len(wanted))):
            mine = own[number] if number < len(own) else None
            theirs = wanted[number] if number < len(wanted) else None
            if mine is None or theirs is None or not _alike(mine, theirs):
                return Unlike(step, _difference(step, mine, reference, theirs))
            copies[theirs.id][step] = mine
            home[mine.id] = theirs.id

    table = _Table({step: number for number, step in enumerate(steps)}, where, home, {op.id for op in outside})
    links: dict[int, tuple[Link, ...]] = {}
    for op in template:
        for step in steps:
            copy = copies[op.id].get(step)
            if copy is None:
                continue
            for mine_wire, edge in zip(copy.inputs, op.inputs, strict=True):
                if not table.fits(copy, mine_wire, op, edge):
                    return Unlike(step, _difference(step, copy, reference, op, wiring=True))
        links[op.id] = tuple(
            table.link(op, number, [copies[op.id].get(step) for step in steps]) for number in range(len(op.inputs))
        )
    whole = {key: tuple(found.get(step) for step in steps) for key, found in copies.items()}
    return Rolling(tuple(steps), tuple(template), whole, links, tuple(outside), home)


class _Table(NamedTuple):
    """Where operations stand: their steps, and what they are copies of."""

    order: dict[int, int]
    where: dict[int, int]
    home: dict[int, int]
    outside: set[int]

    def place(self, op: Operation, edge: Edge) -> tuple[Any, ...]:
        """Return what an input is, seen from its own step; equal for edges that do the same."""
        source, now = edge.source, self.order[self.where[op.id]]
        if source is None:
            return ("constant",)
        if source.id in self.home:
            lag = now - self.order[self.where[source.id]]
            return ("back" if lag else "here", self.home[source.id], edge.output, lag)
        if source.operation is None:
            return ("leaf", source.id, edge.output)
        return ("outside", source.id, edge.output - now)

    def fits(self, copy: Operation, mine: Edge, op: Operation, edge: Edge) -> bool:
        """Return whether an input of a copy does what that input of the template does."""
        if mine.spec.shape != edge.spec.shape:  # an initial state may be narrower than what follows
            return False
        here, there = self.place(copy, mine), self.place(op, edge)
        if here == there or (here[0] == there[0] == "outside" and mine.source is edge.source):
            return True
        if there[0] == "back":  # an initial state, or one whose past is freed
            early = self.order[self.where[copy.id]] < there[3]
            return (early and here[0] != "here") or (mine.source is None and bool(mine.cuts))
        if here[0] == there[0] == "leaf":  # inputs that are leaves, a new one for each step
            return not _is_parameter(mine.source) and not _is_parameter(edge.source)
        # What depends on nothing but the initial state is a constant in the first step.
        return here[0] == "constant" and there[0] == "here" and not self.order[self.where[copy.id]]

    def link(self, op: Operation, number: int, copies: Sequence[Operation | None]) -> Link:
        edges = tuple(None if copy is None else copy.inputs[number] for copy in copies)
        kind, *rest = self.place(op, op.inputs[number])
        source = rest[0] if rest else -1
        return Link(kind, source, op.inputs[number].output, rest[2] if kind == "back" else 0, edges)


def _is_parameter(leaf: Node | None) -> bool:
    owner = None if leaf is None or leaf.owner is None else leaf.owner()
    return owner is not None and owner.name is not None


def _extras(template: Sequence[Operation], last: Sequence[Operation], reference: int) -> set[int]:
    """Return the ids of operations that only the last step has, behind everything that it shares with the others."""
    if not last or last[0].step == reference or len(last) <= len(template):
        return set()
    waiting = iter(template)
    wanted = next(waiting, None)
    extra: set[int] = set()
    for op in last:
        if wanted is not None and _alike(op, wanted):
            wanted = next(waiting, None)
        else:
            extra.add(op.id)
    used = {edge.source.id for op in last if op.id not in extra for edge in op.inputs if edge.source is not None}
    return extra if wanted is None and not extra & used else set()


def _without_input(template: Sequence[Operation], where: Mapping[int, int]) -> set[int]:
    """Return the ids of operations that depend on nothing but the state: a constant initial state leaves them out."""
    found: set[int] = set()
    for op in template:
        sources = [edge.source for edge in op.inputs if edge.source is not None]
        if all(source.id in found or where.get(source.id, op.step) != op.step for source in sources):
            found.add(op.id)
    return found


def _needed_now(template: Sequence[Operation], read: set[int]) -> set[int]:
    """Return the ids of operations that something outside, or in the same step, needs: the rest only carries on."""
    ids = {op.id for op in template}
    found: set[int] = read & ids
    for op in reversed(template):
        if op.id in found:
            found |= {edge.source.id for edge in op.inputs if edge.source is not None} & ids
    return found


def _alike(a: Operation, b: Operation) -> bool:
    return (
        [node.name for node in a.nodes] == [node.name for node in b.nodes]
        and [spec.shape for spec in a.node.specs] == [spec.shape for spec in b.node.specs]
        and a.node.scope == b.node.scope
        and len(a.inputs) == len(b.inputs)
        and _alike_attrs(a.node.attrs, b.node.attrs, (a.step or 0) - (b.step or 0))
    )


def _alike_attrs(a: Any, b: Any, apart: int) -> bool:
    """Return whether attributes agree: arrays in shape and dtype, integers also if they count on with the steps."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(_alike_attrs(a[key], b[key], apart) for key in a)
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(_alike_attrs(x, y, apart) for x, y in zip(a, b, strict=True))
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return bool(a.shape == b.shape and a.dtype == b.dtype)
    if isinstance(a, slice) and isinstance(b, slice):
        return _alike_attrs((a.start, a.stop, a.step), (b.start, b.stop, b.step), apart)
    if isinstance(a, int) and isinstance(b, int):
        return bool(a == b or a - b == apart)
    return type(a) is type(b) and bool(a == b)


def _difference(
    step: int, mine: Operation | None, reference: int, theirs: Operation | None, wiring: bool = False
) -> str:
    def said(op: Operation | None) -> str:
        if op is None:
            return "nothing more"
        shape = "x".join(map(str, op.node.specs[0].shape)) or "one element"
        code, line = op.node.site
        return f"{op.name} ({shape}, {os.path.basename(code.co_filename)}:{line})"  # noqa: PTH119 (a name, not a file)

    if wiring:
        return f"step t = {step + 1} differs from t = {reference + 1}: {said(mine)} reads other results there"
    return f"step t = {step + 1} differs from t = {reference + 1}: it records {said(mine)}, the other {said(theirs)}"


def cut_scales(edges: Iterable[Edge | None]) -> list[float | None]:
    """Return what the cuts on each edge multiply a cotangent by; None where there is no cut."""
    found: list[float | None] = []
    for edge in edges:
        cuts = () if edge is None else edge.cuts
        found.append(float(np.prod([cut.attrs["scale"] for cut in cuts])) if cuts else None)
    return found
