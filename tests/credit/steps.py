"""Recurrences that a user might write, each as a step, its parameters, and a state to start from."""

from __future__ import annotations

import numpy as np

import tinygrad_rnn as tr
import tinygrad_rnn.testing.strategies as st
from tinygrad_rnn.engine.tape import slice_of_a_sequence
from tinygrad_rnn.engine.tree import flatten, map_leaves

D = 3
MASK = np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0], [0.0, 0.0, 1.0]])


@tr.primitive()
def doubled_row(a, /):
    """A user's own operation: each row plus twice itself in reverse."""
    return a + 2 * a[..., ::-1]


@doubled_row.rule()
def _(g, y, a):
    return (lambda: g + 2 * np.flip(g, -1),)


class Weights:
    """Parameters of every shape that the steps use, all float64 and none of them zero."""

    def __init__(self, N, seed):
        rng = np.random.default_rng(seed)
        shapes = {"W": (D, D), "V": (D, D), "b": (D,), "r": (1, D), "s": (), "own": (N, D)}
        self.all = {
            name: tr.tensor(rng.standard_normal(shape) / 2, requires_grad=True, name=name)
            for name, shape in shapes.items()
        }
        self.__dict__.update(self.all)


def score(h):
    """A loss in which no two units weigh the same."""
    return sum((np.sin(part) * np.arange(1.0, part.shape[-1] + 1)).sum() for part in flatten(h))


def plain(w, x, h):
    h = tr.tanh(x @ w.W + h @ w.V + w.b)
    return score(h), h


def batch_mean_alone(w, x, h):
    h = tr.tanh(x @ w.W + tr.mean(h, axis=0) @ w.V + w.b)
    return score(h), h


def batch_mean_too(w, x, h):
    h = tr.tanh(x @ w.W + h @ w.V + tr.mean(h, axis=0))
    return score(h), h


def one_tensor_twice(w, x, state):
    h = tr.tanh(x @ w.W + state[1] @ w.V + w.b)
    return score(h), (h, h)


def parameter_as_state(w, x, state):
    h = tr.tanh(x @ w.W + state[0] @ w.V + state[1])
    return score(h) + score(w.b), (h, w.b)


def own_operation(w, x, h):
    h = tr.tanh(x @ w.W + doubled_row(h) * w.b)
    return score(h), h


def masked(w, x, h):
    h = tr.tanh(x @ w.W + h @ (w.V * MASK) + w.b)
    return score(h), h


def mask_of_each_step(w, x, h):
    h = tr.tanh(x @ w.W + h @ (w.V * np.roll(MASK, int(1000 * x[0, 0]), axis=0)))
    return score(h), h


def reversal(w, x, h):
    h = tr.tanh(x @ w.W + h[:, ::-1] * w.b)
    return score(h), h


def order_of_each_step(w, x, h):
    order = np.roll(np.arange(D), int(1000 * x[0, 0]))
    h = tr.tanh(x * w.b + h[:, order] * w.r)
    return score(h), h


def rows_of_parameters(w, x, h):
    h = tr.tanh(x * w.own + h * w.r * w.s)
    return score(h), h


def layer_norm(w, x, h):
    z = h @ w.V
    centred = z - z.mean(axis=1, keepdims=True)
    h = tr.tanh(centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 0.1) * w.b + x @ w.W)
    return score(h), h


def both_states_in_the_loss(w, x, h):
    new = tr.tanh(x @ w.W + h @ w.V + w.b)
    return score(new) + score(h * new) + score(w.b * h), new


def delay_line(w, x, state):
    new = tr.tanh(x @ w.W + state[0] @ w.V + w.b)
    return score(new * state[1]), (state[1], new)


def cut_within(w, x, state):
    h, c = state["h"], state["more"][0]
    c = c * tr.sigmoid(x @ w.W) + h
    h = tr.tanh(c @ w.V) + tr.cut(h) * w.b
    return score(h), {"h": h, "more": [c, 3]}


def product_of_parameters(w, x, h):
    h = tr.tanh(h @ tr.tanh(w.W @ w.V) + x @ w.W.T + w.b)
    return score(h), h


def fast_weights(w, x, M):
    M = M * tr.sigmoid(w.b) + tr.tanh(x @ w.W)[:, :, None] * (x @ w.V)[:, None, :]
    return score((x[:, None, :] @ M)[:, 0]), M


def matrix_state(w, x, M):
    M = tr.tanh(M @ w.V + x[:, None] * w.b)
    return score(M), M


def matrix_state_where_streams_meet(w, x, M):
    M = tr.tanh(M @ w.V + x[:, None] * w.b + tr.mean(M, axis=0))
    return score(M), M


def shift_register(w, x, h):
    h = np.concatenate([h[:, 1:] * w.b[1:], tr.tanh(x @ w.W)[:, :1]], axis=1)
    return score(h), h


def softmax_gate(w, x, h):
    h = tr.tanh(h @ w.V + x @ w.W)
    h = h * tr.softmax(h @ w.V)
    return score(h), h


def column_vectors(w, x, h):
    h = tr.tanh((w.V @ h.T).T + np.einsum("nd,du->nu", x, w.W))
    return score(h), h


def many_axes(w, x, h):
    h = np.cumsum(np.sort(h, axis=1), axis=1) * w.b + np.max(h, axis=1, keepdims=True) + np.tile(h[:, :1], (1, D))
    h = tr.tanh(h.reshape(-1).reshape(x.shape))
    return score(h), h


def follows(w, x, state):
    h, c = state
    c = c * tr.sigmoid(w.b) + tr.tanh(x @ w.W + h @ w.V)
    return score(c), (tr.tanh(c), c)


def follows_in_reverse(w, x, state):
    c, h = state
    c = c * w.b + tr.tanh(x @ w.W + h * w.r)
    h = c[:, ::-1] * tr.sigmoid(h @ w.V)
    return score((c, h)), (c, h)


def a_chain(w, x, state):
    z, v, trace = state
    v = v * w.r + tr.tanh(x @ w.W + z @ w.V)
    z = tr.sigmoid(v * w.b)
    return score((z, trace)), (z, v, z * x + tr.tanh(trace) * w.b)


def from_two_parts(w, x, state):
    a, b, h = state
    a = tr.tanh(a * w.b + x @ w.W)
    b = tr.sigmoid(b @ w.V) + h * w.r
    return score(h), (a, b, a * b * w.r)


def halves(w, x, state):
    c, h = state
    c = np.concatenate([tr.tanh(x @ w.W + h * w.b), h @ w.V], axis=1)
    return score(h), (c, c[:, :D] * c[:, D:])


def follows_at_some_steps(w, x, state):
    h, c = state
    c = c * w.b + tr.tanh(x @ w.W)
    h = tr.tanh(c) * x if x[0, 0] > 0 else h * w.r + x[:, ::-1]
    return score((h, c)), (h, c)


def masked_before_all(w, x, h):
    h = h * (x[:, :1] > 0)  # as where an episode ends
    h = h * w.s + tr.tanh(x @ w.W + h @ w.V)
    return score(h), h


def gates_of_a_stream(w, x, h):
    h = h * tr.sigmoid(h @ w.b)[:, None] + tr.tanh(x @ w.W) * (1 - tr.tanh(w.s))
    return score(h), h


def neighbours(w, x, h):
    h = h * w.s + np.roll(h, 1, axis=1) * w.b[None] + tr.tanh(x @ w.W)
    return score(h), h


def compartments(w, x, M):
    M = M * w.b + tr.tanh(x @ w.W)[:, None] * tr.mean(M, axis=2, keepdims=True)
    return score(tr.tanh(np.sum(M, axis=1))), M


def streams_in_another_order(w, x, h):
    h = tr.tanh(x @ w.W + h[np.arange(len(x))[::-1].copy()] @ w.V)
    return score(h), h


def fast_weights_of_all_streams(w, x, state):
    h, M = state
    h = tr.tanh(x @ w.W + h @ M + M[0] * w.b)
    return score(h), (h, M * tr.sigmoid(w.b) + h.T @ h / len(x))


def _vector(N):
    return np.zeros((N, D))


STEPS = {
    step.__name__.replace("_", " "): (step, state)
    for step, state in [
        (plain, _vector),
        (batch_mean_alone, _vector),
        (batch_mean_too, _vector),
        (one_tensor_twice, lambda N: (_vector(N), _vector(N))),
        (parameter_as_state, lambda N: (_vector(N), np.zeros(D))),
        (own_operation, _vector),
        (masked, _vector),
        (mask_of_each_step, _vector),
        (reversal, _vector),
        (order_of_each_step, _vector),
        (rows_of_parameters, _vector),
        (layer_norm, _vector),
        (both_states_in_the_loss, _vector),
        (delay_line, lambda N: (_vector(N), _vector(N))),
        (cut_within, lambda N: {"h": _vector(N), "more": [_vector(N), 3]}),
        (product_of_parameters, _vector),
        (fast_weights, lambda N: np.zeros((N, D, D))),
        (matrix_state, lambda N: np.zeros((N, 2, D))),
        (matrix_state_where_streams_meet, lambda N: np.zeros((N, 2, D))),
        (shift_register, _vector),
        (softmax_gate, _vector),
        (column_vectors, _vector),
        (many_axes, _vector),
        (follows, lambda N: (_vector(N), _vector(N))),
        (follows_in_reverse, lambda N: (_vector(N), _vector(N))),
        (a_chain, lambda N: (_vector(N), _vector(N), _vector(N))),
        (from_two_parts, lambda N: (_vector(N), _vector(N), _vector(N))),
        (halves, lambda N: (np.zeros((N, 2 * D)), _vector(N))),
        (follows_at_some_steps, lambda N: (_vector(N), _vector(N))),
        (masked_before_all, _vector),
        (gates_of_a_stream, _vector),
        (neighbours, _vector),
        (compartments, lambda N: np.zeros((N, 2, D))),
        (streams_in_another_order, _vector),
        (fast_weights_of_all_streams, lambda N: (_vector(N), np.zeros((D, D)))),
    ]
}


def recurrence(name, N, T, seed):
    """Return what the driver takes of one of `STEPS`: step, parameters, inputs (N, T, D), state; all drawn."""
    one, zeros = STEPS[name]
    weights, rng = Weights(N, seed), np.random.default_rng(seed + 1)

    def step(xs, state):
        total = 0.0
        for t in range(xs.shape[1]):
            loss, state = one(weights, xs[:, t], state)
            total = total + loss
        return total, state

    state = map_leaves(lambda part: part if isinstance(part, int) else rng.standard_normal(part.shape), zeros(N))
    return step, weights.all, rng.standard_normal((N, T, D)), state


def of_cell(cell, N, T, seed):
    """Return what the driver takes of a cell."""
    rng = np.random.default_rng(seed)

    def step(xs, state):
        outputs, state = tr.unroll(cell, xs, state)
        return score(outputs), state

    state = map_leaves(lambda part: rng.standard_normal(np.shape(part)), cell.initial_state(N))
    return step, cell.parameters(), rng.standard_normal((N, T, cell.input_size)), state


def an_lstm(N, T, H):
    """Return what the driver takes of an LSTM whose loss is a weighted sum: inputs are (xs, weights)."""
    rng = np.random.default_rng(1)
    cell = st.with_noise(tr.LSTMCell(2, H, rng, dtype=np.float64), 2)

    def step(inputs, state):
        outputs, state = tr.unroll(cell, inputs[0], state)
        return (outputs * inputs[1]).sum(), state

    inputs = rng.standard_normal((N, T, 2)), rng.standard_normal((N, T, H))
    return step, cell.parameters(), inputs, cell.initial_state(N)


def recorded(step, parameters, inputs, state):
    """Return the parts of the state, as leaves, and what one step makes of them."""
    leaves = map_leaves(
        lambda part: tr.tensor(part, requires_grad=True) if isinstance(part, np.ndarray) else part, state
    )
    with slice_of_a_sequence():
        _, after = step(inputs[:, :1], leaves)
    before = [part for part in flatten(leaves) if isinstance(part, tr.Tensor)]
    return before, [part for part in flatten(after) if isinstance(part, tr.Tensor)]


def assert_same_gradients(found, expected, tolerance=1e-12):
    """Compare two updates, each entry within `tolerance` of the largest of its parameter."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        scale = max(1.0, float(np.max(np.abs(value), initial=0)))
        np.testing.assert_allclose(found[name], value, rtol=0, atol=tolerance * scale, err_msg=name)
