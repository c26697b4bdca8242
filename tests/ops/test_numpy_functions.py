"""Functions on Tensors give what NumPy gives on arrays: values, shapes and dtypes, over drawn arguments."""

import itertools

import numpy as np
import pytest
from drawn import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy_cases import CASES, ELEMENTWISE, draw
from oracle import complex_gradient, relative_error

import tinygrad_rnn as tr

seeds = st.integers(0, 2**32 - 1)
shapes = st.lists(st.integers(0, 4), max_size=3).map(tuple)


def assert_same(got, expected):
    """Compare what came back of Tensors with NumPy's result: nested as it is, values, shapes, dtypes."""
    if isinstance(expected, tuple | list):
        assert len(got) == len(expected)
        for one, other in zip(got, expected, strict=True):
            assert_same(one, other)
        return
    array = got.data if isinstance(got, tr.Tensor) else np.asarray(got)
    assert (array.shape, array.dtype) == (np.shape(expected), np.asarray(expected).dtype)
    eps = np.finfo(array.dtype).eps if array.dtype.kind in "fc" else 0
    scale = np.max(np.abs(expected), initial=1, where=np.isfinite(expected))
    np.testing.assert_allclose(array, expected, rtol=32 * eps, atol=32 * eps * scale)


ANALYTIC = {name for name in CASES if name.split(",")[0] in ("var", "std", "norm", "vector_norm", "nansum")}


@pytest.mark.parametrize("dtype", ["float64", "float32", "complex128", "int64"])
@pytest.mark.parametrize("name", sorted(CASES.keys() - ELEMENTWISE.keys()))
def test_values_shapes_and_dtypes(name, dtype):
    """Of complex numbers x the functions that square take x * x, which is analytic, where NumPy takes abs(x) ** 2."""
    f, *_ = CASES[name]
    if dtype == "complex128" and name in ANALYTIC:
        return
    arrays = [np.asarray(a * (3 if dtype == "int64" else 1)).astype(dtype) for a in draw(CASES[name], 0)]
    with np.errstate(all="ignore"):
        assert_same(f(*map(tr.tensor, arrays)), f(*arrays))


def axis_of(rng, x, several=True):
    """Draw an axis: None, negative or not, or several; one out of range now and then."""
    if x.ndim == 0 or rng.random() < 0.2:
        return None
    if several and rng.random() < 0.3:
        return tuple(int(a) for a in rng.permutation(x.ndim)[: rng.integers(1, x.ndim + 1)])
    return int(rng.integers(-x.ndim, x.ndim + (rng.random() < 0.1)))


def keywords(rng, x):
    """Draw axis, keepdims, where, initial and dtype of a reduction."""
    found = {"axis": axis_of(rng, x)}
    if rng.random() < 0.5:
        found["keepdims"] = True
    if rng.random() < 0.5:
        found["where"] = rng.random(x.shape[rng.integers(0, x.ndim + 1) :]) < 0.7
    if rng.random() < 0.5:
        found["initial"] = 1.5 if x.dtype.kind == "f" else 2
    if rng.random() < 0.3:
        found["dtype"] = [np.float32, np.float64, int][rng.integers(3)]
    return found


def only(found, *names):
    return {name: value for name, value in found.items() if name in names}


MODES = ["edge", "reflect", "symmetric", "wrap"]

# name: function of (generator, array or Tensor), which draws the same for both
LAWS = {
    "absolute": lambda rng, x: np.absolute(x),
    "square": lambda rng, x: np.square(x),
    "clip": lambda rng, x: x.clip(*[(1, 3), (None, 2), (2, None)][rng.integers(3)]),
    "sign": lambda rng, x: np.sign(x),
    "sum": lambda rng, x: np.sum(x, **keywords(rng, x)),
    "prod": lambda rng, x: np.prod(x, **keywords(rng, x)),
    "mean": lambda rng, x: np.mean(x, **only(keywords(rng, x), "axis", "keepdims", "where", "dtype")),
    "max": lambda rng, x: np.max(x, **only(keywords(rng, x), "axis", "keepdims", "where", "initial")),
    "min": lambda rng, x: np.min(x, **only(keywords(rng, x), "axis", "keepdims", "where", "initial")),
    "var": lambda rng, x: np.var(x, ddof=rng.integers(0, 3), **only(keywords(rng, x), "axis", "keepdims")),
    "std": lambda rng, x: np.std(x, ddof=rng.integers(0, 2), **only(keywords(rng, x), "axis", "keepdims")),
    "ptp": lambda rng, x: np.ptp(x, axis=axis_of(rng, x)),
    "median": lambda rng, x: np.median(x, axis=axis_of(rng, x), keepdims=bool(rng.integers(2))),
    "average": lambda rng, x: np.average(x, axis=axis_of(rng, x), returned=True),
    "cumsum": lambda rng, x: np.cumsum(x, axis=axis_of(rng, x, False)),
    "cumprod": lambda rng, x: np.cumprod(x, axis=axis_of(rng, x, False), dtype=np.float64),
    "diff": lambda rng, x: np.diff(x, n=rng.integers(0, 3), axis=axis_of(rng, x, False) or 0),
    "sort": lambda rng, x: np.sort(x, axis=axis_of(rng, x, False)),
    "roll": lambda rng, x: np.roll(x, rng.integers(-9, 9), axis=axis_of(rng, x, False)),
    "repeat": lambda rng, x: np.repeat(x, int(rng.integers(0, 3)), axis=axis_of(rng, x, False)),
    "tile": lambda rng, x: np.tile(x, tuple(rng.integers(0, 3, rng.integers(1, 4)).tolist())),
    "flip": lambda rng, x: np.flip(x, axis_of(rng, x)),
    "rot90": lambda rng, x: np.rot90(x, rng.integers(-5, 5), rng.permutation(max(2, x.ndim))[:2]),
    "pad": lambda rng, x: np.pad(np.atleast_1d(x), rng.integers(0, 3, 2), constant_values=rng.integers(2)),
    "pad, mode": lambda rng, x: np.pad(np.atleast_1d(x), rng.integers(0, 3, 2), mode=MODES[rng.integers(4)]),
    "delete": lambda rng, x: np.delete(x, rng.integers(0, 2), axis=axis_of(rng, x, False)),
    "diagonal": lambda rng, x: np.diagonal(x, rng.integers(-4, 5), *rng.permutation(max(2, x.ndim))[:2]),
    "trace": lambda rng, x: np.trace(x, rng.integers(-4, 5), *rng.permutation(max(2, x.ndim))[:2]),
    "diag": lambda rng, x: np.diag(x, rng.integers(-4, 5)),
    "tril": lambda rng, x: np.tril(x, rng.integers(-4, 5)),
    "triu": lambda rng, x: np.triu(x, rng.integers(-4, 5)),
    "array_split": lambda rng, x: np.array_split(x, rng.integers(1, 5), axis=axis_of(rng, x, False) or 0),
    "hstack": lambda rng, x: np.hstack([x, x]),
    "vstack": lambda rng, x: np.vstack([x, x], dtype=np.float64),
    "concatenate": lambda rng, x: np.concatenate([x, x], dtype=np.float64, axis=axis_of(rng, x, False)),
    "ravel": lambda rng, x: x.flatten("C") + np.ravel(x, order="C"),
    "dstack": lambda rng, x: np.dstack([x, x]),
    "column_stack": lambda rng, x: np.column_stack([x, x]),
    "atleast_3d": lambda rng, x: np.atleast_3d(x),
    "append": lambda rng, x: np.append(x, x, axis=axis_of(rng, x, False)),
    "inner": lambda rng, x: np.inner(x, x),
    "outer": lambda rng, x: np.outer(x, x),
    "kron": lambda rng, x: np.kron(x, x),
    "norm": lambda rng, x: np.linalg.norm(
        x,
        [None, 1, 2, 3, np.inf, -np.inf, "fro"][rng.integers(7) if x.size else 0],
        axis_of(rng, x),
        bool(rng.integers(2)),
    ),
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", LAWS)
@settings(max_examples=examples(40))
@given(shape=shapes, dtype=st.sampled_from(["float64", "float32", "int32", "uint8"]), seed=seeds)
def test_functions_are_numpys(name, shape, dtype, seed):
    """What NumPy refuses is refused; NumPy's singular values are refused here, and nothing else."""
    x = (np.random.default_rng(seed).random(shape) * 5).astype(dtype)
    try:
        expected = LAWS[name](np.random.default_rng(seed), x)
    except ZeroDivisionError:  # np.average(..., returned=True) of nothing, where a count of 0 is as good
        return
    except (ValueError, TypeError, IndexError):
        with pytest.raises((ValueError, TypeError, IndexError)):
            LAWS[name](np.random.default_rng(seed), tr.tensor(x))
        return
    try:
        got = LAWS[name](np.random.default_rng(seed), tr.tensor(x))
    except tr.UnsupportedError as error:
        if name == "norm" and "singular values" in str(error):
            return
        raise
    assert_same(got, expected)


# -- einsum and tensordot ------------------------------------------------------------------------------------------


@st.composite
def subscripts(draw):
    """Draw subscripts with lengths for the letters: repeated ones, summed ones, in any order."""
    inputs = draw(st.lists(st.lists(st.sampled_from("abcd"), max_size=4).map("".join), min_size=1, max_size=3))
    used = sorted(set("".join(inputs)))
    output = draw(st.permutations(used).flatmap(lambda order: st.integers(0, len(order)).map(lambda n: order[:n])))
    explicit = draw(st.booleans())
    return ",".join(inputs) + ("->" + "".join(output) if explicit else "")


@settings(max_examples=examples(200))
@given(text=subscripts(), lengths=st.tuples(*[st.integers(0, 3)] * 4), dtype=st.sampled_from(["f8", "i8"]), seed=seeds)
def test_einsum_is_numpys(text, lengths, dtype, seed):
    rng = np.random.default_rng(seed)
    sizes = dict(zip("abcd", lengths, strict=True))
    shapes = [[sizes[letter] for letter in part] for part in text.partition("->")[0].split(",")]
    arrays = [np.asarray(rng.standard_normal(shape) * 3).astype(dtype) for shape in shapes]
    tensors = [tr.tensor(a, requires_grad=dtype == "f8") for a in arrays]
    y = np.einsum(text, *tensors)
    assert_same(y, np.einsum(text, *arrays))
    if dtype == "f8":  # linear in each operand: <g, y> is <gradient, x>
        cotangent = rng.standard_normal(y.shape)
        for x, gradient in zip(tensors, tr.grad(y, tensors, cotangent=cotangent), strict=True):
            assert np.sum(gradient * x.data) == pytest.approx(np.sum(cotangent * y.data), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda x: np.einsum("ij,jk", x), tr.ShapeError, "has 2 inputs, and there are 1 operands"),
        (lambda x: np.einsum("ijk", x), tr.ShapeError, r"3 letters for an operand of shape \(2, 3\)"),
        (lambda x: np.einsum("ii", x), tr.ShapeError, "'i' of 'ii' have the lengths 2 and 3"),
        (lambda x: np.einsum("ij->ik", x), tr.ShapeError, "each letter of the output"),
        (lambda x: np.einsum("i$", x), tr.ShapeError, "may hold letters"),
        (lambda x: np.einsum(x, [0, 1]), tr.UnsupportedError, "must be a string"),
        (lambda x: np.tensordot(x, x, 1), tr.ShapeError, "axes .* are not as long as"),
        (lambda x: np.tensordot(x, x, 3), tr.ShapeError, "tensordot: axes=3"),
        (lambda x: np.roll(x, 1, axis=2), tr.ShapeError, "roll: axis must lie in"),
        (lambda x: np.repeat(x, -1), tr.ShapeError, "repeat: repeats must be an integer"),
        (lambda x: np.repeat(x, [1, 2], axis=1), tr.ShapeError, "3 of them"),
        (lambda x: np.pad(x, 1, mode="mean"), tr.UnsupportedError, "pad: mode must be one of"),
        (lambda x: np.pad(x, [1, 2, 3]), tr.ShapeError, "pad: pad_width must be"),
        (lambda x: np.diag(x[0, 0]), tr.ShapeError, "diag: expected a vector or a matrix"),
        (lambda x: np.max(x, where=x.data > 0), tr.UnsupportedError, "where= needs initial="),
        (lambda x: np.sum(x, where=np.ones((4, 2, 3), bool)), tr.ShapeError, "sum: where .* must broadcast to"),
        (lambda x: np.var(x, where=np.ones((4, 2, 3), bool)), tr.ShapeError, "var: where .* must broadcast to"),
        (lambda x: np.linalg.norm(x, 2), tr.UnsupportedError, "singular values"),
        (lambda x: np.linalg.norm(x[None], 1), tr.ShapeError, "give an axis"),
        (lambda x: np.linalg.norm(x, 0, axis=0), tr.UnsupportedError, "no derivative rule"),
        (lambda x: np.average(x, weights=[1.0, 2.0]), tr.ShapeError, "average: expected weights"),
        (lambda x: np.block([[x], x]), tr.ShapeError, "block: every list"),
        (lambda x: np.vsplit(x[0], 3), tr.ShapeError, "vsplit: expected at least 2 axes"),
        (lambda x: np.array_split(x, 0), tr.ShapeError, "at least 1"),
        (lambda x: np.cross(x, x[:, :2]), tr.ShapeError, "vectors of 3 numbers"),
        (lambda x: np.roll(x, (1, 2, 3), axis=(0, 1)), tr.ShapeError, "roll: expected a shift for each of 2 axes"),
        (lambda x: np.tile(x, 1.5), tr.ShapeError, "tile: reps must be integers"),
        (lambda x: np.tile(x, -1), tr.ShapeError, "tile: reps must be integers"),
        (lambda x: x.sum(1, True), tr.DTypeError, "sum: dtype must be a dtype or None, got True; pass keepdims"),
        (lambda x: x.flatten("F"), tr.UnsupportedError, "order must be 'C', got 'F'"),
        (lambda x: x.reshape((3, 2), order="F"), tr.UnsupportedError, "reshape: order must be 'C'"),
        (lambda x: np.add.reduce(x, axis=1), tr.UnsupportedError, r"in its place: `np\.sum`"),
        (lambda x: x.sum(out=np.zeros(())), tr.UnsupportedError, "out="),
        (lambda x: np.std(x, axis=5), tr.ShapeError, "std: axis"),
    ],
)
def test_bad_arguments_are_named(call, error, words):
    with pytest.raises(error, match=words):
        call(tr.tensor(np.ones((2, 3)), requires_grad=True))


# -- edges -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("f", "x", "expected"),
    [
        (np.prod, [2.0, 0.0, 3.0], [0.0, 6.0, 0.0]),
        (np.prod, [0.0, 0.0, 3.0], [0.0, 0.0, 0.0]),
        (lambda x: np.cumprod(x)[-1], [2.0, 0.0, 3.0], [0.0, 6.0, 0.0]),
        (lambda x: np.sum(np.cumprod(x)), [2.0, 0.0, 3.0, 5.0], [1.0, 38.0, 0.0, 0.0]),
        (np.linalg.norm, [0.0, 0.0], [0.0, 0.0]),
        (lambda x: np.linalg.norm(x, 3), [0.0, 0.0], [0.0, 0.0]),
        (np.std, [2.0, 2.0], [0.0, 0.0]),
        (lambda x: np.sum(x, where=np.array([True, False])), [1.0, np.nan], [1.0, 0.0]),
        (lambda x: np.mean(x, where=np.array([True, False])), [1.0, np.inf], [1.0, 0.0]),
        (np.nanmean, [1.0, np.nan, 3.0], [0.5, 0.0, 0.5]),
        (np.nanvar, [1.0, np.nan, 3.0], [-1.0, 0.0, 1.0]),
        (np.nanstd, [1.0, np.nan, 3.0], [-0.5, 0.0, 0.5]),
        (lambda x: np.var(x, where=np.array([True, False, True])), [1.0, np.inf, 3.0], [-1.0, 0.0, 1.0]),
        (lambda x: np.var(x, where=np.array([True, False, True]), mean=[2.0]), [1.0, np.nan, 3.0], [-1.0, 0.0, 1.0]),
        (lambda x: np.var(x, ddof=1, where=np.array([True, False, True])), [1.0, np.nan, 3.0], [-2.0, 0.0, 2.0]),
        (lambda x: np.max(x, initial=2.0), [1.0, 3.0], [0.0, 1.0]),
        (np.min, [1.0, 1.0, 3.0], [0.5, 0.5, 0.0]),
        (np.median, [3.0, 1.0, 2.0], [0.0, 0.0, 1.0]),
        (lambda x: np.sum(np.tril(x * np.ones((2, 2)))), [np.inf, 1.0], [2.0, 1.0]),
    ],
)
def test_gradients_at_edges(f, x, expected):
    leaf = tr.tensor(x, requires_grad=True)
    with np.errstate(invalid="ignore"):
        assert tr.grad(f(leaf), leaf).tolist() == expected


def test_nan_stays_visible_in_a_median():
    x = tr.tensor([1.0, np.nan, 0.0], requires_grad=True)
    assert np.isnan(np.median(x).item())


def test_reductions_take_masks_in_a_compiled_function():
    def f(x):
        y = np.mean(x, axis=1, where=x > 0) + np.max(x, axis=1, where=x > 0, initial=0.0)
        return tr.grad(np.sum(y), x)

    x = tr.tensor(np.random.default_rng(0).standard_normal((3, 9)), requires_grad=True)
    np.testing.assert_allclose(tr.compile(f)(x), f(x), rtol=1e-14)
    y = tr.tensor(-x.data, requires_grad=True)
    compiled = tr.compile(f)
    compiled(x)
    np.testing.assert_allclose(compiled(y), f(y), rtol=1e-14)


def test_a_copy_keeps_its_values_when_a_leaf_gets_others():
    w = tr.tensor([1.0, 2.0], requires_grad=True)
    before = w.copy()
    w.data = [3.0, 4.0]
    assert before.data.tolist() == [1, 2]
    assert not tr.tensor([1.0]).copy().requires_grad


# -- code that was written for arrays --------------------------------------------------------------------------------


def lstm_of_arrays(weights, xs, targets):
    """An LSTM as it is written for arrays: a state repeated for each stream, one product of inputs, state and a one."""
    N, T, _ = xs.shape
    h = np.repeat(weights["h"], N, axis=0)
    c = np.repeat(weights["c"], N, axis=0)
    total = 0.0
    for t in range(T):
        joined = np.hstack((xs[:, t], h, np.ones((N, 1))))
        gates = np.dot(joined, weights["gates"])
        i, f, o, g = (gates[:, k::4] for k in range(4))
        c = c * (np.tanh(f / 2) + 1) / 2 + np.tanh(g) * (np.tanh(i / 2) + 1) / 2
        h = np.tanh(c) * (np.tanh(o / 2) + 1) / 2
        logits = np.dot(np.hstack((h, np.ones((N, 1)))), weights["output"])
        most = np.max(logits.data if isinstance(logits, tr.Tensor) else logits.real, axis=1, keepdims=True)
        log_probabilities = logits - most - np.log(np.sum(np.exp(logits - most), axis=1, keepdims=True))
        total = total - np.sum(log_probabilities * targets[:, t])
    return total / (N * T)


@pytest.mark.parametrize("name", ["h", "c", "gates", "output"])
def test_a_recurrent_network_written_for_arrays_has_gradients(name):
    rng = np.random.default_rng(0)
    N, T, D, H, V = 2, 3, 2, 3, 4
    shapes = {"h": (1, H), "c": (1, H), "gates": (D + H + 1, 4 * H), "output": (H + 1, V)}
    arrays = {key: rng.standard_normal(shape) for key, shape in shapes.items()}
    xs, targets = rng.standard_normal((N, T, D)), np.eye(V)[rng.integers(0, V, (N, T))]
    weights = {key: tr.tensor(array, requires_grad=True) for key, array in arrays.items()}
    gradient = tr.grad(lstm_of_arrays(weights, xs, targets), weights)[name]
    expected = complex_gradient(lambda w: lstm_of_arrays({**arrays, name: w}, xs, targets), [arrays[name]], 0)
    assert relative_error(gradient, expected) < 1e-14


OF_TWO = sorted(
    (f for f in tr.supported() if isinstance(f, np.ufunc) and f.nin == 2 and not f.signature), key=lambda f: f.__name__
)


@pytest.mark.parametrize("function", OF_TWO, ids=lambda f: f.__name__)
def test_functions_of_two_have_the_dtype_of_numpys(function):
    for first, second in itertools.product(["f2", "f4", "f8", "i4", "u1", "?"], repeat=2):
        a, b = np.array([1, 0, 1]).astype(first), np.array([1, 1, 0]).astype(second)
        with np.errstate(all="ignore"):
            try:
                want = function(a, b)
            except TypeError:  # a difference of booleans
                with pytest.raises(TypeError):
                    function(tr.tensor(a), b)
                continue
            for got in (function(tr.tensor(a), b), function(a, tr.tensor(b)), function(tr.tensor(a), tr.tensor(b))):
                for mine, theirs in zip(*([part] if function.nout == 1 else part for part in (got, want)), strict=True):
                    assert mine.dtype == theirs.dtype, (first, second)
                    assert np.allclose(getattr(mine, "data", mine), theirs, rtol=1e-3, equal_nan=True), (first, second)


def test_numbers_among_the_choices_take_the_dtype_of_the_others():
    x = tr.tensor(np.ones(3, np.float32))
    assert np.select([x > 0.5, x > 0], [x, 3.0], 0.25).dtype == np.float32
    assert np.select([x > 0.5], [x * np.float64(1) * np.ones(3)], 1).dtype == np.float64


@pytest.mark.parametrize(
    ("ours", "numpys", "args"),
    [
        (tr.absolute, np.absolute, ([-1.0, 2.0],)),
        (tr.ops.elementwise.positive, np.positive, ([1.0, 2.0],)),
        (tr.clip, np.clip, ([1.0, 2.0], None, None)),
        (tr.dot, np.dot, ([1.0, 2.0], 3.0)),
        (tr.nan_to_num, np.nan_to_num, ([1, 2],)),
        (tr.deg2rad, np.deg2rad, ([90.0, 180.0],)),
        (tr.rad2deg, np.rad2deg, ([1.0, 2.0],)),
        (tr.diff, np.diff, ([1.0, 2.0], 0)),
        (tr.multi_dot, lambda arrays: np.asarray(arrays[0]), ([[[1.0, 2.0]]],)),
        (tr.logaddexp2, np.logaddexp2, ([1.0, 2.0], [3.0, 4.0])),
        (tr.roll, np.roll, ([1.0, 2.0], (), ())),
        (tr.pad, lambda a, width, mode: np.asarray(a), ([1.0, 2.0], 0, "edge")),
        (tr.select, lambda *args: np.asarray([1.0]), ([], [], [1.0])),
        (tr.vdot, np.vdot, ([1.0, 2.0], [3.0, 4.0])),
        (tr.trapezoid, np.trapezoid, ([1.0, 2.0], [3.0, 5.0])),
        (tr.average, np.average, ([1, 2], None, [3, 5])),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_lists_are_taken_as_arrays(ours, numpys, args):
    expected = numpys(*args)
    found = ours(*args)
    assert isinstance(found, np.ndarray | np.generic)
    np.testing.assert_allclose(found, expected)


def test_log_sigmoid_takes_a_list():
    np.testing.assert_allclose(tr.log_sigmoid([0.0, 1.0]), -np.logaddexp(0, [0.0, -1.0]))
