"""Rolling of a recurrence: if its steps match, one represents them all, and a delay z^-1 the edges between them.

Two steps match if they record the same operations in the same order, with the same attributes, shapes, modules and
sources. At the borders, the first step may start from a constant, and the last need not pass on its state. Operations
of the last step alone, such as an output layer that reads only the last state, are placed outside the loop.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Literal, NamedTuple

import numpy as np

from ...engine.sites import describe_site
from ...engine.tape import Node
from .graph import Edge, Graph, Use
from .operations import Operation


class Unlike(NamedTuple):
    """The reason why a graph cannot be rolled.

    Attributes:
        step: the step that differs; None if no single step is the cause.
        reason: a sentence, with steps counted from 1, as pictures do.
    """

    step: int | None
    reason: str


class StepEdge(NamedTuple):
    """An input of an operation of the template, the step that represents all.

    Attributes:
        kind: its origin: the same step, an earlier one, outside time, a leaf, or a constant.
        source: the operation (of the template, or outside), by its result, or the leaf; None for a constant.
        output: which of its outputs.
        lag: steps back; 0 unless kind is "back".
        edges: its edge in each step, None if a border lacks it.
    """

    kind: Literal["here", "back", "outside", "leaf", "constant"]
    source: Node | None = None
    output: int = 0
    lag: int = 0
    edges: tuple[Edge | None, ...] = ()


class State(NamedTuple):
    """A value carried from step to step: the result and output of the template that it is, and the lag."""

    source: Node
    output: int
    lag: int


@dataclass(frozen=True)
class Rolling:
    """A recurrence as one step.

    Attributes:
        steps: the steps that match.
        template: the operations of the step that represents all, oldest first.
        copies: result of a template operation to the copy of the operation in each step (None if a border lacks it).
        inputs: result of a template operation to what the operation reads.
        outside: operations outside time, oldest first.
        home: result of an operation of any step to that of its template operation.
    """

    steps: tuple[int, ...]
    template: tuple[Operation, ...]
    copies: dict[Node, tuple[Operation | None, ...]]
    inputs: dict[Node, tuple[StepEdge, ...]]
    outside: tuple[Operation, ...]
    home: dict[Node, Node]

    def states(self) -> dict[State, tuple[StepEdge, ...]]:
        """Return the values that are carried from step to step, each with the edges that read it, oldest first."""
        found: dict[State, list[StepEdge]] = {}
        for edge in (edge for edges in self.inputs.values() for edge in edges):
            if edge.kind == "back" and edge.source is not None:
                found.setdefault(State(edge.source, edge.output, edge.lag), []).append(edge)
        return {state: tuple(found[state]) for state in sorted(found, key=lambda state: (state[0].id, *state[1:]))}

    def carried(self, state: State, readers: Iterable[StepEdge]) -> list[tuple[Use, ...]]:
        """Return, for each step that can read a state, the uses whose cotangents go back to the step before."""
        steps = range(state.lag, len(self.steps))
        read = [[edge for reader in readers if (edge := reader.edges[t]) is not None] for t in steps]
        return [tuple(dict.fromkeys(edge.passed for edge in edges)) for edges in read]


def roll(graph: Graph, ops: Sequence[Operation]) -> Rolling | Unlike:
    """Return the recurrence as one step, or the reason why it cannot be rolled.

    Args:
        graph: the recorded graph.
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
    steps: dict[int, list[Operation]] = {}
    for op in sorted((op for op in ops if op.step is not None), key=lambda op: op.step or 0):
        steps.setdefault(op.step or 0, []).append(op)
    if len(steps) < 2:
        what = "no operation has a time step" if not steps else f"there is one step only, t = {min(steps) + 1}"
        return Unlike(None, f"{what}: record steps with unroll, or inside at_step(t)")
    return _Matcher(graph, ops, steps).rolling()


class _Matcher:
    """The comparison of all steps with the last but one, which reads a state and passes one on.

    Args:
        graph: what was recorded.
        ops: its operations, oldest first.
        steps: step to its operations, in order; two at least.
    """

    def __init__(self, graph: Graph, ops: Sequence[Operation], steps: dict[int, list[Operation]]) -> None:
        self.steps = list(steps)
        self.reference = self.steps[max(1, len(steps) - 2)]
        self.template = steps[self.reference]
        self.at = {op.node: number for number, own in enumerate(steps.values()) for op in own}  # of each result
        late = _extras(self.template, steps[self.steps[-1]], self.reference)
        self.own = {step: [op for op in found if op.node not in late] for step, found in steps.items()}
        self.outside = [op for op in ops if op.step is None or op.node in late]
        self.read = {source for op in self.outside for source in op.sources} | {node for node, _ in graph.losses}
        self.copies: dict[Node, dict[int, Operation]] = {op.node: {} for op in self.template}
        self.home: dict[Node, Node] = {}

    def rolling(self) -> Rolling | Unlike:
        """Return the recurrence as one step, or the reason why it cannot be rolled."""
        for unlike in chain(map(self._match, self.steps), map(self._wire, self.template)):
            if unlike is not None:
                return unlike
        copies = {node: tuple(map(found.get, self.steps)) for node, found in self.copies.items()}
        inputs = {
            op.node: tuple(self._edge(op, number, copies[op.node]) for number in range(len(op.inputs)))
            for op in self.template
        }
        return Rolling(tuple(self.steps), tuple(self.template), copies, inputs, tuple(self.outside), self.home)

    def _wanted(self, step: int) -> list[Operation]:
        """Return the operations of the template that a step must have: the first and the last may lack some."""
        if len(self.own[step]) < len(self.template) and step == self.steps[0]:
            return self._with_input()
        if len(self.own[step]) < len(self.template) and step == self.steps[-1]:
            return self._needed_now()
        return self.template

    def _with_input(self) -> list[Operation]:
        """Return the operations that do not depend on the state alone: the others need no record if it is constant."""
        lacking: set[Node] = set()
        for op in self.template:
            now = self.at[op.node]
            if all(source in lacking or self.at.get(source, now) != now for source in op.sources):
                lacking.add(op.node)
        return [op for op in self.template if op.node not in lacking]

    def _needed_now(self) -> list[Operation]:
        """Return the operations that something outside, or in the same step, needs: the rest make the next state."""
        needed = set(self.read)
        for op in reversed(self.template):
            needed.update(op.sources if op.node in needed else ())
        return [op for op in self.template if op.node in needed]

    def _match(self, step: int) -> Unlike | None:
        """Record which template operation each operation of a step copies; return what differs, or None."""
        for mine, theirs in zip_longest(self.own[step], self._wanted(step)):
            if mine is None or theirs is None or not _alike(mine, theirs):
                return Unlike(step, _difference(step, mine, self.reference, theirs))
            self.copies[theirs.node][step] = mine
            self.home[mine.node] = theirs.node
        return None

    def _wire(self, op: Operation) -> Unlike | None:
        """Return the first copy of an operation whose inputs differ from those of the operation, or None."""
        for step, copy in self.copies[op.node].items():
            pairs = zip(copy.inputs, op.inputs, strict=True)
            if not all(self._fits(copy, mine, op, theirs) for mine, theirs in pairs):
                return Unlike(step, _difference(step, copy, self.reference, op, wiring=True))
        return None

    def _place(self, op: Operation, edge: Edge) -> StepEdge:
        """Return an input relative to its own step: equal for inputs of two steps that match."""
        source, now = edge.source, self.at[op.node]
        if source is None:
            return StepEdge("constant")
        if source in self.home:
            lag = now - self.at[source]
            return StepEdge("back" if lag else "here", self.home[source], edge.output, lag)
        if source.operation is None:
            return StepEdge("leaf", source, edge.output)
        return StepEdge("outside", source, edge.output - now)  # step t may read output t of an unstack

    def _fits(self, copy: Operation, mine: Edge, op: Operation, edge: Edge) -> bool:
        """Return whether an input of a copy matches the input of its template operation."""
        if mine.spec.shape != edge.spec.shape:  # an initial state may be narrower than what follows
            return False
        here, there = self._place(copy, mine), self._place(op, edge)
        if here == there or (here.kind == there.kind == "outside" and mine.source is edge.source):
            return True
        if there.kind == "back":  # an initial state, or one whose past is freed
            early = self.at[copy.node] < there.lag
            return (early and here.kind != "here") or (mine.source is None and bool(mine.cuts))
        if here.kind == there.kind == "leaf":  # inputs that are leaves, a new one for each step
            return not _is_parameter(mine.source) and not _is_parameter(edge.source)
        # A value that depends only on the initial state is a constant in the first step.
        return here.kind == "constant" and there.kind == "here" and not self.at[copy.node]

    def _edge(self, op: Operation, number: int, copies: Sequence[Operation | None]) -> StepEdge:
        edges = tuple(None if copy is None else copy.inputs[number] for copy in copies)
        return self._place(op, op.inputs[number])._replace(output=op.inputs[number].output, edges=edges)


def _is_parameter(leaf: Node | None) -> bool:
    owner = None if leaf is None or leaf.owner is None else leaf.owner()
    return owner is not None and owner.name is not None


def _extras(template: Sequence[Operation], last: Sequence[Operation], reference: int) -> set[Node]:
    """Return the results that only the last step has, if no operation that it shares with the others reads them."""
    if not last or last[0].step == reference or len(last) <= len(template):
        return set()
    waiting = iter(template)
    wanted = next(waiting, None)
    extra: set[Node] = set()
    for op in last:
        if wanted is not None and _alike(op, wanted):
            wanted = next(waiting, None)
        else:
            extra.add(op.node)
    used = {source for op in last if op.node not in extra for source in op.sources}
    return extra if wanted is None and not extra & used else set()


def _alike(a: Operation, b: Operation) -> bool:
    return (
        [node.name for node in a.nodes] == [node.name for node in b.nodes]
        and [spec.shape for spec in a.node.specs] == [spec.shape for spec in b.node.specs]
        and a.node.scope == b.node.scope
        and len(a.inputs) == len(b.inputs)
        and _alike_attrs(a.node.attrs, b.node.attrs, (a.step or 0) - (b.step or 0))
    )


def _alike_attrs(a: object, b: object, apart: int) -> bool:
    """Return whether attributes agree: arrays in shape and dtype, integers also if they are `apart`, like the steps."""
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
        return f"{op.name} ({shape}, {describe_site(op.node.site, folder=False)})"

    if wiring:
        return f"step t = {step + 1} differs from t = {reference + 1}: {said(mine)} reads other results there"
    return f"step t = {step + 1} differs from t = {reference + 1}: it records {said(mine)}, the other {said(theirs)}"
