"""The segments of a recurrence: held as graphs until no pass needs them, or recorded again when a pass gets there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple, NotRequired, TypeAlias, TypedDict, cast

import numpy as np

from ..credit.nests import arrays_of, fresh_leaf, number_of, value_of
from ..credit.policy import Policy
from ..credit.update import Past
from ..engine.tape import Array, no_grad
from ..engine.tensor import Operand, Tensor, adopt
from ..engine.tree import flatten, map_leaves
from ..engine.walk import ancestors
from ..errors import ConfigError, GradientError
from .binomial import next_state, thinned

_NODE = 400
"""Bytes of a recorded operation besides its arrays, about."""

Run: TypeAlias = "Callable[[object, object], tuple[Operand | None, object]]"
"""A checked step: from inputs and the state before them to their loss and the state after them."""


class Graph(NamedTuple):
    """What was recorded of a segment."""

    before: object  # the state before it: leaves
    after: object  # the state after it: results
    loss: Operand | None


@dataclass(slots=True)
class Segment:
    """Some steps of a recurrence.

    Attributes:
        start: number of steps before it.
        stop: number of steps up to its end.
        loss: the sum of its losses; None: it has none.
        graph: what was recorded, while it is held.
        inputs: its inputs, if it may be recorded again.
        before: the state before it, without a graph, if it is kept.
        drawn: the state of the generator before it; None: as the segment before leaves it.
        parameters: the arrays of the parameters that it was recorded with, if it may have to be in another process.
        passed: whether a pass has gone back over it.
    """

    start: int
    stop: int
    loss: Operand | None = None
    graph: Graph | None = None
    inputs: object = None
    before: object = None
    drawn: Mapping[str, object] | None = None
    parameters: dict[str, Array] | None = None
    passed: bool = False


class _Row(TypedDict):
    """A segment in the past of a run, without its graph; see `Segment`."""

    start: int
    stop: int
    loss: NotRequired[float | None]
    inputs: object
    before: object
    drawn: Mapping[str, object] | None


class _Versioned(_Row):
    version: int  # index of its parameters


class Segments:
    """The segments that a pass may go back over, oldest first; the graph of each is held.

    Args:
        run: the step.
        rng: the generator that it draws from, if any.
        parameters: name to leaf, if the segments must be recorded again in another process: then inputs, parameters and
            the generator's state are kept with each.
    """

    def __init__(self, run: Run, rng: np.random.Generator | None, parameters: Mapping[str, Tensor] | None) -> None:
        self._run, self._rng, self._parameters = run, rng, parameters
        self.all: list[Segment] = []

    def expect(self, count: int) -> None:
        """Take note of how many segments are to come before the next pass, as far as is known."""

    def add(self, start: int, stop: int, inputs: object, state: object) -> object:
        """Run the next segment, and return the state after it; states are without a graph."""
        segment = Segment(start, stop)
        if self._parameters is not None:
            segment.inputs = inputs
            segment.parameters = {name: leaf.data for name, leaf in self._parameters.items()}
            segment.drawn = None if self._rng is None else self._rng.bit_generator.state
        self._hold(segment, self._recorded(inputs, state))
        return arrays_of(cast(Graph, segment.graph).after)

    def _hold(self, segment: Segment, graph: Graph) -> None:
        segment.graph, segment.loss = graph, graph.loss
        self.all.append(segment)

    def past(self) -> Past:
        """Return what the segments can be recorded from again; arrays that several of them have are there once."""
        versions: dict[tuple[int, ...], int] = {}
        arrays: list[dict[str, Array]] = []
        rows: list[Past] = []
        for segment in self.all:
            assert segment.parameters is not None
            key = tuple(id(_memory(array)) for array in segment.parameters.values())
            if key not in versions:
                versions[key] = len(arrays)
                arrays.append(segment.parameters)
            rows.append(
                {
                    "start": segment.start,
                    "stop": segment.stop,
                    "inputs": segment.inputs,
                    "before": arrays_of(cast(Graph, segment.graph).before),
                    "drawn": segment.drawn,
                    "version": versions[key],
                }
            )
        return {"segments": rows, "parameters": arrays}

    def restore(self, past: Past) -> None:
        """Record the segments again, each with the parameters and the draws that it had."""
        assert self._parameters is not None
        now = {name: leaf.data for name, leaf in self._parameters.items()}
        arrays = cast("list[dict[str, Array]]", past["parameters"])
        with _rewound(self._rng):
            for row in cast("list[_Versioned]", past["segments"]):
                segment = Segment(row["start"], row["stop"], inputs=row["inputs"], drawn=row["drawn"])
                segment.parameters = arrays[row["version"]]
                self._set(segment.parameters)
                _draw_from(self._rng, segment)
                self._hold(segment, self._recorded(segment.inputs, row["before"]))
            self._set(now)

    def _set(self, arrays: Mapping[str, Array]) -> None:
        assert self._parameters is not None
        for name, leaf in self._parameters.items():
            adopt(leaf, arrays[name])

    def graph(self, index: int) -> Graph:
        """Return what was recorded of a segment; a pass asks for one after another, newest first."""
        graph = self.all[index].graph
        assert graph is not None
        return graph

    def first_state(self) -> object:
        """Return the state before the oldest segment."""
        return arrays_of(self.graph(0).before)

    def forget(self, oldest: int | None) -> None:
        """Drop the segments before step `oldest`; None: all of them."""
        self.all = [] if oldest is None else [segment for segment in self.all if segment.stop > oldest]

    def steps(self) -> int:
        """Return how many steps are held."""
        return sum(segment.stop - segment.start for segment in self.all)

    def _recorded(self, inputs: object, state: object) -> Graph:
        before = map_leaves(fresh_leaf, state)
        loss, after = self._run(inputs, before)
        return Graph(before, after, loss)


class Recomputed(Segments):
    """Segments that are recorded again, from states that are kept; only the newest one's graph is held.

    Without a limit the state before each segment is kept. With one, those states are kept from which the next pass
    needs the fewest calls of the step (see `binomial`), and where the pass has gone back, their slots serve for states
    that are computed again. If the next pass is later than was expected, some states are dropped for newer ones.

    Args:
        run: the step.
        rng: the generator that it draws from, if any; it is rewound, so that a segment draws the same again.
        policy: it has the limit, `states` or `budget`.

    Raises:
        ConfigError: if passes may overlap under a policy with a limit; if the budget is not enough for one state.
        GradientError: if the loss of a segment is another one when it is recorded again.
    """

    def __init__(self, run: Run, rng: np.random.Generator | None, policy: Policy) -> None:
        super().__init__(run, rng, None)
        self._policy = policy
        self._states = policy.states  # None under a budget until the first segment is recorded
        self._limited = policy.states is not None or policy.budget is not None
        if self._limited and policy.reach is not None:
            raise ConfigError(f"{policy!r}: with states or budget, passes must not overlap: reach must be None")
        self._kept: list[int] = []  # indices of the segments whose first states are kept, ascending
        self._end = 0  # number of segments before the next pass, as far as is known
        self._planned = 0  # the number for which the kept states were chosen
        self._follows = False  # whether the generator is as the newest segment left it

    def expect(self, count: int) -> None:
        """Take note of how many segments are to come before the next pass, as far as is known."""
        self._end = len(self.all) + count
        self._follows = False

    def add(self, start: int, stop: int, inputs: object, state: object) -> object:
        """Run the next segment, and return the state after it; states are without a graph."""
        index, segment = len(self.all), Segment(start, stop, inputs=inputs)
        if self.all:
            self.all[-1].graph = None
        self.all.append(segment)
        keeps = not self._limited or self._keeps(index)
        if self._rng is not None and (keeps or not self._follows):
            segment.drawn = self._rng.bit_generator.state
        self._follows = True
        if keeps:
            segment.before = arrays_of(map_leaves(fresh_leaf, state))
            self._kept.append(index)
        if self._limited and index and index + 1 < self._end:
            loss, after = self._moved(inputs, state)
        else:
            segment.graph = self._recorded(inputs, state)
            _, after, loss = segment.graph
            if self._policy.budget is not None and self._states is None:
                self._states = self._states_within(self._policy.budget, segment, segment.graph)
        segment.loss = None if loss is None else number_of(loss)
        return arrays_of(after)

    def graph(self, index: int) -> Graph:
        """Return what is recorded of a segment, held or again; a pass asks for one after another, newest first."""
        segment = self.all[index]
        graph, segment.graph = segment.graph, None
        if graph is None:
            graph = self._again(index)
            if not segment.passed:  # in later passes the parameters may be others
                self._check_same(segment, graph)
        segment.passed = True
        return graph

    def first_state(self) -> object:
        """Return the state before the oldest segment."""
        return self.all[0].before

    def forget(self, oldest: int | None) -> None:
        """Drop the segments before step `oldest`; None: all of them."""
        count = len(self.all)
        super().forget(oldest)
        dropped = count - len(self.all)
        self._kept = [index - dropped for index in self._kept if index >= dropped]
        self._planned = 0

    def steps(self) -> int:
        """Return how many steps the segments have whose first states are kept."""
        return sum(self.all[index].stop - self.all[index].start for index in self._kept)

    def _keeps(self, index: int) -> bool:
        """Return whether to keep the state before the next segment, after dropping others if need be."""
        states = self._states or 1
        if self._end <= self._planned:
            free = states - len(self._kept)
            last = self._kept[-1]
            return free > 0 and index >= last + next_state(self._planned - last, free + 1)
        # More are to come than was expected, so still more may: to choose anew at each window would take time.
        self._planned = max(self._end, index + index // 16)
        chosen = thinned([*self._kept, index], self._planned, states)
        for other in set(self._kept).difference(chosen):
            self.all[other].before = None
        self._kept = [other for other in chosen if other != index]
        return index in chosen

    def _again(self, index: int) -> Graph:
        """Record a segment again, and keep states on the way to it."""
        start = index
        if self._states is not None:
            while self._kept[-1] > index:
                self.all[self._kept.pop()].before = None
            start = self._kept[-1]
        state = self.all[start].before
        with _rewound(self._rng):
            while start < index:
                free = (self._states or 0) - len(self._kept)
                keep = start + next_state(index + 1 - start, free + 1)
                for segment in self.all[start:keep]:
                    _draw_from(self._rng, segment)
                    state = arrays_of(self._moved(segment.inputs, state)[1])
                start = keep
                if start < index:
                    self._keep_again(start, state)
            _draw_from(self._rng, self.all[index])
            return self._recorded(self.all[index].inputs, state)

    def _check_same(self, segment: Segment, graph: Graph) -> None:
        """Raise `GradientError` if a segment has another loss now than when it was run first."""
        first, again = segment.loss, None if graph.loss is None else number_of(graph.loss)
        if isinstance(first, float) and isinstance(again, float) and abs(again - first) > 1e-4 * abs(first):
            raise GradientError(
                f"{self._policy!r}: the loss of steps {segment.start} to {segment.stop} was {first:.6g}, and when they "
                f"were recorded again {again:.6g}; if step draws random numbers, pass their generator as rng"
            )

    def _keep_again(self, index: int, state: object) -> None:
        self.all[index].before = state
        self._kept.append(index)
        if self._rng is not None:
            _draw_from(self._rng, self.all[index])
            self.all[index].drawn = self._rng.bit_generator.state

    def past(self) -> Past:
        """Return the segments without their graphs, and where the passes are in them."""
        names = ("start", "stop", "inputs", "before", "drawn", "passed")
        rows = [{name: getattr(segment, name) for name in names} for segment in self.all]
        for row, segment in zip(rows, self.all, strict=True):
            row["loss"] = None if segment.loss is None else number_of(segment.loss)
        return {"segments": rows, "kept": [*self._kept], "states": self._states, "planned": self._planned}

    def restore(self, past: Past) -> None:
        """Take what `past` returned."""
        self.all = [Segment(**row) for row in cast("list[_Row]", past["segments"])]
        self._kept = [*cast("list[int]", past["kept"])]
        self._states, self._planned = cast("int | None", past["states"]), cast(int, past["planned"])

    def _moved(self, inputs: object, state: object) -> tuple[Operand | None, object]:
        """Return the loss and the state after a segment, of which nothing is recorded."""
        with no_grad():
            return self._run(inputs, map_leaves(fresh_leaf, state))

    def _states_within(self, budget: int, segment: Segment, graph: Graph) -> int:
        """Return how many states fit into so many bytes beside the graph of a segment."""
        state = max(1, sum(_bytes(part) for part in flatten(segment.before)))
        steps = self._policy.grain or segment.stop - segment.start
        recorded = graph_bytes(graph) * steps // (segment.stop - segment.start)
        if budget < state + recorded:
            raise ConfigError(
                f"{type(self._policy).__name__}: memory is {budget:,} bytes, but one state takes {state:,} and the "
                f"graph of a segment, {steps} step{'s' * (steps > 1)}, about {recorded:,}; allow at least "
                f"{state + recorded:,} bytes"
            )
        return (budget - recorded) // state


def _draw_from(rng: np.random.Generator | None, segment: Segment) -> None:
    if rng is not None and segment.drawn is not None:
        rng.bit_generator.state = segment.drawn


@contextmanager
def _rewound(rng: np.random.Generator | None) -> Iterator[None]:
    """Put the generator back, after it has drawn the same again, to where it is now."""
    now = None if rng is None else rng.bit_generator.state
    try:
        yield
    finally:
        if rng is not None and now is not None:
            rng.bit_generator.state = now


def graph_bytes(graph: Graph) -> int:
    """Return about how many bytes a graph holds, besides the values of its leaves: parameters and the first state."""
    ends = [part.node for part in flatten(graph) if isinstance(part, Tensor) and part.node is not None]
    nodes = ancestors(ends)
    arrays: dict[int, int] = {}
    leaves: set[int] = set()
    for node in nodes:
        if node.operation is None and node.owner is not None and (owner := node.owner()) is not None:
            leaves.add(id(_memory(value_of(owner))))
        for value in (*node.inputs, node.output, *node.attrs.values()):
            if isinstance(value, np.ndarray):
                memory = _memory(value)
                arrays[id(memory)] = memory.nbytes
    return _NODE * len(nodes) + sum(size for key, size in arrays.items() if key not in leaves)


def _memory(array: Array) -> Array:
    """Return the array that owns the memory of an array."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def _bytes(part: object) -> int:
    return part.nbytes if isinstance(part, np.ndarray | np.generic) else 0
