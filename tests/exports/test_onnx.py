"""ONNX files, run by ONNX Runtime: steps, windows of other sizes, every operation, and what is refused."""

import json
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from programs import lines, write

import tinygrad_rnn as tr
from tinygrad_rnn import cli
from tinygrad_rnn.config import TrainConfig
from tinygrad_rnn.engine.tree import flatten
from tinygrad_rnn.training import make_model, save_model

onnx = pytest.importorskip("onnx", reason="the extra [onnx] is not installed")
runtime = pytest.importorskip("onnxruntime", reason="the extra [onnx] is not installed")

RNG = np.random.default_rng
N, T, D, H, V = 3, 5, 4, 6, 10
WINDOW = {"xs": {0: "N", 1: "T"}, "state": {0: "N"}}


class LeakyCell(tr.Module):
    def __init__(self, input_size, hidden_size, rng):
        self.input_size = input_size
        self.Wx = tr.parameter(rng.standard_normal((input_size, hidden_size)) / input_size**0.5, np.float32)
        self.Wh = tr.parameter(rng.standard_normal((hidden_size, hidden_size)) / hidden_size**0.5, np.float32)
        self.leak = tr.parameter(np.zeros(hidden_size), np.float32)

    def initial_state(self, batch_size):
        return np.zeros((batch_size, len(self.leak)), np.float32)

    def __call__(self, x, h):
        a = tr.sigmoid(self.leak)
        h = (1 - a) * h + a * np.tanh(x @ self.Wx + h @ self.Wh)
        return h, h


CELLS = {
    "rnn": (lambda: tr.RNNCell(D, H, RNG(0)), "RNN"),
    "relu": (lambda: tr.RNNCell(D, H, RNG(0), nonlinearity="relu", bias=False), "RNN"),
    "lstm": (lambda: tr.LSTMCell(D, H, RNG(0), forget_bias=1), "LSTM"),
    "lstm without bias": (lambda: tr.LSTMCell(D, H, RNG(0), bias=False), "LSTM"),
    "lstm with projection": (lambda: tr.LSTMCell(D, H, RNG(0), proj_size=2), None),
    "gru": (lambda: tr.GRUCell(D, H, RNG(0)), "GRU"),
    "gru without bias": (lambda: tr.GRUCell(D, H, RNG(0), bias=False), "GRU"),
    "gru, reset before": (lambda: tr.GRUCell(D, H, RNG(0), reset="before"), "GRU"),
    "two layers": (lambda: tr.Stacked([tr.LSTMCell(D, H, RNG(0)), tr.GRUCell(H, 3, RNG(1))]), None),
    "a user's": (lambda: LeakyCell(D, H, RNG(0)), None),
    "lru": (lambda: tr.LRUCell(D, H, RNG(0)), None),
    "peepholes": (lambda: tr.PeepholeLSTMCell(D, H, RNG(0)), None),
    "minlstm": (lambda: tr.MinLSTMCell(D, H, RNG(0)), None),
    "float64": (lambda: tr.LSTMCell(D, H, RNG(0), np.float64), None),
}


def session(path):
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def arrays_of(nest):
    return [np.asarray(leaf.data if isinstance(leaf, tr.Tensor) else leaf) for leaf in flatten(nest)]


def ran(path, *args):
    """What ONNX Runtime makes of arguments."""
    program = session(path)
    names = [one.name for one in program.get_inputs()]
    return program.run(None, dict(zip(names, arrays_of(args), strict=True)))


def assert_like(got, wanted, rtol=1e-5):
    wanted = arrays_of(wanted)
    assert len(got) == len(wanted)
    for one, other in zip(got, wanted, strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        np.testing.assert_allclose(one, other, rtol=0, atol=rtol * max(1e-30, np.abs(other).max(initial=0)))


def kinds(path):
    return [node.op_type for node in onnx.load(path).graph.node]


def shuffled(module, scale=0.3):
    """The module with other values everywhere, biases too."""
    rng = RNG(7)
    module.load({n: a + scale * rng.standard_normal(a.shape) for n, a in module.state_dict().items()})
    return module


# -- steps ------------------------------------------------------------------------------------------------------------


def streamed(model, xs, path):
    """Assert that a stream of steps gives the same in ONNX Runtime as in the executor."""
    tr.export(model, path, *([] if xs.dtype.kind == "i" else [xs[0]]))
    program, step = session(path), tr.Stepper(model)
    names = [one.name for one in program.get_inputs()]
    state = model.initial_state(xs.shape[1])
    carried = arrays_of(state)
    got, wanted = [], []
    for x in xs:
        y, *carried = program.run(None, dict(zip(names, [x, *carried], strict=True)))
        expected, state = step(x, state)
        got.append(y)
        wanted.append(expected)
    assert_like([np.array(got), *carried], [np.array(wanted), *arrays_of(state)])


@pytest.mark.parametrize("name", CELLS)
def test_a_stream_of_steps(name, tmp_path):
    make, kind = CELLS[name]
    cell = shuffled(make())
    dtype = next(iter(cell.parameters().values())).dtype
    streamed(cell, RNG(1).standard_normal((150, N, D)).astype(dtype), tmp_path / "cell.onnx")
    assert {"RNN", "LSTM", "GRU"} & {*kinds(tmp_path / "cell.onnx")} >= ({kind} if kind else set())


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["rnn", "lstm", "gru", "two layers", "a user's", "lru"])
def test_ten_thousand_steps(name, tmp_path):
    streamed(shuffled(CELLS[name][0]()), RNG(1).standard_normal((10_000, 1, D)).astype(np.float32), tmp_path / "a.onnx")


@pytest.mark.nightly
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_ten_thousand_steps_of_a_language_model(cell, tmp_path):
    model = shuffled(tr.RNNLM(V, D, 32, RNG(0), cell=cell, layers=2), 0.02)  # more would be chaotic
    streamed(model, RNG(1).integers(0, V, (10_000, 1)), tmp_path / "a.onnx")


def test_a_language_model_of_two_layers(tmp_path):
    model = shuffled(tr.RNNLM(V, D, H, RNG(0), cell="lstm", layers=2))
    streamed(model, RNG(1).integers(0, V, (100, N)), tmp_path / "a.onnx")


# -- windows ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CELLS)
def test_a_window_of_any_size(name, tmp_path):
    make, kind = CELLS[name]
    cell = shuffled(make())
    dtype = next(iter(cell.parameters().values())).dtype
    tr.export(cell, tmp_path / "a.onnx", np.zeros((N, T, D), dtype))
    assert {"RNN", "LSTM", "GRU", "Scan"} & {*kinds(tmp_path / "a.onnx")} == {kind or "Scan"}
    for n, t in ((N, T), (1, 1), (2, 9)):
        xs, state = RNG(2).standard_normal((n, t, D)).astype(dtype), cell.initial_state(n)
        state = tr.unroll(cell, xs, state)[1]  # not zeros
        assert_like(ran(tmp_path / "a.onnx", xs, state), tr.unroll(cell, xs, state))


def test_layers_in_both_directions(tmp_path):
    layers = shuffled(tr.RecurrentLayers("gru", D, H, RNG(0), layers=2, bidirectional=True))
    tr.export(layers, tmp_path / "a.onnx", np.zeros((N, T, D), np.float32))
    assert kinds(tmp_path / "a.onnx").count("GRU") == 4
    assert "Slice" not in kinds(tmp_path / "a.onnx")
    xs = RNG(1).standard_normal((2, 7, D)).astype(np.float32)
    assert_like(ran(tmp_path / "a.onnx", xs, layers.initial_state(2)), layers(xs))


def test_cells_that_read_backward_and_what_is_reversed_once(tmp_path):
    lstm, gru = shuffled(tr.LSTMCell(D, H, RNG(0))), shuffled(tr.GRUCell(D, H, RNG(1)))

    def read(xs):
        n, t = xs.shape[:2]
        order = np.broadcast_to(np.arange(t)[::-1, None], (n, t, 1))
        outputs, _ = tr.unroll(lstm, np.take_along_axis(xs, order, axis=1))  # which stay in the order of reading
        return outputs, tr.scan(gru, gru.initial_state(n), xs, reverse=True)

    tr.export(read, tmp_path / "a.onnx", np.zeros((N, T, D), np.float32), axes={"xs": {0: "N", 1: "T"}})
    nodes = [node for node in onnx.load(tmp_path / "a.onnx").graph.node if node.op_type in ("LSTM", "GRU")]
    directions = [(node.op_type, one.s) for node in nodes for one in node.attribute if one.name == "direction"]
    assert directions == [("LSTM", b"forward"), ("GRU", b"reverse")]
    xs = RNG(1).standard_normal((2, 7, D)).astype(np.float32)
    assert_like(ran(tmp_path / "a.onnx", xs), read(xs))


def test_sequences_of_different_lengths(tmp_path):
    model = shuffled(tr.SequenceModel("lstm", D, H, 2, RNG(0), last=True, bidirectional=True))

    def read(xs, lengths):
        return model(xs, lengths=lengths)

    axes = {"xs": {0: "N", 1: "T"}, "lengths": {0: "N"}}
    tr.export(read, tmp_path / "a.onnx", np.zeros((N, T, D), np.float32), np.array([5, 1, 2]), axes=axes)
    xs = RNG(1).standard_normal((4, 9, D)).astype(np.float32)
    assert_like(ran(tmp_path / "a.onnx", xs, np.array([9, 1, 4, 8])), read(xs, np.array([9, 1, 4, 8])))


def test_a_scan_in_reverse_with_constants_and_without_slices(tmp_path):
    w = tr.parameter([0.5, -0.5], np.float32)

    def both(xs, state):
        outputs, state = tr.scan(lambda x, h: ((h, x), w * h + x), state, xs, reverse=True)
        counted, last = tr.scan(lambda x, h: (h, h * w), state, None, steps=xs.shape[1])
        return outputs, counted, last

    xs, state = RNG(0).standard_normal((N, T, 2)).astype(np.float32), np.ones((N, 2), np.float32)
    tr.export(both, tmp_path / "a.onnx", xs, state, axes=WINDOW)
    assert_like(ran(tmp_path / "a.onnx", xs, state), both(xs, state))
    assert_like(ran(tmp_path / "a.onnx", xs[:2, :3], state[:2]), both(xs[:2, :3], state[:2]))


def test_sequence_to_sequence_with_attention(tmp_path):
    model = shuffled(tr.Seq2Seq(V, 8, D, H, RNG(0), attention="additive", reverse=True))
    axes = {"sources": {0: "N", 1: "T"}, "targets": {0: "N", 1: "U"}}

    def read(sources, targets):
        return model(sources, targets)

    tr.export(read, tmp_path / "a.onnx", np.ones((N, T), int), np.ones((N, 2), int), axes=axes)
    sources, targets = RNG(0).integers(0, V, (2, 7)), RNG(1).integers(0, 8, (2, 4))
    assert_like(ran(tmp_path / "a.onnx", sources, targets), read(sources, targets))


def test_a_training_step(tmp_path):
    model = tr.RNNLM(V, D, H, RNG(0), cell="lstm")

    def step(params, ids, targets, state):
        loss, state = model.loss(ids, targets, state)
        gradients = tr.grad(loss, params)
        return loss, {name: p - 0.1 * gradients[name] for name, p in params.items()}, state

    def args(n, t):
        ids, targets = RNG(1).integers(0, V, (n, t)), RNG(2).integers(-1, V, (n, t))
        return model.parameters(), ids, targets, model.initial_state(n)

    sizes = {0: "N", 1: "T"}
    axes = {"ids": sizes, "targets": sizes, "state": {0: "N"}}
    tr.export(step, tmp_path / "a.onnx", *args(N, T), axes=axes)
    assert_like(ran(tmp_path / "a.onnx", *args(2, 8)), step(*args(2, 8)))


# -- operations -------------------------------------------------------------------------------------------------------

POSITIVE = RNG(3).uniform(0.2, 0.9, (2, 3)).astype(np.float32)
SIGNED = RNG(4).standard_normal((2, 3)).astype(np.float32) * 3


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
    return of_all, [np.arccosh(p + 1), np.arctanh(p), np.arctanh(-p)]


def test_functions_that_onnx_runtime_has_in_float32_alone(tmp_path):
    args = np.array([-3.0, -1e-9, 0.0, 1e-5, 2.5]), np.array([1e-9, 0.1, 0.5, 0.9, 0.999])
    tr.export(wide_functions, tmp_path / "a.onnx", *args)
    for got, wanted in zip(ran(tmp_path / "a.onnx", *args), arrays_of(wide_functions(*args)), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-13)


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
        loss = (
            np.sum(x[1, 1:] ** 2)
            + np.sum(np.tanh(np.take(x, i, axis=0)))
            + np.sum(np.take_along_axis(x, i[None], 1) ** 3)
        )
        return tr.grad(loss, x)

    x, i = tr.tensor(np.arange(6.0).reshape(2, 3) / 5, requires_grad=True), np.array([1, 1, 0])
    tr.export(f, tmp_path / "a.onnx", x, i)
    assert_like(ran(tmp_path / "a.onnx", x, i), f(x, i))


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


# -- the file ---------------------------------------------------------------------------------------------------------


def test_names_and_metadata_say_what_the_file_holds(tmp_path):
    cell = tr.LSTMCell(D, H, RNG(0))
    (path,) = tr.export(tr.RNNLM(V, D, H, RNG(0), cell="lstm"), tmp_path / "a.onnx", steps=3)
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert (model.producer_name, model.graph.name, model.opset_import[0].version) == ("tinygrad_rnn", "RNNLM", 17)
    assert [one.name for one in model.graph.input] == ["x", "state.0.0", "state.0.1"]
    assert [one.name for one in model.graph.output] == ["y", "state.0.0.next", "state.0.1.next"]
    assert [one.dim_param for one in model.graph.input[0].type.tensor_type.shape.dim] == ["N", "T"]
    assert {"embedding.W", "layers.0.W", "layers.0.R", "layers.0.B", "output.W"} <= {
        one.name for one in model.graph.initializer
    }
    notes = {one.key: one.value for one in model.metadata_props}
    assert notes["class"].endswith("RNNLM")
    assert json.loads(notes["state"])[1] == {"input": "state.0.1", "output": "state.0.1.next", "start": 0.0}
    assert [node.name for node in model.graph.node if node.op_type == "LSTM"] == ["layers.0/LSTM"]
    assert cell.parameter_count() + V * D + H * V + V == int(notes["parameters"])


@pytest.mark.parametrize("name", ['";drop', "int", "a b\n", "x/y:0", "é\ud800", ""])
def test_hostile_names_harm_nothing(name, tmp_path):
    def f(params):
        return {key: part * 2 for key, part in params.items()}

    params = {name: np.ones(2), "x": np.zeros(2), f"{name}_2": np.ones(1)}
    tr.export(f, tmp_path / "a.onnx", params)
    onnx.checker.check_model(onnx.load(tmp_path / "a.onnx"), full_check=True)
    assert_like(ran(tmp_path / "a.onnx", params), f(params))


def test_names_that_are_the_same(tmp_path):
    def f(p):
        return {"a": [p["a"][0] + 1], "a.0": p["a.0"] + 2}

    p = {"a": [np.ones(2)], "a.0": np.zeros(3)}
    tr.export(f, tmp_path / "a.onnx", p)
    assert [one.name for one in onnx.load(tmp_path / "a.onnx").graph.input] == ["p.a.0", "p.a.0_2"]
    assert_like(ran(tmp_path / "a.onnx", p), f(p))


def test_a_state_that_does_not_start_with_zeros(tmp_path):
    class Counts(tr.Module):
        def initial_state(self, batch_size):
            return np.full((batch_size, 1), 3.0), np.tile([1.0, 2.0], (batch_size, 1))

        def __call__(self, x, state):
            return x, (state[0] + x, state[1] * x)

    tr.export(Counts(), tmp_path / "a.onnx", np.ones((2, 1)))
    notes = {one.key: one.value for one in onnx.load(tmp_path / "a.onnx").metadata_props}
    assert [one["start"] for one in json.loads(notes["state"])] == [3.0, [1.0, 2.0]]


def test_weights_beside_the_file(tmp_path):
    cell = tr.LSTMCell(D, 40, RNG(0))
    both = tr.export(cell, tmp_path / "a.onnx", weights="blob")
    assert [path.name for path in both] == ["a.onnx", "a.onnx.data"]
    assert both[1].stat().st_size >= 4 * cell.Wh.size > both[0].stat().st_size
    x, state = RNG(0).standard_normal((2, D)).astype(np.float32), cell.initial_state(2)
    assert_like(ran(both[0], x, state), cell(x, state))
    assert sorted(tmp_path.iterdir()) == both


def test_weights_that_do_not_fit_into_one_file(tmp_path, monkeypatch):
    monkeypatch.setattr("tinygrad_rnn.exports.onnx.file._LARGEST", 1000)
    cell = tr.LSTMCell(D, 40, RNG(0))
    with pytest.raises(tr.ConfigError, match=r'29,\d+ bytes of weights do not fit .* pass weights="blob"'):
        tr.export(cell, tmp_path / "a.onnx")
    assert not [*tmp_path.iterdir()]
    path, _ = tr.export(cell, tmp_path / "a.onnx", weights="blob")
    x, state = np.ones((2, D), np.float32), cell.initial_state(2)
    assert_like(ran(path, x, state), cell(x, state))


def test_shared_weights_are_written_once(tmp_path):
    cell = tr.GRUCell(D, D, RNG(0))

    def twice(xs):
        return tr.unroll(cell, tr.unroll(cell, xs)[0])[0]

    tr.export(twice, tmp_path / "a.onnx", np.ones((N, T, D), np.float32), axes={"xs": {0: "N", 1: "T"}})
    names = [one.name for one in onnx.load(tmp_path / "a.onnx").graph.initializer]
    assert sum(name.endswith("R") for name in names) == 1
    xs = np.ones((1, 2, D), np.float32)
    assert_like(ran(tmp_path / "a.onnx", xs), twice(xs))


def test_weights_that_are_computed(tmp_path):
    """As with noise or normalization of weights, or where they are arguments."""
    made = {name: make() for name, (make, kind) in CELLS.items() if kind}

    def read(xs, params):
        outputs = []
        for name, cell in made.items():
            old = {key: getattr(cell, key) for key in cell.parameters()}
            for key, array in params[name].items():
                setattr(cell, key, np.tanh(array))
            outputs.append(tr.unroll(cell, xs)[0])
            for key, tensor in old.items():
                setattr(cell, key, tensor)
        return outputs

    xs = RNG(0).standard_normal((N, T, D)).astype(np.float32)
    params = {name: {key: tensor.data for key, tensor in cell.parameters().items()} for name, cell in made.items()}
    tr.export(read, tmp_path / "a.onnx", xs, params)
    assert "LSTM" in kinds(tmp_path / "a.onnx")
    as_tensors = {name: {key: tr.tensor(array) for key, array in part.items()} for name, part in params.items()}
    assert_like(ran(tmp_path / "a.onnx", xs, params), read(xs, as_tensors))


def test_what_is_no_cell_is_not_taken_for_one(tmp_path):
    rng = RNG(0)
    lstm, wq, wk = (
        tr.LSTMCell(D, H, rng),
        tr.parameter(rng.random((D, H)), np.float32),
        tr.parameter(rng.random((H, H)), np.float32),
    )

    def looks_inside(x, h, c):
        gates = tr.sigmoid(x @ lstm.Wx + lstm.b + h @ lstm.Wh)
        return gates, np.tanh(x @ wq + h @ wk), lstm(x, (h, c))[1]

    args = (SIGNED[:1, [0, 1, 2, 0]], *RNG(0).standard_normal((2, 1, H)).astype(np.float32))
    tr.export(looks_inside, tmp_path / "a.onnx", *args)
    assert kinds(tmp_path / "a.onnx").count("LSTM") == 1
    assert "RNN" not in kinds(tmp_path / "a.onnx")
    assert_like(ran(tmp_path / "a.onnx", *args), looks_inside(*args))


# -- what is refused --------------------------------------------------------------------------------------------------


@tr.primitive()
def mine(x, /):
    return x * 2


def draws(x):
    return tr.Dropout(0.5)(x, RNG(0))


REFUSED = {
    "whole numbers, divided": (lambda x: np.astype(x, int) // 3, {}, tr.UnsupportedError, "divides integers towards 0"),
    "less than nothing": (lambda x: -np.astype(x, np.uint8), {}, tr.UnsupportedError, "not valid in ONNX.*Neg"),
    "a mask of two axes": (lambda x: x[np.ones((4, 3), bool)], {}, tr.UnsupportedError, "a mask of several axes"),
    "an index of all kinds": (lambda x: x[None][0, [0, 1], 1], {}, tr.UnsupportedError, "an array and an integer"),
    "arrays that come late": (lambda x: x[None][:, [0, 1], [0, 1]], {}, tr.UnsupportedError, "must have them first"),
    "all axes, kept": (lambda x: np.argmax(x, keepdims=True), {}, tr.UnsupportedError, "ArgMax of all axes"),
    "a primitive of the user's": (lambda x: mine(x), {}, tr.UnsupportedError, "no operation for .*mine"),
    "complex numbers": (lambda x: np.sum(x) * 1j, {}, tr.UnsupportedError, "complex"),
    "an axis that is none": (np.tanh, {"x": {2: "N"}}, tr.ConfigError, r"axes of x, of shape \(4, 3\)"),
    "an argument that is none": (np.tanh, {"z": {0: "N"}}, tr.ConfigError, r"arguments \(x\)"),
    "a size that is no name": (np.tanh, {"x": {0: "N-1"}}, tr.ConfigError, "names of sizes"),
    "two lengths of one name": (np.tanh, {"x": {0: "N", 1: "N"}}, tr.ConfigError, "3 long, and others named N are 4"),
    "a table of a fixed length": (
        lambda x: x * np.sqrt(np.arange(x.shape[0]))[:, None].astype(np.float32),
        {"x": {0: "T"}},
        tr.UnsupportedError,
        "neither the same everywhere nor a range",
    ),
    "a number that depends on a size": (
        lambda x: x * (1 / x.shape[0]),
        {"x": {0: "T"}},
        tr.UnsupportedError,
        "a number of multiply is 0.2",
    ),
    "a length that is no sum of products": (
        lambda x: np.broadcast_to(x[0], (len(x) ** 2, 3)),
        {"x": {0: "T"}},
        tr.UnsupportedError,
        "is 25, 36, 225 for T=5; T=6; T=15, which is no sum of products",
    ),
    "another graph for each size": (
        lambda x: np.concatenate([np.tanh(part) * 1.0 for part in x[: 1 + x.shape[0] % 3]]),
        {"x": {0: "T"}},
        tr.UnsupportedError,
        "something else for other sizes of T",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_written_is_one_clear_error(name, tmp_path):
    function, axes, error, words = REFUSED[name]

    def f(x):
        return function(x)

    with pytest.raises(error, match=words):
        tr.export(f, tmp_path / "a.onnx", np.ones((4, 3), np.float32), axes=axes)
    assert not [*tmp_path.iterdir()]


def test_draws_are_refused(tmp_path):
    rng = RNG(0)
    with pytest.raises(tr.UnsupportedError, match="draws from a generator"):
        tr.export(lambda x: tr.Dropout(0.5)(x, rng), tmp_path / "a.onnx", np.ones(3))


def test_the_command_of_a_language_model(tmp_path, capsys):
    config, words = TrainConfig(hidden_size=3, cell="gru", level="char"), tr.Vocabulary(["<unk>", "a", "\n", '"'])
    save_model(tmp_path / "model.npz", make_model(config, len(words)), config, words)
    assert cli.main(["export", str(tmp_path), "--to", "onnx"]) == 0
    notes = {one.key: one.value for one in onnx.load(tmp_path / "model.onnx").metadata_props}
    assert json.loads(notes["vocabulary"]) == words.to_list()
    assert notes["level"] == "char"
    assert str(tmp_path / "model.onnx") in capsys.readouterr().out


def test_the_command(tmp_path, capsys):
    tr.save(tmp_path / "cell.npz", tr.GRUCell(D, H, RNG(0)))
    assert cli.main(["export", str(tmp_path / "cell.npz"), "--to", "onnx"]) == 0
    assert str(tmp_path / "cell.onnx") in capsys.readouterr().out
    assert session(tmp_path / "cell.onnx").get_outputs()[0].shape == ["N", 6]
    flags = ["--to", "onnx", "--weights", "blob", "--steps", "3", "--out", str(tmp_path / "w.onnx")]
    assert cli.main(["export", str(tmp_path / "cell.npz"), *flags]) == 0
    assert session(tmp_path / "w.onnx").get_outputs()[0].shape == ["N", "T", 6]
    with pytest.raises(tr.ConfigError, match='weights must be "source" or "blob"'):
        tr.export(tr.GRUCell(D, H, RNG(0)), tmp_path / "x.onnx", weights="beside")
