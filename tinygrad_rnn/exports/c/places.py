"""Where everything lies in C: parameters of the function, the state, constants, and working memory.

Working memory is one array for each type. Buffers share its bytes when they are not needed at the same time. What is
carried is written into the state as soon as nobody reads the old value any more and nothing can fail after it;
otherwise at the end of the step, from working memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from ...compiler.ir.arrays import DType, Shape
from ...compiler.plans.arena import offsets
from ...compiler.plans.instructions import Buffer, Slot, strides_of
from ...compiler.plans.plan import Plan
from ...errors import UnsupportedError
from ..program import Program
from .literals import literal, type_of
from .schedule import Group, Item, Kernel, Repeat, Schedule, flat

_ALIGNMENT = 16  # bytes: a vector of the usual machines
_FALLIBLE = frozenset(
    (
        *("ids", "lengths", "take", "take_back", "take_along", "equal_rows"),
        *("loss_and_gradient", "cross_entropy", "cross_entropy_back"),
    )
)


Numbered = list[tuple[int, tuple[Item, Repeat | None]]]
"""Items with their numbers, and the loop around each."""


@dataclass(frozen=True)
class Ref:
    """How an element of a slot is written: an array, and steps in elements; or a number, if it is the same everywhere.

    Attributes:
        base: the array, or the number.
        offset: of the first element; at step t of a loop, t * step_stride further.
        steps: along the axes.
        is_number: whether it is a number.
        cast: what stands before an element, where its type in C is not that of the dtype.
    """

    base: str
    dtype: DType
    offset: int = 0
    steps: Shape = ()
    step_stride: int = 0
    is_number: bool = False
    cast: str = ""

    def at(self, *indices: object) -> str:
        """Return the element at indices, which are names of variables or integers: one for each of the steps."""
        if self.is_number:
            return self.base
        start, terms = self.offset, []
        for index, step in zip((*indices, "t0"), (*self.steps, self.step_stride), strict=True):
            if isinstance(index, int):
                start += index * step
            elif step:
                terms.append(str(index) if step == 1 else f"{index} * {step}")
        text = " + ".join([*terms, *([str(start)] if start or not terms else [])])
        return f"{self.cast}{self.base}[{text}]"


@dataclass(frozen=True)
class Life:
    """The numbers of the first and the last item that need a buffer."""

    born: int
    dies: int


class Places:
    """Where buffers lie.

    Args:
        program: with the names of what goes in and out.
        plan: its plan.
        schedule: of the plan.
        ports: names of the parameters in C, for what is not carried, by ("input" or "output", number).
        work: the expression of the working memory in C, without the suffix of the type.
        constants: arrays that constants lie in, and where they start there, by buffer; numbers have none.

    Attributes:
        stored: buffers that lie in memory; the others are only ever held in registers.
        room: elements of working memory by type of C.
        late: (slot in working memory, state or parameter, offset there) of what is copied there at the end.
        state_offsets: by number of the input, where a carried leaf starts in the state.
        state_size: elements of the state.
    """

    def __init__(
        self,
        program: Program,
        plan: Plan,
        schedule: Schedule,
        ports: dict[tuple[str, int], str],
        work: str,
        constants: dict[Buffer, tuple[str, int]],
    ) -> None:
        self._work, self._constants = work, constants
        self.state_dtype = _state_dtype(program)
        self.state_offsets, self.state_size = _state_layout(program)
        numbered = list(enumerate(flat(schedule)))
        self.stored = _stored(numbered)
        self._lives, self._dtypes = _lives(numbered), _dtypes(numbered)
        fallible = [number for number, (item, _) in numbered if _can_fail(item)]
        self._at = {plan.inputs[one.input].buffer: ("state", self.state_offsets[one.input]) for one in program.carried}
        self._at |= {plan.inputs[number].buffer: (ports["input", number], 0) for number in program.given}
        self.late: list[tuple[Slot, str, int]] = []
        for number in program.results:
            slot = plan.outputs[number]
            if _is_whole(slot):
                self._at[slot.buffer] = ports["output", number], 0
            else:
                self.late.append((slot, ports["output", number], 0))
        for one in program.carried:
            before, slot = plan.inputs[one.input].buffer, plan.outputs[one.output]
            if before is slot.buffer:
                continue
            if _is_whole(slot) and self._may_replace(numbered, before, slot.buffer, max(fallible, default=-1)):
                self._at[slot.buffer] = "state", self.state_offsets[one.input]
            else:
                self.late.append((slot, "state", self.state_offsets[one.input]))
        kept = {slot.buffer for slot, _, _ in self.late if slot.buffer in self._lives}
        self.room: dict[str, int] = {}
        self._offsets: dict[Buffer, int] = {}
        lying = [buffer for buffer in self._lives if buffer.kind == "arena" and buffer in self.stored]
        self._lay_out([*lying, *kept], kept, len(numbered))

    def ref(self, slot: Slot, steps: Sequence[int] | None = None) -> Ref:
        """Return how an element of a slot is written; `steps` in bytes, those of its own axes if None."""
        size = slot.dtype.itemsize
        given = slot.strides if steps is None else steps
        if any(part % size for part in (*given, slot.offset, slot.step_stride)):
            raise UnsupportedError("export: C has no view of an array as another dtype; convert with np.astype")
        buffer = slot.buffer
        if buffer.constant is not None and buffer not in self._constants:
            number = literal(buffer.constant.flat[0] if buffer.constant.size else 0, slot.dtype)
            return Ref(number, slot.dtype, steps=tuple(given), is_number=True)
        base, first = self._base(buffer, slot.dtype)
        cast = "(int64_t)" if slot.dtype == np.int64 and buffer.kind == "input" else ""
        steps = tuple(part // size for part in given)
        return Ref(base, slot.dtype, first + slot.offset // size, steps, slot.step_stride // size, cast=cast)

    def whole(self, start: int, size: int) -> Ref:
        """Return working memory for numbers in 16 bits, which nothing needs for longer than a kernel takes."""
        self.room[WHOLE] = max(self.room.get(WHOLE, 0), start + size)
        return Ref(self._work + WHOLE, np.dtype(np.int16), start, (1,))

    def _base(self, buffer: Buffer, dtype: DType) -> tuple[str, int]:
        """Return the array that a buffer lies in, and where it starts there, in elements."""
        if buffer in self._at:
            return self._at[buffer]
        if buffer.constant is not None:
            return self._constants[buffer]
        return f"{self._work}{member(dtype)}", self._offsets[buffer]

    def _may_replace(self, numbered: Numbered, before: Buffer, after: Buffer, last_fallible: int) -> bool:
        """Return whether the new value of something carried can be written over the old one at once."""
        if after not in self._lives or self._lives[after].born <= last_fallible:
            return False
        if before not in self._lives:
            return True
        old, new = self._lives[before], self._lives[after]
        if old.dies != new.born:
            return old.dies < new.born
        item, loop = numbered[new.born][1]
        return isinstance(item, Group) and loop is None and _same_places(item, before, after)

    def _lay_out(self, buffers: Iterable[Buffer], kept: set[Buffer], end: int) -> None:
        """Give buffers their offsets in the working memory of their type."""
        by_type: dict[str, list[Buffer]] = {}
        for buffer in dict.fromkeys(buffers):
            by_type.setdefault(member(self._dtypes[buffer]), []).append(buffer)
        for name, some in by_type.items():
            itemsize = self._dtypes[some[0]].itemsize
            sizes = [-(-max(1, buffer.nbytes) // _ALIGNMENT) * _ALIGNMENT for buffer in some]
            dies = [end if buffer in kept else self._lives[buffer].dies for buffer in some]
            found, size = offsets(sizes, [self._lives[buffer].born for buffer in some], dies)
            self._offsets.update((buffer, at // itemsize) for buffer, at in zip(some, found, strict=True))
            self.room[name] = size // itemsize


WHOLE = "q16"
"""Name of the working memory for numbers in 16 bits that kernels use by themselves."""


def member(dtype: DType) -> str:
    """Return the name of the working memory of a dtype: "f32", "i64".

    >>> member(np.dtype(np.float32)), member(np.dtype(bool))
    ('f32', 'u8')
    """
    kind = "u" if dtype.kind == "b" else dtype.kind
    return f"{kind}{8 * dtype.itemsize}"


def _state_dtype(program: Program) -> DType:
    """Return the dtype of everything that is carried.

    Raises:
        UnsupportedError: if it is not all float32, or all float64.
    """
    found = {program.inputs[one.input].dtype for one in program.carried}
    if not found:
        return np.dtype(np.float32)
    if len(found) > 1 or next(iter(found)).name not in ("float32", "float64"):
        named = ", ".join(
            f"{program.inputs[one.input].name} {program.inputs[one.input].dtype}" for one in program.carried
        )
        raise UnsupportedError(
            f"export: the state in C is one array, of float32 or of float64; what is carried is {named[:200]}; carry "
            "all of it in one of the two (np.astype)"
        )
    return found.pop()


def _state_layout(program: Program) -> tuple[dict[int, int], int]:
    """Return where each carried leaf starts in the state, by number of the input, and the size of the state."""
    found, at = {}, 0
    for one in program.carried:
        found[one.input] = at
        at += math.prod(program.inputs[one.input].shape)
    return found, at


def _is_whole(slot: Slot) -> bool:
    """Return whether a slot is all of its buffer, in C order."""
    is_plain = slot.strides == strides_of(slot.shape, slot.dtype.itemsize)
    return is_plain and slot.offset == 0 and math.prod(slot.shape) * slot.dtype.itemsize == slot.buffer.nbytes


def _can_fail(item: Item) -> bool:
    return isinstance(item, Kernel) and item.instruction.operator.name in _FALLIBLE


def _dtypes(numbered: Numbered) -> dict[Buffer, DType]:
    """Return the dtype of what lies in each buffer."""
    found: dict[Buffer, DType] = {}
    for _, (item, _) in numbered:
        for slot in item.slots():
            if member(found.setdefault(slot.buffer, slot.dtype)) != member(slot.dtype):
                raise UnsupportedError("export: C has no view of an array as another dtype; convert with np.astype")
    for dtype in found.values():
        type_of(dtype)
    return found


def _lives(numbered: Numbered) -> dict[Buffer, Life]:
    """Return from when to when each buffer is needed: what is older than a loop, or moves on in it, throughout it."""
    born: dict[Buffer, int] = {}
    dies: dict[Buffer, int] = {}
    for loop, part in groupby(numbered, key=lambda one: id(one[1][1]) if one[1][1] else None):
        items = list(part)
        first, last = items[0][0], items[-1][0]
        throughout = set()
        for number, (item, _) in items:
            for slot in item.slots():
                born.setdefault(slot.buffer, number)
                dies[slot.buffer] = number
                if loop is not None and (slot.step_stride or born[slot.buffer] < first or slot.buffer.kind != "arena"):
                    throughout.add(slot.buffer)
        for buffer in throughout:
            born[buffer], dies[buffer] = min(born[buffer], first), last
    return {buffer: Life(born[buffer], dies[buffer]) for buffer in born}


def _stored(numbered: Numbered) -> set[Buffer]:
    """Return the buffers that lie in memory: all but those that one group writes before it reads them, alone."""
    users: dict[Buffer, set[int]] = {}
    found: set[Buffer] = set()
    for number, (item, _) in numbered:
        written: set[object] = set()
        for slot in item.slots():
            users.setdefault(slot.buffer, set()).add(number)
            if isinstance(item, Kernel) or slot.buffer.kind != "arena":
                found.add(slot.buffer)
        for one in item.elements if isinstance(item, Group) else ():
            found.update(access.slot.buffer for access in one.reads if access.key not in written)
            written.add(one.out.key)
    return found | {buffer for buffer, numbers in users.items() if len(numbers) > 1}


def _same_places(group: Group, before: Buffer, after: Buffer) -> bool:
    """Return whether a group reads each element of a buffer for the last time before it writes that of another."""
    reads, writes, places = [], [], set()
    for number, one in enumerate(group.elements):
        for access in (one.out, *one.reads):
            if access.slot.buffer is before or access.slot.buffer is after:
                places.add((access.slot.offset, access.steps, access.slot.step_stride))
        reads += [number for access in one.reads if access.slot.buffer is before]
        writes += [number] if one.out.slot.buffer is after else []
    return len(places) == 1 and (not reads or max(reads) <= min(writes))
