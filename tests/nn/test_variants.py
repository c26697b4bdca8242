"""Variants of cells against their equations in NumPy, and what all cells have in common."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tr
from tinygrad_rnn.testing import check_grads

VARIANTS = {
    "peephole": tr.PeepholeLSTMCell,
    "coupled": tr.CoupledLSTMCell,
    "layer-norm": tr.LayerNormLSTMCell,
    "indrnn": lambda D, H, rng, dtype=np.float32: tr.IndRNNCell(D, H, rng, dtype, nonlinearity="tanh"),
    "mingru": tr.MinGRUCell,
    "minlstm": tr.MinLSTMCell,
    "lru": tr.LRUCell,
}


def made(name, D=3, H=4, seed=0):
    """A cell in float64 whose parameters are all drawn, so that none is at 0."""
    rng = np.random.default_rng(seed)
    cell = VARIANTS[name](D, H, rng, np.float64)
    for parameter in cell.parameters().values():
        parameter.data = parameter.data + 0.3 * rng.standard_normal(parameter.shape)
    return cell, rng


def sigma(x):
    return 1 / (1 + np.exp(-x))


def norm(x, layer):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * layer.g.data + layer.b.data


def by_hand(name, cell, x, state):
    """One step, from the equations of the docstrings."""
    p = {key: value.data for key, value in cell.parameters().items()}
    if name == "lru":
        (re, im), H = state, len(p["nu"])
        turn = np.exp(-np.exp(p["nu"]) + 1j * np.exp(p["theta"]))
        h = turn * (re + 1j * im) + np.exp(p["gamma"]) * (x @ (p["Wx"][:, :H] + 1j * p["Wx"][:, H:]))
        return np.real(h @ (p["C"][:H] + 1j * p["C"][H:])) + x * p["d"], (h.real, h.imag)
    inputs = x @ p["Wx"] + p["b"]
    if name == "indrnn":
        h = np.tanh(inputs + p["u"] * state)
        return h, h
    if name == "mingru":
        z, n = np.split(inputs, 2, axis=1)
        h = (1 - sigma(z)) * state + sigma(z) * n
        return h, h
    if name == "minlstm":
        f, i, n = np.split(inputs, 3, axis=1)
        f, i = sigma(f), sigma(i)
        h = f / (f + i) * state + i / (f + i) * n
        return h, h
    h, c = state
    sums = inputs + h @ p["Wh"]
    if name == "coupled":
        f, o, g = np.split(sums, 3, axis=1)
        c = sigma(f) * c + (1 - sigma(f)) * np.tanh(g)
        h = sigma(o) * np.tanh(c)
    elif name == "peephole":
        i, f, o, g = np.split(sums, 4, axis=1)
        new = sigma(f + p["p"][1] * c) * c + sigma(i + p["p"][0] * c) * np.tanh(g)
        h, c = sigma(o + p["p"][2] * new) * np.tanh(new), new
    else:
        sums = norm(x @ p["Wx"], cell.x_norm) + norm(h @ p["Wh"], cell.h_norm) + p["b"]
        i, f, o, g = np.split(sums, 4, axis=1)
        c = sigma(f) * c + sigma(i) * np.tanh(g)
        h = sigma(o) * np.tanh(norm(c, cell.c_norm))
    return h, (h, c)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_step_is_its_equation(name):
    cell, rng = made(name)
    x = rng.standard_normal((2, 3))
    state = cell.initial_state(2)
    state = tuple(rng.standard_normal((2, 4)) for _ in state) if isinstance(state, tuple) else rng.random((2, 4))
    output, new = cell(x, state)
    expected, expected_state = by_hand(name, cell, x, state)
    np.testing.assert_allclose(output.data, expected, rtol=1e-12)
    pairs = zip(new, expected_state, strict=True) if isinstance(new, tuple) else [(new, expected_state)]
    for part, wanted in pairs:
        np.testing.assert_allclose(part.data, wanted, rtol=1e-12)


@pytest.mark.parametrize("name", VARIANTS)
def test_gradients(name):
    cell, rng = made(name)
    assert check_grads(cell, rng.standard_normal((2, 5, 3))).ok


@pytest.mark.parametrize("name", VARIANTS)
def test_compiled_is_eager(name):
    cell, rng = made(name)
    xs = rng.standard_normal((2, 6, 3))

    def gradients(parameters, xs):
        outputs, _ = tr.unroll(cell, xs, cut_every=4)
        return tr.grad((outputs * outputs).sum(), parameters)

    eager = gradients(cell.parameters(), xs)
    for key, found in tr.compile(gradients)(cell.parameters(), xs).items():
        np.testing.assert_allclose(found, eager[key], rtol=1e-9, atol=1e-12, err_msg=key)


@pytest.mark.parametrize("name", VARIANTS)
def test_language_models_take_them(name):
    rng = np.random.default_rng(0)
    model = tr.RNNLM(7, 5, 5, rng, cell=VARIANTS[name], layers=2)
    loss, _ = model.loss(rng.integers(0, 7, (2, 4)), rng.integers(0, 7, (2, 4)))
    assert loss.dtype == np.float32
    assert all(np.isfinite(g).all() for g in tr.grad(loss, model.parameters()).values())


@pytest.mark.parametrize("name", VARIANTS)
def test_wrong_shapes_are_named(name):
    cell, _ = made(name)
    with pytest.raises(tr.ShapeError, match=rf"{type(cell).__name__}: expected x of shape \(N, D\) = \(N, 3\)"):
        cell(np.ones((2, 4)), cell.initial_state(2))
    with pytest.raises(tr.ShapeError, match=rf"{type(cell).__name__}: expected a state"):
        cell(np.ones((2, 3)), np.ones((3, 4)))


@pytest.mark.parametrize("name", ["mingru", "minlstm"])
@given(st.integers(1, 40), st.integers(0, 99))
def test_parallel_is_unroll(name, T, seed):
    cell, rng = made(name, seed=seed)
    xs, state = rng.standard_normal((2, T, 3)), rng.standard_normal((2, 4))
    (one, last), (other, other_last) = cell.parallel(xs, state), tr.unroll(cell, xs, state)
    np.testing.assert_allclose(one.data, other.data, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(last.data, other_last.data, rtol=1e-10, atol=1e-12)
    weights = rng.standard_normal(one.shape)
    found, expected = (tr.grad((hs * weights).sum(), cell.parameters()) for hs in (one, other))
    for key in found:
        np.testing.assert_allclose(found[key], expected[key], rtol=1e-8, atol=1e-10)


def test_errors_of_the_variants():
    rng = np.random.default_rng(0)
    with pytest.raises(tr.ConfigError, match="IndRNNCell: nonlinearity must be"):
        tr.IndRNNCell(3, 4, rng, nonlinearity="sin")
    with pytest.raises(tr.ConfigError, match=r"LRUCell: radius must be \(least, largest\)"):
        tr.LRUCell(3, 4, rng, radius=(0.9, 0.5))
    with pytest.raises(tr.ShapeError, match=r"MinGRUCell: expected xs of shape \(N, T, D\)"):
        tr.MinGRUCell(3, 4, rng).parallel(np.ones((2, 4)))


def test_lru_stays_stable_and_starts_in_its_ring():
    cell = tr.LRUCell(3, 500, np.random.default_rng(0), np.float64, radius=(0.5, 0.8), phase=0.1)
    radius = np.exp(-np.exp(cell.nu.data))
    assert 0.5 <= radius.min() < 0.52 < 0.78 < radius.max() <= 0.8
    assert 0 < np.exp(cell.theta.data).max() <= 0.1
    np.testing.assert_allclose(np.exp(cell.gamma.data) ** 2, 1 - radius**2)


def test_layer_norm():
    rng = np.random.default_rng(0)
    layer, x = tr.LayerNorm(6, dtype=np.float64), rng.standard_normal((2, 3, 6))
    y = layer(x).data
    np.testing.assert_allclose(y.mean(-1), 0, atol=1e-12)
    np.testing.assert_allclose(y.std(-1), 1, atol=1e-4)
    assert check_grads(
        lambda x, g, b: (tr.LayerNorm.__call__(layer, x) * np.arange(6.0)).sum() + (g * b).sum(), x, y[0], y[1]
    ).ok
    with pytest.raises(tr.ShapeError, match=r"LayerNorm: expected x of shape \(..., D\) = \(..., 6\), got \(2, 5\)"):
        layer(np.ones((2, 5)))


def test_gates_that_both_round_to_zero_have_their_ratio():
    cell = tr.MinLSTMCell(2, 1, np.random.default_rng(0))
    cell.Wx.data = np.float32([[1, 0, 0], [0, 1, 0]])
    cell.b.data = np.float32([0, 0, 3])
    x = np.float32([[-300, -300], [-300, -301], [-2000, 0], [0, -2000]])
    h, _ = cell(x, np.full((4, 1), 5, np.float32))
    share = 1 / (1 + np.exp([0.0, -1.0, 700.0, -700.0]))  # f / (f + i)
    np.testing.assert_allclose(h.data[:, 0], share * 5 + (1 - share) * 3, rtol=1e-4)
    assert all(np.isfinite(part).all() for part in tr.grad(np.sum(h), cell.parameters()).values())
