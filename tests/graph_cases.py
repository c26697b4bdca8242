"""Recorded graphs of many kinds, small and always the same, for the tests of views."""

import numpy as np

import tinygrad_rnn as tr


class Kept:
    """Losses, and what must stay alive so that leaves keep their names."""

    def __init__(self, losses, *alive):
        self.losses = losses
        self.alive = alive


def loop(cell, T, cut_every=None, scale=0.0, only_last=False):
    """A loop of a user's own: a cell, a head, and a loss in each step."""
    rng = np.random.default_rng(7)
    H = cell.hidden_size
    Wy = tr.tensor(rng.standard_normal((H, 5)), requires_grad=True, name="Wy")
    by = tr.tensor(np.zeros(5), requires_grad=True, name="by")
    state, losses = cell.initial_state(2), []
    for t in range(T):
        with tr.at_step(t):
            if cut_every and t and t % cut_every == 0:
                state = tr.cut(state, scale)
            h, state = cell(rng.standard_normal((2, cell.input_size)), state)
            if not only_last or t == T - 1:
                losses.append(tr.cross_entropy(h @ Wy + by, rng.integers(0, 5, 2)))
    return Kept([sum(losses[1:], losses[0])], cell, Wy, by)


def rng():
    return np.random.default_rng(3)


def rnn(T=4, **kwargs):
    return loop(tr.RNNCell(3, 4, rng(), np.float64), T, **kwargs)


def lstm(T=4, **kwargs):
    return loop(tr.LSTMCell(3, 4, rng(), np.float64), T, **kwargs)


def gru(T=4, **kwargs):
    return loop(tr.GRUCell(3, 4, rng(), np.float64), T, **kwargs)


def model(T=6, by_step=False, **kwargs):
    made = tr.RNNLM(9, 4, 4, rng(), dtype=np.float64, **kwargs)
    ids = np.random.default_rng(5).integers(0, 9, (2, T + 1))
    if not by_step:
        return Kept([made.loss(ids[:, :-1], ids[:, 1:], rng=rng())[0]], made)
    state, total = made.initial_state(2), 0.0
    for t in range(T):
        with tr.at_step(t):
            loss, state = made.loss(ids[:, t : t + 1], ids[:, t + 1 : t + 2], state)
            total = total + loss * (1 / T)
    return Kept([total], made)


def squares(outputs, *alive):
    return Kept([np.sum(outputs * outputs)], *alive)


def xs(T=4, D=3):
    return np.random.default_rng(9).standard_normal((2, T, D))


def stacked():
    cell = tr.Stacked([tr.RNNCell(3, 4, rng(), np.float64), tr.LSTMCell(4, 4, rng(), np.float64)])
    return squares(tr.unroll(cell, xs(), cut_every=2)[0], cell)


def bidirectional():
    ahead, back = tr.GRUCell(3, 4, rng(), np.float64, reset="before"), tr.RNNCell(3, 4, rng(), np.float64)
    return squares(tr.bidirectional(ahead, back, xs())[0], ahead, back)


class TwoSpeeds(tr.Module):
    """A user's own cell: a dict of states, one of them nested and with a counter."""

    def __init__(self):
        self.W = tr.tensor(rng().standard_normal((3, 4)), requires_grad=True, name="W")
        self.U = tr.tensor(rng().standard_normal((4, 4)), requires_grad=True, name="U")

    def initial_state(self, batch_size):
        return {"fast": np.zeros((batch_size, 4)), "slow": (np.zeros((batch_size, 4)), 0)}

    def __call__(self, x, state):
        slow, count = state["slow"]
        fast = np.tanh(x @ self.W + state["fast"] @ self.U + slow)
        slow = slow * 0.9 + fast * 0.1
        return slow, {"fast": fast, "slow": (slow, count + 1)}


def two_speeds():
    cell = TwoSpeeds()
    return squares(tr.unroll(cell, xs())[0], cell)


def two_losses():
    """Two heads on one cell, each with losses of its own."""
    cell = tr.RNNCell(3, 4, rng(), np.float64)
    policy = tr.tensor(np.ones((4, 5)) / 3, requires_grad=True, name="policy")
    value = tr.tensor(np.ones((4, 1)) / 2, requires_grad=True, name="value")
    state, first, second = cell.initial_state(2), [], []
    for t in range(3):
        with tr.at_step(t):
            h, state = cell(xs()[:, t], state)
            first.append(tr.cross_entropy(h @ policy, np.array([1, 2])))
            if t < 2:
                second.append(np.mean((h @ value - 1.0) ** 2))
    return Kept([sum(first[1:], first[0]), sum(second[1:], second[0])], cell, policy, value)


def encoder_decoder():
    encoder, decoder = tr.GRUCell(3, 4, rng(), np.float64), tr.RNNCell(3, 4, rng(), np.float64)
    _, state = tr.unroll(encoder, xs())
    return squares(tr.unroll(decoder, xs(3) + 1, state)[0], encoder, decoder)


def masked():
    cell = tr.LSTMCell(3, 4, rng(), np.float64)
    return squares(tr.unroll(cell, xs(5), lengths=np.array([5, 3]))[0], cell)


def learned_start():
    cell = tr.RNNCell(3, 4, rng(), np.float64)
    h0 = tr.tensor(np.ones((2, 4)), requires_grad=True, name="h0")
    return squares(tr.unroll(cell, xs(), h0)[0], cell, h0)


def stack_of_losses():
    """A mean over a stack of losses, and weights that are computed from a parameter before the loop."""
    cell = tr.RNNCell(3, 4, rng(), np.float64)
    table = tr.tensor(np.ones((5, 4)) / 3, requires_grad=True, name="table")
    weights = (table * 2.0).T
    state, losses = cell.initial_state(2), []
    for t in range(4):
        with tr.at_step(t):
            h, state = cell(xs()[:, t], state)
            losses.append(tr.cross_entropy(h @ weights, np.array([1, 2])))
    return Kept([np.mean(np.stack(losses))], cell, table)


CASES = {
    "rnn": rnn,
    "rnn cut": lambda: rnn(cut_every=2),
    "rnn scaled cuts": lambda: rnn(cut_every=1, scale=0.5),
    "rnn 35 steps": lambda: rnn(35),
    "rnn last loss": lambda: rnn(35, only_last=True),
    "lstm": lambda: lstm(cut_every=3),
    "gru": gru,
    "gru cut in 35": lambda: gru(35, cut_every=10),
    "model": lambda: model(cell="lstm", layers=2),
    "model 35 steps": lambda: model(35, cell="gru"),
    "tied, dropout": lambda: model(cell="lstm", layers=2, tied=True, dropout=0.3),
    "model by step": lambda: model(cell="gru", layers=2, by_step=True),
    "tied by step": lambda: model(tied=True, by_step=True),
    "stacked": stacked,
    "bidirectional": bidirectional,
    "two speeds": two_speeds,
    "two losses": two_losses,
    "encoder and decoder": encoder_decoder,
    "masked": masked,
    "learned start": learned_start,
    "stack of losses": stack_of_losses,
}
