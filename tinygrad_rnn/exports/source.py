"""What is exported: a function with example arguments and the state that it carries, or the step of a module."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NoReturn, cast

import numpy as np

from ..checks import integer, texts
from ..compiler.api import Compiled
from ..engine.tape import Array, no_grad
from ..engine.tensor import Tensor
from ..errors import ConfigError
from ..nn.cells import Cell, State, initial_state, stepped
from ..nn.module import Module
from ..nn.unroll import unroll
from ..training.inference.stepper import one_step
from ..training.language.modelfile import SavedModel


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
        saved: the language model with its configuration and vocabulary, where it comes from a file of one.
    """

    function: Callable[..., object]
    args: tuple[object, ...]
    names: tuple[str, ...]
    carried: tuple[str, ...] = ()
    module: Module | None = None
    saved: SavedModel | None = None


def source_of_function(function: Callable[..., object], args: Sequence[object], carry: Sequence[str]) -> Source:
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
    carried = texts("export", "carry", carry)
    unknown = [name for name in carried if name not in names]
    if len(bound.args) != len(names):
        raise ConfigError(
            f"export: {getattr(function, '__qualname__', function)!r} takes its arguments as *{names[-1]}; give each a "
            "name of its own, which it has in the export too, or export a function that does and calls it"
        )
    if unknown:
        raise ConfigError(f"export: carry must name arguments of the function ({', '.join(names)}), got {unknown}")
    return Source(function, tuple(args), names, carried)


def source_of_module(
    model: Module | SavedModel, x: object = None, state: State = None, *, streams: int = 1, steps: int | None = None
) -> Source:
    """Return one step of a model or a cell, or a window of steps, as a source: `(x, state) -> (y, state)`.

    Args:
        model: a model `model(ids, state) -> (output, state)` of ids (N, T), such as an `RNNLM`; a cell
            `cell(x, state) -> (output, state)` of x (N, D), which is unrolled over a window; what `load_model` returns;
            or a module without `initial_state`, such as a `SequenceModel`: `x -> y`. A model of ids that takes one step
            at a time, ids (N,), says so in its class: `time_axis = False`.
        x: an example input: ids (N,) or vectors (N, D) for one step, (N, T) or (N, T, D) for a window; None: zeros in
            the shape that the module's `vocab_size` or `input_size` says.
        state: an example state; None: `module.initial_state(N)`.
        streams: N, where no x is given.
        steps: T of a window, where no x is given; None: one step, without a time axis.

    A module that does not say what its input looks like has no step unless an x is given: what records the step raises
    `ConfigError`, and formats of weights alone do not.
    """
    saved, module = (model, model.model) if isinstance(model, SavedModel) else (None, model)
    stateless = not hasattr(module, "initial_state")
    if x is not None:
        x = np.asarray(x.data if isinstance(x, Tensor) else x)
    elif steps is not None or not stateless:
        x = _example(module, integer("export", "streams", streams), steps)
    if x is None:
        return Source(partial(_no_example, module), (), (), (), module, saved)
    assert isinstance(x, np.ndarray)
    if stateless:
        return Source(partial(_without_state, cast(Callable[[Array], object], module)), (x,), ("x",), (), module, saved)
    window = x.ndim > (1 if x.dtype.kind in "iu" else 2)
    step = partial(_over_time if window else one_step, cast(Cell, module), getattr(module, "time_axis", None))
    state = initial_state(module, x.shape[0], "export") if state is None else state
    return Source(partial(_called, step), (x, state), ("x", "state"), ("state",), module, saved)


def _called(step: Callable[[Array, State], object], x: Array, state: State) -> object:
    with no_grad():
        return step(x, state)


def _without_state(module: Callable[[Array], object], x: Array) -> object:
    with no_grad():
        return module(x)


def _over_time(model: Cell, time_axis: bool | None, xs: Array, state: State) -> tuple[object, State]:
    """Return what a model, or a cell at each step, makes of a window (N, T, ...)."""
    if time_axis or (time_axis is None and xs.dtype.kind in "iu"):
        return stepped(model, xs, state)
    return unroll(model, xs, state)


def _no_example(module: Module) -> NoReturn:
    name = type(module).__name__
    if hasattr(module, "vocab_size") or hasattr(module, "input_size"):
        raise ConfigError(
            f"export: {name} has no initial_state, so it has no step: pass steps=T (--steps T) for windows of T steps, "
            "or an example of its input; for one step at a time, export a function of its layers and their state"
        )
    raise ConfigError(
        f"export: {name} has neither vocab_size nor input_size: give it the one that it has as an attribute, or pass "
        "an example of its input: ids (N,), or vectors (N, D)"
    )


def _example(module: Module, streams: int, steps: int | None) -> Array | None:
    """Return zeros in the shape of a module's input; None if it does not say it."""
    axes = (streams,) if steps is None else (streams, integer("export", "steps", steps))
    if hasattr(module, "vocab_size"):
        return np.zeros(axes, np.int64)
    size: int | None = getattr(module, "input_size", None)
    if size is None:
        return None
    dtype = next((part.dtype for part in module.tensors().values() if part.dtype.kind == "f"), np.dtype(np.float32))
    return np.zeros((*axes, size), dtype)
