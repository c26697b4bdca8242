"""Products of rows that were looked up, as products of the table."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from replay import assert_replays, counts, executors, leaf, normal, rewritten

import tinygrad_rnn as tr
from tinygrad_rnn.compiler.passes.lookups import lookup_products
from tinygrad_rnn.compiler.passes.simplify import merge_subexpressions, remove_dead_code
from tinygrad_rnn.compiler.passes.time_first import flat_products

V, D, M = 5, 3, 4
IDS = np.array([[1, -1, 1, 0, 2], [1, 3, -5, 0, 2]])
PASSES = flat_products, lookup_products, merge_subexpressions, remove_dead_code


def products(table, W, ids, x):
    y = np.sum(np.tanh(tr.take(table, ids, axis=0) @ W) * x)
    return y, tr.grad(y, [table, W])


def arguments(ids=IDS, dtype="float64", seed=0):
    table, W = (tr.tensor(normal(*shape, seed=seed).astype(dtype), requires_grad=True) for shape in ((V, D), (D, M)))
    return table, W, ids, normal(*ids.shape, M, seed=seed + 1).astype(dtype)


def rows_multiplied(graph):
    """Return the rows of the left operands of all products."""
    return sorted(call.inputs[0].shape[0] for call in graph.calls if call.name == "matmul")


def test_the_table_is_multiplied_instead_of_its_rows():
    graph = rewritten(products, arguments(), *PASSES)
    assert rows_multiplied(graph) == [D, V, V]
    assert all(call.inputs[0].size < IDS.size * D for call in graph.calls if call.name == "matmul")
    assert counts(graph)["take"] == counts(graph)["take_back"] == 1


@given(
    shape=st.lists(st.integers(1, 6), min_size=1, max_size=3).map(tuple),
    dtype=st.sampled_from(["float32", "float64"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_results_are_those_of_eager_execution(shape, dtype, seed):
    ids = np.random.default_rng(seed).integers(-V, V, shape)
    assert_replays(products, arguments(ids, dtype, seed), tolerance=1e-12 if dtype == "float64" else 2e-5)


@pytest.mark.parametrize("setting", executors())
def test_an_id_out_of_range_is_an_error(setting):
    compiled = tr.compile(products, **setting)
    compiled(*arguments())
    ids = IDS.copy()
    ids[1, 2] = V
    with pytest.raises(IndexError, match=f"axis 0 with size {V}"):
        compiled(*arguments(ids))


def test_lookups_of_few_rows_are_multiplied_row_by_row():
    for count, expected in ((2 * V, [D, V, V]), (2 * V - 1, [D, 2 * V - 1, 2 * V - 1])):
        graph = rewritten(products, arguments(np.arange(count) % V), *PASSES)
        assert rows_multiplied(graph) == expected


def along_another_axis(table, W, ids, x):
    y = np.sum(np.reshape(tr.take(table, ids[0], axis=1), (-1, D)) @ W)
    return y, tr.grad(y, [table, W])


def rows_cut_anew(table, W, ids, x):
    y = np.sum(np.reshape(tr.take(table, ids, axis=0), (-1, 2)) @ W[:2])
    return y, tr.grad(y, [table, W])


def changed_before(table, W, ids, x):
    y = np.sum((tr.take(table, ids, axis=0) * 2.0) @ W)
    return y, tr.grad(y, W)


def cotangent_read(table, W, ids, x):
    rows = tr.take(table, ids, axis=0)
    y = np.sum(np.tanh(rows * 2.0) @ W)
    return y, tr.grad(y, [rows, table])


@pytest.mark.parametrize("f", [along_another_axis, rows_cut_anew, changed_before, cotangent_read])
def test_what_stays_a_product_of_rows(f):
    args = (leaf(D, V) if f is along_another_axis else leaf(V, D), *arguments()[1:])
    ids = np.concatenate([IDS % D, IDS % D], axis=1) if f is along_another_axis else IDS
    args = (args[0], args[1], ids, args[3])
    before = rewritten(f, args, flat_products)
    assert rows_multiplied(rewritten(f, args, flat_products, lookup_products)) == rows_multiplied(before)
    assert_replays(f, args)


def test_biases_of_large_products_are_added_for_all_steps_at_once():
    """So the library adds them within the product before the loop."""
    model = tr.RNNLM(200, 4, 100, np.random.default_rng(0), cell="lstm")
    N, T = 12, 5
    ids, targets = np.random.default_rng(1).integers(0, 200, (2, N, T))
    compiled = tr.compile(lambda ids, targets: model.loss(ids, targets)[0])
    compiled(ids, targets)
    adds = [one.outputs[0].shape for one, loop in compiled.plan.flat() if one.operator.name == "add" and loop is None]
    assert (T, N, 400) in adds
