"""The automatic graph against the backward that was written by hand: outputs, dxs, dh, every parameter.

float64, relative 1e-12; drawn shapes; single step, whole sequence, stateful across windows, with cuts. Weights are
scaled by 0.3: near saturation the hand-written 1 - h*h itself loses digits to cancellation.
"""

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import relative_error

import tinygrad_rnn as tr
from tinygrad_rnn import handwritten as hw
from tinygrad_rnn.engine.tree import flatten
from tinygrad_rnn.testing import compare_handwritten

sizes = st.integers(1, 5)
seeds = st.integers(0, 2**32 - 1)
PAIRS = {
    "rnn": (tr.RNNCell, hw.RNN, hw.TimeRNN, {}),
    "lstm": (tr.LSTMCell, hw.LSTM, hw.TimeLSTM, {}),
    "lstm projected": (partial(tr.LSTMCell, proj_size=2), hw.LSTM, hw.TimeLSTM, {}),
    "gru after": (tr.GRUCell, hw.GRU, hw.TimeGRU, {"reset": "after"}),
    "gru before": (tr.GRUCell, hw.GRU, hw.TimeGRU, {"reset": "before"}),
}


def pair(name, layer, D, H, rng, **options):
    """Return a cell of the graph and a hand-written layer with the same weights."""
    make, step, time, extra = PAIRS[name]
    cell = make(D, H, rng, np.float64, **extra)
    cell.load({key: 0.3 * rng.standard_normal(p.shape) for key, p in cell.parameters().items()})
    arrays = [p.data.copy() for p in cell.parameters().values()]
    return cell, (step if layer == "step" else time)(*arrays, **extra, **options)


def states(cell, rng, N):
    return [tr.tensor(rng.standard_normal(h.shape), requires_grad=True) for h in flatten(cell.initial_state(N))]


def as_state(parts):
    return parts[0] if len(parts) == 1 else tuple(parts)


@pytest.mark.parametrize("name", PAIRS)
@given(N=sizes, D=sizes, H=sizes, seed=seeds)
def test_single_step(name, N, D, H, seed):
    rng = np.random.default_rng(seed)
    cell, by_hand = pair(name, "step", D, H, rng)
    x, parts = tr.tensor(rng.standard_normal((N, D)), requires_grad=True), states(cell, rng, N)
    _, new = cell(x, as_state(parts))
    new_parts = list(new) if isinstance(new, tuple) else [new]
    expected = by_hand.forward(x.data, *(h.data for h in parts))
    for ours, theirs in zip(new_parts, expected if isinstance(expected, tuple) else (expected,), strict=True):
        assert relative_error(ours.data, theirs) < 1e-12
    cotangents = [rng.standard_normal(part.shape) for part in parts]
    gradients = tr.grad(new_parts, [x, *parts, *cell.parameters().values()], cotangent=cotangents)
    for ours, theirs in zip(gradients, [*by_hand.backward(*cotangents), *by_hand.grads], strict=True):
        assert relative_error(ours, theirs) < 1e-12


@pytest.mark.parametrize("name", PAIRS)
@given(N=sizes, T=sizes, D=sizes, H=sizes, seed=seeds)
def test_whole_sequence_from_a_given_state(name, N, T, D, H, seed):
    rng = np.random.default_rng(seed)
    cell, by_hand = pair(name, "time", D, H, rng, stateful=True)
    xs, parts = tr.tensor(rng.standard_normal((N, T, D)), requires_grad=True), states(cell, rng, N)
    by_hand.set_state(*(h.data.copy() for h in parts))
    outputs, _ = tr.unroll(cell, xs, as_state(parts))
    assert relative_error(outputs.data, by_hand.forward(xs.data)) < 1e-12
    dhs = rng.standard_normal(outputs.shape)
    gradients = tr.grad(outputs, [xs, *parts, *cell.parameters().values()], cotangent=dhs)
    dxs = by_hand.backward(dhs)
    first = [by_hand.dh] if len(parts) == 1 else [by_hand.dh, by_hand.dc]
    for ours, theirs in zip(gradients, [dxs, *first, *by_hand.grads], strict=True):
        assert relative_error(ours, theirs) < 1e-12


@pytest.mark.sample(3)
@pytest.mark.parametrize("name", PAIRS)
@given(N=sizes, window=sizes, windows=st.integers(1, 4), D=sizes, H=sizes, seed=seeds)
def test_stateful_windows_equal_cuts_inside_one_sequence(name, N, window, windows, D, H, seed):
    """Three ways to truncate: the stateful layer, windows with cut between, one call with cut_every."""
    rng = np.random.default_rng(seed)
    cell, by_hand = pair(name, "time", D, H, rng, stateful=True)
    parameters = cell.parameters()
    data, dhs = (rng.standard_normal((N, window * windows, size)) for size in (D, cell.output_size))
    whole_xs = tr.tensor(data, requires_grad=True)
    whole, _ = tr.unroll(cell, whole_xs, cut_every=window)
    whole_gradients = tr.grad(whole, {**parameters, "xs": whole_xs}, cotangent=dhs)
    state, sums = cell.initial_state(N), {key: np.zeros(p.shape) for key, p in parameters.items()}
    for start in range(0, window * windows, window):
        part = slice(start, start + window)
        xs = tr.tensor(data[:, part], requires_grad=True)
        outputs, state = tr.unroll(cell, xs, tr.cut(state))
        assert relative_error(outputs.data, by_hand.forward(xs.data)) < 1e-12
        gradients = tr.grad(outputs, {**parameters, "xs": xs}, cotangent=dhs[:, part])
        assert relative_error(gradients["xs"], by_hand.backward(dhs[:, part])) < 1e-12
        assert relative_error(gradients["xs"], whole_gradients["xs"][:, part]) < 1e-12
        for key, theirs in zip(parameters, by_hand.grads, strict=True):
            assert relative_error(gradients[key], theirs) < 1e-12
            sums[key] += gradients[key]
    for key in parameters:
        assert relative_error(whole_gradients[key], sums[key]) < 1e-12


@given(seed=seeds, N=sizes, T=sizes, V=st.integers(2, 6), masked=st.booleans())
def test_embedding_affine_and_loss(seed, N, T, V, masked):
    rng = np.random.default_rng(seed)
    table, W, b = rng.standard_normal((V, 3)), rng.standard_normal((3, V)), rng.standard_normal(V)
    ids, targets = rng.integers(0, V, (N, T)), rng.integers(0, V, (N, T))
    targets[0, : T - 1] = -1 if masked else targets[0, : T - 1]
    leaves = [tr.tensor(array, requires_grad=True) for array in (table, W, b)]
    loss = tr.cross_entropy(tr.take(leaves[0], ids, axis=0) @ leaves[1] + leaves[2], targets)
    embed, affine, by_hand = hw.TimeEmbedding(table), hw.TimeAffine(W, b), hw.TimeSoftmaxWithLoss()
    assert relative_error(loss.item(), by_hand.forward(affine.forward(embed.forward(ids)), targets)) < 1e-12
    embed.backward(affine.backward(by_hand.backward()))
    for ours, theirs in zip(tr.grad(loss, leaves), [*embed.grads, *affine.grads], strict=True):
        assert relative_error(ours, theirs) < 1e-12


@given(seed=seeds, N=sizes, T=sizes, ignore_label=st.sampled_from([-1, 0, 9]), soft=st.booleans())
def test_binary_cross_entropy(seed, N, T, ignore_label, soft):
    rng = np.random.default_rng(seed)
    logits = tr.tensor(rng.standard_normal((N, T)), requires_grad=True)
    targets = rng.random((N, T)) if soft else rng.integers(0, 2, (N, T))
    targets[rng.random((N, T)) < 0.3] = ignore_label
    targets[0, 0] = 1  # at least one counts
    loss, by_hand = tr.binary_cross_entropy(logits, targets, ignore_label), hw.TimeSigmoidWithLoss(ignore_label)
    assert relative_error(loss.item(), by_hand.forward(logits.data, targets)) < 1e-12
    assert relative_error(tr.grad(2.5 * loss, [logits])[0], by_hand.backward(2.5)) < 1e-12


@given(seed=seeds, N=sizes, S=sizes, T=sizes, H=sizes)
def test_dot_attention(seed, N, S, T, H):
    rng = np.random.default_rng(seed)
    queries, keys = (tr.tensor(rng.standard_normal(shape), requires_grad=True) for shape in ((N, T, H), (N, S, H)))
    dcontexts, dweights = rng.standard_normal((N, T, H)), rng.standard_normal((N, S))
    contexts, weights = tr.DotAttention()(queries, keys)
    by_hand = hw.TimeAttention()
    assert relative_error(contexts.data, by_hand.forward(queries.data, keys.data)) < 1e-12
    assert relative_error(weights.data, by_hand.weights) < 1e-12
    gradients = tr.grad(contexts, [queries, keys], cotangent=dcontexts)
    for ours, theirs in zip(gradients, by_hand.backward(dcontexts), strict=True):
        assert relative_error(ours, theirs) < 1e-12
    _, weights = tr.DotAttention()(queries[:, 0], keys)  # one query; a loss of the weights themselves
    step = hw.AttentionWeight()
    assert relative_error(weights.data, step.forward(queries.data[:, 0], keys.data)) < 1e-12
    dquery, dkeys = step.backward(dweights)
    ours = tr.grad(weights, [queries, keys], cotangent=dweights)
    assert relative_error(ours[0][:, 0], dquery) < 1e-12
    assert relative_error(ours[1], dkeys) < 1e-12


class Attending(tr.Module):
    """An LSTM that reads, beside x, what h attends to; the keys are the further parts of its state."""

    def __init__(self, D, H, S, rng):
        self.lstm, self.attend, self.input_size, self._S = (
            tr.LSTMCell(D + H, H, rng, np.float64),
            tr.DotAttention(),
            D,
            S,
        )

    def initial_state(self, batch_size):
        h, c = self.lstm.initial_state(batch_size)
        return h, c, *[h] * self._S

    def __call__(self, x, state):
        h, c, *keys = state
        context, _ = self.attend(h, tr.stack(keys, axis=1))
        h, (h, c) = self.lstm(tr.concatenate([x, context], axis=1), (h, c))
        return h, (h, c, *keys)


def attend_by_hand(x, state, parameters):
    (h, c, *keys), attention, lstm = state, hw.Attention(), hw.LSTM(*parameters.values())
    context = attention.forward(h, np.stack(keys, axis=1))
    h, c = lstm.forward(np.concatenate([x, context], axis=1), h, c)
    return (h, c, *keys), (attention, lstm, x.shape[1], parameters)


def attend_by_hand_backward(dstate, cache):
    (dh, dc, *dkeys), (attention, lstm, D, parameters) = dstate, cache
    dx, dh, dc = lstm.backward(dh, dc)
    dquery, by_attention = attention.backward(dx[:, D:])
    dkeys = [dkey + by_attention[:, s] for s, dkey in enumerate(dkeys)]
    return dx[:, :D], (dh + dquery, dc, *dkeys), dict(zip(parameters, lstm.grads, strict=True))


@given(seed=seeds, N=sizes, S=sizes, D=sizes, H=sizes)
def test_attention_inside_a_step(seed, N, S, D, H):
    cell = Attending(D, H, S, np.random.default_rng(seed))
    assert compare_handwritten(cell, (attend_by_hand, attend_by_hand_backward), N=N, seed=seed).ok


@pytest.mark.parametrize("attention", [None, "dot"])
@pytest.mark.parametrize("peek", [False, True])
@given(seed=seeds, N=sizes, S=sizes, T=sizes, D=sizes, H=sizes, reverse=st.booleans())
def test_from_one_sequence_to_another(attention, peek, seed, N, S, T, D, H, reverse):
    rng = np.random.default_rng(seed)
    options = {"attention": attention, "peek": peek, "reverse": reverse, "dtype": np.float64}
    model = tr.Seq2Seq(6, 7, D, H, rng, cell="lstm", **options)
    p = model.parameters()
    model.load({name: 0.3 * rng.standard_normal(parameter.shape) for name, parameter in p.items()})
    arrays = [parameter.data.copy() for parameter in p.values()]
    encoder, decoder = hw.Encoder(*arrays[:4]), hw.Decoder(*arrays[4:], attention=attention == "dot", peek=peek)
    by_hand = hw.Seq2Seq(encoder, decoder)
    sources, targets = rng.integers(0, 6, (N, S)), rng.integers(0, 7, (N, T + 1))
    read = sources[:, ::-1] if reverse else sources
    assert relative_error(model(sources, targets[:, :T]).data, by_hand.predict(read, targets[:, :T])) < 1e-12
    targets[1:, 1 + T // 2 :] = -1  # ends in the middle, so that what is ignored is also read
    loss = model.loss(sources, targets)
    assert relative_error(loss.item(), by_hand.forward(read, targets)) < 1e-12
    by_hand.backward()
    for ours, theirs in zip(tr.grad(loss, p).values(), by_hand.grads, strict=True):
        assert relative_error(ours, theirs) < 1e-12


def test_the_chapters_model_trains_alike_for_twenty_windows():
    model = tr.RNNLM(7, 5, 6, np.random.default_rng(0), dtype=np.float64)
    p = model.parameters()
    by_hand = hw.SimpleRnnlm.from_arrays(
        embedding=p["embedding.W"].data,
        Wx=p["layers.0.Wx"].data,
        Wh=p["layers.0.Wh"].data,
        b=p["layers.0.b"].data,
        W_out=p["output.W"].data,
        b_out=p["output.b"].data,
    )
    rng, state = np.random.default_rng(1), model.initial_state(3)
    for _ in range(20):
        ids, targets = rng.integers(0, 7, (3, 4)), rng.integers(0, 7, (3, 4))
        loss, state = model.loss(ids, targets, tr.cut(state))
        assert loss.item() == pytest.approx(float(by_hand.forward(ids, targets)), rel=1e-12)
        by_hand.backward()
        for name, gradient in tr.grad(loss, p).items():
            p[name].data = p[name].data - 0.5 * gradient
        for array, gradient in zip(by_hand.params, by_hand.grads, strict=True):
            array -= 0.5 * gradient
