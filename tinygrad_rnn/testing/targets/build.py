"""Construction of a target from the arguments of `check_grads`, which says what they may be."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from ...checks import fits, spread
from ...compiler.recording.arguments import parameters_of
from ...credit.forward import ForwardPolicy
from ...credit.nests import arrays_of, floats, is_float, value_of, with_floats
from ...credit.update import Step, step_of_mean
from ...engine.primitive import Primitive
from ...engine.tape import Array, no_grad
from ...engine.tensor import Tensor, described, shape_of
from ...engine.tree import flatten, map_leaves, named_leaves, rebuild, structure
from ...errors import ConfigError, DTypeError, GradientError, ShapeError
from ...nn.cells import Cell, axes_of_a_step, initial_state
from ...nn.unroll import unroll
from ...truncation import Policy, parse_policy
from .base import Target, name_of, weights
from .function import FunctionEvaluation
from .leaves import Leaves
from .truncated import Recurrence, TruncatedEvaluation


class Batch(NamedTuple):
    """Token ids (N, T) for a check of a language model, and the ids that follow them; a target of -1 does not count.

    >>> Batch(np.zeros((2, 5), int), np.ones((2, 5), int)).inputs.shape
    (2, 5)
    """

    inputs: Array
    targets: Array


def build_target(
    f: object,
    inputs: Sequence[object],
    loss: Callable[..., object] | None,
    parameters: Mapping[str, Tensor] | None,
    truncation: Policy | str | None,
    rng: np.random.Generator,
) -> Target:
    """Return the target for the arguments of `check_grads`; `rng` draws cotangents, weights of losses, first states."""
    bound = getattr(f, "loss", f) if loss is None else partial(loss, f)
    if not callable(bound):
        raise TypeError(f"check_grads: f must be a function, a cell or a model, got {type(f).__name__}")
    found: Mapping[str, object] = getattr(_owner(f), "parameters", dict)()
    leaves = Leaves({**found, **(parameters or {})})
    inputs = inputs[0] if len(inputs) == 1 and isinstance(inputs[0], Batch) else spread(bound, inputs)
    if truncation is not None and loss is not None:
        raise ConfigError(
            "check_grads: loss= and truncation= do not go together; pass step(inputs, state) -> (loss, state) in "
            "place of the model, with parameters=model.parameters()"
        )
    if truncation is not None:
        return _truncated(f, inputs, truncation, leaves, bool(parameters), rng)
    x = inputs[0] if inputs else None
    if loss is None and callable(f) and _is_cell(f) and (_kind(x) == "f" or axes_of_a_step(f, x) == 1):
        return _cell(f, inputs, leaves, rng)
    called = f if loss is None and callable(f) and not _takes_loss(f, inputs) else bound
    names = _names(called, inputs)
    title, call = name_of(f), [_as_argument(called), *names]
    if loss is not None:
        title, call = f"{name_of(loss)} of {title}", [_as_argument(f), *names, f"loss={_as_argument(loss)}"]
    return _function(title, call, called, names, inputs, leaves, rng)


# -- what f is ---------------------------------------------------------------------------------------------------------


def _owner(f: object) -> object:
    """Return the module of a bound method, and anything else unchanged."""
    return f.__self__ if inspect.ismethod(f) else f


def _takes_loss(f: object, inputs: Sequence[object]) -> bool:
    """Return whether these are the inputs of f's loss; a state means that f itself is called with it."""
    loss, first_state = getattr(f, "loss", None), getattr(f, "initial_state", None)
    if loss is None or not fits(loss, inputs):
        return False
    if len(inputs) < 2 or first_state is None:
        return True
    like = first_state(len(np.asarray(value_of(inputs[0]))))
    shapes = [[shape_of(part) for part in flatten(nest)] for nest in (inputs[1], like)]
    return structure(inputs[1]) != structure(like) or shapes[0] != shapes[1]


def _is_cell(f: object) -> bool:
    return hasattr(f, "initial_state") and not hasattr(f, "loss") and not getattr(f, "time_axis", False)


def _kind(value: object) -> str:
    return np.asarray(value_of(value)).dtype.kind if isinstance(value, Tensor | np.ndarray | list | int) else "O"


def _as_argument(f: object) -> str:
    """Return f as it is written in a call."""
    is_named = inspect.isroutine(f) or isinstance(f, type | np.ufunc | Primitive)
    return name_of(f).replace("<lambda>", "f") if is_named else f"{name_of(f)}(...)"


def _names(f: Callable[..., object], inputs: Sequence[object]) -> list[str]:
    """Return the names of f's inputs, or x0, x1, ... where it has none."""
    named = parameters_of(f).positional
    return [named[i] if i < len(named) else f"x{i}" for i in range(len(inputs))]


# -- evaluated in one call ---------------------------------------------------------------------------------------------


def _function(
    title: str,
    call: Sequence[str],
    f: Callable[..., object],
    names: Sequence[str],
    inputs: Sequence[object],
    leaves: Leaves,
    rng: np.random.Generator,
    notes: Sequence[str] = (),
) -> Target:
    args = [leaves.add_input(name, value) for name, value in zip(names, inputs, strict=True)]
    if not leaves.named:
        kinds = [f"{name} {type(value).__name__} {shape_of(value)}" for name, value in zip(names, args, strict=True)]
        raise DTypeError(
            f"check_grads: {title} has nothing to differentiate: no parameters(), and no floating point input "
            f"(got {', '.join(kinds) or 'no inputs'}); pass floats, or parameters={{name: Tensor}}"
        )
    arrays = (value for value in args if isinstance(value, Tensor | np.ndarray) and value.ndim)
    first = next(arrays, np.zeros(0))
    letters = "NT" if first.ndim > 2 or first.dtype.kind in "iu" else "N"
    sizes = dict(zip(letters, first.shape, strict=False))

    def function() -> object:
        """Call f, with each generator as it was given."""
        return f(*map_leaves(lambda part: copy.deepcopy(part) if isinstance(part, np.random.Generator) else part, args))

    notes = [*notes, *leaves.keep_targets(function)]
    return Target(title, call, leaves.named, leaves.constants, sizes, notes, partial(FunctionEvaluation, function, rng))


def _cell(cell: Cell, inputs: Sequence[object], leaves: Leaves, rng: np.random.Generator) -> Target:
    shape, axes = shape_of(inputs[0]), axes_of_a_step(cell, inputs[0])
    if (len(shape) not in (axes, axes + 1) and (len(shape), len(inputs)) != (1, 2)) or len(inputs) > 2:
        raise ShapeError(
            f"check_grads: a cell ({name_of(cell)}) is checked on x (N, D) or xs (N, T, D), optionally with a state, "
            f"or on x (D,) with a state; got {len(inputs)} input{'s' * (len(inputs) > 1)}, the first of shape {shape}"
        )
    names, called = (["x", "state"], cell) if len(shape) <= axes else (["xs", "state"], partial(unroll, cell))
    call, title = [_as_argument(cell), *names[: len(inputs)]], name_of(cell)
    if len(inputs) == 2:
        return _function(title, call, called, names, inputs, leaves, rng)
    noise, notes = _noise(initial_state(cell, shape[0], "check_grads"), rng)

    def function(x: object, noise: object) -> object:
        """Start from the first state, computed anew, as it may be learned, and noise."""
        return called(x, _plus(initial_state(cell, shape[0], "check_grads"), noise))

    return _function(title, call, function, names, (inputs[0], noise), leaves, rng, notes)


def _noise(state: object, rng: np.random.Generator) -> tuple[object, list[str]]:
    """Return noise like a first state, as Wh gets no gradient from zeros, and notes; 0 for what is not finite."""
    noisy: list[object] = [0.5 * rng.standard_normal(part.shape) for part in floats(state)]
    notes = ["first state: initial_state and normal noise of standard deviation 0.5"]
    for number, (name, part) in enumerate((n, p) for n, p in named_leaves("state", state) if is_float(p)):
        if not np.isfinite(value_of(part)).all():  # a running maximum starts from -inf
            noisy[number] = 0
            notes.append(f"not checked: {name}, which has values that are not finite")
    return with_floats(state, noisy), notes


def _plus(state: object, noise: object) -> object:
    pairs = zip(flatten(state), flatten(noise), strict=True)
    return rebuild(state, iter([part + by if is_float(part) else part for part, by in pairs]))


# -- under a truncation policy -----------------------------------------------------------------------------------------


def _truncated(
    f: object, inputs: Sequence[object], policy: Policy | str, leaves: Leaves, named: bool, rng: np.random.Generator
) -> Target:
    policy, notes = parse_policy(policy, argument="check_grads: truncation"), list[str]()
    data: object
    loss, x = getattr(_owner(f), "loss", None), inputs[0] if inputs else ()
    if loss is not None and len(inputs) >= 2:
        names, labels = _names(loss, inputs), _names(loss, inputs[:2])
        xs, targets = (np.asarray(value_of(value)) for value in inputs[:2])
        if xs.ndim < 2 or targets.shape[:2] != xs.shape[:2] or len(inputs) > 3:
            raise ShapeError(
                "check_grads: with truncation=, a model is checked on inputs and targets (ids and targets of a "
                f"language model) that agree on (N, T), and optionally a state; got {xs.shape} and {targets.shape}"
            )
        step, data = step_of_mean(loss, targets), (xs, targets)
        first = state = inputs[2] if len(inputs) == 3 else initial_state(_owner(f), len(xs), "check_grads")
    elif callable(f) and _is_cell(f) and len(inputs) <= 2 and len(shape_of(x)) == 1 + axes_of_a_step(f, x):
        names, labels = ["xs", "state"][: len(inputs)], ["xs", "weights of the losses"]
        xs = np.asarray(value_of(x))
        first = state = inputs[1] if len(inputs) == 2 else initial_state(f, len(xs), "check_grads")
        if len(inputs) == 1:
            noise, (note, *_) = _noise(arrays_of(first), rng)
            state, notes = _plus(arrays_of(first), noise), [note]
        step, data = _cell_step(f, xs, state, rng)
    elif callable(f) and named and len(inputs) == 2:
        step, (data, state) = f, inputs
        first = state
        names, labels = ["inputs", "state"], [path for path, _ in named_leaves("inputs", data)]
    else:
        raise ConfigError(
            "check_grads: truncation= needs a cell with xs (N, T, D); a model that has loss(inputs, targets, state), "
            "with inputs and targets (N, T, ...); or step(inputs, state) -> (loss, state) with both, and "
            f"parameters={{name: Tensor}}; got {name_of(f)} with {len(inputs)} input{'s' * (len(inputs) != 1)}"
        )
    if not leaves.named:
        raise DTypeError(f"check_grads: {name_of(f)} has no parameters, so nothing is truncated; pass parameters=")
    data = map_leaves(lambda x: np.asarray(value_of(x), np.float64 if is_float(x) else None), data)
    constants = [(name, part, part.copy()) for name, part in zip(labels, flatten(data), strict=True)]
    title, call = f"{name_of(f)} under {policy!r}", [_as_argument(f), *names]
    floating = [(name, part) for name, part in named_leaves("first state", state) if is_float(part)]
    parts = {name: np.asarray(value_of(part), np.float64) for name, part in floating}
    odd = [name for name, part in parts.items() if not np.isfinite(part).all()]  # a running maximum starts from -inf
    notes += [f"not checked: {name}, which has values that are not finite" for name in odd]
    state = with_floats(state, [p if n in odd else Tensor(p, requires_grad=True, name=n) for n, p in parts.items()])
    if isinstance(policy, ForwardPolicy):
        state = arrays_of(state)
        notes.append(f"not checked: the first state, because {policy!r} does not go back to it")
    notes += leaves.leave_out(first, step(data, state)[0])
    run = Recurrence(step, leaves.named, data, state, policy)
    if run.adapts:
        notes.append(f"{policy!r} chose its windows from the gradient; the mask is that of the windows it chose")
    return Target(title, call, run.leaves, constants, run.sizes, notes, partial(TruncatedEvaluation, run, run.whole))


def _cell_step(cell: Cell, xs: Array, state: object, rng: np.random.Generator) -> tuple[Step, tuple[Array, Array]]:
    """Return a step of a cell, its outputs weighted with random numbers, and the inputs and weights."""
    with no_grad():
        outputs, _ = unroll(cell, xs, state)
    if not is_float(outputs):
        raise GradientError(f"check_grads: {name_of(cell)}: expected a floating point output, got {described(outputs)}")

    def step(inputs: tuple[Array, Array], state: object) -> tuple[Tensor, object]:
        outputs, state = unroll(cell, inputs[0], state)
        return np.sum(outputs * inputs[1]), state

    return step, (xs, weights(rng, shape_of(outputs)))
