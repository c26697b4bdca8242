"""What a driver gives and refuses, the same for every policy, and what `mask` says of a user's policy."""

import numpy as np
import pytest
from replay import executors

import tinygrad_rnn as tr

POLICIES = ["full", "chunked:2", "windowed:2", "windowed:4/2", "decay:0.5", "checkpointed:2", "rtrl", "snap:1"]
XS = np.random.default_rng(0).standard_normal((2, 5, 2))


def fast_weights():
    """Return a step, its parameter and a first state: the first use of the parameter has no effect on the loss."""
    v = tr.parameter(np.array([0.5, 2.0]))

    def cell(x, state):
        h, weights = state
        h = np.tanh(x + weights)
        return h, (h, weights * 0.5 + v * h)

    def step(xs, state):
        outputs, state = tr.unroll(cell, xs, state)
        return np.sum(outputs * outputs), state

    return step, {"v": v}, (np.zeros((2, 2)), np.zeros((2, 2)))


@pytest.mark.parametrize("setting", executors(), ids=str)
@pytest.mark.parametrize("policy", ["chunked:1", "windowed:2", "windowed:3/2", "decay:0.5"])
def test_a_pass_in_which_a_parameter_has_no_effect_can_be_compiled(policy, setting):
    step, parameters, state = fast_weights()

    def gradients(parameters, xs):
        return tr.bptt(step, parameters, xs, state, policy).gradients

    found = tr.compile(gradients, **setting)(parameters, XS)
    np.testing.assert_allclose(found["v"], gradients(parameters, XS)["v"], rtol=1e-12)


@pytest.mark.parametrize("policy", [policy for policy in POLICIES if policy not in ("rtrl", "snap:1")])
def test_gradients_of_the_first_state_belong_to_the_caller(policy):
    def step(xs, state):
        h = np.tanh(xs[:, 0] + np.stack(state, axis=1).sum(axis=1))
        return np.sum(h * h), [h, state[0]]

    one = XS[:, :1]
    update = tr.bptt(step, {"w": tr.parameter(np.ones(1))}, one, [np.zeros((2, 2)), np.zeros((2, 2))], policy)
    a, b = update.state_gradient
    np.testing.assert_array_equal(a, b)
    a *= 2
    assert not np.array_equal(a, b)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(
    ("off", "words"),
    [
        (lambda loss: loss.item(), r"as a Tensor.*got \d.*leave out .item\(\)"),
        (lambda loss: loss.data, r"as a Tensor.*got array\("),
        (lambda loss: f"{loss.item():.3f}", r"as a Tensor.*got '\d"),
    ],
)
def test_a_loss_without_a_gradient_is_an_error(policy, off, words):
    step, parameters, state = fast_weights()

    def broken(xs, state):
        loss, state = step(xs, state)
        return off(loss), state

    with pytest.raises(tr.GradientError, match=words):
        tr.bptt(broken, parameters, XS, state, policy)


@pytest.mark.parametrize("policy", POLICIES)
def test_steps_without_a_loss_leave_none_behind(policy):
    step, parameters, state = fast_weights()

    def silent(xs, state):
        return None, step(xs, state)[1]

    updates = [*tr.stream(silent, parameters, [XS], state, policy)]
    assert updates[-1].end == 5
    assert [update.losses for update in updates] == [[]] * len(updates)
    assert not any(update.gradients["v"].any() for update in updates)


class Own(tr.Policy):
    def __init__(self, factor=0.5, **settings):
        self.factor_ = factor
        vars(self).update(settings)

    def scale(self, edge, end):
        return self.factor_


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "Own: scale.. is not 1 at edge .*, .* neither grain nor every"),
        ({"grain": 3}, "Own: scale.. is not 1 at edge 4, which is no multiple of grain 3;"),
        ({"grain": 2, "every": 3}, "Own: scale.. is not 1 at edge 1, which is no multiple of grain 2 or every 3;"),
        ({"grain": 2, "reach": 2, "factor": 1.0}, "Own: scale.. is not 1 at edge 3, which is no multiple of grain 2;"),
        ({"every": 0}, "every must be an integer of 1 or more, got 0"),
        ({"every": 1.5}, "every must be an integer"),
        ({"grain": 0}, "grain must be an integer of 1 or more, got 0"),
        ({"grain": 1, "reach": -1}, "reach must be an integer of 1 or more, got -1"),
        ({"grain": 1, "reach": "x"}, "reach must be an integer"),
        ({"start": print}, r"Own: expected start\(\) to return the policy .* got None"),
    ],
    ids=repr,
)
def test_mask_refuses_what_the_driver_refuses(settings, words):
    step, parameters, state = fast_weights()
    with pytest.raises(tr.ConfigError, match=words):
        Own(**settings).mask(5)
    with pytest.raises(tr.ConfigError, match=words):
        tr.bptt(step, parameters, XS, state, Own(**settings))
