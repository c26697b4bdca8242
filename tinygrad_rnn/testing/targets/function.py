"""Targets that are evaluated in one call: a function, a cell over a sequence, a loss; and the gradient of one."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext

import numpy as np
from numpy.typing import DTypeLike

from ...engine.autograd import grad
from ...engine.tape import Array, Watcher, enable_grad, no_grad, watching
from ...engine.tensor import Tensor
from ...engine.tree import flatten
from ...errors import GradientError, NonFiniteError
from ...truncation.nests import is_float, value_of
from ..oracles.slopes import Scalar
from .backward import BackwardPass, backward_pass
from .base import Evaluation, Target, holding, narrowest, weights
from .leaves import Leaves


class FunctionTarget(Target):
    """A function that is called once: its outputs, weighted with random cotangents and added up.

    Args:
        title: what is checked.
        call: as for `Target`.
        leaves: leaves and constants.
        function: of no arguments; it returns any nesting of outputs.
        rng: draws the cotangents; a copy is used, so that each evaluation gets the same.
        sizes: as for `Target`.
        notes: as for `Target`.
    """

    def __init__(
        self,
        title: str,
        call: Sequence[str],
        leaves: Leaves,
        function: Callable[[], object],
        rng: np.random.Generator,
        sizes: Mapping[str, int],
        notes: Sequence[str] = (),
    ) -> None:
        super().__init__(title, call, leaves.named, sizes, leaves.constants, notes)
        self.function = function
        self.rng = copy.deepcopy(rng)

    def evaluate(self, dtype: DTypeLike) -> FunctionEvaluation:
        """Call the function with its leaves in a dtype.

        Raises:
            NonFiniteError: if an output is not finite.
        """
        return FunctionEvaluation(self, dtype)


class FunctionEvaluation(Evaluation):
    """The outputs of a function, and the cotangents that weigh them."""

    def __init__(self, target: FunctionTarget, dtype: DTypeLike) -> None:
        self.target: FunctionTarget = target
        self.arrays = target.arrays(dtype)
        with holding(target.leaves, self.arrays), no_grad():
            self._values = [np.asarray(value_of(part)) for part in self._call()]
        for number, output in enumerate(self._values):
            if not np.isfinite(output).all():
                raise NonFiniteError(
                    f"check_grads: output {number} of {target.title}, of shape {output.shape}, is not finite; check at "
                    "inputs where it is, or find the operation with anomaly_mode()"
                )
        rng = copy.deepcopy(target.rng)
        self._cotangents = [weights(rng, output.shape) for output in self._values]
        self.dtype = narrowest(self._values)
        self.size = sum(float(np.sum(np.abs(c * y))) for c, y in zip(self._cotangents, self._values, strict=True))
        self.value = float(self._weighted(self._values))

    def gradient(self, watcher: Watcher | None = None) -> BackwardPass:
        """Record the function, and go back through the graph.

        Args:
            watcher: shown every node that is recorded, with the arrays that it computed.

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
        with holding(self.target.leaves, moved), no_grad():
            return self._weighted(self._outputs())

    def record(self) -> tuple[list[Tensor], list[Array], list[str]]:
        """Call the function and record it: the outputs with a graph, their cotangents, and what is wrong with them."""
        with enable_grad():
            outputs = self._outputs()
        failures = []
        if any(value_of(y).tobytes() != value.tobytes() for y, value in zip(outputs, self._values, strict=True)):
            failures.append(
                f"not repeatable: {self.target.title} gave other values when it was called again; if it draws random "
                "numbers, make the generator inside it, or pass it as an input (every call then gets the same draws)"
            )
        pairs = zip(outputs, self._cotangents, strict=True)
        recorded = [(y, c) for y, c in pairs if isinstance(y, Tensor) and y.node is not None]
        return [y for y, _ in recorded], [c for _, c in recorded], failures

    def _call(self) -> list[Tensor | Array]:
        return [part for part in flatten(self.target.function()) if is_float(part)]

    def _outputs(self) -> list[Tensor | Array]:
        """Return the outputs that carry a gradient.

        Raises:
            GradientError: if they have other shapes than before.
        """
        outputs = self._call()
        expected, found = [c.shape for c in self._cotangents], [output.shape for output in outputs]
        if found != expected:
            raise GradientError(
                f"check_grads: {self.target.title} returned outputs of other shapes when it was called again; expected "
                f"{expected}, got {found}"
            )
        return outputs

    def _weighted(self, outputs: Sequence[Tensor | Array]) -> Scalar:
        total: Scalar = 0.0
        for cotangent, y in zip(self._cotangents, outputs, strict=True):
            total = total + np.sum(cotangent * value_of(y))
        return total


class SecondOrderTarget(Target):
    """The gradient of a target, weighted with random numbers and added up, as a number of its own.

    The gradient under test goes back through a recorded backward pass; the oracle moves a leaf and looks at the
    ordinary gradient: one complex step along v gives H @ v.

    Args:
        first: whose gradient it is.
        rng: draws the weights.
    """

    def __init__(self, first: FunctionTarget, rng: np.random.Generator) -> None:
        super().__init__(first.title, first.call, first.leaves, first.sizes, first.constants, first.notes)
        self.first = first
        self.weights = {name: weights(rng, leaf.shape) for name, leaf in first.leaves.items()}

    def evaluate(self, dtype: DTypeLike) -> SecondOrderEvaluation:
        """Take the gradient with the leaves in a dtype."""
        return SecondOrderEvaluation(self, dtype)


class SecondOrderEvaluation(Evaluation):
    """The gradient of a function, and the weights of its entries."""

    runs = 3.0

    def __init__(self, target: SecondOrderTarget, dtype: DTypeLike) -> None:
        self.target: SecondOrderTarget = target
        self._first = target.first.evaluate(dtype)
        self.arrays, self.dtype = self._first.arrays, self._first.dtype
        with holding(target.leaves, self.arrays, recorded=True):
            gradients = self._gradients(create_graph=False)
        self.size = sum(float(np.sum(np.abs(target.weights[name] * g))) for name, g in gradients.items())
        self.value = float(self._weighted(gradients))

    def gradient(self) -> BackwardPass:
        """Record the backward pass, and go back through that."""
        leaves = self.target.leaves
        with holding(leaves, self.arrays, recorded=True):
            gradients = self._gradients(create_graph=True)
            recorded = {name: g for name, g in gradients.items() if g.node is not None}
            found = backward_pass(list(recorded.values()), [self.target.weights[name] for name in recorded], leaves)
        found.reached = set(leaves)  # a leaf that the first gradient does not depend on has second derivatives of 0
        return found

    def along(self, name: str, direction: Array, t: Scalar) -> Scalar:
        """Return the weighted sum of the gradients with one leaf moved."""
        moved = {name: np.asarray(self.arrays[name] + t * direction)}
        # The places in the graph are those of the real numbers: a complex leaf has none.
        with holding(self.target.leaves, self.arrays, recorded=True), holding(self.target.leaves, moved):
            return self._weighted(self._gradients(create_graph=False))

    def _gradients(self, create_graph: bool) -> Mapping[str, Tensor]:
        ys, cotangents, _ = self._first.record()
        return dict(grad(ys, self.target.leaves, cotangent=cotangents, create_graph=create_graph, allow_unused=True))

    def _weighted(self, gradients: Mapping[str, Tensor]) -> Scalar:
        total: Scalar = 0.0
        for name, g in gradients.items():
            total = total + np.sum(self.target.weights[name] * g)
        return total
