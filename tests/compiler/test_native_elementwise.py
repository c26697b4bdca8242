"""Elementwise calls, sums over rows and conversions of the library, and chains of calls on large arrays."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replay import array_of, assert_equal, need_library, replay_call, small_plans_shared

import tinygrad_rnn as tr
from tinygrad_rnn import ops
from tinygrad_rnn.compiler.operators import CONTIGUOUS, operator_of
from tinygrad_rnn.compiler.plan import COPY
from tinygrad_rnn.engine.tree import map_leaves

BINARY = {name: getattr(np, name) for name in ["add", "subtract", "multiply", "divide", "maximum", "minimum"]}
EXACT = {"negative": np.negative, "sqrt": np.sqrt, "relu": lambda x: np.maximum(x, 0)}
ULPS = {"exp": 1.5, "tanh": 3.0, "sigmoid": 2.7, "log": 1.0}  # measured: 1.12, 2.5, 2.2; log is the C library's
WIDER = {"float32": np.float64, "float64": np.longdouble}
NO_WIDER = np.finfo(np.longdouble).eps > 1e-18

dtypes = st.sampled_from(["float64", "float32"])
seeds = st.integers(0, 2**32 - 1)


@pytest.fixture(autouse=True, scope="module")
def native():
    need_library()
    with small_plans_shared(), np.errstate(all="ignore"):
        yield


def operator_named(name):
    return {"copy": COPY, "contiguous": CONTIGUOUS}.get(name) or operator_of(getattr(ops, name))


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
    out = np.empty_like(a)
    replay_call(operator_named(name), [a, b], [out])
    expected = BINARY[name](a, b)
    assert np.array_equal(out, expected, equal_nan=True)
    if name not in ("maximum", "minimum"):  # which zero they return is not laid down
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
    """Error in units in the last place. exp is 0 where it would be below about the smallest normal number."""
    if dtype == "float64" and NO_WIDER:
        pytest.skip("NumPy has no wider type here")
    rng = np.random.default_rng(0)
    far, near = {"float32": (89, 9.5), "float64": (710, 21)}[dtype]
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
    checked = whole & ~(flushed & (name in ("exp", "sigmoid")))
    ulps = np.abs(out[checked].astype(expected.dtype) - expected[checked]) / np.spacing(np.abs(nearest[checked]))
    assert checked.sum() > 0.4 * x.size
    assert np.max(ulps) <= ULPS[name], x[checked][np.argmax(ulps)]
    rest = out[whole & flushed]
    assert np.all((rest == 0) | (np.abs(rest) <= 2 * np.abs(expected[whole & flushed])))
    if name == "tanh":
        assert np.array_equal(np.signbit(out[whole]), np.signbit(x[whole]))


@pytest.mark.parametrize("number", [2, -0.5, 0, float("inf"), float("nan"), 1e300, 3e-46])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", BINARY)
def test_python_numbers(name, dtype, number):
    x = special(dtype)
    for operands in ([x, number], [number, x]):
        out = np.empty_like(x)
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


@settings(max_examples=500)
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
    view, whole = laid_out(shape, dtype, out, rng)
    before, inside = whole.copy(), view.copy()
    replay_call(operator_named(name), inputs, [view], workers)
    function = BINARY.get(name) or (np.tanh if name == "tanh" else np.array)
    expected = np.broadcast_to(function(*inputs), shape).astype(dtype)
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
    dtype=dtypes,
    workers=st.integers(1, 3),
    seed=seeds,
)
def test_sums_over_the_first_axes(shape, wide, axes, rows_apart, dtype, workers, seed):
    shape, axes = (*shape, wide), min(axes, len(shape))  # those of the shape without the last
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape).astype(dtype)
    if rows_apart and len(shape) == 2:
        x = laid_out(shape, dtype, "apart", rng)[0]
    whole = np.full(int(np.prod(shape[axes:])) + 8, np.nan, dtype)
    out = whole[4:-4].reshape(shape[axes:])
    replay_call(operator_named("sum"), [x], [out], workers, axis=tuple(range(axes)), keepdims=False)
    assert np.allclose(
        out, x.sum(axis=tuple(range(axes)), dtype=np.float64), rtol=0, atol=1e-4 if dtype == "float32" else 1e-12
    )
    assert np.isnan(whole[:4]).all()
    assert np.isnan(whole[-4:]).all()


def test_long_sums_of_float32_are_as_accurate_as_numpys():
    x = np.random.default_rng(0).random(1 << 20).astype(np.float32)
    compiled = tr.compile(lambda x: np.sum(x, axis=0), executor="native", threads=1)
    assert abs(float(compiled(x)) / x.sum(dtype=np.float64) - 1) < 2e-6


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize(("source", "target"), [("float64", "float32"), ("float32", "float64"), ("float32", "float32")])
def test_conversions(source, target, workers):
    x = np.concatenate([special(source), np.random.default_rng(0).standard_normal(5000).astype(source)])
    whole = np.full(x.size + 8, 7, target)
    replay_call(operator_named("astype"), [x], [whole[4:-4]], workers, dtype=np.dtype(target))
    assert np.array_equal(whole[4:-4], x.astype(target), equal_nan=True)
    assert np.all(whole[[*range(4), *range(-4, 0)]] == 7)


# -- chains --------------------------------------------------------------------------------------------------------

SIZE = (1 << 14) + 2 * 59  # elements: the least that makes a chain, and more; the last block and part are shorter


def sgd(x, y, z, rate):
    return x - rate * y, np.sum(z, axis=0)


def momentum(x, y, z, rate):
    velocity = 0.9 * z + y
    return velocity, x - rate * velocity


def nesterov_and_its_norm(x, y, z, rate):
    velocity = 0.9 * z + y
    new = x - rate * (y + 0.9 * velocity)
    return velocity, new, np.sum(new * new), np.tanh(velocity) @ new


def adam(x, y, z, rate):
    m = 0.9 * x + 0.1 * y
    v = 0.999 * z * z + 0.001 * (y * y)
    return m, v, y - rate * m / (np.sqrt(v) + 1e-8)


def adam_of_two_parameters(x, y, z, rate):
    first = adam(x, y, z, rate)
    return first, adam(y, z, first[2], rate * 0.5)


def read_before_and_behind_what_is_written_over_it(x, y, z, rate):
    a = np.tanh(x)
    b = a * y
    c = a - b
    d = c * a
    return d + b, np.exp(-(c * c)), a


def more_values_than_lines(x, y, z, rate):
    parts = [np.tanh(x * (k + 1.0)) for k in range(24)]
    total = parts[0]
    for part in parts[::-1]:
        total = total * 0.5 + part * y
    return total


def one_element_of_what_the_chain_makes(x, y, z, rate):
    a = np.exp(x)
    return a / a[:1], y * np.tanh(y)[-1:]


def another_part_of_what_the_chain_makes(x, y, z, rate):
    joined = tr.concatenate([np.tanh(x), np.exp(y)])
    half = x.shape[0] // 2
    return joined[half:-half] * 2.0, joined


def bytes_that_another_value_had(x, y, z, rate):
    """In the arena what is joined lies, shifted, where `turned` was, which is read shortly before."""
    n = 1 << 14
    wide = np.tanh(tr.concatenate([x[:n], y[: n // 2]]))
    turned = np.reshape(np.reshape(wide[:n], (128, 128)) @ np.reshape(y[:n], (128, 128)), (-1,))
    first = turned * z[:n]
    joined = np.reshape(tr.concatenate([z[:n], z[: 3 * n // 4]]), (128, 224))
    return first, np.tanh(np.reshape(np.tanh(z[:n]), (128, 128)) @ joined) @ x[:224]


def reversed_order(x, y, z, rate):
    a = np.tanh(x)
    return a[::-1] * y + a


def numbers_and_arrays_of_one_number(x, y, z, rate):
    return (2.0 - x) * rate / 3.0 + np.reshape(rate, (1,)) - y, np.maximum(z, rate), np.minimum(0.5, z) * rate


def results_twice(x, y, z, rate):
    a = x + y
    return a, a * 2.0, a, np.reshape(a, (2, -1)), -a


def a_sum_in_between(x, y, z, rate):
    a = x * y
    norm = np.sqrt(np.sum(a * a))
    return a / norm, z * norm


CHAINS = [
    *(sgd, momentum, nesterov_and_its_norm, adam, adam_of_two_parameters, more_values_than_lines, reversed_order),
    *(read_before_and_behind_what_is_written_over_it, one_element_of_what_the_chain_makes, results_twice),
    *(
        bytes_that_another_value_had,
        another_part_of_what_the_chain_makes,
        numbers_and_arrays_of_one_number,
        a_sum_in_between,
    ),
]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("f", CHAINS)
def test_chains(f, threads, dtype):
    compiled = tr.compile(f, executor="native", threads=threads)
    rng = np.random.default_rng(0)
    kept = []
    for _ in range(3):
        x, y, z = rng.standard_normal((3, SIZE)).astype(dtype)
        args = x, y, z, np.asarray(0.1, dtype)
        expected, made = map_leaves(array_of, f(*args)), compiled(*args)
        assert_equal(made, expected, 1e-12 if dtype == "float64" else 2e-5)
        kept.append((made, expected))
    assert_equal(*kept[0], 1e-12 if dtype == "float64" else 2e-5)


@settings(max_examples=60)
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["add", "subtract", "multiply", "tanh", "negative", "turn", "part", "all", "one"]),
            st.integers(0, 7),
            st.integers(0, 7),
            st.booleans(),
        ),
        min_size=2,
        max_size=14,
    ),
    threads=st.integers(1, 3),
)
def test_drawn_programs_on_large_arrays(steps, threads):
    """Calls on large arrays in any order, with others between them; some values are results."""

    def f(x, y, small):
        values, results = [x, y], []
        for name, i, j, returned in steps:
            a, b = values[-1 - i % len(values)], values[-1 - j % len(values)]
            if name == "turn":
                made = np.reshape(np.transpose(np.reshape(a, (128, 128)) @ small, (1, 0)), (-1,))
            elif name == "part":
                made = np.reshape(a, (2, -1))[::-1] * 0.5
                made = np.reshape(made, (-1,))
            elif name == "all":
                made = tr.concatenate([a * 0.5, np.tanh(b)])[5000 : 5000 + (1 << 14)]
            elif name == "one":
                made = a - b[77]
            elif name in ("tanh", "negative"):
                made = getattr(np, name)(a)
            else:
                made = getattr(np, name)(a, b)
            made = np.tanh(made)
            values.append(made)
            if returned:
                results.append(made)
        return results, values[-1] * 2.0

    rng = np.random.default_rng(0)
    compiled = tr.compile(f, executor="native", threads=threads)
    for _ in range(2):
        args = [*rng.standard_normal((2, 1 << 14)), rng.standard_normal((128, 128)) / 12]
        assert_equal(compiled(*args), f(*args), 1e-11)
