"""A recorded graph as data: nodes, parameters, cuts, and edges that are resolved through cuts.

Reading visits each edge once, without recursion, so it takes linear time. Nodes are numbered from 0 in the order of
their creation, so that the same program gives the same numbers each time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from ...engine.sites import describe_site
from ...engine.tape import Array, Kept, Node, Spec, spec_of
from ...engine.tensor import Tensor, described
from ...engine.walk import ancestors
from ...errors import GradientError
from ...pictures.layout.components import reached
from .credit import Credit
from .names import names_of

Place = tuple[Node, int]
"""The origin of a value: a node, and the number of its output."""

Use = tuple[Node, int]
"""A reader of a value: a node, and the number of its input."""


class Parameter(NamedTuple):
    """A leaf of the graph, with its name, shape and dtype."""

    node: Node
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


class Cut(NamedTuple):
    """A cut: its node, the place that it cuts (None if freed or a constant), and its factor on the cotangent."""

    node: Node
    source: Place | None
    scale: float
    label: str = ""  # if it is closed in only some passes: how many

    @property
    def closed(self) -> bool:
        """Whether no gradient passes."""
        return self.node.past is not None


class Pass(NamedTuple):
    """One of several backward passes whose windows overlap: the graph, recorded again with the cuts of this pass.

    Attributes:
        seeds: the losses at which it starts, each with a cotangent of ones.
        node: node of this recording to the same node of the graph.
        closed: steps that are cut off from the previous step.
        end: the step after its last loss.
    """

    seeds: tuple[Place, ...]
    node: Mapping[Node, Node]
    closed: frozenset[int]
    end: int


class Edge(NamedTuple):
    """The source of an input, resolved through cuts and through stacks that an unstack undoes.

    Attributes:
        source: the node that made the value; None for a constant, or a value freed by a closed cut.
        output: which output of the source.
        use: its reader, whose cotangent is that of the edge.
        cuts: cut nodes on the way, the one nearest to the reader first.
        constant: the constant (a number, an array, or the Spec of an array that the rule did not keep), else None.
    """

    source: Node | None
    output: int
    use: Use
    cuts: tuple[Node, ...] = ()
    constant: Kept = None

    @property
    def place(self) -> Place | None:
        """The origin of the value; None for a constant."""
        return None if self.source is None else (self.source, self.output)

    @property
    def closed(self) -> bool:
        """Whether it has a cut of scale 0: values pass forward, no gradient passes back."""
        return any(cut.past is not None for cut in self.cuts)

    @property
    def scale(self) -> float | None:
        """The factor of its cuts on the cotangent; None without cuts."""
        return math.prod(cut.attrs["scale"] for cut in self.cuts) if self.cuts else None

    @property
    def passed(self) -> Use:
        """The use whose cotangent arrives at the source: that by its last cut, if it has cuts."""
        return (self.cuts[-1], 0) if self.cuts else self.use

    @property
    def spec(self) -> Spec:
        """Shape and dtype of the value."""
        return spec_of_kept(self.constant) if self.source is None else self.source.specs[self.output]

    @property
    def number(self) -> float | None:
        """Its constant number (the real part); None for anything else, or if no rule kept it."""
        value = self.constant
        if self.source is not None or value is None or isinstance(value, Spec) or np.asarray(value).ndim:
            return None
        return float(np.asarray(value).real)


def spec_of_kept(value: Kept) -> Spec:
    """Return shape and dtype of what a node keeps of an input."""
    return value if isinstance(value, Spec) else spec_of(np.asarray(value))


def is_passage(node: Node) -> bool:
    """Return whether a node returns its one input unchanged: a cut, or a stack or unstack of one array."""
    return node.name == "cut" or (node.name in ("stack", "unstack") and len(node.edges) == 1 == len(node.specs))


class Summary(NamedTuple):
    """Statistics of a value: `bad` elements are not finite; mean, std (population), least and most are of the rest."""

    size: int
    bad: int
    mean: float
    std: float
    least: float
    most: float

    @property
    def lines(self) -> list[str]:
        """Return "key: value" lines for a tooltip."""
        if self.size == self.bad:
            return [f"not finite: all {self.size} elements"]
        named = {"mean": self.mean, "std": self.std, "min": self.least, "max": self.most}
        lines = [f"{name}: {value:.3g}" for name, value in named.items()]
        lines = lines if self.size > 1 else [f"value: {self.mean:.4g}"]
        return lines + ([f"not finite: {self.bad} of {self.size} elements"] if self.bad else [])


def summarise(array: Array) -> Summary:
    """Return the statistics of a value, for complex elements those of their absolute values.

    >>> summarise(np.array([1.0, 3.0, np.nan]))
    Summary(size=3, bad=1, mean=2.0, std=1.0, least=1.0, most=3.0)
    """
    values = np.abs(array) if np.iscomplexobj(array) else array
    good = values[np.isfinite(values)].astype(np.float64)
    if not good.size:
        return Summary(array.size, array.size, math.nan, math.nan, math.nan, math.nan)
    mean = float(good.sum()) / good.size  # in a third of the time that np.mean and np.std take for a small array
    std = math.sqrt(float(np.square(good - mean).sum()) / good.size)
    return Summary(array.size, array.size - good.size, mean, std, float(good.min()), float(good.max()))


@dataclass(frozen=True)
class Graph:
    """A recorded graph, as data.

    Attributes:
        losses: the places at which it ends, in the order given.
        nodes: every node from which they were computed, oldest first; also across closed cuts, if the nodes are alive.
        number: node to its position in `nodes`.
        parameters: the leaves, oldest first.
        cuts: node to cut.
        recorded: arrays of the losses, and of the places observed during recording.
        passes: the backward passes, if several whose windows overlap make up the gradient.
        credit: what a policy carries forward beside the state; None: nothing.
        notes: facts for the subtitle of a drawing, such as the truncation.
        sequence: the array (N, T, ...) of which each step reads a slice; None: unknown.
        initial: arrays of the initial state; (): unknown.
        cell: name of the cell that was drawn by itself; "": something else was.

    >>> import tinygrad_rnn as tr
    >>> w = tr.tensor(2.0, requires_grad=True, name="w")
    >>> with tr.at_step(0):
    ...     h = w * 3.0
    >>> with tr.at_step(1):
    ...     loss = tr.cut(h) * w
    >>> graph = read([loss])
    >>> [node.name for node in graph.nodes], [p.name for p in graph.parameters]
    (['leaf', 'multiply', 'cut', 'multiply'], ['w'])
    >>> graph.edge(loss.node, 0).place == (h.node, 0), graph.edge(loss.node, 0).closed
    (True, True)
    """

    losses: tuple[Place, ...]
    nodes: tuple[Node, ...]
    number: Mapping[Node, int]
    parameters: tuple[Parameter, ...]
    cuts: Mapping[Node, Cut]
    recorded: Mapping[Place, Array]
    passes: tuple[Pass, ...] = ()
    credit: Credit | None = None
    notes: tuple[str, ...] = ()
    sequence: Array | None = None
    initial: tuple[Array, ...] = ()
    cell: str = ""

    @cached_property
    def names(self) -> Mapping[Node, tuple[str, ...]]:
        """Node to the names that the source code gives to its outputs."""
        return names_of(self.nodes)

    def name(self, node: Node, output: int = 0) -> str:
        """Return the name that the source code gives to an output of a node; "" if it gives none."""
        return self.names[node][output] if node in self.names else ""

    @cached_property
    def uses(self) -> Mapping[Place, tuple[Use, ...]]:
        """Place to the uses of its value, including those by cuts, oldest reader first."""
        found: dict[Place, list[Use]] = {}
        for node in self.nodes:
            for number, edge in enumerate(node.edges):
                if edge is not None:
                    found.setdefault(edge, []).append((node, number))
        return {place: tuple(uses) for place, uses in found.items()}

    @cached_property
    def _kept(self) -> Mapping[Place, Array]:
        found: dict[Place, Array] = {}
        for node in self.nodes:
            if node.output is not None and not isinstance(node.output, tuple):
                found[node, 0] = node.output
            for edge, value in zip(node.edges, node.inputs, strict=False):  # a consumed node has no inputs
                if edge is not None and isinstance(value, np.ndarray):
                    found[edge] = value
        return found

    def edge(self, node: Node, number: int) -> Edge:
        """Return the edge to input `number` of a node."""
        place = node.edges[number]
        if place is None:
            return Edge(None, 0, (node, number), (), node.inputs[number] if node.inputs else Spec((), np.dtype(float)))
        return self.resolve(place, (node, number))

    def edges(self, node: Node) -> list[Edge]:
        """Return the edges to all inputs of a node."""
        return [self.edge(node, number) for number in range(len(node.edges))]

    def resolve(self, place: Place, use: Use) -> Edge:
        """Return the edge of a use that reads `place`, resolved through cuts, stacks of one, and undone stacks."""
        cuts: list[Node] = []
        while True:
            node, index = place
            if node in self.cuts:
                cuts += [node] if self.cuts[node].scale != 1 or self.cuts[node].label else []
                inner = self.cuts[node].source
            elif is_passage(node):
                inner = node.edges[0]
            elif (stack := undone_stack(node, node.edges[0] if node.edges else None)) is not None:
                inner = stack.edges[index]
            else:
                return Edge(node, index, use, tuple(cuts))
            if inner is None:  # a constant, or freed
                return Edge(None, 0, use, tuple(cuts), node.specs[min(index, len(node.specs) - 1)])
            place = inner

    def value(self, place: Place) -> Array | None:
        """Return the array at a place: recorded, kept for a rule, of a leaf, or recomputed; else None."""
        node, index = place
        for table in (self.recorded, self._kept):
            if place in table:
                return table[place]
        owner = node.owner() if node.owner is not None else None
        if owner is not None:
            data: Array = owner.data
            return data
        forward = getattr(node.operation, "forward", None)
        values = [value for value in node.inputs if isinstance(value, np.ndarray | int | float)]
        if forward is None or not values or len(values) != len(node.inputs):
            return None
        # All operands were kept for the rule, so the output can be computed again.
        with np.errstate(all="ignore"):
            output = forward(*values, **node.attrs)
        return np.asarray(output[index] if node.operation is not None and node.operation.multiple else output)

    def summary(self, place: Place) -> Summary | None:
        """Return the statistics of the value at a place; None if it was not kept."""
        value = self.value(place)
        return None if value is None or value.dtype.kind not in "fciu" or not value.size else summarise(value)

    def reach(self, places: Iterable[Place]) -> set[Node]:
        """Return the nodes that a gradient from these places reaches; it stops at closed cuts."""
        return {node for node in ancestors(node for node, _ in places) if node.past is None}

    def facts(self, place: Place, site: bool = True) -> list[str]:
        """Return lines about a value for a tooltip: shape, dtype, summary and, with `site`, where it was recorded."""
        node, index = place
        spec, summary = node.specs[index], self.summary(place)
        lines = [f"shape: {shape_text(spec.shape)}", f"dtype: {spec.dtype}"]
        lines += summary.lines if summary is not None else []
        return [*lines, f"recorded: {describe_site(node.site, names=node.scope, folder=False)}"] if site else lines


def undone_stack(unstack: Node, edge: Place | None) -> Node | None:
    """Return the stack at the place `edge` if the unstack undoes it, else None."""
    if unstack.name != "unstack" or edge is None or edge[0].name != "stack":
        return None
    return edge[0] if edge[0].attrs["axis"] == unstack.attrs["axis"] else None


def shape_text(shape: Sequence[int]) -> str:
    """Return a shape as it is drawn: "8×32", "32", or "scalar".

    >>> shape_text((8, 32)), shape_text(())
    ('8×32', 'scalar')
    """
    return "×".join(map(str, shape)) or "scalar"


def read(
    losses: Sequence[Tensor],
    recorded: Mapping[Place, Array] | None = None,
    names: Mapping[str, Tensor] | None = None,
    passes: tuple[Pass, ...] = (),
) -> Graph:
    """Return the graph that ends at some Tensors.

    Args:
        losses: one or more Tensors that were recorded.
        recorded: arrays of the places observed during recording.
        names: name to leaf Tensor, as a module's `parameters()` gives them; any other leaf has the name that it was
            made with, or "leaf 1", "leaf 2", ....
        passes: backward passes that make up the gradient; (): a single one.

    Raises:
        GradientError: if a Tensor was not recorded, so that there is no graph to read.
    """
    places: list[Place] = []
    for number, loss in enumerate(losses):
        if not isinstance(loss, Tensor) or loss.node is None:
            raise GradientError(
                f"draw: target {number} is {described(loss)}; expected a Tensor that was computed from one that "
                "requires a gradient (outside no_grad)"
            )
        places.append((loss.node, loss.index))
    nodes = sorted(reached((node for node, _ in places), _sources), key=lambda node: node.id)
    called = {tensor.node: name for name, tensor in (names or {}).items()}
    parameters: list[Parameter] = []
    for node in (node for node in nodes if node.operation is None):
        owner = node.owner() if node.owner is not None else None
        name = called.get(node) or (owner.name if owner is not None else None) or f"leaf {len(parameters) + 1}"
        parameters.append(Parameter(node, name, *node.specs[0]))
    values = {**(recorded or {}), **{place: loss.data for place, loss in zip(places, losses, strict=True)}}
    return Graph(
        losses=tuple(places),
        nodes=tuple(nodes),
        number={node: number for number, node in enumerate(nodes)},
        parameters=tuple(parameters),
        cuts={node: _cut(node, passes) for node in nodes if node.name == "cut" and node.operation is not None},
        recorded=values,
        passes=passes,
    )


def _sources(node: Node) -> list[Node]:
    """Return the nodes from which a node was computed, also across a closed cut."""
    past = None if node.past is None else node.past()
    return [*(edge[0] for edge in node.edges if edge is not None), *([past] if past is not None else [])]


def _cut(node: Node, passes: Sequence[Pass]) -> Cut:
    reading = [one for one in passes if node.step is not None and one.end > node.step]
    closing = sum(node.step in one.closed for one in reading)
    label = f"✂ {closing} of {len(reading)}" if closing else ""
    scale = float(node.attrs["scale"])
    past = None if node.past is None else node.past()
    if past is not None:
        # A closed cut knows the node but not the output: the first of its shape is taken.
        index = next((i for i, spec in enumerate(past.specs) if spec == node.specs[0]), 0)
        return Cut(node, (past, index), scale)
    return Cut(node, node.edges[0] if node.edges else None, scale, label)
