"""RTRL is full BPTT: for every cell, every nesting of the state, every batch, however many updates there are."""

import itertools

import numpy as np
import pytest
from credit.steps import STEPS, Weights, assert_same_gradients, of_cell, recurrence, score
from hypothesis import given, settings
from hypothesis import strategies as hst

import tinygrad_rnn as tr
import tinygrad_rnn.testing.strategies as st
from tinygrad_rnn.credit import entries as credit_entries

SIZES = {"N": hst.integers(1, 3), "T": hst.integers(1, 6), "seed": st.SEEDS}
EVERY = hst.sampled_from([1, 2, 3, None])
OTHERS = (
    tr.PeepholeLSTMCell,
    tr.CoupledLSTMCell,
    tr.LayerNormLSTMCell,
    tr.IndRNNCell,
    tr.MinGRUCell,
    tr.MinLSTMCell,
    tr.LRUCell,
)


def assert_exact(step, parameters, inputs, state, policy, full=None):
    expected = tr.bptt(step, parameters, inputs, state, full or tr.Full())
    found = tr.bptt(step, parameters, inputs, state, policy)
    assert_same_gradients(found.gradients, expected.gradients)
    assert sum(found.losses) == pytest.approx(sum(expected.losses), rel=1e-12)


@given(cell=st.cells() | st.cells("stacked"), every=EVERY, **SIZES)
def test_every_cell_and_stack(cell, every, N, T, seed):
    assert_exact(*of_cell(cell, N, T, seed), tr.RTRL(every))


@given(cell=st.cells(*OTHERS), every=EVERY, **SIZES)
def test_every_variant(cell, every, N, T, seed):
    assert_exact(*of_cell(cell, N, T, seed), tr.RTRL(every))


@pytest.mark.sample(10)
@pytest.mark.parametrize("name", STEPS)
@settings(max_examples=6)
@given(every=EVERY, **SIZES)
def test_steps_of_a_user(name, every, N, T, seed):
    assert_exact(*recurrence(name, N, T, seed), tr.RTRL(every))


@pytest.mark.parametrize(
    "mixed",
    [
        lambda w, h: h @ h,
        lambda w, h: w.V @ h,
        lambda w, h: h[np.array([1, 2, 0])],
        lambda w, h: h * w.b[:, None],
        lambda w, h: h * w.V,
    ],
    ids=["h @ h", "V @ h", "h[order]", "h * b[:, None]", "h * V"],
)
def test_as_many_streams_as_units(mixed):
    """Rows of a parameter or of the state that are no streams, although there are as many."""
    w = Weights(3, 0)

    def step(xs, h):
        h = tr.tanh(xs[:, 0] @ w.W + mixed(w, h) / 2)
        return score(h), h

    rng = np.random.default_rng(1)
    inputs, state = rng.standard_normal((3, 4, 3)), rng.standard_normal((3, 3))
    assert_exact(step, w.all, inputs, state, tr.RTRL(), tr.Decay(1.0))


@pytest.mark.sample(8)
@pytest.mark.parametrize("make", [tr.RNNCell, tr.LSTMCell, tr.GRUCell, tr.LayerNormLSTMCell])
@pytest.mark.parametrize("N", [1, 3])
@pytest.mark.parametrize("large", [1, 40, 200])
def test_blocks_that_are_taken_in_parts(make, N, large, monkeypatch):
    """A row of a matrix at a time, some rows, and all of the small ones: the numbers are the same."""
    monkeypatch.setattr(credit_entries, "LARGE", large)
    step, parameters, inputs, state = of_cell(make(4, 5, np.random.default_rng(0), dtype=np.float64), N, 4, 0)
    assert_exact(step, parameters, inputs, state, tr.RTRL())
    assert_exact(step, parameters, inputs, state, tr.RTRL(2))


@given(model=st.models(), batch=st.sequences(), every=EVERY)
def test_language_models_with_lookups_and_a_head(model, batch, every):
    def step(inputs, state):
        return model.loss(*inputs, state)

    state = model.initial_state(batch.inputs.shape[0])
    assert_exact(step, model.parameters(), tuple(batch), state, tr.RTRL(every), tr.Checkpointed(1))


@pytest.mark.parametrize(
    "policy", [tr.RTRL(), tr.SnAp(1), tr.UORO(), tr.EProp(), tr.EProp("random"), tr.RFLO()], ids=repr
)
def test_the_gradient_of_the_head_is_exact_under_all(policy):
    model = tr.RNNLM(5, 3, 4, np.random.default_rng(0), dtype=np.float64, cell="lstm")
    inputs = tuple(np.random.default_rng(1).integers(0, 5, (2, 2, 6)))
    run = [
        tr.bptt(lambda inputs, state: model.loss(*inputs, state), model.parameters(), inputs, model.initial_state(2), p)
        for p in (policy, tr.Checkpointed(1))
    ]
    head = [name for name in model.parameters() if name.startswith("output")]
    assert head
    assert_same_gradients(*({name: update.gradients[name] for name in head} for update in run))


def test_the_updates_of_a_stream_add_up_to_the_gradient_of_the_whole():
    step, parameters, inputs, state = recurrence("plain", 2, 12, 0)
    whole = tr.bptt(step, parameters, inputs, state, tr.Full())
    for sizes in ([12], [5, 7], [1] * 12):
        windows = [inputs[:, a:b] for a, b in itertools.pairwise(np.cumsum([0, *sizes]))]
        updates = list(tr.stream(step, parameters, windows, state, tr.RTRL(every=4)))
        assert [update.end for update in updates] == [4, 8, 12]
        total = {name: sum(update.gradients[name] for update in updates) for name in parameters}
        assert_same_gradients(total, whole.gradients)


def test_a_state_without_the_axis_of_streams():
    w = tr.tensor(np.array([[0.3, -0.7], [0.5, 0.2]]), requires_grad=True)

    def step(xs, state):
        total = 0.0
        h, s = state
        for t in range(xs.shape[1]):
            h, s = tr.tanh(h @ w + xs[0, t]), s * w[0, 0] + h.sum()
            total = total + (h * h).sum() + s * s
        return total, (h, s)

    xs, state = np.random.default_rng(0).standard_normal((1, 6, 2)), (np.ones(2), np.array(1.0))
    assert_exact(step, {"w": w}, xs, state, tr.RTRL())


def test_streams_do_not_share_their_influence():
    """Two streams in one batch have the sum of the gradients that each has alone."""
    step, parameters, inputs, state = recurrence("plain", 2, 5, 3)
    both = tr.bptt(step, parameters, inputs, state, tr.RTRL())
    alone = [tr.bptt(step, parameters, inputs[n : n + 1], state[n : n + 1], tr.RTRL()) for n in range(2)]
    total = {name: alone[0].gradients[name] + alone[1].gradients[name] for name in parameters}
    assert_same_gradients(both.gradients, total)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gradients_have_the_dtype_of_their_parameter(dtype):
    cell = tr.LSTMCell(2, 3, np.random.default_rng(0), dtype=dtype)
    step, parameters, inputs, _ = of_cell(cell, 2, 3, 0)
    for policy in (
        tr.RTRL(),
        tr.SnAp(1),
        tr.UORO(),
        tr.KroneckerFactored(),
        tr.EProp(),
        tr.RFLO(),
        tr.ForwardGradient(),
    ):
        found = tr.bptt(step, parameters, inputs.astype(dtype), cell.initial_state(2), policy)
        assert {name: g.dtype for name, g in found.gradients.items()} == dict.fromkeys(parameters, np.dtype(dtype))


@pytest.mark.parametrize("every", [1, 2, None])
def test_parameters_that_get_one_and_the_same_array_keep_apart(every):
    """A rule may hand one array to two parameters, or one that cannot be written to: sums over steps are their own."""
    b, c, d = (tr.tensor(np.zeros(3), requires_grad=True) for _ in range(3))

    def step(xs, h):
        h = h * 0.5 + xs.sum(axis=1)
        return ((b + c) * np.arange(3.0)).sum() * xs.shape[1] + xs.shape[1] * d.sum(), h

    found = tr.bptt(step, {"b": b, "c": c, "d": d}, np.ones((1, 4, 3)), np.zeros((1, 3)), tr.RTRL(every))
    assert {name: g.tolist() for name, g in found.gradients.items()} == {
        "b": [0, 4, 8],
        "c": [0, 4, 8],
        "d": [4, 4, 4],
    }
