from __future__ import annotations

import numpy as np
import pytest

from tinygrad_rnn.handwritten import Attention, AttentionWeight, TimeAttention, WeightSum

N, S, T, H = 2, 4, 3, 5


def test_weights_and_context_are_the_plain_formula():
    rng = np.random.default_rng(1)
    queries, keys = rng.standard_normal((N, T, H)), rng.standard_normal((N, S, H))
    layer = TimeAttention()
    assert layer.weights is None
    contexts = layer.forward(queries, keys)
    for n, t in np.ndindex(N, T):
        exps = np.exp([queries[n, t] @ keys[n, s] for s in range(S)])
        np.testing.assert_allclose(layer.weights[n, t], exps / exps.sum(), rtol=1e-13)
        np.testing.assert_allclose(contexts[n, t], sum(exps[s] * keys[n, s] for s in range(S)) / exps.sum(), rtol=1e-12)


@pytest.mark.parametrize(
    ("make", "shapes", "output"),
    [
        (AttentionWeight, [(N, H), (N, S, H)], (N, S)),
        (WeightSum, [(N, S), (N, S, H)], (N, H)),
        (Attention, [(N, H), (N, S, H)], (N, H)),
        (TimeAttention, [(N, T, H), (N, S, H)], (N, T, H)),
    ],
)
def test_backward_is_the_complex_step(make, shapes, output, complex_step, relative_error):
    rng = np.random.default_rng(2)
    arrays, dout = [rng.standard_normal(shape) for shape in shapes], rng.standard_normal(output)
    layer = make()
    assert layer.forward(*arrays).shape == output
    gradients = layer.backward(dout)
    for got, expected in zip(
        gradients, complex_step(lambda *a: (make().forward(*a) * dout).sum(), *arrays), strict=True
    ):
        assert relative_error(got, expected) <= 1e-12
    for got, again in zip(gradients, layer.backward(dout), strict=True):
        np.testing.assert_array_equal(got, again)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_huge_scores_are_finite_and_keep_the_dtype(dtype):
    layer = AttentionWeight()
    weights = layer.forward(np.full((1, 1), 1e4, dtype), np.array([[[1.0], [-1.0], [1.0]]], dtype))
    np.testing.assert_array_equal(weights, np.array([[0.5, 0, 0.5]], dtype))
    dquery, dkeys = layer.backward(np.ones((1, 3), dtype))
    assert weights.dtype == dquery.dtype == dkeys.dtype == dtype


@pytest.mark.parametrize(
    ("make", "shapes", "message"),
    [
        (AttentionWeight, [(2, 5), (2, 5)], r"AttentionWeight.forward: keys must have shape \(N, S, H\), got \(2, 5\)"),
        (
            AttentionWeight,
            [(3, 5), (2, 4, 5)],
            r"AttentionWeight.forward: query must have shape \(N=2, H=5\), got \(3, 5",
        ),
        (WeightSum, [(2, 5), (2, 4, 5)], r"WeightSum.forward: weights must have shape \(N=2, S=4\), got \(2, 5\)"),
        (TimeAttention, [(2, 3, 4), (2, 4, 5)], r"TimeAttention.forward: queries must have shape \(N=2, T, H=5\), got"),
        (TimeAttention, [(2, 0, 5), (2, 4, 5)], r"TimeAttention.forward: queries .* axis 1 \(T\) is empty"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(make, shapes, message):
    with pytest.raises(ValueError, match=message):
        make().forward(*[np.ones(shape) for shape in shapes])


@pytest.mark.parametrize(
    ("make", "shapes", "message"),
    [
        (AttentionWeight, [(2, 5), (2, 4, 5)], r"AttentionWeight.backward: dweights must have shape \(N=2, S=4\)"),
        (WeightSum, [(2, 4), (2, 4, 5)], r"WeightSum.backward: dcontext must have shape \(N=2, H=5\)"),
        (TimeAttention, [(2, 3, 5), (2, 4, 5)], r"TimeAttention.backward: dcontexts must have shape \(N=2, T=3, H=5\)"),
    ],
)
def test_gradients_that_do_not_fit_are_refused(make, shapes, message):
    layer = make()
    with pytest.raises(ValueError, match=rf"{make.__name__}.backward: nothing to differentiate; call forward first"):
        layer.backward(np.ones((2, 6)))
    layer.forward(*[np.ones(shape) for shape in shapes])
    with pytest.raises(ValueError, match=message):
        layer.backward(np.ones((2, 6)))
