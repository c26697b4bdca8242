"""Workers wait wherever one needs what another has written, or writes where another still reads."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from loops import call, placed, plans, rnn, room, row
from replay import normal
from sharing import faults

import tinygrad_rnn as tr
from tinygrad_rnn.compiler.ir.operators import ADD
from tinygrad_rnn.compiler.native.encode import encode
from tinygrad_rnn.compiler.native.numbers import NAMES
from tinygrad_rnn.compiler.native.program import Program, Records
from tinygrad_rnn.compiler.native.sharing import waits_within
from tinygrad_rnn.compiler.plans.instructions import COPY, Loop


def without_wait(program, table_number, row):
    """Return a program that lacks one wait."""
    tables = [piece for piece in program.pieces if isinstance(piece, Records)]
    records = tables[table_number].array.copy()
    records[row]["wait"] = 0
    tables[table_number] = replace(tables[table_number], array=records)
    return Program(tables, program.buffers)


def waits(program):
    """Return (number of the table, row) of each wait."""
    tables = [piece for piece in program.pieces if isinstance(piece, Records)]
    return [(number, int(row)) for number, table in enumerate(tables) for row in np.flatnonzero(table.array["wait"])]


# -- plans ---------------------------------------------------------------------------------------------------------


def plan_of(f, *args, donate=()):
    compiled = tr.compile(f, executor="numpy", threads=1, donate=donate)
    compiled(*args)
    return compiled.plan


def training_plan(
    cell="rnn", layers=1, N=4, T=3, V=7, D=3, H=5, tied=False, dtype="float32", cut_every=None, ignored=False
):
    rng = np.random.default_rng(0)
    model = tr.RNNLM(V, D, H, rng, cell=cell, layers=layers, tied=tied, dtype=dtype)
    params = model.parameters()

    def step(ids, targets, state, lr):
        value, state = model.loss(ids, targets, state, cut_every=cut_every)
        grads = tr.grad(value, params)
        return value, {name: p - lr * grads[name] for name, p in params.items()}, state

    ids, targets = rng.integers(0, V, (2, N, T))
    if ignored:
        targets[0, 0] = -1
    return plan_of(step, ids, targets, model.initial_state(N), np.asarray(0.1, dtype))


def both_ways_plan(N):
    rng = np.random.default_rng(0)
    ahead, back = tr.LSTMCell(3, 4, rng), tr.GRUCell(3, 4, rng)

    def f(xs):
        outputs, state = tr.bidirectional(ahead, back, xs, (None, None), None, tuple(range(1, N + 1)))
        return outputs, state, tr.grad(np.sum(outputs * outputs), [ahead.parameters(), back.parameters()])

    return plan_of(f, rng.standard_normal((N, N, 3)).astype(np.float32))


def lengths_plan():
    """The backward pass multiplies by a transposed matrix, which both workers make just before its loop and copy there.

    It is large enough for the slopes of the gates to be made step by step, after which the workers wait in the loop.
    """
    rng = np.random.default_rng(0)
    model = tr.SequenceModel("lstm", 2, 40, 2, rng, last=False)
    params = model.parameters()

    def f(xs, lengths, targets):
        return tr.grad(tr.mse(model(xs, lengths=lengths), targets), params)

    return plan_of(f, normal(40, 8, 2).astype(np.float32), np.arange(40) % 8 + 1, np.zeros((40, 8, 2), np.float32))


def policy_plan(policy):
    cell = tr.RNNCell(3, 5, np.random.default_rng(0))

    def step(inputs, state):
        outputs, state = tr.unroll(cell, inputs, state)
        return np.sum(outputs * outputs), state

    def f(xs, state):
        found = tr.bptt(step, cell.parameters(), xs, state, policy)
        return found.gradients, found.state

    return plan_of(f, np.random.default_rng(1).standard_normal((3, 6, 3)).astype(np.float32), cell.initial_state(3))


def strides_plan():
    def f(x, w, ids):
        y = np.tanh(x)
        parts = [y[:, ::-1] * 2.0, np.transpose(y[::-1], (1, 0)) @ w, tr.take(w, ids, axis=0), np.exp(y)[1:, 1:]]
        wide = np.reshape(np.transpose(y, (1, 0)), (-1,))
        square = y @ np.transpose(y, (1, 0))
        parts += [np.where(y > 0.1, y, np.exp(y)) ** 3, np.mean(y, axis=1), np.maximum(y, np.mean(y, axis=0))]
        return *parts, np.sum(y, axis=0), np.sum(wide * wide, axis=0), square @ np.tanh(square)

    rng = np.random.default_rng(0)
    return plan_of(f, rng.standard_normal((6, 5)), rng.standard_normal((6, 5)), rng.integers(0, 6, (2, 3)))


def update_plan(n):
    def f(m, v, p, g, rate):
        m = 0.9 * m + 0.1 * g
        v = 0.99 * v + 0.01 * (g * g)
        return m, v, p - rate * m / (np.sqrt(v) + 1e-8), np.sum(p, axis=0)

    arrays = np.random.default_rng(0).random((4, 2, n // 2))
    return plan_of(f, *arrays, np.asarray(0.1))


def donated_plan():
    """Updates in place that read each other's parameters, by rows and by columns."""

    def f(w, p, q, x, ids):
        rows = tr.grad(np.sum(tr.take(w, ids, axis=0) * x), w)
        return w - 0.1 * rows, p * 0.5 + q[::-1], q - np.sum(p, axis=0), p @ q.T

    w = tr.tensor(normal(90, 40), requires_grad=True)
    args = w, normal(5, 40), normal(5, 40), normal(3, 5, 40), np.arange(15).reshape(3, 5) % 7
    plan = plan_of(f, *args, donate=("w", "p", "q"))
    assert sum(slot.buffer.kind == "donated" for slot in plan.outputs) == 3
    return plan


def no_ids_plan():
    """The gradient of a lookup without ids is zeros, which one worker writes and the other reads."""

    def f(x, ids):
        first = tr.grad(np.sum(tr.take(np.tanh(x), ids)) + np.sum(x * x), x, create_graph=True)
        return first, tr.grad(np.sum(first * first), x), np.exp(first), np.tanh(x)

    return plan_of(f, tr.tensor(normal(4, 5), requires_grad=True), np.zeros((0, 2), int))


PLANS = {
    "rnn": lambda: training_plan(),
    "rnn, odd batch": lambda: training_plan(N=5, dtype="float64"),
    "rnn, one stream": lambda: training_plan(N=1),
    "rnn, one stream, large": lambda: training_plan(N=1, T=6, H=112),
    "lstm, one stream, large": lambda: training_plan("lstm", N=1, T=4, H=61),
    "gru, one stream, large": lambda: training_plan("gru", N=1, T=4, H=72, dtype="float64"),
    "rnn, wide": lambda: training_plan(N=3, V=40, D=33, H=50),
    "rnn, tied": lambda: training_plan(D=5, tied=True, ignored=True),
    "lstm": lambda: training_plan("lstm"),
    "lstm, two layers, cut": lambda: training_plan("lstm", 2, N=3, T=4, cut_every=2),
    "gru": lambda: training_plan("gru"),
    "gru, two layers": lambda: training_plan("gru", 2, N=2, dtype="float64"),
    "both ways": lambda: both_ways_plan(3),
    "lengths": lengths_plan,
    "windowed": lambda: policy_plan(tr.Windowed(3, 2)),
    "strides": strides_plan,
    "donated": donated_plan,
    "no ids": no_ids_plan,
    "large update": lambda: update_plan(1 << 14),
}


@pytest.mark.sample(6)
@pytest.mark.parametrize("workers", [2, 3])
@pytest.mark.parametrize("name", PLANS)
def test_no_worker_gets_in_anothers_way(name, workers):
    plan = PLANS[name]()
    program = encode(plan, workers)
    assert sum(len(piece.array) for piece in program.pieces if isinstance(piece, Records)) > 5
    assert faults(program, plan.arena_bytes, workers) == []


@pytest.mark.sample(3)
@pytest.mark.parametrize("name", ["rnn", "rnn, one stream, large", "lstm", "gru", "strides", "large update"])
def test_waits_are_needed(name):
    """Whichever wait is taken out, some worker gets in another's way: so the oracle sees what it is there for."""
    plan = PLANS[name]()
    program = encode(plan, 2)
    needless = [one for one in waits(program) if not faults(without_wait(program, *one), plan.arena_bytes, 2)]
    assert needless == []


def test_workers_of_one_plan_alone_never_wait():
    for name in ("rnn", "large update"):
        assert waits(encode(PLANS[name](), 1)) == []


def test_no_waits_within_the_loops():
    """Streams are independent of each other: more steps are more calls, and no more waits."""
    short, long = training_plan(T=6), training_plan(T=30)
    assert long.explain().calls >= short.explain().calls + 24 * 5
    counts = [len(waits(encode(plan, 2))) for plan in (short, long)]
    assert counts[0] == counts[1] <= 14


# -- loops ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [2, 3])
@given(drawn=plans(odd=True))
def test_no_worker_gets_in_anothers_way_in_drawn_loops(drawn, workers):
    plan, _ = drawn
    assert faults(encode(plan, workers), plan.arena_bytes, workers) == []


@pytest.mark.parametrize("reverse", [False, True])
def test_streams_go_through_a_loop_side_by_side(reverse):
    """Each worker has its own: they wait for each other before the loop and after it, and never in there."""
    plan, _ = rnn(N=4, reverse=reverse)
    states = plan.outputs[0]
    own = room("output", states.shape, states.dtype, 2)
    plan = replace(plan, instructions=[*plan.instructions, call(COPY, own, states)])
    program = encode(plan, 2)
    (table,) = program.pieces
    assert [NAMES[table.array[row]["op"]] for _, row in waits(program)] == ["loop", "copy"]
    assert waits(program)[1] == (0, len(table.array) - 1)
    assert faults(program, plan.arena_bytes, 2) == []


def upside_down(slot):
    """Return its rows from the last to the first: what the first worker reads the second has written."""
    rows, stride = slot.shape[0], slot.strides[0]
    return replace(slot, offset=slot.offset + (rows - 1) * stride, strides=(-stride, *slot.strides[1:]))


def mixed_plan(case, T=8, N=4, H=3):
    """Return a plan in which streams meet: at one step, at the next, at later ones, before the loop or after it."""
    xs, out = room("input", (T, N, H), "float32"), room("output", (T, N, H), "float32", 1)
    hs, own = room("arena", (T + 3, N, H), "float32"), room("arena", (N, H), "float32")
    before, after, reverse = [call(COPY, hs, 0.0)], [], "back" in case
    body = {
        "one step": [call(COPY, own, row(xs, 0, 1)), call(COPY, row(out, 0, 1), upside_down(own))],
        "next step": [call(COPY, row(hs, 1, 1), upside_down(row(hs, 0, 1)))],
        "next step, back": [call(COPY, row(hs, 1, 1), upside_down(row(hs, 2, 1)))],
        "far": [call(COPY, row(hs, 3, 1), upside_down(row(hs, 0, 1)))],
        "far, back": [call(COPY, row(hs, 0, 1), upside_down(row(hs, 3, 1)))],
        "far, from the end": [call(COPY, row(hs, T - 1, -1), upside_down(row(hs, T + 2, -1)))],
        "never": [call(COPY, row(hs, 0, 1), upside_down(row(hs, 3, 1)))],  # of three steps
        "before": [call(ADD, row(out, 0, 1), row(hs, 0, 1), row(xs, 0, 1))],
        "after": [call(COPY, row(hs, 0, 1), row(xs, 0, 1))],
        "after, back": [call(COPY, row(hs, 0, 1), row(xs, 0, 1))],
        "a wait between": [call(COPY, row(hs, 1, 1), upside_down(row(hs, 0, 1)))],
        "after the last wait": [call(COPY, row(hs, 1, 1), upside_down(row(hs, 0, 1)))],
    }
    if case == "before":  # what is read at the last step only
        before = [call(COPY, upside_down(row(hs, T - 1)), row(xs, 0))]
    if case == "a wait between":  # what is before the loop and what is after it
        before.append(call(COPY, own, row(xs, 0)))
        after = [call(COPY, row(out, 0), upside_down(own))]
    if case.startswith("after"):
        after = [call(COPY, row(out, 0), upside_down(row(hs, 0 if reverse else T if "wait" in case else T - 1)))]
    return placed([*before, Loop(tuple(body[case]), 3 if case == "never" else T, reverse), *after], [xs], [out])


@pytest.mark.parametrize(
    ("case", "count"),
    [
        *[("one step", 2), ("next step", 1), ("next step, back", 1), ("far", 1), ("far, back", 1)],
        *[("far, from the end", 1), ("never", 1), ("before", 1), ("after", 2), ("after, back", 2)],
        ("after the last wait", 2),
        ("a wait between", 1),
    ],
)
def test_streams_that_meet_in_loops_wait(case, count):
    plan = mixed_plan(case)
    program = encode(plan, 2)
    assert faults(program, plan.arena_bytes, 2) == []
    found = waits(program)
    assert [one for one in found if not faults(without_wait(program, *one), plan.arena_bytes, 2)] == []
    assert len(found) == count


spans = st.tuples(
    st.integers(0, 1), st.integers(-9, 9), st.integers(1, 5), st.booleans(), st.sampled_from([0, 3, -3, 2])
)
parts = st.lists(spans, max_size=2).map(lambda found: [(m, start, start + n, w, by) for m, start, n, w, by in found])


@given(calls=st.lists(st.tuples(parts, parts), min_size=1, max_size=4), turns=st.integers(1, 9), around=st.booleans())
def test_waits_within_hold_at_each_turn(calls, turns, around):
    """Between two waits no worker touches what the other writes, at whatever turns; without any need nobody waits."""

    def places(span, turn):
        memory, start, stop, writes, by = span
        return {(memory, byte + turn * by) for byte in range(start, stop)}, writes

    def meet(first, turn, second, turn2):
        (bytes1, writes1), (bytes2, writes2) = places(first, turn), places(second, turn2)
        return (writes1 or writes2) and bool(bytes1 & bytes2)

    found = waits_within(calls, turns, around)
    needed = False
    for together in [range(turns)] if around else [[turn] for turn in range(turns)]:
        since = []
        for turn in together:
            for number, parts in enumerate(calls):
                before = list(since)
                if found[number]:
                    since = []
                for worker in (0, 1):
                    for parts2, turn2 in before:
                        clash = any(meet(a, turn, b, turn2) for a in parts[worker] for b in parts2[1 - worker])
                        needed = needed or clash
                        assert not clash or found[number]
                since.append((parts, turn))
    alike = len({span[4] for pair in calls for part in pair for span in part}) <= 1
    assert needed or not any(found) or not alike
