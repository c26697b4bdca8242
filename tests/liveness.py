"""What a plan does to memory, on paper: no value that somebody still reads is written over."""

import numpy as np
from loops import without_loops


def cells(slot):
    """Return the bytes of its buffer that a slot covers, one by one."""
    if 0 in slot.shape:
        return np.empty(0, np.intp)
    places = np.zeros(slot.shape, np.intp) + slot.offset
    for axis, (length, stride) in enumerate(zip(slot.shape, slot.strides, strict=True)):
        places += (np.arange(length) * stride).reshape(-1, *(1,) * (len(slot.shape) - axis - 1))
    return (places[..., None] + np.arange(slot.dtype.itemsize)).ravel()


def memory_of(slot):
    return "arena" if slot.buffer.kind == "arena" else id(slot.buffer)


def assert_no_live_value_is_written_over(plan):
    """Replay on paper: note who wrote each byte, and see that every reader finds what its buffer's writers left.

    Whoever reads a byte must find it written through the same buffer: if another buffer's value was put there in
    between, two lives overlap. Inputs and constants are written before the start. Loops are gone through step by step.
    """
    owner = {}
    for slot in plan.inputs:
        owner.update({(memory_of(slot), place): slot.buffer for place in cells(slot)})

    def check(slot, what):
        assert 0 <= slot.buffer.offset <= plan.arena_bytes
        if slot.dtype == object or slot.buffer.kind == "constant":
            return
        start = slot.buffer.offset if slot.buffer.kind == "arena" else 0
        for place in cells(slot):
            assert 0 <= place < slot.buffer.nbytes, what
            assert owner.get((memory_of(slot), start + place)) is slot.buffer, what

    for number, instruction in enumerate(without_loops(plan).instructions):
        what = f"{number}: {instruction.operator.name}"
        written = list(instruction.outputs)
        for slot in [slot for slot in instruction.slots() if not any(slot is out for out in written)]:
            check(slot, f"{what} reads what was overwritten, or never written")
        for slot in written:
            assert slot.buffer.kind in ("arena", "output"), f"{what} writes to an {slot.buffer.kind}"
            start = slot.buffer.offset if slot.buffer.kind == "arena" else 0
            assert start + slot.buffer.nbytes <= plan.arena_bytes or slot.buffer.kind != "arena"
            owner.update({(memory_of(slot), start + place): slot.buffer for place in cells(slot)})
    for slot in plan.outputs:
        check(slot, "a result was overwritten, or never written")
