"""Workers wait wherever one needs what another has written, or writes where another still reads.

The oracle knows nothing of how waits are found: it takes the records as source/call.h describes them, lists every byte
that each worker reads and writes, and looks for bytes that two workers touch between two waits.
"""

from dataclasses import dataclass, replace

import numpy as np
import pytest

import tinygrad_rnn as tr
from tinygrad_rnn.compiler.native.encode import Program, Table, encode

NAMES = [
    *("add", "subtract", "multiply", "divide", "maximum", "minimum", "power", "copy", "negative", "sqrt", "relu"),
    *("exp", "tanh", "sigmoid", "log", "less", "less_equal", "greater", "greater_equal", "equal", "not_equal", "where"),
    *("matmul", "sum_rows", "sum_along", "take", "take_back", "loss", "mean", "chain", "convert"),
]
COMPARISONS = NAMES[NAMES.index("less") : NAMES.index("where")]
OUT, A, B, C = range(4)


# -- the oracle ----------------------------------------------------------------------------------------------------


def border(call, worker, workers):
    n = int(call["n"][1 if call["split"] == 2 else 0])
    if worker == workers:
        return n
    at = n * worker // workers
    return at // 16 * 16 if call["split"] == 2 else at


def touched(call, operand, *axes, size=None):
    """Return (memory, bytes) of the elements of an operand at all combinations of indices, (step, indices) an axis."""
    elements = np.zeros(1, np.int64)
    for step, indices in axes:
        elements = (elements[:, None] + int(step) * np.asarray(indices, np.int64)).reshape(-1)
    size = size or (8 if call["type"] else 4)
    starts = np.unique(elements) * size + int(call["offset"][operand])
    return int(call["base"][operand]), (starts[:, None] + np.arange(size)).reshape(-1)


def ids(call, rows):
    rows, length = np.asarray(rows, np.int64), int(call["n"][2])
    elements = rows // length * call["s"][B][0] + rows % length * call["s"][B][1]
    return touched(call, B, (1, elements), size=8)


def part(call, lo, hi):
    """Return (what is read, what is written) in rows or columns lo to hi of a call: lists of (memory, bytes)."""
    name, n, s = NAMES[call["op"]], [int(length) for length in call["n"]], call["s"]
    mine, all_of = range(lo, hi), [range(length) for length in n]
    if name == "matmul":
        rows, columns = (all_of[0], mine) if call["split"] == 2 else (mine, all_of[1])
        left = touched(call, A, (s[A][0], rows), (s[A][1], all_of[2]))
        right = touched(call, B, (s[B][0], all_of[2]), (s[B][1], columns))
        return [left, right] if n[2] else [], [touched(call, OUT, (s[OUT][0], rows), (1, columns))]
    if name == "sum_along":
        rows = touched(call, A, (s[A][0], mine), (1, all_of[1]))
        return [rows], [touched(call, OUT, (s[OUT][0], mine))]
    if name == "sum_rows":
        return [touched(call, A, (s[A][0], all_of[0]), (1, mine))], [touched(call, OUT, (1, mine))]
    if name == "take":
        table = touched(call, A, (s[A][0], all_of[3]), (1, all_of[1]))
        return [table, ids(call, mine)], [touched(call, OUT, (s[OUT][0], mine), (1, all_of[1]))]
    if name == "take_back":
        rows = touched(call, A, (s[A][0], all_of[0]), (1, mine))
        return [rows, ids(call, all_of[0])], [touched(call, OUT, (n[1], all_of[3]), (1, mine))]
    if name == "loss":
        logits, gradient = (touched(call, k, (s[k][0], mine), (1, all_of[1])) for k in (A, OUT))
        return [logits, ids(call, all_of[0])], [gradient, touched(call, C, (1, mine), size=8)]
    if name == "mean":
        return [touched(call, A, (1, all_of[0]), size=8), ids(call, all_of[0])], [touched(call, OUT)]
    if name == "convert":
        return [touched(call, A, (1, mine), size=4 if call["type"] else 8)], [touched(call, OUT, (1, mine))]
    # What is no memory, but a number or a line of a chain, is left out by `faults`.
    found = []
    for k in range(4):
        size = 1 if (k == OUT and name in COMPARISONS) or (k == C and name == "where") else None
        found.append(touched(call, k, *zip(s[k], [mine, *all_of[1:3]], strict=True), size=size))
    return found[1:], found[:1]


def units(records):
    """Yield (call, the records that it does): of a chain those that follow, as one-dimensional calls."""
    number = 0
    while number < len(records):
        call = records[number]
        members = [call]
        if NAMES[call["op"]] == "chain":
            members = [row.copy() for row in records[number + 1 : number + 1 + int(call["n"][1])]]
            number += len(members)
            for row in members:
                row["n"] = [call["n"][0], 1, 1, 1]
        number += 1
        yield call, members


@dataclass
class Bytes:
    """What a worker has touched since the last wait: a flag for each byte of each memory."""

    read: list
    written: list


def faults(program, arena_bytes, workers):
    """Return the numbers of calls (table, call) in which workers get in each other's way."""
    sizes = [arena_bytes, *(buffer.nbytes for buffer in program.buffers)]
    found = []
    for table_number, table in enumerate(piece for piece in program.pieces if isinstance(piece, Table)):
        seen = []
        for number, (call, members) in enumerate(units(table.records)):
            if call["wait"] or not seen:
                seen = [Bytes(*([np.zeros(size, bool) for size in sizes] for _ in "rw")) for _ in range(workers)]
            for worker, own in enumerate(seen):
                lo, hi = 0, int(call["n"][0])
                if call["split"]:
                    lo, hi = border(call, worker, workers), border(call, worker + 1, workers)
                elif worker:
                    continue
                for record in members:
                    if lo == hi:
                        continue
                    for flags, parts in zip((own.read, own.written), part(record, lo, hi), strict=True):
                        for memory, places in parts:
                            if memory >= 0 and len(places):
                                assert places.min() >= 0, (number, NAMES[record["op"]])
                                assert places.max() < sizes[memory], (number, NAMES[record["op"]])
                                flags[memory][places] = True
            for worker, own in enumerate(seen):
                for other in seen[:worker] + seen[worker + 1 :]:
                    pairs = zip(own.read, own.written, other.written, strict=True)
                    if any(np.any((read | written) & theirs) for read, written, theirs in pairs):
                        found.append((table_number, number))
    return sorted(set(found))


def without_wait(program, table_number, row):
    """Return a program that lacks one wait."""
    tables = [piece for piece in program.pieces if isinstance(piece, Table)]
    records = tables[table_number].records.copy()
    records[row]["wait"] = 0
    tables[table_number] = replace(tables[table_number], records=records)
    return Program(tables, program.buffers)


def waits(program):
    """Return (number of the table, row) of each wait."""
    tables = [piece for piece in program.pieces if isinstance(piece, Table)]
    return [(number, int(row)) for number, table in enumerate(tables) for row in np.flatnonzero(table.records["wait"])]


# -- plans ---------------------------------------------------------------------------------------------------------


def plan_of(f, *args):
    compiled = tr.compile(f, executor="numpy", threads=1)
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


PLANS = {
    "rnn": lambda: training_plan(),
    "rnn, odd batch": lambda: training_plan(N=5, dtype="float64"),
    "rnn, one stream": lambda: training_plan(N=1),
    "rnn, wide": lambda: training_plan(N=3, V=40, D=33, H=50),
    "rnn, tied": lambda: training_plan(D=5, tied=True, ignored=True),
    "lstm": lambda: training_plan("lstm"),
    "lstm, two layers, cut": lambda: training_plan("lstm", 2, N=3, T=4, cut_every=2),
    "gru": lambda: training_plan("gru"),
    "gru, two layers": lambda: training_plan("gru", 2, N=2, dtype="float64"),
    "both ways": lambda: both_ways_plan(3),
    "windowed": lambda: policy_plan(tr.Windowed(3, 2)),
    "strides": strides_plan,
    "large update": lambda: update_plan(1 << 14),
}


@pytest.mark.parametrize("workers", [2, 3])
@pytest.mark.parametrize("name", PLANS)
def test_no_worker_gets_in_anothers_way(name, workers):
    plan = PLANS[name]()
    program = encode(plan, workers)
    assert sum(len(piece.records) for piece in program.pieces if isinstance(piece, Table)) > 5
    assert faults(program, plan.arena_bytes, workers) == []


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru", "strides", "large update"])
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
    assert len(long.instructions) >= len(short.instructions) + 24 * 5
    counts = [len(waits(encode(plan, 2))) for plan in (short, long)]
    assert counts[0] == counts[1] <= 14
