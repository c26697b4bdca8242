"""Elementwise calls and sums over the first and last axes, of the library."""

import numpy as np
import pytest
from drawn import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from replay import assert_equal, need_library, replay_call, small_plans_shared

import tinygrad_rnn as tr
from tinygrad_rnn import ops
from tinygrad_rnn.compiler.ir import table
from tinygrad_rnn.compiler.ir.graph import Operator
from tinygrad_rnn.compiler.ir.operators import CONTIGUOUS, operator_of
from tinygrad_rnn.compiler.native import numbers, records, workers
from tinygrad_rnn.compiler.plans.instructions import COPY
from tinygrad_rnn.errors import NativeError

COMPARISONS = ["less", "less_equal", "greater", "greater_equal", "equal", "not_equal"]
ARITHMETIC = ["add", "subtract", "multiply", "divide", "maximum", "minimum", "remainder", "floor_divide", "fmod"]
BINARY = {name: getattr(np, name) for name in [*ARITHMETIC, *COMPARISONS]}
ROUNDING = {name: getattr(np, name) for name in ["floor", "ceil", "trunc", "rint", "sign"]}
EXACT = {"negative": np.negative, "sqrt": np.sqrt, "relu": lambda x: np.maximum(x, 0), **ROUNDING}
OF_ONE = [row.name for row in table.TABLE if row.native == "scalar" and row.ufunc is not None and row.ufunc.nin == 1]
LIBM = [name for name in OF_ONE if name != "log"]  # which has a bound of its own
LIBM_OF_TWO = ["arctan2", "hypot", "logaddexp"]
ULPS = {"exp": 1.5, "tanh": 3.0, "sigmoid": 2.7, "log": 1.0}  # measured: 1.12, 2.5, 2.2; log is the C library's
WIDER = {"float32": np.float64, "float64": np.longdouble}
NO_WIDER = np.finfo(np.longdouble).eps > 1e-18

dtypes = st.sampled_from(["float64", "float32"])
seeds = st.integers(0, 2**32 - 1)


@pytest.fixture(autouse=True, scope="module")
def native():
    need_library()
    with small_plans_shared(), np.errstate(all="ignore"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "FEW", 1 << 30)  # what is done for few elements only is done for all
        yield


def operator_named(name):
    known = {"copy": COPY, "contiguous": CONTIGUOUS} | {one: Operator(one, BINARY[one], True) for one in COMPARISONS}
    known |= {one: operator_of(getattr(ops.reduce, one)) for one in ("sum", "mean")}
    return known.get(name) or operator_of(getattr(ops, name))


def dtype_of_result(name, dtype):
    return bool if name in COMPARISONS else dtype


def special(dtype):
    """Return numbers at which something changes, of both signs."""
    info = np.finfo(dtype)
    found = [
        0,
        info.smallest_subnormal,
        info.tiny,
        2 * info.tiny,
        info.eps,
        0.5,
        1,
        1.5,
        9.3,
        21,
        87,
        89,
        300,
        710,
        800,
    ]
    found = np.array([*found, info.max / 2, info.max, np.inf, np.nan], dtype)
    return np.concatenate([found, -found])


# -- values --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", BINARY)
def test_two_operands_of_all_kinds_of_numbers(name, dtype):
    x = special(dtype)
    a, b = (np.ascontiguousarray(part) for part in np.broadcast_arrays(x[:, None], x))
    out = np.empty_like(a, dtype_of_result(name, dtype))
    replay_call(operator_named(name), [a, b], [out])
    expected = BINARY[name](a, b)
    assert np.array_equal(out, expected, equal_nan=True)
    if name not in ("maximum", "minimum", *COMPARISONS):  # which zero they return is not laid down
        signed = ~np.isnan(expected)
        assert np.array_equal(np.signbit(out[signed]), np.signbit(expected[signed]))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", EXACT)
def test_one_operand_of_all_kinds_of_numbers(name, dtype):
    x = special(dtype)
    out = np.empty_like(x)
    replay_call(operator_named(name), [x], [out])
    assert np.array_equal(out, EXACT[name](x), equal_nan=True)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", ULPS)
def test_functions_are_accurate(name, dtype):
    """Error in units in the last place. A sigmoid may be 0 where it would be below about the smallest normal number."""
    if dtype == "float64" and NO_WIDER:
        pytest.skip("NumPy has no wider type here")
    rng = np.random.default_rng(0)
    far, near = {"float32": (105, 9.5), "float64": (747, 21)}[dtype]
    ranges = [rng.uniform(-far, far, 20000), rng.uniform(-near, near, 20000), rng.standard_normal(20000)]
    x = np.concatenate([*ranges, 10 ** rng.uniform(-37, 0, 5000), -(10 ** rng.uniform(-37, 0, 5000))]).astype(dtype)
    x = np.concatenate([x, special(dtype)])
    out = np.empty_like(x)
    replay_call(operator_named(name), [x], [out])
    wide = x.astype(WIDER[dtype])
    expected = 1 / (1 + np.exp(-wide)) if name == "sigmoid" else getattr(np, name)(wide)
    nearest = expected.astype(dtype)
    assert np.array_equal(np.isnan(out), np.isnan(nearest))
    whole = np.isfinite(nearest)
    flushed = np.abs(expected) < (1.85e-38 if dtype == "float32" else 3.5e-308)
    assert np.array_equal(out[~whole], nearest[~whole], equal_nan=True)
    checked = whole & ~(flushed & (name == "sigmoid"))
    ulps = np.abs(out[checked].astype(expected.dtype) - expected[checked]) / np.spacing(np.abs(nearest[checked]))
    assert checked.sum() > 0.4 * x.size
    assert np.max(ulps) <= ULPS[name], x[checked][np.argmax(ulps)]
    rest = out[whole & flushed]
    assert np.all((rest == 0) | (np.abs(rest) <= 2 * np.abs(expected[whole & flushed])))
    if name == "tanh":
        assert np.array_equal(np.signbit(out[whole]), np.signbit(x[whole]))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", [*LIBM, *LIBM_OF_TWO])
def test_functions_of_the_c_library_agree_with_numpy(name, dtype):
    """They are not those that NumPy calls, so some last bits differ; infinities, NaN and zeros do not."""
    rng = np.random.default_rng(0)
    x = np.concatenate([special(dtype), *(rng.standard_normal(500) * scale for scale in (0.1, 1, 30))]).astype(dtype)
    inputs = [x] if name in LIBM else [x, rng.permutation(x)]
    out = np.empty_like(x)
    replay_call(operator_named(name), inputs, [out])
    expected = getattr(np, name)(*inputs)
    whole = np.isfinite(expected)
    assert np.array_equal(out[~whole], expected[~whole], equal_nan=True)
    np.testing.assert_allclose(out[whole], expected[whole], rtol=8 * np.finfo(dtype).eps, atol=np.finfo(dtype).tiny)
    assert np.array_equal(np.signbit(out[whole]), np.signbit(expected[whole]))


@pytest.mark.parametrize("number", [2, -0.5, 0, float("inf"), float("nan"), 1e300, 3e-46])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", BINARY)
def test_python_numbers(name, dtype, number):
    x = special(dtype)
    for operands in ([x, number], [number, x]):
        out = np.empty_like(x, dtype_of_result(name, dtype))
        replay_call(operator_named(name), operands, [out])
        assert np.array_equal(out, BINARY[name](*operands), equal_nan=True)


# -- shapes --------------------------------------------------------------------------------------------------------


def laid_out(shape, dtype, layout, rng):
    """Return (an array, the memory it lies in)."""
    if layout == "plain" or not shape:
        size = int(np.prod(shape))
        whole = rng.standard_normal(size + 3).astype(dtype)
        return whole[1 : size + 1].reshape(shape), whole
    if layout == "turned":
        whole = rng.standard_normal(shape[::-1]).astype(dtype)
        return whole.transpose(), whole
    steps = [2 if layout == "steps" else 1] * len(shape)
    whole = rng.standard_normal([n * step + 3 for n, step in zip(shape, steps, strict=True)]).astype(dtype)
    view = whole[tuple(slice(2, n * step + 2, step) for n, step in zip(shape, steps, strict=True))]
    return (view[tuple([slice(None, None, -1)] * len(shape))] if layout == "reversed" else view), whole


layouts = st.sampled_from(["plain", "plain", "plain", "turned", "steps", "reversed", "apart"])
operands = st.tuples(layouts, st.sampled_from(["all", "first is 1", "last is 1", "last axis", "one", "number"]))


def drawn_operand(kind, shape, dtype, rng):
    layout, broadcast = kind
    if broadcast == "number":
        return float(rng.standard_normal())
    if broadcast == "first is 1":
        shape = (1, *shape[1:]) if shape else shape
    elif broadcast == "last is 1":
        shape = (*shape[:-1], 1) if shape else shape
    elif broadcast != "all":
        shape = shape[-1:] if broadcast == "last axis" else ()
    return laid_out(shape, dtype, layout, rng)[0]


@settings(max_examples=examples(500))
@given(
    name=st.sampled_from([*BINARY, "copy", "contiguous", "tanh"]),
    shape=st.lists(st.one_of(st.integers(0, 5), st.sampled_from([17, 40])), max_size=3).map(tuple),
    left=operands,
    right=operands,
    out=layouts,
    dtype=dtypes,
    workers=st.integers(1, 3),
    seed=seeds,
)
def test_broadcasting_and_strides(name, shape, left, right, out, dtype, workers, seed):
    rng = np.random.default_rng(seed)
    inputs = [drawn_operand(kind, shape, dtype, rng) for kind in (left, right)][: 2 if name in BINARY else 1]
    if not any(isinstance(part, np.ndarray) for part in inputs) or name in ("copy", "contiguous"):
        inputs[0] = laid_out(shape, dtype, left[0], rng)[0]  # numbers alone are no call; copies are of one shape
    view, whole = laid_out(shape, dtype_of_result(name, dtype), out, rng)
    before, inside = whole.copy(), view.copy()
    replay_call(operator_named(name), inputs, [view], workers)
    function = BINARY.get(name) or (np.tanh if name == "tanh" else np.array)
    expected = np.broadcast_to(function(*inputs), shape).astype(view.dtype)
    assert_equal(view.copy(), expected, 0 if name != "tanh" else 1e-6)
    view[...] = inside
    assert np.array_equal(whole, before)


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("shape", [(1, 1), (15, 17), (16, 16), (33, 50), (2, 5000), (5000, 2), (3, 21, 19), (1, 9000)])
def test_transposing_copies(shape, dtype, workers):
    x = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    for axes in ([*range(len(shape))][::-1], [1, 0, *range(2, len(shape))]):
        view = x.transpose(axes)
        out = np.full(view.shape, np.nan, dtype)
        replay_call(COPY, [view], [out], workers)
        assert np.array_equal(out, view)
        whole = np.full([n + 2 for n in view.shape], np.nan, dtype)
        apart = whole[tuple([slice(1, -1)] * view.ndim)]
        replay_call(COPY, [view], [apart], workers)
        assert np.array_equal(apart, view)
        apart[...] = np.nan
        assert np.isnan(whole).all()


@settings(max_examples=examples(150))
@given(
    shape=st.lists(st.one_of(st.integers(1, 5), st.sampled_from([17, 40])), min_size=1, max_size=3).map(tuple),
    chosen=st.tuples(layouts, st.sampled_from(["all", "first is 1", "last is 1", "last axis", "one"])),
    left=operands,
    right=operands,
    out=layouts,
    dtype=dtypes,
    workers=st.integers(1, 3),
    seed=seeds,
)
def test_choices(shape, chosen, left, right, out, dtype, workers, seed):
    rng = np.random.default_rng(seed)
    condition = drawn_operand(chosen, shape, bool, rng)
    inputs = [drawn_operand(kind, shape, dtype, rng) for kind in (left, right)]
    condition[...] = rng.random(condition.shape) < 0.5
    view, whole = laid_out(shape, dtype, out, rng)
    before, inside = whole.copy(), view.copy()
    replay_call(operator_named("where"), [condition, *inputs], [view], workers)
    assert np.array_equal(view, np.broadcast_to(np.where(condition, *inputs).astype(dtype), shape))
    view[...] = inside
    assert np.array_equal(whole, before)


@pytest.mark.parametrize("exponent", [0, 1, 2, 3, 0.5, -1, 2.5, -0.5])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_powers(dtype, exponent):
    x = np.concatenate([special(dtype), np.random.default_rng(0).standard_normal(100).astype(dtype)])
    x = np.where(np.isneginf(x) | (x == 0), np.abs(x), x)  # which zero or sign they give there is not laid down
    out = np.empty_like(x)
    replay_call(operator_named("power"), [x, exponent], [out])
    assert np.allclose(out, x**exponent, rtol=1e-15 if dtype == "float64" else 3e-7, atol=0, equal_nan=True)


@pytest.mark.parametrize("n", [1, 4095, 4096, 10001])
def test_results_over_operands(n):
    x, y = np.random.default_rng(0).standard_normal((2, n))
    expected = np.tanh(x) - y
    replay_call(operator_named("tanh"), [x], [x], 3)
    replay_call(operator_named("subtract"), [x, y], [y], 3)
    assert_equal(y, expected, 1e-12)


@given(
    shape=st.lists(st.integers(1, 9), min_size=1, max_size=3).map(tuple),
    wide=st.sampled_from([3, 16, 40, 130, 300]),
    axes=st.integers(1, 3),
    rows_apart=st.booleans(),
    name=st.sampled_from(["sum", "mean"]),
    dtype=dtypes,
    workers=st.integers(1, 3),
    seed=seeds,
)
def test_sums_and_means_over_the_first_axes(shape, wide, axes, rows_apart, name, dtype, workers, seed):
    shape, axes = (*shape, wide), min(axes, len(shape))  # those of the shape without the last
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape).astype(dtype)
    if rows_apart and len(shape) == 2:
        x = laid_out(shape, dtype, "apart", rng)[0]
    whole = np.full(int(np.prod(shape[axes:])) + 8, np.nan, dtype)
    out = whole[4:-4].reshape(shape[axes:])
    replay_call(operator_named(name), [x], [out], workers, axis=tuple(range(axes)), keepdims=False)
    assert np.allclose(
        out,
        getattr(x, name)(axis=tuple(range(axes)), dtype=np.float64),
        rtol=0,
        atol=1e-4 if dtype == "float32" else 1e-12,
    )
    assert np.isnan(whole[:4]).all()
    assert np.isnan(whole[-4:]).all()


@given(
    shape=st.lists(st.integers(1, 9), max_size=2).map(tuple),
    wide=st.sampled_from([1, 3, 16, 1023, 1025, 3000]),
    axes=st.integers(1, 3),
    rows_apart=st.booleans(),
    name=st.sampled_from(["sum", "mean"]),
    dtype=dtypes,
    workers=st.integers(1, 3),
    seed=seeds,
)
def test_sums_and_means_over_the_last_axes(shape, wide, axes, rows_apart, name, dtype, workers, seed):
    shape, rng = (*shape, wide), np.random.default_rng(seed)
    axes = tuple(range(-min(axes, len(shape)), 0))
    x = rng.standard_normal(shape).astype(dtype)
    if rows_apart and len(shape) == 2 and len(axes) == 1:
        x = laid_out(shape, dtype, "apart", rng)[0]
    expected = getattr(x, name)(axis=axes, dtype=np.float64)
    whole = np.full(expected.size + 8, np.nan, dtype)
    out = whole[4:-4].reshape(expected.shape)
    replay_call(operator_named(name), [x], [out], workers, axis=axes, keepdims=False)
    assert np.allclose(out, expected, rtol=0, atol=5e-4 if dtype == "float32" else 1e-11)
    assert np.isnan(whole[[*range(4), *range(-4, 0)]]).all()


def test_long_sums_of_float32_are_as_accurate_as_numpys():
    x = np.random.default_rng(0).random(1 << 20).astype(np.float32)
    compiled = tr.compile(lambda x: np.sum(x, axis=0), executor="native", threads=1)
    assert abs(float(compiled(x)) / x.sum(dtype=np.float64) - 1) < 1.5e-7


def test_a_library_with_other_numbers_is_not_used(monkeypatch):
    monkeypatch.setattr(workers, "NAMES", [*reversed(numbers.NAMES)])
    with pytest.raises(NativeError, match="the numbers of operations differ"):
        workers._functions.__wrapped__()


def test_kinds_of_operators_are_read_from_the_table():
    assert {"add", "where", "astype", "isnan"} <= table.ELEMENTWISE
    assert {"where"} == table.ELEMENTWISE - table.IN_PLACE
    assert not table.ELEMENTWISE & table.MOVES
    assert {"less", "isnan"} <= table.TRUTH < table.ELEMENTWISE
    assert len({row.name for row in table.TABLE}) == len(table.TABLE)
    assert table.ELEMENTWISE | {"copy"} >= numbers.NATIVE


def test_numpy_does_what_calls_the_c_library_for_each_of_many_elements(monkeypatch):
    monkeypatch.setattr(records, "FEW", 8)
    x = np.linspace(0.1, 0.9, 9)
    for name, inputs in [("sin", [x[:8]]), ("floor", [x]), ("power", [x, 2]), ("power", [x[:8], x[:8]])]:
        replay_call(operator_named(name), inputs, [np.empty_like(inputs[0])])
    for name, inputs in [("sin", [x]), ("power", [x, x]), ("hypot", [x, 1.0])]:
        with pytest.raises(AssertionError, match=f"does not know {name}"):
            replay_call(operator_named(name), inputs, [np.empty_like(x)])
