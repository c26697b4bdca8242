"""The base classes of targets.

The two methods of an evaluation share only the forward pass: `gradient` is the gradient that users get, and `along` the
same number as a function of the distance from one leaf in one direction, whose slope an oracle takes. Leaves belong to
the user: they hold other arrays only while the user's own code runs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike

from ...engine.tape import Array
from ...engine.tensor import Tensor
from ..oracles import Scalar
from .backward import BackwardPass


@dataclass(frozen=True)
class Target:
    """A number that depends on named leaves."""

    title: str
    call: Sequence[str]  # the arguments of check_grads that name it
    leaves: Mapping[str, Tensor]
    constants: Sequence[tuple[str, Array, Array]]  # inputs that must not change: name, array, copy of it
    sizes: Mapping[str, int]  # lengths that may explain a wrong factor, by letter: {"N": 2, "T": 5}
    notes: Sequence[str]  # notes for the reader on the setup
    evaluated: Callable[[Target, DTypeLike], Evaluation]

    def evaluate(self, dtype: DTypeLike) -> Evaluation:
        """Return the target at the values of its leaves, in a dtype."""
        return self.evaluated(self, dtype)


class Evaluation(ABC):
    """A target with its leaves in one dtype."""

    target: Target
    arrays: Mapping[str, Array]  # name of a leaf to its values
    value: float
    size: float  # sum of the absolute terms of the value
    eps: float  # the largest rounding error of the value's parts
    runs: float = 1.0  # cost of one call of `along`, in multiples of the operations of the graph

    @abstractmethod
    def gradient(self) -> BackwardPass:
        """Return the gradient under test."""

    @abstractmethod
    def along(self, name: str, direction: Array, t: Scalar) -> Scalar:
        """Return the number with a leaf moved by t * direction."""


@contextmanager
def holding(leaves: Mapping[str, Tensor], arrays: Mapping[str, Array], recorded: bool = False) -> Iterator[None]:
    """Let some leaves temporarily hold other arrays, of any dtype.

    `recorded` gives them a new place in the graph too, so that a gradient can be taken.
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


def name_of(f: object) -> str:
    """Return the name of a class or function, of an object's class, or those of a pair of functions.

    >>> name_of(np.ones), name_of(3), name_of((np.ones, np.zeros))
    ('ones', 'int', '(ones, zeros)')
    """
    if isinstance(f, tuple):
        return f"({', '.join(map(name_of, f))})"
    return str(getattr(f, "__qualname__", None) or getattr(f, "__name__", type(f).__name__)).rpartition("<locals>.")[2]


def renew(leaf: Tensor) -> None:
    """Give a leaf a new place in the graph."""
    leaf._node = None
    leaf.requires_grad = True


def arrays_in(dtype: DTypeLike, leaves: Mapping[str, Tensor]) -> dict[str, Array]:
    """Return the values of leaves in a dtype."""
    return {name: leaf.data.astype(dtype) for name, leaf in leaves.items()}


def weights(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Return random weights between 0.5 and 1.5, of either sign, so that none is small enough to hide an entry.

    >>> bool((abs(weights(np.random.default_rng(0), (50,))) >= 0.5).all())
    True
    """
    return np.asarray(rng.uniform(0.5, 1.5, shape) * rng.choice([-1.0, 1.0], shape))
