"""Operations that move elements: where each element of an operand goes, and lookups in tables."""

from __future__ import annotations

import math

import numpy as np

from ..engine.tape import Array, Node
from ..engine.walk import rule_results


class Moves:
    """What operations move where, kept from step to step: it follows from shapes and attributes alone."""

    def __init__(self) -> None:
        self._known: dict[object, list[Array | None] | None] = {}

    def sources(self, node: Node, number: int, N: int | None) -> list[Array | None] | None:
        """Return, for each output, which of its elements each element of operand `number` becomes; -1: none.

        Elements are those of a stream where N is given, or else all; numbers are flat. None for an output to which the
        operand contributes nothing. None in all: an element goes to several places, or streams are not kept apart.
        """
        edge = node.edges[number]
        assert edge is not None
        if any(hasattr(part, "shape") for part in _parts(node)):  # an index with values of its own
            return self._traced(node, number, N)
        shapes = [getattr(part, "shape", ()) for part in (*node.inputs, *node.specs)]
        key = (node.name, number, N, str(shapes), str(node.attrs))
        if key not in self._known:
            self._known[key] = self._traced(node, number, N)
        return self._known[key]

    def _traced(self, node: Node, number: int, N: int | None) -> list[Array | None] | None:
        """Move numbers in place of cotangents, one output at a time."""
        edge = node.edges[number]
        assert edge is not None
        shape = edge[0].specs[edge[1]].shape
        if N is not None and shape[:1] != (N,):
            return None
        found: list[Array | None] = []
        taken = np.zeros(shape)
        for index, spec in enumerate(node.specs):
            numbers = np.arange(1.0, math.prod(spec.shape) + 1).reshape(spec.shape)
            moved, count = (self._pulled(node, number, index, given) for given in (numbers, np.ones(spec.shape)))
            taken = taken + count
            at = moved.astype(np.int64) - 1
            found.append(self._of_stream(at, spec.shape, N) if count.any() else None)
        if taken.max(initial=0) > 1 or any(at is not None and (at < -1).any() for at in found):
            return None
        return found

    def _pulled(self, node: Node, number: int, index: int, given: Array) -> Array:
        cotangents = [given if place == index else np.zeros(spec.shape) for place, spec in enumerate(node.specs)]
        needs = [place == number for place in range(len(node.edges))]
        return np.asarray(list(rule_results(node, cotangents, needs))[number])

    def _of_stream(self, at: Array, shape: tuple[int, ...], N: int | None) -> Array:
        """Return the numbers within a stream; -2 where an element goes to another stream."""
        if N is None:
            return at
        size = math.prod(shape[1:])
        stream = np.arange(N).reshape(N, *(1,) * (at.ndim - 1))
        within = np.where(at < 0, -1, np.where(at // max(size, 1) == stream, at % max(size, 1), -2))
        return within[0] if (within == within[:1]).all() else np.full_like(within[0], -2)

    def looked_up(self, node: Node, N: int) -> Array | None:
        """Return the ids (N,) of a lookup of one row for each stream in the operand; None if it is none."""
        ids = node.attrs.get("indices") if node.name == "take" and node.attrs.get("axis") == 0 else None
        if node.name == "getitem":
            index = node.attrs["index"]
            ids = index[0] if isinstance(index, tuple) and len(index) == 1 else index
        if ids is None or getattr(getattr(ids, "dtype", None), "kind", "") not in ("i", "u"):
            return None
        if ids.ndim == 0 or ids.shape[0] != N or math.prod(ids.shape) != N:
            return None
        made: Array = np.reshape(ids, (N,))
        return made


def _parts(node: Node) -> list[object]:
    found: list[object] = []
    for value in node.attrs.values():
        found += value if isinstance(value, tuple | list) else [value]
    return found
