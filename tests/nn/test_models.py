"""Modules, layers and models."""

import copy

import numpy as np
import pytest

import tinygrad_rnn as tr

IDS = np.array([[1, 2, 3, 0], [4, 4, 0, 1]])
TARGETS = np.array([[2, 3, 0, 1], [4, 0, 1, -1]])


def rng(seed=0):
    return np.random.default_rng(seed)


class Scaled(tr.Module):
    """A user's cell that knows nothing of models."""

    def __init__(self, input_size, hidden_size, rng):
        self.W = tr.tensor(rng.standard_normal((input_size, hidden_size)), requires_grad=True)
        self.decay = tr.tensor(0.5, requires_grad=True)

    def initial_state(self, batch_size):
        return np.zeros((batch_size, self.W.shape[1]))

    def __call__(self, x, h):
        h = np.tanh(x @ self.W + self.decay * h)
        return h, h


@pytest.mark.sample(3)
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru", Scaled, tr.LSTMCell])
@pytest.mark.parametrize("layers", [1, 2])
def test_every_cell_trains(cell, layers):
    model = tr.RNNLM(5, 6, 7, rng(), cell=cell, layers=layers)
    parameters = model.parameters()
    losses = []
    for _ in range(200):
        loss, _ = model.loss(IDS, TARGETS)
        losses.append(loss.item())
        for name, gradient in tr.grad(loss, parameters).items():
            assert gradient.any(), name
            parameters[name].data = parameters[name].data - 0.3 * gradient
    assert 0.5 < losses[0] < 4
    assert losses[-1] < 0.5 * losses[0]


def test_names_and_order_and_sharing():
    model = tr.RNNLM(5, 6, 6, rng(), cell="lstm", layers=2, tied=True)
    assert list(model.parameters()) == [
        "embedding.W",
        *("layers.0.Wx", "layers.0.Wh", "layers.0.b"),
        *("layers.1.Wx", "layers.1.Wh", "layers.1.b"),
        "output",
    ]
    both = tr.Module()
    both.a, both.b = model.embedding, {"again": model.embedding, "list": (model.embedding,)}
    assert list(both.parameters()) == ["a.W"]


def test_tied_weights_get_the_gradient_of_both_uses():
    model = tr.RNNLM(5, 6, 6, rng(), tied=True, dtype=np.float64)
    loss, _ = model.loss(IDS, TARGETS)
    tied = tr.grad(loss, model.embedding.W)
    loose = tr.RNNLM(5, 6, 6, rng(1), dtype=np.float64)
    arrays = {name: p.data for name, p in model.parameters().items()}
    b = arrays.pop("output")
    loose.load({**arrays, "output.W": arrays["embedding.W"].T, "output.b": b})
    loss, _ = loose.loss(IDS, TARGETS)
    d_in, d_out = tr.grad(loss, [loose.embedding.W, loose.output.W])
    np.testing.assert_allclose(tied, d_in + d_out.T, rtol=1e-12, atol=1e-15)


def test_state_goes_on_from_window_to_window():
    model = tr.RNNLM(5, 6, 7, rng(), cell="gru", layers=2, dtype=np.float64)
    whole, last = model(IDS)
    first, state = model(IDS[:, :2])
    second, state = model(IDS[:, 2:], tr.cut(state))
    np.testing.assert_allclose(np.concatenate([first.data, second.data], axis=1), whole.data, rtol=1e-13)
    np.testing.assert_allclose(state[1].data, last[1].data, rtol=1e-13)


def test_dropout_only_with_a_generator():
    model = tr.RNNLM(5, 6, 7, rng(), dropout=0.5)
    quiet = model(IDS)[0].data
    assert np.array_equal(quiet, model(IDS)[0].data)
    noisy = model(IDS, rng=rng(3))[0].data
    assert not np.array_equal(quiet, noisy)
    assert np.array_equal(noisy, model(IDS, rng=rng(3))[0].data)


def test_a_made_cell_serves_one_layer():
    cell = tr.Stacked([tr.RNNCell(6, 7, rng()), tr.GRUCell(7, 7, rng())])
    model = tr.RNNLM(5, 6, 7, rng(), cell=cell)
    assert model(IDS)[0].shape == (2, 4, 5)
    assert "layers.0.cells.1.bh" in model.parameters()


def test_load_is_all_or_nothing_and_copies_are_independent():
    model = tr.RNNLM(5, 6, 7, rng())
    arrays = {name: p.data * 2 for name, p in model.parameters().items()}
    other = copy.deepcopy(model)
    model.load(arrays)
    assert not np.array_equal(model.embedding.W.data, other.embedding.W.data)
    before = {name: p.data for name, p in other.parameters().items()}
    with pytest.raises(tr.ShapeError, match=r"missing parameters \['output.b'\], unknown parameters \['x'\]"):
        other.load({**{n: a for n, a in arrays.items() if n != "output.b"}, "x": 1})
    with pytest.raises(tr.ShapeError, match=r"output.b has shape \(2,\), expected \(5,\)"):
        other.load({**arrays, "output.b": [1.0, 2.0]})
    assert all(p.data is before[name] for name, p in other.parameters().items())


def test_cbow_with_a_sum_loses_the_order_and_with_concatenation_grows():
    you_say, say_you = [[1, 2]], [[2, 1]]
    summed = tr.CBOW(5, 4, 2, rng())
    assert np.array_equal(summed(you_say).data, summed(say_you).data)
    joined = tr.CBOW(5, 4, 2, rng(), combine="concat")
    assert not np.allclose(joined(you_say).data, joined(say_you).data)
    assert [tr.CBOW(5, 4, c, rng(), combine="concat").output.W.size for c in (1, 2, 8)] == [20, 40, 160]
    assert [tr.CBOW(5, 4, c, rng()).output.W.size for c in (1, 2, 8)] == [20, 20, 20]
    rnn = tr.RNNLM(5, 4, 4, rng())
    assert not np.allclose(rnn(you_say)[0].data[:, -1], rnn(say_you)[0].data[:, -1])


def test_cbow_trains():
    model = tr.CBOW(5, 4, 2, rng(), combine="concat")
    parameters = model.parameters()
    contexts, targets = np.array([[1, 2], [2, 1], [3, 4]]), np.array([0, 4, 2])
    for _ in range(200):
        gradients = tr.grad(model.loss(contexts, targets), parameters)
        for name, p in parameters.items():
            p.data = p.data - gradients[name]
    assert model.loss(contexts, targets).item() < 0.1


def test_a_value_that_is_not_finite_is_named_with_its_step_and_its_layer():
    model = tr.RNNLM(5, 6, 7, rng(), layers=2)
    model.layers[1].b.data = np.full(7, np.nan)
    with tr.anomaly_mode(), pytest.raises(tr.NonFiniteError, match=r"add: .*base.py:\d+, step 0, in layers.1"):
        model(IDS)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: tr.RNNLM(5, 6, 7, rng(), cell="lstn"), tr.ConfigError, "one of rnn, lstm, gru"),
        (lambda: tr.RNNLM(5, 6, 7, rng(), cell=3), tr.ConfigError, "a name or a callable"),
        (lambda: tr.RNNLM(5, 6, 7, rng(), cell=lambda D, H, rng: 3), tr.ConfigError, "expected a cell, .* got 3"),
        (lambda: tr.RNNLM(5, 6, 7, rng(), layers=0), tr.ConfigError, "layers must be an integer of 1 or more"),
        (lambda: tr.RNNLM(5, 6, 7, rng(), tied=True), tr.ConfigError, "embedding_size == hidden_size, got 6 and 7"),
        (lambda: tr.RNNLM(5, 6, 7, rng(), dropout=1.0), tr.ConfigError, r"p must be a number in \[0, 1\)"),
        (lambda: tr.RNNLM(5, 6, 6, rng(), cell=tr.RNNCell(6, 6, rng()), layers=2), tr.ConfigError, "one layer"),
        (lambda: tr.RNNLM(0, 6, 7, rng()), tr.ConfigError, "vocab_size must be an integer of 1 or more"),
        (lambda: tr.RNNLM(5, 6, 7, rng())([[[1, 2]]]), tr.ShapeError, r"\(N, T\), got \(1, 1, 2\)"),
        (lambda: tr.RNNLM(5, 6, 7, rng())([[1, 5]]), IndexError, r"\[0, V\) with V=5, got 1 to 5"),
        (lambda: tr.RNNLM(5, 6, 7, rng())([[1.0]]), tr.DTypeError, "integer indices"),
        (lambda: tr.Linear(3, 2, rng())(np.ones((2, 4))), tr.ShapeError, r"\(..., 3\), got \(2, 4\)"),
        (lambda: tr.CBOW(5, 4, 2, rng(), combine="mean"), tr.ConfigError, "sum"),
        (lambda: tr.CBOW(5, 4, 0, rng()), tr.ConfigError, "window must be an integer of 1 or more"),
        (lambda: tr.CBOW(5, 4, 2, rng())([[1, 2, 3]]), tr.ShapeError, r"\(N, 2\), got \(1, 3\)"),
    ],
)
def test_errors(call, error, words):
    with pytest.raises(error, match=words):
        call()
