"""A compiled update is the same update: optimizers, clipping, dropout, cells, dtypes, policies that can be compiled."""

import numpy as np
import pytest

import tinygrad_rnn as tr
from tinygrad_rnn import optim
from tinygrad_rnn.data import OffsetBatches
from tinygrad_rnn.training.compiled import CompiledUpdate, is_compilable
from tinygrad_rnn.training.loop import train_epoch

OPTIMIZERS = {
    "sgd": lambda: optim.SGD(0.5, weight_decay=0.01),
    "momentum": lambda: optim.Momentum(0.1, nesterov=True),
    "rmsprop": lambda: optim.RMSprop(0.01, eps=1e-3),
    "adam": lambda: optim.Adam(0.01),
    "adamw": lambda: optim.AdamW(0.01),
}


def trained(compiled, optimizer="adam", cell="lstm", clip=0.3, dropout=0.0, policy=None, dtype=np.float64, layers=2):
    """Train for two passes; return what train_epoch says, the parameters and the optimizer's state."""
    ids = np.random.default_rng(1).integers(0, 11, 103)
    model = tr.RNNLM(11, 6, 6, np.random.default_rng(0), cell=cell, layers=layers, dropout=dropout, dtype=dtype)
    rule = OPTIMIZERS[optimizer]()
    windows, rng = OffsetBatches(ids, 3, 7), np.random.default_rng(2) if dropout else None
    found = [
        train_epoch(model, windows, rule, model.initial_state(3), policy=policy, clip=clip, rng=rng, compiled=compiled)
        for _ in range(2)
    ]
    return found, {name: p.data for name, p in model.parameters().items()}, rule.state_dict()


def assert_same(one, other, rtol):
    for a, b in zip(one[0], other[0], strict=True):
        assert (a.tokens, a.steps) == (b.tokens, b.steps)
        np.testing.assert_allclose([a.nats, a.gradient_norm], [b.nats, b.gradient_norm], rtol=rtol)
    for part in (1, 2):
        assert one[part].keys() == other[part].keys()
        for name, array in one[part].items():
            assert array.dtype == other[part][name].dtype
            np.testing.assert_allclose(array, other[part][name], rtol=rtol, atol=rtol)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer(optimizer):
    assert_same(trained(True, optimizer), trained(False, optimizer), 1e-10)


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("clip", [0.0, 0.05])
def test_cells_and_clipping(cell, clip):
    assert_same(trained(True, cell=cell, clip=clip), trained(False, cell=cell, clip=clip), 1e-10)


def test_dropout_draws_the_same():
    assert_same(trained(True, dropout=0.4), trained(False, dropout=0.4), 1e-10)


def test_float32_stays_float32_and_close():
    assert_same(trained(True, "sgd", dtype=np.float32), trained(False, "sgd", dtype=np.float32), 1e-4)


POLICIES = [tr.Chunked(3), tr.Full(every=7), tr.Decay(0.5, every=4), tr.Checkpointed(2, every=6), tr.Windowed(5, 5)]


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
def test_policies_whose_passes_do_not_overlap(policy):
    assert is_compilable(policy)
    assert_same(trained(True, policy=policy), trained(False, policy=policy), 1e-10)


@pytest.mark.parametrize(
    "policy", [tr.Windowed(6, 2), tr.Randomized(0.3, every=7), tr.Adaptive(0.1, 8, every=4), tr.Full()], ids=repr
)
def test_others_are_recorded_anew_and_give_the_same(policy):
    assert not is_compilable(policy)


def test_recomputation_with_dropout_is_not_compiled():
    assert not is_compilable(tr.Checkpointed(2, every=6), draws=True)


def test_one_plan_serves_all_windows_and_a_short_one_makes_a_second():
    ids = np.random.default_rng(1).integers(0, 11, 3 * 24 + 1)
    model, rule = tr.RNNLM(11, 6, 6, np.random.default_rng(0)), optim.Adam(0.01)
    update = CompiledUpdate(model, rule)
    for _ in range(2):
        train_epoch(model, OffsetBatches(ids, 3, 7), rule, model.initial_state(3), compiled=update)
    assert len(update.step.plans) == 2


def test_parameters_are_the_models_own_after_training():
    model = tr.RNNLM(5, 200, 200, np.random.default_rng(0))
    train_epoch(
        model,
        OffsetBatches(np.arange(60) % 5, 2, 5),
        optim.SGD(0.1),
        model.initial_state(2),
        compiled=True,
    )
    for parameter in model.parameters().values():
        assert not parameter.data.flags.writeable
        assert parameter.data.base is None


def test_what_is_not_finite_changes_nothing():
    model, rule = tr.RNNLM(5, 4, 4, np.random.default_rng(0), dtype=np.float64), optim.Adam(1.0)
    update, state = CompiledUpdate(model, rule), model.initial_state(2)
    ids = np.array([[0, 1, 2], [2, 3, 4]])
    _, _, state = update(ids, ids, state, 0.1)
    weights = model.parameters()["layers.0.Wh"]
    weights.data = np.full(weights.shape, np.nan)
    before, slots = {name: p.data for name, p in model.parameters().items()}, rule.state_dict()
    with pytest.raises(
        tr.NonFiniteError, match=r"the loss is nan \(the parameter layers\.0\.Wh holds non-finite values"
    ):
        update(ids, ids, state, 0.1)
    assert all(p.data is before[name] for name, p in model.parameters().items())
    assert all(np.array_equal(array, slots[name]) for name, array in rule.state_dict().items())


def test_a_gradient_whose_square_overflows_is_named():
    model, rule = tr.RNNLM(5, 4, 4, np.random.default_rng(0)), optim.SGD(1.0)
    model.output.W.data = np.full(model.output.W.shape, 1e30) * np.arange(5)
    update = CompiledUpdate(model, rule)
    ids = np.array([[0, 1, 2], [2, 3, 4]])
    with np.errstate(all="ignore"), pytest.raises(tr.NonFiniteError, match="the gradient of"):
        update(ids, ids, model.initial_state(2), 0.1)
    assert rule.steps == 0
