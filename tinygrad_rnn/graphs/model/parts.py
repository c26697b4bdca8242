"""The recorded graph as operations that are worth drawing: `Part` and the `Wire`s between them.

Left out: cuts (they are marks on a wire), stacks and unstacks of one array, and a stack that an unstack undoes (the
border between two layers). Sums of sums are one part: x @ Wx + h @ Wh + b has one "+" with three inputs, and a loss
that is added up step by step is one sum, not a second recurrence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ...engine.tape import Node, Spec, spec_of
from ...engine.walk import ancestors
from .names import names_of


class Wire(NamedTuple):
    """One input of a part.

    Attributes:
        source: the part (or leaf) that it comes from, as the node that is its result; None for a constant.
        output: which output of the source, if it has several.
        uses: the (node, input number) whose cotangents are those of this wire.
        cuts: cut nodes that stand on it, the one nearest to the consumer first.
        constant: for a constant its array, number or Spec, else None.
    """

    source: Node | None
    output: int
    uses: tuple[tuple[Node, int], ...]
    cuts: tuple[Node, ...] = ()
    constant: Any = None

    @property
    def closed(self) -> bool:
        """Whether a cut of scale 0 stands on it: values pass, no gradient comes back."""
        return any(cut.past is not None for cut in self.cuts)

    @property
    def passed(self) -> tuple[tuple[Node, int], ...]:
        """The (node, input number) whose cotangents are what the source gets: behind the cuts, if there are some."""
        return ((self.cuts[-1], 0),) if self.cuts else self.uses

    @property
    def spec(self) -> Spec:
        """Shape and dtype of what it carries."""
        if self.source is not None:
            return self.source.specs[self.output]
        value = self.constant
        return value if isinstance(value, Spec) else spec_of(np.asarray(value))


@dataclass(frozen=True)
class Part:
    """One operation as it is drawn.

    Attributes:
        node: the node that makes its result.
        nodes: all nodes that it stands for, newest first.
        step: time step, or None: it stands outside time, or is a sum over steps.
        inputs: its wires.
    """

    node: Node
    nodes: tuple[Node, ...]
    step: int | None
    inputs: tuple[Wire, ...]

    @property
    def id(self) -> int:
        """The id of its node."""
        return self.node.id

    @property
    def name(self) -> str:
        """The operation's name."""
        return self.node.name


def parts_of(losses: Iterable[Node]) -> tuple[list[Part], list[Node]]:
    """Return the parts of the graphs behind `losses`, oldest first, and the leaves, oldest first.

    What lies behind a closed cut is included as far as it is still alive.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> cell = tr.RNNCell(2, 3, np.random.default_rng(0))
    >>> h, _ = cell(np.ones((1, 2)), cell.initial_state(1))
    >>> parts, leaves = parts_of([h.node])
    >>> [part.name for part in parts], len(parts[2].inputs), len(leaves)
    (['matmul', 'matmul', 'add', 'tanh'], 3, 3)
    """
    roots = list(losses)
    nodes = _all_nodes(roots)
    uses = Counter(edge[0].id for node in nodes for edge in node.edges if edge is not None)
    uses.update(past.id for node in nodes if (past := _past(node)) is not None)
    uses.update(root.id for root in roots)

    names = names_of(nodes)
    timed = {edge[0].id for node in nodes if node.step is not None for edge in node.edges if edge is not None}
    final = {root.id for root in roots}
    joined: set[int] = set()  # nodes that are drawn as a piece of a later one
    parts: dict[int, Part] = {}
    leaves = [node for node in reversed(nodes) if node.operation is None]
    for node in nodes:
        if node.operation is None or node.id in joined or is_passage(node):
            continue
        members, inputs = [node], []
        sums_up = node.id in final or node.id not in timed
        waiting = [(node, number) for number in reversed(range(len(node.edges)))]
        while waiting:
            user, number = waiting.pop()
            wire = _wire(user, number)
            if (
                wire.source is not None
                and not wire.cuts
                and uses[wire.source.id] == 1
                and _joins(user, wire.source, sums_up, names)
            ):
                joined.add(wire.source.id)
                members.append(wire.source)
                waiting.extend((wire.source, n) for n in reversed(range(len(wire.source.edges))))
            else:
                inputs.append(wire)
        step = node.step if len({member.step for member in members}) == 1 else None
        parts[node.id] = Part(node, tuple(members), step, tuple(inputs))
    kept = _used(roots, parts)
    return [parts[key] for key in sorted(kept)], leaves


def terms_of(parts: Iterable[Part], losses: Iterable[Node]) -> dict[int, int]:
    """Return the results that a loss is the sum of: node id to the number of the term, counted from 1.

    >>> import tinygrad_rnn as tr
    >>> x = tr.tensor([1.0, 2.0], requires_grad=True)
    >>> terms = x.sum(), (x * x).sum()
    >>> total = terms[0] + terms[1]
    >>> terms_of(parts_of([total.node])[0], [total.node]) == {terms[0].node.id: 1, terms[1].node.id: 2}
    True
    """
    final = {loss.id for loss in losses}
    found: dict[int, int] = {}
    for part in parts:
        if part.id in final and part.name == "add" and part.node.specs[0].shape in ((), (1,)):
            for wire in part.inputs:
                if wire.source is not None and wire.source.operation is not None:
                    found.setdefault(wire.source.id, len(found) + 1)
    return found


def _all_nodes(roots: list[Node]) -> list[Node]:
    """Return every node behind `roots`, newest first, closed cuts crossed where the past is alive."""
    found: dict[int, Node] = {}
    waiting = roots
    while waiting:
        new = [node for node in ancestors(waiting) if node.id not in found]
        found.update((node.id, node) for node in new)
        waiting = [past for node in new if (past := _past(node)) is not None and past.id not in found]
    return [found[key] for key in sorted(found, reverse=True)]


def _past(node: Node) -> Node | None:
    return None if node.past is None else node.past()


def is_cut(node: Node) -> bool:
    """Return whether a node is a cut, closed or scaled."""
    return node.name == "cut"


def is_passage(node: Node) -> bool:
    """Return whether a node hands one array on as it is: a cut, or a stack or unstack of one."""
    return is_cut(node) or (node.name in ("stack", "unstack") and len(node.edges) == 1 == len(node.specs))


def _wire(user: Node, number: int) -> Wire:
    """Follow an edge to what is drawn: through cuts, stacks of one, and stacks that an unstack undoes."""
    edge, cuts, use = user.edges[number], [], (user, number)
    if edge is None:
        return Wire(None, 0, (use,), (), user.inputs[number] if user.inputs else Spec((), np.dtype(float)))
    while True:
        node, index = edge
        if is_cut(node):
            cuts.append(node)
            past = _past(node)
            inner = node.edges[0] if node.edges else None if past is None else (past, _output_like(past, node.specs[0]))
            if inner is None:
                return Wire(None, 0, (use,), tuple(cuts), node.specs[0])
        elif is_passage(node):
            inner = node.edges[0]
        elif node.name == "unstack" and _undoes(node):
            stack = node.edges[0][0] if node.edges[0] is not None else node
            inner = stack.edges[index]
        else:
            return Wire(node, index, (use,), tuple(cuts))
        if inner is None:  # the array that was cut or stacked is a constant
            return Wire(None, 0, (use,), tuple(cuts), node.specs[min(index, len(node.specs) - 1)])
        edge = inner


def _undoes(unstack: Node) -> bool:
    edge = unstack.edges[0]
    return edge is not None and edge[0].name == "stack" and edge[0].attrs["axis"] == unstack.attrs["axis"]


def _output_like(node: Node, spec: Spec) -> int:
    """Return which output of `node` a closed cut was put on: it remembers the node and the shape."""
    return next((index for index, other in enumerate(node.specs) if other == spec), 0)


def _joins(user: Node, source: Node, sums_up: bool, names: Container[int]) -> bool:
    """Return whether a sum that only another sum uses is drawn as one with it.

    Args:
        user: the sum that uses it.
        source: the other.
        sums_up: whether nothing that has a step reads the whole.
        names: ids of results that have a name of their own: what an author named is worth a box.
    """
    alone = sums_up and user.specs[0].shape in ((), (1,)) and source.specs == user.specs
    weighs = source.name in ("multiply", "divide") and sum(edge is not None for edge in source.edges) == 1
    if alone and weighs and user.step is None and source.step is None:
        return user.name == "add"  # a weighted sum: a mean of losses
    if user.name != "add" or source.name != "add" or source.specs != user.specs:
        return False
    if (source.step, source.scope) == (user.step, user.scope) and source.id not in names:
        return True
    # Adding up single elements over steps is how a loss is accumulated, wherever the lines stand.
    over_time = source.step != user.step or user.step is None
    return alone and over_time


def _used(roots: list[Node], parts: dict[int, Part]) -> set[int]:
    """Return the ids of parts that roots reach by wires: a stack that every user undoes is not drawn."""
    found: set[int] = set()
    waiting = [_through(root) for root in roots]
    while waiting:
        key = waiting.pop()
        if key in found or key not in parts:
            continue
        found.add(key)
        waiting.extend(wire.source.id for wire in parts[key].inputs if wire.source is not None)
    return found


def _through(root: Node) -> int:
    while is_passage(root):
        edge = root.edges[0] if root.edges else None
        past = _past(root)
        if edge is None and past is None:
            break
        root = edge[0] if edge is not None else past  # type: ignore[assignment]  # one of the two is there
    return root.id
