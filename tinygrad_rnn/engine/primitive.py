"""A primitive: one function on arrays, and the rule that carries a cotangent back through it.

    @primitive(np.tanh)
    def tanh(x: Array, /) -> Array:
        return np.tanh(x)

    @tanh.rule(keep="y")
    def _(g, y, x):
        return (g * (1 - y * y),)

Parameters before the `/` (or a `*xs`) are inputs, the rest are attributes. The rule gets the cotangent, the output,
the inputs, and the attributes by name, and returns one entry for each input: a cotangent, None, or a function that
computes it and is called only if that input needs one. `keep` names the rule's parameters whose values it reads; of the
others it sees only shape and dtype, and their memory is not held. Rules are written with operators and functions that
take arrays and Tensors alike: on arrays nothing is recorded, on Tensors the backward pass is a graph itself, so one
rule serves every order. The engine does un-broadcasting, casts and zeros for unused outputs.

One keyword is reserved: `out`, an array of the result's shape and dtype (a tuple of them for several outputs) that
the function writes into and returns. It is for plain arrays and is never recorded. A primitive may do without it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Concatenate, Generic, ParamSpec, TypeAlias, TypeVar, cast, overload

import numpy as np

from ..checks import flag, instance
from ..errors import UnsupportedError
from .arrays import as_numbers, frozen
from .explain import explained
from .operands import arrays_in, has_tensor
from .sites import call_site, describe_site
from .table import Function, implements
from .tape import Array, Attributes, Context, Edge, Kept, Node, Spec, check_finite, context
from .tensor import Operand, Tensor, Value, wrap
from .types import Numbers

P = ParamSpec("P")
Rest = ParamSpec("Rest")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

Canonical: TypeAlias = Callable[[str, Sequence[object], Attributes], Attributes]
"""Checks the attributes of a call, given its name and its inputs, and returns them in the form in which they are
recorded."""

Cotangents: TypeAlias = Sequence[Value | Callable[[], Value] | None]
"""The result of a rule for one input: its cotangent, a function that computes it, or None for zero."""

Rule: TypeAlias = Callable[..., Cotangents]

OfOne: TypeAlias = "Primitive[Concatenate[Array, Rest], R]"
OfTwo: TypeAlias = "Primitive[Concatenate[Array, Array, Rest], R]"
OfThree: TypeAlias = "Primitive[Concatenate[Array, Array, Array, Rest], R]"
"""A primitive of one, two or three inputs, with other parameters and a result."""


class Primitive(Generic[P, R_co]):
    """A function on arrays with a derivative rule: calls on a Tensor are recorded, calls on arrays alone just compute.

    P are the parameters of the function, R its result: an array, or a tuple of them. Called with a Tensor among its
    inputs, it returns a Tensor in place of each array.

    Attributes:
        name: the function's name.
        forward: the function on arrays.
        pull: its rule.
        analytic: whether it is complex-analytic, so that complex-step differentiation is exact through it.
        multiple: whether it has several outputs (a tuple).
        elementwise: whether an element of the result depends on the same element of each input alone.
        accepts_out: whether `forward` takes `out=` and writes into it; if not, `out=` gets a copy of the result.

    Example: a primitive with a rule that the engine can differentiate again.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> @tr.primitive()
    ... def arctan(x, /):
    ...     return np.arctan(x)
    >>> @arctan.rule(keep="x")
    ... def _(g, y, x):
    ...     return (g / (1 + x * x),)
    >>> x = tr.tensor(1.0, requires_grad=True)
    >>> tr.grad(arctan(x), x)
    array(0.5)
    """

    pull_all = None

    def __init__(
        self, forward: Callable[P, R_co], analytic: bool, multiple: bool, elementwise: bool, canonical: Canonical | None
    ) -> None:
        self.forward: Callable[..., R_co] = forward
        self.name: str = forward.__name__.lstrip("_")
        self.analytic: bool = flag("primitive", "analytic", analytic)
        self.multiple: bool = flag("primitive", "multiple", multiple)
        self.elementwise: bool = flag("primitive", "elementwise", elementwise) and not multiple
        self._canonical = canonical
        self.pull: Rule = self._missing_rule
        self._has_rule = self._keeps_output = False
        self._keeps: tuple[bool, ...] = ()
        self.__signature__ = inspect.signature(forward)
        parameters = self.__signature__.parameters.values()
        self._variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        self._arity = sum(p.kind is p.POSITIONAL_ONLY for p in parameters)
        inputs = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.VAR_POSITIONAL)]
        self._inputs = [f"*{p.name}" if p.kind is p.VAR_POSITIONAL else p.name for p in inputs]
        if not (self._variadic or self._arity):
            raise TypeError(f"primitive {self.name}: mark its array inputs as positional-only: def {self.name}(x, /)")
        attributes = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        reserved = [p for p in attributes if p.name == "out"]
        if any(p.kind is not p.KEYWORD_ONLY for p in reserved):
            raise TypeError(f"primitive {self.name}: out must be keyword-only: def {self.name}(x, /, *, out=None)")
        self.accepts_out: bool = bool(reserved)
        attributes = [p for p in attributes if p.name != "out"]
        self._attributes = [p.name for p in attributes]
        self._defaults = {p.name: p.default for p in attributes if p.default is not p.empty}
        self.__doc__ = forward.__doc__
        self.__name__, self.__module__ = self.name, forward.__module__
        self.__wrapped__ = forward

    def __repr__(self) -> str:
        return f"<primitive {self.name}>"

    def rule(self, keep: str = "") -> Callable[[Rule], Rule]:
        """Return a decorator that sets the derivative rule; `keep` names the parameters whose values it reads.

        Raises:
            TypeError: if the rule does not take the cotangent, the output, each input, and each attribute by name, or
                `keep` names something else.
        """
        instance(f"primitive {self.name}", "keep", keep, str)

        def register(pull: Rule) -> Rule:
            names, kept = self._names_in(pull), keep.split()
            unknown = set(kept) - set(names[1:])
            if unknown:
                raise TypeError(f"primitive {self.name}: keep names {sorted(unknown)}, not parameters of the rule")
            self.pull, self._has_rule = pull, True
            self._keeps_output = names[1] in kept
            self._keeps = tuple(name in kept for name in names[2:])
            return pull

        return register

    def _names_in(self, pull: Rule) -> list[str]:
        """Return the names of a rule's positional parameters, or raise `TypeError` if the engine could not call it."""
        signature = inspect.signature(pull)
        parameters = signature.parameters.values()
        taken = [p for p in parameters if p.kind not in _BY_NAME]
        named = [p for p in parameters if p.kind in _BY_NAME]
        missing = {p.name for p in named if p.default is p.empty} - set(self._attributes)
        if not any(p.kind is p.VAR_KEYWORD for p in named):
            missing |= set(self._attributes) - {p.name for p in named}
        fits = len(taken) == 2 + len(self._inputs) and self._variadic == any(p.kind is p.VAR_POSITIONAL for p in taken)
        if not fits or (missing and self._canonical is None):  # a canonical form may have other attributes
            expected = ", ".join(["g", "y", *self._inputs, *(["*", *self._attributes] if self._attributes else [])])
            raise TypeError(
                f"primitive {self.name}: expected a rule that takes ({expected}): the cotangent, the output, the "
                f"inputs, and the attributes by name; this one takes {signature}"
            )
        return [p.name for p in taken]

    def _missing_rule(self, *_: object, **__: object) -> Cotangents:
        raise TypeError(f"primitive {self.name}: no derivative rule; add one with @{self.name}.rule()")

    # A Tensor among one, two or three inputs makes a Tensor; the first overload that fits is taken.
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self: OfOne[Rest, tuple[Array, ...]], x: Tensor, /, *args: Rest.args, **kwargs: Rest.kwargs
    ) -> tuple[Tensor, ...]: ...
    @overload
    def __call__(self: OfOne[Rest, object], x: Tensor, /, *args: Rest.args, **kwargs: Rest.kwargs) -> Tensor: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self: OfOne[Rest, R], x: Numbers, /, *args: Rest.args, **kwargs: Rest.kwargs
    ) -> R: ...
    @overload
    def __call__(
        self: OfTwo[Rest, object], a: Tensor, b: Operand, /, *args: Rest.args, **kwargs: Rest.kwargs
    ) -> Tensor: ...
    @overload
    def __call__(
        self: OfTwo[Rest, object], a: Operand, b: Tensor, /, *args: Rest.args, **kwargs: Rest.kwargs
    ) -> Tensor: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self: OfTwo[Rest, R], a: Numbers, b: Numbers, /, *args: Rest.args, **kwargs: Rest.kwargs
    ) -> R: ...
    @overload
    def __call__(
        self: OfThree[Rest, object], a: Tensor, b: Operand, c: Operand, /, *args: Rest.args, **kwargs: Rest.kwargs
    ) -> Tensor: ...
    @overload
    def __call__(
        self: OfThree[Rest, object], a: Operand, b: Tensor, c: Operand, /, *args: Rest.args, **kwargs: Rest.kwargs
    ) -> Tensor: ...
    @overload
    def __call__(
        self: OfThree[Rest, object], a: Operand, b: Operand, c: Tensor, /, *args: Rest.args, **kwargs: Rest.kwargs
    ) -> Tensor: ...
    @overload
    def __call__(
        self: OfThree[Rest, R], a: Numbers, b: Numbers, c: Numbers, /, *args: Rest.args, **kwargs: Rest.kwargs
    ) -> R: ...
    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...
    def __call__(self, *args: object, **kwargs: object) -> object:  # type: ignore[misc]  # it does accept them all
        """Compute the function, and record it if an input is recorded.

        Plain arrays may be given `out=`, an array of the result's shape and dtype that the result is written into.
        """
        inputs, attrs = args, kwargs
        if not self._variadic and len(args) != self._arity:
            inputs, attrs = self._split_attributes(args, kwargs)
        out = attrs.pop("out") if attrs and "out" in attrs else None
        if self._canonical is not None:
            attrs = self._canonical(self.name, inputs, {**self._defaults, **attrs})
        if out is not None:
            return self._into(out, inputs, attrs)
        how = context()
        for value in inputs:
            if isinstance(value, Tensor):
                return self._on_tensors(inputs, attrs, how)
        if how.tracer is not None and has_tensor(attrs):
            return self._on_tensors(inputs, attrs, how)
        return self.forward(*inputs, **attrs)

    def _on_tensors(self, inputs: Sequence[object], attrs: Attributes, how: Context) -> Tensor | tuple[Tensor, ...]:
        """Compute the function, record it where a gradient may be needed, and show it to the tracer if there is one."""
        values: list[Array | complex] = []
        edges: list[Edge | None] = []
        tracked = False
        for value in inputs:
            edge = None
            if isinstance(value, Tensor):
                if value._node is not None:
                    edge = (value._node, value._index)
                    tracked = True
                value = value._array
            elif type(value) is not np.ndarray and not isinstance(value, _NUMBERS):
                value = as_numbers(value, self.name)  # Python numbers are not converted: they take the tensor's dtype
            values.append(value)
            edges.append(edge)
        outputs = self._outputs(values, attrs, how)
        tracked = tracked and how.recording and outputs[0].dtype.kind in "fc"
        node = self._node(inputs, values, edges, attrs, outputs, how) if tracked else None
        if self.multiple:
            results = tuple([wrap(part, node, index) for index, part in enumerate(outputs)])
        else:
            results = (wrap(outputs[0], node),)
        if how.tracer is not None:
            how.tracer.record(self, inputs, self._complete(attrs) if node is None else node.attrs, results)
        return results if self.multiple else results[0]

    def _outputs(self, values: list[Array | complex], attrs: Attributes, how: Context) -> tuple[Array, ...]:
        """Return the outputs of the function; while `compile` records, arrays of their shapes and dtypes."""
        if (tracer := how.tracer) is not None:
            attrs = arrays_in(attrs) if attrs else attrs
            if (abstract := tracer.abstract(self, values, attrs)) is not None:
                return abstract
        try:
            output = (self.forward if tracer is None else tracer.computed(self.forward))(*values, **attrs)
        except (ValueError, IndexError, TypeError) as error:
            raise explained(error, self.name, self._attributes, values, attrs) from error
        if self.multiple and isinstance(output, tuple):
            outputs = tuple([np.asarray(part) for part in output])
        else:
            outputs = (np.asarray(output),)
        if how.anomaly:
            for part in outputs:
                check_finite(part, "output", self.name, describe_site(call_site(), how.step, how.scope))
        return outputs if tracer is None else tracer.abstracted(outputs)

    def _node(
        self,
        inputs: Sequence[object],
        values: list[Array | complex],
        edges: list[Edge | None],
        attrs: Attributes,
        outputs: tuple[Array, ...],
        how: Context,
    ) -> Node:
        """Return the node of a call, with the values that its rule reads."""
        if not self._has_rule:
            self._missing_rule()
        held: list[object] = []
        keeps = self._keeps * len(values) if self._variadic else self._keeps
        for operand, value, edge, keep in zip(inputs, values, edges, keeps, strict=True):
            if edge is not None:
                if not keep:
                    held.append(edge[0].specs[edge[1]])
                else:  # while `compile` records, nobody reads the array that stands for a recorded value
                    held.append(value if how.tracer is not None else _kept(value))
            else:  # a rule that is recorded must see Tensors, where recording eagerly takes arrays
                seen = operand if how.tracer is not None and isinstance(operand, Tensor) else value
                held.append(_kept(seen) if keep else _spec(seen))
        attrs = self._complete(attrs)
        node = Node(
            self,
            tuple(edges),
            cast("tuple[Kept, ...]", tuple(held)),
            outputs[0] if self._keeps_output else None,
            tuple([Spec(part.shape, part.dtype) for part in outputs]),
            {name: _kept(part) for name, part in attrs.items()} if attrs else attrs,
        )
        if how.watcher is not None:
            how.watcher(node, outputs)
        return node

    def _complete(self, attrs: Attributes) -> Attributes:
        """Return all attributes of a call, with defaults for those that it left out."""
        return {**self._defaults, **attrs} if self._defaults else attrs

    def _into(self, out: Any, inputs: tuple[object, ...], attrs: Attributes) -> object:
        if any(isinstance(value, Tensor) for value in (*inputs, out)):
            raise UnsupportedError(
                f"{self.name}: out= is for plain arrays; writing the result of a Tensor into an existing array would "
                "lose its gradient, and could change what a live graph holds; leave it out"
            )
        try:
            if self.accepts_out:
                return self.forward(*inputs, **attrs, out=out)
            result: Any = self.forward(*inputs, **attrs)
            parts = zip(out, result, strict=True) if isinstance(result, tuple) and self.multiple else ((out, result),)
            for buffer, part in parts:
                np.copyto(buffer, part)
            return out
        except (ValueError, IndexError, TypeError) as error:
            raise explained(error, self.name, self._attributes, inputs, attrs, out) from error

    def _split_attributes(self, args: tuple[object, ...], kwargs: Attributes) -> tuple[tuple[object, ...], Attributes]:
        """Give attributes that were passed by position their names, as in `np.sum(x, 0)`."""
        if len(args) < self._arity or len(args) > self._arity + len(self._attributes):
            raise TypeError(
                f"{self.name}: takes {self._arity} positional arguments and the keyword arguments "
                f"{self._attributes}, got {len(args)} positional arguments"
            )
        attrs = dict(zip(self._attributes, args[self._arity :], strict=False))
        twice = sorted(attrs.keys() & kwargs.keys())
        if twice:
            raise TypeError(f"{self.name}: got several values for the arguments {twice}")
        return args[: self._arity], {**attrs, **kwargs}


_BY_NAME = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD)
_NUMBERS = (int, float, complex)
_ARRAYS = (np.ndarray, Tensor)


def _kept(value: object) -> Any:
    return frozen(value) if isinstance(value, np.ndarray) else value


def _spec(value: Value | complex) -> Spec | complex:
    if isinstance(value, _ARRAYS):
        return Spec(value.shape, value.dtype)
    return value if isinstance(value, _NUMBERS) else Spec((), np.result_type(value))  # drawings show numbers


def primitive(
    *functions: Function,
    analytic: bool = True,
    multiple: bool = False,
    elementwise: bool = False,
    canonical: Canonical | None = None,
) -> Callable[[Callable[P, R]], Primitive[P, R]]:
    """Return a decorator that makes a primitive of a function on arrays.

    Args:
        functions: NumPy functions that this primitive implements on Tensors.
        analytic: whether the function is complex-analytic (False for functions with kinks, such as max).
        multiple: whether it returns a tuple of outputs; the rule then gets a list of cotangents.
        elementwise: whether an element of the result depends on the same element of each input alone (with
            broadcasting), as of a spike with a surrogate slope. Policies that carry credit forward make use of it.
        canonical: `canonical(name, inputs, attributes)` checks the attributes and returns them in the one form that is
            recorded and that the function and its rule get: an axis counted from the front, for instance.

    Raises:
        TypeError: if the function has no positional-only parameter (its array inputs).

    >>> import numpy as np, tinygrad_rnn as tr
    >>> @tr.primitive()
    ... def double(x, /):
    ...     return x + x
    >>> @double.rule()
    ... def _(g, y, x):
    ...     return (g + g,)
    >>> x = tr.tensor(3.0, requires_grad=True)
    >>> tr.grad(double(x), x)
    array(2.)
    """

    def decorate(forward: Callable[P, R]) -> Primitive[P, R]:
        return implements(*functions)(Primitive(forward, analytic, multiple, elementwise, canonical))

    return decorate
