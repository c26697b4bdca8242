"""NumPy functions on Tensors: they record, or they say why not. A gradient is never lost without a word."""

import numpy as np
import pytest

import tinygrad_rnn as tr


@pytest.fixture
def x():
    return tr.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)


@pytest.mark.parametrize(
    "f",
    [
        np.tanh,
        lambda x: np.exp(x) * np.ones(2),
        lambda x: np.ones((2, 2)) @ x,
        lambda x: np.ones(2) * x,
        lambda x: np.float64(3) - x,
        lambda x: [1.0, 2.0] + x,  # noqa: RUF005
        lambda x: np.concatenate([x, np.ones((1, 2))]),
        lambda x: np.concatenate([np.ones((1, 2)), x]),
        lambda x: np.stack([x, x], axis=1),
        lambda x: np.where(x > 2, x, 0),
        lambda x: np.sum(x, axis=0),
        lambda x: np.mean(x, 1, keepdims=True),
        lambda x: np.take(x, [0, 0], axis=0),
        lambda x: x.T[0],
        lambda x: abs(-x) + +x,
        lambda x: x[None] / 2,
        lambda x: 1 / x.astype(np.float32),
        lambda x: x[tr.tensor([1, 0])],
        lambda x: np.take_along_axis(x, tr.tensor([[1], [0]]), axis=1),
    ],
)
def test_recorded(f, x):
    y = f(x)
    assert isinstance(y, tr.Tensor)
    assert np.any(tr.grad(y, x, cotangent=np.ones(y.shape)))


@pytest.mark.parametrize(
    ("f", "words"),
    [
        (np.linalg.svd, "np.linalg.svd: has no derivative rule"),
        (np.fft.fft, "np.fft.fft"),
        (np.linalg.det, "np.linalg.det"),
        (np.add.reduce, "np.add.reduce"),
        (lambda x: np.add(x, x, out=np.zeros((2, 2))), "out="),
        (lambda x: np.exp(x, where=np.ones((2, 2), bool)), "keyword arguments"),
        (lambda x: np.sum(x, out=np.zeros(())), "out="),
        (lambda x: np.trace(x, dtype=np.float32), "dtype"),
        (lambda x: np.take(x, [0], mode="wrap"), "np.take on Tensors: .*'mode'; it takes a, indices, axis$"),
        (lambda x: np.asarray(x), "would lose its gradient"),
        (lambda x: np.zeros((2, 2)).__iadd__(x), "array = array \\+ tensor"),
    ],
)
def test_refused(f, words, x):
    with pytest.raises(tr.UnsupportedError, match=words):
        f(x)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x > 2,
        lambda x: x <= np.ones(2),
        lambda x: x == x,
        lambda x: x != 1,
        lambda x: x == "fro",
        lambda x: x != b"fro",
        np.isfinite,
        np.isnan,
        lambda x: np.argmax(x, axis=1),
        lambda x: x.argmin(0),
        lambda x: x.argmax(keepdims=True),
        lambda x: x.argsort(0),
        lambda x: (x > 1).any() & (x > 0).all(),
        lambda x: np.any(x, axis=0),
        lambda x: x.all(axis=1),
        lambda x: np.array(x.nonzero()),
        lambda x: x[0].searchsorted([1.5]),
        lambda x: np.signbit(x),
        lambda x: np.bincount(np.astype(x[0], int)),
        lambda x: np.tril_indices_from(x)[0],
        np.zeros_like,
        lambda x: np.allclose(x, x),
        np.shape,
        np.ndim,
    ],
)
def test_answers_that_have_no_gradient_are_plain(f, x):
    expected = f(x.data)
    got = f(x)
    assert not isinstance(got, tr.Tensor)
    np.testing.assert_array_equal(got, expected)


def test_augmented_assignment_makes_a_new_tensor(x):
    y = x
    y += 1
    assert y is not x
    assert tr.grad(y.sum(), x).tolist() == [[1, 1], [1, 1]]


def test_booleans_of_single_elements(x):
    assert bool(x[0, 0] > 0)
    with pytest.raises(tr.ShapeError):
        bool(x)


def test_constants_turn_into_arrays_and_tensors_are_hashable(x):
    assert np.asarray(tr.tensor([1.0])).tolist() == [1]
    assert {x: 1}[x] == 1


def test_repr(x):
    assert repr(tr.tensor([1.0], dtype=np.float32, name="w")) == "tensor([1.], dtype=float32, name='w')"
    assert "requires_grad=True" in repr(x)
    assert repr(x.sum()) == "tensor(10., dtype=float64, op=sum)"


def test_the_table_names_what_is_supported():
    assert tr.supported()[np.tanh] is tr.tanh
