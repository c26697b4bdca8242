"""PyTorch as the third oracle: its weights map as the documentation says. Runs where PyTorch happens to be."""

import numpy as np
import pytest

import tinygrad_rnn as tr

torch = pytest.importorskip("torch", reason="PyTorch is for development only")

N, T, D, H = 3, 7, 4, 5


def arrays(layer):
    return {name.removesuffix("_l0"): p.detach().numpy() for name, p in layer.named_parameters()}


def rnn_weights(w):
    return {"Wx": w["weight_ih"].T, "Wh": w["weight_hh"].T, "b": w["bias_ih"] + w["bias_hh"]}


def lstm_weights(w):
    ours = np.r_[0 : 2 * H, 3 * H : 4 * H, 2 * H : 3 * H]  # columns i, f, g, o become i, f, o, g
    return {name: value[..., ours] for name, value in rnn_weights(w).items()}


def gru_weights(w):
    gates = np.arange(3 * H) < 2 * H
    b = w["bias_ih"] + np.where(gates, w["bias_hh"], 0)
    return {**rnn_weights(w), "b": b, "bh": w["bias_hh"][2 * H :]}


CASES = {
    "rnn": (tr.RNNCell, torch.nn.RNN, rnn_weights),
    "lstm": (tr.LSTMCell, torch.nn.LSTM, lstm_weights),
    "gru": (tr.GRUCell, torch.nn.GRU, gru_weights),
}


@pytest.mark.parametrize("name", CASES)
def test_weights_map_exactly(name):
    make, torch_layer, convert = CASES[name]
    torch.manual_seed(0)
    layer = torch_layer(D, H, batch_first=True).double()
    cell = make(D, H, np.random.default_rng(0), np.float64)
    cell.load(convert(arrays(layer)))
    rng = np.random.default_rng(1)
    xs = rng.standard_normal((N, T, D))
    theirs_x = torch.tensor(xs, requires_grad=True)
    theirs, _ = layer(theirs_x)
    ours_x = tr.tensor(xs, requires_grad=True)
    ours, _ = tr.unroll(cell, ours_x)
    np.testing.assert_allclose(ours.data, theirs.detach().numpy(), rtol=1e-12, atol=1e-13)
    weights = rng.standard_normal((N, T, H))
    (theirs * torch.tensor(weights)).sum().backward()
    np.testing.assert_allclose(tr.grad(ours, ours_x, cotangent=weights), theirs_x.grad.numpy(), rtol=1e-11, atol=1e-13)


def test_cross_entropy_and_its_gradient():
    rng = np.random.default_rng(0)
    logits, targets = rng.standard_normal((6, 9)), np.array([1, 8, -1, 0, 3, -1])
    theirs_x = torch.tensor(logits, requires_grad=True)
    theirs = torch.nn.functional.cross_entropy(theirs_x, torch.tensor(targets), ignore_index=-1)
    theirs.backward()
    x = tr.tensor(logits, requires_grad=True)
    loss = tr.cross_entropy(x, targets)
    assert loss.item() == pytest.approx(theirs.item(), rel=1e-13)
    np.testing.assert_allclose(tr.grad(loss, x), theirs_x.grad.numpy(), rtol=1e-12, atol=1e-15)
