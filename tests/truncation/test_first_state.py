"""A first state that is computed from parameters, as a learned one is: its gradient is there, or a warning says so."""

import warnings

import numpy as np
import pytest

import tinygrad_rnn as tr

V = 7
IDS = np.random.default_rng(0).integers(0, V, (2, 2, 6))


class Learned(tr.Module):
    """An RNN whose first state is a parameter."""

    def __init__(self, input_size, hidden_size, rng):
        self.input_size, self.output_size = input_size, hidden_size
        self.Wx = tr.parameter(rng.standard_normal((input_size, hidden_size)))
        self.Wh = tr.parameter(rng.standard_normal((hidden_size, hidden_size)))
        self.h0 = tr.parameter(np.full(hidden_size, 0.1))

    def initial_state(self, batch_size):
        return np.broadcast_to(self.h0, (batch_size, len(self.h0)))

    def __call__(self, x, h):
        h = np.tanh(x @ self.Wx + h @ self.Wh)
        return h, h


def model():
    return tr.RNNLM(V, 4, 5, np.random.default_rng(1), cell=Learned, dtype=np.float64)


def loss(model, batch, state):
    return model.loss(*batch, state)


SAYS = r"computed from parameters \(layers\.0\.h0\), which get no gradient"


def warned(function):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        function()
    return [str(one.message) for one in found if "h0" in str(one.message)]


@pytest.mark.parametrize("policy", ["full", "chunked:2", "windowed:3/2", "checkpointed:2", "rtrl", "snap:1", "uoro"])
def test_a_recurrence_says_what_it_does_not_train(policy):
    lm = model()

    def step(inputs, state):
        return lm.loss(*inputs, state)

    params = lm.parameters()
    with pytest.warns(tr.GradientWarning, match=SAYS):
        found = tr.bptt(step, params, tuple(IDS), lm.initial_state(2), policy)
    assert not found.gradients["layers.0.h0"].any()
    assert not warned(lambda: tr.bptt(step, params, tuple(IDS), tr.cut(lm.initial_state(2)), policy))
    with pytest.raises(tr.TraceError, match="pass cut"):
        tr.compile(lambda params, state: tr.bptt(step, params, tuple(IDS), state, policy).gradients)(
            params, lm.initial_state(2)
        )


@pytest.mark.parametrize("policy", [None, "chunked:2", "rtrl"])
@pytest.mark.parametrize("compile", [True, False])
def test_a_step_with_a_learned_state_goes_on_from_its_values(policy, compile):
    lm, other = model(), model()
    step = tr.TrainStep(lm, loss, tr.SGD(0.1), policy=policy, compile=compile)
    with pytest.warns(tr.GradientWarning, match=SAYS):
        first = step(tuple(IDS), lm.initial_state(2))
    assert not warned(lambda: step(tuple(IDS), first.state))
    np.testing.assert_array_equal(lm.layers[0].h0.data, 0.1)
    plain = tr.TrainStep(other, loss, tr.SGD(0.1), policy=policy, compile=compile)
    assert plain(tuple(IDS), (np.full((2, 5), 0.1),)).loss == first.loss


@pytest.mark.parametrize("policy", [None, "full", "chunked:2"])
@pytest.mark.parametrize("compile", [True, False])
def test_a_state_that_the_loss_makes_is_trained(policy, compile):
    lm = model()
    step = tr.TrainStep(lm, loss, tr.SGD(0.1), policy=policy, compile=compile)
    expected = tr.grad(lm.loss(*IDS)[0], lm.parameters())["layers.0.h0"]
    assert not warned(lambda: step(tuple(IDS)))
    moved = (0.1 - lm.layers[0].h0.data) / 0.1
    if policy != "chunked:2":
        np.testing.assert_allclose(moved, expected, rtol=1e-10)
    assert moved.all()


def test_an_epoch_says_so_too():
    lm = model()
    windows = tr.OffsetBatches(IDS.ravel(), batch_size=2, bptt=3)
    with pytest.warns(tr.GradientWarning, match=SAYS):
        tr.train_epoch(lm, windows, tr.SGD(0.1), lm.initial_state(2))
