"""ONNX files, run by ONNX Runtime: what the tests of the format share."""

import numpy as np
import pytest
from leaky import LeakyCell

import tinygrad_rnn as tr
from tinygrad_rnn.engine.tree import flatten

onnx = pytest.importorskip("onnx", reason="the extra [onnx] is not installed")
runtime = pytest.importorskip("onnxruntime", reason="the extra [onnx] is not installed")

RNG = np.random.default_rng
N, T, D, H, V = 3, 5, 4, 6, 10
SIGNED = RNG(4).standard_normal((2, 3)).astype(np.float32) * 3
WINDOW = {"xs": {0: "N", 1: "T"}, "state": {0: "N"}}


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
