"""Targets that are evaluated in one call: a function, a cell over a sequence, a loss, and a gradient of one."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import DTypeLike

from ...credit.nests import floats, value_of
from ...engine.autograd import grad
from ...engine.tape import Array, Recording, context, enable_grad, no_grad
from ...engine.tensor import Tensor
from ...errors import GradientError, NonFiniteError
from ..oracles import Scalar, rounding_error
from .backward import BackwardPass, backward_pass
from .base import Evaluation, Target, arrays_in, holding, weights


class FunctionEvaluation(Evaluation):
    """A function without arguments, called once: its outputs, weighted with random cotangents and added up.

    `order` 2: the outputs are the gradient of another function.
    """

    def __init__(
        self, function: Callable[[], object], rng: np.random.Generator, target: Target, dtype: DTypeLike, order: int = 1
    ) -> None:
        self.target, self.arrays, self._function = target, arrays_in(dtype, target.leaves), function
        self._order, self.runs = order, 1.0 if order == 1 else 3.0
        self._mode: Callable[[], Recording] = no_grad
        with holding(target.leaves, self.arrays, recorded=True):
            self._values = [np.asarray(value_of(part)) for part in floats(self._called())]
        for number, output in enumerate(self._values):
            if not np.isfinite(output).all():
                raise NonFiniteError(
                    f"check_grads: output {number} of {target.title}, of shape {output.shape}, is not finite; check at "
                    "inputs where it is, or find the operation with anomaly_mode()"
                )
        rng = copy.deepcopy(rng)  # each evaluation gets the same cotangents
        self._cotangents = [weights(rng, output.shape) for output in self._values]
        self.eps = rounding_error(output.dtype for output in self._values)
        self.size = float(sum(np.sum(np.abs(c * y)) for c, y in zip(self._cotangents, self._values, strict=True)))
        self.value = float(self._weighted(self._values))

    def _called(self) -> object:
        """Call the function without a graph, or with one, from now on, if it takes gradients itself."""
        try:
            with no_grad():
                return self._function()
        except GradientError:
            self._mode = enable_grad
            with enable_grad():
                return self._function()

    def gradient(self) -> BackwardPass:
        """Record the function, and go back through the graph."""
        target = self.target
        with holding(target.leaves, self.arrays, recorded=True):
            ys, cotangents, failures = self.record()
            if not ys and self._order == 1:
                raise GradientError(
                    f"check_grads: {target.title} returned no floating point Tensor that depends on its leaves "
                    f"({', '.join(target.leaves)}); compute with the Tensors that it is given (not with their .data) "
                    "and return the result, or any nesting of results"
                )
            found = backward_pass(ys, cotangents, target.leaves)
        found.failures[:0] = failures
        if self._order == 2:  # a leaf that the first gradient does not depend on has second derivatives of 0
            found.reached = set(target.leaves)
        return found

    def along(self, name: str, direction: Array, t: Scalar) -> Scalar:
        """Return the weighted sum of the outputs with one leaf moved."""
        leaves, moved = self.target.leaves, {name: np.asarray(self.arrays[name] + t * direction)}
        # The nodes in the graph are those of the real numbers: a complex leaf has none.
        with holding(leaves, self.arrays, recorded=True), holding(leaves, moved), self._mode():
            return self._weighted(map(value_of, self._outputs()))

    def _weighted(self, values: Iterable[Array]) -> Scalar:
        return sum(np.sum(y * c) for y, c in zip(values, self._cotangents, strict=True))

    def record(self) -> tuple[list[Tensor], list[Array], list[str]]:
        """Call the function and record it: the outputs with a graph, their cotangents, and failures."""
        with enable_grad():
            outputs = self._outputs()
        # A gradient that is recorded is computed in another order than one that is not: its bits may differ.
        same = (value_of(y).tobytes() == value.tobytes() for y, value in zip(outputs, self._values, strict=True))
        failure = (
            f"not repeatable: {self.target.title} gave different values when called again; if it draws random numbers, "
            "make the generator inside it, or pass it as an input (every call then gets the same draws)"
        )
        pairs = zip(outputs, self._cotangents, strict=True)
        recorded = [(y, c) for y, c in pairs if isinstance(y, Tensor) and y.node is not None]
        return [y for y, _ in recorded], [c for _, c in recorded], [] if self._order == 2 or all(same) else [failure]

    def _outputs(self) -> list[Tensor | Array]:
        """Return the outputs that carry a gradient, which must have the shapes that they had before."""
        outputs = floats(self._function())
        expected, found = [c.shape for c in self._cotangents], [output.shape for output in outputs]
        if found != expected:
            raise GradientError(
                f"check_grads: {self.target.title} returned outputs of different shapes when called again; expected "
                f"{expected}, got {found}"
            )
        return outputs


def second_order(first: Target, rng: np.random.Generator) -> Target:
    """Return the gradient of a function as a target of its own.

    The gradient under test goes back through a recorded backward pass; the oracle moves a leaf and observes the
    ordinary gradient: one complex step along v gives H @ v.
    """

    def evaluated(target: Target, dtype: DTypeLike) -> Evaluation:
        evaluation = first.evaluate(dtype)
        assert isinstance(evaluation, FunctionEvaluation)

        def gradients() -> list[Tensor]:
            leaves, recording = list(first.leaves.values()), context().recording
            ys, cotangents, _ = evaluation.record()
            return list(grad(ys, leaves, cotangent=cotangents, create_graph=recording, allow_unused=True))

        return FunctionEvaluation(gradients, rng, target, dtype, order=2)

    return replace(first, evaluated=evaluated)
