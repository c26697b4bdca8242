"""Passes over the steps of a sequence: each alone computes the same, and does what it is for."""

import numpy as np
import pytest
from replay import leaf, normal, rewritten

import tinygrad_rnn as tr
from tinygrad_rnn.compiler.passes.simplify import merge_subexpressions, remove_dead_code, simplify_calls
from tinygrad_rnn.compiler.passes.time_first import flat_products, time_first

N, T, D, H, V = 2, 5, 3, 4, 6


# -- time first --------------------------------------------------------------------------------------------------------


TURNED = {
    "product": lambda x, w, b: (np.transpose(x, (1, 0, 2)) @ w, None)[0],
    "bias": lambda x, w, b: np.tanh(np.transpose(x, (1, 0, 2)) + b) * 2.0,
    "two_operands": lambda x, w, b: np.transpose(x, (1, 0, 2)) * np.transpose(x, (1, 0, 2)),
    "column_sums": lambda x, w, b: np.sum(np.transpose(x, (1, 0, 2)), axis=(0, 1)),
    "number_where": lambda x, w, b: np.where(np.transpose(x, (1, 0, 2)) > 0, np.transpose(x, (1, 0, 2)), 0.5),
}


@pytest.mark.parametrize("function", TURNED.values(), ids=TURNED)
def test_transposes_move_behind_what_works_on_rows(function):
    args = (normal(N, T, D), normal(D, H), normal(D))
    graph = rewritten(function, args, time_first, remove_dead_code)
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
    rewritten(function, (normal(N, T, D), normal(N, D), normal(D)), time_first, remove_dead_code)


def test_lookups_and_the_loss_take_their_ids_in_the_other_order():
    table, w = leaf(V, H), leaf(H, V, seed=1)

    def f(ids):
        steps = np.transpose(tr.take(table, ids, axis=0), (1, 0, 2)) * 2.0
        logits = np.transpose(steps, (1, 0, 2)) @ w
        value = tr.cross_entropy(logits, ids)
        return value, tr.grad(value, [table, w])

    ids = np.random.default_rng(0).integers(0, V, (N, T))
    passes = (
        time_first,
        simplify_calls,
        time_first,
        flat_products,
        simplify_calls,
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

    graph = rewritten(f, (normal(N, T, D),), flat_products, simplify_calls, remove_dead_code)
    assert all(part.ndim == 2 for call in graph.calls if call.name == "matmul" for part in call.inputs)


def test_rows_that_are_summed_lose_their_order():
    def f(a, b):
        rows = [np.transpose(part, (1, 0, 2)).reshape(-1, part.shape[-1]) for part in (a, b)]
        return rows[0].T @ rows[1]

    graph = rewritten(f, (normal(N, T, D), normal(N, T, H)), flat_products, simplify_calls, remove_dead_code)
    assert all(call.output.ndim == 2 for call in graph.calls if call.name == "transpose")
