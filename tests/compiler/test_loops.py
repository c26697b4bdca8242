"""Loops in plans: either executor does what it does with the loop taken apart."""

import os
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from loops import TAKE, TANH, TURNED_OVER, call, placed, plans, rnn, room, row, without_loops
from replay import need_library, normal, small_plans_shared
from sharing import faults

from tinygrad_rnn.compiler.ir.graph import Operator
from tinygrad_rnn.compiler.ir.operators import ADD, CONCATENATE, MATMUL, RESHAPE, STACK, SUM
from tinygrad_rnn.compiler.native import chains, records
from tinygrad_rnn.compiler.native.encode import encode
from tinygrad_rnn.compiler.native.numbers import NAMES
from tinygrad_rnn.compiler.native.program import Records, Repeated
from tinygrad_rnn.compiler.plans.explain import explain
from tinygrad_rnn.compiler.plans.instructions import COPY, Loop, Slot
from tinygrad_rnn.compiler.plans.layout import lay_out_arena
from tinygrad_rnn.compiler.plans.plan import Plan
from tinygrad_rnn.compiler.replay.executor import Executor

EXECUTORS = [(False, 1), (False, 2), (True, 1), (True, 2)]


@pytest.fixture(autouse=True)
def small_plans():
    with small_plans_shared(), np.errstate(all="ignore"):
        yield


def assert_same(plan, arrays, threads, native):
    """Compare a plan with the same one without loops, at two replays."""
    flat, loop = Executor(without_loops(plan), threads, native), Executor(plan, threads, native)
    for scale in (1, 2):
        now = [scale * array for array in arrays]
        for want, got in zip(flat.run(now), loop.run(now), strict=True):
            np.testing.assert_array_equal(got, want)


def need(native):
    if native:
        need_library()


# -- replays -------------------------------------------------------------------------------------------------------


@given(drawn=plans())
def test_numpy(drawn):
    assert_same(*drawn, 1, False)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("odd", [False, True])
@given(data=st.data())
def test_native(data, threads, odd):
    need_library()
    assert_same(*data.draw(plans(odd)), threads, True)


@pytest.mark.sample(1)
@pytest.mark.parametrize("threads", [1, 2])
@given(drawn=plans())
def test_chains_of_calls_in_loops(drawn, threads):
    need_library()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chains, "_LONG", 4)
        patch.setattr(records, "_LONG", 4)
        assert_same(*drawn, threads, True)
        plan, _ = drawn
        assert faults(encode(plan, 3), plan.arena_bytes, 3) == []


@pytest.mark.parametrize("part", [16, 8, 0])
def test_what_a_chain_leaves_for_the_next_step(part):
    """A sum that is carried is written to memory, though nobody reads it after the chain, or after the loop."""
    need_library()
    xs, out, total = (
        room("input", (9, 16), "float64"),
        room("output", (9, 16), "float64"),
        room("arena", (16,), "float64"),
    )
    first = replace(total, shape=(part,))
    body = [
        *([call(TURNED_OVER, first, replace(row(xs, 0, 1), shape=(part,)))] if part == 16 else []),
        *([call(SUM, first, replace(row(xs, 0, 1), shape=(2, 8), strides=(64, 8)), axis=0)] if part == 8 else []),
        call(ADD, total, total, row(xs, 0, 1)),
        call(TANH, row(out, 0, 1), total),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chains, "_LONG", 4)
        assert_same(
            placed([call(COPY, total, 0.0), Loop(tuple(body), 9, False)], [xs], [out]), [normal(9, 16)], 1, True
        )


def test_no_chain_where_operands_meet_at_a_later_step():
    """A window that moves on comes to lie over one that stays, so that they share elements, and not the same ones."""
    need_library()
    xs, out = room("input", (60,), "float64"), room("output", (60,), "float64")

    def window(slot, first, by):
        return replace(slot, offset=8 * first, shape=(16,), step_stride=8 * by)

    def plan_of(far):
        body = [call(COPY, window(out, 0, 1), window(xs, 0, 1)), call(TANH, window(out, far, 0), window(xs, 4, 0))]
        return placed([call(COPY, out, 0.0), Loop(tuple(body), 10, False)], [xs], [out])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chains, "_LONG", 4)
        patch.setattr(records, "_LONG", 4)
        for far, count in ((24, 0), (25, 1)):  # the last window ends at 9 + 16
            plan = plan_of(far)
            (table,) = encode(plan, 2).pieces
            assert [NAMES[record["op"]] for record in table.array].count("chain") == count
            assert faults(encode(plan, 2), plan.arena_bytes, 2) == []
            assert_same(plan, [normal(60)], 2, True)


def by_hand(arrays, odd, reverse):
    xs, w, h = (array.astype(np.float64) for array in arrays)
    states, total = [h], 0.0
    for x in xs[:: -1 if reverse else 1]:
        h = np.tanh(x + h @ w)
        states.append(h)
        total += h[::-1] if odd else h
    return np.stack(states[:: -1 if reverse else 1]), total


@pytest.mark.parametrize(("native", "threads"), EXECUTORS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("odd", [False, True])
def test_a_recurrent_network(native, threads, dtype, odd, reverse):
    need(native)
    plan, arrays = rnn(dtype=dtype, odd=odd, reverse=reverse, N=40, H=20)
    executor = Executor(plan, threads, native)
    kept = []
    for scale in (1.0, 0.5, 0.25, 0.125, 0.1):
        now = [(scale * array).astype(dtype) for array in arrays]
        for got, want in zip(executor.run(now), by_hand(now, odd, reverse), strict=True):
            assert got.dtype == dtype
            np.testing.assert_allclose(got, want, rtol=0, atol=1e-4 if dtype == "float32" else 1e-11)
            kept.append((got, got.copy()))  # the states lie in a block, which is the caller's as long as it is held
    for got, before in kept:
        np.testing.assert_array_equal(got, before)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("N", "H", "T"), [(1, 100, 7), (3, 100, 7), (7, 100, 7), (2, 750, 3)])
@pytest.mark.parametrize("reverse", [False, True])
def test_a_matrix_that_is_larger_than_the_first_cache(dtype, N, H, T, reverse):
    """The library goes through it from either end in turn, where a step has few rows."""
    need_library()
    plan, arrays = rnn(N=N, H=H, T=T, dtype=dtype, reverse=reverse)
    for got, want in zip(Executor(plan, 2, True).run(arrays), by_hand(arrays, False, reverse), strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 if dtype == "float32" else 1e-14)


def test_blocks_of_results_that_nobody_holds_are_used_again():
    plan, arrays = rnn(N=40, H=20, odd=True)
    for native in (False, True):
        need(native)
        executor = Executor(plan, 1, native)
        executor.run(arrays)
        held = executor.nbytes
        for _ in range(10):
            executor.run(arrays)
        assert executor.nbytes == held


def test_calls_that_are_several_records_or_views():
    """Where a record has slots of its own, they follow the step too."""
    T, dtype = 4, "float64"
    xs, ws = room("input", (T, 3, 4, 5), dtype), room("input", (T, 3, 5, 2), dtype, 1)
    out, turned = room("output", (T, 3, 4, 2), dtype), room("output", (T, 5, 12), dtype, 1)
    both, joined = room("output", (T, 2, 3, 4, 5), dtype, 2), room("output", (T, 6, 4, 5), dtype, 3)
    wide = room("output", (T, 3, 4, 7), dtype, 4)
    x = row(xs, 0, 1)
    scatter = Operator("scatter", scattered, True)
    body = [
        call(MATMUL, row(out, 0, 1), x, row(ws, 0, 1)),
        call(
            RESHAPE,
            row(turned, 0, 1),
            replace(x, shape=(5, 3, 4), strides=(x.strides[2], x.strides[0], x.strides[1])),
            shape=(5, 12),
        ),
        call(STACK, row(both, 0, 1), x, x, axis=0),
        call(CONCATENATE, row(joined, 0, 1), x, x, axis=0),
        call(scatter, row(wide, 0, 1), x, index=(..., slice(1, 6)), shape=(3, 4, 7)),
    ]
    outputs = [out, turned, both, joined, wide]
    fill = [call(COPY, slot, np.nan) for slot in outputs]
    plan = placed([*fill, Loop(tuple(body), T, True)], [xs, ws], outputs)
    arrays = [normal(*slot.shape, seed=k) for k, slot in enumerate((xs, ws))]
    a, b = arrays
    padded = np.zeros((T, 3, 4, 7))
    padded[..., 1:6] = a
    doubled = np.concatenate([a, a], axis=1)
    want = [a @ b, np.moveaxis(a, 3, 1).reshape(T, 5, 12), np.stack([a, a], 1), doubled, padded]
    need_library()
    assert all(isinstance(piece, Records) for piece in encode(plan, 2).pieces)
    for native, threads in EXECUTORS:
        for got, expected in zip(Executor(plan, threads, native).run(arrays), want, strict=True):
            np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)


def scattered(x, /, index, shape, *, out):
    out[...] = 0
    out[index] = x


def test_an_id_out_of_range_at_any_step():
    need_library()
    T, dtype = 6, "float32"
    table, ids, out = room("input", (7, 3), dtype), room("input", (T, 2), np.int64, 1), room("output", (T, 2, 3), dtype)
    take = call(TAKE, row(out, 0, 1), table, axis=0, indices=row(ids, 0, 1))
    plan = placed([call(COPY, out, 0.0), Loop((take,), T, False)], [table, ids], [out])
    for threads in (1, 2):
        executor = Executor(plan, threads, True)
        for t in range(T):
            wrong = np.zeros((T, 2), np.int64)
            wrong[t, 1] = 7
            with pytest.raises(IndexError, match="axis 0 with size 7"):
                executor.run([normal(7, 3).astype(dtype), wrong])
        executor.run([normal(7, 3).astype(dtype), np.full((T, 2), 6)])


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_replay_without_workers_has_the_same_result():
    """In a forked process, or beside another replay, one thread does all parts."""
    need_library()
    plan, arrays = rnn()
    want = Executor(plan, 2, True).run(arrays)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            executor = Executor(plan, 2, True)
            got = executor.run(arrays)
            seconds = executor.seconds(arrays, 1)
            status = 0 if all(map(np.array_equal, got, want)) and all(0 < one < 10 for one in seconds) else 1
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# -- tables --------------------------------------------------------------------------------------------------------


def loops_in(program):
    return [
        record
        for piece in program.pieces
        if isinstance(piece, Records)
        for record in piece.array
        if NAMES[record["op"]] == "loop"
    ]


def test_the_library_goes_through_what_it_knows():
    (loop,) = loops_in(encode(rnn(T=9, reverse=True)[0], 1))
    assert list(loop["n"][:3]) == [9, 4, 1]  # a product and the sum after it are one record


def test_python_goes_through_the_rest():
    """Between its own calls the library replays tables at a step."""
    program = encode(rnn(T=9, odd=True)[0], 2)
    _, loop, _ = program.pieces
    assert isinstance(loop, Repeated)
    first, number, second = loop.pieces
    assert (len(first.array), number, len(second.array)) == (2, 5, 1)
    assert list(loop.order()) == list(range(9))


def test_binding_does_not_go_through_the_steps():
    """A loop of a million steps is bound at once; its calls are bound when they are replayed."""
    x = room("input", (1 << 20, 1), "float32")
    out = room("output", (1,), "float32")
    for operator in (TANH, TURNED_OVER):
        plan = placed([Loop((call(operator, out, row(x, 0, 1)),), 1 << 20, False)], [x], [out])
        executor = Executor(plan)
        bound = executor._prepared([np.zeros((1 << 20, 1), np.float32)])[0]
        ((function, _),) = bound
        assert function._steps == []


@pytest.mark.parametrize("end", ["first", "last"])
@pytest.mark.parametrize("reverse", [False, True])
def test_a_step_that_lies_outside_its_memory_is_refused(end, reverse):
    x, out = room("input", (5, 3), "float32"), room("output", (5, 3), "float32")
    wrong = row(out, 0, 1) if end == "last" else row(out, -1, 1)
    plan = placed([Loop((call(TANH, wrong, row(x, 0, 0)),), 6 if end == "last" else 5, reverse)], [x], [out])
    with pytest.raises(RuntimeError, match="would reach beyond its array .* 12 bytes further at each of . steps"):
        encode(plan, 1)


def test_steps_that_are_no_whole_numbers_of_elements_are_for_numpy():
    x, out = room("input", (40,), "uint8"), room("output", (4, 2), "float32")
    odd = Slot(x.buffer, 0, (2,), (4,), np.dtype("float32"), 9)
    program = encode(placed([Loop((call(TANH, row(out, 0, 1), odd),), 4, False)], [x], [out]), 1)
    assert isinstance(program.pieces[0], Repeated)


# -- costs ---------------------------------------------------------------------------------------------------------


def test_costs_are_those_of_all_steps():
    plan, _ = rnn(N=3, H=5, T=8)
    costs, flat = explain(plan), explain(without_loops(plan))
    assert {row.operator: row for row in costs.rows} == {row.operator: row for row in flat.rows}
    assert (costs.calls, costs.peak_bytes) == (3 + 8 * 5, flat.peak_bytes)


@pytest.mark.parametrize(("native", "threads"), EXECUTORS)
@pytest.mark.parametrize("odd", [False, True])
def test_times_are_those_of_all_steps(native, threads, odd):
    need(native)
    slow = Operator("slow", lambda x, /, *, out: (np.copyto(out, x), pause())[0], True)
    plan, arrays = rnn(T=5, odd=odd)
    if odd:
        loop = plan.instructions[2]
        body = tuple(replace(i, operator=slow) if i.operator is TURNED_OVER else i for i in loop.instructions)
        plan.instructions[2] = replace(loop, instructions=body)
    seconds = Executor(plan, threads, native).seconds(arrays, 2)
    assert len(seconds) == 3 + 5
    assert all(0 < one < np.inf for one in seconds)
    if odd:
        assert seconds[5] >= 5 * PAUSE
    costs = explain(plan, seconds)
    assert costs.seconds == pytest.approx(sum(seconds))


PAUSE = 1e-3


def pause():
    time.sleep(PAUSE)


LIVES = {
    # name: (calls before, calls in the loop, calls after) by name of the buffers (out, in), and bytes in use at most
    "only within": ([], ["ax", "ba", "cb", "yc"], [], 2),
    "carried": ([], ["ac", "ba", "cb", "yc"], [], 3),
    "written before": (["cx"], ["ax", "ba", "yb", "yc"], [], 3),
    "written before and written anew": (["cx"], ["cx", "yc", "ax", "ba"], [], 3),
    "read after": ([], ["cx", "ax", "ba", "yb"], ["yc"], 3),
    "read after, written last": ([], ["ax", "ba", "cb"], ["yc"], 2),  # of the last step alone: c may lie where a was
    "a place for each step": ([], ["ax", "ba", "sb"], [], 2 + 3),
}


@pytest.mark.parametrize(("before", "body", "after", "most"), LIVES.values(), ids=LIVES)
def test_what_a_loop_keeps_is_in_use_in_all_of_it(before, body, after, most):
    rooms = {name: room("arena", (64,), "float32") for name in "abc"}
    rooms |= {"x": room("input", (64,), "float32"), "y": room("output", (64,), "float32")}
    rooms["s"] = room("arena", (3, 64), "float32")

    def calls(names):
        slots = ([row(rooms[one], 0, 1) if one == "s" else rooms[one] for one in pair] for pair in names)
        return [call(COPY, *pair) for pair in slots]

    instructions = [*calls(before), Loop(tuple(calls(body)), 3, False), *calls(after)]
    plan = Plan(instructions, [rooms["x"]], [rooms["y"]], lay_out_arena(instructions))
    assert explain(plan).alive_bytes == most * 256
