"""Sums over axes in the middle, log-softmax and conversions of the library."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from replay import need_library, replay_call, small_plans_shared

import tinygrad_rnn as tr
from tinygrad_rnn import ops
from tinygrad_rnn.compiler.ir.operators import SUM, operator_of
from tinygrad_rnn.compiler.native.records import records_of

MEAN, ASTYPE = map(operator_of, (ops.reduce.mean, ops.elementwise.astype))
NAN, INF = np.nan, np.inf


@pytest.fixture(autouse=True, scope="module")
def native():
    need_library()
    with small_plans_shared(), np.errstate(all="ignore"):
        yield


def framed(shape, dtype):
    """Return an array within memory, and what lies around it, which must stay 7."""
    whole = np.full(int(np.prod(shape)) + 8, 7, dtype)
    return whole[4:-4].reshape(shape), whole[[*range(4), *range(-4, 0)]]


@given(
    shape=st.tuples(*[st.integers(1, 6)] * 3),
    wide=st.sampled_from([1, 3, 64, 130, 700]),
    axes=st.sampled_from([(1,), (-2,), (1, 2)]),
    keepdims=st.booleans(),
    apart=st.booleans(),
    mean=st.booleans(),
    dtype=st.sampled_from(["float64", "float32"]),
    workers=st.integers(1, 3),
    seed=st.integers(0, 2**32 - 1),
)
def test_sums_and_means_over_axes_in_the_middle(shape, wide, axes, keepdims, apart, mean, dtype, workers, seed):
    shape = (*shape[: len(axes) + 1], wide)
    x = np.random.default_rng(seed).standard_normal(shape).astype(dtype)
    if apart and len(axes) == 1:  # a part of an array, so that its rows, and its groups, lie further from each other
        x = np.pad(x, [(0, 0), (0, 0), (1, 2)], constant_values=NAN)[..., 1:-2]
    expected = (np.mean if mean else np.sum)(x, axis=axes, dtype=np.float64, keepdims=keepdims)
    out, around = framed(expected.shape, dtype)
    replay_call(MEAN if mean else SUM, [x], [out], workers, axis=axes, keepdims=keepdims)
    assert np.allclose(out, expected, rtol=0, atol=1e-4 if dtype == "float32" else 1e-12)
    assert np.all(around == 7)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("shape", [(1,), (7,), (5, 3), (2, 3, 1030), (40, 33)])
def test_log_softmax_and_logsumexp(shape, workers, dtype):
    x = (10 * np.random.default_rng(0).standard_normal(shape)).astype(dtype)
    tolerance = 2e-6 if dtype == "float32" else 1e-14
    for function in (tr.log_softmax, tr.logsumexp):
        expected = function(x.astype(np.float64), axis=-1)
        out, around = framed(np.shape(expected), dtype)
        replay_call(operator_of(function), [x], [out], workers, axis=-1)
        np.testing.assert_allclose(out, expected, rtol=tolerance, atol=tolerance)
        assert np.all(around == 7)


ODD = [[1, NAN, 2], [-INF, 1, 2], [-INF, -INF, -INF], [INF, 1, 2], [INF, INF, -INF], [3e38, -3e38, 0], [-3e38] * 3]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_log_softmax_and_logsumexp_of_what_is_no_number(dtype):
    x = np.array(ODD, dtype)
    for function in (tr.log_softmax, tr.logsumexp):
        expected = function(x, axis=1)
        out = np.empty_like(expected)
        replay_call(operator_of(function), [x], [out], axis=1)
        np.testing.assert_allclose(out, expected, rtol=1e-6)


def test_masked_attention_is_computed_by_the_library_alone():
    """Scores, a softmax over those that count, and a sum over time: with the gradient, and no call of NumPy."""
    rng = np.random.default_rng(0)
    keys, lengths = rng.standard_normal((3, 5, 4)).astype(np.float32), np.array([5, 1, 3])
    kept = np.arange(5) < lengths[:, None]
    w = tr.parameter(rng.standard_normal((4, 4)), np.float32)

    def attend(keys, q):
        scores = np.sum(keys * (q @ w)[:, None], axis=2)
        shares = tr.softmax(tr.where(kept, scores, -np.inf))
        context = np.sum(shares[..., None] * keys, axis=1)
        return context, tr.grad(np.sum(context**2), w)

    q = rng.standard_normal((3, 4)).astype(np.float32)
    compiled = tr.compile(attend, executor="native")
    for made, expected in zip(compiled(keys, q), attend(keys, q), strict=True):
        np.testing.assert_allclose(made, expected.data, rtol=1e-5, atol=1e-6)
    assert [one.operator.name for one, _ in compiled.plan.flat() if records_of(one) is None] == []


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("target", ["float64", "float32", "int64"])
@pytest.mark.parametrize("source", ["float64", "float32", "int64"])
def test_conversions(source, target, workers):
    x = (100 * np.random.default_rng(0).standard_normal((70, 60))).astype(source)
    if "int64" not in (source, target):
        x.flat[:5] = [NAN, INF, -INF, -0.0, 1e-42]
    for part in (x, x[:, 1:-2], x[::-2], x[:, ::3], x[0]):
        out, around = framed(part.shape, target)
        if source == target == "int64":
            continue  # which is a copy, of a type that the library does not compute with
        replay_call(ASTYPE, [part], [out], workers, dtype=np.dtype(target))
        np.testing.assert_array_equal(out, part.astype(target))
        assert np.all(around == 7)
