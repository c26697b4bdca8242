from __future__ import annotations

import numpy as np
import pytest

from tinygrad_rnn.handwritten import SimpleRnnlm

NAMES = ["embedding", "Wx", "Wh", "b", "W_out", "b_out"]


def test_gradients_of_two_windows_are_the_complex_step(complex_step, relative_error):
    rng = np.random.default_rng(1)
    V, D, H, N, T = 5, 2, 3, 2, 3
    shapes = [(V, D), (D, H), (H, H), (H,), (H, V), (V,)]
    params = [rng.standard_normal(shape) for shape in shapes]
    model = SimpleRnnlm.from_arrays(**dict(zip(NAMES, params, strict=True)))
    carried = np.zeros((N, H))
    for _ in range(2):
        ids, targets = rng.integers(0, V, (2, N, T))
        targets[0, 1] = -1

        def loss(*params, ids=ids, targets=targets, carried=carried):
            fresh = SimpleRnnlm.from_arrays(**dict(zip(NAMES, params, strict=True)))
            fresh.rnn.set_state(carried)
            return fresh.forward(ids, targets)

        assert model.forward(ids, targets) == loss(*params)
        model.backward()
        carried = model.rnn.h
        for got, expected in zip(model.grads, complex_step(loss, *params), strict=True):
            assert relative_error(got, expected) <= 1e-12


def test_initial_weights_have_the_stated_scales_and_zero_biases():
    V, D, H = 300, 100, 200
    model = SimpleRnnlm(V, D, H, rng=np.random.default_rng(2))
    stds = [param.std() for param in model.params]
    np.testing.assert_allclose(stds, [0.01, D**-0.5, H**-0.5, 0, H**-0.5, 0], rtol=0.02)
    assert [param.shape for param in model.params] == [(V, D), (D, H), (H, H), (H,), (H, V), (V,)]
    assert all(param.dtype == np.float32 for param in model.params)


def test_one_seed_gives_the_same_weights_in_both_precisions():
    single = SimpleRnnlm(5, 3, 4, rng=np.random.default_rng(3))
    double = SimpleRnnlm(5, 3, 4, rng=np.random.default_rng(3), dtype=np.float64)
    for a, b in zip(single.params, double.params, strict=True):
        assert b.dtype == np.float64
        np.testing.assert_array_equal(a, b.astype(np.float32))


def test_from_arrays_copies():
    source = SimpleRnnlm(5, 3, 4, rng=np.random.default_rng(4))
    model = SimpleRnnlm.from_arrays(**dict(zip(NAMES, source.params, strict=True)))
    for a, b in zip(model.params, source.params, strict=True):
        np.testing.assert_array_equal(a, b)
        assert not np.shares_memory(a, b)


def test_training_in_place_learns_a_repeating_text():
    text = np.tile([0, 3, 1, 4, 2], 13)
    model = SimpleRnnlm(5, 8, 16, rng=np.random.default_rng(5))
    ids, targets = text[:60].reshape(2, 30), text[1:61].reshape(2, 30)
    losses = []
    for start in list(range(0, 30, 5)) * 20:
        window = slice(start, start + 5)
        losses.append(float(model.forward(ids[:, window], targets[:, window])))
        model.backward()
        for param, grad in zip(model.params, model.grads, strict=True):
            param -= 0.5 * grad
    assert losses[0] == pytest.approx(np.log(5), abs=0.1)
    assert losses[-1] < 0.1


@pytest.mark.parametrize("stateful", [True, False])
def test_the_state_is_carried_only_if_stateful(stateful):
    rng = np.random.default_rng(6)
    model = SimpleRnnlm(5, 3, 4, rng=rng, stateful=stateful)
    ids = rng.integers(0, 5, (2, 6))
    whole = model.predict(ids)
    model.reset_state()
    parts = np.concatenate([model.predict(ids[:, :3]), model.predict(ids[:, 3:])], axis=1)
    assert np.allclose(parts, whole, rtol=0, atol=1e-6) == stateful


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="hidden_size=0 must each be at least 1"):
        SimpleRnnlm(5, 3, 0, rng=np.random.default_rng(7))
    model = SimpleRnnlm(5, 3, 4, rng=np.random.default_rng(7))
    with pytest.raises(ValueError, match=r"TimeSoftmaxWithLoss.backward: nothing to differentiate"):
        model.backward()
    with pytest.raises(ValueError, match=r"ids must lie in 0\.\.4 \(V=5\), got 5"):
        model.predict(np.array([[5]]))


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("embedding", (5,), r"embedding must have shape \(V, D\), got \(5,\)"),
        ("Wx", (2, 4), r"Wx must have shape \(D=3, H\), got \(2, 4\)"),
        ("Wh", (3, 3), r"Wh must have shape \(H=4, H=4\), got \(3, 3\)"),
        ("b", (3,), r"b must have shape \(H=4\), got \(3,\)"),
        ("W_out", (5, 4), r"W_out must have shape \(H=4, V=5\), got \(5, 4\)"),
        ("b_out", (4,), r"b_out must have shape \(V=5\), got \(4,\)"),
    ],
)
def test_from_arrays_refuses_shapes_that_do_not_fit_each_other(name, shape, message):
    model = SimpleRnnlm(5, 3, 4, rng=np.random.default_rng(8))
    arrays = dict(zip(NAMES, model.params, strict=True))
    arrays[name] = np.ones(shape)
    with pytest.raises(ValueError, match=r"SimpleRnnlm.from_arrays: " + message):
        SimpleRnnlm.from_arrays(**arrays)
