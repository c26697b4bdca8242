"""What is checked: a function, a cell, a model, or a recurrence under a policy, turned into a target with named leaves.

- A function: its floating point inputs are leaves.
- A cell (it has `initial_state`): x (N, D) for one step or xs (N, T, D) for a sequence, the state, and its parameters.
- A model (it has `loss`) with ids and targets, or any module with its inputs: its parameters, and floating inputs.
- With `truncation=`: a cell with xs, a model with ids and targets, or a step with inputs and state.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..engine.primitive import Primitive
from ..engine.tape import Array, no_grad
from ..engine.tensor import Tensor, shape_of
from ..engine.tree import flatten, map_leaves, rebuild
from ..errors import ConfigError, DTypeError, GradientError, NonFiniteError, ShapeError
from ..nn.unroll import initial_state, unroll
from ..truncation import Policy, parse_policy
from ..truncation.nests import is_float, value_of
from .direct import Direct, Target, weights
from .direct import place as place
from .driven import Driven


class Batch(NamedTuple):
    """Token ids and the ids that follow them: what a language model is checked on.

    Attributes:
        inputs: (N, T) integers in [0, V).
        targets: (N, T) integers in [0, V), or -1 where a position does not count.

    >>> Batch(np.zeros((2, 5), int), np.ones((2, 5), int)).inputs.shape
    (2, 5)
    """

    inputs: Array
    targets: Array


def target_of(
    f: Any,
    inputs: Sequence[Any],
    parameters: Mapping[str, Tensor] | None,
    truncation: Policy | str | None,
    rng: np.random.Generator,
) -> Target:
    """Return the target for what `check_grads` was given.

    Args:
        f: function, cell, model, bound method of a model, or step.
        inputs: its inputs.
        parameters: more leaves.
        truncation: policy, its text, or None.
        rng: draws cotangents, weights of losses, and first states.

    Raises:
        TypeError: if f is not callable.
        DTypeError: if there is nothing to differentiate.
        ConfigError: if `truncation` does not fit.
        ShapeError, GradientError, NonFiniteError: if an input or a parameter cannot be used.
    """
    if not callable(f):
        raise TypeError(f"check_grads: f must be a function, a cell or a model, got {type(f).__name__}")
    if len(inputs) == 1 and isinstance(inputs[0], Batch):
        inputs = tuple(inputs[0])
    leaves = _Leaves()
    owner: Any = f.__self__ if inspect.ismethod(f) else f
    found = owner.parameters() if hasattr(owner, "parameters") else {}
    for name, parameter in {**found, **dict(parameters or {})}.items():
        leaves.add_parameter(name, parameter)

    if truncation is not None:
        return _driven(f, owner, inputs, truncation, leaves, parameters, rng)
    if f is owner and _is_cell(f) and inputs and _kind(inputs[0]) == "f":
        return _cell(f, inputs, leaves, rng)
    call = f.loss if f is owner and _is_batch(f, inputs) else f
    return _function(_title(f), call, inputs, leaves, rng, {})


class _Leaves:
    """Named leaves, each Tensor once."""

    def __init__(self) -> None:
        self.named: dict[str, Tensor] = {}
        self.constants: list[tuple[str, Array, Array]] = []
        self.notes: list[str] = []  # on how it was set up

    def add_parameter(self, name: str, parameter: Any) -> None:
        if not isinstance(parameter, Tensor) or not parameter.requires_grad or not parameter.is_leaf:
            what = f"of shape {parameter.shape}" if isinstance(parameter, Tensor) else f"({type(parameter).__name__})"
            raise GradientError(
                f"check_grads: parameter {name} {what} must be a leaf Tensor with requires_grad; make it with "
                "tensor(..., requires_grad=True)"
            )
        self._add(name, parameter)

    def _add(self, name: str, leaf: Tensor) -> Tensor:
        if leaf.dtype.kind == "c":
            raise DTypeError(
                f"check_grads: {name} is complex ({leaf.dtype}); check its real and imaginary part instead"
            )
        if not np.isfinite(leaf.data).all():
            raise NonFiniteError(f"check_grads: {name}, of shape {leaf.shape}, has values that are not finite")
        if any(leaf is other for other in self.named.values()):
            return leaf
        self.named[name if name not in self.named else f"input {name}"] = leaf
        return leaf

    def add_input(self, name: str, nest: Any) -> Any:
        """Return an input with leaves in place of its floating point parts."""
        parts = [self._part(path, part) for path, part in _paths(name, nest)]
        return rebuild(nest, iter(parts))

    def _part(self, path: str, part: Any) -> Any:
        if isinstance(part, float | np.floating):
            part = np.asarray(part)
        if is_float(part) or (isinstance(part, Tensor | np.ndarray) and part.dtype.kind == "c"):
            if isinstance(part, Tensor) and part.requires_grad and part.is_leaf:
                return self._add(part.name or path, part)
            return self._add(path, Tensor(value_of(part), requires_grad=True, name=path))
        if isinstance(part, np.ndarray):
            self.constants.append((path, part, part.copy()))
        return part


def _paths(name: str, nest: Any) -> Iterator[tuple[str, Any]]:
    """Yield the parts of a nesting in the order of `flatten`, each with a name that says where it is."""
    if nest is None:
        return
    if isinstance(nest, Mapping):
        for key, part in nest.items():
            yield from _paths(f"{name}.{key}", part)
    elif isinstance(nest, list | tuple):
        keys = getattr(nest, "_fields", range(len(nest)))
        for key, part in zip(keys, nest, strict=True):
            yield from _paths(f"{name}.{key}", part)
    else:
        yield name, nest


def _title(f: Any) -> str:
    name = str(getattr(f, "__qualname__", None) or getattr(f, "__name__", type(f).__name__))
    return name.rpartition("<locals>.")[2]


def _as_argument(f: Any) -> str:
    """Return f as it may be written in a call."""
    is_named = inspect.isroutine(f) or isinstance(f, type | np.ufunc | Primitive)
    return _title(f).replace("<lambda>", "f") if is_named else f"{_title(f)}(...)"


def _is_cell(f: Any) -> bool:
    return hasattr(f, "initial_state")


def _is_batch(f: Any, inputs: Sequence[Any]) -> bool:
    """Whether f is a model with a loss, and the inputs start with ids and targets."""
    return hasattr(f, "loss") and len(inputs) >= 2 and all(_kind(value) in "iu" for value in inputs[:2])


def _kind(value: Any) -> str:
    return np.asarray(value_of(value)).dtype.kind if isinstance(value, Tensor | np.ndarray | list | int) else "O"


def _names(f: Any, inputs: Sequence[Any]) -> list[str]:
    """Return the names that f gives its inputs, or x0, x1, ... where it does not say."""
    try:
        parameters = list(inspect.signature(f).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    named = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return [named[i] if i < len(named) else f"x{i}" for i in range(len(inputs))]


def _plain(value: Any) -> Any:
    """Return a list of Python numbers as an array, anything else as it is."""
    is_numbers = isinstance(value, list) and value and all(isinstance(part, int | float) for part in flatten(value))
    return np.asarray(value) if is_numbers else value


def _function(
    title: str, f: Callable[..., Any], inputs: Sequence[Any], leaves: _Leaves, rng: np.random.Generator, sizes: Any
) -> Direct:
    names = _names(f, inputs)
    args = [leaves.add_input(name, _plain(value)) for name, value in zip(names, inputs, strict=True)]
    if not leaves.named:
        kinds = ", ".join(
            f"{name} {type(value).__name__} {shape_of(value)}" for name, value in zip(names, args, strict=True)
        )
        raise DTypeError(
            f"check_grads: {title} has nothing to differentiate: no parameters(), and no floating point input "
            f"(got {kinds or 'no inputs'}); pass floats, or parameters={{name: Tensor}}"
        )
    draws = any(isinstance(part, np.random.Generator) for part in flatten(args))

    def run() -> Any:
        return f(*(map_leaves(_rewound, arg) if draws else arg for arg in args))

    target = Direct(title, leaves.named, run, rng)
    target.constants, target.notes, target.sizes = leaves.constants, leaves.notes, dict(sizes)
    target.call = [_as_argument(f), *names]
    shape = next((shape_of(value) for value in args if isinstance(value, Tensor | np.ndarray) and shape_of(value)), ())
    if not sizes and shape:
        letters = ("N", "T") if len(shape) > 2 or hasattr(getattr(f, "__self__", f), "parameters") else ("N",)
        target.sizes = dict(zip(letters, shape, strict=False))
    return target


def _rewound(part: Any) -> Any:
    return copy.deepcopy(part) if isinstance(part, np.random.Generator) else part


def _first_state(cell: Any, N: int, given: Sequence[Any], leaves: _Leaves, rng: np.random.Generator) -> Any:
    """Return the state before the first step, its floating point parts as arrays; noise is added to an initial state.

    From zeros the gradient of Wh would be 0 at the first step, and a check of it would say nothing.
    """
    if given:
        return given[0]
    leaves.notes.append("first state: initial_state and normal noise of standard deviation 0.5")
    return map_leaves(
        lambda h: value_of(h) + 0.5 * rng.standard_normal(shape_of(h)) if is_float(h) else h, initial_state(cell, N)
    )


def _cell(cell: Any, inputs: Sequence[Any], leaves: _Leaves, rng: np.random.Generator) -> Direct:
    shape = shape_of(inputs[0]) if inputs else ()
    if len(shape) not in (2, 3) or len(inputs) > 2:
        raise ShapeError(
            f"check_grads: a cell ({_title(cell)}) is checked on x (N, D) or xs (N, T, D), and a state if you like; "
            f"got {len(inputs)} inputs, the first of shape {shape}"
        )

    def sequence(xs: Any, state: Any) -> Any:
        return unroll(cell, xs, state)

    def step(x: Any, state: Any) -> Any:
        return cell(x, state)

    state = _first_state(cell, shape[0], inputs[1:], leaves, rng)
    sizes = {"N": shape[0], "T": shape[1]} if len(shape) == 3 else {"N": shape[0]}
    target = _function(_title(cell), sequence if len(shape) == 3 else step, (inputs[0], state), leaves, rng, sizes)
    target.call = [_as_argument(cell), *target.call[1 : 1 + len(inputs)]]
    return target


def _driven(
    f: Any,
    owner: Any,
    inputs: Sequence[Any],
    policy: Policy | str,
    leaves: _Leaves,
    parameters: Mapping[str, Tensor] | None,
    rng: np.random.Generator,
) -> Driven:
    policy = parse_policy(policy, argument="check_grads: truncation")
    if hasattr(owner, "loss") and _is_batch(owner, inputs):
        names, parts = ["ids", "targets", "state"][: len(inputs)], ["ids", "targets"]
        step, data, state = _model_step(owner, inputs)
    elif _is_cell(f) and inputs and len(shape_of(inputs[0])) == 3 and len(inputs) <= 2:
        names, parts = ["xs", "state"][: len(inputs)], ["xs", "weights of the losses"]
        step, data, state = _cell_step(f, inputs, leaves, rng)
    elif parameters and len(inputs) == 2:
        names = ["inputs", "state"]
        step, (data, state) = f, inputs
        parts = [path for path, _ in _paths("inputs", data)]
    else:
        raise ConfigError(
            "check_grads: truncation= needs a cell with xs (N, T, D); a model that has loss(ids, targets, state), with "
            "ids and targets (N, T); or step(inputs, state) -> (loss, state) with both, and parameters={name: Tensor}; "
            f"got {_title(f)} with {len(inputs)} inputs"
        )
    data = map_leaves(lambda x: np.asarray(value_of(x), np.float64 if is_float(x) else None), data)
    leaf_state = [
        Tensor(value_of(h), np.float64, requires_grad=True, name=path) if is_float(h) else h
        for path, h in _paths("first state", state)
    ]
    state = rebuild(state, iter(leaf_state))
    if not leaves.named:
        raise DTypeError(f"check_grads: {_title(f)} has no parameters, so truncation changes nothing; pass parameters=")
    target = Driven(f"{_title(f)} under {policy!r}", step, leaves.named, data, state, policy)
    target.notes[:0] = leaves.notes
    target.call = [_as_argument(f), *names]
    target.constants = [(name, part, part.copy()) for name, part in zip(parts, flatten(data), strict=True)]
    return target


def _model_step(model: Any, inputs: Sequence[Any]) -> tuple[Any, Any, Any]:
    ids, targets = (np.asarray(value_of(value)) for value in inputs[:2])
    if ids.ndim != 2 or targets.shape != ids.shape or len(inputs) > 3:
        raise ShapeError(
            "check_grads: with truncation=, a model is checked on ids and targets of one shape (N, T), and a state if "
            f"you like; got {ids.shape} and {targets.shape}"
        )
    counted = int(np.count_nonzero(targets != -1)) or 1

    def step(inputs: Any, state: Any) -> tuple[Any, Any]:
        xs, ts = inputs
        here = int(np.count_nonzero(ts != -1))
        # A mean over no targets would be nan: read them as any, and let them have no loss.
        loss, state = model.loss(xs, ts if here else np.zeros_like(ts), state)
        return (loss * (here / counted) if here else None), state

    state = inputs[2] if len(inputs) == 3 else model.initial_state(len(ids))
    return step, (ids, targets), state


def _cell_step(cell: Any, inputs: Sequence[Any], leaves: _Leaves, rng: np.random.Generator) -> tuple[Any, Any, Any]:
    xs = np.asarray(value_of(inputs[0]))
    state = _first_state(cell, len(xs), inputs[1:], leaves, rng)
    with no_grad():
        outputs, _ = unroll(cell, xs, state)
    if not is_float(outputs):
        raise GradientError(
            f"check_grads: {_title(cell)} must return a floating point output, to weigh with a cotangent"
        )

    def step(inputs: Any, state: Any) -> tuple[Any, Any]:
        xs, es = inputs
        outputs, state = unroll(cell, xs, state)
        return np.sum(outputs * es), state

    return step, (xs, weights(rng, shape_of(outputs))), state
