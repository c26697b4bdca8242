"""Axes, in every operation that takes one: out of range, named twice or no integer is an error that says so."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from replay import executors

import tinygrad_rnn as tr

IDS = np.zeros((1, 1, 1), int)

# name: (function of an operand of shape (2, 1, 4) and an axis, what the axis is called, axes that the result has more)
TAKERS = {
    "sum": (lambda x, axis: np.sum(x, axis=axis), "axis", 0),
    "mean": (lambda x, axis: np.mean(x, axis=axis), "axis", 0),
    "max": (lambda x, axis: np.max(x, axis=axis), "axis", 0),
    "min": (lambda x, axis: np.min(x, axis=axis), "axis", 0),
    "var": (lambda x, axis: np.var(x, axis=axis), "axis", 0),
    "logsumexp": (lambda x, axis: tr.logsumexp(x, axis=axis), "axis", 0),
    "log_softmax": (lambda x, axis: tr.log_softmax(x, axis=axis), "axis", 0),
    "softmax": (lambda x, axis: tr.softmax(x, axis=axis), "axis", 0),
    "take": (lambda x, axis: np.take(x, [0], axis=axis), "axis", 0),
    "take_along_axis": (lambda x, axis: np.take_along_axis(x, IDS, axis=axis), "axis", 0),
    "concatenate": (lambda x, axis: np.concatenate([x, x], axis=axis), "axis", 0),
    "stack": (lambda x, axis: np.stack([x, x], axis=axis), "axis", 1),
    "split": (lambda x, axis: np.split(x, 1, axis=axis), "axis", 0),
    "unstack": (lambda x, axis: np.unstack(x, axis=axis), "axis", 0),
    "expand_dims": (lambda x, axis: np.expand_dims(x, axis), "axis", 1),
    "swapaxes": (lambda x, axis: np.swapaxes(x, 0, axis), "axis2", 0),
    "moveaxis": (lambda x, axis: np.moveaxis(x, axis, 0), "source", 0),
    "squeeze": (lambda x, axis: np.squeeze(x, axis), "axis", 0),
    "transpose": (lambda x, axis: np.transpose(x, (0, 1, axis)), "axes", 0),
    "argmax": (lambda x, axis: np.argmax(x, axis=axis), "axis", 0),
    "argsort": (lambda x, axis: np.argsort(x, axis=axis), "axis", 0),
    "count_nonzero": (lambda x, axis: np.count_nonzero(x, axis=axis), "axis", 0),
}
SEVERAL = [
    "sum",
    "mean",
    "max",
    "min",
    "var",
    "logsumexp",
    "log_softmax",
    "softmax",
    "squeeze",
    "expand_dims",
    "moveaxis",
]


def leaf():
    return tr.tensor(np.arange(8.0).reshape(2, 1, 4), requires_grad=True)


@pytest.mark.parametrize("name", TAKERS)
@pytest.mark.parametrize("beyond", [0, 2, 100])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("compiled", [False, True])
def test_out_of_range(name, beyond, sign, compiled):
    f, argument, more = TAKERS[name]
    axis = 3 + more + beyond if sign > 0 else -4 - more - beyond
    call = tr.compile(lambda x: f(x, axis)) if compiled else lambda x: f(x, axis)
    with pytest.raises(tr.ShapeError, match=rf"^{name}: .*{argument}.* of shape \(2, 1, 4\).*") as raised:
        call(leaf())
    assert str(axis) in str(raised.value)


@pytest.mark.parametrize("name", SEVERAL)
@pytest.mark.parametrize("axes", [(1, 1), (1, -2)])
def test_named_twice(name, axes):
    if name == "expand_dims":
        axes = (1, -4) if axes == (1, -2) else axes
    with pytest.raises(tr.ShapeError, match=rf"^{name}: (axis|source) must name each axis .*\(2, 1, 4\) once"):
        TAKERS[name][0](leaf(), axes)


@pytest.mark.parametrize("name", ["argmax", "argsort"])
@pytest.mark.parametrize("axis", [1.0, "1"])
def test_no_integer_where_the_answer_has_no_gradient(name, axis):
    with pytest.raises(tr.DTypeError, match=rf"^{name}: .*integer.*shape \(2, 1, 4\)"):
        TAKERS[name][0](leaf(), axis)


@pytest.mark.parametrize("name", [name for name in TAKERS if name not in ("argmax", "argsort", "count_nonzero")])
@pytest.mark.parametrize("axis", [1.0, "1", True, np.float64(1)])
def test_no_integer(name, axis):
    f, argument, _ = TAKERS[name]
    with pytest.raises(tr.DTypeError, match=rf"^{name}: {argument} must be .*integer.* got .*1|True"):
        f(leaf(), axis)


@pytest.mark.parametrize(
    "name", [name for name in TAKERS if name not in (*SEVERAL, "argmax", "argsort", "count_nonzero")]
)
def test_one_axis_where_one_is_meant(name):
    with pytest.raises(tr.DTypeError, match=rf"^{name}: .*integer"):
        TAKERS[name][0](leaf(), (0, 1))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: np.swapaxes(x, -4, 0), "swapaxes: axis1 must lie in"),
        (lambda x: np.moveaxis(x, 0, 3), "moveaxis: destination must lie in"),
        (lambda x: np.moveaxis(x, (0, 1), 0), "moveaxis: source and destination must name as many"),
        (lambda x: np.transpose(x, (0, 1)), "transpose: axes must name each axis"),
        (lambda x: np.squeeze(x, 0), r"squeeze: axis must name axes of length 1 .*\(2, 1, 4\)"),
        (lambda x: tr.log_softmax(np.sum(x), axis=1), r"log_softmax: axis must be left out .*shape \(\)"),
        (lambda x: np.split(x, 3), "split: array split does not"),
        (lambda x: np.split(x, 0), "split: the number of sections must be at least 1"),
        (lambda x: np.take_along_axis(x, [0], 0), r"take_along_axis: indices must have as many axes .*\(2, 1, 4\)"),
        (lambda x: np.dot(x, x), "dot: expected at most 2 axes"),
        (lambda x: tr.stack([]), "stack: expected at least one array, got none"),
        (lambda x: tr.concatenate([]), "concatenate: expected at least one array, got none"),
    ],
)
def test_other_wrong_axes_and_shapes(call, words):
    with pytest.raises(tr.ShapeError, match=words):
        call(leaf())


@pytest.mark.parametrize("cuts", [2.5, [0.5], "2"])
def test_split_at_no_integers(cuts):
    with pytest.raises(tr.DTypeError, match="^split: expected a number of sections or several indices"):
        np.split(leaf(), cuts)


@pytest.mark.parametrize("name", TAKERS)
@given(axis=st.integers(-3, 2), kind=st.sampled_from([int, np.int64, np.int8]))
def test_every_axis_in_every_form_is_numpys(name, axis, kind):
    f, _, _ = TAKERS[name]
    if name == "squeeze" or (name == "transpose" and axis not in (2, -1)):
        axis = 1 if name == "squeeze" else 2
    x = leaf()
    got = f(x, kind(axis))
    if name in ("logsumexp", "log_softmax", "softmax"):
        shifted = np.exp(x.data - x.data.max())
        total = shifted.sum(axis=axis, keepdims=True)
        named = {"softmax": shifted / total, "log_softmax": np.log(shifted / total)}
        expected = named.get(name, np.log(total.squeeze(axis)) + x.data.max())
        np.testing.assert_allclose(got.data, expected, rtol=1e-13, atol=1e-13)
        return
    expected = f(np.array(x.data), axis)
    several = isinstance(expected, list | tuple)
    for one, other in zip(got if several else [got], expected if several else [expected], strict=True):
        np.testing.assert_allclose(getattr(one, "data", one), other, rtol=1e-13)


@pytest.mark.parametrize("axis", [None, 0, -1])
def test_a_single_number_is_reduced_as_by_numpy(axis):
    x = tr.tensor(3.0, requires_grad=True)
    for f in (np.sum, np.mean, np.max, np.min, tr.logsumexp):
        assert f(x, axis=axis).item() == 3.0
        assert tr.grad(f(x, axis=axis), x) == 1.0


@pytest.mark.parametrize("setting", executors(), ids=lambda setting: setting["executor"])
def test_axes_of_numpys_integers_compile(setting):
    def f(x):
        y = np.sum(x, axis=np.int64(-1)) * np.mean(x, axis=(np.int32(0), np.int64(-1)))
        a, b = np.split(np.transpose(x, np.array([2, 0, 1])), np.array([1]), axis=np.int64(0))
        return tr.grad(np.sum(y) + np.sum(a) * np.sum(b), x)

    np.testing.assert_allclose(tr.compile(f, **setting)(leaf()), f(leaf()), rtol=1e-13)


# -- arguments that NumPy takes forward --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "f",
    [
        lambda a, b: np.concatenate([a, b], axis=None),
        lambda a, b: np.concatenate([b, np.sum(a)], axis=None),
        lambda a, b: np.take_along_axis(a, np.array([0, 3, 3]), axis=None),
        lambda a, b: np.sum(a * b[0, 0], axis=()),
        lambda a, b: np.mean(a, axis=()),
        lambda a, b: np.max(a, axis=()),
        lambda a, b: tr.softmax(a, axis=(0, 2)) * b,
        lambda a, b: tr.log_softmax(a, axis=None) * b,
        lambda a, b: np.transpose(a, [2, -3, 1]),
        lambda a, b: np.reshape(b, [-1, 2]),
    ],
)
def test_what_numpy_takes_forward_goes_backward(f):
    a, b = np.random.default_rng(0).standard_normal((2, 2, 1, 4))
    report = tr.testing.check_grads(f, a, b, method="longdouble", allow_unused=True)
    assert report.ok, report
    assert np.array_equal(f(tr.tensor(a), tr.tensor(b)).data, f(a, b))
