"""One stream: workers share the columns of its state, if the matrix is large."""

from unittest import mock

import numpy as np
import pytest
from loops import TANH, call, placed, rnn, room, row
from replay import need_library, small_plans_shared

import tinygrad_rnn as tr
from tinygrad_rnn.compiler.ir.operators import MATMUL
from tinygrad_rnn.compiler.native import encode as encode_module
from tinygrad_rnn.compiler.native.encode import encode
from tinygrad_rnn.compiler.native.numbers import NAMES
from tinygrad_rnn.compiler.native.vectors import IN_LINES, STAYS
from tinygrad_rnn.compiler.plans.instructions import COPY, Loop
from tinygrad_rnn.compiler.replay.executor import Executor

SIZES = {"rnn": [112, 113, 200], "lstm": [60, 61], "gru": [70, 97]}


def updates(cell, H, dtype, threads):
    """Return the results of some steps, as bytes."""
    model = tr.RNNLM(9, 5, H, np.random.default_rng(0), cell=cell, dtype=dtype)
    params = model.parameters()

    def step(ids, targets, state):
        value, state = model.loss(ids, targets, state)
        return value, tr.grad(value, params), state

    rng, found = np.random.default_rng(1), []
    compiled, state = tr.compile(step, executor="native", threads=threads), model.initial_state(1)
    for _ in range(3):
        ids, targets = rng.integers(0, 9, (2, 1, 40))
        with small_plans_shared():
            value, grads, state = compiled(ids, targets, state)
        found += [value.tobytes(), *(gradient.tobytes() for gradient in grads.values())]
    return found


@pytest.mark.sample(5)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("cell", "H"), [(cell, H) for cell, sizes in SIZES.items() for H in sizes])
def test_any_number_of_workers_computes_the_same_bits(cell, H, dtype):
    """With more workers than processors, some are late, and worker 0 does their parts."""
    need_library()
    alone = updates(cell, H, dtype, 1)
    for threads in (2, 3, 4):
        assert updates(cell, H, dtype, threads) == alone


def product_of(plan, workers):
    (table,) = encode(plan, workers).pieces
    (record,) = [record for record in table.array if NAMES[record["op"]] == "matmul"]
    return record


@pytest.mark.parametrize(
    ("N", "H", "workers", "shared"), [(1, 112, 2, True), (1, 110, 2, False), (2, 112, 2, False), (1, 112, 1, False)]
)
def test_which_loops_are_shared(N, H, workers, shared):
    record = product_of(rnn(N=N, H=H)[0], workers)
    assert (record["split"] == IN_LINES) == shared
    assert list(record["n"]) == ([H, 1, H, STAYS] if shared else [N, H, H, STAYS])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("H", [16, 17, 33, 64, 97])
@pytest.mark.parametrize("N", [1, 2, 7, 11, 12, 13, 40])
def test_a_matrix_that_is_copied_for_a_loop_gives_the_same_bits(N, H, dtype):
    """Rows that begin in the middle of cache lines are copied, and large matrices, with 16 registers, if N > 12.

    Without the note in the record they are not.
    """
    need_library()
    copied, read = copied_and_read(*rnn(N=N, H=H, dtype=dtype), 1)
    assert copied == read


@pytest.mark.parametrize(("N", "H", "workers"), [(20, 260, 2), (14, 715, 2), (30, 150, 3), (14, 1100, 1)])
def test_a_large_matrix_that_is_packed_for_a_loop_gives_the_same_bits(N, H, workers):
    """Workers share rows, or columns of more than a MiB; K is done in parts; the last one does not fit and is read."""
    need_library()
    copied, read = copied_and_read(*rnn(N=N, H=H, dtype="float64"), workers)
    assert copied == read


def copied_and_read(plan, arrays, workers):
    """Return the results, as bytes, with and without the note that a matrix is loop-invariant."""
    found = []
    for note in (encode_module.note_matrices, lambda steps, loop: steps):
        with small_plans_shared(), mock.patch.object(encode_module, "note_matrices", note):
            results = Executor(plan, threads=workers, native=True).run(arrays)
        found.append([array.tobytes() for array in results])
    return found


@pytest.mark.parametrize(("H", "workers"), [(17, 1), (130, 2)])
def test_a_matrix_that_changes_is_not_copied(H, workers):
    """h_t = tanh(h_{t-1} @ w), and then the next w is written over it."""
    T = 12
    ws, hs = room("input", (T, H, H), "float32"), room("output", (T + 1, 1, H), "float32")
    w, hidden = room("arena", (H, H), "float32"), room("arena", (1, H), "float32")
    start = [call(COPY, row(hs, 0), 0.5), call(COPY, w, row(ws, 0))]
    body = [call(MATMUL, hidden, row(hs, 0, 1), w), call(TANH, row(hs, 1, 1), hidden), call(COPY, w, row(ws, 0, 1))]
    plan = placed([*start, Loop(tuple(body), T, False)], [ws], [hs])
    weights = np.random.default_rng(0).standard_normal(ws.shape).astype(np.float32) / H
    with small_plans_shared():
        (expected,), (found,) = (
            Executor(plan, threads=workers, native=native).run([weights]) for native in (False, True)
        )
    assert np.allclose(found, expected, atol=1e-6)
    assert product_of(plan, workers)["n"][3] != STAYS
