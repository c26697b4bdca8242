"""A primitive: one function on arrays, and the rule that carries a cotangent back through it.

    @primitive(np.tanh)
    def tanh(x: Operand, /) -> Array:
        return np.tanh(x)

    @tanh.rule(keep="y")
    def _(g, y, x):
        return (g * (1 - y * y),)

Parameters before the `/` (or a `*xs`) are inputs, the rest are attributes. The rule gets the cotangent, the output,
the inputs, and the attributes by name, and returns one entry an input: a cotangent, None, or a function of no
arguments that computes it, called only if that input wants one. `keep` names the rule's parameters whose values it
reads; of the others it sees shape and dtype only, and their memory is not held. Rules are written with operators and
functions that take arrays and Tensors alike: on arrays nothing is recorded, on Tensors the backward pass is a graph
itself, so one rule serves every order. Un-broadcasting, casts and zeros for unused outputs are the engine's work.

One keyword is reserved: `out`, an array of the result's shape and dtype (a tuple of them for several outputs) that
the function writes into and returns. It is for plain arrays and is never recorded. A primitive may do without it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Generic, ParamSpec

import numpy as np

from ..errors import DTypeError, ShapeError, UnsupportedError
from .arrays import as_numbers, frozen
from .tape import Array, Context, Node, Spec, call_site, check_finite, context, describe_site
from .tensor import Tensor, implements, wrap

P = ParamSpec("P")

Canonical = Callable[[str, Sequence[Any], dict[str, Any]], dict[str, Any]]
"""Checks the attributes of a call, given its name and its inputs, and returns the form that they are recorded in."""


class Primitive(Generic[P]):
    """A function on arrays with a derivative rule; called on a Tensor it records, on arrays alone it just computes.

    Attributes:
        name: the function's name.
        forward: the function on arrays.
        pull: its rule.
        analytic: whether it is complex-analytic, so that complex-step differentiation is exact through it.
        multiple: whether it has several outputs (a tuple).
        accepts_out: whether `forward` takes `out=` and writes into it; if not, a call with `out=` copies into it.

    Example:
        A primitive of your own, with a rule that the engine can differentiate again:

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
        self, forward: Callable[P, Any], analytic: bool, multiple: bool, canonical: Canonical | None = None
    ) -> None:
        self.forward: Callable[..., Any] = forward
        self.name = forward.__name__.lstrip("_")
        self.analytic = analytic
        self.multiple = multiple
        self._canonical = canonical
        self.pull: Callable[..., Any] = self._missing_rule
        self._keeps_output = False
        self._keeps: tuple[bool, ...] = ()
        parameters = list(inspect.signature(forward).parameters.values())
        self._variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        self._arity = sum(p.kind is p.POSITIONAL_ONLY for p in parameters)
        if not (self._variadic or self._arity):
            raise TypeError(f"primitive {self.name}: mark its array inputs as positional-only: def {self.name}(x, /)")
        attributes = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        reserved = [p for p in attributes if p.name == "out"]
        if any(p.kind is not p.KEYWORD_ONLY for p in reserved):
            raise TypeError(f"primitive {self.name}: out must be keyword-only: def {self.name}(x, /, *, out=None)")
        self.accepts_out = bool(reserved)
        attributes = [p for p in attributes if p.name != "out"]
        self._attributes = [p.name for p in attributes]
        self._defaults = {p.name: p.default for p in attributes if p.default is not p.empty}
        self.__doc__ = forward.__doc__
        self.__name__ = self.name
        self.__module__ = forward.__module__
        self.__signature__ = inspect.signature(forward)
        self.__wrapped__ = forward

    def __repr__(self) -> str:
        return f"<primitive {self.name}>"

    def rule(self, keep: str = "") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Return a decorator that sets the derivative rule; `keep` names the parameters whose values it reads."""

        def register(pull: Callable[..., Any]) -> Callable[..., Any]:
            names = [p.name for p in inspect.signature(pull).parameters.values() if p.kind is not p.KEYWORD_ONLY]
            kept = keep.split()
            unknown = set(kept) - set(names[1:])
            if unknown:
                raise TypeError(f"primitive {self.name}: keep names {sorted(unknown)}, not parameters of the rule")
            self.pull = pull
            self._keeps_output = names[1] in kept
            self._keeps = tuple(name in kept for name in names[2:])
            return pull

        return register

    def _missing_rule(self, *_: Any, **__: Any) -> Any:
        raise TypeError(f"primitive {self.name}: no derivative rule; add one with @{self.name}.rule()")

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Compute the function, and record it if an input is recorded.

        Plain arrays may be given `out=`, an array of the result's shape and dtype that the result is written into.
        """
        inputs: tuple[Any, ...] = args
        attrs: dict[str, Any] = kwargs
        if not self._variadic and len(args) != self._arity:
            inputs, attrs = self._split_attributes(args, kwargs)
        out = attrs.pop("out") if attrs and "out" in attrs else None
        if self._canonical is not None:
            attrs = self._canonical(self.name, inputs, {**self._defaults, **attrs})
        if out is not None:
            return self._into(out, inputs, attrs)
        how = context()
        tracer = how.tracer
        for value in inputs:
            if isinstance(value, Tensor):
                break
        else:
            if tracer is None or not _has_tensor(attrs):
                return self.forward(*inputs, **attrs)

        values: list[Any] = []
        edges: list[tuple[Node, int] | None] = []
        tracked = False
        for value in inputs:
            edge = None
            if isinstance(value, Tensor):
                if value._node is not None:
                    edge = (value._node, value._index)
                    tracked = True
                value = value._array
            elif type(value) is not np.ndarray and not isinstance(value, _NUMBERS):
                value = as_numbers(value, self.name)  # Python numbers stay what they are: they take the tensor's dtype
            values.append(value)
            edges.append(edge)
        given = arrays_in(attrs) if tracer is not None and attrs else attrs
        outputs = None if tracer is None else tracer.abstract(self, values, given)
        if outputs is None:
            outputs = self._computed(values, attrs, how)
        tracked = tracked and how.recording and outputs[0].dtype.kind in "fc"
        node = self._node(inputs, values, edges, attrs, outputs, how) if tracked else None
        if self.multiple:
            results = tuple([wrap(part, node, index) for index, part in enumerate(outputs)])
        else:
            results = (wrap(outputs[0], node),)
        if tracer is not None:
            tracer.record(self, inputs, self._complete(attrs) if node is None else node.attrs, results)
        return results if self.multiple else results[0]

    def _computed(self, values: list[Any], attrs: dict[str, Any], how: Context) -> tuple[Array, ...]:
        """Return the outputs of the function."""
        try:
            output = self.forward(*values, **(attrs if how.tracer is None else arrays_in(attrs)))
        except (ValueError, IndexError, TypeError) as error:
            raise self._explain(error, values, attrs) from error
        outputs = tuple([np.asarray(part) for part in (output if self.multiple else (output,))])
        if how.anomaly:
            for part in outputs:
                check_finite(part, "output", self.name, describe_site(call_site(), how.step, how.scope))
        return outputs if how.tracer is None else how.tracer.hollow(outputs)

    def _node(
        self,
        inputs: Sequence[Any],
        values: list[Any],
        edges: list[tuple[Node, int] | None],
        attrs: dict[str, Any],
        outputs: tuple[Array, ...],
        how: Context,
    ) -> Node:
        """Return the place of a call in the graph, with what its rule reads."""
        if self.pull == self._missing_rule:
            self._missing_rule()
        if how.tracer is not None:  # a rule that is recorded must see Tensors, where recording eagerly takes arrays
            values = [
                operand if edge is None and isinstance(operand, Tensor) else value
                for operand, edge, value in zip(inputs, edges, values, strict=True)
            ]
        keeps = self._keeps * len(values) if self._variadic else self._keeps
        attrs = self._complete(attrs)
        node = Node(
            self,
            tuple(edges),
            tuple([self._kept(value) if keep else _spec(value) for value, keep in zip(values, keeps, strict=True)]),
            outputs[0] if self._keeps_output else None,
            tuple([Spec(part.shape, part.dtype) for part in outputs]),
            {name: self._kept(part) for name, part in attrs.items()} if attrs else attrs,
        )
        if how.watcher is not None:
            how.watcher(node, outputs)
        return node

    def _complete(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Return all attributes of a call, those too that it left out."""
        return {**self._defaults, **attrs} if self._defaults else attrs

    def _into(self, out: Any, inputs: tuple[Any, ...], attrs: dict[str, Any]) -> Any:
        if any(isinstance(value, Tensor) for value in (*inputs, out)):
            raise UnsupportedError(
                f"{self.name}: out= is for plain arrays; writing the result of a Tensor into an existing array would "
                "lose its gradient, and could change what a live graph holds; leave it out"
            )
        try:
            if self.accepts_out:
                return self.forward(*inputs, **attrs, out=out)
            result = self.forward(*inputs, **attrs)
            for buffer, part in zip(out, result, strict=True) if self.multiple else ((out, result),):
                np.copyto(buffer, part)
            return out
        except (ValueError, IndexError, TypeError) as error:
            raise self._explain(error, inputs, attrs, out) from error

    def _split_attributes(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
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

    @staticmethod
    def _kept(value: Any) -> Any:
        return frozen(value) if isinstance(value, np.ndarray) else value

    def _explain(self, error: Exception, values: Sequence[Any], attrs: dict[str, Any], out: Any = None) -> Exception:
        if type(error).__module__ == ShapeError.__module__:
            return error
        unknown = sorted(attrs.keys() - set(self._attributes))
        if unknown:
            return UnsupportedError(
                f"{self.name}: the keyword arguments {unknown} are not supported on Tensors; "
                f"it takes {self._attributes}"
            )
        shapes = ", ".join(str(np.shape(value)) for value in values)
        extra = "".join(f", {name}={value!r}" for name, value in attrs.items() if not isinstance(value, np.ndarray))
        if out is not None:
            buffers = out if isinstance(out, tuple) else (out,)
            extra += ", out of " + ", ".join(f"shape {np.shape(part)} {getattr(part, 'dtype', '')}" for part in buffers)
        kinds = {np.exceptions.AxisError: ShapeError, IndexError: IndexError, TypeError: DTypeError}
        kind = next((named for plain, named in kinds.items() if isinstance(error, plain)), ShapeError)
        return kind(f"{self.name}: {error} (arguments of shape {shapes}{extra})")


_NUMBERS = (int, float, complex)
_ARRAYS = (np.ndarray, Tensor)


def _spec(value: Any) -> Any:
    if isinstance(value, _ARRAYS):
        return Spec(value.shape, value.dtype)
    # A number is as small as its Spec, and a drawing can say which one it is.
    return value if isinstance(value, _NUMBERS) else Spec((), np.result_type(value))


def _has_tensor(attrs: dict[str, Any]) -> bool:
    """Return whether an attribute is a Tensor: ids that are looked up in a constant, while a function is recorded."""
    return any(
        isinstance(part, Tensor) for value in attrs.values() for part in (value if type(value) is tuple else (value,))
    )


def arrays_in(attrs: dict[str, Any]) -> dict[str, Any]:
    """Return attributes with arrays in place of Tensors, also of those in an index."""
    return {name: tuple(map(_array, part)) if type(part) is tuple else _array(part) for name, part in attrs.items()}


def _array(part: Any) -> Any:
    return part._array if isinstance(part, Tensor) else part


def primitive(
    *functions: Callable[..., Any], analytic: bool = True, multiple: bool = False, canonical: Canonical | None = None
) -> Callable[[Callable[P, Any]], Primitive[P]]:
    """Return a decorator that makes a primitive of a function on arrays.

    Args:
        functions: NumPy functions that shall record as this primitive when they meet a Tensor.
        analytic: whether the function is complex-analytic (False for max and its like, which have kinks).
        multiple: whether it returns a tuple of outputs; the rule then gets a list of cotangents.
        canonical: `canonical(name, inputs, attributes)` checks the attributes and returns them in the one form that is
            recorded, and that the function and its rule see: an axis counted from the front, for instance.

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

    def decorate(forward: Callable[P, Any]) -> Primitive[P]:
        return implements(*functions)(Primitive(forward, analytic, multiple, canonical))

    return decorate
