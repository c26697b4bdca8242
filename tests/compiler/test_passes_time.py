"""Passes over the steps of a sequence: each alone computes the same, and does what it is for."""

import numpy as np
import pytest
from replay import counts, leaf, normal, record, rewritten

import tinygrad_rnn as tr
from tinygrad_rnn.compiler.passes.reassociate import reassociate
from tinygrad_rnn.compiler.passes.simplify import cancel_inverses, merge_subexpressions, remove_dead_code, stacks_first
from tinygrad_rnn.compiler.passes.sums import defer_sums
from tinygrad_rnn.compiler.passes.time_first import flat_products, time_first

N, T, D, H, V = 2, 5, 3, 4, 6


def rnn(w_in, w, b):
    """Return a function of x (N, T, D) that unrolls h' = tanh(x @ w_in + h @ w + b), with gradients."""

    def f(x):
        h, outputs = np.zeros((len(x), w.shape[0])), []
        for t, step in enumerate(np.unstack(x, axis=1)):
            with tr.at_step(t):
                h = np.tanh(step @ w_in + h @ w + b)
            outputs.append(h)
        y = tr.stack(outputs, axis=1)
        return y, tr.grad(np.sum(y * y), [w_in, w, b])

    return f


# -- time first --------------------------------------------------------------------------------------------------------


def test_stacks_join_along_their_first_axis():
    graph = rewritten(lambda x: tr.stack([x, x + 1], axis=1), (normal(3, 4),), stacks_first)
    (stack,) = (call for call in graph.calls if call.name == "stack")
    assert stack.attrs["axis"] == 0
    assert graph.outputs[0].shape == (3, 2, 4)


TURNED = {
    "product": lambda x, w, b: (np.transpose(x, (1, 0, 2)) @ w, None)[0],
    "bias": lambda x, w, b: np.tanh(np.transpose(x, (1, 0, 2)) + b) * 2.0,
    "two_operands": lambda x, w, b: np.transpose(x, (1, 0, 2)) * np.transpose(x, (1, 0, 2)),
    "unstack": lambda x, w, b: tr.stack(np.unstack(np.transpose(x, (1, 0, 2)))),
    "column_sums": lambda x, w, b: np.sum(np.transpose(x, (1, 0, 2)), axis=(0, 1)),
    "number_where": lambda x, w, b: np.where(np.transpose(x, (1, 0, 2)) > 0, np.transpose(x, (1, 0, 2)), 0.5),
}


@pytest.mark.parametrize("function", TURNED.values(), ids=TURNED)
def test_transposes_move_behind_what_works_on_rows(function):
    args = (normal(N, T, D), normal(D, H), normal(D))
    graph = rewritten(function, args, stacks_first, time_first, remove_dead_code)
    turned = {call.output for call in graph.calls if call.name == "transpose"}
    readers = [call for call in graph.calls if turned & set(call.values())]
    assert readers == []  # nothing but the output is turned


def other_operand(x, w, b):
    return np.transpose(x, (1, 0, 2)) + w


def last_axis(x, w, b):
    return np.sum(np.transpose(x, (0, 2, 1)) * 2.0, axis=1)


def some_axes(x, w, b):
    return np.sum(np.transpose(x, (1, 0, 2)), axis=0), np.sum(np.transpose(x, (1, 0, 2)), keepdims=True)


def different_orders(x, w, b):
    cube = (b[:, None, None, None] * 2.0 + b[:, None, None] * 3.0) * b[:, None] + np.arange(2.0)
    return np.transpose(cube, (1, 0, 2, 3)) * np.transpose(cube, (2, 0, 1, 3))


def negative_axes(x, w, b):
    return np.unstack(np.transpose(x, (-2, 0, -1)), axis=-2)[1], np.transpose(x) * 2.0


@pytest.mark.parametrize("function", [other_operand, last_axis, some_axes, different_orders, negative_axes])
def test_transposes_stay_where_their_order_matters(function):
    rewritten(function, (normal(N, T, D), normal(N, D), normal(D)), stacks_first, time_first, remove_dead_code)


def test_lookups_and_the_loss_take_their_ids_in_the_other_order():
    table, w = leaf(V, H), leaf(H, V, seed=1)

    def f(ids):
        logits = tr.stack(np.unstack(tr.take(table, ids, axis=0), axis=1), axis=1) @ w
        value = tr.cross_entropy(logits, ids)
        return value, tr.grad(value, [table, w])

    ids = np.random.default_rng(0).integers(0, V, (N, T))
    passes = (
        stacks_first,
        time_first,
        cancel_inverses,
        time_first,
        flat_products,
        cancel_inverses,
        merge_subexpressions,
        remove_dead_code,
    )
    graph = rewritten(f, (ids,), *passes)
    assert (T, N, H) in [call.output.shape for call in graph.calls if call.name == "take"]
    (loss_call,) = (call for call in graph.calls if call.name == "cross_entropy")
    assert loss_call.inputs[0].shape == (T, N, V)


def test_a_table_of_matrices_keeps_the_axes_of_its_rows():
    table = leaf(V, 2, 3)

    def f(ids):
        taken = np.transpose(tr.take(table, ids, axis=0), (1, 0, 2))
        return taken, tr.grad(np.sum(taken**2), table)

    rewritten(f, (np.array([0, 5, 5, 1]),), time_first)


def test_products_of_stacks_of_rows_become_products_of_matrices():
    w = leaf(D, H)

    def f(x):
        y = x @ w
        return y, tr.grad(np.sum(y * y), w)

    graph = rewritten(f, (normal(N, T, D),), flat_products, cancel_inverses, remove_dead_code)
    assert all(part.ndim == 2 for call in graph.calls if call.name == "matmul" for part in call.inputs)


def test_rows_that_are_summed_lose_their_order():
    def f(a, b):
        rows = [np.transpose(part, (1, 0, 2)).reshape(-1, part.shape[-1]) for part in (a, b)]
        return rows[0].T @ rows[1]

    graph = rewritten(f, (normal(N, T, D), normal(N, T, H)), flat_products, cancel_inverses, remove_dead_code)
    assert all(call.output.ndim == 2 for call in graph.calls if call.name == "transpose")


# -- regroup -----------------------------------------------------------------------------------------------------------


def test_gradients_of_weights_become_one_product_over_all_steps():
    w_in, w, b = leaf(D, H), leaf(H, H, seed=1), leaf(H, seed=2)
    graph = rewritten(
        rnn(w_in, w, b), (normal(N, T, D),), cancel_inverses, merge_subexpressions, defer_sums, remove_dead_code
    )
    outer = [call for call in graph.calls if call.name == "matmul" and call.output.shape in ((D, H),)]
    assert len(outer) == 1
    assert outer[0].inputs[0].shape == (D, T * N)
    sums = [call for call in graph.calls if call.name == "sum" and call.output.shape == (H,)]
    assert len(sums) <= 1


def test_products_of_different_numbers_of_rows_are_not_joined():
    w_in, w, b = leaf(D, H), leaf(H, H, seed=1), leaf(H, seed=2)

    def f(x, other):
        (y, _), (z, _) = (rnn(w_in, w, b)(part) for part in (x, other))
        return tr.grad(np.sum(y * y) + np.sum(z * z), [w_in, w, b])

    rewritten(f, (normal(2, T, D), normal(3, T, D)), cancel_inverses, defer_sums)


def test_what_is_ready_early_is_combined_first():
    w = leaf(H, H)

    def f(x, h, b):
        for t in range(3):
            with tr.at_step(t):
                h = (h @ w + x[t]) + b
        return h

    graph = rewritten(f, (normal(3, N, H), normal(N, H), normal(H)), reassociate)
    sums = [call for call in graph.calls if call.name == "add"]
    assert [all(part.maker is None or part.maker.name != "matmul" for part in call.inputs) for call in sums] == [
        True,
        False,
    ] * 3


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numbers_in_a_chain_do_not_change_its_type(dtype):
    # 2.0 * 3.0, computed first, would be a float64 array, and take float32 with it
    def f(x):
        return 2.0 * x * 3.0 * (x + 1), 2 + x + 3 + x

    recorded = record(f, normal(3).astype(dtype))
    graph = reassociate(recorded.graph)
    assert [value.dtype for value in graph.outputs] == [dtype, dtype]


def test_a_sum_that_somebody_else_reads_stays():
    def f(a, b, c):
        part = a + b
        return part + c, part

    graph = rewritten(f, (normal(3), normal(3), normal(3)), reassociate)
    assert counts(graph)["add"] == 2


def test_broadcast_operands_of_a_chain():
    rewritten(lambda a, b, c: (a + b) + c, (normal(3, 1), normal(4), normal(3, 4)), reassociate)
    rewritten(lambda a, b, c: (a * b) * c, (normal(1), normal(3, 1), normal(4)), reassociate)
