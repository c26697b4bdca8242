"""Plans: results that are computed over operands, and operands that are still needed and are not."""

import numpy as np
import pytest
from liveness import cells
from replay import leaf, names, normal, planned

import tinygrad_rnn as tr
from tinygrad_rnn.compiler.replay.executor import Executor

N, T, D, H, V = 2, 5, 3, 4, 6


OVER = {
    "chain": lambda x: np.sum(1 - np.tanh(np.exp(x) * 2.0)),
    "second_operand": lambda x: np.sum(x * np.exp(x)),
    "both_operands": lambda x: np.sum((lambda y: y * y)(np.exp(x))),
    "reshaped": lambda x: np.sum(np.tanh(np.exp(x).reshape(-1))),
    "smaller_beside_it": lambda x: np.sum(np.exp(x) - x[:, 0]),
    "sigmoid": lambda x: np.sum(tr.sigmoid(np.exp(x))),
    "slice": lambda x: np.sum(np.tanh(np.exp(x)[1:3])),
}


@pytest.mark.parametrize("function", OVER.values(), ids=OVER)
def test_elementwise_results_are_computed_over_operands_that_nobody_needs_any_more(function):
    plan = planned(function, normal(4, 4), without="all")
    made = [i.outputs[0].buffer for i in plan.instructions if i.outputs[0].shape != ()]
    assert len(made) > 1
    assert len({id(buffer) for buffer in made}) == 1
    np.testing.assert_allclose(Executor(plan).run([normal(4, 4)])[0], function(normal(4, 4)), rtol=1e-14)


def test_a_result_is_computed_where_it_is_returned():
    plan = planned(lambda x: np.tanh(np.exp(x)), normal(4, 4), without="all")
    assert names(plan) == ["exp", "tanh"]


IN_RESULTS = {
    "product": (lambda x: x @ x + 1.0, 0),
    "chain": (lambda x: np.tanh(np.exp(x) * 2.0 - x), 0),
    "two results": (lambda x: (x @ x + 1.0, np.exp(x) * 2.0), 0),
    "parts of a stack": (lambda x: np.concatenate([x @ x + 1.0, x @ x.T + x]), 0),
    "an operand that is returned too": (lambda x: (lambda y: (y, np.tanh(y)))(x @ x), 0),
    "an operand that is read again": (lambda x: (lambda y: (np.tanh(y), np.sum(y)))(x @ x), 4 * 4 * 8),
    "an operand that is turned": (lambda x: (x @ x).T * 2.0, 4 * 4 * 8),
}


@pytest.mark.parametrize(("function", "nbytes"), IN_RESULTS.values(), ids=IN_RESULTS)
def test_operands_of_a_result_are_made_where_it_lies(function, nbytes):
    plan = planned(function, normal(4, 4), without="all")
    assert plan.arena_bytes == nbytes
    expected = function(normal(4, 4))
    for _ in range(2):
        found = Executor(plan).run([normal(4, 4)])
        for value, right in zip(found, expected if isinstance(expected, tuple) else [expected], strict=True):
            np.testing.assert_allclose(value, right, rtol=1e-14)


def used_later(x):
    y = np.exp(x)
    return np.sum(np.tanh(y)), np.sum(y)


def seen_later(x):
    y = np.exp(x)
    z = np.tanh(y.T.T)
    return np.sum(z), np.sum(y[1:])


def a_view_used_later(x):
    y = np.exp(x)
    view = y[1:]
    return np.sum(np.tanh(y)), np.sum(view)


def in_another_order(x):
    y = np.exp(x)
    return np.sum(y - y.T)


def a_row_of_itself(x):
    y = np.exp(x)
    return np.sum(y - y[0])


def returned(x):
    y = np.exp(x)
    return y, np.sum(np.tanh(y))


def a_view_returned(x):
    y = np.exp(x)
    return y.T, np.sum(np.tanh(y))


def a_part_of_a_stack_used_later(x):
    y = np.exp(x)
    return np.sum(np.tanh(tr.stack([y, np.tanh(x)]))), np.sum(y)


def only_operand_of_a_stack_used_later(x):
    y = np.exp(x)
    return np.sum(np.tanh(tr.stack([y]).reshape(4, 4))), np.sum(y)


def a_part_of_a_buffer(x):
    first, second = np.split(np.exp(x), 2)
    return np.sum(np.tanh(first)), np.sum(second)


def the_parts_of_a_stack_of_views(x):
    rows = np.unstack(np.exp(x))
    whole = tr.stack(rows)
    return np.sum(np.tanh(rows[0])), np.sum(np.tanh(np.exp(x) + rows[1])), np.sum(np.tanh(whole)), np.sum(whole)


def other_dtype(x):
    whole = np.astype(np.exp(x) * 8, np.int64)
    return np.sum(np.astype(np.exp(x), np.float32)), np.sum(np.exp(x) > 1), np.sum(whole * 0.5)


def chosen_by_itself(x):
    y = np.exp(x)
    return np.sum(np.where(x > 1, y, x))


def test_a_choice_is_not_made_in_place():
    plan = planned(chosen_by_itself, normal(4, 4), without="all")
    (chosen,) = (i for i in plan.instructions if i.operator.name == "where")
    assert not any(part.buffer is chosen.outputs[0].buffer for part in chosen.inputs)


@pytest.mark.parametrize(
    "function",
    [
        used_later,
        seen_later,
        a_view_used_later,
        a_view_returned,
        in_another_order,
        a_row_of_itself,
        returned,
        a_part_of_a_stack_used_later,
        only_operand_of_a_stack_used_later,
        a_part_of_a_buffer,
        the_parts_of_a_stack_of_views,
        other_dtype,
    ],
)
def test_operands_that_somebody_needs_are_not_written_over(function):
    plan = planned(function, normal(4, 4), without="all")
    for instruction in plan.instructions:
        for read in (part for part in instruction.inputs if hasattr(part, "buffer")):
            for written in instruction.outputs:
                assert read == written or not (read.buffer is written.buffer and set(cells(read)) & set(cells(written)))
    expected = function(normal(4, 4))
    for got, want in zip(
        Executor(plan).run([normal(4, 4)]), expected if isinstance(expected, tuple) else [expected], strict=True
    ):
        np.testing.assert_allclose(got, want, rtol=1e-14 if got.dtype == np.float64 else 1e-6)


def test_the_gradient_of_logits_is_written_over_them():
    W = leaf(H, 50)

    def f(x, ids):
        loss = tr.cross_entropy(x @ W, ids)
        return loss, tr.grad(loss, W)

    args = normal(10, H), np.arange(10)
    plan = planned(f, *args)
    (fused,) = (i for i in plan.instructions if i.operator.name == "loss_and_gradient")
    assert fused.outputs[1].buffer is fused.inputs[0].buffer
    step, results = tr.compile(f), f(*args)
    for got, want in zip(step(*args), results, strict=True):
        np.testing.assert_allclose(got, want.data if isinstance(want, tr.Tensor) else want, rtol=1e-12, atol=1e-15)


def logits_returned(x, ids, W):
    logits = x @ W
    return tr.cross_entropy(logits, ids), logits


def logits_used_again(x, ids, W):
    logits = x @ W
    return tr.cross_entropy(logits, ids), tr.softmax(logits)


def logits_are_broadcast(x, ids, W):
    return tr.cross_entropy(np.broadcast_to(np.sum(x @ W, axis=0), (len(x), W.shape[1])), ids), x


def logits_are_an_input(x, ids, W):
    return tr.cross_entropy(W * 1.0, ids[: W.shape[0]]), tr.cross_entropy(W, ids[: W.shape[0]])


def logits_are_slices(x, ids, W):
    logits = tr.stack([x @ W, np.tanh(x @ W)])
    return tr.cross_entropy(logits[0], ids), np.sum(logits[1])


def logits_are_joined(x, ids, W):
    first, second = (x @ W)[:4], np.tanh(x @ W)[4:]
    top = np.exp(first)
    return tr.cross_entropy(tr.concatenate([top, second]), ids), top * top


@pytest.mark.parametrize(
    "function",
    [
        logits_returned,
        logits_used_again,
        logits_are_broadcast,
        logits_are_an_input,
        logits_are_slices,
        logits_are_joined,
    ],
)
def test_logits_that_somebody_needs_are_not_written_over(function):
    W = leaf(H, V)

    def f(x, ids):
        loss, other = function(x, ids, W)
        return loss, other, tr.grad(loss, W)

    args = normal(V, H), np.arange(V)
    for got, want in zip(tr.compile(f)(*args), f(*args), strict=True):
        np.testing.assert_allclose(got, want.data if isinstance(want, tr.Tensor) else want, rtol=1e-12, atol=1e-15)
