"""What is masked counts for nothing, whatever it holds: no product with 0, which an infinity or NaN would survive."""

import numpy as np
import pytest
from replay import executors, small_plans_shared

import tinygrad_rnn as tr
from tinygrad_rnn.compiler.ir.graph import Operator
from tinygrad_rnn.compiler.replay.kernels import LOSS_AND_GRADIENT

COMPILED = pytest.mark.parametrize("setting", [None, *executors()], ids=lambda s: s["executor"] if s else "eager")
BAD = [[-np.inf] * 4, [np.nan] * 4, [np.inf] * 4, [0, -np.inf, np.nan, np.inf], [np.inf, 0, 0, 0]]


def run(f, leaf, setting):
    """Return what f gives, as arrays; NumPy must not warn."""
    with small_plans_shared(), np.errstate(all="raise", under="ignore"):
        made = f(leaf) if setting is None else tr.compile(f, **setting)(leaf)
    return [np.array(part.data) if isinstance(part, tr.Tensor) else part for part in made]


@COMPILED
@pytest.mark.parametrize("bad", BAD, ids=str)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_rows_that_cross_entropy_ignores(bad, dtype, setting):
    logits = np.random.default_rng(0).standard_normal((5, 4)).astype(dtype)
    logits[[1, 3]] = bad
    targets = np.array([2, -1, 0, -1, 3])

    def f(x):
        loss = tr.cross_entropy(x, targets)
        return loss, tr.grad(loss, x)

    loss, d = run(f, tr.tensor(logits, requires_grad=True), setting)
    kept = targets >= 0
    expected, by_eager = run(
        lambda x: (tr.cross_entropy(x, targets[kept]), tr.grad(tr.cross_entropy(x, targets[kept]), x)),
        tr.tensor(logits[kept], requires_grad=True),
        None,
    )
    np.testing.assert_allclose(loss, expected, rtol=4 * np.finfo(dtype).eps)
    assert np.all(d[~kept] == 0)
    np.testing.assert_allclose(d[kept], by_eager, rtol=8 * np.finfo(dtype).eps, atol=np.finfo(dtype).eps / 8)


@COMPILED
@pytest.mark.parametrize("bad", BAD, ids=str)
def test_rows_that_cross_entropy_ignores_in_second_order(bad, setting):
    logits = np.random.default_rng(0).standard_normal((3, 4))
    logits[1] = bad

    def f(x):
        (g,) = tr.grad(tr.cross_entropy(x, [2, -1, 0]), [x], create_graph=True)
        return (tr.grad(np.sum(g * g), x),)

    def without(x):
        (g,) = tr.grad(tr.cross_entropy(x, [2, 0]), [x], create_graph=True)
        return (tr.grad(np.sum(g * g), x),)

    (d,) = run(f, tr.tensor(logits, requires_grad=True), setting)
    (expected,) = run(without, tr.tensor(logits[[0, 2]], requires_grad=True), None)
    assert np.all(d[1] == 0)
    np.testing.assert_allclose(d[[0, 2]], expected, rtol=1e-12, atol=1e-16)


@pytest.mark.parametrize("bad", BAD, ids=str)
def test_ignored_rows_leave_the_kernel_of_the_others_alone(bad):
    """The kernel takes the largest logit off only where it must; a masked row is no reason to."""
    logits = np.random.default_rng(0).standard_normal((4, 4))
    logits[2] = bad
    targets = np.array([1, 2, -1, 0])
    loss, d = LOSS_AND_GRADIENT.compute(logits, 2.0, targets=targets, ignore_label=-1)
    other, e = LOSS_AND_GRADIENT.compute(np.delete(logits, 2, 0), 2.0, targets=targets[targets >= 0], ignore_label=-1)
    assert isinstance(LOSS_AND_GRADIENT, Operator)
    assert loss == pytest.approx(other, rel=1e-15)
    assert np.all(d[2] == 0)
    np.testing.assert_allclose(np.delete(d, 2, 0), e, rtol=1e-15)


@COMPILED
def test_what_dropout_drops(setting):
    x = np.array([np.inf, np.nan, -np.inf, 1.0] * 8)

    def f(x):
        y = tr.Dropout(0.5)(x, np.random.default_rng(3))
        return y, tr.grad(np.sum(np.where(np.isfinite(y), y, 0)), x)

    if setting is not None:
        rng = np.random.default_rng(3)
        compiled = tr.compile(lambda x, rng: (y := tr.Dropout(0.5)(x, rng), tr.grad(np.sum(y), x)), **setting)
        y, d = compiled(tr.tensor(x, requires_grad=True), rng)
    else:
        y, d = run(f, tr.tensor(x, requires_grad=True), setting)
    kept = np.random.default_rng(3).random(32, dtype=np.float32) >= 0.5
    np.testing.assert_array_equal(y, np.where(kept, 2 * x, 0))
    assert np.all(d[~kept] == 0)
    assert np.all(d[kept & np.isfinite(x)] == 2)


@COMPILED
@pytest.mark.parametrize("cell", ["RNNCell", "LSTMCell", "GRUCell"])
def test_padding_behind_lengths(cell, setting):
    rng = np.random.default_rng(0)
    model = getattr(tr, cell)(3, 4, rng, dtype=np.float64)
    xs = rng.standard_normal((2, 5, 3))
    lengths = np.array([5, 2])
    padded = xs.copy()
    padded[1, 2:] = [np.inf, -np.inf, np.nan]
    parameters = model.parameters()

    def f(x):
        outputs, _ = tr.unroll(model, x, lengths=lengths)
        d, grads = tr.grad(np.sum(outputs * outputs), (x, parameters))
        return outputs, d, *grads.values()

    bad, good = (run(f, tr.tensor(part, requires_grad=True), setting) for part in (padded, xs))
    for one, other in zip(bad, good, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-14)
    assert np.all(bad[1][1, 2:] == 0)
