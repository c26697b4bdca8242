"""jvp, vjp, jacobian and hvp against complex step, against each other, and inside compiled functions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tr
from tinygrad_rnn.engine.tree import flatten

STEP = 1e-100


def mixed(x, pair):
    """Several outputs of several inputs, nested."""
    W, b = pair["W"], pair["b"]
    h = np.tanh(x @ W + b)
    return {"h": h, "rest": (np.sum(h * x[:, :1]), b * b)}


def drawn(seed, N=2, D=3, H=2):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((N, D)), {"W": rng.standard_normal((D, H)), "b": rng.standard_normal(H)}


def flat(nest):
    return [np.asarray(part.data if isinstance(part, tr.Tensor) else part) for part in flatten(nest)]


def by_complex_step(function, primals, tangents):
    moved = [
        {key: part[key] + 1j * STEP * way[key] for key in part} if isinstance(part, dict) else part + 1j * STEP * way
        for part, way in zip(primals, tangents, strict=True)
    ]
    return [part.imag / STEP for part in flat(function(*moved))]


@given(st.integers(0, 999), st.booleans())
def test_jvp_is_complex_step(seed, compiled):
    primals, tangents = drawn(seed), drawn(seed + 1000)
    push = tr.compile(lambda p, t: tr.jvp(mixed, p, t)) if compiled else lambda p, t: tr.jvp(mixed, p, t)
    value, slopes = push(primals, tangents)
    for found, expected in zip(flat(value), flat(mixed(*primals)), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12)
    for found, expected in zip(flat(slopes), by_complex_step(mixed, primals, tangents), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


@given(st.integers(0, 999))
def test_vjp_is_the_transpose(seed):
    primals, tangents = drawn(seed), drawn(seed + 1000)
    value, pull = tr.vjp(mixed, *primals)
    rng = np.random.default_rng(seed)
    cotangents = {
        "h": rng.standard_normal(value["h"].shape),
        "rest": (rng.standard_normal(), rng.standard_normal(value["rest"][1].shape)),
    }
    _, slopes = tr.jvp(mixed, primals, tangents)
    right = sum(np.sum(u * s) for u, s in zip(flat(cotangents), flat(slopes), strict=True))
    left = sum(np.sum(g * t) for g, t in zip(flat(pull(cotangents)), flat(tangents), strict=True))
    assert left == pytest.approx(right, rel=1e-12)
    again = [part.tobytes() for part in flat(pull(cotangents))]
    assert again == [part.tobytes() for part in flat(pull(cotangents))]


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(("inputs", "outputs"), [(2, 5), (5, 2)])  # by columns, by rows
def test_jacobian(compiled, inputs, outputs):
    rng = np.random.default_rng(0)
    A, x, y = rng.standard_normal((outputs, inputs)), rng.standard_normal(inputs), rng.standard_normal((2, outputs))

    def function(x, y):
        return [np.sin(A @ x) * y, np.sum(x)]

    jacobian = (tr.compile if compiled else lambda f: f)(lambda x, y: tr.jacobian(function, x, y))
    (by_x, by_y), (sum_x, sum_y) = jacobian(x, y)
    np.testing.assert_allclose(by_x, y[:, :, None] * np.cos(A @ x)[:, None] * A, rtol=1e-12)
    expected = np.zeros((2, outputs, 2, outputs))
    for n in range(2):
        expected[n, range(outputs), n, range(outputs)] = np.sin(A @ x)
    np.testing.assert_allclose(by_y, expected, rtol=1e-12)
    np.testing.assert_array_equal(sum_x, np.ones(inputs))
    np.testing.assert_array_equal(sum_y, np.zeros((2, outputs)))


@pytest.mark.parametrize("compiled", [False, True])
def test_hvp_of_a_recurrent_network(compiled):
    rng = np.random.default_rng(0)
    cell, xs = tr.GRUCell(2, 3, rng, np.float64), rng.standard_normal((2, 4, 2))
    start, way = rng.standard_normal((2, 3)), rng.standard_normal((2, 3))

    def loss(state):
        return np.sum(tr.unroll(cell, xs, state)[0] ** 2)

    product = (tr.compile if compiled else lambda f: f)(lambda h, v: tr.hvp(loss, (h,), (v,)))
    gradient, along = product(start, way)
    leaf = tr.tensor(start, requires_grad=True)
    np.testing.assert_allclose(gradient, tr.grad(loss(leaf), leaf), rtol=1e-12)
    hessian = tr.jacobian(lambda h: tr.grad(loss(h), h, create_graph=True), start)
    np.testing.assert_allclose(along, np.einsum("abcd,cd->ab", hessian, way), rtol=1e-11)
    np.testing.assert_allclose(hessian.reshape(6, 6), hessian.reshape(6, 6).T, rtol=1e-10, atol=1e-13)


def test_products_with_create_graph_are_differentiated_again():
    x, v = tr.tensor([0.3, -1.2], requires_grad=True), np.array([2.0, 0.5])
    _, slope = tr.jvp(lambda x: np.sin(x) * x, (x,), (v,), create_graph=True)
    found = tr.grad(np.sum(slope), x)
    np.testing.assert_allclose(found, v * (2 * np.cos(x.data) - x.data * np.sin(x.data)), rtol=1e-12)
    gradient, along = tr.hvp(lambda x: np.sum(x**4), (x,), (v,), create_graph=True)
    np.testing.assert_allclose(tr.grad(np.sum(along), x), 24 * x.data * v, rtol=1e-12)
    np.testing.assert_allclose(tr.grad(np.sum(gradient), x), 12 * x.data**2, rtol=1e-12)


def test_what_a_function_closes_over_is_constant():
    x = tr.tensor([1.0, 2.0], requires_grad=True)
    _, pull = tr.vjp(lambda y: x * y, x)  # the x inside is not the argument
    np.testing.assert_array_equal(pull(np.ones(2)), x.data)
    value, slope = tr.jvp(lambda y: x * 2, (np.ones(3),), (np.ones(3),))
    np.testing.assert_array_equal(slope, np.zeros(2))
    assert value.shape == (2,)


def test_cuts_stop_tangents_as_they_stop_cotangents():
    _, slope = tr.jvp(lambda h: tr.cut(h) * h + tr.cut(h, 0.5), (np.array(3.0),), (np.array(1.0),))
    assert slope == 3.5


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: tr.vjp(np.sin, np.arange(3)), tr.DTypeError, "vjp: .* got .* of int64 as number 0"),
        (lambda: tr.jvp(np.sin, np.ones(3), np.ones(3)), tr.ShapeError, "jvp: expected primals to be the tuple"),
        (
            lambda: tr.jvp(np.sin, (np.ones(3),), (np.ones(2),)),
            tr.ShapeError,
            r"expected tangents of shape \(3,\)",
        ),
        (
            lambda: tr.jvp(np.sin, (np.ones(3),), (1.0, 2.0)),
            tr.ShapeError,
            r"tangents nested as \(\*,?\), got",
        ),
        (lambda: tr.vjp(np.sin, np.ones(3))[1](np.ones(4)), tr.ShapeError, "vjp: expected cotangents of shape"),
        (
            lambda: tr.jacobian(lambda x: x.data, np.ones(3)),
            tr.GradientError,
            "jacobian: the function returned an nd",
        ),
        (lambda: tr.vjp(lambda x: None, np.ones(3)), tr.GradientError, "vjp: the function returned nothing"),
        (
            lambda: tr.hvp(np.sin, (np.ones(3),), (np.ones(3),)),
            tr.GradientError,
            r"hvp: the function must return one Tensor of one element, .*; got a recorded Tensor of shape \(3,\)$",
        ),
        (lambda: tr.vjp("sin", np.ones(3)), tr.ConfigError, "vjp: function must be a callable, .* got a str"),
        *[
            (lambda call=call: call(lambda x: (x * x, "label")), tr.GradientError, f"{name}: .* a str as number 1")
            for name, call in {
                "vjp": lambda f: tr.vjp(f, np.ones(3)),
                "jvp": lambda f: tr.jvp(f, (np.ones(3),), (np.ones(3),)),
                "jacobian": lambda f: tr.jacobian(f, np.ones(3)),
                "hvp": lambda f: tr.hvp(f, (np.ones(3),), (np.ones(3),)),
            }.items()
        ],
        (
            lambda: tr.jvp(np.sin, (np.ones(2),), (np.array(["a", "b"]),)),
            tr.DTypeError,
            "jvp: expected tangents of numbers, got .* of <U1 as number 0",
        ),
        (
            lambda: tr.vjp(np.sin, np.ones(2))[1](np.array(["a", "b"])),
            tr.DTypeError,
            "vjp: expected cotangents of numbers",
        ),
    ],
)
def test_errors(call, error, text):
    with pytest.raises(error, match=text):
        call()
