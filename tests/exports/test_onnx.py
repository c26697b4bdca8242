"""ONNX files, run by ONNX Runtime: steps, and windows of other sizes."""

import numpy as np
import pytest
from onnx_runs import CELLS, RNG, WINDOW, D, H, N, T, V, arrays_of, assert_like, kinds, onnx, ran, session, shuffled

import tinygrad_rnn as tr

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
