"""Kernels that passes put in: each alone computes the same, and does what it is for."""

import numpy as np
import pytest
from replay import assert_equal, counts, leaf, normal, rewritten

import tinygrad_rnn as tr
from tinygrad_rnn.compiler.passes import loss
from tinygrad_rnn.compiler.passes.loss import fuse_loss, sums_in_product
from tinygrad_rnn.compiler.passes.simplify import merge_subexpressions, remove_dead_code, simplify_calls
from tinygrad_rnn.compiler.passes.time_first import flat_products

N, T, D, H, V = 2, 5, 3, 4, 6


# -- loss --------------------------------------------------------------------------------------------------------------


def language_model(ignore_label=-1):
    w, b = leaf(H, V), leaf(V, seed=1)

    def f(x, ids):
        value = tr.cross_entropy(np.tanh(x) @ w + b, ids, ignore_label)
        return value, tr.grad(value, [w, b])

    return f


IDS = np.random.default_rng(0).integers(0, V, (N, T))


@pytest.mark.parametrize("ids", [IDS, np.where(IDS[0, 0] == IDS, -1, IDS)], ids=["all", "masked"])
def test_loss_and_gradient_become_one_call(ids):
    graph = rewritten(language_model(), (normal(N, T, H), ids), merge_subexpressions, fuse_loss, remove_dead_code)
    assert counts(graph)["loss_and_gradient"] == 1
    assert counts(graph)["cross_entropy"] == counts(graph)["cross_entropy_back"] == 0


def test_losses_with_other_targets_labels_or_weights_are_not_mixed_up():
    w = leaf(H, V)

    def f(x, ids, others):
        logits = x @ w
        losses = tr.cross_entropy(logits, ids), tr.cross_entropy(logits, others), tr.cross_entropy(logits, ids, 2)
        return losses, tr.grad(losses[0] + 2 * losses[1] + losses[2], w), tr.grad(losses[0] * 3.0, w)

    rewritten(
        f,
        (normal(4, H), np.array([0, 1, 2, 3]), np.array([5, 5, 4, 4])),
        merge_subexpressions,
        fuse_loss,
        remove_dead_code,
    )


def test_a_loss_without_a_gradient_stays():
    w = leaf(H, V)
    graph = rewritten(lambda x, ids: tr.cross_entropy(x @ w, ids), (normal(N, T, H), IDS), fuse_loss)
    assert counts(graph)["cross_entropy"] == 1


def test_several_layers_on_the_same_rows(monkeypatch):
    monkeypatch.setattr(loss, "_LARGE", 1)
    a, b, c, d = leaf(H, V), leaf(V, seed=1), leaf(H, V, seed=2), leaf(V, seed=3)

    def f(x):
        rows = np.tanh(x)
        gram = rows.T @ rows  # reads the rows before the layers do
        total = np.sum(np.tanh(rows @ a + b)) + np.sum(np.tanh(rows @ c + d)) + np.sum(gram)
        return gram, total, tr.grad(total, [a, b, c, d])

    first = simplify_calls, merge_subexpressions
    rewritten(f, (normal(N * T, H),), *first, sums_in_product, merge_subexpressions, remove_dead_code)


def test_the_gradient_of_a_bias_comes_out_of_the_product_where_both_read_the_same(monkeypatch):
    monkeypatch.setattr(loss, "_LARGE", 1)
    first = simplify_calls, flat_products, merge_subexpressions
    graph = rewritten(language_model(), (normal(N, T, H), IDS), *first, sums_in_product)
    assert not any(call.name == "sum" and call.output.shape == (V,) for call in graph.calls)
    assert [call.output.shape for call in graph.calls if call.name == "matmul"].count((H + 1, V)) == 1


def test_sums_that_a_product_waits_for_and_sums_of_something_else_stay(monkeypatch):
    monkeypatch.setattr(loss, "_LARGE", 1)

    def waits(x, d):
        total = np.sum(d, axis=0)
        return total, np.transpose(x * total[0]) @ d

    def other(x, d):
        return np.sum(d, axis=1), np.sum(d * 2, axis=0), np.sum(np.reshape(d, (2, 6)), axis=0), np.transpose(x) @ d

    args = normal(4, 2), normal(4, 3)
    assert counts(rewritten(waits, args, simplify_calls, sums_in_product))["sum"] == 1
    assert counts(rewritten(other, args, simplify_calls, sums_in_product))["sum"] == 3


@pytest.mark.parametrize("dtype", [np.float16, np.int64])
def test_sums_of_half_precision_and_of_integers_stay(dtype, monkeypatch):
    monkeypatch.setattr(loss, "_LARGE", 1)
    args = np.arange(8).reshape(4, 2).astype(dtype), np.arange(12).reshape(4, 3).astype(dtype)
    graph = rewritten(lambda x, d: (np.sum(d, axis=0), np.transpose(x) @ d), args, simplify_calls, sums_in_product)
    assert counts(graph)["sum"] == 1


def test_large_logits_leave_plans_for_any_length(monkeypatch):
    """The column of ones is as long as the rows: another length has another."""
    monkeypatch.setattr(loss, "_LARGE", 1)
    model = tr.RNNLM(6, 3, 4, np.random.default_rng(0), dtype=np.float64)

    def step(ids):
        value, _ = model.loss(ids[:, :-1], ids[:, 1:])
        return value, tr.grad(value, model.parameters())

    compiled = tr.compile(step)
    planned, worked = compiled._planned, []

    def counted(graph, donated):
        worked.append(graph)
        return planned(graph, donated)

    monkeypatch.setattr(compiled, "_planned", counted)
    for T in (4, 6, 5, 9, 40, 2):
        ids = np.random.default_rng(T).integers(0, 6, (3, T + 1))
        assert_equal(compiled(ids), step(ids), 1e-12)
        assert len(worked) <= 2
