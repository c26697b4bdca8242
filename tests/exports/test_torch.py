"""Weights in PyTorch's names and layout: against its equations, written out here, and against PyTorch where it is."""

import subprocess
import sys

import numpy as np
import pytest

import tinygrad_rnn as tr

N, T, D, H, V = 2, 5, 3, 4, 7
RNG = np.random.default_rng


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def shuffled(module):
    """The module with other values everywhere, biases too."""
    rng = RNG(7)
    module.load({name: rng.standard_normal(array.shape) for name, array in module.state_dict().items()})
    return module


def torch_step(kind, w, x, state):
    """One step as the documentation of torch.nn.RNN, LSTM and GRU states it, on arrays in its layout."""
    zero = np.zeros(len(w["weight_ih"]))
    from_x = x @ w["weight_ih"].T + w.get("bias_ih", zero)
    if kind == "lstm":
        h, c = state
        i, f, g, o = np.split(from_x + h @ w["weight_hh"].T + w.get("bias_hh", zero), 4, axis=-1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        h = h @ w["weight_hr"].T if "weight_hr" in w else h
        return h, (h, c)
    from_h = state @ w["weight_hh"].T + w.get("bias_hh", zero)
    if kind == "rnn":
        h = np.tanh(from_x + from_h)
    else:
        (xr, xz, xn), (hr, hz, hn) = np.split(from_x, 3, axis=-1), np.split(from_h, 3, axis=-1)
        z = sigmoid(xz + hz)
        h = (1 - z) * np.tanh(xn + sigmoid(xr + hr) * hn) + z * state
    return h, h


def torch_layers(kind, weights, xs, layers, directions):
    """All layers and directions over xs (N, T, D), from a state of zeros."""
    for layer in range(layers):
        outputs = []
        for suffix in ("", "_reverse")[:directions]:
            end = f"_l{layer}{suffix}"
            w = {name.removesuffix(end): array for name, array in weights.items() if name.endswith(end)}
            units = w["weight_hh"].shape[1]
            h = np.zeros((N, units))
            state = (h, np.zeros((N, len(w["weight_hh"]) // 4))) if kind == "lstm" else h
            hs = np.zeros((N, T, units))
            for t in range(T)[:: -1 if suffix else 1]:
                hs[:, t], state = torch_step(kind, w, xs[:, t], state)
            outputs.append(hs)
        xs = np.concatenate(outputs, axis=-1)
    return xs


SHAPES = [
    (kind, layers, bidirectional, options)
    for kind in ("rnn", "lstm", "gru")
    for layers, bidirectional in ((1, False), (2, True), (3, False))
    for options in ({}, {"bias": False}, *([{"proj_size": 2}] if kind == "lstm" else []))
]


def made(kind, layers, bidirectional, options, seed=0):
    return shuffled(
        tr.RecurrentLayers(
            kind, D, H, RNG(seed), layers=layers, bidirectional=bidirectional, dtype=np.float64, **options
        )
    )


@pytest.mark.parametrize(("kind", "layers", "bidirectional", "options"), SHAPES)
def test_the_arrays_mean_the_same_there(kind, layers, bidirectional, options):
    module = made(kind, layers, bidirectional, options)
    xs = RNG(1).standard_normal((N, T, D))
    arrays = tr.to_torch(module)
    assert all(array.flags.c_contiguous for array in arrays.values())
    np.testing.assert_allclose(
        torch_layers(kind, arrays, xs, layers, 1 + bidirectional), module(xs)[0].data, rtol=1e-12, atol=1e-13
    )


@pytest.mark.parametrize(("kind", "layers", "bidirectional", "options"), SHAPES)
def test_arrays_from_there_mean_the_same_here(kind, layers, bidirectional, options):
    module = made(kind, layers, bidirectional, options)
    before, rng = module.state_dict(), RNG(3)
    theirs = {name: rng.standard_normal(array.shape) for name, array in tr.to_torch(module).items()}
    renamed = tr.from_torch(module, theirs)
    for name, array in before.items():
        np.testing.assert_array_equal(module.state_dict()[name], array)  # it is not changed
    module.load(renamed)
    xs = RNG(1).standard_normal((N, T, D))
    np.testing.assert_allclose(
        module(xs)[0].data, torch_layers(kind, theirs, xs, layers, 1 + bidirectional), rtol=1e-12, atol=1e-13
    )


MODULES = {
    "language model": lambda seed: tr.RNNLM(V, D, H, RNG(seed), cell="lstm", layers=2),
    "tied": lambda seed: tr.RNNLM(V, H, H, RNG(seed), cell="gru", tied=True),
    "projected": lambda seed: tr.RNNLM(V, 2, H, RNG(seed), cell="lstm", tied=True, proj_size=2),
    "sequence model": lambda seed: tr.SequenceModel("rnn", D, H, 2, RNG(seed), bidirectional=True),
    "cell": lambda seed: tr.GRUCell(D, H, RNG(seed)),
    "stacked": lambda seed: tr.Stacked([tr.RNNCell(D, H, RNG(seed)), tr.LSTMCell(H, H, RNG(seed))]),
    "norm": lambda seed: tr.LayerNorm(D),
    "linear": lambda seed: tr.Linear(D, H, RNG(seed), bias=False),
    "encoder and decoder": lambda seed: tr.Seq2Seq(V, V, D, H, RNG(seed), cell="gru"),
}


@pytest.mark.parametrize("name", MODULES)
def test_there_and_back(name):
    old, new = shuffled(MODULES[name](0)), MODULES[name](1)
    new.load(tr.from_torch(new, tr.to_torch(old)))
    for key, array in old.state_dict().items():
        np.testing.assert_array_equal(new.state_dict()[key], array, err_msg=key)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "language model",
            "embedding.weight layers.weight_ih_l0 layers.weight_hh_l0 layers.bias_ih_l0 layers.bias_hh_l0 "
            "layers.weight_ih_l1 layers.weight_hh_l1 layers.bias_ih_l1 layers.bias_hh_l1 output.weight output.bias",
        ),
        ("tied", "embedding.weight layers.weight_ih_l0 layers.weight_hh_l0 layers.bias_ih_l0 layers.bias_hh_l0 "
         "output.weight output.bias"),
        ("linear", "weight"),
        ("stacked", "cells.0.weight_ih cells.0.weight_hh cells.0.bias_ih cells.0.bias_hh cells.1.weight_ih "
         "cells.1.weight_hh cells.1.bias_ih cells.1.bias_hh"),
    ],
)  # fmt: skip
def test_the_names(name, expected):
    assert list(tr.to_torch(MODULES[name](0))) == expected.split()


class Leaky(tr.Module):
    def __init__(self):
        self.gates = [tr.Linear(D, H, RNG(0))]
        self.leak = tr.parameter(np.zeros(H))


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Leaky(), "leak belongs to a Leaky, which PyTorch does not have"),
        (tr.LRUCell(D, H, RNG(0)), "belongs to a LRUCell"),
        (tr.RNNLM(V, D, H, RNG(0), cell=tr.PeepholeLSTMCell), "no layers of PeepholeLSTMCell"),
        (tr.GRUCell(D, H, RNG(0), reset="before"), 'no GRU with reset="before"'),
        (3, "module must be of type Module"),
    ],
    ids=["own", "cell", "layers", "gru", "no module"],
)
def test_what_pytorch_does_not_have(module, message):
    with pytest.raises(tr.ConfigError, match=message):
        tr.to_torch(module)


def test_arrays_that_do_not_fit():
    module = tr.RNNLM(V, H, H, RNG(0), tied=True)
    arrays = tr.to_torch(module)
    with pytest.raises(tr.ShapeError, match=r"missing \['layers.bias_hh_l0'\], unknown \['more'\]"):
        tr.from_torch(module, {"more": np.zeros(3)} | {k: v for k, v in arrays.items() if k != "layers.bias_hh_l0"})
    with pytest.raises(tr.ShapeError, match=r"layers.weight_ih_l0 has shape \(3, 4\), expected \(4, 4\)"):
        tr.from_torch(module, arrays | {"layers.weight_ih_l0": np.zeros((3, 4))})
    with pytest.raises(tr.ConfigError, match="tied, but output.weight differs from the embedding"):
        tr.from_torch(module, arrays | {"output.weight": np.zeros((V, H))})


def test_pytorch_is_not_imported():
    code = (
        "import sys, numpy, tinygrad_rnn as tr; m = tr.RNNLM(3, 4, 5, numpy.random.default_rng(0));"
        "m.load(tr.from_torch(m, tr.to_torch(m))); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(("kind", "layers", "bidirectional", "options"), SHAPES)
def test_pytorch_agrees(kind, layers, bidirectional, options):
    torch = pytest.importorskip("torch", reason="PyTorch is for development only")
    torch.manual_seed(0)
    make = getattr(torch.nn, kind.upper())
    theirs = make(D, H, layers, batch_first=True, bidirectional=bidirectional, **options).double()
    module = made(kind, layers, bidirectional, options)
    xs = RNG(1).standard_normal((N, T, D))
    module.load(tr.from_torch(module, theirs.state_dict()))
    expected = theirs(torch.from_numpy(xs))[0].detach().numpy()
    np.testing.assert_allclose(module(xs)[0].data, expected, rtol=1e-11, atol=1e-13)
    theirs.load_state_dict({name: torch.from_numpy(array) for name, array in tr.to_torch(shuffled(module)).items()})
    expected = theirs(torch.from_numpy(xs))[0].detach().numpy()
    np.testing.assert_allclose(module(xs)[0].data, expected, rtol=1e-11, atol=1e-13)


class Foreign:
    """An array of another library: it is on another device, and its dtype may be one that NumPy lacks."""

    def __init__(self, array, known=True):
        self.array, self.known = array, known

    def detach(self):
        return self

    cpu = detach

    def numpy(self):
        if not self.known:
            raise TypeError("Got unsupported ScalarType BFloat16")
        return self.array


def test_arrays_that_are_on_another_device_are_fetched_and_odd_dtypes_named():
    layer = tr.Linear(3, 2, np.random.default_rng(0))
    arrays = {name: Foreign(array) for name, array in tr.to_torch(layer).items()}
    assert np.array_equal(tr.from_torch(layer, arrays)["W"], layer.W.data)
    with pytest.raises(
        tr.DTypeError, match=r"from_torch: weight cannot be made an array: .*BFloat16; .*weight.float\(\)"
    ):
        tr.from_torch(layer, arrays | {"weight": Foreign(None, known=False)})
