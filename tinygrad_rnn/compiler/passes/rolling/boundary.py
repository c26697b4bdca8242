"""Partial steps at either end of a loop.

In the backward pass the first step receives no cotangent from its successor, and the last one need not pass one on, so
the graph computes these steps only in part. As steps of the loop they compute the same, with zeros for the missing
terms, and results that nothing reads.
"""

from __future__ import annotations

from collections.abc import Mapping

from .loop import Affine, Carried, Invariant, Local, Read, Rolled
from .numbering import ZERO, Node, Numbering

_Start = dict[tuple[int, int, int], int]


def extend(numbering: Numbering, loop: Rolled, taken: Mapping[int, object]) -> None:
    """Extend a loop by steps at both ends, as long as the graph computes at least half of each.

    Args:
        numbering: of the graph.
        loop: the loop, which is modified.
        taken: value numbers that other loops compute.
    """
    if loop.drawn:  # another step would draw once more
        return
    own = {number for made in loop.values for slot in loop.computed() for number in made[slot]}
    while _earlier(numbering, loop, taken, own):
        pass
    while _later(numbering, loop, taken, own):
        pass


def _later(numbering: Numbering, loop: Rolled, taken: Mapping[int, object], own: set[int]) -> bool:
    made = loop.step(numbering, loop.steps, loop.last())
    if made is None or not _is_found(numbering, loop, made, taken, own):
        return False
    loop.values.append(made)
    return True


def _earlier(numbering: Numbering, loop: Rolled, taken: Mapping[int, object], own: set[int]) -> bool:
    init = _Backward(numbering, loop).start()
    made = None if init is None else loop.step(numbering, -1, init)
    if init is None or made is None:
        return False
    if any(made[slot][index] != loop.init[slot, index, 1] for slot, index in loop.lags):
        return False
    if not _is_found(numbering, loop, made, taken, own):
        return False
    loop.values.insert(0, made)
    loop.init = init
    loop.count_from(-1)
    return True


def _is_found(
    numbering: Numbering, loop: Rolled, made: list[tuple[int, ...]], taken: Mapping[int, object], own: set[int]
) -> bool:
    """Return whether the graph computes at least half of a step, some of it in no loop yet; if so, add it to `own`."""
    slots = list(loop.computed())
    found = {n for slot in slots for n in made[slot] if numbering.maker(n) is not None and n not in taken}
    if 2 * sum(not found.isdisjoint(made[slot]) for slot in slots) < len(slots) or found <= own:
        return False
    own |= found
    return True


class _Backward:
    """Infers the initial carried values of a loop that starts one step earlier; one use.

    From the last slot to the first it infers which value of the graph each result of the earlier step must be, so that
    the step passes on the present initial values. Where the graph has one term, and the step a sum of two, the other
    term is zero. The result is a guess, which `Rolled.step` then confirms or refutes.
    """

    def __init__(self, numbering: Numbering, loop: Rolled) -> None:
        self.numbering, self.loop = numbering, loop
        self.wanted: dict[tuple[int, int], int] = {}
        self.init: _Start = {}

    def start(self) -> _Start | None:
        """Return the initial value number of each (slot, index, lag); None if one cannot be inferred."""
        loop = self.loop
        for (slot, index), most in loop.lags.items():
            self.wanted[slot, index] = loop.init[slot, index, 1]
            for lag in range(2, most + 1):
                self.init[slot, index, lag - 1] = loop.init[slot, index, lag]
        for slot in reversed(range(len(loop.nodes))):
            if slot not in loop.replaced:
                self._through(slot)
        for (slot, index), most in loop.lags.items():
            value = loop.nodes[slot].call.outputs[index]
            for lag in range(1, most + 1):
                number = self.init.setdefault((slot, index, lag), ZERO)
                if number == ZERO and value.dtype.kind not in "fc":
                    return None
                if number != ZERO and self.numbering.spec(number) != (value.shape, value.dtype):
                    return None
        return self.init

    def _through(self, slot: int) -> None:
        """Infer the operands of a slot from its results."""
        node, reads = self.loop.nodes[slot], self.loop.reads[slot]
        for index in range(len(node.outs)):
            target = self.wanted.get((slot, index))
            if target is None:
                continue
            if target == ZERO:
                self._zeros(node, reads)
                continue
            made = self.numbering.maker(target)
            operands = None
            if made is not None and made[0].static == node.static and made[1] == index:
                operands = self._ordered(node, reads, made[0].operands)
            if operands is not None:
                for read, number in zip(reads, operands, strict=True):
                    self._say(read, number)
            elif node.call.name == "add":
                self._one_term(reads, target)

    def _ordered(self, node: Node, reads: list[Read], operands: tuple[int, ...]) -> tuple[int, ...] | None:
        """Return the operands of a node of the graph in an order in which they may be those of the slot."""
        orders = [operands, operands[::-1]] if node.call.name == "add" else [operands]
        for order in orders:
            if all(self._may_be(read, number) for read, number in zip(reads, order, strict=True)):
                return order
        return None if node.call.name == "add" else operands

    def _may_be(self, read: Read, number: int) -> bool:
        """Return whether an operand may be a value; a local check, without the operands of operands."""
        if isinstance(read, Invariant):
            return read.number == number
        if isinstance(read, Affine):
            return read.at(-1) == number
        if isinstance(read, Local):
            node = self.loop.nodes[read.slot]
            made = self.numbering.maker(number)
            return (made is not None and (made[0].static == node.static)) or node.call.name == "add"
        return True

    def _one_term(self, reads: list[Read], target: int) -> None:
        """Infer which term of a sum is the value, where the other one is missing."""
        for term, other in ((0, 1), (1, 0)):
            if isinstance(reads[other], Carried | Local) and self._may_be(reads[term], target):
                if isinstance(reads[term], Carried) and not isinstance(reads[other], Carried):
                    continue  # the missing term is the carried one, not the one that this step computes
                self._say(reads[other], ZERO)
                self._say(reads[term], target)
                return

    def _zeros(self, node: Node, reads: list[Read]) -> None:
        """Infer which operands must be zero so that a result is."""
        terms = [read for read in reads if isinstance(read, Carried | Local)]
        for read in terms if node.call.name in ("add", "stack", "concatenate") else terms[:1]:
            self._say(read, ZERO)

    def _say(self, read: Read, number: int) -> None:
        if isinstance(read, Local):
            self.wanted.setdefault((read.slot, read.out), number)
        elif isinstance(read, Carried):
            self.init.setdefault((read.slot, read.out, read.lag), number)
