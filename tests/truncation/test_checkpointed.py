"""Checkpointed under a limit: the fewest calls of the step, no more states than allowed, the same gradient as Full."""

import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import relative_error

import tinygrad_rnn as tr
from tinygrad_rnn.engine.tree import flatten, map_leaves
from tinygrad_rnn.truncation.binomial import advances

seeds = st.integers(0, 2**32 - 1)
limits = st.integers(1, 5)


def scalar():
    """h_t = w h_{t-1} + x_t, a loss at each step; the numbers of steps of each call are listed."""
    w, calls = tr.tensor(0.9, requires_grad=True), []

    def step(xs, h):
        calls.append(xs.shape[1])
        total = 0.0
        for t in range(xs.shape[1]):
            h = h * w + xs[:, t]
            total = total + h.sum()
        return total, h

    return {"w": w}, step, calls


@pytest.mark.parametrize("states", [1, 2, 3, 5, 8, 20, 200])
@pytest.mark.parametrize("T", [1, 2, 3, 7, 20, 57, 100])
def test_a_sequence_fed_at_once_takes_the_fewest_calls(T, states):
    parameters, step, calls = scalar()
    xs = np.random.default_rng(0).standard_normal((2, T))
    found = tr.bptt(step, parameters, xs, np.ones(2), tr.Checkpointed(states=states))
    assert calls == [1] * (T + advances(T, states))
    full = tr.bptt(step, parameters, xs, np.ones(2), tr.Full())
    assert relative_error(found.gradients["w"], full.gradients["w"]) < 1e-12


@pytest.mark.nightly
def test_2000_steps_take_the_fewest_calls():
    test_a_sequence_fed_at_once_takes_the_fewest_calls(2000, 4)
    test_a_sequence_fed_at_once_takes_the_fewest_calls(2000, 20)


@given(every=st.integers(1, 30), window=st.integers(1, 40), states=limits)
def test_passes_at_known_steps_take_the_fewest_calls_whatever_the_windows(every, window, states):
    parameters, step, calls = scalar()
    windows = (np.ones((1, min(window, 70 - start))) for start in range(0, 70, window))
    updates = list(tr.stream(step, parameters, windows, np.ones(1), tr.Checkpointed(states=states, every=every)))
    whole, rest = divmod(70, every)
    assert len(updates) == whole + (rest > 0)
    expected = whole * (every + advances(every, states))
    if not rest:
        assert len(calls) == expected
    else:  # the last pass comes before it was due
        assert len(calls) >= expected + rest + advances(rest, states)


@pytest.mark.parametrize("segment", [1, 4, 7])
def test_segments_of_several_steps(segment):
    parameters, step, calls = scalar()
    tr.bptt(step, parameters, np.ones((1, 45)), np.ones(1), tr.Checkpointed(segment, states=3))
    n = -(-45 // segment)
    assert len(calls) == n + advances(n, 3)
    assert set(calls) == {segment, 45 % segment or segment}


@pytest.mark.sample(10)
@pytest.mark.parametrize("window", [1, 3, 10, 100])
@pytest.mark.parametrize("states", [1, 2, 3, 5, 20])
@pytest.mark.parametrize("T", [7, 22, 60])
def test_a_stream_of_unknown_length_takes_few_calls_more(T, states, window):
    parameters, step, calls = scalar()
    windows = (np.ones((1, min(window, T - start))) for start in range(0, T, window))
    (update,) = tr.stream(step, parameters, windows, np.ones(1), tr.Checkpointed(states=states))
    best = T + advances(T, states)
    assert best <= len(calls) <= 1.2 * best
    full = tr.bptt(step, parameters, np.ones((1, T)), np.ones(1), tr.Full())
    assert relative_error(update.gradients["w"], full.gradients["w"]) < 1e-12


@pytest.mark.sample(1)
@pytest.mark.parametrize("window", [1, pytest.param(50, marks=pytest.mark.nightly), 300])
@pytest.mark.parametrize("states", [2, pytest.param(6, marks=pytest.mark.nightly)])
def test_no_more_states_and_one_graph_are_held(no_collector, states, window):
    w, made = tr.tensor(np.eye(3), requires_grad=True), []

    def step(xs, h):
        h = np.tanh(h @ w + xs[:, 0])
        made.append(weakref.ref(h.data))
        alive.append(sum(ref() is not None for ref in made))
        made[:] = [ref for ref in made if ref() is not None]
        return h.sum(), h

    alive, xs = [], np.random.default_rng(0).standard_normal((1, 300, 3))
    run = tr.Recurrence(step, {"w": w}, tr.Checkpointed(states=states), np.zeros((1, 3)))
    for start in range(0, 300, window):
        assert not list(run.feed(xs[:, start : start + window]))
        assert run.alive_steps <= states
    run.finish()
    # the first state is not counted; besides those kept: the one before the step and the one that it makes, and the
    # newest of the sequence
    assert max(alive) <= states - 1 + 3
    assert run.alive_steps == 0


@pytest.mark.nightly
def test_100000_steps_with_20_states(no_collector):
    test_no_more_states_and_one_graph_are_held(no_collector, 20, 300)
    parameters, step, calls = scalar()
    tr.bptt(step, parameters, np.ones((1, 100_000)), np.ones(1), tr.Checkpointed(states=20))
    assert len(calls) == 100_000 + 534_220


CELLS = {
    "rnn": tr.RNNCell,
    "lstm": tr.LSTMCell,
    "peephole lstm": tr.PeepholeLSTMCell,
    "coupled lstm": tr.CoupledLSTMCell,
    "layer-norm lstm": tr.LayerNormLSTMCell,
    "gru": tr.GRUCell,
    "indrnn": tr.IndRNNCell,
    "mingru": tr.MinGRUCell,
    "minlstm": tr.MinLSTMCell,
    "lru": tr.LRUCell,
    "nested": lambda D, H, rng, dtype: tr.Stacked(
        [tr.LSTMCell(D, H, rng, dtype), tr.Stacked([tr.GRUCell(H, 2, rng, dtype), tr.LSTMCell(2, H, rng, dtype)])]
    ),
}


def noisy(name, seed, N=2, T=12):
    rng = np.random.default_rng(seed)
    cell = CELLS[name](2, 3, rng, np.float64)
    xs, es = rng.standard_normal((N, T, 2)), rng.standard_normal((N, T, 3))
    return cell, xs, es, cell.initial_state(N)


@pytest.mark.sample(12)
@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize(
    "policy",
    [tr.Checkpointed(states=2), tr.Checkpointed(2, every=5, states=2), tr.Checkpointed(memory="64 kB")],
    ids=tr.policy_text,
)
def test_the_gradient_is_that_of_full_for_every_cell(name, policy):
    cell, xs, es, state = noisy(name, 0)

    def step(inputs, state):
        xs, es = inputs
        outputs, state = tr.unroll(cell, xs, state)
        return np.sum(outputs * es[..., : outputs.shape[-1]]), state  # the outputs of an LRU are as wide as its inputs

    found = tr.bptt(step, cell.parameters(), (xs, es), state, policy)
    full = tr.bptt(step, cell.parameters(), (xs, es), state, tr.Full(every=policy.every))
    for key, expected in full.gradients.items():
        assert relative_error(found.gradients[key], expected) < 1e-12, key
    unlimited = tr.bptt(step, cell.parameters(), (xs, es), state, tr.Checkpointed(policy.segment, policy.every))
    assert found.losses == unlimited.losses
    for key, expected in unlimited.gradients.items():
        np.testing.assert_array_equal(found.gradients[key], expected)  # to the last bit
    for ours, theirs in zip(flatten(found.state_gradient), flatten(full.state_gradient), strict=True):
        assert relative_error(ours, theirs) < 1e-12
    for ours, theirs in zip(flatten(found.state), flatten(full.state), strict=True):
        assert relative_error(ours, theirs) < 1e-12


@given(states=limits, seed=seeds, N=st.integers(1, 4))
def test_sequences_of_different_lengths(states, seed, N):
    """A step past the end of a sequence leaves its state as it is."""
    cell, xs, es, state = noisy("lstm", seed, N, 9)
    lengths = np.random.default_rng(seed).integers(1, 10, N)
    inside = np.arange(9) < lengths[:, None]

    def step(inputs, before):
        xs, es, inside = inputs
        output, after = cell(xs[:, 0], before)
        keep = inside.astype(float)
        after = map_leaves(lambda new, old: new * keep + old * (1 - keep), after, before)
        return np.sum(output * es[:, 0] * keep), after

    found = tr.bptt(step, cell.parameters(), (xs, es, inside), state, tr.Checkpointed(states=states))
    outputs, last = tr.unroll(cell, xs, state, lengths=lengths)
    expected = tr.grad(np.sum(outputs * es), cell.parameters())
    for key in expected:
        assert relative_error(found.gradients[key], expected[key]) < 1e-12, key
    for ours, theirs in zip(flatten(found.state), flatten(last), strict=True):
        assert relative_error(ours, theirs.data) < 1e-12


def test_later_passes_may_find_other_parameters():
    """Passes that overlap go over the same segments again, after an update."""

    class Overlapping(tr.Policy):
        every, reach, grain, recompute = 2, 6, 1, True

        def scale(self, edge, end):
            return 1.0

    parameters, step, _ = scalar()
    updates = []
    for update in tr.stream(step, parameters, [np.ones((1, 12))], np.ones(1), Overlapping()):
        parameters["w"].data = parameters["w"].data * 0.5
        updates.append(update)
    assert len(updates) == 6


def test_a_state_may_be_empty():
    w = tr.tensor(2.0, requires_grad=True)
    for policy in (tr.Checkpointed(states=2), tr.Checkpointed(memory=5000)):
        found = tr.bptt(lambda xs, _: ((xs * w).sum(), None), {"w": w}, np.ones((1, 5)), None, policy)
        assert found.gradients["w"] == 5


def test_the_states_given_are_not_changed_by_their_owner():
    w, start = tr.tensor(2.0, requires_grad=True), np.ones(1)

    def step(xs, h):
        start[:] = 7
        return (h * w).sum(), h * w

    assert tr.bptt(step, {"w": w}, np.ones((1, 3)), start, tr.Checkpointed(states=1)).gradients["w"] == 1 + 4 + 12


@pytest.mark.parametrize("policy", ["checkpointed:states=2", "checkpointed:2,states=2"])
def test_compiled_it_is_the_same(policy):
    cell, xs, es, state = noisy("lstm", 0)

    def step(inputs, state):
        xs, es = inputs
        outputs, state = tr.unroll(cell, xs, state)
        return np.sum(outputs * es), state

    def gradients(xs):
        return tr.bptt(step, cell.parameters(), (xs, es), state, policy).gradients

    compiled = tr.compile(gradients)
    for moved in (xs, xs + 1):
        for key, expected in gradients(moved).items():
            assert relative_error(compiled(moved)[key], expected) < 1e-12, key


def test_compiled_functions_measure_no_bytes():
    w = tr.tensor(2.0, requires_grad=True)

    @tr.compile
    def gradient(xs):
        return tr.bptt(lambda xs, h: ((h * w).sum(), h * w), {"w": w}, xs, np.ones(1), tr.Checkpointed(memory="1 MB"))

    with pytest.raises(tr.TraceError, match="give the number of states instead"):
        gradient(np.ones((1, 4)))


class TestMemory:
    """The number of states follows from the bytes of one, and of the graph of a segment."""

    @staticmethod
    def kept(memory, segment=1, T=200, N=4, H=64):
        cell = tr.LSTMCell(3, H, np.random.default_rng(0))

        def step(xs, state):
            outputs, state = tr.unroll(cell, xs, state)
            return np.sum(outputs * outputs), state

        run = tr.Recurrence(step, cell.parameters(), tr.Checkpointed(segment, memory=memory), cell.initial_state(N))
        assert not list(run.feed(np.ones((N, T, 3), np.float32)))
        return run.alive_steps // segment

    def test_a_state_more_for_its_bytes(self):
        one = 2 * 4 * 64 * 4  # bytes of h and c, float32
        base = self.kept(60_000)
        assert 10 < base < 60_000 // one
        assert self.kept(60_000 + 5 * one) == base + 5
        assert self.kept("60 kB") == base
        assert self.kept(60_000, segment=2) < base

    def test_the_graph_is_counted_without_the_parameters(self):
        """They take 70 kB here, and are there anyway."""
        assert self.kept("30 kB") >= 3

    def test_too_little_is_refused_with_the_bytes(self):
        with pytest.raises(
            tr.ConfigError,
            match=r"Checkpointed: memory is 9,000 bytes, but one state takes 2,048 and the graph of a segment, 1 step, "
            r"about (\d\d,\d\d\d); allow at least",
        ):
            self.kept(9000)


class Own(tr.Policy):
    """A policy of the user's own that recomputes under a limit."""

    grain, recompute, states = 1, True, 2

    def __init__(self, reach=None, every=None):
        self.reach, self.every = reach, every

    def scale(self, edge, end):
        return 0.5


def test_a_policy_of_the_users_may_have_a_limit():
    parameters, step, calls = scalar()
    xs = np.random.default_rng(0).standard_normal((1, 30))
    found = tr.bptt(step, parameters, xs, np.ones(1), Own())
    expected = tr.bptt(step, parameters, xs, np.ones(1), tr.Decay(0.5))
    assert relative_error(found.gradients["w"], expected.gradients["w"]) < 1e-12
    assert len(calls) == 30 + advances(30, 2) + 30


def test_passes_that_go_back_over_one_another_without_end():
    """Nothing is cut, so that each pass goes back to the first step: from the states that are left."""
    parameters, step, _ = scalar()
    xs = np.random.default_rng(0).standard_normal((1, 24))

    class Plain(Own):
        recompute, states = False, None

    found = tr.bptt(step, parameters, xs, np.ones(1), Own(every=4))
    expected = tr.bptt(step, parameters, xs, np.ones(1), Plain(every=4))
    assert relative_error(found.gradients["w"], expected.gradients["w"]) < 1e-12


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: tr.Checkpointed(), "give the steps of a segment, the number of states, or memory"),
        (lambda: tr.Checkpointed(states=2, memory=100), "either states or memory"),
        (lambda: tr.Checkpointed(states=0), "states must be an integer of 1 or more, got 0"),
        (lambda: tr.Checkpointed(memory="64"), "a number of bytes or a text such as .64 MB., got '64'"),
        (lambda: tr.Checkpointed(memory="many GB"), "got 'many GB'"),
        (lambda: tr.Checkpointed(memory=1.5), "memory, if it is no text .* must be an integer of 1 or more, got 1.5"),
        (lambda: tr.Checkpointed(memory="0.1 B"), "memory must be an integer of 1 or more, got 0"),
        (lambda: run_own(reach=3), "passes must not overlap: reach must be None"),
    ],
)
def test_errors(call, words):
    with pytest.raises(tr.ConfigError, match=words):
        call()


def run_own(**settings):
    parameters, step, _ = scalar()
    return tr.bptt(step, parameters, np.ones((1, 3)), np.ones(1), Own(**settings))
