"""Plans with loops, drawn, and the same plans without: their loops taken apart, step by step."""

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from tinygrad_rnn import ops
from tinygrad_rnn.compiler.ir.graph import Operator, map_attrs
from tinygrad_rnn.compiler.ir.operators import ADD, MATMUL, MULTIPLY, SUM, operator_of
from tinygrad_rnn.compiler.plans.arena import offsets
from tinygrad_rnn.compiler.plans.instructions import COPY, Buffer, Instruction, Loop, Slot, strides_of
from tinygrad_rnn.compiler.plans.plan import Plan

TANH, SUBTRACT, MAXIMUM = (operator_of(getattr(ops, name)) for name in ("tanh", "subtract", "maximum"))
TAKE = Operator("take", lambda x, /, indices, axis, *, out: np.copyto(out, x[indices]), True)
TURNED_OVER = Operator("turned over", lambda x, /, *, out: np.copyto(out, x[::-1]), True)
"""An operator that the C library does not know."""


def without_loops(plan):
    """Return a plan with the same calls, none in a loop."""
    flat = []
    for part in plan.instructions:
        if not isinstance(part, Loop):
            flat.append(part)
            continue
        for t in range(part.steps)[:: -1 if part.reverse else 1]:
            flat += [at(instruction, t) for instruction in part.instructions]
    return replace(plan, instructions=flat)


def at(instruction, t):
    """Return an instruction as it is at a step."""

    def here(part):
        return part.at(t) if isinstance(part, Slot) else part

    attrs = map_attrs(here, instruction.attrs)
    return replace(
        instruction,
        inputs=tuple(map(here, instruction.inputs)),
        outputs=tuple(map(here, instruction.outputs)),
        attrs=attrs,
    )


def call(operator, out, *inputs, **attrs):
    return Instruction(operator, inputs, (out,), attrs, None)


def room(kind, shape, dtype, index=0, constant=None):
    """Return the slot of an array in a buffer of its own."""
    dtype = np.dtype(dtype)
    size = int(np.prod(shape)) * dtype.itemsize
    return Slot(Buffer(kind, size, 0, constant, index), 0, shape, strides_of(shape, dtype.itemsize), dtype)


def row(stack, first=0, by=0):
    """Return a row of a stack: row `first` at step 0, `by` rows further at each step."""
    stride = stack.strides[0]
    return Slot(stack.buffer, first * stride, stack.shape[1:], stack.strides[1:], stack.dtype, by * stride)


def placed(instructions, inputs, outputs):
    """Return a plan whose buffers of the arena lie side by side."""
    plan = Plan(instructions, inputs, outputs, 0)
    rooms = {id(s.buffer): s.buffer for i, _ in plan.flat() for s in i.slots() if s.buffer.kind == "arena"}
    sizes = [-(-buffer.nbytes // 64) * 64 for buffer in rooms.values()]
    places, plan.arena_bytes = offsets(sizes, [0] * len(sizes), [1] * len(sizes))
    for buffer, place in zip(rooms.values(), places, strict=True):
        buffer.offset = place
    return plan


def is_allowed(instruction, steps):
    """Return whether what it writes is, at each step, nothing that it reads, or, elementwise, exactly that."""
    for t in range(steps):
        now = at(instruction, t)
        (out,) = now.outputs
        for other in now.reads():
            if other.buffer is not out.buffer or (other == out and len(out.shape) == 2 and now.operator in ELEMENTWISE):
                continue
            (low, high), (low2, high2) = out.extent(), other.extent()
            if out.offset + low < other.offset + high2 and other.offset + low2 < out.offset + high:
                return False
    return True


ELEMENTWISE = [ADD, MULTIPLY, SUBTRACT, MAXIMUM, TANH, COPY]


@st.composite
def plans(draw, odd=False):
    """Draw (plan, arrays of its inputs); with `odd`, some calls are such that the C library does not know.

    Calls read and write rows of stacks that follow the step, forward and backward, rows that stay, parts of rows and
    arrays of their own, in any order, before, within, between and after two loops.
    """
    T, N, H = draw(st.integers(1, 5)), draw(st.integers(1, 5)), draw(st.sampled_from([2, 5, 18]))
    dtype = np.dtype(draw(st.sampled_from(["float32", "float64"])))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    w, v = (rng.standard_normal(shape).astype(dtype) / 4 for shape in ((H, H), (H,)))
    ids = rng.integers(-H, H, (T, N))
    weights, vector = room("constant", (H, H), dtype, constant=w), room("constant", (H,), dtype, constant=v)
    indices = row(room("constant", (T, N), np.int64, constant=ids), 0, 1)
    xs = room("input", (T + 3, N, H), dtype)
    kept = [room("arena", (T + 3, N, H), dtype) for _ in range(2)] + [room("output", (T + 3, N, H), dtype, 0)]
    single = [room("arena", (1, N, H), dtype) for _ in range(2)]
    sums = room("arena", (H,), dtype)

    def place(stacks, moves):
        stack = draw(st.sampled_from(stacks))
        if len(stack.shape) < 3 or stack.shape[0] == 1:
            slot = row(stack)
        elif moves and draw(st.integers(0, 3)):
            slot = row(stack, *draw(st.sampled_from([(0, 1), (1, 1), (3, 1), (T + 2, -1), (T + 1, -1), (T - 1, -1)])))
        else:
            slot = row(stack, draw(st.integers(0, T + 2)))
        return slot

    def view(slot, form):
        if form == "half":
            return replace(slot, shape=(N, H // 2))
        if form == "upside down":
            return replace(
                slot, offset=slot.offset + (N - 1) * slot.strides[0], strides=(-slot.strides[0], slot.strides[1])
            )
        return slot

    def instruction(moves):
        out, x, y = place(kept + single, moves), *(place([xs, *kept, *single], moves) for _ in "xy")
        forms = ["", "", "half", "upside down"]
        kind = draw(st.sampled_from(["two", "two", "one", "number", "matmul", "matmul", "sum", "take", "bias", "odd"]))
        if kind == "two":
            form = draw(st.sampled_from(forms))
            return call(draw(st.sampled_from(ELEMENTWISE[:4])), *(view(slot, form) for slot in (out, x, y)))
        if kind == "one":
            form = draw(st.sampled_from(forms))
            return call(draw(st.sampled_from([TANH, COPY])), view(out, form), view(x, form))
        if kind == "number":
            return call(MULTIPLY, out, x, 0.5)
        if kind == "bias":
            return call(ADD, out, x, draw(st.sampled_from([vector, sums])))
        if kind == "sum":
            return call(SUM, sums, x, axis=0, keepdims=False)
        if kind == "take":
            slot = indices if moves else replace(indices, step_stride=0)
            return call(TAKE, out, weights, axis=0, indices=slot)
        if kind == "odd" and odd:
            return call(TURNED_OVER, out, x)
        turned = replace(weights, strides=weights.strides[::-1]) if draw(st.booleans()) else weights
        return call(MATMUL, out, x, turned)

    def instructions(moves, most):
        found = [instruction(moves) for _ in range(draw(st.integers(0, most)))]
        return [one for one in found if is_allowed(one, T if moves else 1)]

    fill = room("input", (8 * N * H,), dtype, 1)
    parts = [
        call(COPY, replace(slot, shape=size, strides=strides_of(size, dtype.itemsize)), replace(fill, shape=size))
        for slot in [*kept, *single, sums]
        for size in [(slot.buffer.nbytes // dtype.itemsize,)]
    ]
    for _ in range(2):
        body = instructions(True, 7)
        parts += instructions(False, 2)
        parts += [Loop(tuple(body), T, draw(st.booleans()))] if body else []
    parts += instructions(False, 2)
    results = []
    for slot in draw(
        st.lists(st.sampled_from([*kept[:2], *single, sums]), unique_by=id, min_size=1)
    ):  # others are dead
        own = room("output", slot.shape, dtype, len(results) + 1)
        parts.append(call(COPY, own, slot))
        results.append(own)
    plan = placed(parts, [xs, fill], [kept[2], *results])
    arrays = [rng.standard_normal(slot.shape).astype(dtype) for slot in (xs, fill)]
    return plan, arrays


def rnn(N=3, H=5, T=40, dtype="float32", odd=False, reverse=False):
    """Return (plan, arrays) of h_t = tanh(x_t + h_{t-1} @ w) and their sum; with `odd`, through a call of Python's."""
    xs, w, h0 = room("input", (T, N, H), dtype), room("input", (H, H), dtype, 1), room("input", (N, H), dtype, 2)
    hs, hidden, total = room("output", (T + 1, N, H), dtype), room("arena", (N, H), dtype), room("arena", (N, H), dtype)
    own = room("output", (N, H), dtype, 1)
    before, after = (row(hs, 1, 1), row(hs, 0, 1)) if reverse else (row(hs, 0, 1), row(hs, 1, 1))
    body = [
        call(MATMUL, hidden, before, w),
        call(ADD, hidden, hidden, row(xs, 0, 1)),
        call(TANH, after, hidden),
        *([call(TURNED_OVER, hidden, after)] if odd else [call(COPY, hidden, after)]),
        call(ADD, total, total, hidden),
    ]
    start = [call(COPY, row(hs, T if reverse else 0), h0), call(COPY, total, 0.0)]
    plan = placed([*start, Loop(tuple(body), T, reverse), call(COPY, own, total)], [xs, w, h0], [hs, own])
    rng = np.random.default_rng(0)
    x, weights, first = (rng.standard_normal(slot.shape).astype(dtype) for slot in (xs, w, h0))
    return plan, [x, weights / (2 * H), first]  # so small that errors of rounding do not grow
