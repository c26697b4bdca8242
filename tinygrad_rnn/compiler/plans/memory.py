"""Memory of executors: aligned to cache lines, with a count of who still refers to it."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from weakref import WeakSet, WeakValueDictionary, ref

import numpy as np

from ...engine.tape import Array
from .instructions import Slot

_LINE = 64  # bytes
_SETS = 3  # blocks for each large result before copies are made


class Block:
    """Bytes of one large result.

    Whether anybody still holds it, or a view of it, is seen from the number of references to the array that owns the
    bytes, as every NumPy view has one. `own` counts those of bound calls. `donated` says that the block holds donated
    inputs, which results are written over.
    """

    __slots__ = ("__weakref__", "_parts", "address", "donated", "memory", "nbytes", "own", "start")

    def __init__(self, nbytes: int, donated: bool = False) -> None:
        self.memory, self.start = _memory(nbytes)
        self.nbytes, self.address = nbytes, address(self.memory) + self.start
        self.own, self.donated = 0, donated
        self._parts: dict[int, Part] = {}

    def array(self, slot: Slot) -> Array:
        """Return the array of a slot in the block."""
        return slot.array(self.memory, self.start)

    def from_byte(self, first: int) -> Block | Part:
        """Return the block from some byte on, the same object each time."""
        if not first:
            return self
        if first not in self._parts:
            self._parts[first] = Part(self, first)
        return self._parts[first]

    @property
    def held(self) -> bool:
        """Whether anybody but the executor refers to the bytes."""
        return self.references > 0

    @property
    def references(self) -> int:
        """How many arrays of others refer to the bytes."""
        return sys.getrefcount(self.memory) - 2 - self.own


class Part:
    """A block from some byte on: an array that lies amid a larger result, such as one of the parts of a vector."""

    __slots__ = ("address", "block", "start")

    def __init__(self, block: Block, first: int) -> None:
        self.block, self.start, self.address = block, block.start + first, block.address + first

    @property
    def donated(self) -> bool:
        """Whether results are written over inputs in here."""
        return self.block.donated

    def array(self, slot: Slot) -> Array:
        """Return the array of a slot that lies in here."""
        return slot.array(self.block.memory, self.start)


class InputCopy:
    """Bytes that an input is copied into, and the array that was copied last, if nobody can change it.

    The executors of one function share them, so that weights are stored once for all lengths of a sequence.
    """

    __slots__ = ("last", "memory")

    def __init__(self, nbytes: int) -> None:
        self.memory = own_memory(nbytes)
        self.last: ref[Array] | None = None


class Beside:
    """Memories of functions that pass arrays to each other; only one of the functions runs at a time.

    Attributes:
        memories: of these functions.
        used: whether one of them has ever had a block: until then no argument lies in one, and none is looked up.
    """

    def __init__(self) -> None:
        self.memories: WeakSet[Memory] = WeakSet()
        self.used = False
        self._blocks: WeakValueDictionary[int, Block] = WeakValueDictionary()  # by id of the memory that is theirs

    def block(self, nbytes: int, donated: bool = False) -> Block:
        """Return a new block."""
        made, self.used = Block(nbytes, donated), True
        self._blocks[id(made.memory)] = made
        return made

    def around(self, array: Array) -> Block | None:
        """Return the block that an array lies in. It is asked for each argument of each call."""
        base = array.base
        if base is None or not array.flags.c_contiguous:
            return None
        block = self._blocks.get(id(base))
        return block if block is not None and block.memory is base else None

    def is_alone(self, array: Array) -> bool:
        """Return whether an array lies in a block in which no other array does; those of executors do not count."""
        block = self.around(array)
        return block is not None and block.references == 1

    def may_write_over(self, array: Array) -> None:
        """Let results be written over what lies in the block of an array, where that is donated."""
        if (block := self.around(array)) is not None:
            block.donated = True


class Memory:
    """What the executors of one function share: an arena, and blocks for large results. One of them runs at a time.

    Args:
        beside: memories whose results are read in place; this one joins them.

    Attributes:
        sets: each from the number of a result to its block.
        donated: blocks of donated inputs, which results are written over.
    """

    def __init__(self, beside: Beside | None = None) -> None:
        self.sets: list[dict[int, Block]] = []
        self.donated: list[Block] = []
        self._arena = own_memory(0)
        self._inputs: dict[int, InputCopy] = {}
        self.beside = Beside() if beside is None else beside
        self.beside.memories.add(self)

    def arena(self, nbytes: int) -> Array:
        """Return an arena of `nbytes` bytes: the start of the present one, if that is large enough."""
        if self._arena.nbytes < nbytes:
            self._arena = own_memory(2 * nbytes)  # for longer sequences; pages that nobody touches take no memory
        return self._arena[:nbytes]

    def input_copy(self, number: int, nbytes: int) -> InputCopy:
        """Return the copy of an input; one that is too small is replaced by one of at least twice the size."""
        copy = self._inputs.get(number)
        if copy is None or copy.memory.nbytes < nbytes:
            size = nbytes if copy is None else max(nbytes, 2 * copy.memory.nbytes)
            copy = self._inputs[number] = InputCopy(size)
        return copy

    def drop_input(self, number: int) -> None:
        """Drop the copy of an input; executors that are bound to it keep it."""
        self._inputs.pop(number, None)

    def free_set(self, needs: Mapping[int, int]) -> tuple[dict[int, Block], bool]:
        """Return blocks that nobody holds, and whether results must be copied out of them.

        Args:
            needs: bytes of each large result, by its number.
        """
        for blocks in self.sets[:_SETS]:
            if not any(number in blocks and blocks[number].held for number in needs):
                return self._enough(blocks, needs), False
        self.sets += [{}] if len(self.sets) <= _SETS else []
        # Results of the last set are always copied, so nobody ever holds it.
        return self._enough(self.sets[-1], needs), len(self.sets) > _SETS

    def block_of(self, array: Array) -> Block | Part | None:
        """Return the block at whose first byte an array begins, or the rest of one; None if there is none.

        Amid a block arrays lie at any number of places, and calls are bound for each: only those of blocks that are
        written over are read there, as there are few of them.
        """
        block = self.beside.around(array)
        first = 0 if block is None else address(array) - block.address
        return block.from_byte(first) if block is not None and (block.donated or not first) else None

    def blocks(self) -> Iterator[Block]:
        """Yield the blocks of this memory."""
        yield from self.donated
        for blocks in self.sets:
            yield from blocks.values()

    def donated_block(self, nbytes: int, taken: Collection[Block | Part]) -> Block:
        """Return a block for a donated array that lies in none yet: one that nobody holds, or a new one.

        Args:
            nbytes: that it needs.
            taken: blocks of other donated arrays of the same call.
        """
        free = [one for one in self.donated if one.nbytes >= nbytes and one not in taken and not one.held]
        if not free:
            free = [self.beside.block(nbytes, donated=True)]
            self.donated += free
        return min(free, key=lambda one: one.nbytes)

    def _enough(self, blocks: dict[int, Block], needs: Mapping[int, int]) -> dict[int, Block]:
        """Return blocks, those that are missing or too small made anew."""
        for number, nbytes in needs.items():
            if number not in blocks:
                blocks[number] = self.beside.block(nbytes)
            elif blocks[number].nbytes < nbytes:
                blocks[number] = self.beside.block(max(nbytes, 2 * blocks[number].nbytes))
        return blocks

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count the references to blocks that are made or dropped in this context as the executors' own.

        If it is interrupted, all blocks are given up, as their counts may be wrong.
        """
        found = [block for memory in self.beside.memories for block in memory.blocks()]
        before = [sys.getrefcount(block.memory) for block in found]
        try:
            yield
        except BaseException:
            for memory in self.beside.memories:
                memory.sets, memory.donated = [], []
            raise
        for block, count in zip(found, before, strict=True):
            block.own += sys.getrefcount(block.memory) - count


def _memory(nbytes: int) -> tuple[Array, int]:
    """Return an array that owns memory, and the offset of the first cache line in it: vectors are aligned to it."""
    memory = np.empty(nbytes + _LINE, np.uint8)
    return memory, -address(memory) % _LINE


def own_memory(nbytes: int) -> Array:
    """Return `nbytes` bytes that begin at a cache line."""
    memory, start = _memory(nbytes)
    return memory[start : start + nbytes]


def address(array: Array) -> int:
    """Return the address of the first byte of an array."""
    return int(array.__array_interface__["data"][0])
