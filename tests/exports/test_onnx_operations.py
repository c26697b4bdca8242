"""ONNX files, run by ONNX Runtime: every operation, and drawn programs."""

import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx_runs import RNG, SIGNED, N, T, arrays_of, assert_like, ran, runtime
from programs import lines, write

import tinygrad_rnn as tr

# -- operations -------------------------------------------------------------------------------------------------------

POSITIVE = RNG(3).uniform(0.2, 0.9, (2, 3)).astype(np.float32)


def every_function(x, p):
    """Each function of one operand, or of two: those of NumPy that the compiler knows."""
    signed = (
        "negative exp tanh floor ceil trunc rint sign sin cos tan arctan sinh cosh arcsinh expm1 exp2 cbrt absolute"
    )
    positive = "sqrt log log1p log2 log10 arcsin arccos arctanh square"
    two = "add subtract multiply divide maximum minimum hypot logaddexp fmod remainder floor_divide power"
    tests = "less less_equal greater greater_equal equal not_equal"
    return (
        [getattr(np, name)(x) for name in signed.split()],
        [getattr(np, name)(p) for name in positive.split()],
        np.arccosh(p + 1),
        [tr.relu(x), tr.sigmoid(x), tr.softplus(x), np.clip(x, -1, 1), np.round(x, 1), 2 - x, x**2],
        [getattr(np, name)(p if name == "power" else x, p) for name in two.split()],
        [getattr(np, name)(x, 0.5) for name in tests.split()],
        [np.isfinite(x), np.isnan(x), np.logical_and(x > 0, p > 0.5), np.logical_not(x > 0)],
        [np.where(x > 0, x, p), (x > 0) * p, np.argmax(x, axis=1), np.argmin(x)],
    )


def every_arrangement(x, p, i, k):
    """Shapes, slices, joins, lookups, reductions."""
    wide = np.reshape(x, (2, 3, 1)) * np.ones((1, 3, 4), np.float32)
    return (
        [x.T, np.reshape(x, (3, 2)), np.expand_dims(x, 1), np.broadcast_to(x[:1], (4, 3)), np.swapaxes(wide, 0, 2)],
        [x[0], x[:, -1], x[..., 1:], x[::-1, ::2], x[None, :, None], x[1, 2], wide[1, :, 2:4], wide[:, 0]],
        [
            x[i],
            wide[i, i],
            x[:, i],
            x[:, np.array([True, False, True])],
            np.take(x, i, axis=1),
            np.take_along_axis(x, k, axis=1),
        ],
        [np.concatenate([x, p], axis=1), np.stack([x, p], axis=1), *np.split(x, 3, axis=1), *np.split(wide, [1], 2)],
        [np.sum(x), np.sum(wide, axis=(0, 2)), np.mean(x, axis=1, keepdims=True), np.max(x, axis=0), np.min(x)],
        [
            np.prod(p, axis=1),
            np.cumsum(x, axis=1),
            tr.logsumexp(x, axis=1),
            tr.softmax(x),
            tr.log_softmax(x, axis=(0, 1)),
        ],
        [x @ p.T, np.einsum("ij,kj->ik", x, p), wide @ np.ones((4, 2), np.float32), x @ x[0]],
        [tr.cross_entropy(x, i), tr.cross_entropy(x, i, mask=i > 0)],
        [tr.mse(x, p), tr.mse(x, p, mask=i > 0), x.astype(np.float64)],
    )


def test_every_function(tmp_path):
    tr.export(every_function, tmp_path / "a.onnx", SIGNED, POSITIVE)
    with np.errstate(all="ignore"):
        assert_like(ran(tmp_path / "a.onnx", SIGNED, POSITIVE), every_function(SIGNED, POSITIVE), rtol=1e-6)


def test_every_arrangement(tmp_path):
    args = SIGNED, POSITIVE, np.array([1, 0]), np.array([[2, 0], [1, 1]])
    tr.export(every_arrangement, tmp_path / "a.onnx", *args)
    assert_like(ran(tmp_path / "a.onnx", *args), every_arrangement(*args), rtol=1e-6)


def test_small_arguments_keep_their_digits(tmp_path):
    x = np.array([1e-12, -1e-9, 0, 1e-4], np.float64)

    def f(x):
        return np.log1p(x), np.expm1(x)

    tr.export(f, tmp_path / "a.onnx", x)
    for got, wanted in zip(ran(tmp_path / "a.onnx", x), f(x), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-14)


def wide_functions(x, p):
    of_all = [np.tan(x), np.sinh(x), np.cosh(x), np.arcsinh(x), tr.softplus(x), np.trunc(x), np.logaddexp(x, p)]
    sides = [np.arcsin(p), np.arcsin(-p), np.arccos(p), np.arccos(-p), np.arcsin(np.sign(x)), np.arccos(np.sign(x))]
    return of_all, [np.arccosh(p + 1), np.arctanh(p), np.arctanh(-p)], sides, np.arctan(1e3**x), np.arctan(x * np.inf)


def test_functions_that_onnx_runtime_has_in_float32_alone(tmp_path):
    args = np.array([-3.0, -1e-9, 1e-200, 1e-5, 2.5]), np.array([1e-9, 0.1, 0.5, 0.9, 0.999])
    tr.export(wide_functions, tmp_path / "a.onnx", *args)
    for got, wanted in zip(ran(tmp_path / "a.onnx", *args), arrays_of(wide_functions(*args)), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-13)


def at_the_ends(x, y):
    log_space = np.logaddexp(x, y), np.logaddexp(x, x), np.log1p(np.abs(x)), np.hypot(x, y), np.hypot(x, 0)
    inverse = np.arcsinh(x), np.arccosh(x), np.arctanh(x), np.sinh(x)
    return [*log_space, *inverse, np.remainder(x, y), np.remainder(2.0, x), np.floor_divide(x, y), 2.0 // x]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_at_the_ends_and_whole_quotients(tmp_path, dtype):
    """Squares may be no number where the result is one, and a rounded quotient may be a whole number too many."""
    large = 1e30 if dtype == np.float32 else 1e200
    x = np.array([np.inf, -np.inf, large, -large, 0.1, 0.7, 1, -6, 0, 3, -3, np.nan], dtype)
    y = np.array([np.inf, -np.inf, 1, large, -0.3, 0.1, 0.1, 0.1, 0, -np.inf, 2, 1], dtype)
    tr.export(at_the_ends, tmp_path / "a.onnx", x, y)
    with np.errstate(all="ignore"):
        for number, (got, wanted) in enumerate(zip(ran(tmp_path / "a.onnx", x, y), at_the_ends(x, y), strict=True)):
            tolerance = 20 * np.finfo(dtype).eps
            np.testing.assert_allclose(got, wanted, rtol=tolerance, atol=tolerance / 10, err_msg=str(number))


def test_what_goes_along_an_axis(tmp_path):
    def f(x):
        many = np.cumprod(x, axis=1), np.cumsum(x, axis=0), tr.linear_scan(x[0], x[0], axis=-1), np.full_like(x, 2.5)
        return many, tr.grad(np.sum(tr.linear_scan(x, x, axis=-1, reverse=True)), x), np.split(x, (-1, 0), axis=1)

    x = tr.tensor(POSITIVE, requires_grad=True)
    tr.export(f, tmp_path / "a.onnx", x)
    assert_like(ran(tmp_path / "a.onnx", x), f(x))


def test_no_elements(tmp_path):
    def f(x):
        return np.sum(np.broadcast_to(x[:, :1], (2, 0))), x[:0] @ np.ones((3, 2), np.float32)

    tr.export(f, tmp_path / "a.onnx", SIGNED)
    assert_like(ran(tmp_path / "a.onnx", SIGNED), f(SIGNED))


def test_gradients_of_slices_and_lookups(tmp_path):
    def f(x, i):
        rows = np.array([0, 0, 1])
        loss = (
            np.sum(x[1, 1:] ** 2)
            + np.sum(x[rows, rows + 1] ** 3)
            + np.sum(np.tanh(x[:, ::-2]))
            + np.sum(x[None, ..., 0] ** 4)
            + np.sum(np.tanh(np.take(x, i, axis=0)))
            + np.sum(np.take_along_axis(x, i[None], 1) ** 3)
        )
        return tr.grad(loss, x)

    x, i = tr.tensor(np.arange(6.0).reshape(2, 3) / 5, requires_grad=True), np.array([1, 1, 0])
    tr.export(f, tmp_path / "a.onnx", x, i)
    assert_like(ran(tmp_path / "a.onnx", x, i), f(x, i))


def test_the_gradient_of_an_index_that_is_an_input_is_refused(tmp_path):
    x, i = tr.tensor(np.ones((3, 4)), requires_grad=True), np.array([0, 2])
    with pytest.raises(tr.UnsupportedError, match="ONNX has no gradient of this index"):
        tr.export(lambda x, i: tr.grad(np.sum(x[i, i] ** 2), x), tmp_path / "a.onnx", x, i)


def test_padding_of_arrays_of_any_length(tmp_path):
    def causal(xs):
        wide = np.pad(xs, ((0, 0), (2, 0), (0, 0)))
        lowest = np.pad(xs, ((0, 0), (0, 0), (1, 2)), constant_values=-1.0)
        return wide[:, :-2] - xs, lowest, np.diag(np.exp(xs[0, 0])), np.pad(xs, ((1, 0), (0, 3), (0, 0)))[:, 2:]

    xs = RNG(0).standard_normal((3, 6, 2)).astype(np.float32)
    tr.export(causal, tmp_path / "a.onnx", xs[:2, :4], axes={"xs": {0: "N", 1: "T"}})
    for some in (xs, xs[:1, :3], xs[:2, :4]):
        assert_like(ran(tmp_path / "a.onnx", some), causal(some))


def test_constants_that_depend_on_the_sizes(tmp_path):
    def f(xs):
        n, t = xs.shape
        table = np.arange(n)[:, None] * 2 - np.arange(t)[None] + n
        ones, even = np.ones((n, t), np.float32), np.arange(0, 2 * t, 2, np.float32)
        return xs + ones, xs + even, xs + table, np.reshape(xs, (t * n,)), xs[:, : t - 2], np.reshape(xs, (t, n)) * t

    tr.export(f, tmp_path / "a.onnx", np.zeros((N, T), np.float32), axes={"xs": {0: "N", 1: "T"}})
    xs = SIGNED[:, [0, 1, 2, 0]]
    assert_like(ran(tmp_path / "a.onnx", xs), f(xs))


# -- drawn programs ---------------------------------------------------------------------------------------------------


def runs_the_same(program, order):
    """Assert that ONNX Runtime gives what eager execution gives, or that the export is refused."""
    names = ", ".join(f"x{number}" for number in range(len(program.inputs)))
    f = eval(f"lambda {names}: f({names})", {"f": program.function(order)})
    with tempfile.TemporaryDirectory() as folder, np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of numbers out of range
        path = Path(folder, "a.onnx")
        try:
            tr.export(f, path, *program.inputs)
            got = ran(path, *program.inputs)
        except tr.UnsupportedError:
            return
        except runtime.capi.onnxruntime_pybind11_state.NotImplemented:  # functions that it lacks in float64
            return
        for one, other in zip(got, arrays_of(f(*program.inputs)), strict=True):
            assert (one.shape, one.dtype) == (other.shape, other.dtype), program.source
            bound = 1e-4 * max(1, np.abs(other.astype(np.float64)).max(initial=0))
            assert np.allclose(one.astype(np.float64), other.astype(np.float64), 0, bound, equal_nan=True), (
                program.source
            )


drawn = given(
    st.builds(write, lines, lines, lines, st.sampled_from([0, 0, 1, 3]), st.just("float32"), st.integers(0, 2**32 - 1)),
    st.integers(0, 1),
)


@settings(max_examples=10, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@drawn
def test_drawn_programs(program, order):
    runs_the_same(program, order)


@pytest.mark.nightly
@settings(max_examples=500, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@drawn
def test_many_drawn_programs(program, order):
    runs_the_same(program, order)
