"""`out=`: a primitive on plain arrays writes into a given array. What each primitive writes, tests/testing checks."""

import numpy as np
import pytest

import tinygrad_rnn as tr
from tinygrad_rnn.ops.index import _take

X = np.linspace(-1.0, 1.0, 6).reshape(2, 3)


@tr.primitive()
def doubled(x, /):
    return x + x


@tr.primitive(multiple=True)
def halves(x, /):
    return x[:1], x[1:]


def test_the_result_is_the_array_that_was_given():
    buffer = np.empty((2, 3))
    assert tr.tanh(X, out=buffer) is buffer
    assert tr.tanh.forward(X, out=buffer) is buffer
    np.testing.assert_array_equal(buffer, np.tanh(X))
    parts = np.empty((2, 1)), np.empty((2, 2))
    returned = tr.split(X, (1,), axis=1, out=parts)
    assert all(ours is given for ours, given in zip(returned, parts, strict=True))
    np.testing.assert_array_equal(np.hstack(parts), X)


def test_a_primitive_without_out_is_copied():
    assert tr.tanh.accepts_out
    assert not doubled.accepts_out
    buffer, parts = np.empty((2, 3)), (np.empty((1, 3)), np.empty((1, 3)))
    assert doubled(X, out=buffer) is buffer
    np.testing.assert_array_equal(buffer, 2 * X)
    assert halves(X, out=parts) is parts
    np.testing.assert_array_equal(np.vstack(parts), X)


def test_out_is_not_an_attribute():
    x = tr.tensor(X, requires_grad=True)
    y = tr.sum(x, 0, out=None)
    assert y.node.attrs == {"axis": 0, "keepdims": False}
    np.testing.assert_array_equal(tr.grad(y, x, cotangent=np.ones(3)), np.ones((2, 3)))


def test_out_must_be_keyword_only():
    with pytest.raises(TypeError, match="primitive bad: out must be keyword-only"):

        @tr.primitive()
        def bad(x, /, out=None):
            return x


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: tr.tanh(tr.tensor(X), out=np.empty((2, 3))), tr.UnsupportedError, "out= is for plain arrays"),
        (lambda: tr.add(X, tr.tensor(X), out=np.empty((2, 3))), tr.UnsupportedError, "would lose its gradient"),
        (lambda: tr.tanh(X, out=tr.tensor(X)), tr.UnsupportedError, "out= is for plain arrays"),
        (lambda: np.sum(tr.tensor(X), out=np.empty(())), tr.UnsupportedError, "sum: out="),
        (lambda: tr.tanh(X, out=np.empty((3, 2))), tr.ShapeError, r"tanh: .*out of shape \(3, 2\) float64"),
        (lambda: tr.tanh(X, out=np.empty((2, 3), int)), tr.DTypeError, r"tanh: .*int64"),
        (lambda: tr.reshape(X, (6,), out=np.empty(5)), tr.ShapeError, r"reshape: .*shape=\(6,\), out of shape \(5,\)"),
        (lambda: tr.split(X, 3, axis=1, out=(np.empty((2, 1)),)), tr.ShapeError, "split: .*out of shape"),
        (lambda: tr.astype(X, np.float32, out=np.empty((2, 3))), tr.DTypeError, "expected out of dtype float32"),
        (lambda: doubled(X, out=np.empty((2, 3), int)), tr.DTypeError, "doubled: "),
        (lambda: _take(X, indices=np.array([2]), axis=0, out=np.empty((1, 3))), IndexError, "axis 0 with size 2"),
        (lambda: _take(X, indices=np.array([-3]), axis=0, out=np.empty((1, 3))), IndexError, "axis 0 with size 2"),
    ],
)
def test_what_does_not_fit_is_a_named_error(call, error, words):
    with pytest.raises(error, match=words):
        call()


@pytest.mark.parametrize("which", ["condition", "a", "b"])
def test_where_may_write_over_its_inputs(which):
    inputs = {"condition": X > 0, "a": X.copy(), "b": 10 * X}
    expected = np.where(*inputs.values())
    if which == "condition":
        inputs["condition"] = inputs["b"] > 0
        inputs["a"], inputs["b"] = inputs["a"] > 5, inputs["b"] > -5
        expected = np.where(*inputs.values())
    tr.where(*inputs.values(), out=inputs[which])
    np.testing.assert_array_equal(inputs[which], expected)


def test_a_sequence_by_a_matrix_into_a_time_major_buffer():
    """The (N, T, H) view of a (T, N, H) buffer: not C-ordered, and written without a copy of the product."""
    rng = np.random.default_rng(0)
    xs, W, buffer = rng.standard_normal((2, 5, 3)), rng.standard_normal((3, 4)), np.empty((5, 2, 4))
    tr.matmul(xs, W, out=buffer.transpose(1, 0, 2))
    np.testing.assert_allclose(buffer.transpose(1, 0, 2), xs @ W, rtol=1e-14)
