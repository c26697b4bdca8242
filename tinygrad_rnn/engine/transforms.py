"""Derivatives of functions: products with a Jacobian from either side, the Jacobian itself, products with a Hessian.

All are built on `grad`. J^T u is linear in u, so its own derivative with respect to u, in the direction v, is J v:
a product from the right takes two from the left, and one rule for each operation serves both.
Source: Townsend 2017, A new trick for calculating Jacobian vector products.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any, Generic, TypeAlias, TypeVar

import numpy as np

from ..checks import flag
from ..errors import ConfigError, DTypeError, GradientError, ShapeError
from .arrays import check_plain
from .autograd import grad
from .tape import Array, context, enable_grad, is_differentiable
from .tensor import Operand, Tensor, Value, described
from .tree import flatten, rebuild, structure

Nest: TypeAlias = object
"""An array or a Tensor, or any nesting of tuples, lists and dicts of them."""

Result = TypeVar("Result")


def vjp(
    function: Callable[..., Result], *primals: Nest, create_graph: bool = False
) -> tuple[Result, Callable[[Nest], Any]]:
    """Return `function(*primals)`, and the function that multiplies its Jacobian from the left: u -> J^T u.

    Args:
        function: takes and returns nestings of Tensors; it is called once.
        primals: where: floating point arrays or Tensors, and nestings of them.
        create_graph: record the products, so that they can be differentiated again.

    Returns:
        The value, of Tensors, and `pull(cotangents)`: cotangents are a nesting like the value, its result is one like
        `primals`, or like the only one: arrays; Tensors with `create_graph` and in a compiled function. It may be
        called any number of times.

    Raises:
        ConfigError: if `function` is not callable.
        DTypeError: if a primal is not floating point; from `pull`, if a cotangent is no number.
        GradientError: if no part of the value is a Tensor that depends on the primals, or one is no number.
        ShapeError: from `pull`, if the cotangents are not like the value.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> value, pull = tr.vjp(lambda x, W: np.tanh(x @ W), np.ones((1, 2)), np.zeros((2, 3)))
    >>> dx, dW = pull(np.array([[1.0, 2.0, 3.0]]))
    >>> dW
    array([[1., 2., 3.],
           [1., 2., 3.]])
    """
    at = _Point("vjp", function, primals, create_graph)
    return at.value, lambda cotangents: at.like_primals(at.pull(_alike("vjp", "cotangents", cotangents, at.value)))


def jvp(
    function: Callable[..., Result],
    primals: tuple[Nest, ...],
    tangents: tuple[Nest, ...],
    *,
    create_graph: bool = False,
) -> tuple[Result, Any]:
    """Return `function(*primals)`, and the product of its Jacobian with tangents: J v.

    Args:
        function: takes and returns nestings of Tensors; it is called once.
        primals: the tuple of its arguments: floating point arrays or Tensors, and nestings of them.
        tangents: a direction, in nesting and shapes like `primals`.
        create_graph: record the product, so that it can be differentiated again.

    Returns:
        The value, of Tensors, and its derivative in that direction, a nesting like it: arrays; Tensors with
        `create_graph` and in a compiled function.

    Raises:
        ConfigError: if `function` is not callable.
        DTypeError: if a primal is not floating point, or a tangent is no number.
        GradientError: if no part of the value is a Tensor that depends on the primals, or one is no number.
        ShapeError: if the tangents are not like the primals, or one of the two is not a tuple.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> _, slope = tr.jvp(lambda x: x**3, (np.array([1.0, 2.0]),), (np.array([1.0, 10.0]),))
    >>> slope
    array([  3., 120.])
    """
    direction = _direction("jvp", primals, tangents)
    at = _Point("jvp", function, primals, create_graph)
    return at.value, rebuild(at.value, iter(at.push(direction)))


def jacobian(function: Callable[..., Nest], *primals: Nest, create_graph: bool = False) -> Any:
    """Return the Jacobian of a function, dense.

    It takes as many products as the value has elements, or the primals, whichever is less.

    Args:
        function: takes and returns nestings of Tensors; it is called once.
        primals: where: floating point arrays or Tensors, and nestings of them.
        create_graph: record the products, so that they can be differentiated again.

    Returns:
        For a value of shape S and a primal of shape R an array of shape S + R; for several, the nesting of the value
        with, in place of each part, the nesting of `primals`, or of the only one.

    Raises:
        ConfigError: if `function` is not callable.
        DTypeError: if a primal is not floating point.
        GradientError: if no part of the value is a Tensor that depends on the primals, or one is no number.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> tr.jacobian(lambda x: np.stack([x[0] * x[1], x[0] + x[1]]), np.array([2.0, 5.0]))
    array([[5., 2.],
           [1., 1.]])
    """
    at = _Point("jacobian", function, primals, create_graph)
    if sum(np.size(part) for part in at.outputs) <= sum(leaf.size for leaf in at.leaves):
        rows = iter([at.pull(seeds) for seeds in _unit_vectors(at.outputs)])
        blocks = [_joined(rows, part, at.leaves, leading=True) for part in at.outputs]
    else:
        columns = iter([at.push(seeds) for seeds in _unit_vectors(at.leaves)])
        turned = [_joined(columns, leaf, at.outputs, leading=False) for leaf in at.leaves]
        blocks = [list(block) for block in zip(*turned, strict=True)]
    return rebuild(at.value, iter([at.like_primals(block) for block in blocks]))


def hvp(
    function: Callable[..., Result],
    primals: tuple[Nest, ...],
    tangents: tuple[Nest, ...],
    *,
    create_graph: bool = False,
) -> tuple[Any, Any]:
    """Return the gradient of a function of one number, and the product of its Hessian with tangents: H v.

    Source: Pearlmutter 1994, Fast exact multiplication by the Hessian.

    Args:
        function: takes nestings of Tensors, returns one Tensor of one element.
        primals: the tuple of its arguments: floating point arrays or Tensors, and nestings of them.
        tangents: a direction, in nesting and shapes like `primals`.
        create_graph: record both, so that they can be differentiated again.

    Returns:
        Two nestings like `primals`, or like the only one: the gradient, and its derivative in that direction.

    Raises:
        ConfigError: if `function` is not callable.
        DTypeError: if a primal is not floating point, or a tangent is no number.
        GradientError: if the value is not a Tensor of one element that depends on the primals.
        ShapeError: if the tangents are not like the primals, or one of the two is not a tuple.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> tr.hvp(lambda x: np.sum(x**3), (np.array([1.0, 2.0]),), (np.array([1.0, 1.0]),))
    (array([ 3., 12.]), array([ 6., 12.]))
    """
    direction = _direction("hvp", primals, tangents)
    at = _Point("hvp", function, primals, create_graph)
    if len(at.outputs) != 1 or at.outputs[0].size != 1:
        raise GradientError(
            f"hvp: the function must return one Tensor of one element, such as a sum; got "
            f"{', '.join(map(described, at.outputs))}"
        )
    slopes = at.pull([np.ones(at.outputs[0].shape, at.outputs[0].dtype)], create_graph=True)
    along = _sloped(slopes, direction, at.leaves, create_graph)
    gradient = slopes if create_graph or context().tracer is not None else [np.array(slope.data) for slope in slopes]
    return at.like_primals(gradient), at.like_primals(along)


class _Point(Generic[Result]):
    """A function at one point: its value there, and products with its Jacobian.

    Attributes:
        value: the result of the function.
        outputs: the leaves of the value.
        leaves: the leaves of the primals, each a node of its own in the graph.
    """

    def __init__(
        self, name: str, function: Callable[..., Result], primals: tuple[Nest, ...], create_graph: bool
    ) -> None:
        self._primals, self._create_graph = primals, flag(name, "create_graph", create_graph)
        if not callable(function):
            raise ConfigError(f"{name}: function must be a callable, such as a lambda, got {described(function)}")
        self.leaves = [_leaf(name, number, part) for number, part in enumerate(flatten(primals))]
        with enable_grad():
            self.value = function(*rebuild(primals, iter(self.leaves)))
        self.outputs = flatten(self.value)
        for number, part in enumerate(self.outputs):
            if not _is_numeric(part):
                raise GradientError(
                    f"{name}: the function returned {described(part)} as number {number}, which has no derivative; "
                    "return Tensors, arrays and numbers alone, in any nesting"
                )
        self._recorded = [part for part in self.outputs if _is_recorded(part)]
        if not self._recorded:
            raise GradientError(
                f"{name}: the function returned {', '.join(map(described, self.outputs)) or 'nothing'}, no Tensor that "
                "depends on its arguments; compute with them, without .data and .item()"
            )

    def like_primals(self, parts: Sequence[Value]) -> object:
        """Return parts in the nesting of the primals, or of the only one."""
        primals = self._primals
        return rebuild(primals[0] if len(primals) == 1 else primals, iter(parts))

    def pull(self, cotangents: Sequence[Value], create_graph: bool | None = None) -> list[Value]:
        """Return J^T u, a part for each leaf of the primals."""
        seeds = [u for part, u in zip(self.outputs, cotangents, strict=True) if _is_recorded(part)]
        again = self._create_graph if create_graph is None else create_graph
        return self._pulled(seeds, again)

    def push(self, tangents: Sequence[Value]) -> list[Value]:
        """Return J v, a part for each output."""
        seeds, pulled = self._transposed
        found = iter(_sloped(pulled, tangents, seeds, self._create_graph))
        return [
            next(found) if _is_recorded(part) else np.zeros(np.shape(part), getattr(part, "dtype", float))
            for part in self.outputs
        ]

    @cached_property
    def _transposed(self) -> tuple[list[Tensor], list[Value]]:
        """A cotangent for each output, and J^T times it as a graph, which is linear in it."""
        seeds = [_fresh(np.zeros(part.shape, part.dtype)) for part in self._recorded]
        return seeds, self._pulled(seeds, True)

    def _pulled(self, seeds: Sequence[Value], create_graph: bool) -> list[Value]:
        found: list[Value] = grad(
            self._recorded, self.leaves, cotangent=list(seeds), create_graph=create_graph, allow_unused=True
        )
        return found


def _sloped(ys: Sequence[Value], weights: Sequence[Value], xs: list[Tensor], create_graph: bool) -> list[Value]:
    """Return the gradient of the weighted sum of the recorded ys; the others are constants."""
    pairs = [(y, weight) for y, weight in zip(ys, weights, strict=True) if _is_recorded(y)]
    if not pairs:
        return [np.zeros(x.shape, x.dtype) for x in xs]
    recorded, cotangents = zip(*pairs, strict=True)
    found: list[Value] = grad(
        list(recorded), xs, cotangent=list(cotangents), create_graph=create_graph, allow_unused=True
    )
    return found


def _leaf(name: str, number: int, part: Operand) -> Tensor:
    """Return a primal as a node of its own in the graph, to distinguish the function's use of it from others."""
    check_plain(part, f"{name}: primals")
    given = part if isinstance(part, Tensor) else np.asarray(part)
    if not is_differentiable(given.dtype):
        raise DTypeError(
            f"{name}: expected floating point primals, got {described(part)} of {given.dtype} as number {number}; what "
            "is not to be differentiated can be closed over"
        )
    if isinstance(given, Tensor) and given.node is not None:
        same: Tensor = given.reshape(given.shape)
        return same
    return _fresh(given)


def _fresh(part: Value) -> Tensor:
    tracer = context().tracer
    if tracer is not None:
        made = tracer.alone(part, is_leaf=True)
        assert isinstance(made, Tensor)
        return made
    return Tensor(part, requires_grad=True)


def _is_numeric(part: object) -> bool:
    return isinstance(part, Tensor) or np.asarray(part).dtype.kind in "fciub"


def _is_recorded(part: object) -> bool:
    return isinstance(part, Tensor) and part.node is not None


def _direction(name: str, primals: Nest, tangents: Nest) -> list[Value]:
    for argument, given in (("primals", primals), ("tangents", tangents)):
        if not isinstance(given, tuple):
            raise ShapeError(
                f"{name}: expected {argument} to be the tuple of all arguments, (x,) for one, got {described(given)}"
            )
    return _alike(name, "tangents", tangents, primals)


def _alike(name: str, argument: str, given: Nest, like: Nest) -> list[Value]:
    """Return the parts of a nesting that must be like another."""
    if structure(given) != structure(like):
        raise ShapeError(f"{name}: expected {argument} nested as {structure(like)}, got {structure(given)}")
    found = flatten(given)
    for part in found:
        check_plain(part, f"{name}: {argument}")
    parts = [part if isinstance(part, Tensor) else np.asarray(part) for part in found]
    for number, (part, other) in enumerate(zip(parts, flatten(like), strict=True)):
        if not _is_numeric(part):
            raise DTypeError(
                f"{name}: expected {argument} of numbers, got {described(part)} of {part.dtype} as number {number}"
            )
        if part.shape != np.shape(other):
            raise ShapeError(
                f"{name}: expected {argument} of shape {np.shape(other)} as number {number}, got {part.shape}"
            )
    return [part if part.dtype.kind in "fc" else np.asarray(part, np.float64) for part in parts]


def _unit_vectors(parts: Sequence[Value]) -> Iterator[list[Array]]:
    """Yield, for each element of each part, arrays like all parts that are 1 there and else 0."""
    for number, part in enumerate(parts):
        for index in np.ndindex(np.shape(part)):
            seeds = [np.zeros(np.shape(other), getattr(other, "dtype", float)) for other in parts]
            seeds[number][index] = 1
            yield seeds


def _joined(products: Iterator[Sequence[Value]], part: Value, others: Sequence[Value], leading: bool) -> list[Value]:
    """Return the products of the elements of a part as one array for each other part, with the part's axes first."""
    rows = [next(products) for _ in range(np.size(part))]
    found: list[Value] = []
    for number, other in enumerate(others):
        if rows:
            block: Array = np.stack([row[number] for row in rows], axis=0 if leading else -1)
        else:
            block = np.zeros((0, *np.shape(other)) if leading else (*np.shape(other), 0))
        shape = (*np.shape(part), *np.shape(other)) if leading else (*np.shape(other), *np.shape(part))
        found.append(np.reshape(block, shape))
    return found
