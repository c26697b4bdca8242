"""Spiking neurons: the spike is an operation of the user's, with a surrogate slope, and acts on elements."""

import numpy as np
import pytest
from credit.steps import assert_same_gradients

import tinygrad_rnn as tr
from tinygrad_rnn.engine.tree import flatten
from tinygrad_rnn.errors import ConfigError

LEAK, ADAPTATION, STRENGTH, READOUT = 0.9, 0.95, 0.2, 0.8
N, T, D, H = 2, 12, 3, 4


def surrogate(u):
    return 0.3 * np.maximum(0, 1 - np.abs(u))


def spike_of(elementwise):
    @tr.primitive(analytic=False, elementwise=elementwise)
    def spike(v, threshold, /):
        return (v > threshold).astype(v.dtype)

    @spike.rule(keep="v threshold")
    def _(g, y, v, threshold):
        slope = np.where(g != 0, g, 0) * surrogate(v - threshold)
        return slope, -slope

    return spike


def adaptive_neurons(elementwise=True):
    """Leaky neurons whose threshold rises with each spike, and a leaky readout (Bellec et al. 2020)."""
    rng, spike = np.random.default_rng(0), spike_of(elementwise)
    shapes = {"Win": (D, H), "Wrec": (H, H), "base": (H,), "Wout": (H, 2)}
    p = {name: tr.tensor(rng.standard_normal(shape) / 2, requires_grad=True) for name, shape in shapes.items()}
    p["base"].data = np.full(H, 0.6)

    def step(inputs, state):
        total, (v, a, z, y) = 0.0, state
        for x, target in zip(*(np.swapaxes(part, 0, 1) for part in inputs), strict=True):
            v = LEAK * v + x @ p["Win"] + z @ p["Wrec"] - 0.6 * tr.cut(z)
            a = ADAPTATION * a + z
            z = spike(v, p["base"] + STRENGTH * a)
            y = READOUT * y + z @ p["Wout"]
            total = total + np.sum((y - target) ** 2)
        return total, (v, a, z, y)

    inputs = 1.5 * (rng.random((N, T, D)) < 0.5), rng.standard_normal((N, T, 2))
    return step, p, inputs, tuple(np.zeros((N, size)) for size in (H, H, H, 2))


def test_e_prop_of_adaptive_neurons_by_hand():
    step, parameters, inputs, state = adaptive_neurons()
    p = {name: part.data for name, part in parameters.items()}
    v, a, z, y = state
    traces = {name: [np.zeros((N, *p[name].shape)) for _ in range(3)] for name in ("Win", "Wrec")}  # of v, a and z
    filtered, expected = np.zeros((N, H)), {name: np.zeros(part.shape) for name, part in p.items()}
    of_base = np.zeros((2, N, H))  # of a and z
    for x, target in zip(*(np.swapaxes(part, 0, 1) for part in inputs), strict=True):
        before = {"Win": x, "Wrec": z}
        v = LEAK * v + x @ p["Win"] + z @ p["Wrec"] - 0.6 * z
        a = ADAPTATION * a + z
        u = v - p["base"] - STRENGTH * a
        z = (u > 0).astype(float)
        filtered = READOUT * filtered + z
        y = READOUT * y + z @ p["Wout"]
        expected["Wout"] += filtered.T @ (2 * (y - target))
        signal = 2 * (y - target) @ p["Wout"].T
        for name, (of_v, of_a, of_z) in traces.items():
            of_v = LEAK * of_v + before[name][:, :, None]
            of_a = ADAPTATION * of_a + of_z
            of_z = surrogate(u)[:, None] * (of_v - STRENGTH * of_a)
            traces[name] = [of_v, of_a, of_z]
            expected[name] += np.sum(signal[:, None] * of_z, axis=0)
        of_base[0] = ADAPTATION * of_base[0] + of_base[1]
        of_base[1] = -surrogate(u) * (1 + STRENGTH * of_base[0])
        expected["base"] += np.sum(signal * of_base[1], axis=0)
    assert np.count_nonzero(z) + np.sum(filtered) > 5
    found = tr.bptt(step, parameters, inputs, state, tr.EProp()).gradients
    assert_same_gradients(found, expected)


@pytest.mark.parametrize("elementwise", [True, False])
def test_rtrl_is_exact_whether_it_is_said_or_not(elementwise):
    step, parameters, inputs, state = adaptive_neurons(elementwise)
    found, full = (tr.bptt(step, parameters, inputs, state, policy).gradients for policy in (tr.RTRL(), tr.Full()))
    assert_same_gradients(found, full)


def test_e_prop_says_what_it_does_not_go_through():
    step, parameters, inputs, state = adaptive_neurons(elementwise=False)
    with pytest.warns(tr.GradientWarning, match=r"EProp.*: no credit .* through spike, .*elementwise=True") as caught:
        tr.bptt(step, parameters, inputs, state, tr.EProp())
    assert len(caught) == 1


def test_what_is_kept_of_one_stream_is_kept_of_each():
    step, parameters, inputs, state = adaptive_neurons()
    run = tr.Recurrence(step, parameters, tr.SnAp(1), state)
    list(run.feed(inputs))
    pattern = tr.influence_pattern(step, parameters, inputs, state)
    assert sum(part.size for part in flatten(run.carry)) == N * (pattern.entries + pattern.factors)


@pytest.mark.parametrize("policy", [tr.RTRL(), tr.EProp()], ids=repr)
def test_compiled_as_eager(policy):
    step, parameters, inputs, state = adaptive_neurons()

    @tr.compile
    def online(parameters, inputs, state, carry):
        run = tr.Recurrence(step, parameters, policy, state, carry=carry)
        (update,) = run.feed(inputs)
        return update.gradients, update.state, run.carry

    eager, carry = tr.stream(step, parameters, [inputs], state, policy), None
    for t, update in enumerate(eager):
        here = tuple(part[:, t : t + 1] for part in inputs)
        gradients, state, carry = online(parameters, here, state, carry)
        assert_same_gradients(gradients, update.gradients)


def test_it_is_said_with_true_or_false():
    with pytest.raises(ConfigError, match="primitive: elementwise must be true or false, got 'yes'"):
        tr.primitive(elementwise="yes")(lambda x, /: x)
