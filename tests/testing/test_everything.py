"""Every cell, layer, model, loss and truncation policy of the package, through `check_grads`."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as hst

import tinygrad_rnn as tr
import tinygrad_rnn.testing.strategies as st
from tinygrad_rnn.nn import base, cells, layers, models
from tinygrad_rnn.testing import check_grads

N, T, D = (hst.shared(hst.integers(1, 3), key=key) for key in "NTD")
few = settings(max_examples=6)

POLICIES = (tr.Full, tr.Chunked, tr.Windowed, tr.Decay, tr.Checkpointed, tr.RTRL, tr.Randomized, tr.Adaptive)
ESTIMATES = (tr.SnAp, tr.EProp, tr.RFLO, tr.UORO, tr.KroneckerFactored, tr.ForwardGradient)


@pytest.mark.sample(2)
@pytest.mark.parametrize("name", st.CELL_NAMES)
@few
@given(data=hst.data(), xs=st.sequences(features=D, steps=T))
def test_cells_to_second_order(name, data, xs):
    check_grads(data.draw(st.cells(name, input_size=D)), xs, order=2)


@few
@given(cell=st.cells("lstm", "gru"), xs=st.sequences(features=2, steps=hst.integers(2, 5)), n=hst.integers(1, 3))
def test_unroll_with_cuts(cell, xs, n):
    check_grads(lambda xs, *_: tr.unroll(cell, xs, cut_every=n), xs, parameters=cell.parameters())


@few
@given(cell=st.cells("lstm", "gru"), xs=st.sequences(features=2), seed=st.SEEDS)
def test_unroll_of_sequences_of_different_lengths(cell, xs, seed):
    lengths = np.random.default_rng(seed).integers(1, xs.shape[1] + 1, len(xs))
    check_grads(lambda xs: tr.unroll(cell, xs, lengths=lengths), xs, parameters=cell.parameters())


@few
@given(ahead=st.cells("rnn", "lstm"), back=st.cells("rnn", "gru"), xs=st.sequences(features=2))
def test_bidirectional(ahead, back, xs):
    parameters = {
        f"{name}.{key}": p for name, c in (("ahead", ahead), ("back", back)) for key, p in c.parameters().items()
    }
    check_grads(lambda xs: tr.bidirectional(ahead, back, xs), xs, parameters=parameters)


@pytest.mark.parametrize("bias", [True, False])
@few
@given(data=hst.data(), xs=st.sequences(features=D))
def test_linear(bias, data, xs):
    check_grads(data.draw(st.modules(tr.Linear, D, st.SIZES, bias=bias)), xs)


@few
@given(layer=st.modules(tr.Embedding, 5, st.SIZES), batch=st.sequences(5))
def test_embedding(layer, batch):
    check_grads(layer, batch.inputs)


@few
@given(xs=st.sequences(features=D), p=hst.sampled_from([0.5, 0.0, 0.9]), seed=st.SEEDS)
def test_dropout(xs, p, seed):
    check_grads(lambda xs: tr.Dropout(p)(xs, np.random.default_rng(seed)), xs)


@pytest.mark.sample(1)
@pytest.mark.parametrize("cell", cells.CELLS)
@few
@given(data=hst.data(), batch=st.sequences(steps=T))
def test_language_models_to_second_order(cell, data, batch):
    check_grads(data.draw(st.models(cell=cell)), batch, order=2)


@pytest.mark.parametrize("combine", ["sum", "concat"])
@few
@given(data=hst.data(), batch=st.sequences(5, steps=2))
def test_bag_of_words(combine, data, batch):
    model = data.draw(st.modules(tr.CBOW, 5, st.SIZES, 2, combine=combine))
    check_grads(model.loss, batch.inputs, batch.targets[:, 0])


@few
@given(
    logits=st.sequences(features=5, batch=N, steps=T), batch=st.sequences(5, batch=N, steps=T), masked=hst.booleans()
)
def test_cross_entropy(logits, batch, masked):
    targets = np.where((np.arange(batch.targets.size) > 0).reshape(batch.targets.shape) & masked, -1, batch.targets)
    check_grads(tr.cross_entropy, logits, targets)


@pytest.mark.sample(3)
@pytest.mark.parametrize("kind", POLICIES)
@settings(max_examples=3)
@given(model=st.models(), batch=st.sequences(steps=hst.integers(2, 4)), data=hst.data())
def test_truncation_policies(kind, model, batch, data):
    check_grads(model, batch, truncation=data.draw(st.truncations(kind)))


def test_nothing_is_left_out():
    """Whoever adds a module or a policy adds it here."""
    modules = {
        value
        for room in (cells, layers, models)
        for name, value in vars(room).items()
        if isinstance(value, type) and issubclass(value, tr.Module) and not name.startswith("_")
    }
    assert modules - {tr.Module, base.GatedCell, base.PairCell} == {
        *(tr.RNNCell, tr.LSTMCell, tr.GRUCell, tr.Stacked),
        *(tr.Linear, tr.Embedding, tr.Dropout, tr.RNNLM, tr.CBOW),
    }
    public = [getattr(tr, name) for name in tr.__all__]
    policies = {value for value in public if isinstance(value, type) and issubclass(value, tr.Policy)}
    assert policies - {tr.Policy, tr.ForwardPolicy} == {*POLICIES, *ESTIMATES}


@pytest.mark.parametrize("kind", ESTIMATES)
def test_an_estimate_has_no_value_to_compare_with(kind):
    policy = kind(n=1) if kind is tr.SnAp else kind()
    cell, xs = tr.RNNCell(2, 3, np.random.default_rng(0)), np.ones((1, 3, 2))
    with pytest.raises(tr.ConfigError, match=f"the gradient of {kind.__name__}.* is an estimate of the full one"):
        check_grads(cell, xs, truncation=policy)
