"""train_epoch: the updates it makes, the state it carries, and what it refuses."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tr
from tinygrad_rnn.data import OffsetBatches
from tinygrad_rnn.errors import CorpusError, NonFiniteError
from tinygrad_rnn.optim import SGD, Adam, Cosine, clip_by_norm
from tinygrad_rnn.training import train_epoch

IDS = np.random.default_rng(0).integers(5, size=60)


def small_model(cell="lstm", **settings):
    return tr.RNNLM(5, 4, 4, np.random.default_rng(1), cell=cell, dtype=np.float64, **settings)


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
@given(clip=st.sampled_from([0.0, 0.1, 100.0]), seed=st.integers(0, 2**32 - 1))
def test_is_the_plain_loop(cell, clip, seed):
    windows = OffsetBatches(np.random.default_rng(seed).integers(5, size=40), batch_size=2, bptt=4)
    model, twin = small_model(cell), small_model(cell)
    result = train_epoch(model, windows, SGD(0.5), model.initial_state(2), clip=clip)

    state, total = twin.initial_state(2), 0.0
    for ids, targets in windows:
        # Detached by hand: the numbers of the state, in tensors of their own.
        state = tuple(tuple(tr.tensor(h.data) for h in s) if cell == "lstm" else tr.tensor(s.data) for s in state)
        loss, state = twin.loss(ids, targets, state)
        grads = tr.grad(loss, twin.parameters())
        if clip:
            grads, _ = clip_by_norm(grads, clip)
        for name, p in twin.parameters().items():
            p.data = p.data - 0.5 * grads[name]
        total += loss.item() * targets.size
    for name, p in twin.parameters().items():
        np.testing.assert_allclose(model.parameters()[name].data, p.data, rtol=1e-12, atol=1e-14)
    assert result.tokens == windows.tokens
    assert result.steps == len(windows)
    assert np.isclose(result.nats, total / windows.tokens, rtol=1e-12)
    assert not result.stopped


def test_schedule_and_steps_go_on():
    model, schedule, seen = small_model(), Cosine(0.1, total_steps=30), []
    windows = OffsetBatches(IDS, batch_size=2, bptt=5)
    result = train_epoch(
        model,
        windows,
        SGD(9.0),
        model.initial_state(2),
        schedule=schedule,
        step=7,
        on_window=lambda window: seen.append(window) or False,
    )
    assert [window.step for window in seen] == list(range(7, 7 + len(windows)))
    assert [window.lr for window in seen] == [schedule.lr(step) for step in range(7, 7 + len(windows))]
    assert sum(window.tokens for window in seen) == result.tokens
    assert np.isclose(result.gradient_norm, np.mean([window.gradient_norm for window in seen]))
    assert result.lr == seen[-1].lr


def test_on_window_ends_the_pass():
    model = small_model()
    windows = OffsetBatches(IDS, batch_size=2, bptt=5)
    result = train_epoch(model, windows, SGD(0.1), model.initial_state(2), on_window=lambda window: window.step == 2)
    assert (result.steps, result.tokens, result.stopped) == (3, 30, True)


def test_dropout_only_with_a_generator():
    models = [small_model(dropout=0.5) for _ in range(3)]
    rngs = [None, None, np.random.default_rng(0)]
    for model, rng in zip(models, rngs, strict=True):
        train_epoch(model, OffsetBatches(IDS, 2, 5), SGD(0.1), model.initial_state(2), rng=rng)
    a, b, c = (model.layers[0].Wx.data for model in models)
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


def test_no_windows():
    model = small_model()
    with pytest.raises(CorpusError, match="windows is empty"):
        train_epoch(model, iter([]), SGD(0.1), model.initial_state(2))


class Poisoned(tr.RNNLM):
    """A model whose loss, or one gradient of it, is not finite from the third window on."""

    calls = 0
    poison: str

    def loss(self, *args, **kwargs):
        loss, state = super().loss(*args, **kwargs)
        self.calls += 1
        if self.calls < 3:
            return loss, state
        if self.poison == "loss":
            return loss * np.inf, state
        # A finite loss with an infinite derivative: sqrt at 0.
        zero = (self.layers[0].Wh * 0.0).sum()
        return loss + tr.sqrt(zero), state


@pytest.mark.parametrize(
    ("poison", "message"),
    [
        ("loss", r"update 2: the loss is inf \(all parameters are finite\)"),
        ("gradient", r"update 2: global_norm: the gradient of layers\.0\.Wh has 16 non-finite of 16 values"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_what_is_not_finite_never_reaches_the_parameters(poison, message):
    model = Poisoned(5, 4, 4, np.random.default_rng(1))
    model.poison = poison
    kept = []
    with pytest.raises(NonFiniteError, match=message):
        train_epoch(
            model,
            OffsetBatches(IDS, 2, 5),
            Adam(0.1),
            model.initial_state(2),
            on_window=lambda _: kept.append({name: p.data for name, p in model.parameters().items()}) or False,
        )
    assert len(kept) == 2
    for name, p in model.parameters().items():
        assert p.data is kept[-1][name]


def test_bad_parameter_is_named():
    model = small_model()
    model.layers[0].b.data = np.full(16, np.nan)
    with pytest.raises(NonFiniteError, match=r"update 0: the loss is nan \(the parameter layers\.0\.b holds"):
        train_epoch(model, OffsetBatches(IDS, 2, 5), SGD(0.1), model.initial_state(2))
