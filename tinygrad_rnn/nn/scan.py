"""A step repeated over time; `unroll` is made of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias, cast, overload

import numpy as np

from ..checks import flag, integer
from ..engine.arrays import as_numbers
from ..engine.operands import check_nest
from ..engine.tape import Changed, Recording, context
from ..engine.tensor import Tensor, Value, described, shape_of
from ..engine.tree import flatten, map_leaves, rebuild, structure
from ..errors import ConfigError, ShapeError
from ..ops import concatenate, moveaxis, stack, unstack
from .cells import After, Before, Input, Output, State, stepped

Step: TypeAlias = Callable[..., tuple[object, State]]
"""`step(x, state) -> (output, state)`: a cell, or one whose output is a nesting."""


@overload
def scan(
    step: Callable[[Input, Before], tuple[Output, After]],
    state: Before,
    xs: Input,
    *,
    steps: int | None = None,
    reverse: bool = False,
    axis: int = 1,
) -> tuple[Output, After]: ...
@overload
def scan(
    step: Callable[[None, Before], tuple[Output, After]],
    state: Before,
    xs: None = None,
    *,
    steps: int,
    reverse: bool = False,
    axis: int = 1,
) -> tuple[Output, After]: ...
def scan(
    step: Step,
    state: State,
    xs: object = None,
    *,
    steps: int | None = None,
    reverse: bool = False,
    axis: int = 1,
) -> tuple[object, State]:
    """Apply a step at each time of a sequence, starting from the state that the previous step left.

    output_t, state_t = step(x_t, state_{t-1}) for t = 0 .. T-1; with `reverse`, output_t, state_t = step(x_t,
    state_{t+1}) for t = T-1 .. 0. Eagerly it is the plain loop. In a compiled function it is recorded as a loop: the
    step is called twice, on what stands for any time, and must do the same both times; a plan does not grow with T.
    Values that a step computes may leave it only as output or state. A step whose state changes its shape, dtype or
    nesting, or has parts that are not arrays, is recorded step by step.

    What a step records is marked with its number, which drawings and messages show. Inside `at_step(n)` the count
    starts from n, since the `xs` may be a slice of a longer sequence. A scan within a step of another one, or without
    `xs` in `at_step(n)`, is a part of that one step.

    Args:
        step: any callable `step(x, state) -> (output, state)`, such as a cell.
        state: the state before the first step; any nesting of tuples, lists, dicts and dataclasses of arrays.
        xs: Tensors or arrays (N, T, ...), any nesting of them; x_t is the same nesting of slices (N, ...). None: the
            step gets None, and `steps` gives the number of steps.
        steps: T, if there are no `xs`.
        reverse: whether to start at the last time. Slices and outputs stay in the order of time.
        axis: which axis of `xs`, and of the outputs, is time: 1, or 0 for arrays (T, ...).

    Returns:
        (outputs, state): the outputs' nesting with arrays (N, T, ...), and the state after the last step.

    Raises:
        ShapeError: if `xs` do not agree on T, T is 0, or the outputs of two steps differ in nesting or shape.
        ConfigError: if the step is not callable or does not return (output, state), or T is unknown.
        DTypeError: if `xs` are not numbers, or a part of the state is an object that is neither an array nor a number.
        TraceError: in a compiled function, if the step does something different each time it is called.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> outputs, state = tr.scan(lambda x, h: (h, 0.5 * h + x), np.zeros(1), np.ones((1, 4)))
    >>> outputs, state
    (array([[0.  , 1.  , 1.5 , 1.75]]), array([1.875]))
    """
    if isinstance(step, type) or not callable(step):
        raise ConfigError(f"scan: step must be a callable step(x, state) -> (output, state), got {step!r}")
    if isinstance(axis, bool) or axis not in (0, 1):
        raise ConfigError(f"scan: axis must be 0 or 1, the axis of time, got {axis!r}")
    xs = map_leaves(lambda x: x if isinstance(x, Tensor) else as_numbers(x, "scan: xs"), xs)
    check_nest(state, "scan", "state")
    return repeated(step, state, xs, _steps(flatten(xs), steps, axis), flag("scan", "reverse", reverse), axis)


def _steps(leaves: list[Value], steps: int | None, axis: int) -> int:
    """Return T."""
    if not leaves:
        if steps is None:
            raise ConfigError("scan: steps is needed where xs has no arrays: how many steps are there?")
        return integer("scan", "steps", steps)
    shapes = [leaf.shape for leaf in leaves]
    if any(len(shape) <= axis for shape in shapes):
        wanted = "(N, T, ...)" if axis else "(T, ...)"
        raise ShapeError(f"scan: expected xs of shape {wanted}, got {', '.join(map(str, shapes))}")
    lengths = {shape[axis] for shape in shapes}
    if len(lengths) > 1 or not min(lengths):
        raise ShapeError(
            f"scan: expected xs of as many steps along axis {axis}, at least 1, got {', '.join(map(str, shapes))}"
        )
    T = int(*lengths)
    if steps is not None and integer("scan", "steps", steps) != T:
        raise ShapeError(f"scan: steps is {steps}, but xs have {T} along axis {axis}; leave steps out")
    return T


def repeated(step: Step, state: State, xs: object, T: int, reverse: bool, axis: int) -> tuple[object, State]:
    """Do what `scan` does, with arguments that are checked."""
    if context().tracer is None or T == 1:
        return _one_by_one(step, state, xs, range(T), reverse, axis)
    whole = _as_loop(step, state, xs, T, reverse, axis)
    if whole is not None:
        return whole
    # The state has another dtype before the first step, for instance.
    first, others = (T - 1, slice(0, T - 1)) if reverse else (0, slice(1, T))
    output, new = _one_by_one(step, state, xs, range(first, first + 1), reverse, axis)
    index = (slice(None),) * axis + (others,)
    rest = None if T == 2 else _as_loop(step, new, map_leaves(lambda x: x[index], xs), T - 1, reverse, axis)
    if rest is None:  # the first step is not repeated, because it may draw
        rest = _one_by_one(step, new, xs, range(T)[others], reverse, axis)
    _alike(step, _one(rest[0], axis), _one(output, axis), 0 if reverse else 1)
    pair = (rest[0], output) if reverse else (output, rest[0])
    return map_leaves(lambda a, b: concatenate([a, b], axis=axis), *pair), rest[1]


def _one(outputs: object, axis: int) -> object:
    """Return placeholders with the shapes of the outputs of one step."""
    return map_leaves(lambda part: np.empty(part.shape[:axis] + part.shape[axis + 1 :], part.dtype), outputs)


def _one_by_one(step: Step, state: State, xs: object, times: range, reverse: bool, axis: int) -> tuple[object, State]:
    """Take the steps in a plain loop."""
    index = (slice(None),) * axis + (times.start,)
    # A step that no loop can repeat takes its own slice alone: plans for any length need as many values for each T.
    alone = len(times) == 1 and not _dtypes(xs) <= _dtypes(state)
    slices = [(x[index],) if alone else unstack(x, axis=axis)[times.start : times.stop] for x in flatten(xs)]
    outputs: dict[int, list[Value]] = {}
    step_of = _numbering(bool(slices))
    before: object = None
    for t in reversed(times) if reverse else times:
        with whole_step(step_of(t)):
            output, state = stepped(step, rebuild(xs, iter([parts[t - times.start] for parts in slices])), state)
        before = _alike(step, output, before, t)
        outputs[t] = flatten(output)
    columns = zip(*(outputs[t] for t in times), strict=True)
    return rebuild(before, iter([stack(column, axis=axis) for column in columns])), state


def _dtypes(nest: object) -> set[np.dtype[np.generic]]:
    """Return the floating point dtypes in a nest."""
    dtypes = (getattr(part, "dtype", None) for part in flatten(nest))
    return {dtype for dtype in dtypes if dtype is not None and dtype.kind in "fc"}


class _WholeStep(int):
    """The number of a time step of which everything that is recorded in it is a part, other scans included.

    It is kept as the step itself, so that an `at_step` within the step takes its place.
    """

    __slots__ = ()


def whole_step(t: int) -> Recording:
    """Return a context manager that marks what is recorded in it with a time step, the steps of scans too."""
    return Changed(step=_WholeStep(t))


def _numbering(sliced: bool) -> Callable[[int], int]:
    """Return a function from a step of a scan to the time step that it is marked with.

    Args:
        sliced: whether the scan reads `xs`.
    """
    now = context().step
    if now is None:
        return lambda t: t
    if isinstance(now, _WholeStep) or not sliced:  # the steps of an ODE solver in a cell, for instance
        return lambda _: now
    return lambda t: now + t  # a slice of a sequence continues the count


def _alike(step: Step, output: object, before: object, t: int) -> object:
    """Return the output of a step, checked to have the nesting and shapes of the previous one."""
    if before is not None and (structure(output), _shapes(output)) != (structure(before), _shapes(before)):
        name = getattr(step, "__name__", type(step).__name__)
        raise ShapeError(
            f"scan: expected outputs like those of the other steps, {_in_words(before)}, got {_in_words(output)} from "
            f"{name} at step {t}"
        )
    return output


def _shapes(nest: object) -> list[tuple[int, ...]]:
    return [shape_of(leaf) for leaf in flatten(nest)]


def _in_words(nest: object) -> str:
    return f"{structure(nest)} of {', '.join(described(leaf) for leaf in flatten(nest)) or 'nothing'}"


def _as_loop(step: Step, state: State, xs: object, T: int, reverse: bool, axis: int) -> tuple[object, State] | None:
    """Let the tracer record a loop; None if it cannot."""
    tracer = context().tracer
    carried = flatten(state)
    if tracer is None or not all(isinstance(part, Tensor | np.ndarray) for part in carried):
        return None
    made: list[object] = []
    nesting = structure(state)

    def body(slices: Sequence[object], before: Sequence[object]) -> tuple[list[Value], list[Value]] | None:
        output, new = stepped(step, rebuild(xs, iter(slices)), rebuild(state, iter(before)))
        after = [np.asarray(part) if isinstance(part, np.generic) else part for part in flatten(new)]
        if structure(new) != nesting or not all(isinstance(part, Tensor | np.ndarray) for part in after):
            return None
        made[:] = [output, new]
        parts = [part if isinstance(part, Tensor) else np.asarray(part) for part in flatten(output)]
        return parts, after

    found = tracer.loop(body, carried, [moveaxis(x, axis, 0) for x in flatten(xs)], T, reverse)
    if found is None:
        return None
    stacks, last = cast(tuple[Sequence[Tensor], Sequence[Tensor]], found)
    return rebuild(made[0], iter([moveaxis(part, 0, axis) for part in stacks])), rebuild(made[1], iter(last))
