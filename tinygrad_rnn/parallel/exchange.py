"""What processes send to each other, and smaller forms of it: bfloat16, and the largest entries with error feedback."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from ..checks import integer, number
from ..engine.tape import Array
from ..errors import ConfigError
from .group import Group

Kind: TypeAlias = Literal["gradients", "bfloat16", "topk", "local", "diloco"]
_FORMS = "gradients, bfloat16, topk:0.01, local:16 or diloco:64"


@dataclass(frozen=True)
class Exchange:
    """What is sent: summed gradients of each update, exact or shortened, or parameters after some updates.

    Attributes:
        kind: "gradients", "bfloat16", "topk", "local" or "diloco".
        share: of the gradient's entries that are sent, under "topk".
        steps: updates that each process makes alone between two sums, under "local" and "diloco".
    """

    kind: Kind
    share: float = 1.0
    steps: int = 1

    @property
    def is_local(self) -> bool:
        """Whether processes make updates alone."""
        return self.kind in ("local", "diloco")


def parse_exchange(text: str) -> Exchange:
    """Return what a text says is sent.

    Raises:
        ConfigError: if it says nothing that is known, or a number is out of range.

    >>> parse_exchange("topk:0.01")
    Exchange(kind='topk', share=0.01, steps=1)
    >>> parse_exchange("diloco:64").steps
    64
    >>> parse_exchange("gossip")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    tinygrad_rnn.errors.ConfigError: exchange must be gradients, bfloat16, topk:0.01, local:16 or diloco:64; got ...
    """
    name, colon, value = str(text).partition(":")
    try:
        if name == "topk":
            return Exchange("topk", share=number("exchange", "topk", float(value), 0, 1, above=True))
        if name == "local":
            return Exchange("local", steps=integer("exchange", "local", int(value)))
        if name == "diloco":
            return Exchange("diloco", steps=integer("exchange", "diloco", int(value)))
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"exchange must be {_FORMS}; got {text!r}") from error
    if name == "gradients" and not colon:
        return Exchange("gradients")
    if name == "bfloat16" and not colon:
        return Exchange("bfloat16")
    raise ConfigError(f"exchange must be {_FORMS}; got {text!r}")


def as_bfloat16(x: Array) -> npt.NDArray[np.uint16]:
    """Return the upper halves of float32 numbers, rounded to the nearest, ties to even.

    >>> as_float32(as_bfloat16(np.array([1.0, 1.001, 1e-38], np.float32))).tolist()[:2]
    [1.0, 1.0]
    """
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    even = (bits >> np.uint32(16)) & np.uint32(1)
    return ((bits + np.uint32(0x7FFF) + even) >> np.uint32(16)).astype(np.uint16)


def as_float32(upper: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
    """Return the float32 numbers of which these are the upper halves."""
    return (upper.astype(np.uint32) << np.uint32(16)).view(np.float32)


class BFloat16:
    """Sums in float32 of numbers that are sent in bfloat16, which takes half of the bytes.

    Each process sums one part of the vector, and sends the sum, rounded again. What rounding has left out of a
    gradient is added to the next one (error feedback). Source: Seide et al. 2014, 1-bit stochastic gradient descent.

    >>> BFloat16()(Group(), "float32", np.array([1.0, 1.001], np.float32)).tolist()
    [1.0, 1.0]
    """

    def __init__(self) -> None:
        self._left: dict[str, Array] = {}

    def __call__(self, group: Group, name: str, vector: Array) -> Array:
        """Return the sum of a vector over all processes, rounded."""
        size = -(-len(vector) // group.size) * group.size
        wanted = np.zeros(size, np.float32)
        wanted[: len(vector)] = vector
        if name in self._left and len(self._left[name]) == size:
            wanted += self._left[name]
        sent = as_bfloat16(wanted)
        self._left[name] = wanted - as_float32(sent)
        parts = group.exchange(sent.reshape(group.size, -1))
        total = np.zeros(parts.shape[1], np.float32)
        for part in parts:
            total += as_float32(part)
        vector[...] = as_float32(group.collect(as_bfloat16(total)).reshape(-1))[: len(vector)]
        return vector


class TopK:
    """Sums of the entries of largest size; what is not sent is added to the next gradient (error feedback).

    Source: Stich, Cordonnier and Jaggi 2018, Sparsified SGD with memory. An entry is sent with its place, in 8 bytes
    (float32) or 12 (float64).

    Args:
        share: of the entries that each process sends, in (0, 1].

    >>> top = TopK(0.5)
    >>> top(Group(), "float64", np.array([1.0, -3.0])).tolist(), top(Group(), "float64", np.array([1.0, 0.5])).tolist()
    ([0.0, -3.0], [2.0, 0.0])
    """

    def __init__(self, share: float) -> None:
        self.share = number("TopK", "share", share, 0, 1, above=True)
        self._left: dict[str, Array] = {}

    def __call__(self, group: Group, name: str, vector: Array) -> Array:
        """Return the sum over all processes of the largest entries of each."""
        left = self._left.get(name)
        wanted = vector + left if left is not None and left.shape == vector.shape else vector.copy()
        count = max(1, round(self.share * len(vector)))
        chosen = np.sort(np.argpartition(np.abs(wanted), len(wanted) - count)[len(wanted) - count :]).astype(np.int32)
        values = wanted[chosen]
        wanted[chosen] = 0
        self._left[name] = wanted
        places, found = group.collect(chosen), group.collect(values)
        vector[...] = 0
        for where, what in zip(places, found, strict=True):
            vector[where] += what  # no place comes twice in one process's choice
        return vector


def reduction_of(exchange: Exchange) -> BFloat16 | TopK | None:
    """Return how gradients are summed; None: exactly."""
    if exchange.kind == "bfloat16":
        return BFloat16()
    return TopK(exchange.share) if exchange.kind == "topk" else None
