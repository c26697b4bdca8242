"""Kernels that passes put in: each alone computes the same, and does what it is for."""

import numpy as np
import pytest
from replay import counts, leaf, normal, rewritten

import tinygrad_rnn as tr
from tinygrad_rnn.compiler.passes.loss import fuse_loss
from tinygrad_rnn.compiler.passes.simplify import merge_subexpressions, remove_dead_code

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
