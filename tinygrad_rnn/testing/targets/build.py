"""Construction of a target from the arguments of `check_grads`.

- A function: its floating point inputs are leaves.
- A cell (it has `initial_state`): x (N, D) for one step or xs (N, T, D) for a sequence, the state, and its parameters.
- A module with a loss and the inputs of the loss, or any module with its inputs: its parameters, and floating inputs.
- With `truncation=`: a cell with xs, a module with a loss, inputs and targets, or a step with inputs and state.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from ...checks import fits, spread
from ...credit.forward import ForwardPolicy
from ...credit.nests import arrays_of, is_float, value_of
from ...credit.update import Step
from ...engine.primitive import Primitive
from ...engine.tape import Array, no_grad
from ...engine.tensor import Tensor, shape_of
from ...engine.tree import flatten, map_leaves, named_leaves, structure
from ...errors import ConfigError, DTypeError, GradientError, ShapeError
from ...nn.cells import Cell, initial_state
from ...nn.unroll import unroll
from ...truncation import Policy, parse_policy
from .base import Target, weights
from .function import FunctionEvaluation
from .leaves import Constant, Leaves, in_float64
from .truncated import Recurrence, TruncatedEvaluation

_NOISY = "first state: initial_state and normal noise of standard deviation 0.5"


class Batch(NamedTuple):
    """Token ids and the ids that follow them, the inputs for a check of a language model.

    Attributes:
        inputs: (N, T) integers in [0, V).
        targets: (N, T) integers in [0, V), or -1 where a position does not count.

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
    """Return the target for the arguments of `check_grads`; `rng` draws cotangents, weights of losses, first states.

    Raises:
        TypeError: if f is not callable and has no loss.
        DTypeError: if there is nothing to differentiate.
        ConfigError: if `truncation` or `loss` does not fit.
        ShapeError, GradientError, NonFiniteError: if an input or a parameter cannot be used.
    """
    bound = _own_loss(f) if loss is None else partial(loss, f)
    leaves = Leaves()
    found: Mapping[str, object] = getattr(_owner(f), "parameters", dict)()
    for name, parameter in {**found, **dict(parameters or {})}.items():
        leaves.add_parameter(name, parameter)
    inputs = inputs[0] if len(inputs) == 1 and isinstance(inputs[0], Batch) else spread(bound, inputs)
    if truncation is not None:
        if loss is not None:
            raise ConfigError(
                "check_grads: loss= and truncation= do not go together; pass step(inputs, state) -> (loss, state) in "
                "place of the model, with parameters=model.parameters()"
            )
        return _truncated(f, inputs, truncation, leaves, parameters, rng)
    if loss is not None:
        names = _names(bound, inputs)
        title, call = f"{_title(loss)} of {_title(f)}", [_as_argument(f), *names, f"loss={_as_argument(loss)}"]
        return _function(title, call, bound, names, inputs, leaves, rng)
    if callable(f) and _is_cell(f) and inputs and _kind(inputs[0]) == "f":
        return _cell(f, inputs, leaves, rng)
    called = f if callable(f) and not _takes_loss(f, inputs) else bound
    names = _names(called, inputs)
    return _function(_title(f), [_as_argument(called), *names], called, names, inputs, leaves, rng)


# -- what f is ---------------------------------------------------------------------------------------------------------


def _owner(f: object) -> object:
    """Return the module of a bound method, and anything else unchanged."""
    return f.__self__ if inspect.ismethod(f) else f


def _own_loss(f: object) -> Callable[..., object]:
    """Return the loss of a module; f itself if it has none."""
    loss = getattr(f, "loss", f)
    if not callable(loss):
        raise TypeError(f"check_grads: f must be a function, a cell or a model, got {type(f).__name__}")
    return loss


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


def _title(f: object) -> str:
    name = str(getattr(f, "__qualname__", None) or getattr(f, "__name__", type(f).__name__))
    return name.rpartition("<locals>.")[2]


def _as_argument(f: object) -> str:
    """Return f as it is written in a call."""
    is_named = inspect.isroutine(f) or isinstance(f, type | np.ufunc | Primitive)
    return _title(f).replace("<lambda>", "f") if is_named else f"{_title(f)}(...)"


def _names(f: Callable[..., object], inputs: Sequence[object]) -> list[str]:
    """Return the names of f's inputs, or x0, x1, ... where it has none."""
    try:
        parameters = list(inspect.signature(f).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    named = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
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
        kinds = ", ".join(
            f"{name} {type(value).__name__} {shape_of(value)}" for name, value in zip(names, args, strict=True)
        )
        raise DTypeError(
            f"check_grads: {title} has nothing to differentiate: no parameters(), and no floating point input "
            f"(got {kinds or 'no inputs'}); pass floats, or parameters={{name: Tensor}}"
        )
    arrays = (value for value in args if isinstance(value, Tensor | np.ndarray) and value.ndim)
    first = next(arrays, np.zeros(0))
    letters = ("N", "T") if first.ndim > 2 or first.dtype.kind in "iu" else ("N",)
    draws = any(isinstance(part, np.random.Generator) for part in flatten(args))

    def function() -> object:
        return f(*(map_leaves(_rewound, arg) if draws else arg for arg in args))

    sizes = dict(zip(letters, first.shape, strict=False))
    evaluated = partial(FunctionEvaluation, function, rng)
    return Target(title, call, leaves.named, leaves.constants, sizes, notes, evaluated)


def _rewound(part: object) -> object:
    return copy.deepcopy(part) if isinstance(part, np.random.Generator) else part


def _cell(cell: Cell, inputs: Sequence[object], leaves: Leaves, rng: np.random.Generator) -> Target:
    shape = shape_of(inputs[0])
    if (len(shape) not in (2, 3) and (len(shape), len(inputs)) != (1, 2)) or len(inputs) > 2:
        raise ShapeError(
            f"check_grads: a cell ({_title(cell)}) is checked on x (N, D) or xs (N, T, D), and a state if you like, or "
            f"on x (D,) and a state; got {len(inputs)} inputs, the first of shape {shape}"
        )
    state, notes = _first_state(cell, shape[0], inputs[1:], rng)
    names, function = (["xs", "state"], partial(unroll, cell)) if len(shape) == 3 else (["x", "state"], cell)
    call = [_as_argument(cell), *names[: len(inputs)]]
    return _function(_title(cell), call, function, names, (inputs[0], state), leaves, rng, notes)


def _first_state(cell: Cell, N: int, given: Sequence[object], rng: np.random.Generator) -> tuple[object, list[str]]:
    """Return the state before the first step, and a note if noise was added to an initial state.

    With a state of zeros the gradient of Wh would be 0 at the first step, and a check of it would show nothing.
    """
    if given:
        return given[0], []

    def noisy(h: object) -> object:
        return value_of(h) + 0.5 * rng.standard_normal(shape_of(h)) if is_float(h) else h

    return map_leaves(noisy, initial_state(cell, N)), [_NOISY]


# -- under a truncation policy -----------------------------------------------------------------------------------------


def _truncated(
    f: object,
    inputs: Sequence[object],
    policy: Policy | str,
    leaves: Leaves,
    parameters: Mapping[str, Tensor] | None,
    rng: np.random.Generator,
) -> Target:
    policy, notes = parse_policy(policy, argument="check_grads: truncation"), list[str]()
    data: object
    loss = getattr(_owner(f), "loss", None)
    if loss is not None and len(inputs) >= 2:
        names = _names(loss, inputs)
        parts = names[:2]
        step, data, N = _model_step(loss, inputs)
        state = inputs[2] if len(inputs) == 3 else initial_state(_owner(f), N)
    elif callable(f) and _is_cell(f) and inputs and len(shape_of(inputs[0])) == 3 and len(inputs) <= 2:
        names, parts = ["xs", "state"][: len(inputs)], ["xs", "weights of the losses"]
        xs = np.asarray(value_of(inputs[0]))
        state, notes = _first_state(f, len(xs), inputs[1:], rng)
        step, data = _cell_step(f, xs, state, rng)
    elif callable(f) and parameters and len(inputs) == 2:
        names = ["inputs", "state"]
        step, (data, state) = f, inputs
        parts = [path for path, _ in named_leaves("inputs", data)]
    else:
        raise ConfigError(
            "check_grads: truncation= needs a cell with xs (N, T, D); a model that has loss(inputs, targets, state), "
            "with inputs and targets (N, T, ...); or step(inputs, state) -> (loss, state) with both, and "
            f"parameters={{name: Tensor}}; got {_title(f)} with {len(inputs)} inputs"
        )
    if not leaves.named:
        raise DTypeError(f"check_grads: {_title(f)} has no parameters, so truncation changes nothing; pass parameters=")
    data = map_leaves(lambda x: np.asarray(value_of(x), np.float64 if is_float(x) else None), data)
    constants = [Constant(name, part, part.copy()) for name, part in zip(parts, flatten(data), strict=True)]
    title, call = f"{_title(f)} under {policy!r}", [_as_argument(f), *names]
    state = in_float64("first state", state)
    if isinstance(policy, ForwardPolicy):
        state = arrays_of(state)
        notes.append(f"not checked: the first state, because {policy!r} does not go back to it")
    run = Recurrence(step, leaves.named, data, state, policy)
    if run.adapts:
        notes.append(f"{policy!r} chose its windows from the gradient; the mask is that of the windows it chose")
    evaluated = partial(TruncatedEvaluation, run, run.whole)
    return Target(title, call, run.leaves, constants, run.sizes, notes, evaluated)


def _model_step(
    loss: Callable[..., tuple[Tensor, object]], inputs: Sequence[object]
) -> tuple[Step, tuple[Array, Array], int]:
    """Return a step of a model whose loss is a mean over the positions that count, its inputs and targets, and N."""
    xs, targets = (np.asarray(value_of(value)) for value in inputs[:2])
    if xs.ndim < 2 or targets.shape[:2] != xs.shape[:2] or len(inputs) > 3:
        raise ShapeError(
            "check_grads: with truncation=, a model is checked on inputs and targets (ids and targets of a language "
            f"model) that agree on (N, T), and optionally a state; got {xs.shape} and {targets.shape}"
        )

    def positions(targets: Array) -> int:
        return int(np.count_nonzero(targets != -1)) if targets.dtype.kind in "iu" else targets.size

    counted = positions(targets) or 1

    def step(inputs: tuple[Array, Array], state: object) -> tuple[Tensor | None, object]:
        xs, ts = inputs
        here = positions(ts)
        # A mean over no targets would be nan: give them arbitrary ids and no loss.
        mean, state = loss(xs, ts if here else np.zeros_like(ts), state)
        return (mean * (here / counted) if here else None), state

    return step, (xs, targets), len(xs)


def _cell_step(cell: Cell, xs: Array, state: object, rng: np.random.Generator) -> tuple[Step, tuple[Array, Array]]:
    """Return a step of a cell, its outputs weighted with random numbers, and the inputs and weights."""
    with no_grad():
        outputs, _ = unroll(cell, xs, state)
    if not is_float(outputs):
        raise GradientError(
            f"check_grads: {_title(cell)} must return a floating point output, to weigh with a cotangent"
        )

    def step(inputs: tuple[Array, Array], state: object) -> tuple[Tensor, object]:
        xs, es = inputs
        outputs, state = unroll(cell, xs, state)
        return np.sum(outputs * es), state

    return step, (xs, weights(rng, shape_of(outputs)))
