"""The README's LeakyCell, for tests of what a user's own cell goes through."""

import numpy as np

import tinygrad_rnn as tr


class LeakyCell(tr.Module):
    """A cell of a user's own: that of the README."""

    def __init__(self, input_size, hidden_size, rng):
        self.Wx = tr.parameter(rng.standard_normal((input_size, hidden_size)) / input_size**0.5, np.float32)
        self.Wh = tr.parameter(rng.standard_normal((hidden_size, hidden_size)) / hidden_size**0.5, np.float32)
        self.leak = tr.parameter(np.zeros(hidden_size), np.float32)

    def initial_state(self, batch_size):
        return np.zeros((batch_size, len(self.leak)), np.float32)

    def __call__(self, x, h):
        a = tr.sigmoid(self.leak)
        h = (1 - a) * h + a * np.tanh(x @ self.Wx + h @ self.Wh)
        return h, h
