"""Recordings of one function at several sizes, and what in its graph depends on them.

A graph is recorded with lengths that are fixed. Here the function is recorded a few times, with other lengths of the
axes that may change, and each integer of the graphs is compared: those that differ are sums of products of the sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias, TypeVar, cast

import numpy as np

from ...compiler.ir.graph import Body, Call, Graph, Value
from ...compiler.plans.skeleton import skeleton
from ...engine.tape import Array
from ...engine.tensor import Tensor, tensor
from ...engine.tree import flatten, named_leaves, rebuild
from ...errors import ConfigError, UnsupportedError
from ..program import Program, arrays_of
from ..source import Source
from .extents import Length, Lengths, Sizes, fitted, recordings

Holder = TypeVar("Holder")
Part = TypeVar("Part")

Axes: TypeAlias = Mapping[str, Mapping[int, str]]
"""Which axes may have any length: by the name of an argument, or of a leaf of one, the name of each axis's size."""


class Sized:
    """A program whose lengths may be expressions.

    Attributes:
        program: recorded at some sizes; its graph is the one that is written.
        axes: of each input, by number: the names of the sizes of its axes that are not fixed.
    """

    def __init__(self, programs: Sequence[Program], sizes: Sequence[Sizes], axes: Sequence[Mapping[int, str]]) -> None:
        self.program, self.axes = programs[0], tuple(axes)
        self._sizes = sizes
        self._shapes: dict[Value, Lengths] = {}
        self._inputs: dict[Call, tuple[object, ...]] = {}
        self._attributes: dict[Call, dict[str, object]] = {}
        self._arrays: dict[Value, list[Array]] = {}
        for weights in zip(*(program.weights for program in programs), strict=True):
            self._arrays[weights[0].value] = [weight.array for weight in weights]
        self._graphs([program.graph for program in programs])

    def shape(self, value: Value) -> Lengths:
        """Return the shape of a value."""
        return self._shapes[value]

    def inputs(self, call: Call) -> tuple[object, ...]:
        """Return the operands of a call; integers among them may be an `Extent`."""
        return self._inputs[call]

    def attributes(self, call: Call) -> dict[str, object]:
        """Return the attributes of a call; of a loop, `body`, and `steps` beside it."""
        return self._attributes[call]

    def arrays(self, value: Value) -> list[Array] | None:
        """Return what a weight or a constant held in each recording; None of any other value."""
        return self._arrays.get(value)

    def fixed(self, value: Value) -> Array | None:
        """Return what a weight or a constant holds; None if that depends on the sizes, or of any other value."""
        if value not in self._arrays:
            return None
        first, *others = self._arrays[value]
        same = all(first.shape == other.shape and first.tobytes() == other.tobytes() for other in others)
        return first if same else None

    def length(self, values: Sequence[int], what: str) -> Length:
        """Return an integer that had these values in the recordings.

        Raises:
            UnsupportedError: if it is no sum of products of the sizes.
        """
        found = fitted(values, self._sizes)
        if found is None:
            raise UnsupportedError(
                f"export: {what} is {', '.join(map(str, values))} for {self._in_words()}, which is no sum of products "
                "of these sizes; give axes= without them, so that they are fixed"
            )
        return found

    def _in_words(self) -> str:
        return "; ".join(", ".join(f"{name}={value}" for name, value in one.items()) for one in self._sizes)

    # -- comparing the recordings -------------------------------------------------------------------------------------

    def _graphs(self, graphs: Sequence[Graph]) -> None:
        for values in _together(graphs, lambda graph: (*graph.inputs, *graph.captured)):
            self._value(values)
        for calls in _together(graphs, lambda graph: graph.calls):
            self._call(calls)
        for values in _together(graphs, lambda graph: graph.outputs):
            self._value(values)

    def _value(self, values: Sequence[Value]) -> None:
        first = values[0]
        if first not in self._shapes:
            what = f"an axis of {first!r}"
            self._shapes[first] = tuple(
                self.length(lengths, what) for lengths in zip(*(value.shape for value in values), strict=True)
            )
            if first.constant is not None:
                self._arrays[first] = [cast(Array, value.constant) for value in values]

    def _call(self, calls: Sequence[Call]) -> None:
        call = calls[0]
        self._inputs[call] = tuple(self._part(parts, call) for parts in _together(calls, lambda one: one.inputs))
        kept = {name: self._part([one.attrs[name] for one in calls], call) for name in call.attrs}
        if call.name == "loop":
            bodies = [cast(Body, one.attrs["body"]) for one in calls]
            self._graphs([body.graph for body in bodies])
            kept["steps"] = self.length([body.steps for body in bodies], "the number of steps of a loop")
        self._attributes[call] = kept
        for values in _together(calls, lambda one: one.outputs):
            self._value(values)

    def _part(self, parts: Sequence[object], call: Call) -> object:
        """Return an operand or an attribute, with expressions for the integers in it that differ."""
        first = parts[0]
        if isinstance(first, Value):
            self._value(cast("Sequence[Value]", parts))
        elif type(first) is int:
            return self.length(cast("Sequence[int]", parts), f"a number of {call.name}")
        elif isinstance(first, tuple | list):
            nests = cast("Sequence[Sequence[object]]", parts)
            return tuple(self._part(inner, call) for inner in zip(*nests, strict=True))
        elif isinstance(first, slice):
            bounds = [(part.start, part.stop, part.step) for part in cast("Sequence[slice]", parts)]
            return slice(*(self._part(inner, call) for inner in zip(*bounds, strict=True)))
        elif isinstance(first, float) and any(part != first and part == part for part in parts):
            raise UnsupportedError(
                f"export: a number of {call.name} is {', '.join(map(str, parts))} for {self._in_words()}; compute it "
                "from arrays, or give axes= without these sizes, so that they are fixed"
            )
        return first


def _together(holders: Sequence[Holder], parts: Callable[[Holder], Sequence[Part]]) -> Iterator[tuple[Part, ...]]:
    return zip(*map(parts, holders), strict=True)


def sized(source: Source, axes: Axes | None, record: Callable[[Source], Program]) -> Sized:
    """Record a source at as many sizes as it takes to know what depends on them.

    Args:
        source: what is exported.
        axes: see `Axes`; None: of a module's step the sequences N, and the steps T of a window, of a function none.
        record: records a source.

    Raises:
        ConfigError: if axes name no argument, no axis, or axes of one name differ in length.
        UnsupportedError: if the graph is another one for other sizes.
    """
    leaves = arrays_of(source)
    wanted = standard_axes(source) if axes is None else axes
    by_leaf = _axes_of_leaves(leaves, wanted)
    least: dict[str, int] = {}
    for (name, leaf), chosen in zip(leaves, by_leaf, strict=True):
        for axis, size in chosen.items():
            if least.setdefault(size, leaf.shape[axis]) != leaf.shape[axis]:
                raise ConfigError(
                    f"export: axis {axis} of {name} is {leaf.shape[axis]} long, and others named {size} are "
                    f"{least[size]}; pass examples that agree, or give the axis another name"
                )
    held = [] if source.module is None else [*source.module.tensors().values()]
    others = {length for leaf in (*(leaf for _, leaf in leaves), *held) for length in leaf.shape}
    sizes = recordings(list(least), least, others)
    programs = [record(_resized(source, by_leaf, one) if one else source) for one in sizes]
    forms = {skeleton(program.graph).form for program in programs}
    if len(forms) > 1:
        raise UnsupportedError(
            f"export: the function computes something else for other sizes of {', '.join(least)}, as with one "
            "operation for each step; use unroll or scan, or give axes= without a size that must be fixed"
        )
    return Sized(programs, sizes, by_leaf)


def standard_axes(source: Source) -> Axes:
    """Return the axes of a module's step that may have any length: N, and T of a window; of a function none."""
    if source.module is None or not source.args:  # without an example of its input the recording says what to pass
        return {}
    x = cast(Array, source.args[0])
    window = x.ndim > (1 if x.dtype.kind in "iu" else 2)
    axes: dict[str, Mapping[int, str]] = {source.names[0]: {0: "N", 1: "T"} if window else {0: "N"}}
    make = getattr(source.module, "initial_state", None)
    if len(source.names) > 1:
        state = source.args[1]
        shapes = [np.shape(leaf) for leaf in flatten(state)]
        one, other = (
            (shapes, shapes) if make is None else ([np.shape(leaf) for leaf in flatten(make(n))] for n in (2, 3))
        )
        for (name, _), shape, mine, theirs in zip(
            named_leaves(source.names[1], state), shapes, one, other, strict=True
        ):
            differ = [axis for axis, pair in enumerate(zip(mine, theirs, strict=True)) if pair[0] != pair[1]]
            axes[name] = (
                dict.fromkeys(differ, "N") if make is not None else {0: "N"} if shape[:1] == x.shape[:1] else {}
            )
    return axes


def _axes_of_leaves(leaves: Sequence[tuple[str, Tensor | Array]], axes: Axes) -> list[Mapping[int, str]]:
    """Return the named axes of each leaf."""
    found: list[Mapping[int, str]] = []
    used = set()
    for name, leaf in leaves:
        keys = [key for key in axes if name == key or name.startswith(f"{key}.")]
        used.update(keys)
        chosen: dict[int, str] = {}
        for key in keys:
            for axis, size in axes[key].items():
                if not isinstance(axis, int) or not -leaf.ndim <= axis < leaf.ndim or not str(size).isidentifier():
                    raise ConfigError(
                        f"export: axes must give axes of {name}, of shape {leaf.shape}, the names of sizes, such as "
                        f'{{0: "N"}}, got {axes[key]!r}'
                    )
                chosen[axis % leaf.ndim] = str(size)
        found.append(chosen)
    if unknown := [key for key in axes if key not in used]:
        raise ConfigError(f"export: axes must name arguments ({', '.join(name for name, _ in leaves)}), got {unknown}")
    return found


def _resized(source: Source, axes: Sequence[Mapping[int, str]], sizes: Sizes) -> Source:
    """Return a source whose example has these sizes: its entries again and again."""
    chosen = iter(axes)

    def other(leaf: object) -> object:
        if not isinstance(leaf, Tensor | np.ndarray):
            return leaf
        places = next(chosen)
        if not places:
            return leaf
        array = leaf.data if isinstance(leaf, Tensor) else leaf
        for axis, name in places.items():
            array = np.take(array, np.arange(sizes[name]) % max(array.shape[axis], 1), axis=axis)
        return tensor(array, array.dtype, requires_grad=leaf.requires_grad) if isinstance(leaf, Tensor) else array

    args = tuple(rebuild(nest, iter([other(leaf) for leaf in flatten(nest)])) for nest in source.args)
    return replace(source, args=args)
