"""Every operation: its rule against complex step, first and second order, and the dtypes that come back."""

import operator

import numpy as np
import numpy_cases
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy_cases import draw
from oracle import STEP, complex_gradient, relative_error

import tinygrad_rnn as tr
from tinygrad_rnn.engine.tensor import wrap

IDS = np.array([[0, 2, 2], [1, 2, 0]])
ALONG = np.array([[0, 2], [1, 1]])
EYE = 3 * np.eye(3, dtype=np.float32)

# name: (function, shapes of its inputs)
CASES = {
    "add": (tr.add, [(2, 3), (2, 3)]),
    "add, broadcast": (tr.add, [(2, 1, 3), (4, 1)]),
    "add, 0-d": (tr.add, [(), (3,)]),
    "subtract": (tr.subtract, [(2, 3), (3,)]),
    "multiply": (tr.multiply, [(2, 3), (2, 1)]),
    "multiply by itself": (lambda x: x * x, [(2, 3)]),
    "divide": (tr.divide, [(2, 3), (3,)]),
    "negative": (tr.negative, [(2, 3)]),
    "power, scalar": (lambda x: x**3, [(2, 3)]),
    "power, both": (tr.power, [(2, 3), (3,)]),
    "power of a number": (lambda x: 2.0**x, [(3,)]),
    "exp": (tr.exp, [(2, 3)]),
    "log": (tr.log, [(2, 3)]),
    "sqrt": (tr.sqrt, [(2, 3)]),
    "tanh": (tr.tanh, [(2, 3)]),
    "sigmoid": (tr.sigmoid, [(2, 3)]),
    "relu": (tr.relu, [(4, 5)]),
    "maximum": (tr.maximum, [(4, 5), (5,)]),
    "minimum": (np.minimum, [(4, 5), (5,)]),
    "absolute": (tr.absolute, [(4, 5)]),
    "square": (np.square, [(4,)]),
    "reciprocal": (np.reciprocal, [(4,)]),
    "clip": (lambda x: np.clip(x, -0.5, 0.5), [(4, 5)]),
    "where": (lambda a, b: tr.where(np.arange(3) > 0, a, b), [(2, 3), (3,)]),
    "sum": (tr.sum, [(2, 3, 4)]),
    "sum, axis": (lambda x: np.sum(x, 1), [(2, 3, 4)]),
    "sum, axes, keepdims": (lambda x: tr.sum(x, axis=(0, -1), keepdims=True), [(2, 3, 4)]),
    "sum, 0-d": (tr.sum, [()]),
    "mean": (lambda x: x.mean(axis=(0, 2)), [(2, 3, 4)]),
    "mean, all": (np.mean, [(2, 3)]),
    "max": (lambda x: x.max(axis=1), [(2, 3, 4)]),
    "max, all": (tr.max, [(2, 3)]),
    "min": (lambda x: np.min(x, axis=0, keepdims=True), [(2, 3)]),
    "var": (lambda x: np.var(x, axis=-1), [(2, 3)]),
    "logsumexp": (lambda x: tr.logsumexp(x, axis=1), [(2, 3)]),
    "logsumexp, all": (tr.logsumexp, [(2, 3)]),
    "log_softmax": (tr.log_softmax, [(2, 3, 4)]),
    "log_softmax, axis 0": (lambda x: tr.log_softmax(x, axis=0), [(3, 2)]),
    "softmax": (tr.softmax, [(2, 3)]),
    "matmul": (tr.matmul, [(2, 3), (3, 4)]),
    "inv": (lambda a: np.linalg.inv(a + EYE), [(2, 3, 3)]),
    "solve": (lambda a, b: np.linalg.solve(a + EYE, b), [(2, 3, 3), (2, 3, 2)]),
    "solve, vector": (lambda a, b: tr.solve(a + EYE, b), [(3, 3), (3,)]),
    "solve, vector by batch": (lambda a, b: tr.solve(a + EYE, b), [(2, 3, 3), (3,)]),
    "solve, matrix by batch": (lambda a, b: tr.solve(a + EYE, b), [(3, 3), (2, 3, 1)]),
    "solve, batch broadcast": (lambda a, b: tr.solve(a + EYE, b), [(2, 1, 3, 3), (4, 3, 2)]),
    "matmul, vectors": (operator.matmul, [(3,), (3,)]),
    "matmul, vector left": (operator.matmul, [(3,), (3, 4)]),
    "matmul, vector right": (operator.matmul, [(2, 3), (3,)]),
    "matmul, batch": (operator.matmul, [(5, 2, 3), (5, 3, 4)]),
    "matmul, batch broadcast": (operator.matmul, [(5, 1, 2, 3), (4, 3, 2)]),
    "matmul, sequence by matrix": (operator.matmul, [(2, 5, 3), (3, 4)]),
    "matmul, matrix by batch": (operator.matmul, [(2, 3), (5, 3, 4)]),
    "matmul, vector by batch": (operator.matmul, [(3,), (5, 3, 4)]),
    "matmul, batch by vector": (operator.matmul, [(5, 2, 3), (3,)]),
    "dot": (np.dot, [(2, 3), (3, 2)]),
    "reshape": (lambda x: x.reshape(3, -1), [(2, 6)]),
    "ravel": (np.ravel, [(2, 3)]),
    "transpose": (np.transpose, [(2, 3, 4)]),
    "transpose, axes": (lambda x: x.transpose(2, 0, 1), [(2, 3, 4)]),
    "transpose, negative axes": (lambda x: x.transpose((-1, 0, 1)), [(2, 3, 4)]),
    "swapaxes": (lambda x: x.swapaxes(0, -1), [(2, 3, 4)]),
    "moveaxis": (lambda x: np.moveaxis(x, [0, 1], [-1, 0]), [(2, 3, 4)]),
    "expand_dims": (lambda x: np.expand_dims(x, (0, 2)), [(2, 3)]),
    "squeeze": (lambda x: np.squeeze(x, 1), [(2, 1, 3)]),
    "broadcast_to": (lambda x: np.broadcast_to(x, (4, 2, 3)), [(2, 1)]),
    "getitem, slices": (lambda x: x[1:, ::-2, None], [(3, 4)]),
    "getitem, ellipsis": (lambda x: x[..., 0], [(2, 3, 4)]),
    "getitem, integers, repeated": (lambda x: x[[0, 2, 2]], [(3, 4)]),
    "getitem, integers in the middle": (lambda x: x[:, IDS, :], [(2, 4, 3)]),
    "getitem, two index arrays": (lambda x: x[IDS, 1:, IDS], [(3, 2, 3)]),
    "getitem, mask": (lambda x: x[np.array([True, False, True])], [(3, 2)]),
    "take": (lambda x: tr.take(x, IDS, axis=0), [(3, 4)]),
    "take, axis 1": (lambda x: tr.take(x, IDS, axis=1), [(2, 3, 2)]),
    "take, negative ids": (lambda x: tr.take(x, [-1, 2, -3], axis=-1), [(2, 3)]),
    "take, flat": (lambda x: np.take(x, [5, 0, 0]), [(2, 3)]),
    "take, nothing": (lambda x: tr.take(x, np.zeros((0,), int), axis=0), [(3, 4)]),
    "take_along_axis": (lambda x: tr.take_along_axis(x, ALONG, axis=1), [(2, 3)]),
    "take_along_axis, broadcast": (lambda x: np.take_along_axis(x, np.array([[[0], [1]]]), axis=1), [(3, 2, 4)]),
    "concatenate": (lambda a, b: np.concatenate([a, b, a], axis=1), [(2, 3), (2, 1)]),
    "stack": (lambda a, b: np.stack([a, b], axis=-1), [(2, 3), (2, 3)]),
    "split": (lambda x: (lambda a, b, c: a * c + b)(*np.split(x, 3, axis=1)), [(2, 6)]),
    "split, one output unused": (lambda x: np.split(x, [1, 3])[1] ** 2, [(5,)]),
    "unstack": (lambda x: (lambda a, b: a * b)(*np.unstack(x, axis=1)), [(3, 2)]),
    "unstack, one output unused": (lambda x: tr.unstack(x)[1], [(3, 2)]),
    "iteration": (lambda x: (lambda a, b: a * b)(*x), [(2, 3)]),
    "astype": (lambda x: x * x if np.iscomplexobj(x) else tr.astype(x, np.float64) * x, [(2,)]),
    "cross_entropy": (lambda x: tr.cross_entropy(x, [[1, 0, -1], [3, 3, 2]]), [(2, 3, 4)]),
    "cross_entropy, other label": (lambda x: tr.cross_entropy(x, [9, 0], ignore_label=9), [(2, 3)]),
    "cut, scaled, of nothing recurrent": (lambda x: tr.cut(x, scale=0.5) * x, [(2, 3)]),
    "cut, closed": (lambda x: tr.cut(x) * x, [(2, 3)]),
    "zero-size": (lambda x: np.sum(np.tanh(x) * 2, axis=1), [(0, 3)]),
}
POSITIVE_DOMAIN = {"power, both", "log", "sqrt", "divide", "reciprocal"}
CASES = {name: (*case, (0.5, 2.0)) if name in POSITIVE_DOMAIN else case for name, case in CASES.items()}
ALL = CASES | numpy_cases.CASES


def first_order(name, seed):
    """The rule equals complex step through the function."""
    f, *_ = ALL[name]
    arrays = draw(ALL[name], seed)
    weights = np.random.default_rng(seed + 1).standard_normal(np.shape(f(*map(tr.tensor, arrays))))
    xs = [tr.tensor(array, requires_grad=True) for array in arrays]
    gradients = tr.grad(f(*xs), xs, cotangent=weights)
    for which, gradient in enumerate(gradients):
        expected = complex_gradient(lambda *a: np.sum(raw(f, a) * weights), arrays, which)
        assert relative_error(gradient, expected) < 1e-13


def raw(f, arrays):
    """Call f on constant Tensors: methods such as x.mean exist on them, and nothing is recorded."""
    result = f(*map(tr.tensor, arrays))
    assert not result.requires_grad
    return result.data


def second_order(name, seed):
    """Differentiating the recorded backward pass equals complex step through the backward pass."""
    f, shapes, *_ = ALL[name]
    arrays = draw(ALL[name], seed)
    rng = np.random.default_rng(seed + 1)
    weights = rng.standard_normal(np.shape(raw(f, arrays)))
    directions = [rng.standard_normal(s) for s in shapes]

    def first(xs, create_graph):
        # a nonlinear readout, so that the second derivative of a linear operation is not zero too
        return tr.grad(np.sum(tr.tanh(f(*xs)) * weights), xs, create_graph=create_graph)

    xs = [tr.tensor(array, requires_grad=True) for array in arrays]
    inner = [np.sum(g * v) for g, v in zip(first(xs, True), directions, strict=True)]
    total = sum(inner[1:], inner[0])
    products = tr.grad(total, xs, allow_unused=True)
    shifted = [tr.tensor(a + 1j * STEP * v, requires_grad=True) for a, v in zip(arrays, directions, strict=True)]
    for product, gradient in zip(products, first(shifted, False), strict=True):
        assert relative_error(product, gradient.imag / STEP) < 1e-11


ORDERS = [first_order, second_order]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("check", ORDERS)
@given(seed=st.integers(0, 2**32 - 1))
def test_operations(check, name, seed):
    check(name, seed)


@pytest.mark.sample(70)
@pytest.mark.parametrize("name", numpy_cases.CASES)
@pytest.mark.parametrize("check", ORDERS)
@settings(max_examples=4)  # they are written with the operations, or have a rule of one line
@given(seed=st.integers(0, 2**32 - 1))
def test_functions_of_numpy(check, name, seed):
    check(name, seed)


@pytest.mark.parametrize("name", ALL)
def test_float32_stays_float32(name):
    f, *_ = ALL[name]
    if name == "astype":
        return
    xs = [tr.tensor(array.astype(np.float32), requires_grad=True) for array in draw(ALL[name], 0)]
    y = f(*xs)
    assert y.dtype == np.float32
    for x, gradient in zip(xs, tr.grad(y, xs, cotangent=np.ones(y.shape)), strict=True):
        assert gradient.dtype == np.float32
        assert gradient.shape == x.shape


@pytest.mark.parametrize("name", ALL)
def test_on_arrays_operations_of_the_package_give_arrays(name):
    f, *_ = ALL[name]
    if f in vars(tr).values():
        assert not isinstance(f(*draw(ALL[name], 0)), tr.Tensor)


@pytest.mark.parametrize(
    ("f", "x", "expected"),
    [
        (tr.relu, [-1.0, 0.0, 2.0], [0.0, 0.0, 1.0]),
        (lambda x: tr.maximum(x, 0.0), [-1.0, 0.0, 2.0], [0.0, 0.5, 1.0]),
        (tr.max, [1.0, 3.0, 3.0], [0.0, 0.5, 0.5]),
        (tr.absolute, [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]),
        (lambda x: x**0, [0.0, 2.0], [0.0, 0.0]),
        (lambda x: x**2, [0.0, 2.0], [0.0, 4.0]),
        (tr.logsumexp, [-np.inf, 0.0], [0.0, 1.0]),
    ],
)
def test_at_kinks_and_edges(f, x, expected):
    leaf = tr.tensor(x, requires_grad=True)
    np.testing.assert_array_equal(tr.grad(np.sum(f(leaf)), leaf), expected)


@pytest.mark.parametrize("z", [-1e4, -800.0, 800.0, 1e4])
def test_no_overflow_far_out(z):
    x = tr.tensor([z, 0.0], requires_grad=True)
    for y in (tr.sigmoid(x).sum(), tr.logsumexp(x), tr.log_softmax(x)[0], tr.cross_entropy(x, 1)):
        assert np.isfinite(y.item())
        assert np.isfinite(tr.grad(y, x)).all()


def test_cross_entropy_equals_its_definition_over_several_blocks_of_rows():
    rng = np.random.default_rng(0)
    logits, targets = rng.standard_normal((50, 9000)), rng.integers(-1, 9000, 50)
    kept = targets >= 0
    expected = -np.mean(tr.log_softmax(logits)[kept, targets[kept]])
    x = tr.tensor(logits, requires_grad=True)
    loss = tr.cross_entropy(x, targets)
    assert loss.item() == pytest.approx(expected, rel=1e-14)
    onehot = (np.arange(9000) == targets[:, None]) & kept[:, None]
    by_hand = (tr.softmax(logits) * kept[:, None] - onehot) / kept.sum()
    assert relative_error(tr.grad(loss, x), by_hand) < 1e-15


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda x: tr.cross_entropy(x, [0]), tr.ShapeError, r"targets of shape \(2,\)"),
        (lambda x: tr.cross_entropy(x, [0.5, 1.0]), tr.DTypeError, "integer targets"),
        (lambda x: tr.cross_entropy(x, [0, 3]), IndexError, r"target 3 is outside \[0, V\) with V=3"),
        (lambda x: tr.cross_entropy(x, [-1, -1]), tr.ShapeError, "all 2 positions are masked"),
        (lambda x: x @ x, tr.ShapeError, r"matmul: .*shape \(2, 3\), \(2, 3\)"),
        (lambda x: x + np.ones(4), tr.ShapeError, r"add: .*shape \(2, 3\), \(4,\)"),
        (lambda x: x.reshape(4), tr.ShapeError, "reshape"),
        (lambda x: tr.take(x, [0.5]), tr.DTypeError, "integer indices"),
        (lambda x: tr.take(x, [7], axis=0), IndexError, "take"),
        (lambda x: x[5], IndexError, "getitem"),
        (lambda x: x[np.array([0.5])], tr.DTypeError, "integers or booleans"),
        (lambda x: x + "a", tr.DTypeError, "add: expected numbers, got str"),
        (lambda x: np.dot(x, np.ones((3, 2, 2))), ValueError, "at most 2 axes"),
        (lambda x: tr.cut(x, scale=np.nan), tr.GradientError, "finite real number"),
        (lambda x: tr.cut(x, scale="no"), tr.GradientError, "finite real number"),
    ],
)
def test_bad_input_is_a_named_error(call, error, words):
    with pytest.raises(error, match=words):
        call(tr.tensor(np.zeros((2, 3)), requires_grad=True))


def test_attributes_by_position_by_name_and_wrong():
    x = tr.tensor(np.ones((2, 3)), requires_grad=True)
    assert tr.logsumexp(x, 0, True).shape == tr.logsumexp(x, axis=0, keepdims=True).shape == (1, 3)
    with pytest.raises(TypeError, match="several values"):
        tr.logsumexp(x, 0, axis=1)
    with pytest.raises(TypeError, match="positional arguments"):
        tr.tanh(x, x)


def test_index_arrays_can_change_after_recording():
    ids = np.array([0, 1])
    W = tr.tensor(np.eye(3), requires_grad=True)
    y = tr.take(W, ids, axis=0)[ids].sum()
    ids[:] = 2
    assert tr.grad(y, W)[2].sum() == 0


def test_wrap_shares_memory_and_is_read_only():
    array = np.zeros(2)
    assert wrap(array).data is array
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1
