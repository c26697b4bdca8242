"""Loops that are written in Python become loops of the graph, and the graph computes the same."""

import numpy as np
import pytest
from replay import assert_replays, record, rolled

import tinygrad_rnn as tr
from tinygrad_rnn.compiler.passes.rolling.roll import roll

N, D, H = 2, 3, 4


def normal(*shape, seed=0, dtype=np.float64):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def leaf(*shape, seed=0):
    return tr.tensor(normal(*shape, seed=seed) / 2, requires_grad=True)


Wx, Wh, U, b, leak, E = leaf(D, H), leaf(H, H, seed=1), leaf(H, H, seed=2), leaf(H), leaf(H, seed=3), leaf(7, D, seed=4)
V = leaf(D, D, seed=5)
drop = tr.Dropout(0.3)


def loops(graph):
    """Return (steps, whether in reverse) of the loops of a graph."""
    bodies = [call.attrs["body"] for call in graph.calls if call.name == "loop"]
    return [(body.steps, body.reverse) for body in bodies]


# -- loops as they are written ----------------------------------------------------------------------------------------


def cell(x, h):
    return np.tanh(x @ Wx + h @ Wh + b)


def outputs(xs):
    h, hs = np.zeros((N, H)), []
    for t in range(xs.shape[1]):
        h = cell(xs[:, t], h)
        hs.append(h)
    loss = np.sum(np.stack(hs, axis=1) ** 2)
    return loss, tr.grad(loss, [Wx, Wh, b])


def last_state(xs):
    h = np.zeros((N, H))
    for x in np.unstack(xs, axis=1):
        h = cell(x, h)
    loss = np.sum(h * h)
    return loss, tr.grad(loss, [Wx, Wh, b])


def no_initial_state(xs):
    h, hs = None, []
    for t in range(xs.shape[1]):
        a = xs[:, t] @ Wx
        h = np.tanh(a + b if h is None else a + h @ Wh + b)
        hs.append(h)
    loss = np.sum(np.stack(hs) ** 2)
    return loss, tr.grad(loss, [Wx, Wh, b])


def running_loss(xs):
    h, total = np.zeros((N, H)), 0
    for t in range(xs.shape[1]):
        h = cell(xs[:, t], h)
        total = total + np.sum((h @ U) ** 2) * 0.9**t
    return total, tr.grad(total, [Wx, Wh, b, U])


def list_of_losses(xs):
    h, losses = np.zeros((N, H)), []
    for t in range(xs.shape[1]):
        h = cell(xs[:, t], h)
        losses.append(np.mean(h @ U))
    total = np.mean(np.stack(losses))
    return total, tr.grad(total, [Wx, Wh, b, U])


def gated(xs):
    h, hs = np.zeros((N, H)), []
    for t in range(xs.shape[1]):
        z = tr.sigmoid(xs[:, t] @ Wx + h @ Wh)
        h = (1 - z) * h + z * np.tanh(xs[:, t] @ Wx + (z * h) @ U)
        hs.append(h)
    loss = np.sum(np.stack(hs, axis=1) ** 2)
    return loss, h, tr.grad(loss, [Wx, Wh, U])


def two_steps_back(xs):
    h = before = np.zeros((N, H))
    hs = []
    for t in range(xs.shape[1]):
        h, before = np.tanh(xs[:, t] @ Wx + h @ Wh + before @ U), h
        hs.append(h)
    loss = np.sum(np.stack(hs, axis=1) ** 2)
    return loss, tr.grad(loss, [Wx, Wh, U])


def two_layers(xs):
    h = k = np.zeros((N, H))
    ks = []
    for t in range(xs.shape[1]):
        h = cell(xs[:, t], h)
        k = np.tanh(h @ U + k @ Wh)
        ks.append(k)
    loss = np.sum(np.stack(ks, axis=1) ** 2)
    return loss, tr.grad(loss, [Wx, Wh, U])


def layer_after_layer(xs):
    h, k, hs, ks = np.zeros((N, H)), np.zeros((N, H)), [], []
    for t in range(xs.shape[1]):
        h = cell(xs[:, t], h)
        hs.append(h)
    for h in hs:
        k = np.tanh(h @ U + k @ Wh)
        ks.append(k)
    loss = np.sum(np.stack(ks, axis=1) ** 2)
    return loss, tr.grad(loss, [Wx, Wh, U])


def from_the_end(xs):
    h, hs = np.zeros((N, H)), []
    for t in reversed(range(xs.shape[1])):
        h = cell(xs[:, t], h)
        hs.append(h)
    loss = np.sum(np.stack(hs[::-1], axis=1) ** 2)
    return loss, tr.grad(loss, [Wx, Wh])


def input_before(xs):
    h, before = np.zeros((N, H)), np.zeros((N, D))
    for t in range(xs.shape[1]):
        h = np.tanh(xs[:, t] @ Wx + before @ Wx + h @ Wh)
        before = xs[:, t]
    loss = np.sum(h**2)
    return loss, tr.grad(loss, [Wx, Wh])


def lookups(xs):
    ids = np.random.default_rng(0).integers(0, 4, (N, xs.shape[1] + 1))
    h, total = np.zeros((N, H)), 0.0
    for t in range(xs.shape[1]):
        h = cell(tr.take(E, ids[:, t], axis=0), h)
        total = total + tr.cross_entropy(h, ids[:, t + 1])
    return total, tr.grad(total, [E, Wx, Wh])


def masked(xs):
    mask = np.random.default_rng(0).random((N, xs.shape[1])) > 0.4
    h = np.zeros((N, H))
    for t in range(xs.shape[1]):
        h = np.where(mask[:, t, None], cell(xs[:, t], h), h)
    loss = np.sum(h * h)
    return loss, tr.grad(loss, [Wx, Wh])


def gradient_of_inputs(xs):
    h, hs, ys = np.zeros((N, H)), [], xs @ V
    for t in range(xs.shape[1]):
        h = cell(ys[:, t], h)
        hs.append(h)
    loss = np.sum(np.stack(hs, axis=1) ** 2)
    return loss, tr.grad(loss, [Wx, V])


BOTH = [(6, False), (6, True)]
CASES = {
    outputs: BOTH,
    last_state: BOTH,
    no_initial_state: BOTH,
    running_loss: BOTH,
    list_of_losses: BOTH,
    gated: BOTH,
    two_steps_back: BOTH,
    two_layers: BOTH,
    layer_after_layer: [(6, False), (6, False), (6, True), (6, True)],
    from_the_end: [(6, True), (6, False)],
    input_before: BOTH,
    lookups: BOTH,
    masked: BOTH,
    gradient_of_inputs: BOTH,
}


@pytest.mark.parametrize(("f", "expected"), CASES.items(), ids=[f.__name__ for f in CASES])
def test_a_loop_in_python_is_one_loop_in_each_direction(f, expected):
    graph = rolled(f, normal(N, 6, D))
    assert loops(graph) == expected
    assert len(graph.calls) <= 24  # none of a step of its own
    assert not {call.name for call in graph.calls} & {"unstack", "stack", "scatter", "getitem"}


@pytest.mark.sample(5)
@pytest.mark.parametrize("f", CASES, ids=lambda f: f.__name__)
def test_a_graph_does_not_grow_with_the_steps(f):
    assert len({len(rolled(f, normal(N, T, D)).calls) for T in (6, 7, 12)}) == 1


@pytest.mark.sample(5)
@pytest.mark.parametrize("f", CASES, ids=lambda f: f.__name__)
def test_any_number_of_steps(f):
    for T in range(2, 6):
        graph = rolled(f, normal(N, T, D))
        assert len(graph.calls) == len(roll(graph).calls)


def test_each_step_is_a_draw_of_its_own():
    def f(xs, rng):
        h, hs = np.zeros((N, H)), []
        for t in range(xs.shape[1]):
            h = cell(drop(xs[:, t], rng), h)
            hs.append(drop(h, rng))
        loss = np.sum(np.stack(hs, axis=1) ** 2)
        return loss, tr.grad(loss, [Wx, Wh])

    args = normal(N, 6, D), np.random.default_rng(0)
    graph = rolled(f, *args)
    assert loops(graph) == BOTH
    assert [call.operator.pure for call in graph.calls if call.name == "loop"] == [False, True]
    assert_replays(f, args)


def test_arrays_in_a_list_are_stacked():
    def f(*xs):
        h, hs = np.zeros((N, H)), []
        for x in xs:
            h = cell(x, h)
            hs.append(h)
        loss = np.sum(np.stack(hs, axis=1) ** 2)
        return loss, tr.grad(loss, [Wx, Wh])

    assert loops(rolled(f, *(normal(N, D, seed=seed) for seed in range(6)))) == BOTH


def test_gradients_of_gradients():
    def f(xs):
        h = np.zeros((N, H))
        for t in range(xs.shape[1]):
            h = cell(xs[:, t], h)
        first = tr.grad(np.sum(h**2), [Wx, Wh], create_graph=True)
        return tr.grad(sum(np.sum(g * g) for g in first), [Wx, Wh])

    assert len(loops(rolled(f, normal(N, 8, D)))) == 4


def test_a_step_that_differs_stays_outside():
    def f(xs):
        h = np.zeros((N, H))
        for t in range(xs.shape[1]):
            h = cell(xs[:, t], h)
            if t == 5:
                h = h * 2
        return h

    graph = rolled(f, normal(N, 12, D))
    assert [steps for steps, _ in loops(graph)] == [6, 6]


@pytest.mark.parametrize("k", [2, 3, 5])
def test_with_a_cut_every_few_steps_the_backward_loop_has_a_body_of_several(k):
    def f(xs):
        h, hs = np.zeros((N, H)), []
        for t in range(xs.shape[1]):
            h = cell(xs[:, t], tr.cut(h) if t and t % k == 0 else h)
            hs.append(h)
        loss = np.sum(np.stack(hs, axis=1) ** 2)
        return loss, tr.grad(loss, [Wx, Wh, b])

    graphs = [rolled(f, normal(N, k * times, D)) for times in (4, 5, 12)]
    assert [loops(graph) for graph in graphs] == [[(k * times, False), (times, True)] for times in (4, 5, 12)]
    assert len({len(graph.calls) for graph in graphs}) == 1


# -- what is no loop --------------------------------------------------------------------------------------------------


def same_for_each(*params):
    return [p - 0.1 * np.tanh(p * p) for p in params]


def norm(*params):
    total = 0.0
    for p in params:
        total = total + np.sum(p * p)
    return np.sqrt(total)


def layers(x, *weights):
    for W in weights:
        x = np.tanh(x @ W)
    return x


def growing(xs):
    hs = [xs[:, 0]]
    for _ in range(6):
        hs.append(np.tanh(np.sum(np.stack(hs), axis=0)))
    return hs[-1]


LEFT_ALONE = {
    "a rule for each of several parameters": (same_for_each, [normal(H, H, seed=seed) for seed in range(6)]),
    "a norm of several parameters": (norm, [normal(H, H, seed=seed) for seed in range(6)]),
    "weights of their own at each step": (layers, [normal(N, H), *(normal(H, H, seed=seed) for seed in range(6))]),
    "a step that reads all before it": (growing, [normal(N, 3, D)]),
    "few steps": (outputs, [normal(N, 3, D)]),
}


@pytest.mark.parametrize(("f", "args"), LEFT_ALONE.values(), ids=LEFT_ALONE.keys())
def test_what_is_left_alone(f, args):
    recorded = record(f, *args)
    calls = list(recorded.graph.calls)
    assert roll(recorded.graph).calls == calls
    assert loops(rolled(f, *args)) == []


def test_draws_between_steps_keep_their_order():
    def f(xs, rng):
        h, kept = np.zeros((N, H)), []
        for t in range(xs.shape[1]):
            h = cell(xs[:, t], drop(h, rng))
            if t % 2:
                kept.append(drop(xs[:, t], rng))
        return h, kept

    rolled(f, normal(N, 9, D), np.random.default_rng(0))
