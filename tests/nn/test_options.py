"""What cells can be made with (no bias, a projection), and sequences without the axis N."""

import functools
import inspect

import numpy as np
import pytest
from replay import executors

import tinygrad_rnn as tr
from tinygrad_rnn.engine.tree import flatten, map_leaves
from tinygrad_rnn.testing import check_grads

CELLS = {
    "rnn": tr.RNNCell,
    "rnn relu": functools.partial(tr.RNNCell, nonlinearity="relu"),
    "lstm": tr.LSTMCell,
    "lstm projected": functools.partial(tr.LSTMCell, proj_size=2),
    "gru after": tr.GRUCell,
    "gru before": functools.partial(tr.GRUCell, reset="before"),
    "peephole": tr.PeepholeLSTMCell,
    "coupled": tr.CoupledLSTMCell,
    "layer-norm": tr.LayerNormLSTMCell,
    "indrnn": tr.IndRNNCell,
    "mingru": tr.MinGRUCell,
    "minlstm": tr.MinLSTMCell,
    "lru": tr.LRUCell,
}
BIASED = [name for name in CELLS if name != "lru"]  # it has none


def made(name, **options):
    """A cell in float64 whose parameters are all drawn, so that none is at 0."""
    rng = np.random.default_rng(0)
    cell = CELLS[name](3, 4, rng, dtype=np.float64, **options)
    for parameter in cell.parameters().values():
        parameter.data = parameter.data + 0.3 * rng.standard_normal(parameter.shape)
    return cell


def drawn(*shape, seed=1):
    return np.random.default_rng(seed).standard_normal(shape)


def loss_and_gradients(cell, xs):
    def function(parameters, xs):
        outputs, state = tr.unroll(cell, xs)
        loss = np.sum(outputs * outputs) + np.sum(flatten(state)[-1])
        return loss, tr.grad(loss, parameters)

    return function(cell.parameters(), xs), lambda **setting: tr.compile(function, **setting)(cell.parameters(), xs)


# no bias


@pytest.mark.parametrize("name", BIASED)
def test_without_a_bias_a_cell_is_that_with_a_bias_of_zeros(name):
    without, zeros = made(name, bias=False), made(name)
    assert without.b is None
    assert set(zeros.parameters()) - set(without.parameters()) <= {"b", "bh"}
    zeros.load(without.state_dict(), strict=False)
    for parameter in (zeros.b, getattr(zeros, "bh", None)):
        if parameter is not None:
            parameter.data = np.zeros(parameter.shape)
    xs = drawn(2, 5, 3)
    np.testing.assert_array_equal(tr.unroll(without, xs)[0].data, tr.unroll(zeros, xs)[0].data)


@pytest.mark.sample(5)
@pytest.mark.parametrize("name", BIASED)
def test_gradients_without_a_bias(name):
    assert check_grads(made(name, bias=False), drawn(2, 4, 3)).ok


@pytest.mark.parametrize("setting", executors(), ids=str)
@pytest.mark.parametrize("name", ["lstm projected", "lru"])
@pytest.mark.parametrize("steps", [1, 6])
def test_compiled(name, setting, steps):
    (loss, gradients), compiled = loss_and_gradients(made(name), drawn(2, steps, 3))
    found_loss, found = compiled(**setting)
    np.testing.assert_allclose(found_loss, loss.data, rtol=1e-12)
    for key in gradients:
        np.testing.assert_allclose(found[key], gradients[key], rtol=1e-9, atol=1e-12, err_msg=key)


@pytest.mark.parametrize("setting", executors(), ids=str)
@pytest.mark.parametrize("name", BIASED)
def test_compiled_without_a_bias(name, setting):
    (loss, gradients), compiled = loss_and_gradients(made(name, bias=False), drawn(2, 6, 3))
    found_loss, found = compiled(**setting)
    np.testing.assert_allclose(found_loss, loss.data, rtol=1e-12)
    for key in gradients:
        np.testing.assert_allclose(found[key], gradients[key], rtol=1e-9, atol=1e-12, err_msg=key)


def test_a_forget_bias_needs_a_bias():
    with pytest.raises(tr.ConfigError, match="LSTMCell: forget_bias needs a bias, got forget_bias=1.0 and bias=False"):
        tr.LSTMCell(3, 4, np.random.default_rng(0), forget_bias=1, bias=False)
    with pytest.raises(tr.ConfigError, match="MinGRUCell: bias must be true or false"):
        tr.MinGRUCell(3, 4, np.random.default_rng(0), bias="no")


def test_every_cell_that_has_a_bias_can_be_made_without():
    kinds = [value for name in tr.__all__ if name.endswith("Cell") and inspect.isclass(value := getattr(tr, name))]
    without = {kind for kind in kinds if "bias" not in inspect.signature(kind).parameters}
    assert without == {tr.LRUCell}
    assert len(kinds) >= 10


def test_a_class_that_inherits_its_arguments_shows_them():
    class Own(tr.MinGRUCell):
        pass

    assert [*inspect.signature(Own).parameters] == ["input_size", "hidden_size", "rng", "dtype", "bias"]
    assert [*inspect.signature(Own(2, 3, np.random.default_rng(0))).parameters] == ["x", "state"]


# projections


def test_a_projection_by_its_equations():
    cell, x, h, c = made("lstm projected"), drawn(2, 3), drawn(2, 2, seed=2), drawn(2, 4, seed=3)
    p = {key: value.data for key, value in cell.parameters().items()}
    assert {key: array.shape for key, array in p.items()} == {"Wx": (3, 16), "Wh": (2, 16), "b": (16,), "Wp": (4, 2)}
    a = x @ p["Wx"] + h @ p["Wh"] + p["b"]
    i, f, o = np.split(1 / (1 + np.exp(-a[:, :12])), 3, axis=1)
    expected_c = f * c + i * np.tanh(a[:, 12:])
    output, (new_h, new_c) = cell(x, (h, c))
    assert output is new_h
    np.testing.assert_allclose(new_c.data, expected_c, rtol=1e-12)
    np.testing.assert_allclose(new_h.data, o * np.tanh(expected_c) @ p["Wp"], rtol=1e-12)
    assert [part.shape for part in cell.initial_state(5)] == [(5, 2), (5, 4)]
    assert check_grads(cell, x, (h, c)).ok
    assert check_grads(cell, drawn(2, 4, 3)).ok
    with pytest.raises(tr.ShapeError, match=r"LSTMCell: expected a state of shape \(N, H\) = \(2, 2\), got \(2, 4\)"):
        cell(x, (c, c))


@pytest.mark.parametrize(("name", "size"), [("lstm projected", 2), ("lru", 3)])
def test_what_is_built_on_a_cell_knows_the_size_of_its_outputs(name, size):
    make, rng = CELLS[name], np.random.default_rng(0)
    layers = tr.RecurrentLayers(make, 3, 4, rng, layers=3, bidirectional=True)
    outputs, _ = layers(np.ones((2, 5, 3)))
    assert outputs.shape[2] == layers.output_size == (4 if name == "lstm projected" else 24)  # an LRU's are D
    assert tr.RNNLM(7, 3, 4, rng, cell=make, layers=2)([[1, 2]])[0].shape == (1, 2, 7)
    stack = tr.Stacked([made(name), tr.GRUCell(size, 5, rng)])
    noisy = tr.Zoneout(tr.VariationalDropout(stack, 0.5, 0.5), 0.1)
    assert (made(name).output_size, stack.input_size, noisy.input_size, noisy.output_size) == (size, 3, 3, 5)
    assert tr.unroll(noisy.with_rng(rng, 2), np.ones((2, 4, 3)))[0].shape == (2, 4, 5)
    for attention, peek in ((None, True), (None, False), ("dot", False), ("additive", True)):
        model = tr.Seq2Seq(7, 8, 3, 4, rng, cell=make, attention=attention, peek=peek)
        assert model([[1, 2, 3]], [[1, 2]]).shape == (1, 2, 8)


def test_options_of_the_cell_go_through_the_layers(tmp_path):
    rng = np.random.default_rng(0)
    layers = tr.RecurrentLayers("lstm", 3, 4, rng, layers=2, dropout=0.1, bias=False, proj_size=2)
    assert [name for name in layers.parameters() if name.startswith("layers.1")] == [
        "layers.1.0.Wx",
        "layers.1.0.Wh",
        "layers.1.0.Wp",
    ]
    tr.save(tmp_path / "layers.npz", layers)
    xs = np.ones((2, 5, 3), np.float32)
    np.testing.assert_array_equal(tr.load(tmp_path / "layers.npz")(xs)[0].data, layers(xs)[0].data)
    assert tr.RNNLM(5, 4, 6, rng, cell="lstm", tied=True, proj_size=4)([[1]])[0].shape == (1, 1, 5)
    assert tr.Seq2Seq(5, 6, 4, 6, rng, cell="rnn", nonlinearity="relu").decoder.nonlinearity == "relu"
    with pytest.raises(tr.ConfigError, match="RecurrentLayers: GRUCell: got an unexpected .* 'proj_size'; it takes in"):
        tr.RecurrentLayers("gru", 3, 4, rng, proj_size=2)
    with pytest.raises(tr.ConfigError, match="RNNLM: an existing cell takes no bias; make the cell with"):
        tr.RNNLM(5, 3, 4, rng, cell=tr.GRUCell(3, 4, rng), bias=False)


@pytest.mark.parametrize("name", CELLS)
def test_files(name, tmp_path):
    options = {} if name == "lru" else {"bias": False}
    cell = CELLS[name](3, 4, np.random.default_rng(0), **options)
    tr.save(tmp_path / "cell.npz", cell)
    xs = np.ones((2, 5, 3), np.float32)
    np.testing.assert_array_equal(tr.unroll(tr.load(tmp_path / "cell.npz"), xs)[0].data, tr.unroll(cell, xs)[0].data)


@pytest.mark.parametrize("name", CELLS)
def test_drawn(name):
    cell = made(name, **({} if name == "lru" else {"bias": False}))
    assert "svg" in tr.draw(cell, np.ones((2, 3, 3))).svg()


# sequences without the axis N


def alike(batch, single):
    """Assert that a nesting is that of a batch of one, without its axis."""
    assert [part.shape for part in flatten(single)] == [part.shape[1:] for part in flatten(batch)]
    for one, other in zip(flatten(single), flatten(batch), strict=True):
        np.testing.assert_allclose(one.data, other.data[0], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", CELLS)
def test_a_step_of_one_sequence(name):
    cell, x = made(name), drawn(3)
    state = map_leaves(lambda h: drawn(*h.shape), cell.initial_state(1))
    alike(cell(x[None], state), cell(x, map_leaves(lambda h: h[0], state)))


@pytest.mark.parametrize("name", CELLS)
def test_one_sequence(name):
    cell, xs = made(name), drawn(5, 3)
    state = map_leaves(lambda h: drawn(*h.shape), cell.initial_state(1))
    alike(tr.unroll(cell, xs[None]), tr.unroll(cell, xs))
    alike(tr.unroll(cell, xs[None], state, 2, [4]), tr.unroll(cell, xs, map_leaves(lambda h: h[0], state), 2, [4]))
    alike(tr.bidirectional(cell, cell, xs[None]), tr.bidirectional(cell, cell, xs))
    first = (map_leaves(lambda h: h[0], state), None)
    alike(tr.bidirectional(cell, cell, xs[None], (state, None)), tr.bidirectional(cell, cell, xs, first))
    if hasattr(cell, "parallel"):
        alike(cell.parallel(xs[None], state), cell.parallel(xs, state[0]))


@pytest.mark.parametrize("bidirectional", [False, True])
def test_one_sequence_through_layers(bidirectional):
    layers = tr.RecurrentLayers(
        "lstm", 3, 4, np.random.default_rng(0), layers=2, bidirectional=bidirectional, dropout=0.5, dtype=np.float64
    )
    xs, state = drawn(5, 3), map_leaves(lambda h: drawn(*h.shape), layers.initial_state(1))
    alike(layers(xs[None], state), layers(xs, map_leaves(lambda h: h[0], state)))
    again = (np.random.default_rng(3) for _ in range(2))
    alike(layers(xs[None], rng=next(again)), layers(xs, rng=next(again)))


def test_one_sequence_of_a_language_model():
    model = tr.RNNLM(7, 4, 4, np.random.default_rng(0), cell="gru", layers=2, dropout=0.5, dtype=np.float64)
    ids, state = np.array([1, 2, 3]), map_leaves(lambda h: drawn(*h.shape), model.initial_state(1))
    alike(model(ids[None], state), model(ids, map_leaves(lambda h: h[0], state)))
    (loss, _), (batch, _) = model.loss(ids, ids), model.loss(ids[None], ids[None])
    np.testing.assert_allclose(loss.data, batch.data)


@pytest.mark.parametrize("setting", executors(), ids=str)
@pytest.mark.parametrize("name", ["rnn", "lstm projected", "gru after"])
def test_one_sequence_compiled(name, setting):
    (loss, gradients), compiled = loss_and_gradients(made(name), drawn(6, 3))
    (batch, _), _ = loss_and_gradients(made(name), drawn(6, 3)[None])
    np.testing.assert_allclose(loss.data, batch.data, rtol=1e-12)
    found_loss, found = compiled(**setting)
    np.testing.assert_allclose(found_loss, loss.data, rtol=1e-12)
    for key in gradients:
        np.testing.assert_allclose(found[key], gradients[key], rtol=1e-9, atol=1e-12, err_msg=key)


def test_a_cell_of_your_own_always_gets_the_axis():
    seen = []

    def cell(x, state):
        seen.append((x.shape, state["h"].shape, state["steps"]))
        return state["h"], {"h": np.concatenate([x, x], axis=1), "steps": state["steps"] + 1}

    outputs, state = tr.unroll(cell, np.ones((3, 2)), {"h": np.zeros(4), "steps": 0})
    assert (outputs.shape, state["h"].shape, state["steps"]) == ((3, 4), (4,), 3)
    assert seen == [((1, 2), (1, 4), step) for step in range(3)]


def test_series_of_numbers_without_the_axis_D():
    cell = tr.GRUCell(1, 4, np.random.default_rng(0))
    words = r"expected xs of shape \(N, T, D\) = \(N, T, 1\), or .* got \(32, 24\); .* xs\[..., None\]"
    for call in (
        lambda: tr.unroll(cell, np.ones((32, 24))),
        lambda: tr.bidirectional(cell, cell, np.ones((32, 24))),
    ):
        with pytest.raises(tr.ShapeError, match=words):
            call()


@pytest.mark.parametrize(
    "call",
    [
        lambda rng: tr.Seq2Seq(5, 6, 3, 4, rng)([1, 2], [[1]]),
        lambda rng: tr.Seq2Seq(5, 6, 3, 4, rng)([[1, 2]], [1]),
        lambda rng: tr.Seq2Seq(5, 6, 3, 4, rng).loss([[1, 2]], [1, 2]),
        lambda rng: tr.DotAttention()(np.ones(3), np.ones((4, 3))),
        lambda rng: tr.AdditiveAttention(3, 3, 4, rng)(np.ones((1, 3)), np.ones((4, 3))),
        lambda rng: tr.CBOW(5, 4, 2, rng)([1, 2]),
        lambda rng: tr.ctc(np.ones((4, 3)), [1]),
        lambda rng: tr.Stepper(tr.GRUCell(3, 4, rng))(np.ones(3)),
        lambda rng: tr.Stepper(tr.GRUCell(3, 4, rng)).read(np.ones((5, 3))),
    ],
)
def test_where_the_axis_is_needed_the_message_says_how_to_add_it(call):
    with pytest.raises(tr.ShapeError, match=r"for one sequence .*\[None\]"):
        call(np.random.default_rng(0))


# what has the axis of time


@pytest.mark.sample(1)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_layers_are_checked_and_drawn_as_what_reads_sequences(bidirectional):
    layers = tr.RecurrentLayers(
        "lstm", 3, 4, np.random.default_rng(0), layers=2, bidirectional=bidirectional, proj_size=2, dtype=np.float64
    )
    for xs in (drawn(2, 3, 3), drawn(3, 3)):
        assert check_grads(layers, xs).ok
        assert "svg" in tr.draw(layers, xs).svg()
    state = map_leaves(lambda h: drawn(*h.shape), layers.initial_state(2))
    assert check_grads(layers, drawn(2, 3, 3), state).ok
    assert "svg" in tr.draw(layers, drawn(2, 3, 3), state).svg()


def test_layers_one_step_at_a_time():
    layers = tr.RecurrentLayers("gru", 3, 4, np.random.default_rng(0), layers=2, dtype=np.float64)
    xs, step, state = drawn(2, 5, 3), tr.Stepper(layers), None
    for t in range(5):
        output, state = step(xs[:, t], state)
    np.testing.assert_allclose(output[:, 0] if output.ndim == 3 else output, layers(xs)[0].data[:, -1], rtol=1e-12)


def test_a_step_of_a_cell_is_drawn_and_checked_with_and_without_the_axis():
    cell = made("lstm projected")
    state = (drawn(2), drawn(4))
    assert check_grads(cell, drawn(3), state).ok
    assert "svg" in tr.draw(cell, drawn(3), state).svg()
    assert "svg" in tr.draw(cell, drawn(2, 3)).svg()
    with pytest.raises(tr.ShapeError, match=r"or on x \(D,\) with a state; got 1 input"):
        check_grads(cell, drawn(3))
    with pytest.raises(tr.DrawingError, match=r"\(N, T\), got \(3,\) and \(3,\); for one sequence alone"):
        tr.draw(tr.RNNLM(5, 3, 4, np.random.default_rng(0)), [1, 2, 3], [2, 3, 4])
