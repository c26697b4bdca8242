"""Cells, arrays, and operations with a rule of one's choice, for the checks of `tinygrad_rnn.testing` to look at."""

import numpy as np

import tinygrad_rnn as tr


class ReluCell(tr.RNNCell):
    def __call__(self, x, h):
        h = tr.relu(x @ self.Wx + h @ self.Wh + self.b)
        return h, h


CELLS = {
    "rnn": tr.RNNCell,
    "lstm": tr.LSTMCell,
    "gru": tr.GRUCell,
    "stacked": lambda D, H, rng, dtype: tr.Stacked([tr.GRUCell(D, H, rng, dtype), tr.LSTMCell(H, H, rng, dtype)]),
    "relu": ReluCell,
}


def cell_of(kind="rnn", seed=0):
    return CELLS[kind](3, 3, np.random.default_rng(seed), np.float64)


def normal(*shape, seed=1):
    return np.random.default_rng(seed).standard_normal(shape)


def tanh(x, /):
    return np.tanh(x)


def matmul(a, b, /):
    return a @ b


def primitive(forward, rule, keep="y", **options):
    """Return a primitive of a function and a rule, as the decorators do."""
    made = tr.primitive(**options)(forward)
    made.rule(keep)(rule)
    return made
