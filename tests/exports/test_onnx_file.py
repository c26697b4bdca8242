"""What an ONNX file holds, and what is refused."""

import json

import numpy as np
import pytest
from onnx_runs import CELLS, RNG, SIGNED, D, H, N, T, V, assert_like, kinds, onnx, ran, session

import tinygrad_rnn as tr
from tinygrad_rnn import cli
from tinygrad_rnn.config import TrainConfig
from tinygrad_rnn.training import make_model, save_model

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
