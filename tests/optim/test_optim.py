"""Optimizers against hand computations, clipping, schedules."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tr
from tinygrad_rnn import optim
from tinygrad_rnn.errors import ConfigError, DTypeError, NonFiniteError, ShapeError

# Each rule once more, written out element by element from its source, on a list of Python floats: rule(p, gs) -> p
# after the gradients gs, with weight decay d.


def sgd(p, gs, d):
    for g in gs:
        p -= 0.1 * (g + d * p)
    return p


def momentum(p, gs, d, nesterov=False):
    v = 0.0
    for g in gs:
        g = g + d * p
        v = 0.7 * v + g
        p -= 0.1 * ((g + 0.7 * v) if nesterov else v)
    return p


def rmsprop(p, gs, d, momentum=0.0, centered=False):
    v = m = b = 0.0
    for g in gs:
        g = g + d * p
        v = 0.8 * v + 0.2 * g**2
        m = 0.8 * m + 0.2 * g
        b = momentum * b + g / (math.sqrt(v - m**2 if centered else v) + 1e-3)
        p -= 0.1 * b
    return p


def adam(p, gs, d, decoupled=0.0, amsgrad=False):
    m = v = peak = 0.0
    for t, g in enumerate(gs, start=1):
        g = g + d * p
        m = 0.6 * m + 0.4 * g
        v = 0.9 * v + 0.1 * g**2
        peak = max(peak, v)
        step = 0.1 * (m / (1 - 0.6**t)) / (math.sqrt((peak if amsgrad else v) / (1 - 0.9**t)) + 1e-3)
        p = p - step - 0.1 * decoupled * p
    return p


def adagrad(p, gs, d):
    v = 0.5
    for t, g in enumerate(gs, start=1):
        g = g + d * p
        v += g**2
        p -= 0.1 / (1 + (t - 1) * 0.2) * g / (math.sqrt(v) + 1e-3)
    return p


def lion(p, gs, d):
    m = 0.0
    for g in gs:
        c = 0.6 * m + 0.4 * g
        p -= 0.1 * (math.copysign(1, c) + d * p)
        m = 0.9 * m + 0.1 * g
    return p


RULES = {
    "sgd": (lambda d: tr.SGD(0.1, weight_decay=d), sgd),
    "momentum": (lambda d: tr.Momentum(0.1, 0.7, weight_decay=d), momentum),
    "nesterov": (lambda d: tr.Momentum(0.1, 0.7, True, d), lambda p, gs, d: momentum(p, gs, d, nesterov=True)),
    "rmsprop": (lambda d: tr.RMSprop(0.1, 0.8, 1e-3, d), rmsprop),
    "adam": (lambda d: tr.Adam(0.1, (0.6, 0.9), 1e-3, d), adam),
    "adamw": (lambda d: tr.AdamW(0.1, (0.6, 0.9), 1e-3, d), lambda p, gs, d: adam(p, gs, 0.0, decoupled=d)),
    "centered": (
        lambda d: tr.RMSprop(0.1, 0.8, 1e-3, d, momentum=0.6, centered=True),
        lambda p, gs, d: rmsprop(p, gs, d, momentum=0.6, centered=True),
    ),
    "amsgrad": (
        lambda d: tr.Adam(0.1, (0.6, 0.9), 1e-3, d, amsgrad=True),
        lambda p, gs, d: adam(p, gs, d, amsgrad=True),
    ),
    "adagrad": (lambda d: tr.Adagrad(0.1, 0.2, 0.5, 1e-3, d), adagrad),
    "lion": (lambda d: tr.Lion(0.1, (0.6, 0.9), d), lion),
}


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("decay", [0.0, 0.3])
@given(seed=st.integers(0, 2**32 - 1))
def test_rule_is_the_equation(name, decay, seed):
    make, by_hand = RULES[name]
    rng = np.random.default_rng(seed)
    W, b = rng.standard_normal((2, 3)), rng.standard_normal(4)
    params = {"W": tr.tensor(W, requires_grad=True), "b": tr.tensor(b, requires_grad=True)}
    gs = [{"W": rng.standard_normal((2, 3)), "b": rng.standard_normal(4)} for _ in range(4)]
    optimizer = make(decay)
    for g in gs:
        optimizer.update(params, g)
    expected_W = [by_hand(p, [g["W"].flat[i] for g in gs], decay) for i, p in enumerate(W.flat)]
    expected_b = [by_hand(p, [g["b"][i] for g in gs], 0.0) for i, p in enumerate(b)]  # biases do not decay
    np.testing.assert_allclose(params["W"].data.ravel(), expected_W, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(params["b"].data, expected_b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", RULES)
def test_float32_stays_and_gradients_are_left_alone(name):
    p = tr.tensor(np.ones((2, 2), np.float32), requires_grad=True)
    g = np.full((2, 2), 0.5, np.float32)
    optimizer = RULES[name][0](0.1)
    for _ in range(2):
        optimizer.update({"p": p}, {"p": g})
    assert p.dtype == np.float32
    assert {array.dtype for key, array in optimizer.state_dict().items() if key != "steps"} <= {np.dtype(np.float32)}
    np.testing.assert_array_equal(g, np.full((2, 2), 0.5))


@pytest.mark.parametrize("name", RULES)
def test_state_dict_goes_on_with_the_same_bits(name):
    rng = np.random.default_rng(0)
    start, gs = rng.standard_normal((2, 3)), rng.standard_normal((6, 2, 3))
    straight, resumed = (tr.tensor(start, requires_grad=True) for _ in range(2))
    optimizer, first, second = (RULES[name][0](0.1) for _ in range(3))
    for g in gs:
        optimizer.update({"cell.W": straight}, {"cell.W": g})
    for g in gs[:3]:
        first.update({"cell.W": resumed}, {"cell.W": g})
    saved = first.state_dict()
    first.update({"cell.W": tr.tensor(start, requires_grad=True)}, {"cell.W": gs[0]})  # `saved` holds copies
    second.load_state_dict(saved)
    for g in gs[3:]:
        second.update({"cell.W": resumed}, {"cell.W": g})
    np.testing.assert_array_equal(resumed.data, straight.data)


def test_an_older_graph_keeps_the_older_gradient():
    W = tr.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    loss = (W * W).sum()
    before = tr.grad(loss, {"W": W})
    tr.Adam(0.5).update({"W": W}, before)
    np.testing.assert_array_equal(tr.grad(loss, W), [[2, 4], [6, 8]])
    np.testing.assert_array_equal(tr.grad((W * W).sum(), W), 2 * W.data)
    assert not np.array_equal(W.data, [[1, 2], [3, 4]])


def test_lr_of_one_update_wins_over_the_own_one():
    p = tr.tensor([1.0], requires_grad=True)
    tr.SGD(0.1).update({"p": p}, {"p": np.array([1.0])}, lr=0.5)
    assert p.data.tolist() == [0.5]


def params_and_grads():
    params = {name: tr.tensor(np.ones((2, 2)), requires_grad=True) for name in ("a", "b")}
    return params, {name: np.ones((2, 2)) for name in params}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda p, g: g.pop("b"), ShapeError, r"Adam.update: grads lack parameters \['b'\]"),
        (lambda p, g: g.update(c=np.ones(1)), ShapeError, r"unknown parameters \['c'\]"),
        (lambda p, g: g.update(b=np.ones(2)), ShapeError, r"gradient of b has shape \(2,\), expected \(2, 2\)"),
        (lambda p, g: (p.pop("b"), g.pop("b")), ShapeError, r"earlier updates .* unknown parameters \['b'\]"),
        (lambda p, g: p.update(b=tr.tensor(np.ones((2, 2), complex))), DTypeError, "b has dtype complex128"),
        (lambda p, g: g.update(b=np.ones((2, 2), complex)), DTypeError, "gradient of b has dtype complex128"),
    ],
)
def test_what_does_not_fit_changes_nothing(change, error, message):
    optimizer, (params, grads) = tr.Adam(0.1), params_and_grads()
    optimizer.update(params, grads)
    before, state = params["a"].data, optimizer.state_dict()
    change(params, grads)
    with pytest.raises(error, match=message):
        optimizer.update(params, grads)
    assert params["a"].data is before
    for key, array in optimizer.state_dict().items():
        np.testing.assert_array_equal(array, state[key])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"steps": 1, "x.a": [1.0]}, "unknown name 'x.a'"),
        ({"m.a": [1.0], "v.a": [1.0]}, "missing steps"),
        ({"steps": 1, "m.a": [1.0]}, "missing slots of a"),
    ],
)
def test_load_state_dict_refuses(arrays, message):
    with pytest.raises(ShapeError, match=message):
        tr.Adam(0.1).load_state_dict(arrays)


@pytest.mark.parametrize(
    "make",
    [
        lambda: tr.SGD(0.0),
        lambda: tr.SGD(math.nan),
        lambda: tr.SGD(True),
        lambda: tr.SGD(0.1, weight_decay=-1),
        lambda: tr.Momentum(0.1, momentum=1.0),
        lambda: tr.RMSprop(0.1, alpha=-0.1),
        lambda: tr.RMSprop(0.1, eps=0.0),
        lambda: tr.RMSprop(0.1, momentum=1.0),
        lambda: tr.RMSprop(0.1, centered="yes"),
        lambda: tr.Adagrad(0.1, lr_decay=-1),
        lambda: tr.Adagrad(0.1, initial=-1),
        lambda: tr.Adagrad(0.1, eps=0.0),
        lambda: tr.Lion(0.1, betas=(0.9,)),
        lambda: tr.Lion(0.1, betas=(1.0, 0.9)),
        lambda: tr.Adam(0.1, amsgrad=1),
        lambda: tr.Adam(0.1, betas=(0.9, 1.0)),
        lambda: tr.SGD(0.1).update(*params_and_grads(), lr=-1.0),
        lambda: tr.SGD(0.1).update(*params_and_grads(), lr=math.nan),
        lambda: tr.SGD(0.1).update(*params_and_grads(), lr=math.inf),
        lambda: tr.SGD(0.1).update(*params_and_grads(), lr=True),
        lambda: tr.SGD(0.1).update({}, {}),
        lambda: tr.Adam(0.1, betas=0.9),
        lambda: tr.Adam(0.1, betas=(0.9, 0.99, 0.999)),
        lambda: tr.Adam(0.1).load_state_dict({"steps": -1}),
        lambda: tr.Adam(0.1).load_state_dict({"steps": 1.5}),
        lambda: tr.clip_by_norm({}, "1"),
        lambda: tr.clip_by_norm({}, True),
        lambda: tr.clip_by_value({}, math.nan),
        lambda: tr.clip_by_norm({}, 0.0),
        lambda: tr.clip_by_norm({}, math.nan),
        lambda: tr.clip_by_value({}, -1.0),
        lambda: optim.Constant(0.0),
        lambda: optim.Plateau(0.1, factor=1.0),
        lambda: optim.Cosine(0.1, total_steps=0),
        lambda: optim.Cosine(0.1, total_steps=5, floor=0.2),
        lambda: optim.Warmup(optim.Constant(0.1), steps=0),
    ],
)
def test_settings_out_of_range(make):
    with pytest.raises(ConfigError):
        make()


@given(seed=st.integers(0, 2**32 - 1), max_norm=st.floats(0.01, 10), exponent=st.integers(-150, 150))
def test_clipped_norm_and_direction(seed, max_norm, exponent):
    rng = np.random.default_rng(seed)
    grads = {"a": rng.standard_normal((3, 2)) * 2.0**exponent, "b": rng.standard_normal(4) * 2.0**exponent}
    copies = {name: g.copy() for name, g in grads.items()}
    clipped, norm = tr.clip_by_norm(grads, max_norm)
    assert math.isclose(norm, math.hypot(*grads["a"].flat, *grads["b"].flat), rel_tol=1e-12)
    assert math.isclose(optim.global_norm(clipped), min(norm, max_norm), rel_tol=1e-12)
    scale = min(1.0, max_norm / norm)
    for name, g in copies.items():
        np.testing.assert_array_equal(grads[name], g)  # pure
        np.testing.assert_allclose(clipped[name], g * scale, rtol=1e-12)


@pytest.mark.parametrize(("max_norm", "expected"), [(4.9, 4.9), (5.0, 5.0), (5.1, 5.0), (math.inf, 5.0)])
def test_only_what_is_longer_is_clipped(max_norm, expected):
    clipped, norm = tr.clip_by_norm({"a": np.array([3.0]), "b": np.array([[4.0]])}, max_norm)
    assert norm == 5.0
    assert math.isclose(math.hypot(clipped["a"].item(), clipped["b"].item()), expected)


@pytest.mark.parametrize(("dtype", "big"), [(np.float32, 3e38), (np.float64, 1e308)])
def test_norm_does_not_overflow(dtype, big):
    clipped, norm = tr.clip_by_norm({"a": np.array([big, 0.0], dtype)}, 1.0)
    assert math.isclose(norm, dtype(big), rel_tol=1e-12)
    assert clipped["a"].dtype == dtype
    np.testing.assert_allclose(clipped["a"], [1, 0], rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_gradient_is_named(bad):
    grads = {"fine": np.ones(2), "layers.0.Wx": np.array([1.0, bad, 2.0]), "later": np.array([bad])}
    with pytest.raises(NonFiniteError, match=r"gradient of layers\.0\.Wx has 1 non-finite of 3 values"):
        tr.clip_by_norm(grads, 1.0)


def test_norm_of_nothing_and_of_zeros():
    assert tr.clip_by_norm({}, 1.0) == ({}, 0.0)
    assert optim.global_norm({"a": np.zeros(3), "empty": np.zeros((0, 2))}) == 0.0


def test_clip_by_value():
    g = {"a": np.array([-3, 0.5, 3], np.float32)}
    clipped = tr.clip_by_value(g, 2.0)
    assert clipped["a"].tolist() == [-2, 0.5, 2]
    assert clipped["a"].dtype == np.float32
    assert g["a"].tolist() == [-3, 0.5, 3]


def test_schedules():
    cosine = optim.Cosine(1.0, total_steps=4, floor=0.2)
    assert [round(cosine.lr(step), 6) for step in (0, 2, 4, 6)] == [1.0, 0.6, 0.2, 0.2]
    halving = optim.Warmup(optim.Plateau(0.8), steps=2)
    assert [halving.lr(step) for step in (0, 1, 2)] == [0.4, 0.8, 0.8]
    for loss in (3.0, 2.0, 2.0, 2.5):
        halving.observe(loss)
    assert halving.lr(5) == 0.2
    constant = optim.Constant(0.3)
    constant.observe(math.inf)
    assert constant.lr(10**9) == 0.3


def test_an_optimizer_of_ones_own_needs_a_rule():
    class Ruleless(tr.optim.Rule):
        pass

    with pytest.raises(TypeError, match="rule"):
        Ruleless(lr=0.1)


@pytest.mark.parametrize("make", [tr.SGD, tr.Momentum, tr.RMSprop, tr.Adam, tr.AdamW, tr.Adagrad])
def test_half_precision_follows_the_rule_in_float32(make):
    start, g = np.array([[1.0, 2.0], [-1.0, 0.5]]), np.array([[0.0, 1e-4], [3e-3, -1.0]])
    half, single = tr.tensor(start, np.float16, True), tr.tensor(start, np.float32, True)
    for p, optimizer in ((half, make(0.1)), (single, make(0.1))):
        optimizer.update({"p": p}, {"p": g.astype(np.float16).astype(p.dtype)})  # eps is 0 in float16
    assert half.dtype == np.float16
    np.testing.assert_allclose(half.data, single.data.astype(np.float16), rtol=1e-3)


@pytest.mark.parametrize("dtype", [np.int64, np.complex128, np.bool_])
def test_only_real_floating_point_is_clipped(dtype):
    for clipped in (lambda g: tr.clip_by_norm(g, 1.0), lambda g: tr.clip_by_value(g, 1.0), optim.global_norm):
        with pytest.raises(DTypeError, match="the gradient of a has dtype"):
            clipped({"a": np.ones(2, dtype)})


def test_a_state_that_is_not_real_is_not_taken():
    optimizer = tr.Momentum(0.1)
    for array in (np.ones(2, complex), np.array(["a", "b"]), np.array([None, None])):
        with pytest.raises(DTypeError, match=r"Momentum.load_state_dict: v\.a has dtype"):
            optimizer.load_state_dict({"steps": 1, "v.a": array})
    assert optimizer.steps == 0
