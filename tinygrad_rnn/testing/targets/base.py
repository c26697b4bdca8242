"""What every target has.

A `Target` is a number that depends on named leaves; `evaluate` gives an `Evaluation` of it, with the leaves in one
dtype. An evaluation offers two things that have nothing in common but the forward pass: the gradient that users get,
and `along`, the same number as a function of the distance gone from one leaf in one direction, for an oracle to take
the slope of. Leaves belong to the user: they hold other arrays only while the user's own code runs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import DTypeLike

from ...engine.tape import Array
from ...engine.tensor import Tensor
from ..oracles.slopes import Scalar
from .backward import BackwardPass
from .leaves import Constant


class Target(ABC):
    """A number that depends on named leaves.

    Args:
        title: what is checked, in words.
        call: the arguments of `check_grads` that name it, for the reproducer.
        leaves: name to leaf Tensor.
        sizes: letters and lengths that a wrong factor may be: {"N": 2, "T": 5}.
        constants: inputs that are no leaves, and must stay what they are.
        notes: what a reader should know of how it was set up.
    """

    def __init__(
        self,
        title: str,
        call: Sequence[str],
        leaves: Mapping[str, Tensor],
        sizes: Mapping[str, int],
        constants: Sequence[Constant] = (),
        notes: Sequence[str] = (),
    ) -> None:
        self.title = title
        self.call = list(call)
        self.leaves = dict(leaves)
        self.sizes = dict(sizes)
        self.constants = list(constants)
        self.notes = list(notes)

    @abstractmethod
    def evaluate(self, dtype: DTypeLike) -> Evaluation:
        """Return the target at the values of its leaves, in a dtype."""

    def arrays(self, dtype: DTypeLike) -> dict[str, Array]:
        """Return the values of the leaves in a dtype."""
        return {name: leaf.data.astype(dtype) for name, leaf in self.leaves.items()}

    def changed_inputs(self) -> list[str]:
        """Return what happened to inputs that must stay what they are."""
        return [
            f"input changed: {self.title} wrote into its input {name}, of shape {array.shape}"
            for name, array, copy in self.constants
            if array.tobytes() != copy.tobytes()
        ]


class Evaluation(ABC):
    """A target with its leaves in one dtype.

    Attributes:
        target: what is evaluated.
        arrays: name to the values of the leaf.
        value: the number.
        size: sum of the absolute terms of the value.
        dtype: narrowest floating point type of the value's parts.
        runs: how many times the operations of the graph one call of `along` costs.
    """

    target: Target
    arrays: dict[str, Array]
    value: float
    size: float
    dtype: np.dtype[np.floating]
    runs: float = 1.0

    @abstractmethod
    def gradient(self) -> BackwardPass:
        """Return the gradient under test."""

    @abstractmethod
    def along(self, name: str, direction: Array, t: Scalar) -> Scalar:
        """Return the number with a leaf moved by t * direction."""


@contextmanager
def holding(leaves: Mapping[str, Tensor], arrays: Mapping[str, Array], recorded: bool = False) -> Iterator[None]:
    """Let leaves hold other arrays, of whatever dtype, for a while.

    Args:
        leaves: name to leaf.
        arrays: name to array, for some of the leaves.
        recorded: give those leaves a new place in the graph too, so that a gradient can be taken.
    """
    before = [(leaf, leaf._array, leaf._node) for leaf in (leaves[name] for name in arrays)]
    try:
        for name, array in arrays.items():
            array.flags.writeable = False
            leaves[name]._array = array
            if recorded:
                renew(leaves[name])
        yield
    finally:
        for leaf, array, node in before:
            leaf._array, leaf._node = array, node


def renew(leaf: Tensor) -> None:
    """Give a leaf a new place in the graph."""
    leaf._node = None
    leaf.requires_grad = True


def weights(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Return random weights between 0.5 and 1.5, of either sign: none is so small that it hides an entry.

    >>> bool((abs(weights(np.random.default_rng(0), (50,))) >= 0.5).all())
    True
    """
    return np.asarray(rng.uniform(0.5, 1.5, shape) * rng.choice([-1.0, 1.0], shape))


def narrowest(values: Iterable[Array]) -> np.dtype[np.floating]:
    """Return the floating point dtype with the largest rounding error; float64 if there is none."""
    dtypes = [value.dtype for value in values if value.dtype.kind == "f"]
    return max(dtypes, key=lambda dtype: np.finfo(dtype).eps, default=np.dtype(np.float64))
