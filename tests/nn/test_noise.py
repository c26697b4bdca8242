"""Wrappers that draw, layers in both directions, and options of layers and cells."""

import numpy as np
import pytest

import tinygrad_rnn as tr
from tinygrad_rnn.engine.tree import flatten
from tinygrad_rnn.testing import check_grads


class Residual(tr.Module):
    """A cell of a user's, around others: in an attribute, in a list."""

    def __init__(self, *cells):
        self.first, self.rest, self.input_size = cells[0], list(cells[1:]), 3

    def initial_state(self, batch_size):
        return [cell.initial_state(batch_size) for cell in (self.first, *self.rest)]

    def __call__(self, x, states):
        made = []
        for cell, state in zip((self.first, *self.rest), states, strict=True):
            output, new = cell(x, state)
            made.append(new)
            x = x + output
        return x, made


class Outer(Residual):
    """A cell without draws of its own, around one that has some."""


def cells(rng):
    return {
        "zoneout": tr.Zoneout(tr.LSTMCell(3, 4, rng, np.float64), 0.3),
        "variational": tr.VariationalDropout(tr.LSTMCell(3, 4, rng, np.float64), 0.2, 0.4),
        "stacked": tr.Stacked([tr.RNNCell(3, 4, rng, np.float64), tr.GRUCell(4, 4, rng, np.float64)], dropout=0.5),
        "weights": tr.WeightDrop(tr.LSTMCell(3, 4, rng, np.float64), 0.4),
        "several": tr.WeightDrop(tr.GRUCell(3, 4, rng, np.float64), 0.4, ["Wx", "Wh"]),
        "both": tr.Zoneout(tr.VariationalDropout(tr.GRUCell(3, 4, rng, np.float64), 0.2, 0.2), 0.2),
    }


@pytest.mark.sample(3)
@pytest.mark.parametrize("name", cells(np.random.default_rng(0)))
def test_gradients_without_chance_and_with_a_seed(name):
    rng = np.random.default_rng(1)
    cell, xs = cells(rng)[name], rng.standard_normal((2, 5, 3))
    assert check_grads(cell, xs).ok

    def loss(xs):
        outputs, _ = tr.unroll(cell.with_rng(np.random.default_rng(7), 2), xs)
        return (outputs * np.arange(4.0)).sum()

    assert check_grads(loss, xs).ok


@pytest.mark.parametrize("name", cells(np.random.default_rng(0)))
def test_compiled_draws_are_those_of_eager(name):
    rng = np.random.default_rng(1)
    cell, xs = cells(rng)[name], rng.standard_normal((2, 6, 3))

    def gradients(parameters, xs, rng):
        outputs, _ = tr.unroll(cell.with_rng(rng, 2), xs)
        return outputs, tr.grad((outputs * outputs).sum(), parameters)

    compiled = tr.compile(gradients)
    for seed in range(3):
        found, slopes = compiled(cell.parameters(), xs, np.random.default_rng(seed))
        expected, wanted = gradients(cell.parameters(), xs, np.random.default_rng(seed))
        np.testing.assert_allclose(found, expected.data, rtol=1e-9, atol=1e-12)
        for key in wanted:
            np.testing.assert_allclose(slopes[key], wanted[key], rtol=1e-9, atol=1e-12, err_msg=key)


def test_zoneout_keeps_as_often_as_it_says_and_evaluates_the_mean():
    rng = np.random.default_rng(0)
    inner = tr.GRUCell(3, 2000, rng, np.float64)
    cell, x, h = tr.Zoneout(inner, 0.3), rng.standard_normal((1, 3)), rng.standard_normal((1, 2000))
    output, new = cell.with_rng(rng, 1)(x, h)
    assert output is new  # the output is the state that is kept
    plain = inner(x, h)[1].data
    kept = new.data == h
    assert kept.mean() == pytest.approx(0.3, abs=0.04)
    np.testing.assert_array_equal(new.data[~kept], plain[~kept])
    np.testing.assert_allclose(cell(x, h)[1].data, 0.3 * h + 0.7 * plain, rtol=1e-12)


def test_variational_dropout_drops_the_same_units_at_each_step():
    rng = np.random.default_rng(0)
    seen = []

    def spy(x, h):
        seen.append((np.array(x) == 0, np.array(h) == 0))
        return h + 1, h + 1

    spy.input_size, spy.initial_state = 50, lambda N: np.ones((N, 40))
    cell = tr.VariationalDropout(spy, 0.5, 0.25)
    tr.unroll(cell.with_rng(rng, 2), np.ones((2, 4, 50)))
    assert all((x == seen[0][0]).all() and (h == seen[0][1]).all() for x, h in seen)
    assert 0.3 < seen[0][0].mean() < 0.7
    assert 0.1 < seen[0][1].mean() < 0.4
    assert (seen[0][0][0] != seen[0][0][1]).any()  # each sequence has masks of its own


def test_weight_drop_drops_the_same_weights_at_each_step_and_scales_the_others():
    rng = np.random.default_rng(0)
    cell = tr.WeightDrop(tr.RNNCell(30, 40, rng, np.float64, "relu"), 0.25)
    before = {name: parameter.data for name, parameter in cell.parameters().items()}
    drawn = cell.with_rng(rng, 1)
    seen = [drawn(np.zeros((1, 30)), row[None])[1].data[0] for row in np.eye(40) for _ in range(2)]
    Wh = np.array(seen)[::2]  # h = e_i: the row i of what Wh has become, where it is positive
    np.testing.assert_array_equal(Wh, np.array(seen)[1::2])
    kept = Wh > 0
    positive = before["cell.Wh"] > 0
    np.testing.assert_allclose(Wh[kept], before["cell.Wh"][kept] / 0.75, rtol=1e-12)
    assert (kept <= positive).all()
    assert kept[positive].mean() == pytest.approx(0.75, abs=0.05)
    assert all(parameter.data is before[name] for name, parameter in cell.parameters().items())
    np.testing.assert_array_equal(
        cell(np.zeros((1, 30)), np.eye(40)[:1])[0].data[0], np.maximum(before["cell.Wh"][0], 0)
    )


def test_models_give_their_generator_to_cells_that_draw():
    rng = np.random.default_rng(0)
    model = tr.RNNLM(7, 5, 5, rng, cell=lambda D, H, rng: tr.Zoneout(tr.LSTMCell(D, H, rng), 0.5), layers=2)
    ids = rng.integers(0, 7, (2, 6))
    losses = [model.loss(ids, ids, rng=rng)[0].item() for rng in (None, None, *map(np.random.default_rng, (1, 1, 2)))]
    assert losses[0] == losses[1]
    assert losses[2] == losses[3] != losses[4]
    assert losses[2] != losses[0]


def test_errors():
    rng = np.random.default_rng(0)
    with pytest.raises(tr.ConfigError, match="Zoneout: p"):
        tr.Zoneout(tr.GRUCell(3, 4, rng), 1.0)
    with pytest.raises(tr.ConfigError, match="VariationalDropout: function has no input_size"):
        tr.VariationalDropout(lambda x, h: (h, h))
    with pytest.raises(tr.ConfigError, match="WeightDrop: names: GRUCell has no attribute 'W' that is a parameter"):
        tr.WeightDrop(tr.GRUCell(3, 4, rng), 0.5, ["W"])
    with pytest.raises(tr.ConfigError, match="WeightDrop: p"):
        tr.WeightDrop(tr.GRUCell(3, 4, rng), 1.0)
    with pytest.raises(tr.ConfigError, match="Stacked: dropout"):
        tr.Stacked([tr.GRUCell(3, 4, rng)], dropout=-0.1)


# -- layers in both directions ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("both", [False, True])
def test_layers_are_what_they_are_made_of(both):
    rng = np.random.default_rng(0)
    layers = tr.RecurrentLayers("lstm", 3, 4, rng, layers=2, bidirectional=both, dtype=np.float64)
    xs, lengths = rng.standard_normal((2, 5, 3)), np.array([5, 3])
    outputs, states = layers(xs, lengths=lengths)
    hs = xs
    for number, cells in enumerate(layers.layers):
        hs, state = (tr.bidirectional if both else tr.unroll)(*cells, hs, lengths=lengths)
        for found, expected in zip(flatten(states[number]), flatten(state), strict=True):
            np.testing.assert_array_equal(found.data, expected.data)
    np.testing.assert_array_equal(outputs.data, hs.data)
    assert outputs.shape == (2, 5, 8 if both else 4)
    again, _ = layers(xs, layers.initial_state(2), lengths=lengths)
    np.testing.assert_array_equal(again.data, outputs.data)


def test_layers_errors_and_dropout():
    rng = np.random.default_rng(0)
    layers = tr.RecurrentLayers("gru", 3, 4, rng, layers=2, dropout=0.5)
    xs = np.ones((2, 5, 3), np.float32)
    with pytest.raises(tr.ShapeError, match="RecurrentLayers: expected a state of 2 parts"):
        layers(xs, (None,))
    assert (layers(xs)[0].data != layers(xs, rng=rng)[0].data).any()
    with pytest.raises(tr.ConfigError, match="RecurrentLayers: an existing cell serves one layer"):
        tr.RecurrentLayers(tr.GRUCell(3, 4, rng), 3, 4, rng, layers=2)


# -- options ----------------------------------------------------------------------------------------------------------


def test_relu_and_padding():
    rng = np.random.default_rng(0)
    cell = tr.RNNCell(3, 4, rng, np.float64, nonlinearity="relu")
    x, h = rng.standard_normal((2, 3)), rng.standard_normal((2, 4))
    expected = np.maximum(x @ cell.Wx.data + h @ cell.Wh.data + cell.b.data, 0)
    np.testing.assert_allclose(cell(x, h)[0].data, expected, rtol=1e-12)
    with pytest.raises(tr.ConfigError, match='RNNCell: nonlinearity must be "tanh" or "relu", got \'sigmoid\''):
        tr.RNNCell(3, 4, rng, nonlinearity="sigmoid")
    table = tr.Embedding(5, 3, rng, padding_id=2)
    rows = table([[1, 2], [2, 4]])
    assert (rows.data[[0, 1], [1, 0]] == 0).all()
    np.testing.assert_array_equal(rows.data[1, 1], table.W.data[4])
    gradient = tr.grad(rows.sum(), table.W)
    np.testing.assert_array_equal(gradient.sum(1), [0, 3, 0, 0, 3])
    with pytest.raises(tr.ConfigError, match="Embedding: padding_id"):
        tr.Embedding(5, 3, rng, padding_id=5)


@pytest.mark.parametrize("place", ["attribute", "list", "module in a module"])
@pytest.mark.parametrize("compiled", [False, True])
def test_draws_reach_a_cell_inside_a_cell_of_the_users(place, compiled):
    rng = np.random.default_rng(0)
    noisy, plain = tr.Zoneout(tr.GRUCell(3, 3, rng, np.float64), 0.5), tr.RNNCell(3, 3, rng, np.float64)
    cell = {
        "attribute": lambda: Residual(noisy),
        "list": lambda: Residual(plain, noisy),
        "module in a module": lambda: Outer(Residual(plain, noisy), plain),
    }[place]()
    model = tr.SequenceModel(lambda *_: cell, 3, 3, 2, rng, dtype=np.float64)
    xs = rng.standard_normal((2, 5, 3))

    def outputs(rng):
        return model(xs, rng=rng)

    run = tr.compile(outputs) if compiled else (lambda rng: outputs(rng).data)
    one, other, again = (run(np.random.default_rng(seed)) for seed in (1, 2, 1))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
    assert cell.first is (noisy if place == "attribute" else cell.first)  # the cell itself stays as it was
    assert np.array_equal(outputs(None).data, outputs(None).data)
    loss = np.sum(outputs(np.random.default_rng(1)))
    assert all(np.any(g) for name, g in tr.grad(loss, model.parameters()).items() if name.endswith("Wh"))


def test_a_cell_of_the_users_without_draws_is_not_copied():
    rng = np.random.default_rng(0)
    cell = Outer(Residual(tr.RNNCell(3, 3, rng), tr.GRUCell(3, 3, rng)))
    assert tr.nn.cells.drawing(cell, rng, 2) is cell


def test_weights_of_a_cell_in_the_cell_are_dropped_from():
    rng = np.random.default_rng(0)
    cell = Residual(tr.RNNCell(3, 3, rng, np.float64))
    dropped = tr.WeightDrop(cell, 0.5, "first.Wh")
    xs = rng.standard_normal((2, 5, 3))
    found = [tr.unroll(dropped.with_rng(np.random.default_rng(seed), 2), xs)[0].data for seed in (1, 1, 2)]
    assert np.array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])
    assert np.array_equal(tr.unroll(dropped, xs)[0].data, tr.unroll(cell, xs)[0].data)
    for name in ("first.Wq", "second.Wh", "Wh"):
        with pytest.raises(tr.ConfigError, match=rf"no attribute '{name}' .* parameters are \['first.Wx'"):
            tr.WeightDrop(cell, 0.5, name)
