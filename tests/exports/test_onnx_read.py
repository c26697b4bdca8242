"""Recurrent layers from ONNX files: of this project, of PyTorch, made by hand after the standard, foreign, damaged."""

import contextlib
import io
import warnings

import numpy as np
import pytest

import tinygrad_rnn as tr

onnx = pytest.importorskip("onnx", reason="the extra [onnx] is not installed")
runtime = pytest.importorskip("onnxruntime", reason="the extra [onnx] is not installed")

RNG = np.random.default_rng
N, T, D, H = 2, 5, 3, 4
GATES = {"RNN": 1, "LSTM": 4, "GRU": 3}


def node_file(path, kind, directions=1, bias=True, beside=None, dtype=np.float32, constants=(), **attributes):
    """A file with one node as the standard describes it, its weights drawn."""
    rng, rows = RNG(5), GATES[kind] * H
    arrays = {"W": (directions, rows, D), "R": (directions, rows, H)} | ({"B": (directions, 2 * rows)} if bias else {})
    arrays = {name: rng.standard_normal(shape).astype(dtype) for name, shape in arrays.items()}
    inputs = ["xs", "W", "R", "B" if bias else "", "", *dict(constants)]
    initializers = [onnx.numpy_helper.from_array(array, name) for name, array in {**arrays, **dict(constants)}.items()]
    node = onnx.helper.make_node(kind, inputs, ["ys"], name="the node", hidden_size=H, **attributes)
    number = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    graph = onnx.helper.make_graph(
        [node],
        "graph",
        [onnx.helper.make_tensor_value_info("xs", number, ["T", "N", D])],
        [onnx.helper.make_tensor_value_info("ys", number, ["T", directions, "N", H])],
        initializers,
    )
    model = onnx.helper.make_model(graph, ir_version=8, opset_imports=[onnx.helper.make_operatorsetid("", 17)])
    if beside is not None:
        for tensor in model.graph.initializer:
            onnx.external_data_helper.set_external_data(tensor, beside)
            tensor.ClearField("raw_data")
    path.write_bytes(model.SerializeToString())
    return arrays


def assert_computes_the_same(path, rtol=1e-5):
    """The layers of a file of one node give what ONNX Runtime makes of it."""
    layers = tr.from_onnx(path)
    xs = RNG(1).standard_normal((N, T, D)).astype(np.float32)
    (ys,) = runtime.InferenceSession(str(path)).run(None, {"xs": xs.swapaxes(0, 1)})
    wanted = ys.transpose(2, 0, 1, 3).reshape(N, T, -1)  # (T, directions, N, H)
    np.testing.assert_allclose(layers(xs)[0].data, wanted, rtol=0, atol=rtol)
    return layers


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
@pytest.mark.parametrize(
    ("kind", "attributes"),
    [
        ("LSTM", {}),
        ("LSTM", {"activations": ["Sigmoid", "Tanh", "Tanh"]}),
        ("GRU", {}),
        ("GRU", {"linear_before_reset": 1}),
        ("RNN", {}),
        ("RNN", {"activations": ["Relu"]}),
    ],
)
def test_a_node_of_the_standard(kind, attributes, direction, bias, tmp_path):
    directions = 1 + (direction == "bidirectional")
    given = (
        {**attributes, "activations": attributes["activations"] * directions}
        if "activations" in attributes
        else attributes
    )
    node_file(tmp_path / "a.onnx", kind, directions, bias, direction=direction, **given)
    assert_computes_the_same(tmp_path / "a.onnx")


@pytest.mark.nightly
@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn"])
def test_a_file_of_pytorch(kind, tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    torch.manual_seed(0)
    model = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}[kind](
        D, H, 2, batch_first=True, bidirectional=True
    )
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, (torch.zeros(N, T, D),), buffer, dynamo=False, opset_version=17)
    (tmp_path / "a.onnx").write_bytes(buffer.getvalue())
    layers, xs = tr.from_onnx(tmp_path / "a.onnx"), RNG(0).standard_normal((N, T, D)).astype(np.float32)
    with torch.no_grad():
        wanted = model(torch.from_numpy(xs))[0].numpy()
    np.testing.assert_allclose(layers(xs)[0].data, wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"bias": False}, {"bidirectional": True}, {"layers": 3}])
@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn"])
def test_the_round_trip_loses_nothing(kind, options, tmp_path):
    layers = tr.RecurrentLayers(kind, D, H, RNG(0), **options)
    rng = RNG(2)
    layers.load({name: rng.standard_normal(array.shape) for name, array in layers.state_dict().items()})
    tr.export(layers, tmp_path / "a.onnx", np.zeros((N, T, D), np.float32), weights="blob")
    again = tr.from_onnx(tmp_path / "a.onnx")
    assert again.state_dict().keys() == layers.state_dict().keys()
    for name, array in layers.state_dict().items():
        np.testing.assert_array_equal(again.state_dict()[name], array)


def test_weights_that_are_assembled_by_nodes(tmp_path):
    arrays = node_file(tmp_path / "a.onnx", "LSTM")
    model = onnx.load(tmp_path / "a.onnx")
    halves = np.split(arrays["W"][0], 2)
    kept = [one for one in model.graph.initializer if one.name != "W"]
    del model.graph.initializer[:]
    model.graph.initializer.extend(
        [*kept, *(onnx.numpy_helper.from_array(half, f"half{n}") for n, half in enumerate(halves))]
    )
    axes = onnx.helper.make_node("Constant", [], ["axes"], value=onnx.numpy_helper.from_array(np.array([0])))
    join = onnx.helper.make_node("Concat", ["half0", "half1"], ["joined"], axis=0)
    model.graph.node.extend([onnx.helper.make_node("Unsqueeze", ["joined", "axes"], ["W"])])
    nodes = [axes, join, model.graph.node[1], model.graph.node[0]]
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, tmp_path / "b.onnx")
    assert_computes_the_same(tmp_path / "b.onnx")


def test_half_precision_is_widened(tmp_path):
    arrays = node_file(tmp_path / "a.onnx", "RNN", dtype=np.float16)
    layers = tr.from_onnx(tmp_path / "a.onnx")
    np.testing.assert_array_equal(layers.layers[0][0].Wh.data, arrays["R"][0].T.astype(np.float32))


def test_a_choice_of_nodes(tmp_path):
    model = tr.Seq2Seq(5, 6, D, H, RNG(0), cell="gru")

    def read(sources, targets):
        return model(sources, targets)

    tr.export(read, tmp_path / "a.onnx", np.ones((N, T), int), np.ones((N, T), int))
    with pytest.raises(
        tr.ConfigError, match=r"no stack of equal layers: encoder/GRU \(GRU, forward, D=3, H=4, after\); "
    ):
        tr.from_onnx(tmp_path / "a.onnx")
    layers = tr.from_onnx(tmp_path / "a.onnx", nodes=["encoder/GRU"])
    np.testing.assert_array_equal(layers.layers[0][0].Wx.data, model.encoder.Wx.data)
    with pytest.raises(tr.ConfigError, match="has no node 'x'; it has encoder/GRU, "):
        tr.from_onnx(tmp_path / "a.onnx", nodes=["x"])


def test_nodes_inside_of_others(tmp_path):
    stacked = tr.Stacked([tr.LSTMCell(D, H, RNG(0)), tr.GRUCell(H, H, RNG(1))])
    tr.export(stacked, tmp_path / "a.onnx", np.zeros((N, T, D), np.float32))
    layers = tr.from_onnx(tmp_path / "a.onnx", nodes="GRU")
    np.testing.assert_array_equal(layers.layers[0][0].Wx.data, stacked.cells[1].Wx.data)


def test_weights_in_constant_nodes_and_those_of_an_input(tmp_path):
    arrays = node_file(tmp_path / "a.onnx", "RNN")
    model = onnx.load(tmp_path / "a.onnx")
    del model.graph.initializer[:]
    onnx.save(model, tmp_path / "b.onnx")
    with pytest.raises(tr.ConfigError, match="W of the node is no constant of the file, but computed from an input"):
        tr.from_onnx(tmp_path / "b.onnx")
    nodes = [
        onnx.helper.make_node("Constant", [], [name], value=onnx.numpy_helper.from_array(array))
        for name, array in arrays.items()
    ]
    nodes.append(onnx.NodeProto.FromString(model.graph.node[0].SerializeToString()))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, tmp_path / "b.onnx")
    assert_computes_the_same(tmp_path / "b.onnx")


# -- what is refused --------------------------------------------------------------------------------------------------

FOREIGN = {
    "other activations": ("LSTM", {"activations": ["Sigmoid", "Relu", "Tanh"]}, "the activations sigmoid, relu, tanh"),
    "an RNN of sigmoids": ("RNN", {"activations": ["Sigmoid"]}, "activation"),
    "clipping": ("GRU", {"clip": 2.0}, "clip=2.0"),
    "coupled gates": ("LSTM", {"input_forget": 1}, "input_forget=1"),
    "the reverse direction alone": ("LSTM", {"direction": "reverse"}, "no stack of equal layers"),
    "a start from a state": ("GRU", {"constants": [("h0", np.ones((1, N, H), np.float32))]}, "a start from a state"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_no_cell_computes(name, tmp_path):
    kind, attributes, words = FOREIGN[name]
    node_file(tmp_path / "a.onnx", kind, **attributes)
    with pytest.raises(tr.ConfigError, match=words):
        tr.from_onnx(tmp_path / "a.onnx")


def test_a_file_without_recurrent_nodes(tmp_path):
    tr.export(lambda x: np.tanh(x), tmp_path / "a.onnx", np.ones(3))
    with pytest.raises(tr.ConfigError, match="no RNN, LSTM or GRU node"):
        tr.from_onnx(tmp_path / "a.onnx")


@pytest.mark.parametrize("content", [b"", b"\x00" * 100, b"PK\x03\x04 not onnx", b"{}", bytes(range(256))])
def test_a_file_that_is_no_onnx(content, tmp_path):
    (tmp_path / "a.onnx").write_bytes(content)
    with pytest.raises(tr.ModelFileError, match=r"a\.onnx: is no ONNX file"):
        tr.from_onnx(tmp_path / "a.onnx")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(tr.ModelFileError, match="No such file"):
        tr.from_onnx(tmp_path / "a.onnx")


@pytest.mark.parametrize("seed", range(20))
def test_damaged_files_give_one_clear_error_or_weights(seed, tmp_path):
    """There is no checksum in the format: a flipped bit of a weight is a weight."""
    node_file(tmp_path / "a.onnx", "LSTM")
    whole, rng = (tmp_path / "a.onnx").read_bytes(), RNG(seed)
    for _ in range(10):
        data = bytearray(whole)
        place = int(rng.integers(len(data)))
        if rng.random() < 0.5:
            data[place] ^= 1 << int(rng.integers(8))
        else:
            del data[place : place + int(rng.integers(1, 50))]
        (tmp_path / "b.onnx").write_bytes(data)
        with contextlib.suppress(tr.ModelFileError, tr.ConfigError):
            assert isinstance(tr.from_onnx(tmp_path / "b.onnx"), tr.RecurrentLayers)


@pytest.mark.parametrize("place", ["../secret", "/etc/hostname", "..\\secret", "C:\\secret", "", "sub/../../secret"])
def test_weights_outside_of_the_folder_are_not_read(place, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(bytes(10_000))
    node_file(folder / "a.onnx", "LSTM", beside=place)
    with pytest.raises(tr.ModelFileError, match="outside of the folder"):
        tr.from_onnx(folder / "a.onnx")


def test_a_link_out_of_the_folder_is_not_followed(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(bytes(10_000))
    (folder / "data").symlink_to(tmp_path / "secret")
    node_file(folder / "a.onnx", "LSTM", beside="data")
    with pytest.raises(tr.ModelFileError, match="outside of the folder"):
        tr.from_onnx(folder / "a.onnx")


def test_weights_beside_the_file_that_are_missing_or_short(tmp_path):
    node_file(tmp_path / "a.onnx", "LSTM", beside="data")
    with pytest.raises(tr.ModelFileError, match="lies in 'data': No such file"):
        tr.from_onnx(tmp_path / "a.onnx")
    (tmp_path / "data").write_bytes(bytes(100))
    with pytest.raises(tr.ModelFileError, match="needs 192 bytes of 'data', there are 100"):
        tr.from_onnx(tmp_path / "a.onnx")
