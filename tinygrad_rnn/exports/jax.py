"""`to_jax`: a step as a function of JAX, for `jax.jit` on GPUs and TPUs, and for arrays spread over many devices."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any, Generic, ParamSpec, cast

import numpy as np

from ..compiler.api import Compiled
from ..compiler.recording.arguments import Arguments, arguments_of, checked, parameters_of
from ..compiler.recording.known import Known
from ..compiler.recording.loops import LoopTracer
from ..compiler.recording.trace import ARRAY, Recorder, trace
from ..engine.arrays import check_plain
from ..engine.tape import Array, DType
from ..engine.tensor import Tensor
from ..engine.tree import flatten, map_leaves, rebuild, structure
from ..errors import ConfigError, DTypeError, GradientError, ShapeError
from .jax_graph import Draws, Interpreter, JaxRules, prepared

P = ParamSpec("P")


class JaxFunction(Generic[P]):
    """A step as a function of JAX; see `to_jax`.

    Attributes:
        function: the step itself.
        weights: the Tensors that arguments stand for, by name or position.
    """

    def __init__(self, function: Callable[P, object], weights: Mapping[str | int, object], rules: JaxRules) -> None:
        self.function = function.function if isinstance(function, Compiled) else function
        self.weights = dict(weights)
        checked(self.function, self.weights)
        self._interpreter = Interpreter(_imported(), rules)
        self._known = Known()  # of the loops that were recorded
        self.__doc__ = function.__doc__
        self.__wrapped__ = function

    def __call__(self, *args: object, **kwargs: object) -> Any:
        """Return what the step returns, with arrays of JAX in the place of Tensors; see `to_jax`."""
        jax, call = self._interpreter.jax, (args, kwargs)
        given = [_Leaf(jax, part) for part in flatten(call)]
        for number, tensor in _bound(self.function, self.weights, call):
            given[number].stand_for(tensor)
        recorder = partial(_Recorder, self._interpreter)
        positional, named = rebuild(call, iter([leaf.recorded for leaf in given]))
        try:
            recorded = trace(self.function, (positional, named), self._known, cast(Recorder, recorder))
        except GradientError as error:
            if not self.weights:
                error.add_note(
                    "to_jax: an argument is an array without a gradient unless `weights` says which Tensors it stands "
                    'for: to_jax(step, weights={"params": model.parameters()})'
                )
            raise
        used = [_Leaf(jax, part) for part in recorded.captured]
        graph = prepared(recorded.graph)
        _check_precision(jax, [*given, *used])
        values = [leaf.value for leaf in (*given, *used) if leaf.is_input]
        known = dict(zip([*graph.inputs, *graph.captured], values, strict=True))
        made = iter(self._interpreter.run(graph, known))
        keys = {id(leaf.recorded): leaf.value for leaf in given if isinstance(leaf.value, Draws)}

        def result(part: object) -> object:
            if part is ARRAY:
                return next(made)
            return keys[id(part)].key if id(part) in keys else part

        return rebuild(recorded.result, map(result, flatten(recorded.result)))

    def arrays(self, nest: object) -> Any:
        """Return Tensors and NumPy arrays in a nest as arrays of JAX, in memory of their own: the first arguments.

        Raises:
            ConfigError: if they are float64, and JAX computes in float32.
        """
        jax = self._interpreter.jax

        def own(part: object) -> object:
            leaf = _Leaf(jax, part)
            _check_precision(jax, [leaf])
            return jax.numpy.array(leaf.value, copy=True) if leaf.dtype is not None else part

        return map_leaves(own, nest)


class _Leaf:
    """An argument, or what the step uses from outside.

    Attributes:
        value: an array of JAX, `Draws` in the place of a generator, or what is no array.
        recorded: what the step is given while it is recorded.
        is_input: whether the graph has an input for it.
    """

    def __init__(self, jax: ModuleType, part: object) -> None:
        self.value: Any = part
        self.recorded: object = part
        self.dtype: DType | None = None  # of an array as the caller gave it
        self.is_input = True
        if isinstance(part, np.random.Generator):
            raise ConfigError(
                "to_jax: the step draws from a numpy Generator, which JAX cannot; make it an argument of the step, and "
                "pass jax.random.key(seed) in its place"
            )
        if isinstance(part, jax.Array) and jax.dtypes.issubdtype(part.dtype, jax.dtypes.prng_key):
            self.value, self.recorded = Draws(jax, part), np.random.default_rng(0)
        elif isinstance(part, jax.Array | np.ndarray | Tensor):
            self.dtype = np.dtype(part.dtype)
            if self.dtype.kind not in "biufc":
                raise DTypeError(f"to_jax: arrays of dtype {self.dtype} cannot be recorded; pass float32")
            if isinstance(part, np.ndarray):
                check_plain(part, "to_jax")
                part = part.astype(self.dtype.newbyteorder("="), copy=False)  # JAX knows the machine's order of bytes
            self.value = jax.numpy.asarray(part._array if isinstance(part, Tensor) else part)
            if not isinstance(part, Tensor):
                self.recorded = np.zeros(part.shape, self.value.dtype)  # what is in it does not matter
        else:
            self.is_input = False

    def stand_for(self, tensor: object) -> None:
        """Let the step see a Tensor of the user's in the place of this array."""
        if not isinstance(tensor, Tensor) or not isinstance(self.recorded, np.ndarray | Tensor):
            raise ConfigError(
                f"to_jax: weights must hold Tensors, and the argument arrays, got {type(tensor).__name__}"
            )
        if self.value.shape != tensor.shape:
            raise ShapeError(
                f"to_jax: expected {tensor.name or 'a weight'} of shape {tensor.shape}, got {self.value.shape}"
            )
        if self.value.dtype != tensor.dtype:
            raise DTypeError(
                f"to_jax: expected {tensor.name or 'a weight'} of dtype {tensor.dtype}, as the Tensor that it stands "
                f'for, got {self.value.dtype}; for float64 call jax.config.update("jax_enable_x64", True) first'
            )
        self.recorded = tensor


def _check_precision(jax: ModuleType, leaves: Sequence[_Leaf]) -> None:
    """Refuse float64 arrays that JAX would make float32."""
    wide = [leaf for leaf in leaves if leaf.dtype == np.float64 and leaf.value.ndim]
    if wide and wide[0].value.dtype != np.float64:
        raise ConfigError(
            f"to_jax: a float64 array of shape {wide[0].value.shape} would become float32, as JAX computes in float32 "
            'unless jax.config.update("jax_enable_x64", True) comes first; call that, or make the model in float32'
        )


def _bound(
    function: Callable[..., object], weights: Mapping[str | int, object], call: Arguments
) -> Iterator[tuple[int, object]]:
    """Yield the numbers of the leaves that stand for Tensors, and these."""
    for names, part, numbers in arguments_of(parameters_of(function), call):
        for name in names & weights.keys():
            yield from zip(numbers, _aligned(part, weights[name], str(name)), strict=True)


def _aligned(nest: object, weights: object, name: str) -> Iterator[object]:
    """Yield the leaves of `weights` in the order of `nest`: JAX sorts the keys of dicts."""
    pairs: Iterable[tuple[object, object]] = ()
    same = True
    if isinstance(nest, Mapping):
        same = isinstance(weights, Mapping) and nest.keys() == weights.keys()
        pairs = [(nest[key], cast("Mapping[object, object]", weights)[key]) for key in nest] if same else ()
    elif isinstance(nest, tuple | list):
        same = isinstance(weights, tuple | list) and len(nest) == len(weights)
        pairs = zip(nest, cast("Sequence[object]", weights), strict=True) if same else ()
    elif nest is not None:
        yield weights
    if not same:
        raise ShapeError(
            f"to_jax: expected the argument {name} nested as its weights, {structure(weights)}, got {structure(nest)}"
        )
    for part, weight in pairs:
        yield from _aligned(part, weight, name)


class _Recorder(LoopTracer):
    """Records without values: what a function without a gradient gives, JAX says."""

    def __init__(self, interpreter: Interpreter, named: Iterable[object], known: Known | None) -> None:
        super().__init__(named, known)
        self._interpreter = interpreter

    def answer(self, function: Callable[..., object], args: Sequence[object]) -> Array:
        return self._interpreter.answer(function, args)


def _imported() -> ModuleType:
    try:
        import_module("jax.numpy")
        return import_module("jax")
    except ImportError as error:
        raise ConfigError('to_jax: JAX is not installed; pip install "tinygrad_rnn[jax]"') from error


def to_jax(
    function: Callable[P, object],
    *,
    weights: Mapping[str | int, object] | None = None,
    rules: JaxRules | None = None,
) -> JaxFunction[P]:
    """Return a step as a function of JAX, of the same arguments and results.

    The step is recorded as `compile` records it, and computed with `jax.numpy`: a loop over time is a `jax.lax.scan`,
    and a gradient that it takes is part of it. `jax.jit`, `jax.grad`, `jax.vmap` and sharding apply as to any function
    of JAX. It is recorded anew at each call, so call it under `jax.jit`, which does so once for each shape.

    Args:
        function: takes and returns arrays, Tensors and other values in nests of tuples, lists and dicts; or what
            `compile` made of one; or a module.
        weights: arguments, by name or position, that stand for Tensors (of a model), and these: nests alike. What the
            step does with the Tensors, it does with the argument: `{"params": model.parameters()}`. A Tensor that no
            argument stands for is a constant with the value that it has when the step is recorded.
        rules: functions of JAX for your own primitives: of the same arrays and attributes.

    Returns:
        The function. In the place of a Generator it takes a key, `jax.random.key(seed)`, draws other numbers than NumPy
        does, and returns the key for the next call where the step returns the generator. Checks of values (ids in
        range, lengths of at least 1) are left out: what is looked up with an id out of range is NaN.

    Raises:
        ConfigError: if JAX is not installed, or `weights` names no argument; when called, if float64 arrays meet a JAX
            that computes in float32, or the step draws from a Generator that is no argument.
        ShapeError, DTypeError: when called, if an argument does not fit the Tensors that it stands for.
        TraceError: when called, if the step cannot be recorded.
        UnsupportedError: when called, if it has an operation that is not known in JAX.

    >>> import jax, numpy as np, tinygrad_rnn as tr
    >>> cell = tr.RNNCell(3, 4, np.random.default_rng(0))
    >>> def loss(params, xs):
    ...     outputs, _ = tr.unroll(cell, xs)
    ...     return np.sum(outputs**2)
    >>> f = tr.to_jax(loss, weights={"params": cell.parameters()})
    >>> step = jax.jit(jax.grad(f))
    >>> step(f.arrays(cell.parameters()), np.ones((2, 5, 3), np.float32))["Wh"].shape
    (4, 4)
    """
    return JaxFunction(function, weights or {}, rules or {})
