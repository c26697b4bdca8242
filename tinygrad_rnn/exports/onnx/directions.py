"""Recurrent nodes that read backward: one between two reversals of time becomes one of the reverse direction."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import cast

import numpy as np

from ...engine.tape import Array
from .blocks import Block, Node
from .gates import ORDER

FIRST = np.iinfo(np.int64).min
"""The end of a slice that goes backward to the first element, and takes it too."""


class _Turner:
    """Finds reversals around the nodes of a block, and takes them out.

    Args:
        block: is changed; what is no longer read stays in it.
        constants: of the file.
        kept: names that are read from outside.
    """

    def __init__(self, block: Block, constants: Mapping[str, Array], kept: Collection[str]) -> None:
        self._block, self._constants, self._kept = block, constants, kept
        self._makers = {name: node for node in block.nodes for name in node.outputs}
        self._places = {id(node): place for place, node in enumerate(block.nodes)}
        self._users: dict[str, list[Node]] = {}
        for node in block.nodes:
            for name in _read(node):
                self._users.setdefault(name, []).append(node)

    def turn(self, node: Node) -> None:
        """Let a node read backward, if what it reads and what it gives are reversed in time."""
        turned = self._makers.get(node.inputs[0])
        if node.attributes["direction"] != "forward" or turned is None or turned.kind != "Transpose":
            return
        perm = turned.attributes["perm"]
        before = self._makers.get(turned.inputs[0])
        if before is None or not isinstance(perm, list) or self._reversed_axis(before) != perm[0]:
            return
        after = self._after(node)
        if after is None and node.outputs[0] in self._users:
            return
        xs = self._transposed(node, turned, before.inputs[0])
        if xs is None:
            return
        node.attributes["direction"] = "reverse"
        node.inputs[0] = xs
        if after is not None:
            last, reversal = after
            last.outputs[0], reversal.outputs[0] = reversal.outputs[0], last.outputs[0]

    def _after(self, node: Node) -> tuple[Node, Node] | None:
        """Return what gives the results of all steps their order of axes, and the reversal that follows it."""
        squeeze = self._only_user(node.outputs[0], "Squeeze")
        last = None if squeeze is None else self._only_user(squeeze.outputs[0], "Transpose")
        reversal = None if last is None else self._only_user(last.outputs[0], "Slice")
        if last is None or reversal is None:
            return None
        perm = last.attributes["perm"]
        turns = isinstance(perm, list) and self._reversed_axis(reversal) == cast("list[int]", perm).index(0)
        return (last, reversal) if turns else None

    def _only_user(self, name: str, kind: str) -> Node | None:
        users = self._users.get(name, [])
        return users[0] if len(users) == 1 and users[0].kind == kind and name not in self._kept else None

    def _reversed_axis(self, node: Node) -> int | None:
        """Return the axis that a node reverses; None if it does something else."""
        if node.kind != "Slice" or len(node.inputs) < 5:
            return None
        found = [self._constants.get(name, np.zeros(0)) for name in node.inputs[1:]]
        start, end, axis, step = ([*part.tolist()] for part in found)
        return axis[0] if (start, end, step) == ([-1], [FIRST], [-1]) else None

    def _transposed(self, node: Node, like: Node, name: str) -> str | None:
        """Return the name of an array with its axes in another order: that of the forward direction, if there is one.

        None: there is none, and what puts them in order is needed elsewhere too.
        """
        for other in self._users.get(name, []):
            if other.kind == "Transpose" and other.attributes == like.attributes and self._is_before(other, node):
                return other.outputs[0]
        if len(self._users[like.outputs[0]]) > 1 or like.outputs[0] in self._kept:
            return None
        like.inputs[0] = name
        return like.outputs[0]

    def _is_before(self, one: Node, other: Node) -> bool:
        return self._places[id(one)] < self._places[id(other)]


def _read(node: Node) -> list[str]:
    """Return the names that a node reads, and those that graphs inside of it do."""
    inner = [part for part in node.attributes.values() if isinstance(part, Block)]
    inside = [name for block in inner for one in block.nodes for name in _read(one)]
    return [*node.inputs, *inside, *(info.name for block in inner for info in block.outputs)]


def turn_back(block: Block, constants: Mapping[str, Array], kept: Collection[str]) -> None:
    """Let recurrent nodes between two reversals of time read backward instead; see `_Turner`."""
    turner = _Turner(block, constants, kept)
    for node in block.nodes:
        if node.kind in ORDER:
            turner.turn(node)
