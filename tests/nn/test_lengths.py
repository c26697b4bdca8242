"""Lengths as an argument: one plan is right for all of them, and each replay checks them."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from replay import executors

import tinygrad_rnn as tr
from tinygrad_rnn.engine.tree import flatten

T = 4


def make(kind, seed=0):
    cell = {"rnn": tr.RNNCell, "lstm": tr.LSTMCell, "gru": tr.GRUCell}[kind]
    return cell(3, 2, np.random.default_rng(seed), np.float64)


def loss_of(run):
    """Return a function of lengths that gives everything that comes of them: values, states, gradients."""

    def step(xs, parameters, lengths):
        outputs, states = run(xs, lengths)
        total = np.sum(outputs * outputs) + sum(np.sum(part * part) for part in flatten(states))
        return outputs, states, tr.grad(total, {**parameters, "xs": xs})

    return step


def one_way(cell, cut_every=None):
    return loss_of(lambda xs, lengths: tr.unroll(cell, xs, None, cut_every, lengths)), cell.parameters()


def both_ways(ahead, back, cut_every=None):
    parameters = {f"{way}.{name}": p for way, c in (("a", ahead), ("b", back)) for name, p in c.parameters().items()}
    return loss_of(lambda xs, n: tr.bidirectional(ahead, back, xs, cut_every=cut_every, lengths=n)), parameters


def padded(lengths, junk, seed=1):
    data = np.random.default_rng(seed).standard_normal((len(lengths), T, 3))
    data[np.arange(T) >= np.asarray(lengths)[:, None]] = junk
    return tr.tensor(data, requires_grad=True)


def compare(got, expected):
    for a, b in zip(flatten(got), flatten(expected), strict=True):
        a, b = (part.data if isinstance(part, tr.Tensor) else part for part in (a, b))
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("setting", executors(), ids=str)
@pytest.mark.parametrize(
    "program",
    [
        lambda: one_way(make("rnn")),
        lambda: one_way(make("gru"), 2),
        lambda: both_ways(make("lstm"), make("rnn", 1)),
        lambda: both_ways(make("gru"), make("lstm", 1), 3),
    ],
)
def test_one_plan_serves_all_lengths(program, setting):
    step, parameters = program()
    compiled = tr.compile(step, **setting)
    xs = padded([T, T], 0.0)
    for lengths in itertools.product(range(1, T + 1), repeat=2):
        xs.data = padded(lengths, np.nan).data
        compare(compiled(xs, parameters, np.array(lengths)), step(xs, parameters, np.array(lengths)))
    assert len(compiled.plans) == 1


@given(
    seed=st.integers(0, 2**32 - 1),
    cut_every=st.sampled_from([None, 1, 2, 3]),
    kind=st.sampled_from(["rnn", "lstm", "gru"]),
)
def test_a_sequence_in_a_batch_is_what_it_is_alone(seed, cut_every, kind):
    """Cuts included: where a sequence has ended, its last state is not cut any more."""
    lengths = np.random.default_rng(seed).integers(1, T + 1, 3)
    step, parameters = one_way(make(kind), cut_every)
    xs = padded(lengths, np.nan, seed)
    outputs, state, gradients = step(xs, parameters, lengths)
    summed = {name: np.zeros(p.shape) for name, p in parameters.items()}
    for n, length in enumerate(lengths):
        outputs_n, state_n, gradients_n = step(
            tr.tensor(xs.data[n : n + 1, :length], requires_grad=True), parameters, None
        )
        compare(outputs.data[n : n + 1, :length], outputs_n)
        compare([part.data[n : n + 1] for part in flatten(state)], flatten(state_n))
        compare(gradients["xs"][n : n + 1, :length], gradients_n["xs"])
        assert not gradients["xs"][n, length:].any()
        for name in parameters:
            summed[name] += gradients_n[name]
    compare({name: gradients[name] for name in parameters}, summed)


@pytest.mark.parametrize("setting", executors(), ids=str)
@pytest.mark.parametrize("name", ["unroll", "bidirectional"])
@pytest.mark.parametrize("wrong", [[0, 2], [1, 5], [-1, 1]])
def test_each_replay_checks_the_lengths(name, wrong, setting):
    step, parameters = one_way(make("rnn")) if name == "unroll" else both_ways(make("rnn"), make("gru"))
    compiled = tr.compile(step, **setting)
    xs, good, words = padded([2, 3], 0.0), np.array([2, 3]), rf"{name}: lengths must lie in \[1, T\] = \[1, 4\], got"
    expected = step(xs, parameters, good)
    compare(compiled(xs, parameters, good), expected)
    with pytest.raises(tr.ShapeError, match=words):
        compiled(xs, parameters, np.array(wrong))
    compare(compiled(xs, parameters, good), expected)
    with pytest.raises(tr.ShapeError, match=words):
        tr.compile(step, **setting)(xs, parameters, np.array(wrong))
    with pytest.raises(tr.DTypeError, match=f"{name}: expected integer lengths, got dtype float64"):
        compiled(xs, parameters, good * 1.0)


@pytest.mark.parametrize("setting", executors(), ids=str)
@pytest.mark.parametrize("kind", [np.int64, np.uint8, np.int32, tr.tensor, np.ndarray.tolist])
def test_lengths_of_every_integer_type(kind, setting):
    step, parameters = both_ways(make("rnn"), make("gru"))
    xs, lengths = padded([2, 3], np.nan), np.array([2, 3])
    compare(step(xs, parameters, kind(lengths)), step(xs, parameters, lengths))
    compare(tr.compile(step, **setting)(xs, parameters, kind(lengths)), step(xs, parameters, lengths))


@pytest.mark.parametrize("setting", executors(), ids=str)
def test_a_language_model_takes_lengths_too(setting):
    model = tr.RNNLM(5, 3, 4, np.random.default_rng(0), cell="lstm", layers=2, dtype=np.float64)

    def step(parameters, ids, lengths):
        loss, state = model.loss(ids, ids, lengths=lengths)
        return loss, state, tr.grad(loss, parameters)

    compiled, ids = tr.compile(step, **setting), np.random.default_rng(0).integers(0, 5, (3, T))
    for lengths in ([4, 4, 4], [1, 1, 1], [2, 4, 3]):
        arguments = (model.parameters(), ids, np.array(lengths))
        compare(compiled(*arguments), step(*arguments))
    assert len(compiled.plans) == 1
