"""Elementwise groups as loops."""

from __future__ import annotations

from collections.abc import Collection

from ...compiler.ir.arrays import Shape
from ...compiler.plans.instructions import Buffer
from .code import Code
from .elements import expression
from .literals import type_of
from .schedule import Access, Element, Group


def write_group(code: Code, group: Group) -> None:
    """Append the loop of a group: what an element of it makes and another reads is a local variable."""
    lengths, kept = _merged(group)
    made: dict[object, str] = {}
    read = _read_later(group, code.places.stored)
    if not any(read.values()) and not any(one.out.slot.buffer in code.places.stored for one in group.elements):
        return
    with code.scope(lengths, "i") as variables:
        for number, one in enumerate(group.elements):
            is_stored = one.out.slot.buffer in code.places.stored
            if not (is_stored or read[number]):
                continue
            value = _value(code, one, made, variables, kept)
            if read[number]:
                code.line(f"const {type_of(one.out.slot.dtype)} v{number} = {value};")
                made[one.out.key] = value = f"v{number}"
            if is_stored:
                code.line(f"{_place(code, one.out, variables, kept)} = {value};")


def _read_later(group: Group, stored: Collection[Buffer]) -> dict[int, bool]:
    """Return by number of an element whether another reads its result before it is written anew, and is needed."""
    found: dict[int, bool] = {}
    wanted: set[object] = set()
    for number, one in reversed(list(enumerate(group.elements))):
        found[number] = one.out.key in wanted
        wanted.discard(one.out.key)
        if found[number] or one.out.slot.buffer in stored:
            wanted.update(access.key for access in one.reads)
    return found


def _value(code: Code, one: Element, made: dict[object, str], variables: list[object], kept: list[int]) -> str:
    texts: list[str] = []
    inputs: list[object] = []
    for part in one.inputs:
        if isinstance(part, Access):
            texts.append(made.get(part.key) or _place(code, part, variables, kept))
            inputs.append(part.slot)
        else:
            texts.append("")
            inputs.append(part)
    return expression(one.name, one.out.slot.dtype, tuple(inputs), tuple(texts), code.use)


def _place(code: Code, access: Access, variables: list[object], kept: list[int]) -> str:
    return code.ref(access.slot, [access.steps[axis] for axis in kept]).at(*variables)


def _merged(group: Group) -> tuple[Shape, list[int]]:
    """Return the lengths of the axes, those that follow each other in the memory of all as one; and which are left."""
    accesses = [access.steps for one in group.elements for access in (one.out, *one.reads)]
    lengths: list[int] = []
    kept: list[int] = []
    for axis, length in enumerate(group.lengths):
        if kept and all(steps[kept[-1]] == steps[axis] * length for steps in accesses):
            lengths[-1] *= length
            kept[-1] = axis
        else:
            lengths.append(length)
            kept.append(axis)
    return tuple(lengths), kept
