"""A recorded graph, computed with JAX: call by call, a loop as `jax.lax.scan`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import ModuleType

import numpy as np

from ..compiler.ir.arrays import DType
from ..compiler.ir.editing import in_bodies
from ..compiler.ir.graph import Body, Call, Graph, Operator, Rewriter, Value, map_attrs
from ..compiler.ir.operators import operator_of
from ..compiler.ir.order import sort
from ..compiler.passes import PASSES, run
from ..compiler.passes.common import Operands, axes_of, maker_of, product, reshaped, rewrite
from ..compiler.passes.sums import defer_sums
from ..compiler.passes.time_first import time_first
from ..engine.primitive import Primitive
from ..engine.tape import Array
from ..errors import UnsupportedError
from ..ops.truncate import _cut
from .jax_constants import constant_row
from .jax_nested import nested_loops
from .jax_operators import COMPARED, OPERATORS, PROMOTED, JaxArray, Row

JaxRules = Mapping[Primitive[..., object], Callable[..., object]]
"""Functions of JAX for primitives of the user: of the same arrays and attributes."""

Known = dict[Value, JaxArray]


def leading_axes(graph: Graph) -> Graph:
    """Multiply stacks of rows as they are: an array may be spread over devices along one of the axes of its rows."""

    def rule(call: Call, inputs: Operands, new: Rewriter) -> Sequence[Value] | None:
        joined = maker_of(inputs[0], "reshape") if call.name == "matmul" and inputs[1].ndim == 2 else None
        if joined is None or joined.inputs[0].ndim <= 2 or joined.inputs[0].shape[-1] != inputs[0].shape[-1]:
            return None
        return [reshaped(new, product(new, joined.inputs[0], inputs[1]), call.output.shape)]

    return rewrite(graph, rule)


_CHOSEN = {name: PASSES[name] for name in ("roll", "simplify", "time_first", "hoist_products")}
_CHOSEN["roll"] = (nested_loops,)
_CHOSEN |= {"defer_sums": (defer_sums, time_first), "hoist_elementwise": PASSES["hoist_elementwise"]}
_CHOSEN["leading_axes"] = (leading_axes,)
"""Passes that do what XLA does not, which takes nothing out of loops."""

_STOP = Operator("stop_gradient", operator_of(_cut).compute)


def prepared(graph: Graph) -> Graph:
    """Return a graph after the passes. Cuts stay in it, for JAX may differentiate it."""

    def kept(call: Call, inputs: Operands, new: Rewriter) -> Sequence[Value] | None:
        specs = [value.spec for value in call.outputs]
        return new.call(_STOP, inputs, call.attrs, specs).outputs if call.name == "cut" else None

    graph = in_bodies(lambda body: rewrite(body, kept), graph)
    for _, rewritten in run(graph, passes=_CHOSEN):
        graph = rewritten
    return _in_order(graph)


def _in_order(graph: Graph) -> Graph:
    """Return a graph with its calls, and those of loops at any depth, in an order in which they can be computed."""
    for call in graph.calls:
        if call.name == "loop":
            body: Body = call.attrs["body"]
            call.attrs = {"body": replace(body, graph=_in_order(body.graph))}
    return sort(graph)


class Draws:
    """A key of JAX in the place of a generator: each draw takes a new one, split from it."""

    def __init__(self, jax: ModuleType, key: JaxArray) -> None:
        self._jax, self.key = jax, key

    def next(self) -> JaxArray:
        """Return the key of the next draw."""
        self.key, drawn = self._jax.random.split(self.key)
        return drawn


class Interpreter:
    """Computes graphs with JAX.

    Args:
        jax: the package.
        rules: see `JaxRules`.
    """

    def __init__(self, jax: ModuleType, rules: JaxRules) -> None:
        self.jax, self._rules = jax, rules

    def run(self, graph: Graph, known: Known) -> list[JaxArray]:
        """Return the outputs of a graph; `known` has its inputs and what it captured: arrays of JAX, or `Draws`."""
        for call in graph.calls:
            if call.name == "loop":
                made: Iterable[JaxArray] = self._loop(
                    call.attrs["body"], [self._read(known, part) for part in call.inputs]
                )
            else:
                made = self._call(call, known)
            known.update(zip(call.outputs, made, strict=True))
        return [self._cast(self._read(known, value), value.dtype) for value in graph.outputs]

    def row(self, operator: Operator) -> Row:
        """Return what JAX computes for an operator.

        Raises:
            UnsupportedError: if nothing is known of it.
        """
        rule = self._rules.get(operator.key) if isinstance(operator.key, Primitive) else None
        if rule is not None:
            return lambda jax, *parts, **attrs: rule(*parts, **attrs)
        found = OPERATORS.get(operator.name) if isinstance(operator.key, str | Primitive) else None
        found = found or constant_row(operator)
        if found is None:
            raise UnsupportedError(
                f"to_jax: {operator.name} is not known in JAX; pass rules={{{operator.name.rpartition('.')[2]}: "
                "function}, a function of JAX that computes the same from the same arrays and attributes"
            )
        return found

    def answer(self, function: Callable[..., object], args: Sequence[object]) -> Array:
        """Return zeros in the shape and dtype of what a function without a gradient gives, which is not called."""
        jax, row = self.jax, self.row(Operator(getattr(function, "__name__", repr(function)), function, key=()))
        key = jax.eval_shape(partial(jax.random.key, 0))

        def spec(part: np.random.Generator | Array) -> object:
            if isinstance(part, np.random.Generator):
                return key
            return jax.ShapeDtypeStruct(part.shape, jax.dtypes.canonicalize_dtype(part.dtype))

        varies = [isinstance(part, np.random.Generator | np.ndarray) for part in args]

        def made(given: list[JaxArray]) -> JaxArray:
            now = iter(given)
            return row(jax, *(next(now) if is_given else part for part, is_given in zip(args, varies, strict=True)))

        specs = [spec(part) for part in args if isinstance(part, np.random.Generator | np.ndarray)]
        found = jax.eval_shape(made, specs)
        return np.zeros(found.shape, found.dtype)

    def _call(self, call: Call, known: Known) -> Iterable[JaxArray]:
        """Return the results of a call."""
        if call.operator.pure and not any(value.size for value in call.outputs):
            return [self.jax.numpy.zeros(v.shape, self.jax.dtypes.canonicalize_dtype(v.dtype)) for v in call.outputs]
        parts = [self._operand(known, part) for part in call.inputs]
        if call.name == "matmul" and (sides := _contracted(call)) is not None:
            left, right = (self._read(known, side) for side in sides)
            axes = tuple(range(left.ndim - 1))
            made = self.jax.numpy.tensordot(left, right, (axes, axes))
        else:
            attrs = map_attrs(partial(self._operand, known), call.attrs)
            made = self.row(call.operator)(self.jax, *self._promoted(call, parts), **attrs)
        results = made if isinstance(made, tuple | list) else (made,)
        return [self._cast(one, value.dtype) for one, value in zip(results, call.outputs, strict=True)]

    def _promoted(self, call: Call, parts: list[JaxArray]) -> list[JaxArray]:
        """Return operands in the dtype that NumPy computes in: JAX makes float32 of int64 and float32."""
        dtype: DType | None = None
        if call.name in PROMOTED or call.name == "where":
            dtype = call.outputs[0].dtype
        elif (isinstance(call.operator.compute, np.ufunc) or call.name in COMPARED) and len(parts) == 2:
            dtype = np.result_type(*(part.dtype for part in call.inputs if isinstance(part, Value)))
        if dtype is None or dtype.kind == "b":
            return parts
        kept = 1 if call.name == "where" else 0  # the condition
        return parts[:kept] + [self._cast(part, dtype) if hasattr(part, "dtype") else part for part in parts[kept:]]

    def _loop(self, body: Body, inputs: list[JaxArray]) -> list[JaxArray]:
        """Return the results of a loop: a scan. Draws in it get a key for each step."""
        graph, n, m = body.graph, body.carried, body.carried + body.sliced
        constants = dict(zip(graph.inputs[m:], inputs[m:], strict=True))
        draws = [value for value, part in constants.items() if isinstance(part, Draws)]
        keys = tuple(self.jax.random.split(constants[value].next(), body.steps) for value in draws)
        start = tuple(self._cast(x, value.dtype) for x, value in zip(inputs[:n], graph.inputs[:n], strict=True))

        def step(carried: JaxArray, now: JaxArray) -> JaxArray:
            parts, drawn = now
            known = dict(zip(graph.inputs, (*carried, *parts, *constants.values()), strict=True))
            known |= {value: Draws(self.jax, key) for value, key in zip(draws, drawn, strict=True)}
            made = self.run(graph, known)
            return tuple(made[:n]), tuple(made[n:])

        last, stacks = self.jax.lax.scan(step, start, (tuple(inputs[n:m]), keys), body.steps, body.reverse)
        return [*last, *stacks]

    def _operand(self, known: Known, part: object) -> JaxArray:
        """Return what an operand is: an array, a number, a key for the next draw."""
        made = self._read(known, part)
        return made.next() if isinstance(made, Draws) else made

    def _read(self, known: Known, part: object) -> JaxArray:
        if not isinstance(part, Value):
            return part
        return known[part] if part.constant is None else part.constant

    def _cast(self, x: JaxArray, dtype: DType) -> JaxArray:
        return self.jax.numpy.asarray(x, self.jax.dtypes.canonicalize_dtype(dtype))


def _contracted(call: Call) -> tuple[Value, Value] | None:
    """Return (A, B) if a product is rows(A).T @ rows(B): a sum over all axes but the last.

    It is computed without joining these axes, of which one may be spread over devices.
    """
    turned = maker_of(call.inputs[0], "transpose")
    if turned is None or axes_of(turned) != (1, 0):
        return None
    left, right = (maker_of(part, "reshape") for part in (turned.inputs[0], call.inputs[1]))
    if left is None or right is None:
        return None
    a, b = left.inputs[0], right.inputs[0]
    same = a.ndim > 2 and a.shape[:-1] == b.shape[:-1]
    return (a, b) if same and (a.shape[-1], b.shape[-1]) == call.output.shape else None
