"""What is exported: a function with example arguments and the state that it carries, or the step of a module."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..checks import integer
from ..compiler.api import Compiled
from ..engine.tape import no_grad
from ..engine.tensor import Tensor
from ..engine.tree import flatten
from ..errors import ConfigError
from ..nn.cells import State, initial_state, stepped
from ..nn.module import Module
from ..training.inference.stepper import one_step


@dataclass(frozen=True)
class Source:
    """A function to export, with arguments that give the shapes and dtypes of the export.

    Attributes:
        function: takes the arguments; what it uses without being given it (a model's parameters) are the weights.
        args: arrays, Tensors, or nests of them, one for each of the function's parameters.
        names: of the arguments.
        carried: names of the arguments that the function returns anew, in this order, as the last of its results:
            `step(x, state) -> (y, state)` carries "state". The program that is exported keeps them from call to call.
        module: the module whose step it is, if it is one: its parameters give the weights their names.
    """

    function: Callable[..., object]
    args: tuple[object, ...]
    names: tuple[str, ...]
    carried: tuple[str, ...] = ()
    module: Module | None = None


def source_of_function(function: Callable[..., object], args: Sequence[object], carry: Sequence[str] | str) -> Source:
    """Return a function, or what `compile` made of one, as a source.

    Raises:
        ConfigError: if the arguments do not fit the function, or it has no argument that `carry` names.
    """
    function = function.function if isinstance(function, Compiled) else function
    try:
        bound = inspect.signature(function).bind(*args)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"export: the example arguments do not fit {getattr(function, '__qualname__', function)!r}: {error}; pass "
            "one for each of its parameters, with the shapes and dtypes of the export"
        ) from error
    names = tuple(bound.arguments)
    carried = (carry,) if isinstance(carry, str) else tuple(carry)
    unknown = [name for name in carried if name not in names]
    if unknown or len(bound.args) != len(names):
        raise ConfigError(f"export: carry must name arguments of the function ({', '.join(names)}), got {unknown}")
    return Source(function, tuple(args), names, carried)


def source_of_module(
    module: Module, x: object = None, state: State = None, *, streams: int = 1, steps: int | None = None
) -> Source:
    """Return one step of a model or a cell, or a window of steps, as a source: `(x, state) -> (y, state)`.

    Args:
        module: a model `model(ids, state) -> (output, state)` of ids (N, T), such as an `RNNLM`, or a cell
            `cell(x, state) -> (output, state)` of x (N, D).
        x: an example input: ids (N,) or vectors (N, D) for one step, (N, T) or (N, T, D) for a window; None: zeros in
            the shape that the module's `vocab_size` or `input_size` says.
        state: an example state; None: `module.initial_state(N)`.
        streams: N, where no x is given.
        steps: T of a window, where no x is given; None: one step, without a time axis.

    Raises:
        ConfigError: if the module does not say what its input looks like, and no x is given.
    """
    window = steps is not None
    if x is None:
        x = _example(module, integer("export", "streams", streams), steps)
    else:
        x = np.asarray(x.data if isinstance(x, Tensor) else x)
        window = x.ndim > (1 if x.dtype.kind in "iu" else 2)
    assert isinstance(x, np.ndarray)
    if state is None:
        state = initial_state(module, x.shape[0], "export")
    time_axis: bool | None = getattr(module, "time_axis", None)

    def step(x: np.ndarray, state: State) -> tuple[object, State]:
        with no_grad():
            return stepped(module, x, state) if window else one_step(module, time_axis, x, state)  # type: ignore[arg-type]

    carried = ("state",) if flatten(state) else ()
    return Source(step, (x, state), ("x", "state"), carried, module)


def _example(module: Module, streams: int, steps: int | None) -> np.ndarray:
    """Return zeros in the shape of a module's input."""
    axes = (streams,) if steps is None else (streams, integer("export", "steps", steps))
    if hasattr(module, "vocab_size"):
        return np.zeros(axes, np.int64)
    size = getattr(module, "input_size", None)
    if size is None:
        raise ConfigError(
            f"export: {type(module).__name__} has neither vocab_size nor input_size, so pass an example of its input: "
            "ids (N,), or vectors (N, D)"
        )
    dtype = next((part.dtype for part in module.tensors().values() if part.dtype.kind == "f"), np.dtype(np.float32))
    return np.zeros((*axes, size), dtype)
