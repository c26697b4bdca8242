"""Targets that are evaluated in one call: a function, a cell over a sequence, a loss, and a gradient of one."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
from numpy.typing import DTypeLike

from ...credit.nests import is_float, value_of
from ...engine.autograd import grad
from ...engine.tape import Array, Watcher, enable_grad, no_grad, watching
from ...engine.tensor import Tensor
from ...engine.tree import flatten
from ...errors import GradientError, NonFiniteError
from ..oracles import Scalar
from .backward import BackwardPass, backward_pass
from .base import Evaluation, Target, arrays_in, holding, narrowest, weighted, weights


class FunctionEvaluation(Evaluation):
    """A function without arguments, called once: its outputs, weighted with random cotangents and added up.

    Raises:
        NonFiniteError: if an output is not finite.
    """

    def __init__(
        self, function: Callable[[], object], rng: np.random.Generator, target: Target, dtype: DTypeLike
    ) -> None:
        self.target, self.arrays, self._function = target, arrays_in(dtype, target.leaves), function
        with holding(target.leaves, self.arrays), no_grad():
            self._values = [np.asarray(value_of(part)) for part in self._call()]
        for number, output in enumerate(self._values):
            if not np.isfinite(output).all():
                raise NonFiniteError(
                    f"check_grads: output {number} of {target.title}, of shape {output.shape}, is not finite; check at "
                    "inputs where it is, or find the operation with anomaly_mode()"
                )
        rng = copy.deepcopy(rng)  # each evaluation gets the same cotangents
        self._cotangents = [weights(rng, output.shape) for output in self._values]
        self.dtype = narrowest(self._values)
        self.size = float(weighted(map(np.abs, self._cotangents), map(np.abs, self._values)))
        self.value = float(weighted(self._cotangents, self._values))

    def gradient(self, watcher: Watcher | None = None) -> BackwardPass:
        """Record the function, and go back through the graph.

        `watcher` is shown every node that is recorded, with the arrays that it computed.

        Raises:
            GradientError: if there is no graph.
        """
        target = self.target
        with holding(target.leaves, self.arrays, recorded=True):
            with nullcontext() if watcher is None else watching(watcher):
                ys, cotangents, failures = self.record()
            if not ys:
                raise GradientError(
                    f"check_grads: {target.title} returned no floating point Tensor that depends on its leaves "
                    f"({', '.join(target.leaves)}); compute with the Tensors that it is given (not with their .data) "
                    "and return the result, or any nesting of results"
                )
            found = backward_pass(ys, cotangents, target.leaves)
        found.failures[:0] = failures
        return found

    def along(self, name: str, direction: Array, t: Scalar) -> Scalar:
        """Return the weighted sum of the outputs with one leaf moved."""
        moved = {**self.arrays, name: np.asarray(self.arrays[name] + t * direction)}
        with holding(self.target.leaves, moved):
            return weighted(self._cotangents, map(value_of, self._outputs()))

    def record(self) -> tuple[list[Tensor], list[Array], list[str]]:
        """Call the function and record it: the outputs with a graph, their cotangents, and failures."""
        with enable_grad():
            outputs = self._outputs()
        failures = []
        if any(value_of(y).tobytes() != value.tobytes() for y, value in zip(outputs, self._values, strict=True)):
            failures.append(
                f"not repeatable: {self.target.title} gave different values when called again; if it draws random "
                "numbers, make the generator inside it, or pass it as an input (every call then gets the same draws)"
            )
        pairs = zip(outputs, self._cotangents, strict=True)
        recorded = [(y, c) for y, c in pairs if isinstance(y, Tensor) and y.node is not None]
        return [y for y, _ in recorded], [c for _, c in recorded], failures

    def _call(self) -> list[Tensor | Array]:
        """Return the outputs that carry a gradient."""
        return [part for part in flatten(self._function()) if is_float(part)]

    def _outputs(self) -> list[Tensor | Array]:
        """Return the outputs that carry a gradient, which must have the shapes that they had before."""
        outputs = self._call()
        expected, found = [c.shape for c in self._cotangents], [output.shape for output in outputs]
        if found != expected:
            raise GradientError(
                f"check_grads: {self.target.title} returned outputs of different shapes when called again; expected "
                f"{expected}, got {found}"
            )
        return outputs


class SecondOrderEvaluation(Evaluation):
    """The gradient of a function, weighted with random numbers and added up, as a number of its own.

    The gradient under test goes back through a recorded backward pass; the oracle moves a leaf and observes the
    ordinary gradient: one complex step along v gives H @ v.
    """

    runs = 3.0

    def __init__(self, weights: Mapping[str, Array], first: FunctionEvaluation, target: Target) -> None:
        self.target, self.arrays, self.dtype = target, first.arrays, first.dtype
        self._first, self._weights = first, weights
        with holding(self.target.leaves, self.arrays, recorded=True):
            gradients = self._gradients(create_graph=False)
        self.size = float(weighted(map(np.abs, weights.values()), map(np.abs, gradients)))
        self.value = float(weighted(weights.values(), gradients))

    def gradient(self) -> BackwardPass:
        """Record the backward pass, and go back through that."""
        leaves = self.target.leaves
        with holding(leaves, self.arrays, recorded=True):
            pairs = zip(self._gradients(create_graph=True), self._weights.values(), strict=True)
            recorded = [(g, weight) for g, weight in pairs if g.node is not None]
            found = backward_pass([g for g, _ in recorded], [weight for _, weight in recorded], leaves)
        found.reached = set(leaves)  # a leaf that the first gradient does not depend on has second derivatives of 0
        return found

    def along(self, name: str, direction: Array, t: Scalar) -> Scalar:
        """Return the weighted sum of the gradients with one leaf moved."""
        moved = {name: np.asarray(self.arrays[name] + t * direction)}
        # The nodes in the graph are those of the real numbers: a complex leaf has none.
        with holding(self.target.leaves, self.arrays, recorded=True), holding(self.target.leaves, moved):
            return weighted(self._weights.values(), self._gradients(create_graph=False))

    def _gradients(self, create_graph: bool) -> list[Tensor]:
        ys, cotangents, _ = self._first.record()
        leaves = list(self.target.leaves.values())
        return list(grad(ys, leaves, cotangent=cotangents, create_graph=create_graph, allow_unused=True))


def second_order(first: Target, rng: np.random.Generator) -> Target:
    """Return the gradient of a function as a target of its own."""
    random = {name: weights(rng, leaf.shape) for name, leaf in first.leaves.items()}

    def evaluated(target: Target, dtype: DTypeLike) -> Evaluation:
        evaluation = first.evaluate(dtype)
        assert isinstance(evaluation, FunctionEvaluation)
        return SecondOrderEvaluation(random, evaluation, target)

    return replace(first, evaluated=evaluated)
