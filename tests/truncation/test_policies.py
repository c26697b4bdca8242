"""Every policy, every cell: gradient == sum of M * C with untied copies of the parameters. And the laws."""

import copy
import itertools
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import relative_error

import tinygrad_rnn as tr
from tinygrad_rnn import handwritten
from tinygrad_rnn.engine.tree import flatten, map_leaves
from tinygrad_rnn.engine.walk import ancestors

seeds = st.integers(0, 2**32 - 1)


class UsersCell(tr.Module):
    """A cell with a nested state in which a counter travels."""

    def __init__(self, input_size, hidden_size, rng, dtype=np.float64):
        self.W = tr.tensor(rng.standard_normal((input_size, hidden_size)), dtype, requires_grad=True)
        self.a = tr.tensor(rng.standard_normal(hidden_size), dtype, requires_grad=True)

    def initial_state(self, batch_size):
        return {"h": np.zeros((batch_size, len(self.a))), "steps": 0}

    def __call__(self, x, state):
        h = np.tanh(x @ self.W + self.a * state["h"])
        return h, {"h": h, "steps": state["steps"] + 1}


CELLS = {
    "rnn": tr.RNNCell,
    "lstm": tr.LSTMCell,
    "gru": tr.GRUCell,
    "user": UsersCell,
    "two layers": lambda D, H, rng, dtype: tr.Stacked([tr.LSTMCell(D, H, rng, dtype), tr.RNNCell(H, H, rng, dtype)]),
}


@st.composite
def policies(draw):
    n, h = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    every = draw(st.sampled_from([None, n]))
    return draw(
        st.sampled_from(
            [
                tr.Full(every),
                tr.Chunked(n),
                tr.Windowed(max(n, h), min(n, h)),
                tr.Decay(draw(st.sampled_from([0.0, 0.5, 0.9, 1.0])), every),
                tr.Checkpointed(h, every),
                tr.Checkpointed(every=every, states=h),
                tr.Checkpointed(2, every, states=h),
                tr.Randomized(c=0.3, rng=n, every=every),
                tr.Randomized(mean_length=3.0, rng=n, every=every),
            ]
        )
    )


def make(name, seed, N, T, D=2, H=3):
    """Return a cell with random weights, inputs, weights of the losses, and a first state."""
    rng = np.random.default_rng(seed)
    cell = CELLS[name](D, H, rng, np.float64)
    cell.load({key: 0.5 * rng.standard_normal(p.shape) for key, p in cell.parameters().items()})
    xs, es = rng.standard_normal((N, T, D)), rng.standard_normal((N, T, H))
    es[:, rng.random(T) < 0.3] = 0  # not every step has a loss
    state = map_leaves(lambda h: h if isinstance(h, int) else rng.standard_normal(h.shape), cell.initial_state(N))
    return cell, xs, es, state


def step_of(cell):
    def step(inputs, state):
        xs, es = inputs
        outputs, state = tr.unroll(cell, xs, state)
        return np.sum(outputs * es), state

    return step


def credits(cell, xs, es, state):
    """Return C as a list over tau of lists over t of name-to-gradient, from T copies of the cell."""
    T = xs.shape[1]
    copies = [copy.deepcopy(cell) for _ in range(T)]
    losses = []
    for t in range(T):
        output, state = copies[t](xs[:, t], state)
        losses.append(np.sum(output * es[:, t]))
    return [
        [tr.grad(loss, c.parameters(), allow_unused=True) for c in copies[: tau + 1]] for tau, loss in enumerate(losses)
    ]


@pytest.mark.sample(3)
@pytest.mark.parametrize("name", CELLS)
@given(policy=policies(), N=st.integers(1, 3), T=st.integers(1, 7), seed=seeds)
def test_gradient_is_the_sum_of_mask_times_credit(name, policy, N, T, seed):
    cell, xs, es, state = make(name, seed, N, T)
    # A random policy draws anew for each sequence: a copy of it draws the same.
    M = copy.deepcopy(policy).mask(T)
    found = tr.bptt(step_of(cell), cell.parameters(), (xs, es), state, policy)
    C = credits(cell, xs, es, state)
    for key, p in cell.parameters().items():
        expected = sum((M[tau, t] * C[tau][t][key] for tau in range(T) for t in range(tau + 1)), np.zeros(p.shape))
        assert relative_error(found.gradients[key], expected) < 1e-12, key


@pytest.mark.sample(2)
@pytest.mark.parametrize("name", CELLS)
@given(policy=policies(), seed=seeds, T=st.integers(1, 8), cuts=st.lists(st.integers(1, 7), max_size=3))
def test_a_stream_of_windows_of_any_length_is_the_same_sequence(name, policy, seed, T, cuts):
    cell, xs, es, state = make(name, seed, 2, T)
    whole = tr.bptt(step_of(cell), cell.parameters(), (xs, es), state, copy.deepcopy(policy))
    borders = sorted({0, T, *(c for c in cuts if c < T)})
    windows = ((xs[:, a:b], es[:, a:b]) for a, b in itertools.pairwise(borders))
    updates = list(tr.stream(step_of(cell), cell.parameters(), windows, state, policy))
    assert updates[-1].end == T
    for key in cell.parameters():
        assert relative_error(sum(u.gradients[key] for u in updates), whole.gradients[key]) < 1e-12
    for ours, theirs in zip(flatten(updates[-1].state), flatten(whole.state), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@given(policy=policies(), seed=seeds, T=st.integers(1, 8), name=st.sampled_from(sorted(CELLS)))
def test_losses_and_states_are_bitwise_the_same_under_every_policy(policy, seed, T, name):
    cell, xs, es, state = make(name, seed, 2, T)

    def step(inputs, state):  # a loss for each step, added up in Python: nothing depends on the segments
        xs, es = inputs
        total = None
        for t in range(xs.shape[1]):
            output, state = cell(xs[:, t], state)
            seen.append(np.sum(output.data * es[:, t]))
            loss = np.sum(output * es[:, t])
            total = loss if total is None else total + loss
        return total, state

    seen = []
    full = tr.bptt(step, cell.parameters(), (xs, es), state, tr.Full())
    plain, seen[:] = list(seen), []
    other = tr.bptt(step, cell.parameters(), (xs, es), state, policy)
    assert seen[:T] == plain
    for a, b in zip(flatten(full.state), flatten(other.state), strict=True):
        np.testing.assert_array_equal(a, b)


@given(n=st.integers(1, 6), T=st.integers(1, 9), h=st.integers(1, 12))
def test_laws_of_the_masks(n, T, h):
    full, chunked = tr.Full().mask(T), tr.Chunked(n).mask(T)
    assert (full == np.tril(np.ones((T, T)))).all()
    assert (tr.Windowed(n, every=n).mask(T) == chunked).all()
    assert (tr.Full(every=n).mask(T) == chunked).all()
    assert (tr.Windowed(max(h, T)).mask(T) == full).all()
    assert (tr.Decay(0.0).mask(T) == tr.Chunked(1).mask(T)).all()
    assert (tr.Decay(1.0).mask(T) == full).all()
    assert (tr.Randomized(c=0.0).mask(T) == full).all()
    assert (tr.Checkpointed(n).mask(T) == full).all()
    assert (tr.Checkpointed(states=n).mask(T) == full).all()
    tau, t = np.indices((T, T))
    lower = t <= tau
    assert (chunked == (lower & (tau // n == t // n))).all()
    assert (tr.Windowed(h).mask(T) == (lower & (tau - t < h))).all()
    if n <= h:
        s = -(-(tau + 1) // n) * n
        assert (tr.Windowed(h, every=n).mask(T) == (lower & (t + 1 > s - h))).all()
    assert np.array_equal(tr.Decay(0.5).mask(T), np.where(lower, 0.5 ** (tau - t), 0))


@given(n=st.integers(1, 5), windows=st.integers(1, 3), seed=seeds, name=st.sampled_from(["rnn", "lstm", "gru"]))
def test_chunked_equals_the_hand_written_backward_over_the_same_windows(n, windows, seed, name):
    cell, xs, es, _ = make(name, seed, 2, n * windows)
    layer = {"rnn": handwritten.TimeRNN, "lstm": handwritten.TimeLSTM, "gru": handwritten.TimeGRU}[name]
    by_hand = layer(*(p.data.copy() for p in cell.parameters().values()), stateful=True)
    updates = tr.stream(step_of(cell), cell.parameters(), [(xs, es)], cell.initial_state(2), tr.Chunked(n))
    for number, update in enumerate(updates):
        window = slice(number * n, (number + 1) * n)
        by_hand.forward(xs[:, window])
        by_hand.backward(es[:, window])
        for ours, theirs in zip(update.gradients.values(), by_hand.grads, strict=True):
            assert relative_error(ours, theirs) < 1e-12
    assert update.end == n * windows


def test_updates_between_overlapping_windows_use_the_values_that_were_recorded():
    """h_t = w h_{t-1}, loss h_2 at the end; w is updated after the first step. d(w0 * w1 * h0): 42, not 29.6."""
    w = tr.tensor(2.0, requires_grad=True)

    def step(xs, h):
        h = h * w
        return (h * xs[:, 0]).sum(), h

    run = tr.Recurrence(step, {"w": w}, tr.Windowed(2), np.full(1, 3.0))
    (first,) = run.feed(np.ones((1, 1)))
    assert first.gradients["w"] == 3
    w.data = 12.0
    (second,) = run.feed(np.ones((1, 1)))
    # use 1: dl/dw = h_1 = 6; use 0: dl/dh_1 * h_0 = 12 * 3 = 36, with the new w as the factor of the new step
    assert second.gradients["w"] == 42
    assert second.state == 72


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("policy", "most"),
    [(tr.Chunked(5), 5), (tr.Windowed(6, every=2), 8), (tr.Windowed(4), 5), (tr.Adaptive(0.1, 6, every=2), 8)],
    ids=repr,
)
def test_no_more_steps_are_alive_than_stated(no_collector, policy, most):
    cell, xs, es, state = make("lstm", 0, 2, 60)
    nodes = []

    def step(inputs, state):
        loss, after = step_of(cell)(inputs, state)
        nodes.append((inputs[0].shape[1], weakref.ref(loss.node)))
        alive.append(sum(length for length, node in nodes if node() is not None))
        return loss, after

    alive = []
    assert not list(tr.stream(step, cell.parameters(), [], state, policy))
    run = tr.Recurrence(step, cell.parameters(), policy, state)
    for t in range(60):
        for _ in run.feed((xs[:, t : t + 1], es[:, t : t + 1])):
            pass
    assert max(alive) <= most
    assert run.alive_steps <= most


def test_checkpointed_keeps_no_graph_and_recomputes_once(no_collector):
    cell, xs, es, state = make("lstm", 0, 2, 12)
    nodes, calls = [], []

    def step(inputs, before):
        loss, after = step_of(cell)(inputs, before)
        nodes.extend(weakref.ref(node) for node in ancestors([loss.node]) if node.operation is not None)
        calls.append(sum(node() is not None for node in nodes))
        return loss, after

    tr.bptt(step, cell.parameters(), (xs, es), state, tr.Checkpointed(3))
    assert len(calls) == 7  # the graph of the last segment is still there when the pass begins
    assert max(calls) <= 2 * calls[0]


def test_recomputation_draws_the_same_dropout():
    cell, xs, es, state = make("gru", 0, 2, 9)
    drop, gradients = tr.Dropout(0.5), []
    for policy in (tr.Full(every=9), tr.Checkpointed(9)):
        rng = np.random.default_rng(3)

        def step(inputs, state, rng=rng):
            outputs, state = tr.unroll(cell, inputs[0], state)
            return np.sum(drop(outputs, rng) * inputs[1]), state

        found = tr.bptt(step, cell.parameters(), (xs, es), state, policy, rng=rng)
        gradients.append((found.gradients["Wh"], rng.random()))
    np.testing.assert_allclose(gradients[0][0], gradients[1][0], rtol=1e-13, atol=1e-14)
    assert gradients[0][1] == gradients[1][1]


def test_a_reduction_over_time_that_crosses_windows_goes_into_the_state():
    """Max-pooling over all steps, carried as a running maximum: right under recomputation in segments."""
    cell, xs, _, state = make("rnn", 0, 2, 8)
    last = np.zeros((2, 8))
    last[:, -1] = 1

    def step(inputs, carried):
        xs, is_last = inputs
        h, highest = carried
        for t in range(xs.shape[1]):
            output, h = cell(xs[:, t], h)
            highest = np.maximum(highest, output)
        return (np.sum(highest) if is_last[0, -1] else None), (h, highest)

    start = (state, np.full((2, 3), -1.0))
    outputs, _ = tr.unroll(cell, xs, state)
    expected = tr.grad(np.sum(np.max(outputs, axis=1)), cell.parameters())
    for policy in (tr.Full(), tr.Checkpointed(3), tr.Windowed(8)):
        found = tr.bptt(step, cell.parameters(), (xs, last), start, policy)
        for key in expected:
            assert relative_error(found.gradients[key], expected[key]) < 1e-12


@pytest.mark.sample(2)
@pytest.mark.parametrize("name", CELLS)
@given(every=st.integers(1, 3), seed=seeds, T=st.integers(1, 9))
def test_adaptive_is_the_mask_of_the_windows_that_it_chose(name, every, seed, T):
    class Logged(tr.Adaptive):
        def observe(self, end, begin, norms):
            chosen.append((begin, end, self.window))
            super().observe(end, begin, norms)

    cell, xs, es, state = make(name, seed, 2, T)
    chosen = []
    policy = Logged(0.5, max_window=8, every=every)
    found = tr.bptt(step_of(cell), cell.parameters(), (xs, es), state, policy)
    M = np.zeros((T, T))
    for begin, end, window in chosen:
        M[begin:end] = tr.Windowed(window, every=every).mask(T)[begin:end]
    C = credits(cell, xs, es, state)
    for key, p in cell.parameters().items():
        expected = sum((M[tau, t] * C[tau][t][key] for tau in range(T) for t in range(tau + 1)), np.zeros(p.shape))
        assert relative_error(found.gradients[key], expected) < 1e-12, key


def test_two_directions_only_where_the_sequence_stays_whole():
    rng = np.random.default_rng(0)
    ahead, back = tr.RNNCell(2, 3, rng, np.float64), tr.RNNCell(2, 3, rng, np.float64)
    xs = rng.standard_normal((2, 5, 2))

    def step(xs, state):
        outputs, state = tr.bidirectional(ahead, back, xs, state)
        return np.sum(outputs * outputs), state

    start = (ahead.initial_state(2), back.initial_state(2))
    outputs, _ = tr.bidirectional(ahead, back, xs, start)
    expected = tr.grad(np.sum(outputs * outputs), back.Wh)
    np.testing.assert_array_equal(tr.bptt(step, {"Wh": back.Wh}, xs, start, tr.Full()).gradients["Wh"], expected)
    for policy in (tr.Chunked(2), tr.Windowed(3), tr.Decay(0.5), tr.Checkpointed(2), tr.Full(every=3)):
        with pytest.raises(tr.ConfigError, match="the backward cell starts at the end of the whole sequence"):
            tr.bptt(step, {"Wh": back.Wh}, xs, start, policy)


def test_adaptive_widens_where_the_cotangent_lasts_and_narrows_where_it_fades():
    rng = np.random.default_rng(0)
    windows = {}
    for radius in (0.2, 0.98):
        cell = tr.RNNCell(2, 16, rng, np.float64)
        orthogonal, _ = np.linalg.qr(rng.standard_normal((16, 16)))
        cell.Wh.data = radius * orthogonal
        policy = tr.Adaptive(0.05, max_window=64, every=4, window=16)
        xs, es = 0.01 * rng.standard_normal((2, 200, 2)), rng.standard_normal((2, 200, 16))
        tr.bptt(step_of(cell), cell.parameters(), (xs, es), cell.initial_state(2), policy)
        windows[radius] = policy.window
    assert windows[0.2] <= 8
    assert windows[0.98] == 64


class Fading(tr.Policy):
    """A policy without a reach: every loss has a pass of its own, through all that came before."""

    every = grain = 1

    def scale(self, edge, end):
        return 0.5


def test_without_a_reach_nothing_is_forgotten():
    w = tr.tensor(2.0, requires_grad=True)

    def step(xs, h):
        h = h * w + xs[:, 0]
        return h.sum(), h

    untied = [tr.tensor(2.0, requires_grad=True) for _ in range(5)]
    h, credits = np.zeros(1), np.zeros((5, 5))
    for t, use in enumerate(untied):
        h = h * use + 1.0
        credits[t, : t + 1] = tr.grad(h.sum(), untied[: t + 1])
    found = tr.bptt(step, {"w": w}, np.ones((1, 5)), np.zeros(1), Fading())
    assert found.gradients["w"] == np.sum(Fading().mask(5) * credits)
