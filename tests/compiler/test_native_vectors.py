"""One stream: workers share the columns of its state, if the matrix is large."""

import numpy as np
import pytest
from loops import rnn
from replay import need_library, small_plans_shared

import tinygrad_rnn as tr
from tinygrad_rnn.compiler.native.encode import encode
from tinygrad_rnn.compiler.native.numbers import NAMES
from tinygrad_rnn.compiler.native.vectors import IN_LINES

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
    assert list(record["n"]) == ([H, 1, H, 1] if shared else [N, H, H, 1])
