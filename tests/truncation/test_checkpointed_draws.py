"""Checkpointed with a step that draws: recorded again it draws the same numbers, or an error says that it did not."""

import numpy as np
import pytest
from oracle import relative_error

import tinygrad_rnn as tr
from tinygrad_rnn.errors import GradientError


def gru(T):
    rng = np.random.default_rng(0)
    cell = tr.GRUCell(2, 3, rng, np.float64)
    return cell, rng.standard_normal((2, T, 2)), rng.standard_normal((2, T, 3)), cell.initial_state(2)


@pytest.mark.sample(6)
@pytest.mark.parametrize("bits", [np.random.PCG64, np.random.MT19937, np.random.Philox, np.random.SFC64])
@pytest.mark.parametrize("window", [1, 5, 20])
@pytest.mark.parametrize("every", [None, 7])
def test_dropout_draws_the_same_again(bits, window, every):
    """Also where others draw from the generator, between windows and between updates."""
    cell, xs, es, state = gru(20)
    drop, found = tr.Dropout(0.5), []
    for policy in (tr.Decay(1.0, every), tr.Checkpointed(states=2, every=every), tr.Checkpointed(1, every)):
        rng = np.random.Generator(bits(3))

        def step(inputs, state, rng=rng):
            outputs, state = tr.unroll(tr.Zoneout(cell, 0.3).with_rng(rng, 2), inputs[0], state)
            return np.sum(drop(outputs, rng) * inputs[1]), state

        run, updates = tr.Recurrence(step, cell.parameters(), policy, state, rng=rng), []
        for start in range(0, 20, window):
            rng.random(start)
            for update in run.feed((xs[:, start : start + window], es[:, start : start + window])):
                updates.append(update)
                rng.random(3)
        last = run.finish()
        updates += [last] if last else []
        found.append((sum(update.gradients["Wh"] for update in updates), rng.random()))
    for gradient, drawn in found[1:]:
        assert relative_error(gradient, found[0][0]) < 1e-12
        assert drawn == found[0][1]


@pytest.mark.parametrize("policy", [tr.Checkpointed(1), tr.Checkpointed(4), tr.Checkpointed(states=2)], ids=repr)
def test_a_generator_that_was_not_passed_is_found_out(policy):
    """Recorded again with other draws, the segments would have the gradient of another function."""
    cell, xs, es, state = gru(12)
    rng, drop = np.random.default_rng(3), tr.Dropout(0.5)

    def step(inputs, state):
        outputs, state = tr.unroll(cell, inputs[0], state)
        return np.sum(drop(outputs, rng) * inputs[1]), state

    with pytest.raises(GradientError, match=r"loss of steps \d+ to \d+ was .* pass their generator as rng"):
        tr.bptt(step, cell.parameters(), (xs, es), state, policy)
    tr.bptt(step, cell.parameters(), (xs, es), state, policy, rng=rng)


def test_the_generator_goes_back_to_its_place_if_the_step_fails():
    rng, calls = np.random.default_rng(0), []

    def step(xs, h):
        calls.append(rng.random())
        if len(calls) == 12:
            raise ZeroDivisionError
        return (h * w).sum(), h * w

    w = tr.tensor(1.0, requires_grad=True)
    with pytest.raises(ZeroDivisionError):
        tr.bptt(step, {"w": w}, np.ones((1, 10)), np.ones(1), tr.Checkpointed(states=2), rng=rng)
    assert calls[10] in calls[:10]
    assert rng.random() == np.random.default_rng(0).random(11)[10]
