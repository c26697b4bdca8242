"""PyTorch as the third oracle: its weights map as the documentation says. Runs where PyTorch happens to be."""

import numpy as np
import pytest

import tinygrad_rnn as tr

torch = pytest.importorskip("torch", reason="PyTorch is for development only")

N, T, D, H = 3, 7, 4, 5


def arrays(layer):
    return {name.removesuffix("_l0"): p.detach().numpy() for name, p in layer.named_parameters()}


def rnn_weights(w):
    found = {"Wx": w["weight_ih"].T, "Wh": w["weight_hh"].T}
    return {**found, "b": w["bias_ih"] + w["bias_hh"]} if "bias_ih" in w else found


def lstm_weights(w):
    ours = np.r_[0 : 2 * H, 3 * H : 4 * H, 2 * H : 3 * H]  # columns i, f, g, o become i, f, o, g
    found = {name: value[..., ours] for name, value in rnn_weights(w).items()}
    return {**found, "Wp": w["weight_hr"].T} if "weight_hr" in w else found


def gru_weights(w):
    if "bias_ih" not in w:
        return rnn_weights(w)
    gates = np.arange(3 * H) < 2 * H
    b = w["bias_ih"] + np.where(gates, w["bias_hh"], 0)
    return {**rnn_weights(w), "b": b, "bh": w["bias_hh"][2 * H :]}


CASES = {
    "rnn": (tr.RNNCell, torch.nn.RNN, rnn_weights, {}),
    "rnn relu": (tr.RNNCell, torch.nn.RNN, rnn_weights, {"nonlinearity": "relu"}),
    "rnn without bias": (tr.RNNCell, torch.nn.RNN, rnn_weights, {"bias": False}),
    "lstm": (tr.LSTMCell, torch.nn.LSTM, lstm_weights, {}),
    "lstm without bias": (tr.LSTMCell, torch.nn.LSTM, lstm_weights, {"bias": False}),
    "lstm projected": (tr.LSTMCell, torch.nn.LSTM, lstm_weights, {"proj_size": 2}),
    "lstm projected without bias": (tr.LSTMCell, torch.nn.LSTM, lstm_weights, {"proj_size": 2, "bias": False}),
    "gru": (tr.GRUCell, torch.nn.GRU, gru_weights, {}),
    "gru without bias": (tr.GRUCell, torch.nn.GRU, gru_weights, {"bias": False}),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("shape", [(N, T, D), (T, D)], ids=["batch", "one sequence"])
def test_weights_map_exactly(name, shape):
    make, torch_layer, convert, options = CASES[name]
    torch.manual_seed(0)
    layer = torch_layer(D, H, batch_first=True, **options).double()
    cell = make(D, H, np.random.default_rng(0), np.float64, **options)
    cell.load(convert(arrays(layer)))
    rng = np.random.default_rng(1)
    xs = rng.standard_normal(shape)
    theirs_x = torch.tensor(xs, requires_grad=True)
    theirs, theirs_state = layer(theirs_x)
    ours_x = tr.tensor(xs, requires_grad=True)
    ours, state = tr.unroll(cell, ours_x)
    np.testing.assert_allclose(ours.data, theirs.detach().numpy(), rtol=1e-12, atol=1e-13)
    pairs = zip(state, theirs_state, strict=True) if isinstance(state, tuple) else [(state, theirs_state)]
    for part, wanted in pairs:
        np.testing.assert_allclose(part.data, wanted.detach().numpy()[0], rtol=1e-12, atol=1e-13)
    weights = rng.standard_normal(ours.shape)
    (theirs * torch.tensor(weights)).sum().backward()
    leaves = {**cell.parameters(), "xs": ours_x}
    found = tr.grad(ours, leaves, cotangent=weights)
    np.testing.assert_allclose(found["xs"], theirs_x.grad.numpy(), rtol=1e-11, atol=1e-13)
    expected = convert({key.removesuffix("_l0"): p.grad.numpy() for key, p in layer.named_parameters()})
    for key in expected.keys() - {"b", "bh"}:  # a sum of two biases has the gradient of each, not their sum
        np.testing.assert_allclose(found[key], expected[key], rtol=1e-10, atol=1e-12, err_msg=key)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("projected", [False, True])
@pytest.mark.parametrize("biased", [False, True])
def test_a_stack_of_layers(bidirectional, projected, biased):
    torch.manual_seed(0)
    options = {"bidirectional": bidirectional, "bias": biased, **({"proj_size": 3} if projected else {})}
    layer = torch.nn.LSTM(D, H, num_layers=3, batch_first=True, **options).double()
    layers = tr.RecurrentLayers("lstm", D, H, np.random.default_rng(0), layers=3, dtype=np.float64, **options)
    for number, cells in enumerate(layers.layers):
        for cell, suffix in zip(cells, (f"_l{number}", f"_l{number}_reverse"), strict=False):
            cell.load(
                lstm_weights(
                    {
                        key.removesuffix(suffix): p.detach().numpy()
                        for key, p in layer.named_parameters()
                        if key.endswith(suffix)
                    }
                )
            )
    xs = np.random.default_rng(1).standard_normal((N, T, D))
    theirs, (h, c) = layer(torch.tensor(xs))
    ours, states = layers(xs)
    np.testing.assert_allclose(ours.data, theirs.detach().numpy(), rtol=1e-11, atol=1e-13)
    flat = [part for state in states for part in (state if bidirectional else [state])]
    for number, (ours_h, ours_c) in enumerate(flat):
        np.testing.assert_allclose(ours_h.data, h[number].detach().numpy(), rtol=1e-11, atol=1e-13)
        np.testing.assert_allclose(ours_c.data, c[number].detach().numpy(), rtol=1e-11, atol=1e-13)


LOSSES = {
    "ids": {},
    "class weights": {"weight": [0.5, 1, 2, 3, 1, 1, 1, 1, 0.1]},
    "smoothing": {"label_smoothing": 0.1},
    "both": {"weight": [0.5, 1, 2, 3, 1, 1, 1, 1, 0.1], "label_smoothing": 0.3},
}


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("targets", ["ids", "probabilities"])
def test_cross_entropy_of_every_kind(name, reduction, targets):
    rng = np.random.default_rng(0)
    logits, options = rng.standard_normal((6, 9)), dict(LOSSES[name])
    wanted = np.array([1, 8, -1, 0, 3, -1]) if targets == "ids" else rng.dirichlet(np.ones(9), 6)
    ours = {"smoothing": options.get("label_smoothing", 0.0), "class_weights": options.get("weight")}
    if "weight" in options:
        options["weight"] = torch.tensor(options["weight"], dtype=torch.float64)
    theirs_x = torch.tensor(logits, requires_grad=True)
    theirs = torch.nn.functional.cross_entropy(
        theirs_x, torch.tensor(wanted), ignore_index=-1, reduction=reduction, **options
    )
    theirs.sum().backward()
    x = tr.tensor(logits, requires_grad=True)
    loss = tr.cross_entropy(x, wanted, reduction=reduction, **ours)
    np.testing.assert_allclose(loss.data, theirs.detach().numpy(), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(tr.grad(np.sum(loss), x), theirs_x.grad.numpy(), rtol=1e-11, atol=1e-14)


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
