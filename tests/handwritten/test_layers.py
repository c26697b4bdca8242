from __future__ import annotations

import numpy as np
import pytest
from drawn import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygrad_rnn.handwritten import TimeAffine, TimeEmbedding, TimeSigmoidWithLoss, TimeSoftmaxWithLoss


def test_embedding_backward_is_the_complex_step_with_repeated_ids(complex_step, relative_error):
    rng = np.random.default_rng(1)
    W, dout = rng.standard_normal((5, 3)), rng.standard_normal((2, 4, 3))
    ids = np.array([[0, 3, 3, 1], [3, 1, 0, 0]])

    def loss(W):
        return (TimeEmbedding(W).forward(ids) * dout).sum()

    layer = TimeEmbedding(W)
    np.testing.assert_array_equal(layer.forward(ids)[1, 0], W[3])
    layer.backward(dout)
    layer.backward(dout)  # overwritten, not summed
    assert relative_error(layer.grads[0], complex_step(loss, W)[0]) <= 1e-12
    np.testing.assert_array_equal(layer.grads[0][[2, 4]], 0)


def test_embedding_refuses_what_does_not_fit():
    layer = TimeEmbedding(np.ones((5, 3)))
    with pytest.raises(ValueError, match=r"TimeEmbedding: W must have shape \(V, D\), got \(5,\)"):
        TimeEmbedding(np.ones(5))
    with pytest.raises(ValueError, match=r"TimeEmbedding.backward: nothing to differentiate"):
        layer.backward(np.ones((1, 1, 3)))
    with pytest.raises(ValueError, match=r"ids must lie in 0\.\.4 \(V=5\), got 5"):
        layer.forward(np.array([[0, 5]]))
    with pytest.raises(ValueError, match=r"ids must lie in 0\.\.4 \(V=5\), got -1"):
        layer.forward(np.array([[0, -1]]))
    with pytest.raises(TypeError, match=r"TimeEmbedding.forward: ids must be of an integer type, got float64"):
        layer.forward(np.array([[0.0, 1.0]]))
    with pytest.raises(ValueError, match=r"TimeEmbedding.forward: ids must have shape \(N, T\), got \(2,\)"):
        layer.forward(np.array([0, 1]))
    layer.forward(np.array([[0, 1]]))
    with pytest.raises(ValueError, match=r"dout must have shape \(N=1, T=2, D=3\), got \(1, 2, 4\)"):
        layer.backward(np.ones((1, 2, 4)))


def test_affine_backward_is_the_complex_step(complex_step, relative_error):
    rng = np.random.default_rng(2)
    N, T, H, V = 2, 3, 4, 5
    arrays = [rng.standard_normal(shape) for shape in [(N, T, H), (H, V), (V,)]]
    dout = rng.standard_normal((N, T, V))

    def loss(xs, W, b):
        return (TimeAffine(W, b).forward(xs) * dout).sum()

    xs, W, b = arrays
    layer = TimeAffine(W, b)
    np.testing.assert_allclose(layer.forward(xs)[1, 2], xs[1, 2] @ W + b, rtol=1e-14)
    actual = [layer.backward(dout), *layer.grads]
    for got, expected in zip(actual, complex_step(loss, *arrays), strict=True):
        assert relative_error(got, expected) <= 1e-12


def test_affine_refuses_what_does_not_fit():
    layer = TimeAffine(np.ones((4, 5)), np.ones(5))
    with pytest.raises(ValueError, match=r"TimeAffine: W must have shape \(H, V\), got \(4,\)"):
        TimeAffine(np.ones(4), np.ones(5))
    with pytest.raises(ValueError, match=r"TimeAffine: b must have shape \(V=5\), got \(4,\)"):
        TimeAffine(np.ones((4, 5)), np.ones(4))
    with pytest.raises(ValueError, match=r"TimeAffine.backward: nothing to differentiate"):
        layer.backward(np.ones((2, 3, 5)))
    with pytest.raises(ValueError, match=r"TimeAffine.forward: xs must have shape \(N, T, H=4\)"):
        layer.forward(np.ones((2, 3, 5)))
    layer.forward(np.ones((2, 3, 4)))
    with pytest.raises(ValueError, match=r"TimeAffine.backward: dout must have shape \(N=2, T=3, V=5\)"):
        layer.backward(np.ones((2, 3, 4)))


@settings(max_examples=examples(25), deadline=None)
@given(
    N=st.integers(1, 3),
    T=st.integers(1, 4),
    V=st.integers(1, 5),
    ignore_label=st.sampled_from([-1, 0, 99]),
    seed=st.integers(0, 2**32 - 1),
)
def test_loss_and_its_gradient_are_the_plain_formula_over_what_counts(N, T, V, ignore_label, seed):
    rng = np.random.default_rng(seed)
    logits = 3 * rng.standard_normal((N, T, V))
    targets = rng.integers(0, V, (N, T))
    targets[rng.random((N, T)) < 0.3] = ignore_label
    counted = [(n, t) for n in range(N) for t in range(T) if targets[n, t] != ignore_label]
    head = TimeSoftmaxWithLoss(ignore_label)
    if not counted:
        with pytest.raises(ValueError, match=f"all {N * T} targets are the ignored label {ignore_label}"):
            head.forward(logits, targets)
        return
    loss, dlogits = 0.0, np.zeros_like(logits)
    for n, t in counted:
        p = np.exp(logits[n, t]) / np.exp(logits[n, t]).sum()
        loss -= np.log(p[targets[n, t]]) / len(counted)
        dlogits[n, t] = 0.5 * (p - np.eye(V)[targets[n, t]]) / len(counted)
    np.testing.assert_allclose(head.forward(logits, targets), loss, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(head.backward(0.5), dlogits, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("targets", [[[0, 4, 2], [1, 1, 3]], [[0, -1, 2], [-1, 1, -1]]])
def test_loss_backward_is_the_complex_step(targets, complex_step, relative_error):
    logits = np.random.default_rng(3).standard_normal((2, 3, 5))
    targets = np.array(targets)
    head = TimeSoftmaxWithLoss()
    head.forward(logits, targets)
    expected = complex_step(lambda logits: TimeSoftmaxWithLoss().forward(logits, targets), logits)[0]
    assert relative_error(head.backward(), expected) <= 1e-12


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_loss_of_huge_logits_is_finite_and_keeps_the_dtype(dtype):
    logits = np.array([[[1e4, 0.0, -1e4], [-1e4, -1e4, -1e4]]], dtype=dtype)
    head = TimeSoftmaxWithLoss()
    loss = head.forward(logits, np.array([[2, 0]]))
    np.testing.assert_allclose(loss, (2e4 + np.log(3)) / 2, rtol=1e-6)
    dlogits = head.backward()
    np.testing.assert_allclose(dlogits, [[[0.5, 0, -0.5], [-1 / 3, 1 / 6, 1 / 6]]], rtol=1e-6)
    assert loss.dtype == dlogits.dtype == dtype


def test_loss_does_not_look_at_the_logits_of_an_ignored_position():
    logits = np.array([[[1.0, 2.0], [np.nan, np.inf]]])
    head = TimeSoftmaxWithLoss()
    np.testing.assert_allclose(head.forward(logits, np.array([[0, -1]])), np.log(1 + np.e), rtol=1e-14)
    np.testing.assert_array_equal(head.backward()[0, 1], 0)


def test_loss_refuses_what_does_not_fit():
    head = TimeSoftmaxWithLoss()
    logits = np.zeros((2, 3, 5))
    with pytest.raises(ValueError, match=r"TimeSoftmaxWithLoss.backward: nothing to differentiate"):
        head.backward()
    with pytest.raises(ValueError, match=r"logits must have shape \(N, T, V\), got \(2, 5\)"):
        head.forward(logits[:, 0], np.zeros((2, 3), dtype=int))
    with pytest.raises(ValueError, match=r"targets must have shape \(N=2, T=3\), got \(3, 2\)"):
        head.forward(logits, np.zeros((3, 2), dtype=int))
    with pytest.raises(ValueError, match=r"targets must lie in 0\.\.4 \(V=5\), got 5"):
        head.forward(logits, np.full((2, 3), 5))
    with pytest.raises(ValueError, match=r"targets must lie in 0\.\.4 \(V=5\), got -2"):
        head.forward(logits, np.full((2, 3), -2))
    with pytest.raises(TypeError, match=r"targets must be of an integer type, got float64"):
        head.forward(logits, np.zeros((2, 3)))


@settings(max_examples=examples(25), deadline=None)
@given(
    N=st.integers(1, 3), T=st.integers(1, 4), ignore_label=st.sampled_from([-1, 0, 99]), seed=st.integers(0, 2**32 - 1)
)
def test_sigmoid_loss_and_its_gradient_are_the_plain_formula_over_what_counts(N, T, ignore_label, seed):
    rng = np.random.default_rng(seed)
    logits, targets = 3 * rng.standard_normal((N, T)), rng.integers(0, 2, (N, T))
    targets[rng.random((N, T)) < 0.3] = ignore_label
    counted = targets != ignore_label
    M = counted.sum()
    head = TimeSigmoidWithLoss(ignore_label)
    if not M:
        with pytest.raises(ValueError, match=f"all {N * T} targets are the ignored label {ignore_label}"):
            head.forward(logits, targets)
        return
    p = 1 / (1 + np.exp(-logits))
    nats = -np.where(targets == 1, np.log(p), np.log(1 - p))
    np.testing.assert_allclose(head.forward(logits, targets), nats[counted].sum() / M, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(
        head.backward(0.5), np.where(counted, 0.5 * (p - targets) / M, 0), rtol=1e-12, atol=1e-14
    )


@pytest.mark.parametrize("targets", [[[0, 1, 1], [1, 0, 0]], [[0.25, -1, 1.0], [-1, 0.5, -1]]])
def test_sigmoid_loss_backward_is_the_complex_step(targets, complex_step, relative_error):
    logits, targets = 3 * np.random.default_rng(4).standard_normal((2, 3)), np.array(targets)
    head = TimeSigmoidWithLoss()
    head.forward(logits, targets)
    expected = complex_step(lambda logits: TimeSigmoidWithLoss().forward(logits, targets), logits)[0]
    assert relative_error(head.backward(), expected) <= 1e-12


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sigmoid_loss_of_huge_logits_is_finite_and_keeps_the_dtype(dtype):
    head = TimeSigmoidWithLoss()
    loss = head.forward(np.array([[1e4, 1e4, -1e4, np.nan]], dtype=dtype), np.array([[1, 0, 1, -1]]))
    dlogits = head.backward()
    np.testing.assert_allclose(loss, 2e4 / 3, rtol=1e-6)
    np.testing.assert_allclose(dlogits, [[0, 1 / 3, -1 / 3, 0]], rtol=1e-6)
    assert loss.dtype == dlogits.dtype == dtype


def test_sigmoid_loss_refuses_what_does_not_fit():
    head = TimeSigmoidWithLoss()
    with pytest.raises(ValueError, match=r"TimeSigmoidWithLoss.backward: nothing to differentiate"):
        head.backward()
    with pytest.raises(ValueError, match=r"logits must have shape \(N, T\), got \(2, 3, 1\)"):
        head.forward(np.zeros((2, 3, 1)), np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"targets must have shape \(N=2, T=3\), got \(3, 2\)"):
        head.forward(np.zeros((2, 3)), np.zeros((3, 2)))
    for wrong in (2, -0.5, np.nan):
        with pytest.raises(ValueError, match=r"TimeSigmoidWithLoss.forward: targets must lie in \[0, 1\], got"):
            head.forward(np.zeros((1, 2)), np.array([[0, wrong]]))
