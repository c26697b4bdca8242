"""A record that would reach beyond an operand, or beyond the memory of one, is refused when its table is made."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from replay import normal

import tinygrad_rnn as tr
from tinygrad_rnn.compiler.native.encode import encode
from tinygrad_rnn.compiler.native.extents import check_extents
from tinygrad_rnn.compiler.native.numbers import NAMES
from tinygrad_rnn.compiler.native.records import records_of

X, W = normal(4, 6, seed=0), normal(6, 5, seed=1)


def calls(x, ids):
    """Every kind of record."""
    loss = tr.cross_entropy(x @ W, ids)
    return (
        *(loss, tr.grad(loss, x), np.sum(x, axis=0), np.mean(x, axis=1), np.where(x > 0, x, 0), np.tanh(x[:, ::-1])),
        *(
            tr.log_softmax(x),
            tr.logsumexp(x, axis=1),
            np.sum(x.reshape(2, 2, 6), axis=1),
            np.astype(ids, float),
            np.astype(x, np.int64),
        ),
        *(tr.take(x, ids, axis=0), tr.grad(np.sum(tr.take(x * x, ids, axis=0)), x), np.astype(x, np.float32)),
    )


@pytest.fixture(scope="module")
def plan():
    compiled = tr.compile(calls, executor="numpy")
    compiled(tr.tensor(X, requires_grad=True), np.array([3, 0, 2, 1]))
    return compiled.plan


@pytest.fixture(scope="module")
def records(plan):
    found = [record for instruction in plan.instructions for record in records_of(instruction) or ()]
    kinds = {NAMES[record.op] for record in found}
    assert {
        "matmul",
        "sum_rows",
        "sum_along",
        "sum_middle",
        "log_softmax",
        "logsumexp",
        "from_whole",
        "to_whole",
        "take",
        "take_back",
        "loss_and_gradient",
        "mean_nats",
        "convert",
        "where",
    } <= kinds
    return found


@given(data=st.data(), size=st.integers(1, 9))
def test_a_larger_size_is_refused(records, data, size):
    """Whichever size of a record grows so far that an operand must end before it."""
    record = data.draw(st.sampled_from(records))
    check_extents(record)
    axis = data.draw(st.integers(0, len(record.n) - 1))
    if NAMES[record.op] in ("take", "take_back", "loss_and_gradient", "mean_nats") and axis == 2:
        return  # the length of a row of ids: a longer one is another way to look at them
    n = list(record.n)
    n[axis] += 1000 * size
    with pytest.raises(RuntimeError, match=f"of {NAMES[record.op]} over .* would reach beyond its array of shape"):
        check_extents(replace(record, n=tuple(n)))


def test_memory_that_is_too_small_is_refused(plan, records):
    for record in records:
        for operand in record.operands:
            if operand.slot is not None and operand.slot.buffer.nbytes:
                small = replace(operand.slot, offset=operand.slot.buffer.nbytes)
                changed = tuple(replace(o, slot=small) if o is operand else o for o in record.operands)
                with pytest.raises(RuntimeError, match="would reach beyond"):
                    check_extents(replace(record, operands=changed))


def test_a_plan_with_a_wrong_shape_is_refused(plan):
    """What a constant with an axis too many once did: the result was memory of somebody else."""
    number, call = next((n, i) for n, i in enumerate(plan.instructions) if i.operator.name == "tanh")
    slot = call.outputs[0]
    wide = replace(slot, shape=(2 * slot.shape[0], *slot.shape[1:]))
    wrong = [*plan.instructions]
    wrong[number] = replace(call, outputs=(wide,))
    with pytest.raises(RuntimeError, match="please report"):
        encode(replace(plan, instructions=wrong), 1)
