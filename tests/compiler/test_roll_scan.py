"""A loop written in Python has the plan of `scan`."""

import numpy as np
import pytest
from oracle import relative_error
from replay import normal

import tinygrad_rnn as tr
from tinygrad_rnn.compiler.plans.instructions import Loop
from tinygrad_rnn.engine.tree import flatten

N, D, H = 2, 3, 4


class LeakyCell(tr.Module):
    """The cell of the README."""

    def __init__(self, input_size, hidden_size, rng):
        self.Wx = tr.parameter(rng.standard_normal((input_size, hidden_size)), np.float32)
        self.Wh = tr.parameter(rng.standard_normal((hidden_size, hidden_size)), np.float32)
        self.leak = tr.parameter(np.zeros(hidden_size), np.float32)
        self.hidden_size = hidden_size

    def initial_state(self, batch_size):
        return np.zeros((batch_size, self.hidden_size), np.float32)

    def __call__(self, x, h):
        a = tr.sigmoid(self.leak)
        h = (1 - a) * h + a * np.tanh(x @ self.Wx + h @ self.Wh)
        return h, h


class LSTM(tr.Module):
    """Five lines."""

    def __init__(self, input_size, hidden_size, rng):
        self.Wx = tr.parameter(rng.standard_normal((input_size, 4 * hidden_size)), np.float32)
        self.Wh = tr.parameter(rng.standard_normal((hidden_size, 4 * hidden_size)), np.float32)
        self.b = tr.parameter(np.zeros(4 * hidden_size), np.float32)
        self.hidden_size = hidden_size

    def initial_state(self, batch_size):
        return (np.zeros((batch_size, self.hidden_size), np.float32),) * 2

    def __call__(self, x, state):
        h, c = state
        i, f, g, o = np.split(x @ self.Wx + h @ self.Wh + self.b, 4, axis=1)
        c = tr.sigmoid(f) * c + tr.sigmoid(i) * np.tanh(g)
        h = tr.sigmoid(o) * np.tanh(c)
        return h, (h, c)


def instructions(plan):
    """Return how many instructions a replay goes through."""
    parts = plan.instructions
    return sum(part.steps * len(part.instructions) if isinstance(part, Loop) else 1 for part in parts)


@pytest.mark.parametrize("kind", [LeakyCell, LSTM])
def test_a_loop_in_python_has_the_plan_of_a_scan(kind):
    model = kind(D, H, np.random.default_rng(0))
    params = model.parameters()

    def loop(params, xs):
        state, ys = model.initial_state(N), []
        for t in range(xs.shape[1]):
            y, state = model(xs[:, t], state)
            ys.append(y)
        loss = np.mean(np.stack(ys, axis=1) ** 2)
        return loss, tr.grad(loss, params)

    def scan(params, xs):
        ys, _ = tr.scan(model, model.initial_state(N), xs)
        loss = np.mean(ys**2)
        return loss, tr.grad(loss, params)

    xs = normal(N, 10, D).astype(np.float32)
    compiled, reference = tr.compile(loop), tr.compile(scan)
    for got, want in zip(flatten(compiled(params, xs)), flatten(reference(params, xs)), strict=True):
        assert relative_error(got, want) <= 1e-6
    assert instructions(compiled.plan) <= instructions(reference.plan)
    lengths = [[len(p.instructions) for p in f.plan.instructions if isinstance(p, Loop)] for f in (compiled, reference)]
    assert sum(lengths[0]) <= sum(lengths[1])
