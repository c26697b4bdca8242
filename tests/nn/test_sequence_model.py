"""`SequenceModel`: recurrent layers and a linear layer."""

import numpy as np
import pytest
from replay import executors

import tinygrad_rnn as tr
from tinygrad_rnn.testing import check_grads

SETTINGS = [
    {},
    {"last": True},
    {"bidirectional": True},
    {"last": True, "bidirectional": True, "layers": 2, "cell": "lstm", "proj_size": 2, "bias": False},
]


def made(cell="gru", **options):
    return tr.SequenceModel(cell, 3, 4, 5, np.random.default_rng(0), dtype=np.float64, **options)


def drawn(*shape):
    return np.random.default_rng(1).standard_normal(shape)


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
@pytest.mark.parametrize("lengths", [None, [4, 2]])
def test_it_is_the_layers_and_the_linear_layer(setting, lengths):
    model, xs = made(**setting), drawn(2, 4, 3)
    hs = model.layers(xs, lengths=lengths)[0].data
    if setting.get("last"):
        half = hs.shape[2] // 2 if setting.get("bidirectional") else hs.shape[2]
        ends = [step - 1 for step in lengths or (4, 4)]
        hs = np.stack([np.concatenate([hs[n, ends[n], :half], hs[n, 0, half:]]) for n in range(2)])
    expected = hs @ model.output.W.data + model.output.b.data
    np.testing.assert_allclose(model(xs, lengths=lengths).data, expected, rtol=1e-12)


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_one_sequence_and_padding_do_not_matter(setting):
    model, xs = made(**setting), drawn(2, 4, 3)
    whole = model(xs, lengths=[4, 2]).data
    np.testing.assert_allclose(model(xs[0]).data, whole[0], rtol=1e-12, atol=1e-14)
    alone = model(xs[1, :2]).data
    np.testing.assert_allclose(alone, whole[1] if setting.get("last") else whole[1, :2], rtol=1e-12, atol=1e-14)
    xs[1, 2:] = np.nan
    np.testing.assert_array_equal(model(xs, lengths=[4, 2]).data, whole)


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_gradients_files_and_drawings(setting, tmp_path):
    model, xs = made(**setting), drawn(2, 3, 3)
    assert check_grads(model, xs).ok
    tr.save(tmp_path / "model.npz", model)
    np.testing.assert_array_equal(tr.load(tmp_path / "model.npz")(xs).data, model(xs).data)
    assert "svg" in tr.draw(model, xs).svg()


@pytest.mark.parametrize("executor", executors(), ids=str)
@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_compiled(setting, executor):
    model, xs = made(**setting), drawn(2, 5, 3)

    def step(parameters, xs, lengths):
        loss = np.sum(model(xs, lengths=lengths) ** 2)
        return loss, tr.grad(loss, parameters)

    compiled = tr.compile(step, **executor)
    for lengths in (np.array([5, 2]), np.array([1, 4])):
        (loss, gradients), (found, slopes) = (f(model.parameters(), xs, lengths) for f in (step, compiled))
        np.testing.assert_allclose(found, loss.data, rtol=1e-12)
        for name, slope in slopes.items():
            np.testing.assert_allclose(slope, gradients[name], rtol=1e-9, atol=1e-12, err_msg=name)


def test_dropout_needs_a_generator_and_options_are_checked():
    model, xs = made(dropout=0.5, layers=2), drawn(2, 4, 3)
    first, second = (model(xs, rng=np.random.default_rng(seed)).data for seed in (0, 1))
    assert not np.array_equal(first, second)
    assert np.array_equal(model(xs).data, model(xs).data)
    with pytest.raises(tr.ConfigError, match="SequenceModel: last must be true or false"):
        made(last=1)
    with pytest.raises(tr.ConfigError, match="GRUCell: got an unexpected keyword argument 'peek'; it takes input_size"):
        made(peek=True)
    with pytest.raises(tr.ShapeError, match=r"expected xs of shape \(N, T, D\) with T >= 1, got \(3,\)"):
        model(drawn(3))
    with pytest.raises(tr.ShapeError, match=r"expected xs of shape \(N, T, D\) with T >= 1, got \(\)"):
        model(3.0)
    with pytest.raises(tr.DTypeError, match=r"SequenceModel: xs: expected numbers, got dtype object of shape"):
        model(drawn(2, 4, 3).astype(object))
