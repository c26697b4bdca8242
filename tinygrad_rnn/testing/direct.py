"""What a check works on: a value of named leaves, and the gradient under test.

A target gives two things that have nothing in common but the forward pass: the gradient that users get, and `along`,
the same value as a function of the distance gone from one leaf in one direction, for an oracle to take the slope of.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ..engine.autograd import grad
from ..engine.tape import Array, Node, enable_grad, no_grad, watching
from ..engine.tensor import Tensor
from ..engine.tree import flatten
from ..errors import GradientError, NonFiniteError
from ..truncation.nests import is_float, value_of
from .backward import Found, go_back
from .suspects import opened_cut, used_as_constant


class Target(ABC):
    """A scalar function of named leaves, and its gradient.

    Attributes:
        title: what is checked, in words.
        call: the same as an argument of `check_grads`, and the inputs.
        leaves: name to leaf Tensor.
        dtypes: what the leaves come in.
        sizes: letters and lengths that a wrong factor may be: {"N": 2, "T": 5}.
        notes: what a reader should know of how it was set up.
        constants: name, array and a copy of it, for each input that is no leaf.
        size: sum of the absolute terms of the value.
        level: the value.
        runs: how many times the operations of the graph one call of `along` costs.
        dtype: narrowest floating point type of the value's parts.
    """

    def __init__(self, title: str, leaves: Mapping[str, Tensor]) -> None:
        self.title = title
        self.call = [title]
        self.leaves = dict(leaves)
        self.dtypes = {name: leaf.dtype for name, leaf in leaves.items()}
        self.sizes: dict[str, int] = {}
        self.notes: list[str] = []
        self.constants: list[tuple[str, Array, Array]] = []
        self.size = self.level = 0.0
        self.runs = 1.0
        self.dtype: np.dtype[Any] = np.dtype(np.float64)

    @contextmanager
    def held(self, dtype: DTypeLike) -> Iterator[None]:
        """Give every leaf its values in another dtype, and a place of its own in the graph, for a while."""
        leaves = list(self.leaves.values())
        before = [(leaf._array, leaf._node) for leaf in leaves]
        try:
            for leaf in leaves:
                place(leaf, leaf._array.astype(dtype))
            with no_grad():
                self.measure()
            yield
        finally:
            for leaf, (data, node) in zip(leaves, before, strict=True):
                leaf._array, leaf._node = data, node

    @contextmanager
    def moved(self, name: str, by: Any) -> Iterator[None]:
        """Add `by` to a leaf, of whatever dtype, for a while."""
        leaf = self.leaves[name]
        kept = leaf._array
        data = np.asarray(kept + by)
        data.flags.writeable = False
        leaf._array = data
        try:
            yield
        finally:
            leaf._array = kept

    def changed_inputs(self) -> list[str]:
        """Return what happened to inputs that must stay what they are."""
        return [
            f"input changed: {self.title} wrote into its input {name}, of shape {array.shape}"
            for name, array, copy in self.constants
            if array.tobytes() != copy.tobytes()
        ]

    @abstractmethod
    def measure(self) -> None:
        """Compute, at the leaves' own values, what `along` starts from."""

    @abstractmethod
    def gradient(self) -> Found:
        """Return the gradient under test."""

    @abstractmethod
    def along(self, name: str, direction: Array, t: Any) -> Any:
        """Return the value with the leaf moved by t * direction."""

    def explain(self, name: str, expected: Array, actual: Array) -> str:
        """Return a hint that only this target can give, or ""."""
        return ""


class Direct(Target):
    """A function that is called once: its outputs, weighted with random cotangents and added up.

    Args:
        title: what is checked.
        leaves: name to leaf Tensor.
        run: calls the function.
        rng: draws the cotangents.
    """

    def __init__(
        self, title: str, leaves: Mapping[str, Tensor], run: Callable[[], Any], rng: np.random.Generator
    ) -> None:
        super().__init__(title, leaves)
        self._run = run
        self._rng = rng
        self._values: list[Array] = []
        self.cotangents: list[Array] | None = None

    def outputs(self) -> list[Any]:
        """Return the outputs that carry a gradient.

        Raises:
            GradientError: if there is another number of them than before.
        """
        parts = [part for part in flatten(self._run()) if is_float(part)]
        if self.cotangents is not None and [part.shape for part in parts] != [c.shape for c in self.cotangents]:
            raise GradientError(
                f"check_grads: {self.title} returned outputs of other shapes when it was called again; expected "
                f"{[c.shape for c in self.cotangents]}, got {[part.shape for part in parts]}"
            )
        return parts

    def measure(self) -> None:
        """Run once, and draw a cotangent for each output."""
        outputs = self.outputs()
        self._values = [np.asarray(value_of(part)) for part in outputs]
        for number, value in enumerate(self._values):
            if not np.isfinite(value).all():
                raise NonFiniteError(
                    f"check_grads: output {number} of {self.title}, of shape {value.shape}, is not finite; check at "
                    "inputs where it is, or find the operation with anomaly_mode()"
                )
        if self.cotangents is None:
            self.cotangents = [weights(self._rng, value.shape) for value in self._values]
        self.dtype = narrowest(self._values)
        self.size = sum(float(np.sum(np.abs(c * v))) for c, v in zip(self.cotangents, self._values, strict=True))
        self.level = float(self.weighted(self._values))

    def weighted(self, outputs: Sequence[Any]) -> Any:
        """Return the value of some outputs."""
        assert self.cotangents is not None
        total: Any = 0.0
        for cotangent, y in zip(self.cotangents, outputs, strict=True):
            total = total + np.sum(cotangent * value_of(y))
        return total

    def record(self) -> tuple[list[Tensor], list[Array], list[str]]:
        """Return the outputs that were recorded, their cotangents, and what is wrong with them."""
        assert self.cotangents is not None
        with enable_grad():
            outputs = self.outputs()
        failures = []
        if any(value_of(y).tobytes() != v.tobytes() for y, v in zip(outputs, self._values, strict=True)):
            failures.append(
                f"not repeatable: {self.title} gave other values when it was called again; if it draws random numbers, "
                "make the generator inside it, or pass it as an input (every call then gets the same draws)"
            )
        pairs = [
            (y, c)
            for y, c in zip(outputs, self.cotangents, strict=True)
            if isinstance(y, Tensor) and y.node is not None
        ]
        return [y for y, _ in pairs], [c for _, c in pairs], failures

    def gradient(self) -> Found:
        """Record once, and go back over the graph.

        Raises:
            GradientError: if there is no graph.
        """
        ys, cs, failures = self.record()
        if not ys:
            raise GradientError(
                f"check_grads: {self.title} returned no floating point Tensor that depends on its leaves "
                f"({', '.join(self.leaves)}); compute with the Tensors that it is given (not with their .data) and "
                "return the result, or any nesting of results"
            )
        found = go_back(ys, cs, self.leaves)
        found.failures[:0] = failures
        return found

    def along(self, name: str, direction: Array, t: Any) -> Any:
        """Return the weighted sum of the outputs with one leaf moved."""
        with self.moved(name, t * direction):
            return self.weighted(self.outputs())

    def explain(self, name: str, expected: Array, actual: Array) -> str:
        """Return which cut, were it open, or which result that is used as a constant explains the difference."""
        recorded: list[tuple[Node, tuple[Array, ...]]] = []
        with watching(lambda node, outputs: recorded.append((node, outputs))):
            ys, cs, _ = self.record()
        found = go_back(ys, cs, self.leaves)
        return opened_cut(found, recorded, self.leaves[name], expected, actual) or used_as_constant(found, recorded)


class SecondOrder(Target):
    """The gradient of a target, weighted with random numbers and added up, as a value of its own.

    The gradient under test goes back over a recorded backward pass; the oracle moves a leaf and looks at the ordinary
    gradient: one complex step along v gives H @ v.

    Args:
        first: whose gradient it is.
        rng: draws the weights.
    """

    def __init__(self, first: Direct, rng: np.random.Generator) -> None:
        super().__init__(first.title, first.leaves)
        self.call, self.sizes, self.constants = first.call, first.sizes, first.constants
        self._first = first
        self.runs = 3.0
        self._weights = {name: weights(rng, leaf.shape) for name, leaf in first.leaves.items()}

    def measure(self) -> None:
        """Compute the gradient once."""
        self._first.measure()
        self.dtype = self._first.dtype
        gradients = self._gradients(create_graph=False)
        self.size = sum(float(np.sum(np.abs(self._weights[name] * g))) for name, g in gradients.items())
        self.level = float(self._weighted(gradients))

    def _gradients(self, create_graph: bool) -> dict[str, Any]:
        ys, cs, _ = self._first.record()
        return dict(grad(ys, self.leaves, cotangent=cs, create_graph=create_graph, allow_unused=True))

    def _weighted(self, gradients: Mapping[str, Any]) -> Any:
        total: Any = 0.0
        for name, g in gradients.items():
            total = total + np.sum(self._weights[name] * g)
        return total

    def gradient(self) -> Found:
        """Record the backward pass, and go back over that."""
        gradients = self._gradients(create_graph=True)
        recorded = {name: g for name, g in gradients.items() if g.node is not None}
        found = go_back(list(recorded.values()), [self._weights[name] for name in recorded], self.leaves)
        found.reached = set(
            self.leaves
        )  # a leaf that the first gradient does not depend on has second derivatives of 0
        return found

    def along(self, name: str, direction: Array, t: Any) -> Any:
        """Return the weighted sum of the gradients with one leaf moved."""
        with self.moved(name, t * direction):
            return self._weighted(self._gradients(create_graph=False))


def place(leaf: Tensor, data: Array) -> None:
    """Give a leaf an array of any dtype, and a new place in the graph for it."""
    data.flags.writeable = False
    leaf._array, leaf._node = data, None
    leaf.requires_grad = True


def weights(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Return random weights between 0.5 and 1.5, of either sign: none is so small that it hides an entry.

    >>> bool((abs(weights(np.random.default_rng(0), (50,))) >= 0.5).all())
    True
    """
    return np.asarray(rng.uniform(0.5, 1.5, shape) * rng.choice([-1.0, 1.0], shape))


def narrowest(values: Sequence[Array]) -> np.dtype[Any]:
    """Return the floating point dtype with the largest rounding error; float64 if there is none."""
    dtypes = [value.dtype for value in values if value.dtype.kind == "f"]
    return max(dtypes, key=lambda dtype: np.finfo(dtype).eps, default=np.dtype(np.float64))
