"""What is done in which order: instructions as elementwise parts, joined into common loops, and kernels.

An elementwise part writes elements of its result, each from the elements of its operands at the same place. Parts that
follow each other over the same axes go through them together, element by element, unless one of them touches what
another writes at another place. What only such a group reads need not be written to memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from ...compiler.ir.arrays import Shape
from ...compiler.plans.instructions import Instruction, Loop, Slot, places, strides_of, views_in
from ...compiler.plans.plan import Plan
from ...errors import UnsupportedError
from .checks import KERNELS, as_element, function_of
from .elements import NAMES


@dataclass(frozen=True)
class Access:
    """How a part goes over a slot: steps in bytes along the axes of the group that are longer than one."""

    slot: Slot
    steps: Shape

    @property
    def key(self) -> tuple[object, ...]:
        """What is the same for two accesses that touch the same element at each place."""
        return id(self.slot.buffer), self.slot.offset, self.steps, self.slot.step_stride, self.slot.dtype


@dataclass(frozen=True)
class Element:
    """An elementwise part: the operator, its result, and its operands (accesses and numbers)."""

    name: str
    out: Access
    inputs: tuple[object, ...]

    @property
    def reads(self) -> list[Access]:
        """The operands that lie in memory."""
        return [part for part in self.inputs if isinstance(part, Access)]


@dataclass(frozen=True)
class Group:
    """Elementwise parts over the same axes, of these lengths."""

    lengths: Shape
    elements: tuple[Element, ...]

    def slots(self) -> list[Slot]:
        """Return the slots that it touches."""
        return [access.slot for one in self.elements for access in (one.out, *one.reads)]


@dataclass(frozen=True)
class Kernel:
    """An instruction that is not elementwise."""

    instruction: Instruction

    def slots(self) -> list[Slot]:
        """Return the slots that it touches."""
        return self.instruction.slots()


@dataclass(frozen=True)
class Repeat:
    """What is done at each step of a loop."""

    items: tuple[Item, ...]
    steps: int
    reverse: bool


Item = Group | Kernel
Schedule = list[Item | Repeat]


def schedule_of(plan: Plan) -> Schedule:
    """Return a plan as groups, kernels and loops of them."""
    found: Schedule = []
    plain: list[Instruction] = []
    for part in plan.instructions:
        if isinstance(part, Loop):
            found += _grouped(plain)
            plain = []
            found.append(Repeat(tuple(_grouped(part.instructions)), part.steps, part.reverse))
        else:
            plain.append(part)
    return [*found, *_grouped(plain)]


def flat(schedule: Schedule) -> Iterator[tuple[Item, Repeat | None]]:
    """Yield the items in their order, each with the loop around it."""
    for item in schedule:
        if isinstance(item, Repeat):
            yield from ((inner, item) for inner in item.items)
        else:
            yield item, None


# -- parts ------------------------------------------------------------------------------------------------------------


def _grouped(instructions: Iterable[Instruction]) -> list[Item]:
    """Return instructions in their order, elementwise parts that fit together joined."""
    found: list[Item] = []
    for instruction in instructions:
        for part in _parts(instruction):
            if isinstance(part, Kernel):
                found.append(part)
                continue
            lengths, element = part
            last = found[-1] if found else None
            if isinstance(last, Group) and last.lengths == lengths and _fits(element, last.elements):
                found[-1] = Group(lengths, (*last.elements, element))
            else:
                found.append(Group(lengths, (element,)))
    return found


def _parts(instruction: Instruction) -> Iterator[Kernel | tuple[Shape, Element]]:
    """Yield the parts of an instruction; nothing for a result without elements."""
    if all(0 in slot.shape for slot in instruction.outputs):
        return
    simple = as_element(instruction)
    if simple is not None:
        yield from _element(*simple)
        return
    name = instruction.operator.name
    if instruction.operator.key == name:
        yield from _known_parts(name, instruction)
    elif function_of(instruction) in KERNELS:
        yield Kernel(instruction)
    else:
        raise UnsupportedError(
            f"export: C has no {name}, a function that the library does not know; compute it with operations of the "
            "library, or before the step, and pass it as an input"
        )


def _known_parts(name: str, instruction: Instruction) -> Iterator[Kernel | tuple[Shape, Element]]:
    """Yield the parts of an operator that is known by name."""
    inputs, out = instruction.inputs, instruction.outputs[0]
    if name in ("stack", "concatenate"):
        for place, part in zip(places(name, instruction.attrs["axis"], inputs, out), inputs, strict=True):
            yield from _element("copy", place, (part,))
    elif name == "scatter":
        yield from _scattered(instruction)
    elif name == "reshape":
        x = inputs[0]
        yield from _element("copy", replace(out, shape=x.shape, strides=strides_of(x.shape, x.dtype.itemsize)), inputs)
    elif name in NAMES:
        yield from _element(name, out, inputs)
    elif name == "subtract_rows":
        if inputs[0] != out:
            yield from _element("copy", out, (inputs[0],))
        yield Kernel(instruction)
    else:
        yield Kernel(instruction)


def _scattered(instruction: Instruction) -> Iterator[Kernel | tuple[Shape, Element]]:
    """Yield zeros, then the operand in the part that an index of slices and integers names."""
    x, out, index = instruction.inputs[0], instruction.outputs[0], instruction.attrs["index"]
    parts = index if type(index) is tuple else (index,)
    found = None
    if isinstance(x, Slot) and all(part is ... or isinstance(part, slice | int | None) for part in parts):
        found = views_in(out, lambda array: [array[index]])
    if found is None or found[0].shape != x.shape:
        raise UnsupportedError(
            "export: C has the gradient of an index of slices and integers only; look up with take, or use where"
        )
    yield from _element("copy", out, (0,))
    yield from _element("copy", found[0], (x,))


def _element(name: str, out: Slot, inputs: Sequence[object]) -> Iterator[tuple[Shape, Element]]:
    if 0 in out.shape:
        return
    axes = [axis for axis, length in enumerate(out.shape) if length != 1]
    operands = tuple(_access(part, axes, len(out.shape)) if isinstance(part, Slot) else part for part in inputs)
    steps = tuple(out.strides[axis] for axis in axes)
    yield tuple(out.shape[axis] for axis in axes), Element(name, Access(out, steps), operands)


def _access(slot: Slot, axes: Sequence[int], ndim: int) -> Access:
    """Return how a slot is gone over that is broadcast to `ndim` axes."""
    missing = ndim - len(slot.shape)
    steps = [0] * max(0, missing) + [
        0 if length == 1 else stride for length, stride in zip(slot.shape, slot.strides, strict=True)
    ][max(0, -missing) :]
    return Access(slot, tuple(steps[axis] for axis in axes))


# -- groups -----------------------------------------------------------------------------------------------------------


def _fits(new: Element, group: Sequence[Element]) -> bool:
    """Return whether a part may go element by element with others before it."""
    for old in group:
        pairs = [(old.out, access) for access in (new.out, *new.reads)] + [(access, new.out) for access in old.reads]
        if any(one.key != other.key and overlap(one.slot, other.slot) for one, other in pairs):
            return False
    return True


def overlap(one: Slot, other: Slot) -> bool:
    """Return whether two slots may have bytes in common: at the same step, or at any if they move differently."""
    if one.buffer is not other.buffer:
        return False
    if one.step_stride != other.step_stride:
        return True
    (low, high), (low2, high2) = one.extent(), other.extent()
    return one.offset + low < other.offset + high2 and other.offset + low2 < one.offset + high
